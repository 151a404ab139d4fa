"""Operation counts of a network on real spikes.

A layer with weights is charged by what its input holds, decided per call:

- spikes (every value 0 or 1): one accumulate (AC) per spike and synapse that the spike reaches;
- event counts (integers): one AC per event and synapse, so a value of 3 is charged three times;
- anything else (graded input, the average of spikes): all multiply-accumulates (MAC) of the layer, at every step.

"Synapses reached" is exact: a spike at a border reaches fewer outputs of a convolution than one in the middle, and
stride, dilation and groups count. A synapse with a delay is charged as at inference, where it has one tap, when the
spike is sent: one AC, also for a spike so late that the sequence ends before it arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, nn

from spikenet.energy.reach import Connection, dense_macs, entries, synapses_reached
from spikenet.errors import ShapeError
from spikenet.events import EventTensor
from spikenet.layers import DelayRecurrent, Recurrent
from spikenet.neurons import Neuron

_KINDS = ("spikes", "counts", "graded")


@dataclass
class LayerWork:
    """What one layer did, summed over the calls seen.

    Attributes:
        name: its name in the network.
        kind: its class.
        input: ``spikes``, ``counts`` or ``graded``; the least spiking kind seen.
        events: sum of the absolute input values (the number of spikes for binary input).
        inputs: input elements seen, zeros included.
        acs, macs: operations caused by the input.
        dense_macs: multiply-accumulates of the dense twin on one frame per sample.
        dense_macs_steps: multiply-accumulates of the dense twin at every time step.
        updates: neuron updates (elements times steps); neurons only.
        spikes: spikes sent; neurons only.
    """

    name: str
    kind: str
    input: str = "spikes"
    events: float = 0.0
    inputs: int = 0
    acs: int = 0
    macs: int = 0
    dense_macs: int = 0
    dense_macs_steps: int = 0
    updates: int = 0
    spikes: float = 0.0

    @property
    def rate(self) -> float:
        """Spikes sent per neuron and step."""
        return self.spikes / self.updates if self.updates else 0.0


@dataclass
class Work:
    """Operation counts of a network, layer by layer; sums over all samples seen.

    Attributes:
        layers: one record per counted layer that was called, in the network's order.
        uncounted: layers with weights that are not counted, by name.
        samples: samples seen.
        call: time steps and batch size of the call under way.
    """

    layers: list[LayerWork] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    samples: int = 0
    call: tuple[int, int] = (0, 0)

    @property
    def acs(self) -> int:
        return sum(layer.acs for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def dense_macs(self) -> int:
        return sum(layer.dense_macs for layer in self.layers)

    @property
    def dense_macs_steps(self) -> int:
        return sum(layer.dense_macs_steps for layer in self.layers)

    @property
    def updates(self) -> int:
        return sum(layer.updates for layer in self.layers)

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step of every spiking layer."""
        return {layer.name: layer.rate for layer in self.layers if layer.updates and layer.input == "spikes"}


@contextmanager
def count(network: nn.Module) -> Iterator[Work]:
    """Count the operations of every call of `network` inside the ``with`` block.

    Args:
        network: any module called on ``[T, B, ...]`` (a tensor or an `EventTensor`). Its `torch.nn.Linear` and
            `Conv1d/2d/3d` layers (subclasses too, `EventLinear` and `EventConv2d` on events) and spikenet's layers with
            delays are counted as connections, its neurons as neurons, its recurrent layers as both. Layers inside may
            see ``[T, B, ...]`` or time folded into the batch, ``[T * B, ...]``. A layer with weights of any other kind
            is named in `Work.uncounted`.

    Yields:
        `Work`, filled as the network is called.
    """
    work = Work()
    handles = [network.register_forward_pre_hook(lambda _, args: _open_call(work, args[0]))]
    for name, module in network.named_modules():
        if hook := _hook(work, name or "network", module):
            handles.append(module.register_forward_hook(hook))
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()
        work.layers = [layer for layer in work.layers if layer.inputs or layer.updates]


def _hook(work: Work, name: str, module: nn.Module) -> Callable[..., None] | None:
    record = LayerWork(name, type(module).__name__)
    if isinstance(module, Connection):
        work.layers.append(record)
        return lambda module, args, output: _connection(work, record, module, args[0], output)
    if isinstance(module, Recurrent):
        work.layers.append(record)
        targets = module.features if module.autapses else module.features - 1
        return lambda module, args, output: _recurrent(work, record, targets, output.detach())
    if isinstance(module, DelayRecurrent):
        work.layers.append(record)
        reached = module.synapses.out_features * module.synapses.elements
        return lambda module, args, output: _recurrent(work, record, reached, output.detach())
    if isinstance(module, Neuron):
        work.layers.append(record)
        return lambda module, args, output: _neuron(record, output.detach())
    free = isinstance(module, nn.modules.batchnorm._BatchNorm)  # folded into the weights before it at inference
    if not free and any(True for _ in module.parameters(recurse=False)):
        work.uncounted.append(f"{name} ({record.kind})")
    return None


def _open_call(work: Work, x: Any) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"count: a network takes [T, B, ...]; it was called on shape {tuple(x.shape)}.")
    work.call = (int(x.shape[0]), int(x.shape[1]))
    work.samples += work.call[1]


def _connection(work: Work, record: LayerWork, layer: Connection, x: Tensor | EventTensor, output: Tensor) -> None:
    kind = _kind(entries(x))
    dense = dense_macs(layer, output)
    record.input = max(record.input, kind, key=_KINDS.index)
    record.inputs += prod(x.shape)
    record.events += entries(x).double().abs().sum().item()
    record.dense_macs_steps += dense
    record.dense_macs += dense // _steps_in(work, x)
    if kind == "graded":
        record.macs += dense
    else:
        record.acs += synapses_reached(layer, x)


def _recurrent(work: Work, record: LayerWork, targets: int, output: Tensor) -> None:
    """The neurons, and their connections to each other; a spike is charged when it is sent, so that parts add up."""
    _neuron(record, output)
    dense, events = output.numel() * targets, output.double().abs().sum().item()
    record.inputs += output.numel()
    record.events += events
    record.dense_macs_steps += dense
    record.dense_macs += dense // _steps_in(work, output)
    if _kind(output) == "graded":
        record.macs += dense
    else:
        record.acs += round(events) * targets


def _neuron(record: LayerWork, output: Tensor) -> None:
    record.input = max(record.input, _kind(output), key=_KINDS.index)
    record.updates += output.numel()
    record.spikes += output.double().abs().sum().item()


def _kind(x: Tensor) -> str:
    if not x.is_floating_point() or bool((x == x.round()).all()):
        return "spikes" if bool(((x == 0) | (x == 1)).all()) else "counts"
    return "graded"


def _steps_in(work: Work, x: Tensor | EventTensor) -> int:
    """Time steps that one call covers: all of them, unless it runs step by step or after the time axis was read out."""
    steps, batch = work.call
    return steps if x.shape[:2] == work.call or x.shape[0] == steps * batch else 1
