"""Izhikevich's simple model of spiking neurons, in the scheme that its author published with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from spikenet.errors import UnknownNameError
from spikenet.kernels.dynamics.words import blend, detach
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.surrogate import Surrogate

__all__ = ["Izhikevich"]


class Izhikevich(Neuron):
    """Izhikevich neuron: dv/dt = 0.04 v^2 + 5 v + 140 - u + x, du/dt = a (b v - u), in mV and ms.

        v <- v[t-1] + (dt / 2) (0.04 v^2 + 5 v + 140 - u[t-1] + x[t])       twice, both with the same u
        u <- u[t-1] + dt a (b v - u[t-1])                                   with the new v
        z[t] = 1 if v >= v_threshold else 0
        v[t], u[t] = c, u + d where z[t] = 1, else v, u

    The published script looks for spikes and resets at the start of a step, which is the same as at the end of the one
    before: `z[k]` (k from 0) is the spike that it lists at step `k + 2` (counted from 1).

    `Izhikevich.kinds` holds the published parameters of seven kinds of neuron, `Izhikevich.of_kind("RS")` makes one:
    regular spiking, intrinsically bursting, chattering, fast spiking, thalamo-cortical, resonator, low-threshold
    spiking.

    Args:
        a: rate of the recovery variable, per ms. A number or tensor is fixed, an `nn.Parameter` learned; shapes `()`,
            per channel `[C, 1, 1]` or per neuron `[*features]`. So are the parameters below.
        b: sensitivity of the recovery variable to v.
        c: potential after a spike.
        d: jump of the recovery variable with a spike.
        v_threshold: cut-off of the upstroke, where the neuron fires.
        v_start: potential before the first step, where `u = b v_start`.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name; it sees the potential in mV.
        dt: length of a time step, in ms.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`, the input a current; states `v` and `u` `[B, *features]`.

    Raises:
        ArgumentError: if `dt` is not above 0.

    Source: Izhikevich, "Simple model of spiking neurons", IEEE Trans. Neural Networks 14, 2003, eqs. 1 to 3, and its
    script net.m.
    """

    state = {"v": "v_start", "u": "u_start"}
    params = {
        "a": Param(0.02, "1 / ms"),
        "b": 0.2,
        "c": Param(-65.0, "mV"),
        "d": 8.0,
        "v_threshold": Param(30.0, "mV"),
        "v_start": Param(-65.0, "mV"),
    }
    kinds: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "RS": {"a": 0.02, "b": 0.2, "c": -65.0, "d": 8.0},
        "IB": {"a": 0.02, "b": 0.2, "c": -55.0, "d": 4.0},
        "CH": {"a": 0.02, "b": 0.2, "c": -50.0, "d": 2.0},
        "FS": {"a": 0.1, "b": 0.2, "c": -65.0, "d": 2.0},
        "TC": {"a": 0.02, "b": 0.25, "c": -65.0, "d": 0.05},
        "RZ": {"a": 0.1, "b": 0.26, "c": -65.0, "d": 2.0},
        "LTS": {"a": 0.02, "b": 0.25, "c": -65.0, "d": 2.0},
    }

    def __init__(
        self,
        a: float | Tensor = 0.02,
        b: float | Tensor = 0.2,
        c: float | Tensor = -65.0,
        d: float | Tensor = 8.0,
        *,
        v_threshold: float | Tensor = 30.0,
        v_start: float | Tensor = -65.0,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
    ) -> None:
        self.detach_reset = detach_reset
        given = {"a": a, "b": b, "c": c, "d": d, "v_threshold": v_threshold, "v_start": v_start}
        super().__init__(surrogate=surrogate, dt=dt, **given)

    @classmethod
    def of_kind(cls, kind: str, **options: Any) -> Izhikevich:
        """The neuron with the published parameters of `kind`, a name in `kinds`; `options` as `Izhikevich` takes them.

        Raises:
            UnknownNameError: if there is no such kind.
        """
        if kind not in cls.kinds:
            raise UnknownNameError("kind of Izhikevich neuron", kind, cls.kinds)
        return cls(**cls.kinds[kind], **options)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**p, "u_start": p["b"] * p["v_start"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        half = 0.5 * self.dt
        v = s.v + half * (0.04 * s.v * s.v + 5.0 * s.v + 140.0 - s.u + x.x)
        v = v + half * (0.04 * v * v + 5.0 * v + 140.0 - s.u + x.x)
        return {"v": v, "u": s.u + self.dt * (p.a * (p.b * v - s.u))}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        z = detach(z) if self.detach_reset else z
        return {"v": blend(z, h.v, p.c), "u": h.u + z * p.d}
