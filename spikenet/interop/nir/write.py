"""`to_nir`: a spikenet network as a NIR graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop.nir import neurons
from spikenet.interop.nir.graph import END, START, Graph
from spikenet.interop.nir.neurons import MARK
from spikenet.interop.nir.units import Delay, Scale
from spikenet.interop.packages import package
from spikenet.layers.delay import Delayed
from spikenet.neurons import Neuron

__all__ = ["to_nir"]

Heard = list[str]  # the nodes whose sum a layer hears


def to_nir(module: nn.Module, input_shape: Sequence[int], *, dt: float | None = None) -> Any:
    """A network as a NIR graph, which `nir.write(path, graph)` writes to a file.

    Layers that have a node: `nn.Linear`, `SpikingLinear`, `EventLinear`; `Conv1d`, `Conv2d`, `EventConv2d`;
    `AvgPool2d` (with `divisor_override=1`, a sum); `nn.Flatten`; the neurons `IF`, `LIF`, `CubaLIF`, with one value or
    one a neuron, and `LeakyReadout`; and what `from_nir` makes. `Recurrent` becomes a loop. `DelayLinear`,
    `DelayConv1d`, `DelayConv2d` and `DelayRecurrent` become `Delay` nodes before weights, one pair for each delay that
    occurs, rounded to steps as at inference. Inside `nn.Sequential`, `Residual` and `Sum`. Dropout is left out, as at
    inference. Anything else, soft resets too, is refused by name; fold batch norms into the layer before first.

    Thresholds are moved to the number before, since NIR's spikes need `v > v_threshold`. Surrogate slopes have no place
    in NIR. What an exact import needs and NIR has no field for stands in the metadata "spikenet": the step `dt`, that a
    decay is exact, and time constants before they were converted to seconds.

    Args:
        module: the network.
        input_shape: the shape of its input without time and batch.
        dt: seconds that one step takes; may be left out where all neurons have the same `dt` other than 1, which then
            counts as seconds.

    Returns:
        a `nir.NIRGraph`.

    Raises:
        UnknownNameError: for a module that NIR has no node for.
        ArgumentError: for an option of a module that NIR cannot say, or where `dt` is missing.
        PackageError: without the package nir.

    Source: Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 15, 2024; nir 1.0.8.
    """
    writer = _Writer(package("nir"), _step(module, dt), _precision(module))
    heard, shape = writer.layer("", module, [START], tuple(int(n) for n in input_shape))
    return writer.graph(tuple(int(n) for n in input_shape), heard, shape)


def _step(module: nn.Module, dt: float | None) -> float:
    known = {m.dt for m in module.modules() if isinstance(m, Neuron)}
    if dt is None and len(known) == 1 and known != {1.0}:
        return known.pop()
    if dt is None:
        steps = f"the neurons' dt is {', '.join(f'{s:g}' for s in sorted(known))}" if known else "there are no neurons"
        raise ArgumentError(f"NIR is in seconds: say how long a step is, to_nir(..., dt=1e-3); {steps}")
    if not dt > 0:
        raise ArgumentError(f"dt must be above 0, got {dt}")
    return float(dt)


def _precision(module: nn.Module) -> torch.dtype:
    """The widest dtype of its numbers."""
    dtype = torch.float32
    for value in (*module.parameters(), *module.buffers()):
        dtype = torch.promote_types(dtype, value.dtype) if value.is_floating_point() else dtype
    return dtype


class _Writer:
    def __init__(self, nir: Any, dt: float, dtype: torch.dtype) -> None:
        self.nir, self.dt, self.dtype = nir, dt, dtype
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.aliases: dict[str, Heard] = {}  # the nodes behind a name that a loop hears before it is written

    def graph(self, input_shape: tuple[int, ...], heard: Heard, shape: tuple[int, ...]) -> Any:
        ends = {START: self.nir.Input(np.array(input_shape)), END: self.nir.Output(np.array(shape))}
        named = [*self.edges, *((source, END) for source in heard)]
        edges = [(source, target) for alias, target in named for source in self.behind(alias)]
        if len(set(edges)) < len(edges):
            raise ArgumentError("NIR has one edge between two nodes at most, and this network adds an output to itself")
        nodes = {START: ends[START], **self.nodes, END: ends[END]}
        return self.nir.NIRGraph(nodes=nodes, edges=edges, metadata={MARK: {"dt": self.dt}})

    def behind(self, source: str) -> Heard:
        """The nodes for which a name stands."""
        return (
            [node for each in self.aliases[source] for node in self.behind(each)]
            if source in self.aliases
            else [source]
        )

    def add(self, name: str, node: Any, heard: Heard) -> Heard:
        """One node, with edges from what it hears."""
        name = f"{name}_" if name in (START, END) else name or type(node).__name__.lower()
        if name in self.nodes:
            raise ArgumentError(f"two layers have the name {name!r}")
        self.nodes[name] = node
        self.edges += [(source, name) for source in heard]
        return [name]

    def layer(
        self, name: str, module: nn.Module, heard: Heard, shape: tuple[int, ...]
    ) -> tuple[Heard, tuple[int, ...]]:
        """The nodes of a module: those that give its output, and the shape of this."""
        for kinds, write in _LAYERS.items():
            if type(module) in kinds or (type(module).forward is nn.Sequential.forward and nn.Sequential in kinds):
                return write(self, name, module, heard, shape)
        if type(module) in neurons.writable():
            node = neurons.node_of(self.nir, module, name or "the network", shape, self.dt, self.dtype)  # type: ignore[arg-type]
            return self.add(name, node, heard), shape
        known = sorted({kind.__name__ for kinds in (*_LAYERS, neurons.writable()) for kind in kinds})
        raise UnknownNameError(f"module with a NIR node at {name or 'the top'}:", type(module).__name__, known)

    def array(self, value: Tensor) -> Any:
        return value.detach().cpu().numpy().copy()

    def typed(self, name: str, node: Any, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
        """The node, if nir sees the input and output that it has."""
        seen = (tuple(int(n) for n in each) for each in (node.input_type["input"], node.output_type["output"]))
        for what, wanted, found in zip(("input", "output"), (before, after), seen, strict=True):
            if wanted != found:
                raise ArgumentError(
                    f"{name}: the {what} has the shape {wanted}, but nir {self.nir.version} takes it for {found}; it "
                    "cannot type groups and kernels that are not square"
                )
        return node


def _write_sequence(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    for child, layer in module.named_children():
        heard, shape = w.layer(f"{name}.{child}" if name else child, layer, heard, shape)
    return heard, shape


def _write_residual(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    inner, after = _write_sequence(w, name, module, heard, shape)
    return [*heard, *inner], after


def _write_sum(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    prefix = f"{name}." if name else ""
    f, after = w.layer(f"{prefix}f", module.f, heard, shape)
    g, _ = w.layer(f"{prefix}g", module.g, heard, shape)
    return [*f, *g], after


def _write_graph(w: _Writer, name: str, module: Graph, heard: Heard, shape: tuple[int, ...]) -> Any:
    shapes: dict[str, tuple[int, ...]] = {**module.features, START: shape}
    prefix = f"{name}." if name else ""
    alias = {n: f"<{prefix}{n}>" for n in module.order}
    for n in module.order:
        sources = module._heard[n]
        hears = [each for m in sources for each in (heard if m == START else [alias[m]])]
        w.aliases[alias[n]], shapes[n] = w.layer(f"{prefix}{n}", module.nodes[n], hears, shapes[sources[0]])
    ends = module._heard[END]
    return [each for m in ends for each in (heard if m == START else w.aliases[alias[m]])], shapes[ends[0]]


def _write_nothing(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    return heard, shape


def _affine(w: _Writer, name: str, weight: Tensor, bias: Tensor | None, heard: Heard) -> Heard:
    if bias is None:
        return w.add(name, w.nir.Linear(weight=w.array(weight)), heard)
    return w.add(name, w.nir.Affine(weight=w.array(weight), bias=w.array(bias)), heard)


def _write_linear(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    if len(shape) != 1:
        raise ArgumentError(f"{name}: NIR's linear nodes take one axis of features, this layer gets {shape}")
    return _affine(w, name, module.weight, module.bias, heard), (module.out_features,)


def _write_conv(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    if module.padding_mode != "zeros":
        raise ArgumentError(f"{name}: NIR's convolutions pad zeros, this one {module.padding_mode!r}")
    after = _after(module, shape)
    return _convolve(w, name, module, module.weight, module.bias, heard, shape, after), after


def _convolve(
    w: _Writer, name: str, module: Any, weight: Tensor, bias: Tensor | None, heard: Heard, *shapes: tuple[int, ...]
) -> Heard:
    before, after = shapes
    one = len(before) == 2
    sizes = {k: getattr(module, k) for k in ("stride", "padding", "dilation")}
    sizes = {k: v[0] if one and not isinstance(v, str) else v for k, v in sizes.items()}
    bias = weight.new_zeros(len(weight)) if bias is None else bias  # NIR has no convolution without
    kind = w.nir.Conv1d if one else w.nir.Conv2d
    size = before[1] if one else tuple(before[1:])
    node = kind(input_shape=size, weight=w.array(weight), bias=w.array(bias), groups=module.groups, **sizes)
    return w.add(name, w.typed(name, node, before, after), heard)


def _write_pool(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    sizes = {k: np.array(_pair(getattr(module, k))) for k in ("kernel_size", "stride", "padding")}
    if module.ceil_mode or module.divisor_override not in (None, 1):
        raise ArgumentError(f"{name}: NIR has no ceil_mode and no divisor for its pooling")
    if module.divisor_override is None and sizes["padding"].any() and not module.count_include_pad:
        raise ArgumentError(f"{name}: NIR's AvgPool2d counts padding, count_include_pad=False does not")
    kind = w.nir.SumPool2d if module.divisor_override == 1 else w.nir.AvgPool2d
    return w.add(name, kind(**sizes), heard), _after(module, shape)


def _write_flatten(w: _Writer, name: str, module: nn.Flatten, heard: Heard, shape: tuple[int, ...]) -> Any:
    rank = len(shape) + 2
    start, end = module.start_dim % rank, module.end_dim % rank
    if start < 2:
        raise ArgumentError(f"{name}: nn.Flatten(start_dim={module.start_dim}) flattens time or batch; start_dim=2")
    last = -1 if end == rank - 1 else end - 2
    node = w.nir.Flatten(input_type={"input": np.array(shape)}, start_dim=start - 2, end_dim=last)
    return w.add(name, node, heard), _after(module, shape)


def _write_scale(w: _Writer, name: str, module: Scale, heard: Heard, shape: tuple[int, ...]) -> Any:
    return w.add(name, w.nir.Scale(scale=w.array(module.scale.expand(shape))), heard), shape


def _write_delay(w: _Writer, name: str, module: Delay, heard: Heard, shape: tuple[int, ...]) -> Any:
    return w.add(name, w.nir.Delay(delay=w.array(module.steps.expand(shape)) * w.dt), heard), shape


def _write_delayed(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    if module.extend:
        raise ArgumentError(f"{name}: NIR has no end of a sequence, and this layer goes on for {module.extend} steps")
    linear = isinstance(module, layers.DelayLinear)
    after = (module.out_features,) if linear else (module.out_channels, *module._places(torch.empty(1, 1, *shape)))
    outputs, bias = [], module.bias
    for branch, tap, weight in _branches(module):
        prefix = f"{name}.{branch}" if name else branch
        delay = w.nir.Delay(delay=np.full(shape, tap * w.dt))
        source = w.add(f"{prefix}_delay", delay, heard) if tap else heard
        if linear:
            outputs += _affine(w, prefix, weight, bias, source)
        else:
            outputs += _convolve(w, prefix, module, weight, bias, source, shape, after)
        bias = None
    return outputs, after


def _branches(module: Delayed) -> Iterator[tuple[str, int, Tensor]]:
    """For each element and each delay that occurs, a name, the delay in steps and the weights of these synapses."""
    tap = module.rounded()
    for element in range(module.elements):
        weight, at = module.weight[..., element], tap[..., element]
        for each in sorted(set(at[weight != 0].tolist())) or ([0] if element == 0 else []):
            yield f"e{element}_d{each:04d}", each, torch.where(at == each, weight, 0.0)


def _write_recurrent(w: _Writer, name: str, module: Any, heard: Heard, shape: tuple[int, ...]) -> Any:
    prefix = f"{name}." if name else ""
    node = neurons.node_of(w.nir, module.neuron, f"{prefix}neuron", shape, w.dt, w.dtype)
    neuron = w.add(f"{prefix}neuron", node, heard)
    if isinstance(module, layers.Recurrent):
        again = _affine(w, f"{prefix}recurrent", module._weight(module.weight.dtype), module.bias, neuron)
    else:
        again, _ = _write_delayed(w, f"{prefix}recurrent", module.synapses, neuron, shape)
    w.edges += [(source, neuron[0]) for source in again]
    return neuron, shape


def _after(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a layer without time."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.no_grad():
        return tuple(module(torch.zeros(1, 1, *shape, dtype=dtype, device=device)).shape[2:])


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


_LAYERS: Mapping[tuple[type[nn.Module], ...], Callable[..., Any]] = {
    (nn.Sequential,): _write_sequence,
    (layers.Residual,): _write_residual,
    (layers.Sum,): _write_sum,
    (Graph,): _write_graph,
    (nn.Identity, nn.Dropout, nn.Dropout2d, layers.SequenceDropout, layers.ToDense): _write_nothing,
    (nn.Linear, layers.SpikingLinear, layers.EventLinear): _write_linear,
    (layers.Conv1d, layers.Conv2d, layers.EventConv2d): _write_conv,
    (layers.AvgPool2d,): _write_pool,
    (nn.Flatten,): _write_flatten,
    (Scale,): _write_scale,
    (Delay,): _write_delay,
    (layers.DelayLinear, layers.DelayBank): _write_delayed,
    (layers.DelayConv1d, layers.DelayConv2d, layers.DelayBankConv2d): _write_delayed,
    (layers.Recurrent, layers.DelayRecurrent): _write_recurrent,
}
