"""NIR graphs made ready to read: nested graphs unfolded, and several nodes that are one layer here brought together.

Delay -> weights        one layer with a delay for every synapse, all such pairs between the same nodes together
neuron -> weights -> neuron        a recurrent layer
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from spikenet import layers
from spikenet.errors import ArgumentError
from spikenet.interop.nir.graph import END, START
from spikenet.interop.nir.neurons import Reading
from spikenet.layers.delay import Delayed
from spikenet.neurons import Neuron

__all__ = ["Plan", "join_delays", "join_recurrence", "steps", "unfolded"]

WEIGHTS = ("Linear", "Affine", "Conv1d", "Conv2d")
GEOMETRY = ("stride", "padding", "dilation", "groups")


@dataclass
class Plan:
    """Nodes of a graph, some of them already modules, and its edges."""

    nodes: dict[str, Any]
    edges: list[tuple[str, str]]
    features: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def kind(self, name: str) -> str:
        return type(self.nodes.get(name)).__name__

    def into(self, name: str) -> list[str]:
        return [source for source, target in self.edges if target == name]

    def out_of(self, name: str) -> list[str]:
        return [target for source, target in self.edges if source == name]

    def replace(self, gone: Iterable[str], name: str, module: Any) -> None:
        """One module in the place of several nodes, with the edges that they had to others."""
        gone = set(gone)
        moved = [tuple(name if n in gone else n for n in edge) for edge in self.edges]
        self.features[name] = next((self.features[n] for n in gone if n in self.features), ())
        self.nodes = {n: node for n, node in self.nodes.items() if n not in gone} | {name: module}
        self.edges = list(dict.fromkeys((a, b) for a, b in moved if not a == b == name))  # each once, none to itself


def unfolded(graph: Any, prefix: str = "") -> Plan:
    """The graph without nested ones; its ends are `input` and `output`.

    Raises:
        ArgumentError: for a graph with more than one input or output.
    """
    ends = {END: graph.outputs, START: graph.inputs}
    for which, found in ends.items():
        if len(found) != 1:
            raise ArgumentError(f"{prefix or 'the graph'} has {len(found)} {which} nodes; one can be read")
    names = {next(iter(found)): f"{prefix}{which}" for which, found in ends.items()}
    plan = Plan({}, [])
    for name, node in graph.nodes.items():
        if type(node).__name__ == "NIRGraph":
            inner = unfolded(node, f"{prefix}{name}.")
            plan = Plan(plan.nodes | inner.nodes, plan.edges + inner.edges, plan.features | inner.features)
        elif name not in names:
            plan.nodes[f"{prefix}{name}"] = node
            shape = (node.output_type or {}).get("output")
            plan.features[f"{prefix}{name}"] = () if shape is None else tuple(int(n) for n in shape)
    nested = {name for name, node in graph.nodes.items() if type(node).__name__ == "NIRGraph"}

    def end(name: str, inner: str) -> str:
        return f"{prefix}{name}.{inner}" if name in nested else names.get(name, f"{prefix}{name}")

    plan.edges += [(end(a, END), end(b, START)) for a, b in graph.edges]
    for name in nested:
        _bypass(plan, f"{prefix}{name}.{START}")
        _bypass(plan, f"{prefix}{name}.{END}")
    return plan


def _bypass(plan: Plan, name: str) -> None:
    """Edges from what leads to a place to what it leads to."""
    through = [(source, target) for source in plan.into(name) for target in plan.out_of(name)]
    plan.edges = [edge for edge in plan.edges if name not in edge] + through


def steps(delay: Any, how: Reading, name: str) -> Any:
    """Delays in seconds as whole steps.

    Raises:
        ArgumentError: for a delay that is not a whole number of steps.
    """
    exact = np.asarray(delay, dtype=np.float64) / how.dt
    whole = np.rint(exact)
    off = np.abs(exact - whole) > 1e-6 * np.maximum(1.0, whole)
    if off.any() or (whole < 0).any():
        worst = exact[off | (whole < 0)].flatten()[0]
        raise ArgumentError(f"{name}: a delay of {worst:g} steps of dt = {how.dt:g} s; choose a dt that divides it")
    return whole


def join_delays(plan: Plan, how: Reading) -> None:
    """Each set of delays and weights between the same nodes becomes one layer with a delay for every synapse."""
    groups: dict[Any, list[tuple[str | None, str]]] = {}
    for name in plan.nodes:
        if plan.kind(name) in WEIGHTS:
            delay = _delay_before(plan, name)
            kind = "Linear" if plan.kind(name) == "Affine" else plan.kind(name)
            geometry = (str(getattr(plan.nodes[name], size, None)) for size in GEOMETRY)
            ends = frozenset(plan.into(delay or name)), frozenset(plan.out_of(name))
            groups.setdefault((*ends, kind, *geometry), []).append((delay, name))
    for pairs in groups.values():
        if any(delay for delay, _ in pairs):
            module = _delayed(plan, pairs, how)
            if module is not None:
                gone = [name for pair in pairs for name in pair if name]
                plan.replace(gone, _shared_name([name for _, name in pairs]), module)


def _delay_before(plan: Plan, name: str) -> str | None:
    """The delay of which a layer of weights hears, and nothing else, and which nothing else hears."""
    heard = plan.into(name)
    alone = len(heard) == 1 and plan.kind(heard[0]) == "Delay" and plan.out_of(heard[0]) == [name]
    return heard[0] if alone else None


def _shared_name(names: list[str]) -> str:
    parts = [name.split(".")[:-1] or [name] for name in names]
    return ".".join(parts[0]) if all(part == parts[0] for part in parts) else names[0]


def _delayed(plan: Plan, pairs: list[tuple[str | None, str]], how: Reading) -> Delayed | None:
    """The layer, or None where a delay is not the same for all of a channel."""
    slots: list[tuple[Any, Any]] = []  # for each element its weights and its delays in steps
    for delay, name in pairs:
        weight = np.asarray(plan.nodes[name].weight)
        late = np.zeros(1) if delay is None else steps(plan.nodes[delay].delay, how, delay)
        late = late.reshape(len(late), -1)
        if (late != late[:, :1]).any() or getattr(plan.nodes[name], "groups", 1) != 1:
            return None
        _place(slots, weight, np.broadcast_to(late[:, 0].reshape(1, -1, *(1,) * (weight.ndim - 2)), weight.shape))
    return _layer([plan.nodes[name] for _, name in pairs], slots, how)


def _place(slots: list[tuple[Any, Any]], weight: Any, delay: Any) -> None:
    """Into the first element that has none of these synapses yet."""
    has = weight != 0
    for known, delays in slots:
        if not (has & (known != 0)).any():
            known[has], delays[has] = weight[has], delay[has]
            return
    slots.append((weight.copy(), np.where(has, delay, 0.0)))


def _layer(nodes: list[Any], slots: list[tuple[Any, Any]], how: Reading) -> Delayed:
    weight, delay = (torch.as_tensor(np.stack(each, -1)).to(how.dtype) for each in zip(*slots, strict=True))
    biases = [torch.as_tensor(node.bias).to(how.dtype) for node in nodes if hasattr(node, "bias")]
    bias = sum(biases[1:], biases[0]) if biases else None
    conv = weight.ndim > 3
    bias = None if bias is None or (conv and not bool(bias.any())) else bias
    rest: dict[str, Any] = {"taps": int(delay.max()) + 1, "elements": len(slots), "bias": bias is not None}
    if conv:
        kind: Any = (layers.DelayConv1d, layers.DelayConv2d)[weight.ndim - 4]
        rest |= {k: _sizes(getattr(nodes[0], k)) for k in GEOMETRY[:3]}
        layer = kind(weight.shape[1], weight.shape[0], tuple(weight.shape[2:-1]), dtype=how.dtype, **rest)
    else:
        layer = layers.DelayLinear(weight.shape[1], weight.shape[0], dtype=how.dtype, **rest)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.delay.copy_(delay)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _sizes(value: Any) -> Any:
    return tuple(int(n) for n in np.atleast_1d(value))


def join_recurrence(plan: Plan, how: Reading) -> None:
    """A neuron and the weights through which alone it hears itself become one recurrent layer."""
    for name in [n for n, module in plan.nodes.items() if isinstance(module, Neuron)]:
        loops = [k for k in plan.out_of(name) if plan.into(k) == [name] and plan.out_of(k) == [name]]
        if len(loops) == 1 and len(plan.features[name]) == 1:
            module = _recurrent(plan.nodes[name], plan.nodes[loops[0]], plan.features[name][0], how)
            if module is not None:
                plan.replace([name, loops[0]], name, module)


def _recurrent(neuron: Neuron, synapses: nn.Module, features: int, how: Reading) -> nn.Module | None:
    if isinstance(synapses, layers.DelayLinear):
        layer = layers.DelayRecurrent(neuron, features, synapses.taps, dtype=how.dtype)
        layer.synapses = synapses
        return layer
    if not isinstance(synapses, nn.Linear):
        return None
    own = layers.Recurrent(neuron, features, bias=synapses.bias is not None, dtype=how.dtype)
    own.weight, own.bias = nn.Parameter(synapses.weight), synapses.bias
    return own
