"""Neurons and their NIR nodes, parameter by parameter, both ways.

NIR is in continuous time, and in seconds. A step of length dt makes of `tau v' = (v_leak - v) + r I` the update
`v += rate (r I - (v - v_leak))`, with `rate = dt / tau` (forward Euler) or `1 - exp(-dt / tau)`. So

    decay_input=True is r = 1,  decay_input=False is r = 1 / rate,  and any other r scales the input first;
    an integrator without leak, `v' = r I`, adds what comes in for r = 1 / dt;
    the current of CubaLIF, `tau_syn I' = -I + w_in S`, jumps by its input for w_in = 1 / rate_syn.

A spike needs `v > v_threshold` there and `v >= v_threshold` here: the threshold moves to its neighbour among the
numbers of the network's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError
from spikenet.interop.nir.units import CubaLeakyIntegrator, Integrator, LeakyIntegrator, Scale, Threshold
from spikenet.neurons import IF, LIF, CubaLIF, LeakyReadout, Neuron, Surrogate

__all__ = ["MARK", "Reading", "node_of", "unit_of", "writable"]

MARK = "spikenet"  # what NIR has no place for, in the metadata under this name
SAME = 1e-12  # relative rounding between two ways of the same number

Array = np.ndarray[Any, Any]


# From a neuron to a node.


def writable() -> tuple[type[nn.Module], ...]:
    """The neurons that have a node."""
    return tuple(_WRITERS)


def node_of(nir: Any, neuron: Neuron, name: str, shape: tuple[int, ...], dt: float, dtype: torch.dtype) -> Any:
    """The node of a neuron with features of that shape, whose steps are `dt` seconds long.

    Raises:
        ArgumentError: for a reset or an initial potential that NIR cannot say.
    """
    if getattr(neuron, "hard", None) is False and hasattr(neuron, "soft") and hasattr(neuron, "v_threshold"):
        kind = "subtracts the threshold (v_reset=None)" if neuron.soft else "has no reset"
        raise ArgumentError(f"{name}: NIR resets to a potential, but this {type(neuron).__name__} {kind}")
    return _WRITERS[type(neuron)](_Writing(nir, neuron, name, shape, dt, dtype))


@dataclass
class _Writing:
    nir: Any
    neuron: Any
    name: str
    shape: tuple[int, ...]
    dt: float
    dtype: torch.dtype

    def array(self, value: Tensor | float) -> Array:
        value = torch.as_tensor(value, dtype=self.dtype) if not isinstance(value, Tensor) else value
        return value.detach().cpu().expand(self.shape).numpy().copy()

    def number(self, value: float) -> Array:
        return self.array(torch.tensor(value, dtype=torch.float64))

    def threshold(self) -> Array:
        """The number before the threshold."""
        least = self.neuron.v_threshold.detach().cpu().to(self.dtype)
        return self.array(torch.nextafter(least, torch.full_like(least, -torch.inf)))

    def rate(self, tau: str) -> Array:
        """The share that decays in a step."""
        x = self.neuron.dt / self.array(getattr(self.neuron, tau)).astype(np.float64)
        return -np.expm1(-x) if getattr(self.neuron, "exact_decay", False) else x

    def leaky(self, *taus: str) -> tuple[list[Array], Array, dict[str, Any]]:
        """Time constants in seconds, r, and the metadata that makes them what they are here, to the bit."""
        own = [self.array(getattr(self.neuron, tau)) for tau in taus]
        r = self.number(1.0) if self.neuron.decay_input else 1 / self.rate("tau")
        kept: dict[str, Any] = {"exact_decay": True} if getattr(self.neuron, "exact_decay", False) else {}
        if self.neuron.dt == self.dt:
            return own, r, {MARK: kept} if kept else {}
        kept |= {"dt": self.neuron.dt, **dict(zip(taus, own, strict=True))}
        return [a.astype(np.float64) * (self.dt / self.neuron.dt) for a in own], r, {MARK: kept}


def _write_if(w: _Writing) -> Any:
    if bool((w.neuron.v_rest != 0).any()):
        raise ArgumentError(f"{w.name}: NIR's IF starts at 0, this one at v_rest = {w.neuron.v_rest.flatten()[0]:g}")
    return w.nir.IF(r=w.number(1 / w.dt), v_threshold=w.threshold(), v_reset=w.array(w.neuron.v_reset))


def _write_lif(w: _Writing) -> Any:
    (tau,), r, metadata = w.leaky("tau")
    v_leak, v_reset = w.array(w.neuron.v_rest), w.array(w.neuron.v_reset)
    return w.nir.LIF(tau=tau, r=r, v_leak=v_leak, v_threshold=w.threshold(), v_reset=v_reset, metadata=metadata)


def _write_cuba_lif(w: _Writing) -> Any:
    (tau, tau_syn), r, metadata = w.leaky("tau", "tau_syn")
    currents = {"tau_mem": tau, "tau_syn": tau_syn, "r": r, "w_in": 1 / w.rate("tau_syn"), "metadata": metadata}
    v_leak, v_reset = w.array(w.neuron.v_rest), w.array(w.neuron.v_reset)
    return w.nir.CubaLIF(**currents, v_leak=v_leak, v_threshold=w.threshold(), v_reset=v_reset)


def _write_li(w: _Writing) -> Any:
    (tau,), r, metadata = w.leaky("tau")
    return w.nir.LI(tau=tau, r=r, v_leak=w.array(getattr(w.neuron, "v_rest", 0.0)), metadata=metadata)


def _write_cuba_li(w: _Writing) -> Any:
    (tau, tau_syn), r, metadata = w.leaky("tau", "tau_syn")
    currents = {"tau_mem": tau, "tau_syn": tau_syn, "r": r, "w_in": 1 / w.rate("tau_syn"), "metadata": metadata}
    return w.nir.CubaLI(**currents, v_leak=w.array(w.neuron.v_rest))


_WRITERS: Mapping[type[nn.Module], Callable[[_Writing], Any]] = {
    IF: _write_if,
    LIF: _write_lif,
    CubaLIF: _write_cuba_lif,
    LeakyReadout: _write_li,
    LeakyIntegrator: _write_li,
    CubaLeakyIntegrator: _write_cuba_li,
    Integrator: lambda w: w.nir.I(r=w.number(1 / w.dt)),
    Threshold: lambda w: w.nir.Threshold(threshold=w.threshold()),
}


# From a node to a neuron, behind a `Scale` where its input is scaled.


@dataclass
class Reading:
    """How a graph is read: the step in seconds, the precision, and what NIR leaves open."""

    dt: float
    dtype: torch.dtype
    exact_decay: bool | None
    soft_reset: bool
    surrogate: Surrogate | str

    def tensor(self, array: Any) -> Tensor:
        """The array in the network's precision; one number where all are the same."""
        values = torch.as_tensor(np.asarray(array)).to(self.dtype)
        return values.flatten()[0].clone() if values.numel() and bool((values == values.flatten()[0]).all()) else values

    def threshold(self, array: Any) -> Tensor:
        """The least number above the threshold."""
        wanted = torch.as_tensor(np.asarray(array, dtype=np.float64))
        least = wanted.to(self.dtype)
        above = torch.nextafter(least, torch.full_like(least, torch.inf))
        return self.tensor(torch.where(least.double() > wanted, least, above))


