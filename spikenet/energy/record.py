"""The spikes that each neuron layer of a network sent, kept for pictures and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from spikenet.layers import Recurrent
from spikenet.neurons import Neuron


@contextmanager
def record(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep what every neuron and recurrent layer of `network` returns inside the ``with`` block.

    Yields:
        name of the layer -> its output ``[T, B, *features]`` in the last call, on its device and detached.
    """
    kept: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, args, output, name=name: kept.update({name: output.detach()}))
        for name, module in network.named_modules()
        if isinstance(module, Neuron | Recurrent)
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
