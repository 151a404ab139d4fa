"""E-prop: recurrent networks that learn forward in time, from eligibility traces and a broadcast error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.kernels.plasticity import Memory, eprop, trace
from spikenet.layers import Recurrent
from spikenet.neurons import ALIF

__all__ = ["EProp", "EPropState"]

BROADCASTS = ("symmetric", "random", "adaptive")


class EPropState(NamedTuple):
    """What goes from step to step: the recurrent layer's state, the output, and the eligibility."""

    recurrent: Any
    output: Tensor  # [B, out]
    heard: Tensor  # trace of what the neurons hear, [B, in + N]
    adaptation: Tensor | None  # [B, N, in + N]
    filtered: Tensor  # [B, N, in + N]
    spikes: Tensor  # filtered, [B, N]


class EProp(nn.Module):
    """A recurrent network of LIF or ALIF neurons with a leaky readout, and its e-prop gradient.

        v[t] = keep v[t-1] + W_in x[t] + W_rec z[t-1] - v_threshold z[t-1]        keep = exp(-dt / tau)
        a[t] = keep_a a[t-1] + z[t-1]                                           keep_a = exp(-dt / tau_adapt)
        z[t] = 1 where v[t] >= v_threshold + beta a[t], else 0
        y[t] = kappa y[t-1] + (1 - kappa) W_out z[t]                             kappa = exp(-dt / tau_out)

    `learn` takes the network through some steps and adds to the `.grad` of its weights, for any torch optimiser:

        dE/dW_ji = sum_t L_j[t] f_ji[t],   L_j[t] = sum_k B_jk dE/dy_k[t],   f = e filtered like the readout
        e_ji[t] = psi_j[t] (eps_v - beta_j eps_a),   A = v_threshold + beta a
        psi = (gamma / v_threshold) max(0, 1 - |(v - A) / v_threshold|)
        eps_v[t] = keep eps_v[t-1] + what is heard at t,   eps_a[t+1] = (keep_a - beta psi) eps_a[t] + psi eps_v[t]

    with nothing kept of the past but the eligibility, so that memory does not grow with time, and parts of a sequence,
    in the steps of one state, add up to the whole. Without recurrent weights this is the gradient of backpropagation
    through time (no gradient passing through the reset); with them it is the one in which the recurrent spikes are
    taken as given. There are no autapses. The gradient of W_out is exact.

    With `rate_cost` the error of each call of `learn` has one more term, of the rates r_j, in spikes a neuron and unit
    of time, over the steps and the batch of that call:

        E_rate = rate_cost / 2 sum_j (r_j - rate_target)^2,   dE_rate/dW_ji = dE_rate/dr_j sum_t e_ji[t] / (T B dt)

    Args:
        in_features, features, out_features: sizes; `features` is N.
        recurrent: whether the neurons hear each other.
        tau, tau_adapt, tau_out: time constants, in the unit of `dt`.
        beta: rise of a neuron's threshold with each spike, a number or `[N]`; 0 is a LIF neuron.
        v_threshold: threshold at rest.
        gamma: height of the pseudo-derivative.
        broadcast: B: "symmetric" is W_out transposed; "random" is drawn once, in `broadcast_weight`; "adaptive" begins
            so and is a parameter that gets the gradient of W_out, so that with the same decay of weights it comes to
            equal it.
        rate_target: rate to which neurons are drawn, spikes in the unit of time of `dt`.
        rate_cost: how strongly; 0 is not at all.
        dt: length of a step.

    Attributes:
        weight_in: `[N, in]`.
        recurrent: the layer of neurons; its `weight` is W_rec `[N, N]`, fixed at 0 without recurrence.
        weight_out: `[out, N]`.
        broadcast_weight: B transposed, `[out, N]`, or None.

    Shape:
        `[T, B, in]` -> y `[T, B, out]`.

    Raises:
        ArgumentError, UnknownNameError: for numbers or a broadcast that cannot be.

    Source: Bellec et al., Nature Communications 11, 2020, and the authors' code; without the refractory period. The
    initial weights, normal with variance 1 / fan-in, are ours.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        out_features: int,
        *,
        recurrent: bool = True,
        tau: float = 20.0,
        tau_adapt: float = 200.0,
        tau_out: float = 20.0,
        beta: float | Tensor = 0.0,
        v_threshold: float = 1.0,
        gamma: float = 0.3,
        broadcast: str = "symmetric",
        rate_target: float = 0.01,
        rate_cost: float = 0.0,
        dt: float = 1.0,
    ) -> None:
        super().__init__()
        if broadcast not in BROADCASTS:
            raise UnknownNameError("broadcast", broadcast, BROADCASTS)
        if min(in_features, features, out_features) < 1 or not (tau_out > 0 and v_threshold > 0 and gamma > 0):
            raise ArgumentError(
                "EProp needs sizes of 1 or more, tau_out, v_threshold and gamma above 0, got "
                f"{in_features}, {features}, {out_features}, {tau_out}, {v_threshold}, {gamma}"
            )
        if not (0 <= rate_target < math.inf and 0 <= rate_cost < math.inf):
            raise ArgumentError(
                f"EProp needs a rate_target and a rate_cost of 0 or more, got {rate_target}, {rate_cost}"
            )
        neuron = ALIF(tau, tau_adapt, beta, v_threshold, dt=dt)
        self.recurrent = Recurrent(neuron, features, autapses=False)
        self.weight_in = nn.Parameter(torch.empty(features, in_features))
        self.weight_out = nn.Parameter(torch.empty(out_features, features))
        self.tau, self.tau_adapt, self.gamma, self.broadcast, self.dt = tau, tau_adapt, gamma, broadcast, dt
        self.rate_target, self.rate_cost = rate_target, rate_cost
        self.kappa = math.exp(-dt / tau_out)
        self.connected = recurrent
        self.recurrent.weight.requires_grad_(recurrent)
        drawn = torch.empty(out_features, features)
        self.broadcast_weight: Tensor | None
        if broadcast == "adaptive":
            self.broadcast_weight = nn.Parameter(drawn)
        else:
            self.register_buffer("broadcast_weight", drawn if broadcast == "random" else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        with torch.no_grad():
            for weight in (self.weight_in, self.recurrent.weight, self.weight_out, self.broadcast_weight):
                if weight is not None:
                    weight.normal_(0.0, weight.shape[1] ** -0.5)
            if not self.connected:
                self.recurrent.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """The output, with no gradient of its own: `learn` gives it."""
        return self.run(x)[0]

    @torch.no_grad()
    def run(self, x: Tensor, state: EPropState | None = None) -> tuple[Tensor, EPropState]:
        """A chunk `[T, B, in]` from `state`, without learning: the eligibility stays. Returns y and state."""
        state = self.initial_state(x) if state is None else state
        spikes, _, recurrent = self._advance(x, state)
        output, last = self._read(spikes, state)
        return output, state._replace(recurrent=recurrent, output=last)

    @torch.no_grad()
    def learn(
        self, x: Tensor, error: Callable[[Tensor], Tensor], state: EPropState | None = None
    ) -> tuple[Tensor, EPropState]:
        """A chunk `[T, B, in]` from `state`, adding to the weights' `.grad`.

        Args:
            x: the input.
            error: from the output y `[T, B, out]` of the chunk to dE/dy of the same shape, as `lambda y: y - target`.
            state: where the sequence goes on; none begins anew.

        Returns:
            y and the state.

        Raises:
            ShapeError: for an error of another shape.
        """
        state = self.initial_state(x) if state is None else state
        spikes, slope, recurrent = self._advance(x, state)
        output, last = self._read(spikes, state)
        told = error(output)
        if told.shape != output.shape:
            raise ShapeError(f"EProp: the error of an output {tuple(output.shape)} is {tuple(told.shape)}")
        earlier = torch.cat([state.recurrent.z[None], spikes[:-1]]) if len(x) else spikes
        before, heard = trace(torch.cat([x, earlier], 2), state.heard, math.exp(-self.dt / self.tau), False)
        eligible = before + torch.cat([x, earlier], 2)
        filtered, adaptation = state.filtered.clone(), state.adaptation
        adaptation = None if adaptation is None else adaptation.clone()
        gradient = self._gradient_so_far()
        feedback = self.weight_out if self.broadcast_weight is None else self.broadcast_weight
        pull = self._pull(spikes)
        signal = (1 - self.kappa) * (told @ feedback + pull)
        memory = Memory(math.exp(-self.dt / self.tau_adapt), self.kappa)
        beta = None if adaptation is None else self._beta().to(x)
        eprop(eligible, slope, signal, memory, gradient, filtered, beta, adaptation)
        # The sum of e over time, from that of f: (1 - kappa) sum f + kappa (last f - first f).
        gradient += self.kappa * pull[:, None] * (filtered - state.filtered).sum(0)
        self._set_gradient(gradient)
        kept, after = trace(spikes, state.spikes, self.kappa, False)
        shown = (1 - self.kappa) * torch.einsum("tbo,tbn->on", told, kept + spikes)
        for weight in (self.weight_out, self.broadcast_weight):
            if isinstance(weight, nn.Parameter):
                weight.grad = shown.clone() if weight.grad is None else weight.grad + shown
        return output, EPropState(recurrent, last, heard, adaptation, filtered, after)

    def initial_state(self, x: Tensor) -> EPropState:
        """The state before the first step of `x` `[T, B, in]`."""
        if x.ndim != 3 or x.shape[2] != self.weight_in.shape[1]:
            raise ShapeError(f"EProp takes [T, B, {self.weight_in.shape[1]}], got {tuple(x.shape)}")
        (n, ins), batch = self.weight_in.shape, x.shape[1]
        eligibility = x.new_zeros(batch, n, ins + n)
        adaptation = eligibility.clone() if bool(self._beta().any()) else None
        recurrent = self.recurrent.initial_state(x.new_zeros(batch, n))
        output, heard = x.new_zeros(batch, len(self.weight_out)), x.new_zeros(batch, ins + n)
        return EPropState(recurrent, output, heard, adaptation, eligibility, x.new_zeros(batch, n))

    def _beta(self) -> Tensor:
        return self.recurrent.neuron._declared()["beta"].expand(len(self.weight_in))

    def _advance(self, x: Tensor, state: EPropState) -> tuple[Tensor, Tensor, Any]:
        """Spikes and pseudo-derivatives, `[T, B, N]`, and the recurrent layer's state."""
        spikes, states = self.recurrent.trace(x @ self.weight_in.T, state.recurrent)
        declared: dict[str, Tensor] = self.recurrent.neuron._declared()
        threshold, beta = declared["v_threshold"], declared["beta"]
        potential = states.neuron.v + spikes * (threshold * math.exp(self.dt / self.tau))  # before the reset
        earlier = torch.cat([state.recurrent.neuron.b[None], states.neuron.b])[: len(x)]
        distance = (potential - (threshold + beta * earlier)) / threshold
        slope = self.gamma / threshold * (1 - distance.abs()).clamp(min=0.0)
        if not len(x):
            return spikes, slope, state.recurrent
        cells = type(states.neuron)(*(v[-1].clone() for v in states.neuron))
        return spikes, slope, type(state.recurrent)(spikes[-1].clone(), cells)

    def _read(self, spikes: Tensor, state: EPropState) -> tuple[Tensor, Tensor]:
        """The output in every step, and after the last."""
        driven = (1 - self.kappa) * (spikes @ self.weight_out.T)
        before, last = trace(driven, state.output, self.kappa, False)
        return before + driven, last

    def _pull(self, spikes: Tensor) -> Tensor:
        """dE_rate/dz of every spike of a neuron, `[N]`."""
        count = max(1, len(spikes) * spikes.shape[1]) * self.dt
        return self.rate_cost / count * (spikes.sum((0, 1)) / count - self.rate_target)

    def _gradient_so_far(self) -> Tensor:
        """Of the weights of all that is heard, `[N, in + N]`."""
        parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in (self.weight_in, self.recurrent.weight)]
        return torch.cat(parts, 1)

    def _set_gradient(self, gradient: Tensor) -> None:
        ins = self.weight_in.shape[1]
        self.weight_in.grad = gradient[:, :ins].clone()
        if self.connected:
            self.recurrent.weight.grad = gradient[:, ins:].clone().fill_diagonal_(0.0)

    def extra_repr(self) -> str:
        return f"recurrent={self.connected}, gamma={self.gamma:g}, kappa={self.kappa:.4g}, broadcast={self.broadcast!r}"
