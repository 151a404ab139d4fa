"""`from_nir`: a NIR graph as a spikenet network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ArgumentError, FormatError, UnknownNameError
from spikenet.interop.nir.graph import END, START, Graph
from spikenet.interop.nir.neurons import MARK, Reading, unit_of
from spikenet.interop.nir.patterns import Plan, join_delays, join_recurrence, steps, unfolded
from spikenet.interop.nir.units import Delay, Scale
from spikenet.interop.packages import package
from spikenet.neurons import Surrogate

__all__ = ["from_nir"]


def from_nir(
    graph: Any,
    *,
    dt: float | None = None,
    exact_decay: bool | None = None,
    soft_reset: bool = False,
    surrogate: Surrogate | str = "atan",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A network from a NIR graph or its file: every node of NIR 1.0.8, nested graphs, loops, one parameter a neuron.

    A chain becomes an `nn.Sequential`, anything else a `Graph`. A neuron that hears itself through weights becomes
    `Recurrent`. Pairs of `Delay` and weights between the same nodes become one `DelayLinear` (`DelayConv1d`,
    `DelayConv2d`, and in a loop `DelayRecurrent`); other delays stay as they are. Resistances and input weights become
    a `Scale` before the neuron, where they are not what the neuron's update has anyway. Neurons start at `v_leak` (NIR
    does not say where). An edge that closes a loop is heard in the next step.

    NIR is in continuous time. What it leaves open is chosen here:

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        dt: seconds that one step takes; may be left out for a graph of `to_nir`. Other libraries write graphs for 1e-4,
            and integrators (`IF`, `I`) with `r = 1` that add their whole input in a step: for these, `dt=1`.
        exact_decay: decay by `exp(-dt / tau)` in place of Euler's `1 - dt / tau`; left out, as the graph says, which
            only those of `to_nir` do, and Euler's.
        soft_reset: subtract the threshold in place of NIR's reset to `v_reset`, for graphs that were meant so.
        surrogate: slope of the spikes in the backward pass, or its name.
        dtype: of the network, by default the widest dtype of the graph's weights. A threshold becomes the number of
            that precision after it, since NIR's spikes need `v > v_threshold` and these `v >= v_threshold`.

    Returns:
        the network, in evaluation mode (layers with delays spread them in training).

    Raises:
        FormatError: for a file that is no NIR graph, or a graph that is inconsistent.
        ArgumentError: where `dt` is missing, for a delay that is not a whole number of steps, several inputs or
            outputs, or a loop in which nothing has a state.
        UnknownNameError: for a node that is not in the standard.
        PackageError: without the package nir.
    """
    where = str(graph) if isinstance(graph, str | Path) else "the NIR graph"
    graph = _checked(package("nir"), graph, where)
    known = graph.metadata.get(MARK, {})
    if dt is None and "dt" not in known:
        raise ArgumentError(f"{where} does not say how long a step is: from_nir(..., dt=1e-4)")
    step = float(known["dt"]) if dt is None else float(dt)
    plan = unfolded(graph)
    how = Reading(step, dtype or _precision(plan), exact_decay, soft_reset, surrogate)
    join_delays(plan, how)
    _fill(plan, how)
    join_recurrence(plan, how)
    return _network(plan).eval()


def _checked(nir: Any, graph: Any, where: str) -> Any:
    """The graph, read if need be, whose types go together."""
    try:
        if isinstance(graph, str | Path):
            return nir.read(str(graph))
        graph.validate_structure()
        graph.infer_types()
        graph.check_types()
    except (ValueError, KeyError, AssertionError, OSError, TypeError) as error:
        raise FormatError(where, None, str(error) or "a node whose parameters do not go together") from error
    return graph


def _precision(plan: Plan) -> torch.dtype:
    arrays = [np.asarray(v) for node in plan.nodes.values() for k, v in vars(node).items() if k in ("weight", "scale")]
    wide = any(a.dtype == np.float64 for a in arrays)
    return torch.float64 if wide else torch.float32


def _fill(plan: Plan, how: Reading) -> None:
    """A module for every node that is none yet."""
    for name, node in list(plan.nodes.items()):
        if isinstance(node, nn.Module):
            continue
        modules = unit_of(node, how)
        if modules is None:
            modules = [_layer(name, node, how)]
        if len(modules) == 2:
            _put_before(plan, f"{name}.scale", modules[0], name)
        plan.nodes[name] = modules[-1]


