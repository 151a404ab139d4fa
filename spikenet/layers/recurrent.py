"""`Recurrent`: a neuron whose output comes back to it through dense weights, one step later."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DeviceError, ShapeError, StateError, UnknownNameError
from spikenet.kernels.recurrent import recurrent_scan
from spikenet.neurons import Neuron
from spikenet.neurons.carry import carrier

__all__ = ["Recurrent", "RecurrentState"]


class RecurrentState(NamedTuple):
    """What a `Recurrent` layer carries: its last output `[B, N]`, and its neuron's state."""

    z: Tensor
    neuron: Any


class Recurrent(nn.Module):
    """A neuron population with all-to-all connections of its own.

        z[t], s[t] = step(x[t] + W z[t-1] + b, s[t-1])        z[-1] = 0

    where `step` is one step of `neuron`, whose other inputs, if it has any, stay as they are. Called, run, stepped,
    traced and streamed like the neuron itself. A chunk, a step and the whole sequence agree to the last bit.

    No graph grows with the number of steps; for the backward pass each input is kept, with what was heard. On the CPU a
    Numba kernel goes through all steps of a batch entry and adds, in ascending order, the columns of `W` whose neurons
    spiked, at a cost in proportion to the spikes (float32 and float64, up to 512 features); elsewhere each step is a
    matrix product and the neuron's kernel.

    Args:
        neuron: any `Neuron`; its parameters may be learned.
        features: N, the number of neurons.
        into: the name of the input that hears the recurrence; may be left out where there is only one.
        bias: learn an additive bias, from 0.
        autapses: let a neuron connect to itself; if False, the diagonal of `weight` has no effect.
        device: where the weights are made.
        dtype: of the weights; they are converted to the input's for the product.

    Attributes:
        weight: W, `[N, N]`, from column to row; at first a random orthogonal matrix.
        bias: b, `[N]`, or None.

    Shape:
        Inputs `[T, B, N]` -> output `[T, B, N]`; state: `z` `[B, N]` in the input's dtype, and the
        `neuron`'s own.

    Raises:
        ArgumentError: if `neuron` is no `Neuron` or its emission a `ScoreFunction`, `features` no whole number above 0,
            or `into` missing where it is needed.
        UnknownNameError: if the neuron has no input `into`.
        ShapeError, DeviceError, StateError: on a call, if an input or state does not go with the weights.

    Source: recurrence within a layer as in Bittar and Garner, Frontiers in Neuroscience 16:865897 (2022), and in the
    code of Baronig et al. (see `SEAdLIF`); the orthogonal start: Saxe et al., ICLR 2014.
    """

    State = RecurrentState

    def __init__(
        self,
        neuron: Neuron,
        features: int,
        *,
        into: str | None = None,
        bias: bool = False,
        autapses: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise ArgumentError(f"Recurrent takes a Neuron, got {type(neuron).__name__}, which has no single step")
        if getattr(neuron.emit, "detaches_reset", False):
            raise ArgumentError(
                f"Recurrent sends gradients through the spikes that come back, which {neuron.emit} does not allow; "
                "ScaledStraightThrough would work"
            )
        if not hasattr(features, "__index__") or features < 1:
            raise ArgumentError(f"Recurrent.features must be a whole number above 0, got {features!r}")
        self.neuron, self.features, self.autapses = neuron, features, autapses
        self.into = named_input(neuron, into)
        self.weight = nn.Parameter(torch.empty(features, features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A random orthogonal matrix, and a bias of 0."""
        start = torch.empty_like(self.weight, dtype=torch.promote_types(self.weight.dtype, torch.float32))
        with torch.no_grad():
            self.weight.copy_(nn.init.orthogonal_(start))  # half precision has no QR
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run whole sequences `[T, B, N]` from the initial state; returns the output sequence."""
        running = carrier()
        if running is None:
            return self._scan(*self._split(inputs))[0]
        key, state = running.take(self, inputs[0])
        output, state = self.run(*inputs, state)
        running.put(key, state)
        return output

    def run(self, *inputs: Any, **state: Any) -> tuple[Tensor, RecurrentState]:
        """`run(*inputs, state=initial)`: a chunk `[T, B, N]` from `state`; returns (output, state)."""
        sequences, before = self._split(inputs, **state)
        output, after, _ = self._scan(sequences, before, final=True)
        return output, after

    def step(self, *inputs: Any, **state: Any) -> tuple[Tensor, RecurrentState]:
        """`step(*inputs, state=initial)`: one step `[B, N]`; returns (output, state)."""
        sequences, before = self._split(inputs, **state)
        output, after, _ = self._scan([x.unsqueeze(0) for x in sequences], before, final=True)
        return output.squeeze(0), after

    def trace(self, *inputs: Any, **state: Any) -> tuple[Tensor, RecurrentState]:
        """`trace(*inputs, state=initial)`: returns the output and the state after every step, `[T, B, N]`."""
        sequences, before = self._split(inputs, **state)
        output, _, states = self._scan(sequences, before, trace=True)
        return output, RecurrentState(output, states)

    def initial_state(self, like: Tensor) -> RecurrentState:
        """The state before the first step for a batch like `like` `[B, N]`; see `Neuron.initial_state`."""
        return RecurrentState(torch.zeros_like(like), self.neuron.initial_state(like))

    def _split(self, inputs: tuple[Any, ...], **state: Any) -> tuple[list[Tensor], Any]:
        return self.neuron._split(inputs, state)

    def _scan(
        self, inputs: list[Tensor], state: Any, *, final: bool = False, trace: bool = False
    ) -> tuple[Tensor, Any, Any]:
        """As the neuron's, with what it hears of itself added to one input."""
        self.neuron._checked(inputs)
        at = self.neuron.inputs.index(self.into)
        x = self._checked(inputs[at])
        z, before = self._fitting(state, x)
        if self.bias is not None:
            inputs[at] = x + self.bias.to(x.dtype)
        by = functools.partial(recurrent_scan, weight=self._weight(x.dtype), z=z, into=at)
        output, after, states = self.neuron._scan(inputs, before, final=final, trace=trace, by=by)
        last = output[-1].clone() if len(output) else z
        return output, RecurrentState(last, after) if final else None, states

    def _weight(self, dtype: torch.dtype) -> Tensor:
        weight = self.weight.to(dtype)
        if self.autapses:
            return weight
        return weight.masked_fill(torch.eye(self.features, dtype=torch.bool, device=weight.device), 0.0)

    def _checked(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[-1] != self.features:
            raise ShapeError(f"Recurrent takes [T, B, {self.features}], got {tuple(x.shape)}")
        if x.device != self.weight.device:
            raise DeviceError(f"Recurrent.weight is on {self.weight.device}, the input on {x.device}; move one of them")
        return x

    def _fitting(self, state: Any, x: Tensor) -> tuple[Tensor, Any]:
        """The output before the first step and the neuron's state, if they fit a chunk like `x`."""
        if state is None:
            return x.new_zeros(x.shape[1:]), None
        if not isinstance(state, RecurrentState):
            raise StateError(f"Recurrent takes a RecurrentState of z and neuron, got {state!r:.80}")
        z = state.z
        if z.shape != x.shape[1:] or z.device != x.device or z.dtype != x.dtype:
            raise StateError(
                f"Recurrent: the state 'z' is {tuple(z.shape)} {z.dtype} on {z.device}, but the input needs "
                f"{tuple(x.shape[1:])} {x.dtype} on {x.device}; start a new state for another batch"
            )
        return z, state.neuron

    def extra_repr(self) -> str:
        return f"{self.features}, into={self.into!r}, bias={self.bias is not None}, autapses={self.autapses}"


def named_input(neuron: Neuron, into: str | None) -> str:
    """The neuron's input that hears the recurrence."""
    if into is None and len(neuron.inputs) == 1:
        return neuron.inputs[0]
    if into is None:
        raise ArgumentError(
            f"{type(neuron).__name__} has the inputs {', '.join(neuron.inputs)}: say which hears the recurrence (into=)"
        )
    if into not in neuron.inputs:
        raise UnknownNameError(f"input of {type(neuron).__name__}", into, neuron.inputs)
    return into
