"""SpikingJelly: its modules and weights as spikenet's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop.nir.units import Integrator, LeakyIntegrator
from spikenet.interop.old_names import slope_of
from spikenet.interop.packages import package
from spikenet.interop.sequences import OverTime, rebuilt, sequence_layer
from spikenet.neurons import IF, LIF, PLIF, CubaLIF, Neuron

__all__ = ["from_spikingjelly"]


def from_spikingjelly(module: nn.Module) -> nn.Module:
    """A network of SpikingJelly's as one of spikenet's, with copies of its weights and the same spikes.

    It takes whole sequences `[T, B, ...]`, whatever the step mode was, and keeps no state between calls: nothing is
    left for `reset_net` to do. `IFNode`, `LIFNode`, `ParametricLIFNode`, `CUBALIFNode` and the neurons that do not
    spike become `IF`, `LIF`, `PLIF`, `CubaLIF` and integrators; layers with a step mode the sequence layers of
    `spikenet.layers`; `SeqToANNContainer` an `OverTime`; `LinearRecurrentContainer` a `Recurrent`. A module with a
    forward of its own, such as `Spikformer` or one of yours, keeps it, around its converted children; so it must not
    loop over time itself.

    Args:
        module: the network; it is not changed.

    Raises:
        UnknownNameError: for a neuron, a layer with a state or a surrogate that has no counterpart here.
        ArgumentError: for an option that has none.
        PackageError: without the package spikingjelly.

    Source: SpikingJelly 2.0.0.
    """
    base = "spikingjelly.activation_based"
    return _Converter(*(package(f"{base}.{part}") for part in ("neuron", "layer", "base"))).module(module)


class _Converter:
    def __init__(self, neuron: Any, layer: Any, base: Any) -> None:
        self.layer, self.stateful, self.step_module = layer, base.MemoryModule, base.StepModule
        self.neurons: Mapping[type, Callable[[Any], nn.Module]] = {
            neuron.IFNode: self._if,
            neuron.LIFNode: self._lif,
            neuron.ParametricLIFNode: self._plif,
            neuron.CUBALIFNode: self._cuba,
            neuron.NonSpikingIFNode: lambda m: self._graded(m, Integrator()),
            neuron.NonSpikingLIFNode: lambda m: self._graded(m, LeakyIntegrator(_exact(m.tau))),
        }

    def module(self, module: nn.Module) -> nn.Module:
        kind = type(module)
        if kind in self.neurons:
            return self.neurons[kind](module)
        if kind is self.layer.LinearRecurrentContainer:
            return self._recurrent(module)
        if kind is self.layer.SeqToANNContainer:
            return OverTime(*rebuilt(module, self._inside).children())
        if isinstance(module, self.stateful):
            known = (each.__name__ for each in (*self.neurons, self.layer.LinearRecurrentContainer))
            raise UnknownNameError("SpikingJelly module with a state", kind.__name__, known)
        torchs = next(each for each in kind.__mro__ if each.__module__.startswith("torch.nn"))
        if isinstance(module, self.step_module) and torchs not in (nn.Module, nn.Sequential):
            layer = sequence_layer(module, torchs)
            if layer is None:
                raise UnknownNameError(
                    "SpikingJelly layer", kind.__name__, ("Conv2d", "Linear", "MaxPool2d", "Flatten")
                )
            return layer
        return rebuilt(module, self.module)

    def _inside(self, module: nn.Module) -> nn.Module:
        """What time is folded around already stays as it is."""
        if isinstance(module, self.stateful):
            raise ArgumentError(f"{type(module).__name__} in a SeqToANNContainer would take time for batch")
        return rebuilt(module, self._inside)

    def _fires(self, m: Any) -> dict[str, Any]:
        """What all of their neurons have; a membrane rests at the reset potential."""
        v_reset = None if m.v_reset is None else _exact(m.v_reset)
        numbers = {"v_threshold": _exact(m.v_threshold), "v_reset": v_reset, "v_rest": _exact(m.v_reset or 0.0)}
        return {**numbers, "surrogate": slope_of(m.surrogate_function), "detach_reset": m.detach_reset}

    def _if(self, m: Any) -> Neuron:
        return IF(**self._fires(m))

    def _lif(self, m: Any) -> Neuron:
        return LIF(_exact(m.tau), decay_input=m.decay_input, **self._fires(m))

    def _plif(self, m: Any) -> Neuron:
        neuron = PLIF(decay_input=m.decay_input, **self._fires(m))
        neuron.w = nn.Parameter(m.w.detach().clone())
        return neuron

    def _cuba(self, m: Any) -> Neuron:
        if m.v_reset:
            raise ArgumentError(f"CUBALIFNode starts at v_reset = {m.v_reset} and decays to 0, which CubaLIF cannot")
        taus = (_time_constant(m.v_decay), _time_constant(m.c_decay))
        return CubaLIF(*taus, decay_input=False, **self._fires(m))

    def _graded(self, m: Any, neuron: nn.Module) -> nn.Module:
        if m.decode is None:
            raise ArgumentError(f"{type(m).__name__} without a decode returns a list; give it one, such as 'last_mem'")
        readouts = {"max-mem": layers.MaxReadout, "mean-mem": layers.MeanReadout, "last_mem": layers.LastReadout}
        if m.decode not in readouts:
            raise UnknownNameError("decode", m.decode, readouts)
        return nn.Sequential(neuron, readouts[m.decode]())

    def _recurrent(self, m: Any) -> nn.Module:
        neuron, weight = self.module(m.sub_module), m.rc.weight.detach()
        features, inputs = m.rc.out_features, m.rc.in_features - m.rc.out_features
        own = layers.Recurrent(neuron, features, dtype=weight.dtype, device=weight.device)  # type: ignore[arg-type]
        into = nn.Linear(inputs, features, bias=m.rc.bias is not None, dtype=weight.dtype, device=weight.device)
        with torch.no_grad():
            into.weight.copy_(weight[:, :inputs])
            own.weight.copy_(weight[:, inputs:])
            if m.rc.bias is not None:
                into.bias.copy_(m.rc.bias)
        return nn.Sequential(into, own)


def _exact(number: float) -> Tensor:
    """A Python number with all its digits, for networks in float64."""
    return torch.tensor(float(number), dtype=torch.float64)


def _time_constant(keep: float) -> Tensor:
    """Of a decay to `keep` in a step of 1, Euler's."""
    if not keep < 1:
        raise ArgumentError(f"a decay of {keep} is none; CubaLIF decays")
    return _exact(1 / (1 - keep))
