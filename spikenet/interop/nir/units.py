"""What NIR has as a node and the other rooms have no layer for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import StateError
from spikenet.neurons import NO_RESET, Neuron, Param
from spikenet.neurons.carry import carrier
from spikenet.neurons.lif import Leaky
from spikenet.neurons.surrogate import Identity

__all__ = ["CubaLeakyIntegrator", "Delay", "DelayLine", "Integrator", "LeakyIntegrator", "Scale", "Threshold"]


class Scale(nn.Module):
    """`y = scale x`, a factor a feature.

    Args:
        scale: the factors, of a shape that broadcasts against the features.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype)


class DelayLine(NamedTuple):
    """What a `Delay` carries: its last inputs, `[longest, B, *features]`, oldest first."""

    inputs: Tensor


class Delay(nn.Module):
    """`y[t] = x[t - steps]`, a delay a feature, of whole steps; silence before the first step.

    Args:
        steps: int64, 0 or more, `[*features]` or one number.

    Shape:
        `[T, B, *features]` -> the same; state `inputs` `[longest, B, *features]`.

    Raises:
        StateError: if a state is not that of such an input.
    """

    steps: Tensor
    State = DelayLine

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)

    def forward(self, x: Tensor) -> Tensor:
        """A whole sequence from silence, or a stream's next part."""
        running = carrier()
        if running is None:
            return self.run(x)[0]
        key, state = running.take(self, x)
        y, state = self.run(x, state)
        running.put(key, state)
        return y

    def run(self, x: Tensor, state: DelayLine | None = None) -> tuple[Tensor, DelayLine]:
        """A chunk from `state`; returns its output and the next state."""
        longest = int(self.steps.max())
        before = x.new_zeros(longest, *x.shape[1:]) if state is None else state.inputs
        if before.shape != (longest, *x.shape[1:]) or before.dtype != x.dtype:
            raise StateError(f"Delay: the state is {tuple(before.shape)}, the input needs {longest, *x.shape[1:]}")
        known = torch.cat([before, x])
        at = torch.arange(len(x), device=x.device).view(-1, *(1,) * (x.ndim - 1)) + longest - self.steps
        return known.gather(0, at.expand(x.shape)), DelayLine(known[len(x) :])

    def step(self, x: Tensor, state: DelayLine | None = None) -> tuple[Tensor, DelayLine]:
        """One step `[B, *features]` from `state`; returns one step of output and the next state."""
        y, state = self.run(x.unsqueeze(0), state)
        return y.squeeze(0), state


class Threshold(Neuron):
    """A step function without a memory: `z = 1` where `x >= v_threshold`, else 0.

    Args:
        v_threshold: where the step is.
        surrogate: its slope in the backward pass, or its name.
    """

    state = {"v": 0.0}
    params = {"v_threshold": 1.0}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": x.x}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v}


class Integrator(Neuron):
    """`v[t] = v[t-1] + x[t]`; its output is the potential."""

    state = {"v": 0.0}
    emit = Identity()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v}


class LeakyIntegrator(Leaky):
    """A leaky integrator that never fires, `LIF` without a spike; its output is the potential.

    Args:
        tau, v_rest, decay_input, exact_decay, dt: as for `LIF`.
    """

    params = {"tau": Param(2.0, "time", above=0.0), "v_rest": 0.0}
    emit = Identity()

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        decay_input: bool = True,
        exact_decay: bool = False,
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
        **more: float | Tensor,
    ) -> None:
        self.exact_decay = exact_decay
        super().__init__(decay_input, v_reset=NO_RESET, detach_reset=False, dt=dt, tau=tau, v_rest=v_rest, **more)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rate": self.decay_rate(p["tau"]), "v_rest": p["v_rest"]}

    def decay_rate(self, tau: Tensor) -> Tensor:
        """The share that decays in a step."""
        return -torch.expm1(-self.dt / tau) if self.exact_decay else self.dt / tau

    def fire(self, h: Any, p: Any) -> Any:
        return h.v


class CubaLeakyIntegrator(LeakyIntegrator):
    """A leaky integrator driven by a synaptic current, `CubaLIF` without a spike; its output is the potential.

    Args:
        tau_syn: time constant of the current.
        tau, v_rest, decay_input, exact_decay, dt: as for `CubaLIF`.
    """

    state = {"v": "v_rest", "current": 0.0}
    params = {**LeakyIntegrator.params, "tau_syn": Param(2.0, "time", above=0.0)}

    def __init__(self, tau: float | Tensor = 2.0, tau_syn: float | Tensor = 2.0, **options: Any) -> None:
        super().__init__(tau, tau_syn=tau_syn, **options)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"keep_syn": 1 - self.decay_rate(p["tau_syn"]), **super().derive(p)}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        current = s.current * p.keep_syn + x.x
        return {"v": self.leak(s.v, current, p), "current": current}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v, "current": h.current}
