"""Online training through time: the gradient of a feed-forward network step by step, at memory constant in T."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError
from spikenet.neurons import Neuron
from spikenet.neurons.lif import IF, LIF

__all__ = ["OTTT", "OTTTState"]


class OTTTState(NamedTuple):
    """What goes from step to step: of each block the trace of its input and its neuron's state, if it has one."""

    traces: tuple[Tensor, ...]
    neurons: tuple[Any, ...]


class OTTT(nn.Sequential):
    """A feed-forward network of connections and IF or LIF neurons that learns online.

    The layers up to a neuron are its connection, linear in what they receive, or affine. With z the spikes that come
    in, u a neuron's potential and keep the share of it that a step leaves (1 - dt / tau), the gradient of
    L = sum_t L[t] is taken as

        trace[t] = keep trace[t-1] + z[t]
        g[t] = dL[t]/du[t], through the layers of step t alone, by the surrogates
        dL/dW = sum_t g[t] trace[t]^T

    so that nothing of the past is kept but traces and states. For one layer of neurons this is backpropagation through
    time with no gradient through the reset by subtraction; for several it leaves out how earlier spikes of lower layers
    act on later potentials of upper ones. A bias gets the sum of g[t]. Layers after the last neuron are a readout in
    each step, whose gradient is exact.

    Called, it is the network, with plain backpropagation through time.

    Args:
        *layers: torch layers without memory and neurons, as of `nn.Sequential`; learned potentials of neurons get the
            gradient of their step alone.

    Shape:
        `[T, B, ...]` -> `[T, B, ...]`.

    Raises:
        ArgumentError: for a neuron that is not IF or LIF, with a learned time constant, or for layers that mix time
            steps or take statistics.

    Source: Xiao et al., "Online training through time for spiking neural networks", NeurIPS 2022, section 4; the bias
    as in its code.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        for name, layer in self.named_modules():
            if _unfit(layer):
                raise ArgumentError(
                    "OTTT takes IF and LIF with fixed time constants, and layers without memory or statistics; "
                    f"{name} is {type(layer).__name__}."
                )

    def learn(
        self, x: Tensor, loss: Callable[[Tensor, int], Tensor], state: OTTTState | None = None
    ) -> tuple[Tensor, OTTTState]:
        """A chunk `[T, B, ...]` from `state`, adding to the weights' `.grad`.

        Args:
            x: the input; it gets no gradient.
            loss: from the output of a step `[B, ...]` and its number in the chunk to L[t], a number.
            state: where the sequence goes on; none begins anew.

        Returns:
            The output of all steps, without gradient, and the state.

        Raises:
            ShapeError: if L[t] is no single number.
        """
        blocks, outputs = list(self._blocks()), []
        for t, now in enumerate(x.detach()):
            output, state = self._step(blocks, now, state)
            share = loss(output, t)
            if share.numel() != 1:
                raise ShapeError(f"OTTT: the loss of a step is one number, got {tuple(share.shape)}.")
            share.backward()
            outputs.append(output.detach())
        return torch.stack(outputs), state  # type: ignore[return-value]

    def _blocks(self) -> Iterator[tuple[nn.Sequential, Neuron | None]]:
        """Connections with the neuron that follows; the last has none if layers come after the last neuron."""
        connection: list[nn.Module] = []
        for layer in self:
            if isinstance(layer, Neuron):
                yield nn.Sequential(*connection), layer
                connection = []
            else:
                connection.append(layer)
        if connection:
            yield nn.Sequential(*connection), None

    @torch.enable_grad()
    def _step(self, blocks: list[Any], z: Tensor, state: OTTTState | None) -> tuple[Tensor, OTTTState]:
        traces: list[Tensor] = []
        neurons: list[Any] = []
        for i, (connection, neuron) in enumerate(blocks):
            if neuron is None:
                traces.append(z.detach())
                neurons.append(None)
                z = connection(z)
                continue
            before = z.detach() if state is None else _keep(neuron, z) * state.traces[i] + z.detach()
            current = _through(connection, z, before)
            z, after = neuron.step(current, state=None if state is None else state.neurons[i])
            traces.append(before)
            neurons.append(type(after)(*(v.detach() for v in after)))
        return z, OTTTState(tuple(traces), tuple(neurons))


def _through(connection: nn.Sequential, z: Tensor, trace: Tensor) -> Tensor:
    """The value of `connection(z)`, and its gradient for z; the weights' gradient is that of `connection(trace)`."""
    with torch.no_grad():
        value = connection(z)
    shown = connection(trace + (z - z.detach()))
    return value + (shown - shown.detach())


def _keep(neuron: Neuron, like: Tensor) -> Tensor | float:
    """The share of a potential that one step leaves."""
    if isinstance(neuron, IF):
        return 1.0
    known = {name: value.to(like.dtype) for name, value in neuron._declared().items()}
    return 1.0 - neuron.derive(known)["rate"]


def _unfit(layer: nn.Module) -> bool:
    if type(layer) is LIF:
        return layer.tau.numel() > 1 or layer.tau.requires_grad  # type: ignore[operator, return-value]
    memory = isinstance(layer, Neuron) or hasattr(layer, "run")
    norms = nn.modules.batchnorm._BatchNorm, nn.RNNBase, nn.LayerNorm, nn.GroupNorm
    return type(layer) is not IF and (memory or isinstance(layer, norms))
