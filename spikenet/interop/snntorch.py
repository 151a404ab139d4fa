"""snnTorch: its neurons and weights as spikenet's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop.packages import package
from spikenet.interop.sequences import above, sequence_layer
from spikenet.kernels.dynamics.words import where
from spikenet.neurons import LIF, NO_RESET, CubaLIF, Neuron, Surrogate

__all__ = ["CubaLateResetLIF", "LateResetLIF", "from_snntorch"]


class _LateReset:
    """The reset belongs to the potential, not to the spike: a step that finds the potential at the threshold or above
    subtracts it (or starts from 0) before it can fire."""

    subtracts: bool
    late: bool

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        h = super().charge(s, x, d, p)  # type: ignore[misc]
        lower = h["v"] - p.v_threshold if self.subtracts else 0.0
        over = where(s.v >= p.v_threshold, 1.0, 0.0)
        return {**h, "v": where(s.v >= p.v_threshold, lower, h["v"]), "over": over}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        after = super().reset(h, z, p)  # type: ignore[misc]
        return after if self.late else {**after, "v": h.v - (z - h.over) * p.v_threshold}


class LateResetLIF(_LateReset, LIF):
    """LIF neuron with snnTorch's resets.

        h[t] = beta v[t-1] + x[t] - o[t] v_threshold        (or 0 where o[t], without `subtracts`)
        z[t] = 1 if h[t] >= v_threshold else 0,             o[t] = 1 if v[t-1] >= v_threshold else 0
        v[t] = h[t]                                         (late)
        v[t] = h[t] - (z[t] - o[t]) v_threshold             (not late)

    with `beta = 1 - dt / tau`.

    Args:
        tau, v_threshold, surrogate, dt: as for `LIF`.
        subtracts: subtract the threshold; otherwise start from 0.
        late: leave the potential as it is until the next step.

    Source: snnTorch 1.0.0, `Leaky` with `reset_delay`, from its behaviour.
    """

    def __init__(
        self, tau: Any, v_threshold: Any = 1.0, *, subtracts: bool = True, late: bool = True, **rest: Any
    ) -> None:
        self.subtracts, self.late = subtracts, late
        super().__init__(tau, v_threshold=v_threshold, v_reset=NO_RESET, decay_input=False, **rest)


class CubaLateResetLIF(_LateReset, CubaLIF):
    """`LateResetLIF` driven by a synaptic current, as `CubaLIF` is; a reset leaves the current.

    Args:
        tau_syn: time constant of the current.
        tau, v_threshold, subtracts, late, surrogate, dt: as for `LateResetLIF`.

    Source: snnTorch 1.0.0, `Synaptic`, from its behaviour.
    """

    def __init__(
        self, tau: Any, tau_syn: Any, v_threshold: Any = 1.0, *, subtracts: bool = True, late: bool = True, **rest: Any
    ) -> None:
        self.subtracts, self.late = subtracts, late
        super().__init__(tau, tau_syn, v_threshold=v_threshold, v_reset=NO_RESET, decay_input=False, **rest)


def from_snntorch(module: nn.Module, *, surrogate: Surrogate | str | None = None) -> nn.Module:
    """A neuron of snnTorch's, or a sequence of neurons and layers, as spikenet's, with copies of its weights and the
    same spikes.

    It takes whole sequences `[T, B, ...]` and returns spikes. `Leaky`, `Synaptic`, `RLeaky` and `RSynaptic` (with
    all-to-all linear recurrence) become `LIF`, `CubaLIF` or their forms with a late reset, and `Recurrent` ones of
    these; torch's layers the sequence layers of `spikenet.layers`. A threshold becomes the next number, since a spike
    needs `mem > threshold` there. What is learned stays learned, a decay as its time constant `1 / (1 - beta)`.

    Args:
        module: a neuron or an `nn.Sequential`; it is not changed. A network with a loop over time in its forward is
            converted layer by layer.
        surrogate: slope of the spikes. snnTorch's are functions that do not say what they are, so they cannot be read.

    Raises:
        UnknownNameError: for a module that has no counterpart here.
        ArgumentError: for an option that has none, or where `surrogate` is missing.
        PackageError: without the package snntorch.

    Source: snnTorch 1.0.0.
    """
    return _Converter(package("snntorch"), surrogate).module(module)


class _Converter:
    def __init__(self, snn: Any, surrogate: Surrogate | str | None) -> None:
        self.snn, self.surrogate = snn, surrogate

    def module(self, module: nn.Module) -> nn.Module:
        kind, snn = type(module), self.snn
        if kind in (snn.Leaky, snn.Synaptic):
            return self._neuron(module, synaptic=kind is snn.Synaptic)
        if kind in (snn.RLeaky, snn.RSynaptic):
            return self._recurrent(module, synaptic=kind is snn.RSynaptic)
        if kind is nn.Sequential:
            return nn.Sequential(*map(self.module, module))  # type: ignore[call-overload]
        layer = sequence_layer(module, kind)
        if layer is None:
            known = "Leaky", "Synaptic", "RLeaky", "RSynaptic", "Sequential", "Linear", "Conv2d", "Flatten"
            raise UnknownNameError("module of a snnTorch network", kind.__name__, known)
        return layer

    def _neuron(self, m: Any, synaptic: bool) -> Neuron:
        if self.surrogate is None:
            raise ArgumentError("snnTorch's surrogates do not say what they are: from_snntorch(net, surrogate='atan')")
        for option in ("inhibition", "state_quant"):
            if getattr(m, option, False):
                raise ArgumentError(f"{type(m).__name__}({option}=...) has no counterpart here")
        if isinstance(m.threshold, nn.Parameter):
            raise ArgumentError(f"{type(m).__name__}: a learned threshold cannot be moved to the next number")
        taus = [_time_constant(m, name) for name in ("beta", "alpha")[: 2 if synaptic else 1]]
        given: dict[str, Any] = {"v_threshold": above(m.threshold), "surrogate": self.surrogate}
        resets, late = m.reset_mechanism, m.reset_delay
        plain: Any = CubaLIF if synaptic else LIF
        if resets == "none":
            return plain(*taus, v_reset=NO_RESET, decay_input=False, **given)
        if resets == "zero" and (not late or type(m) is self.snn.Leaky):
            return plain(*taus, v_reset=0.0, decay_input=False, detach_reset=True, **given)
        kind: Any = CubaLateResetLIF if synaptic else LateResetLIF
        return kind(*taus, subtracts=resets == "subtract", late=late, **given)

    def _recurrent(self, m: Any, synaptic: bool) -> nn.Module:
        if not isinstance(m.recurrent, nn.Linear):
            raise ArgumentError(f"{type(m).__name__}: all-to-all linear recurrence can be converted, got {m.recurrent}")
        neuron, weight = self._neuron(m, synaptic), m.recurrent.weight.detach()
        bias = m.recurrent.bias is not None
        own = layers.Recurrent(neuron, m.recurrent.out_features, bias=bias, dtype=weight.dtype, device=weight.device)
        own.load_state_dict({**own.state_dict(), **m.recurrent.state_dict()})
        return own


def _time_constant(m: Any, name: str) -> Tensor:
    """Of the decay by `beta` or `alpha` in a step of 1, Euler's; learned if it was."""
    keep: Tensor = getattr(m, name)
    rate = 1 - keep.detach().clamp(0, 1)
    if bool((rate <= 0).any()):
        raise ArgumentError(f"{type(m).__name__}({name}=1) does not decay; LIF does, IF is for none")
    return nn.Parameter(1 / rate) if isinstance(keep, nn.Parameter) else 1 / rate
