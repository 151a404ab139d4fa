"""Norse: its neurons and weights as spikenet's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spikenet import layers
from spikenet.errors import UnknownNameError
from spikenet.interop.nir.units import CubaLeakyIntegrator, LeakyIntegrator
from spikenet.interop.packages import package
from spikenet.interop.sequences import above, sequence_layer
from spikenet.neurons import IF, LIF, CubaLIF, Neuron, Surrogate
from spikenet.neurons.surrogate import fast_sigmoid

__all__ = ["from_norse"]


def from_norse(module: nn.Module, *, surrogate: Surrogate | str | None = None) -> nn.Module:
    """A neuron of Norse's, or a sequence of neurons and layers, as spikenet's, with copies of its weights and the same
    spikes.

    It takes whole sequences `[T, B, ...]` and returns spikes. `LIF`, `LIFCell`, `LIFBoxCell`, `IAF` and `IAFCell`
    become `CubaLIF`, `LIF` and `IF`; `LI`, `LICell` and `LIBoxCell` integrators; `LIFRecurrent` and
    `LIFRecurrentCell` a linear layer and a `Recurrent`; `SequentialState` an `nn.Sequential`, and torch's layers the
    sequence layers of `spikenet.layers`. Time constants are `1 / tau_inv`, with Norse's `dt`. A threshold becomes the
    next number, since a spike needs `v > v_th` there.

    Args:
        module: a neuron, a `SequentialState` or an `nn.Sequential`; it is not changed.
        surrogate: slope of the spikes; left out, that of Norse's default method "super".

    Raises:
        UnknownNameError: for a module or a method of surrogate that has no counterpart here.
        PackageError: without the package norse.

    Source: Norse 1.1.0.
    """
    return _Converter(package("norse.torch"), surrogate).module(module)


class _Converter:
    def __init__(self, norse: Any, surrogate: Surrogate | str | None) -> None:
        self.norse, self.surrogate = norse, surrogate

    def module(self, module: nn.Module) -> nn.Module:
        n, kind = self.norse, type(module)
        if kind in (n.SequentialState, nn.Sequential):
            return nn.Sequential(*map(self.module, module))  # type: ignore[call-overload]
        if kind in (n.LIFRecurrent, n.LIFRecurrentCell):
            return self._recurrent(module)
        if kind in (n.LIF, n.LIFCell, n.LIFBoxCell, n.IAF, n.IAFCell, n.LI, n.LICell, n.LIBoxCell):
            return self._neuron(module, current=kind in (n.LIF, n.LIFCell, n.LI, n.LICell))
        layer = sequence_layer(module, kind)
        if layer is None:
            known = "LIF", "LIFBoxCell", "LIFRecurrent", "IAF", "LI", "SequentialState", "Linear", "Conv2d", "Flatten"
            raise UnknownNameError("module of a Norse network", kind.__name__, known)
        return layer

    def _neuron(self, m: Any, current: bool) -> Neuron:
        p, fires = m.p, hasattr(m.p, "v_th")
        if not hasattr(p, "tau_mem_inv"):
            return IF(**self._fires(m))
        options = {"tau": 1 / p.tau_mem_inv, "v_rest": torch.as_tensor(p.v_leak), "dt": m.dt}
        if current:
            options["tau_syn"] = 1 / p.tau_syn_inv
        kinds: Any = ((LIF, CubaLIF) if fires else (LeakyIntegrator, CubaLeakyIntegrator))[current]
        neuron: Neuron = kinds(**options, **(self._fires(m) if fires else {}))
        return neuron

    def _fires(self, m: Any) -> dict[str, Any]:
        reset = getattr(getattr(m.p, "reset_method", None), "__name__", "reset_value")
        if reset not in ("reset_value", "reset_subtract"):
            raise UnknownNameError("reset method", reset, ("reset_value", "reset_subtract"))
        v_reset = None if reset == "reset_subtract" else torch.as_tensor(m.p.v_reset)
        return {"v_threshold": above(m.p.v_th), "v_reset": v_reset, "surrogate": self._slope(m)}

    def _slope(self, m: Any) -> Surrogate | str:
        if self.surrogate is not None:
            return self.surrogate
        if m.p.method != "super":
            raise UnknownNameError("surrogate method", m.p.method, ("super",))
        return fast_sigmoid(float(m.p.alpha))

    def _recurrent(self, m: Any) -> nn.Module:
        into, again = m.input_weights.detach(), m.recurrent_weights.detach()
        first = nn.Linear(into.shape[1], into.shape[0], bias=False, dtype=into.dtype, device=into.device)
        alone = not m.autapses and not bool(again.diagonal().any())  # Norse starts them at 0 and lets them stay
        rest: dict[str, Any] = {"autapses": not alone, "dtype": again.dtype, "device": again.device}
        own = layers.Recurrent(self._neuron(m, current=True), len(again), **rest)
        with torch.no_grad():
            first.weight.copy_(into)
            own.weight.copy_(again)
        return nn.Sequential(first, own)
