"""Integrate-and-fire neurons with synapses, as network simulations use them: currents and conductances that jump with
what arrives and decay on their own, and an absolute refractory period."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.dynamics.words import blend, detach, maximum, where
from spikenet.neurons.base import Neuron, Param

__all__ = ["ConductanceLIF", "CurrentLIF", "SynapticLIF"]

_MEMBRANE = {
    "tau": Param(20.0, "ms", above=0.0),
    "v_threshold": Param(-50.0, "mV"),
    "v_reset": Param(-60.0, "mV"),
    "v_rest": Param(-60.0, "mV"),
    "refractory": Param(5.0, "ms", above=0.0),
}


class _SynapticNeuron(Neuron):
    """A potential that stays at `v_reset` for `refractory` after a spike, and synapses that go on meanwhile."""

    def clocked(self, s: Any, v: Any) -> dict[str, Any]:
        """The potential `v`, or the old one in the refractory period, and the clock."""
        return {"v": where(s.clock >= 1.0, s.v, v), "clock": maximum(s.clock - 1.0, -1.0)}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v - p.v_threshold, h.clock < 0.0

    def after_spike(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": blend(detach(z), h.v, p.v_reset), "clock": blend(detach(z), h.clock, p.refractory)}

    def gain(self, tau: Tensor, tau_syn: Tensor) -> Tensor:
        """What a current of 1 that decays with `tau_syn` adds to the potential in a step, exactly:

        tau_syn / (tau - tau_syn) (exp(-dt / tau) - exp(-dt / tau_syn))          (dt / tau exp(-dt / tau) if equal)
        """
        apart = torch.where(tau == tau_syn, torch.ones_like(tau), tau - tau_syn)
        two = tau_syn / apart * (torch.exp(-self.dt / tau) - torch.exp(-self.dt / tau_syn))
        return torch.where(tau == tau_syn, self.dt / tau * torch.exp(-self.dt / tau), two)


class SynapticLIF(_SynapticNeuron):
    """LIF neuron with one synaptic current, integrated exactly: tau dv/dt = -(v - v_rest) + r i, tau_syn di/dt = -i.

        v[t] = v_rest + keep (v[t-1] - v_rest) + r gain i[t-1]          unless refractory
        i[t] = keep_syn i[t-1] + x[t]
        z[t] = 1 if v[t] >= v_threshold and not refractory, then v[t] = v_reset

    with `keep = exp(-dt / tau)`, `keep_syn = exp(-dt / tau_syn)`, `r` the membrane's resistance and
    `gain = tau_syn / (tau - tau_syn) (keep - keep_syn)`. A constant current is a part of `i` as
    `constant (1 - keep) r`, see `constant`. The current goes on while the potential is clamped.

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned; so are
            the parameters below. Shapes `()` or per neuron `[*features]`.
        tau_syn: time constant of the current.
        resistance: r, potential per current: tau / capacitance.
        constant: a constant current besides.
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike, and during the refractory period.
        v_rest: potential to which the membrane decays, and before the first step.
        refractory: length of the refractory period, rounded to steps.
        surrogate: slope of the spike in the backward pass, or its name.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v`, `current` and `clock` (refractory steps to come)
        `[B, *features]`.

    Raises:
        ArgumentError: if a time constant, `refractory` or `dt` is not above 0.

    Source: Rotter and Diesmann, Biological Cybernetics 81, 1999, section 3.1.2; the order of the updates is that of
    NEST's iaf_psc_exp.
    """

    state = {"v": "v_rest", "current": 0.0, "clock": 0.0}
    params = {**_MEMBRANE, "tau_syn": Param(5.0, "ms", above=0.0), "resistance": 1.0, "constant": 0.0}

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        keep = torch.exp(-self.dt / p["tau"])
        pull = (1 - keep) * (p["v_rest"] + p["resistance"] * p["constant"])
        rest = {name: p[name] for name in ("v_threshold", "v_reset", "v_rest")}
        gain = p["resistance"] * self.gain(p["tau"], p["tau_syn"])
        steps = torch.round(p["refractory"] / self.dt)
        return {"keep": keep, "keep_syn": torch.exp(-self.dt / p["tau_syn"]), "gain": gain, "pull": pull} | (
            rest | {"refractory": steps}
        )

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        v = p.pull + s.v * p.keep + s.current * p.gain
        return {**self.clocked(s, v), "current": s.current * p.keep_syn + x.x}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {**self.after_spike(h, z, p), "current": h.current}


class CurrentLIF(_SynapticNeuron):
    """LIF neuron with an excitatory and an inhibitory current in the unit of the potential, integrated exactly:
    tau dv/dt = -(v - v_rest) + g_e + g_i, and tau_e dg_e/dt = -g_e, tau_i dg_i/dt = -g_i.

        v[t] = v_rest + keep (v[t-1] - v_rest) + gain_e g_e[t-1] + gain_i g_i[t-1]         unless refractory
        g_e[t] = exp(-dt / tau_e) g_e[t-1] + excitatory[t],   g_i likewise

    It fires, resets and pauses as `SynapticLIF`. The defaults are those of the CUBA benchmark.

    Args:
        tau: membrane time constant, in the unit of `dt`; it and the parameters below are fixed as a number or tensor,
            learned as an `nn.Parameter`.
        tau_e: time constant of the excitatory current.
        tau_i: time constant of the inhibitory current.
        v_threshold, v_reset, v_rest, refractory, surrogate, dt: as for `SynapticLIF`.

    Shape:
        two inputs `excitatory` and `inhibitory` `[T, B, *features]`; states `v`, `g_e`, `g_i`, `clock`
        `[B, *features]`.

    Raises:
        ArgumentError: if a time constant, `refractory` or `dt` is not above 0.

    Source: Brette et al., "Simulation of networks of spiking neurons", J. Comput. Neurosci. 23, 2007, benchmark 2,
    after Vogels and Abbott, J. Neurosci. 25, 2005.
    """

    inputs = ("excitatory", "inhibitory")
    state = {"v": "v_rest", "g_e": 0.0, "g_i": 0.0, "clock": 0.0}
    params = {**_MEMBRANE, "v_rest": Param(-49.0, "mV"), "tau_e": Param(5.0, "ms", above=0.0)} | {
        "tau_i": Param(10.0, "ms", above=0.0)
    }

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        keep = torch.exp(-self.dt / p["tau"])
        synapses = {f"keep_{k}": torch.exp(-self.dt / p[f"tau_{k}"]) for k in "ei"}
        synapses |= {f"gain_{k}": self.gain(p["tau"], p[f"tau_{k}"]) for k in "ei"}
        rest = {name: p[name] for name in ("v_threshold", "v_reset", "v_rest")}
        steps = torch.round(p["refractory"] / self.dt)
        return {"keep": keep, "pull": (1 - keep) * p["v_rest"], **synapses, **rest, "refractory": steps}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        v = p.pull + s.v * p.keep + s.g_e * p.gain_e + s.g_i * p.gain_i
        currents = {"g_e": s.g_e * p.keep_e + x.excitatory, "g_i": s.g_i * p.keep_i + x.inhibitory}
        return {**self.clocked(s, v), **currents}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {**self.after_spike(h, z, p), "g_e": h.g_e, "g_i": h.g_i}


class ConductanceLIF(_SynapticNeuron):
    """LIF neuron with an excitatory and an inhibitory conductance, in units of the leak's:
    tau dv/dt = -(v - v_rest) + g_e (reversal_e - v) + g_i (reversal_i - v), the conductances decaying on their own.

        v[t] = v[t-1] + (dt / tau) (v_rest - v + g_e (reversal_e - v) + g_i (reversal_i - v))     of t-1; forward Euler
        g_e[t] = exp(-dt / tau_e) g_e[t-1] + excitatory[t],   g_i likewise

    It fires, resets and pauses as `SynapticLIF`. The defaults are those of the COBA benchmark; its weights are 0.6 and
    6.7 (6 nS and 67 nS to a leak of 10 nS).

    Args:
        tau: membrane time constant, in the unit of `dt`; it and the parameters below are fixed as a number or tensor,
            learned as an `nn.Parameter`.
        tau_e, tau_i: time constants of the conductances.
        reversal_e, reversal_i: their reversal potentials.
        v_threshold, v_reset, v_rest, refractory, surrogate, dt: as for `SynapticLIF`.

    Shape:
        two inputs `excitatory` and `inhibitory` `[T, B, *features]`; states `v`, `g_e`, `g_i`, `clock`
        `[B, *features]`.

    Raises:
        ArgumentError: if a time constant, `refractory` or `dt` is not above 0.

    Source: Brette et al., "Simulation of networks of spiking neurons", J. Comput. Neurosci. 23, 2007, benchmark 1,
    after Vogels and Abbott, J. Neurosci. 25, 2005.
    """

    inputs = ("excitatory", "inhibitory")
    state = {"v": "v_rest", "g_e": 0.0, "g_i": 0.0, "clock": 0.0}
    params = {**_MEMBRANE, "tau_e": Param(5.0, "ms", above=0.0), "tau_i": Param(10.0, "ms", above=0.0)} | {
        "reversal_e": Param(0.0, "mV"),
        "reversal_i": Param(-80.0, "mV"),
    }

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {f"keep_{k}": torch.exp(-self.dt / p[f"tau_{k}"]) for k in "ei"}
        rest = {name: v for name, v in p.items() if name not in ("tau", "tau_e", "tau_i", "refractory")}
        return {"rate": self.dt / p["tau"], **kept, **rest, "refractory": torch.round(p["refractory"] / self.dt)}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        current = p.v_rest - s.v + s.g_e * (p.reversal_e - s.v) + s.g_i * (p.reversal_i - s.v)
        conductances = {"g_e": s.g_e * p.keep_e + x.excitatory, "g_i": s.g_i * p.keep_i + x.inhibitory}
        return {**self.clocked(s, s.v + current * p.rate), **conductances}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {**self.after_spike(h, z, p), "g_e": h.g_e, "g_i": h.g_i}