def unit_of(node: Any, how: Reading) -> list[nn.Module] | None:
    """The modules, one after the other, of a node that is a neuron; None for another."""
    reader = _READERS.get(type(node).__name__)
    return None if reader is None else reader(node, how)


def _scaled(gain: Array, neuron: nn.Module, how: Reading) -> list[nn.Module]:
    if np.allclose(gain, 1.0, rtol=SAME, atol=0.0):
        return [neuron]
    return [Scale(how.tensor(gain)), neuron]


@dataclass
class _Leak:
    """The time constants of a node in the neuron's own unit, and its share of the input."""

    node: Any
    how: Reading

    def __post_init__(self) -> None:
        self.kept = self.node.metadata.get(MARK, {})
        self.dt = float(self.kept.get("dt", self.how.dt))
        exact = self.how.exact_decay
        self.exact = bool(self.kept.get("exact_decay", False)) if exact is None else exact

    def own(self, tau: str, name: str) -> Array:
        """The node's `tau`, which here is `name`."""
        seconds = np.asarray(getattr(self.node, tau), dtype=np.float64)
        known = self.kept.get(name)
        if known is not None and np.array_equal(known.astype(np.float64) * (self.how.dt / self.dt), seconds):
            return np.asarray(known)
        return seconds * (self.dt / self.how.dt)

    def rate(self, tau: Array) -> Array:
        x = self.dt / tau.astype(np.float64)
        return -np.expm1(-x) if self.exact else x

    def options(self, tau: Array) -> tuple[dict[str, Any], Array]:
        """The neuron's options, and the factor of its input that they leave."""
        r = np.asarray(self.node.r, dtype=np.float64)
        plain = np.allclose(r * self.rate(tau), 1.0, rtol=SAME, atol=0.0) and not np.allclose(r, 1.0, rtol=SAME)
        options = {"decay_input": not plain, "exact_decay": self.exact, "dt": self.dt}
        return {**options, "v_rest": self.how.tensor(self.node.v_leak)}, np.ones_like(r) if plain else r


