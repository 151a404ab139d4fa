"""Operation counts of a network on real spikes.

A layer with weights is charged by what its input holds, decided per call:

- spikes (every value 0 or 1): one accumulate (AC) per spike and synapse that the spike reaches;
- event counts (integers): one AC per event and synapse, so a value of 3 is charged three times;
- anything else (graded input, the average of spikes): all multiply-accumulates (MAC) of the layer, at every step.

"Synapses reached" is exact: a spike at a border reaches fewer outputs of a convolution than one in the middle, and
stride, dilation and groups count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn

from spikenet.energy.reach import Connection, dense_macs, entries, synapses_reached
from spikenet.energy.work import KINDS, Bits, Geometry, LayerWork, Work
from spikenet.errors import ShapeError
from spikenet.events import EventTensor
from spikenet.layers import Recurrent
from spikenet.neurons import Neuron


@dataclass
class _Tally:
    """What one layer did, summed over the calls seen."""

    name: str
    kind: str
    operation: str = "neuron"
    values: str = "spikes"
    bits: Bits = Bits()
    geometry: Geometry = Geometry()
    totals: dict[str, float] = field(default_factory=dict)
    dense_macs_frame: float = 0.0

    def add(self, **counted: float) -> None:
        for name, amount in counted.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(amount)

    def work(self, T: int) -> LayerWork:
        spread = {name: np.full(T, amount / T) for name, amount in self.totals.items()}
        return LayerWork(
            self.name, self.kind, self.operation, self.values, self.bits, self.geometry, spread, self.dense_macs_frame
        )


@dataclass
class _Call:
    """Time steps and batch size of the call under way."""

    shape: tuple[int, int] = (0, 0)


@contextmanager
def count(network: nn.Module) -> Iterator[Work]:
    """Count the operations of every call of `network` inside the ``with`` block.

    Args:
        network: any module called on ``[T, B, ...]`` (a tensor or an `EventTensor`). Its `torch.nn.Linear` and
            `Conv1d/2d/3d` layers (subclasses too, `EventLinear` and `EventConv2d` on events) are counted as
            connections, spikenet's neurons as neurons, its recurrent layers as both. Layers inside may see
            ``[T, B, ...]`` or time folded into the batch, ``[T * B, ...]``. A layer with weights of any other kind is
            named in `Work.uncounted`.

    Yields:
        `Work`, filled as the network is called.
    """
    work, call, tallies = Work(), _Call(), list[_Tally]()
    handles = [network.register_forward_pre_hook(lambda _, args: _open_call(work, call, args[0]))]
    for name, module in network.named_modules():
        if hook := _hook(work, call, tallies, name or "network", module):
            handles.append(module.register_forward_hook(hook))
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()
        work.layers = [tally.work(work.T) for tally in tallies if tally.totals]


def _hook(work: Work, call: _Call, tallies: list[_Tally], name: str, module: nn.Module) -> Callable[..., None] | None:
    record = _Tally(name, type(module).__name__)
    if isinstance(module, Connection):
        tallies.append(record)
        return lambda module, args, output: _connection(call, record, module, args[0], output)
    if isinstance(module, Recurrent):
        tallies.append(record)
        return lambda module, args, output: _recurrent(call, record, module, output.detach())
    if isinstance(module, Neuron):
        tallies.append(record)
        return lambda module, args, output: _neuron(record, output.detach())
    free = isinstance(module, nn.modules.batchnorm._BatchNorm)  # folded into the weights before it at inference
    if not free and any(True for _ in module.parameters(recurse=False)):
        work.uncounted.append(f"{name} ({record.kind})")
    return None


def _open_call(work: Work, call: _Call, x: Any) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"count: a network takes [T, B, ...]; it was called on shape {tuple(x.shape)}.")
    call.shape = (int(x.shape[0]), int(x.shape[1]))
    work.samples += call.shape[1]
    work.T = max(work.T, call.shape[0])


def _connection(call: _Call, record: _Tally, layer: Connection, x: Tensor | EventTensor, output: Tensor) -> None:
    values = entries(x)
    kind = _kind(values)
    dense = dense_macs(layer, output)
    record.operation = "connection"
    record.values = max(record.values, kind, key=KINDS.index)
    record.bits = Bits(32, 32, {"spikes": 1, "ternary": 2, "counts": 8}.get(record.values, 32), 32)
    record.geometry = _geometry(layer)
    record.add(
        events=values.double().abs().sum().item(),
        nonzero=int((values != 0).sum()),
        inputs=prod(x.shape),
        outputs=output.numel(),
        dense_macs=dense,
        dense_weight_reads=layer.weight.numel() * call.shape[0],
    )
    record.dense_macs_frame += dense // _steps_in(call, x)
    if kind == "graded":
        record.add(macs=dense)
    else:
        reached = synapses_reached(layer, x)
        record.add(acs=reached, weight_reads=reached)


def _geometry(layer: Connection) -> Geometry:
    parameters, bias = sum(p.numel() for p in layer.parameters()), layer.bias is not None
    if isinstance(layer, nn.Linear):
        return Geometry(layer.in_features, layer.out_features, 1, 1, parameters, bias)
    return Geometry(layer.in_channels, layer.out_channels, prod(layer.kernel_size), layer.groups, parameters, bias)


def _recurrent(call: _Call, record: _Tally, layer: Recurrent, output: Tensor) -> None:
    """The neurons, and their connections to each other; a spike is charged when it is sent, so that parts add up."""
    _neuron(record, output)
    targets = layer.features if layer.autapses else layer.features - 1
    dense, events = output.numel() * targets, output.double().abs().sum().item()
    record.add(events=events, inputs=output.numel(), dense_macs=dense)
    record.dense_macs_frame += dense // _steps_in(call, output)
    if _kind(output) == "graded":
        record.add(macs=dense)
    else:
        record.add(acs=round(events) * targets)


def _neuron(record: _Tally, output: Tensor) -> None:
    record.values = max(record.values, _kind(output), key=KINDS.index)
    record.bits = Bits(0, 32, 32, 1 if record.values == "spikes" else 32)
    n = output.numel()
    spikes = output.double().abs().sum().item()
    record.add(updates=n, outputs=n, state_reads=n, state_writes=n, comparisons=n, adds=n, multiplies=n, spikes=spikes)


def _kind(x: Tensor) -> str:
    if not x.is_floating_point() or bool((x == x.round()).all()):
        return "spikes" if bool(((x == 0) | (x == 1)).all()) else "counts"
    return "graded"


def _steps_in(call: _Call, x: Tensor | EventTensor) -> int:
    """Time steps that one call covers: all of them, unless it runs step by step or after the time axis was read out."""
    steps, batch = call.shape
    return steps if x.shape[:2] == call.shape or x.shape[0] == steps * batch else 1
