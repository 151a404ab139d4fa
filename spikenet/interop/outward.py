"""The way back: spikenet's sequences of layers as SpikingJelly's, Norse's and snnTorch's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop.packages import package
from spikenet.interop.sequences import UNFOLDED
from spikenet.interop.snntorch import LateResetLIF
from spikenet.neurons import IF, LIF, PLIF, CubaLIF, Surrogate
from spikenet.neurons.surrogate import surrogate as _surrogate

__all__ = ["to_norse", "to_snntorch", "to_spikingjelly"]

Slope = Surrogate | str | None


def to_spikingjelly(net: nn.Sequential, *, surrogate: Slope = None) -> nn.Sequential:
    """A sequence of spikenet's layers as SpikingJelly's, in its multi-step mode, with copies of the weights and the
    same spikes.

    `IF`, `LIF` and `PLIF` become `IFNode`, `LIFNode` and `ParametricLIFNode`; linear layers, convolutions, norms and
    pooling those with a step mode. Between two sequences it wants `functional.reset_net`.

    Args:
        net: layers one after the other, inner `nn.Sequential`s too; it is not changed.
        surrogate: slope of the spikes, atan or sigmoid there; left out, the neurons' own.

    Raises:
        UnknownNameError: for a layer or a slope that has no counterpart there.
        ArgumentError: for an option of a neuron that has none, such as a threshold a channel.
        PackageError: without the package spikingjelly.

    Source: SpikingJelly 2.0.0.
    """
    base = "spikingjelly.activation_based"
    theirs = {part: package(f"{base}.{part}") for part in ("neuron", "layer", "surrogate")}
    slopes = {"atan": theirs["surrogate"].ATan, "sigmoid": theirs["surrogate"].Sigmoid}

    def fires(m: Any) -> dict[str, Any]:
        v_reset = _number(m, "v_reset") if m.hard else None
        if not (m.hard or m.soft) or _number(m, "v_rest") != (v_reset or 0.0):
            raise ArgumentError(f"SpikingJelly's neurons reset, and rest where they reset to (0 if softly); got {m}")
        slope = slopes[_slope(m, surrogate, slopes).name](_slope(m, surrogate, slopes).alpha)
        rest = {"detach_reset": m.detach_reset, "surrogate_function": slope, "step_mode": "m"}
        return {"v_threshold": _number(m, "v_threshold"), "v_reset": v_reset, **rest}

    def plif(m: Any) -> nn.Module:
        node = theirs["neuron"].ParametricLIFNode(decay_input=m.decay_input, **fires(m))
        node.w = nn.Parameter(m.w.detach().clone().reshape(node.w.shape))
        return node

    neurons = {
        IF: lambda m: theirs["neuron"].IFNode(**fires(m)),
        LIF: lambda m: theirs["neuron"].LIFNode(1 / _rate(m), m.decay_input, **fires(m)),
        PLIF: plif,
    }

    def layer(own: nn.Module) -> nn.Module:
        kind = getattr(theirs["layer"], type(own).__name__, None)
        if kind is None or isinstance(own, nn.Dropout):  # theirs keeps its mask, and a state for it
            return own
        own.__class__ = kind  # theirs are subclasses of torch's that add a step mode
        own.step_mode = "m"  # type: ignore[assignment]
        return own

    return nn.Sequential(*(layer(each) for each in _there(net, neurons, "SpikingJelly")))


def to_norse(net: nn.Sequential, *, surrogate: Slope = None) -> nn.Module:
    """A sequence of spikenet's layers as a `SequentialState` of Norse's, which takes one step `[B, ...]` and a state,
    with copies of the weights and the same spikes.

    `LIF(decay_input=True)` becomes `LIFBoxCell`, `CubaLIF` `LIFCell`, `IF` `IAFCell`. A threshold becomes the number
    before it, since a spike needs `v > v_th` there; resets carry a gradient.

    Args:
        net: layers one after the other, inner `nn.Sequential`s too; it is not changed.
        surrogate: slope of the spikes, fast_sigmoid there ("super"); left out, the neurons' own.

    Raises:
        UnknownNameError: for a layer or a slope that has no counterpart there.
        ArgumentError: for an option of a neuron that has none.
        PackageError: without the package norse.

    Source: Norse 1.1.0.
    """
    norse = package("norse.torch")
    methods = package("norse.torch.functional.reset")
    dtype = _precision(net)

    def fires(m: Any) -> dict[str, Any]:
        slope = _slope(m, surrogate, ("fast_sigmoid",))
        v_reset = m.v_reset.to(dtype) if m.hard else torch.zeros((), dtype=dtype)
        return {"v_th": _below(m, dtype), "v_reset": v_reset, "method": "super", "alpha": torch.tensor(slope.alpha)}

    def leaks(m: Any) -> dict[str, Any]:
        if not m.decay_input or m.exact_decay:
            raise ArgumentError(f"Norse's neurons scale their input and decay by Euler's step; got {m}")
        return {"tau_mem_inv": 1 / m.tau.to(dtype), "v_leak": m.v_rest.to(dtype), **fires(m)}

    def hard(m: Any) -> Any:
        rest: Any = m.v_rest
        if not m.hard or (type(m) is IF and rest.count_nonzero()):
            raise ArgumentError(f"Norse's counterpart of {type(m).__name__} resets to a potential; got {m}")
        return m

    def lif(m: Any) -> nn.Module:
        if not (m.hard or m.soft):
            raise ArgumentError(f"Norse's neurons reset; got {m}")
        method = methods.reset_value if m.hard else methods.reset_subtract
        return norse.LIFBoxCell(norse.LIFBoxParameters(**leaks(m), reset_method=method), dt=m.dt)

    def cuba(m: Any) -> nn.Module:
        p = norse.LIFParameters(tau_syn_inv=1 / m.tau_syn.to(dtype), **leaks(hard(m)))
        return norse.LIFCell(p, dt=m.dt)

    neurons = {LIF: lif, CubaLIF: cuba, IF: lambda m: norse.IAFCell(norse.IAFParameters(**fires(hard(m))))}
    made: nn.Module = norse.SequentialState(*_there(net, neurons, "Norse"))
    return made


def to_snntorch(net: nn.Sequential, *, surrogate: Slope = None) -> nn.Sequential:
    """A sequence of spikenet's layers as snnTorch's, which takes one step `[B, ...]` and keeps its state in itself,
    with copies of the weights and the same spikes.

    `LIF(decay_input=False)` that is reset to 0 or not at all, and `LateResetLIF` that subtracts, become `Leaky`. A
    threshold becomes the number before it, since a spike needs `mem > threshold` there; a reset passes no gradient.
    Between two sequences it wants `snntorch.utils.reset`.

    Args:
        net: layers one after the other, inner `nn.Sequential`s too; it is not changed.
        surrogate: slope of the spikes, atan, fast_sigmoid or sigmoid there; left out, the neurons' own.

    Raises:
        UnknownNameError: for a layer or a slope that has no counterpart there.
        ArgumentError: for an option of a neuron that has none.
        PackageError: without the package snntorch.

    Source: snnTorch 1.0.0.
    """
    snn, slopes, dtype = package("snntorch"), package("snntorch.surrogate"), _precision(net)

    def leaky(m: Any, **resets: Any) -> nn.Module:
        if m.decay_input or m.v_rest.count_nonzero():
            raise ArgumentError(
                f"snnTorch's neurons rest at 0 and do not scale their input: decay_input=False; got {m}"
            )
        slope = _slope(m, surrogate, ("atan", "fast_sigmoid", "sigmoid"))
        gradient = getattr(slopes, slope.name)(slope.alpha)
        beta = (1 - m.decay_rate(m.tau.to(dtype))).detach()
        return snn.Leaky(beta, _below(m, dtype), gradient, init_hidden=True, **resets)

    def lif(m: Any) -> nn.Module:
        if m.soft or (m.hard and m.v_reset.count_nonzero()):
            raise ArgumentError(
                f"snnTorch's counterpart of LIF is reset to 0 or not at all (LateResetLIF: both); got {m}"
            )
        return leaky(m, reset_mechanism="zero" if m.hard else "none", reset_delay=False)

    def late(m: Any) -> nn.Module:
        if not m.subtracts:
            raise ArgumentError(f"LateResetLIF(subtracts=False) loses an input after a spike, Leaky does not; got {m}")
        return leaky(m, reset_mechanism="subtract", reset_delay=m.late)

    return nn.Sequential(*_there(net, {LIF: lif, LateResetLIF: late}, "snnTorch"))


def _there(net: nn.Module, neurons: Mapping[Any, Callable[[Any], nn.Module]], library: str) -> list[nn.Module]:
    """The layers of one step, and the neurons of another library, in one flat row."""
    if type(net) in neurons:
        return [neurons[type(net)](net)]
    if type(net).forward is nn.Sequential.forward:
        return [made for each in net.children() for made in _there(each, neurons, library)]
    if isinstance(net, layers.ToDense):
        return []
    own = copy.deepcopy(net)
    if isinstance(net, nn.Flatten):
        if net.start_dim == 1 or net.start_dim == 0:
            raise ArgumentError(f"nn.Flatten(start_dim={net.start_dim}) flattens time or batch; start_dim=2")
        own.start_dim, own.end_dim = (n - 1 if n > 0 else n for n in (net.start_dim, net.end_dim))  # type: ignore[assignment]
    elif type(net) in UNFOLDED:
        own.__class__ = UNFOLDED[type(net)]
    elif type(net) not in UNFOLDED.values():
        known = sorted({kind.__name__ for kind in (*neurons, *UNFOLDED, nn.Flatten)})
        raise UnknownNameError(f"layer to take to {library}", type(net).__name__, known)
    return [own]


def _slope(m: Any, chosen: Slope, known: Any) -> Surrogate:
    slope = m.emit.surrogate if chosen is None else _surrogate(chosen)
    if slope.name not in known:
        raise UnknownNameError(
            f"slope of {type(m).__name__}'s spikes there (surrogate=... chooses one),", slope.name, known
        )
    return slope


def _number(m: Any, name: str) -> float:
    value: Tensor = getattr(m, name)
    if value.numel() != 1 or value.requires_grad:
        raise ArgumentError(f"SpikingJelly's {name} is one fixed number for a layer; got {value}")
    return float(value)


def _rate(m: Any) -> float:
    if m.exact_decay:
        raise ArgumentError(f"SpikingJelly's neurons decay by Euler's step; got {m} with exact_decay=True")
    return m.dt / _number(m, "tau")


def _precision(net: nn.Module) -> torch.dtype:
    """The widest dtype of its weights."""
    dtype = torch.float32
    for value in net.parameters():
        dtype = torch.promote_types(dtype, value.dtype) if value.is_floating_point() else dtype
    return dtype


def _below(m: Any, dtype: torch.dtype) -> Tensor:
    """The threshold that `u > ..` passes exactly when `u >= v_threshold` here: the number before."""
    value = m.v_threshold.detach().to(dtype)
    return torch.nextafter(value, torch.full_like(value, -torch.inf))