def _fires(node: Any, how: Reading) -> dict[str, Any]:
    v_reset = None if how.soft_reset else how.tensor(node.v_reset)
    return {"v_threshold": how.threshold(node.v_threshold), "v_reset": v_reset, "surrogate": how.surrogate}


def _read_if(node: Any, how: Reading) -> list[nn.Module]:
    return _scaled(np.asarray(node.r, dtype=np.float64) * how.dt, IF(**_fires(node, how)), how)


def _read_lif(node: Any, how: Reading) -> list[nn.Module]:
    leak = _Leak(node, how)
    tau = leak.own("tau", "tau")
    options, gain = leak.options(tau)
    return _scaled(gain, LIF(how.tensor(tau), **options, **_fires(node, how)), how)


def _read_li(node: Any, how: Reading) -> list[nn.Module]:
    leak = _Leak(node, how)
    tau = leak.own("tau", "tau")
    options, gain = leak.options(tau)
    return _scaled(gain, LeakyIntegrator(how.tensor(tau), **options), how)


def _cuba(node: Any, how: Reading) -> tuple[tuple[Tensor, Tensor], dict[str, Any], Array]:
    leak = _Leak(node, how)
    tau, tau_syn = leak.own("tau_mem", "tau"), leak.own("tau_syn", "tau_syn")
    options, gain = leak.options(tau)
    return (how.tensor(tau), how.tensor(tau_syn)), options, gain * node.w_in * leak.rate(tau_syn)


def _read_cuba_lif(node: Any, how: Reading) -> list[nn.Module]:
    taus, options, gain = _cuba(node, how)
    return _scaled(gain, CubaLIF(*taus, **{**options, **_fires(node, how)}), how)


def _read_cuba_li(node: Any, how: Reading) -> list[nn.Module]:
    taus, options, gain = _cuba(node, how)
    return _scaled(gain, CubaLeakyIntegrator(*taus, **options), how)


def _read_threshold(node: Any, how: Reading) -> list[nn.Module]:
    return [Threshold(v_threshold=how.threshold(node.threshold), surrogate=how.surrogate)]


_READERS: Mapping[str, Callable[[Any, Reading], list[nn.Module]]] = {
    "IF": _read_if,
    "LIF": _read_lif,
    "CubaLIF": _read_cuba_lif,
    "LI": _read_li,
    "CubaLI": _read_cuba_li,
    "I": lambda node, how: _scaled(np.asarray(node.r, dtype=np.float64) * how.dt, Integrator(), how),
    "Threshold": _read_threshold,
}
