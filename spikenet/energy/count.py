"""Operation counts of a network on real spikes.

A layer with weights is charged by what its input holds, decided per call:

- spikes (every value 0 or 1): one accumulate (AC) per spike and synapse that the spike reaches;
- event counts (integers): one AC per event and synapse, so a value of 3 is charged three times;
- anything else (graded input, the average of spikes): all multiply-accumulates (MAC) of the layer, at every step.

"Synapses reached" is exact: a spike at a border reaches fewer outputs of a convolution than one in the middle, and
stride, dilation and groups count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ShapeError
from spikenet.neurons import Neuron

_Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
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
            `Conv1d/2d/3d` layers (subclasses too) are counted as connections, spikenet's neurons as neurons. Layers
            inside may see ``[T, B, ...]`` or time folded into the batch, ``[T * B, ...]``. A layer with weights of any
            other kind is named in `Work.uncounted`.

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
    if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        work.layers.append(record)
        return lambda module, args, output: _connection(work, record, module, args[0].detach(), output)
    if isinstance(module, Neuron):
        work.layers.append(record)
        return lambda module, args, output: _neuron(record, output.detach())
    if not _is_free(module) and any(True for _ in module.parameters(recurse=False)):
        work.uncounted.append(f"{name} ({record.kind})")
    return None


def _is_free(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase)


def _open_call(work: Work, x: Any) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"count: a network takes [T, B, ...]; it was called on shape {tuple(x.shape)}.")
    work.call = (int(x.shape[0]), int(x.shape[1]))
    work.samples += work.call[1]


def _connection(work: Work, record: LayerWork, module: nn.Module, x: Tensor, output: Tensor) -> None:
    kind = _kind(x)
    dense = _dense_macs(module, output)
    record.input = max(record.input, kind, key=_KINDS.index)
    record.inputs += x.numel()
    record.events += x.double().abs().sum().item()
    record.dense_macs_steps += dense
    record.dense_macs += dense // _steps_in(work, x)
    if kind == "graded":
        record.macs += dense
    else:
        record.acs += _synapses_reached(module, x)


def _neuron(record: LayerWork, output: Tensor) -> None:
    record.input = max(record.input, _kind(output), key=_KINDS.index)
    record.updates += output.numel()
    record.spikes += output.double().abs().sum().item()


def _kind(x: Tensor) -> str:
    if not x.is_floating_point() or bool((x == x.round()).all()):
        return "spikes" if bool(((x == 0) | (x == 1)).all()) else "counts"
    return "graded"


def _steps_in(work: Work, x: Tensor) -> int:
    """Time steps that one call covers: all of them, unless it runs step by step or after the time axis was read out."""
    steps, batch = work.call
    return steps if x.shape[:2] == work.call or x.shape[0] == steps * batch else 1


def _dense_macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return output.numel() * math.prod(module.kernel_size) * (module.in_channels // module.groups)  # type: ignore[operator]


def _synapses_reached(module: nn.Module, x: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return round(x.double().abs().sum().item() * module.out_features)
    return _convolution_reach(module, x.double().abs())


def _convolution_reach(module: nn.Module, x: Tensor) -> int:
    """Events times outputs reached; a transposed convolution of ones says how many windows cover each padded position."""
    space = len(module.kernel_size)  # type: ignore[arg-type]
    per_position = _pad(module, x.reshape(-1, *x.shape[-space - 1 :]).sum(0)).sum(0)
    windows = [
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, dilation in zip(
            per_position.shape, module.kernel_size, module.stride, module.dilation, strict=True
        )  # type: ignore[arg-type]
    ]
    reach = _TRANSPOSED[space](
        torch.ones(1, 1, *windows, dtype=x.dtype, device=x.device),
        torch.ones(1, 1, *module.kernel_size, dtype=x.dtype, device=x.device),  # type: ignore[misc]
        stride=module.stride,
        dilation=module.dilation,
    )[0, 0]
    covered = per_position[tuple(slice(0, size) for size in reach.shape)]
    return round((covered * reach).sum().item()) * (module.out_channels // module.groups)  # type: ignore[operator]


def _pad(module: nn.Module, x: Tensor) -> Tensor:
    """Pad as the layer does, so that reflected or wrapped spikes are charged too."""
    if module.padding == "valid":
        return x
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]  # type: ignore[arg-type]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(p, p) for p in module.padding]  # type: ignore[union-attr]
    flat = [side for pair in reversed(sides) for side in pair]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(x[None], flat, mode=mode)[0]  # type: ignore[arg-type]