def _put_before(plan: Plan, name: str, module: nn.Module, target: str) -> None:
    plan.nodes[name], plan.features[name] = module, plan.features[target]
    plan.edges = [(a, name if b == target else b) for a, b in plan.edges] + [(name, target)]


def _layer(name: str, node: Any, how: Reading) -> nn.Module:
    reader = _READERS.get(type(node).__name__)
    if reader is None:
        raise UnknownNameError(f"NIR node at {name}:", type(node).__name__, _READERS)
    return reader(name, node, how)


def _tensor(array: Any, how: Reading) -> Tensor:
    return torch.as_tensor(np.asarray(array)).to(how.dtype)


def _parameters(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    layer.weight = nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias)
    return layer


def _read_linear(name: str, node: Any, how: Reading) -> nn.Module:
    weight = _tensor(node.weight, how)
    if weight.ndim != 2:
        raise ArgumentError(f"{name}: weights of shape {tuple(weight.shape)}; matrices can be read")
    bias = _tensor(node.bias, how) if hasattr(node, "bias") else None
    return _parameters(nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta"), weight, bias)


def _read_conv(name: str, node: Any, how: Reading) -> nn.Module:
    weight, bias = _tensor(node.weight, how), _tensor(node.bias, how)
    kind = layers.Conv1d if weight.ndim == 3 else layers.Conv2d
    padding = node.padding if isinstance(node.padding, str) else _sizes(node.padding)
    sizes = {"stride": _sizes(node.stride), "padding": padding, "dilation": _sizes(node.dilation)}
    groups = int(node.groups)
    layer = kind(weight.shape[1] * groups, len(weight), tuple(weight.shape[2:]), groups=groups, device="meta", **sizes)
    return _parameters(layer, weight, bias if bool(bias.any()) else None)


def _read_pool(name: str, node: Any, how: Reading) -> nn.Module:
    sizes = {k: _pair(getattr(node, k)) for k in ("kernel_size", "stride", "padding")}
    return layers.AvgPool2d(**sizes, divisor_override=1 if type(node).__name__ == "SumPool2d" else None)


def _read_flatten(name: str, node: Any, how: Reading) -> nn.Module:
    start, end = int(node.start_dim), int(node.end_dim)
    return nn.Flatten(start + 2 if start >= 0 else start, end + 2 if end >= 0 else end)


def _read_delay(name: str, node: Any, how: Reading) -> nn.Module:
    return Delay(torch.as_tensor(steps(node.delay, how, name)).long())


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in np.atleast_1d(value))


def _pair(value: Any) -> tuple[int, ...]:
    return _sizes(value) * (2 if np.size(value) == 1 else 1)


_READERS: Mapping[str, Callable[[str, Any, Reading], nn.Module]] = {
    "Linear": _read_linear,
    "Affine": _read_linear,
    "Scale": lambda name, node, how: Scale(_tensor(node.scale, how)),
    "Conv1d": _read_conv,
    "Conv2d": _read_conv,
    "AvgPool2d": _read_pool,
    "SumPool2d": _read_pool,
    "Flatten": _read_flatten,
    "Delay": _read_delay,
    "Identity": lambda name, node, how: nn.Identity(),
}


def _network(plan: Plan) -> nn.Module:
    """A chain as `nn.Sequential`, anything else as a `Graph`."""
    names = _module_names(plan)
    modules = {names[name]: module for name, module in plan.nodes.items()}
    chain = _chain(plan)
    if chain is not None:
        return nn.Sequential(OrderedDict((names[name], plan.nodes[name]) for name in chain))
    edges = [(names.get(a, a), names.get(b, b)) for a, b in plan.edges]
    return Graph(modules, edges, {names[n]: shape for n, shape in plan.features.items() if n in names})


def _module_names(plan: Plan) -> dict[str, str]:
    """Names that torch's modules may have: no dots, and not those of the ends."""
    names: dict[str, str] = {}
    for name in plan.nodes:
        own = name.replace(".", "_") or "_"
        while own in {*names.values(), START, END} or hasattr(nn.ModuleDict, own):
            own += "_"
        names[name] = own
    return names


def _chain(plan: Plan) -> list[str] | None:
    """The nodes from input to output, if each hears one and is heard by one."""
    chain, at = [], START
    while plan.out_of(at) != [END]:
        after = plan.out_of(at)
        if len(after) != 1 or len(plan.into(after[0])) != 1 or after[0] in chain:
            return None
        at = after[0]
        chain.append(at)
    return chain if len(chain) == len(plan.nodes) and len(plan.into(END)) == 1 else None
