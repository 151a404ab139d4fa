"""`DelayRecurrent`: a neuron whose output comes back to it through dense synapses with learned delays."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DeviceError, ShapeError, StateError
from spikenet.kernels.delay import Bump, Products, Steps, delay_steps, one_tap
from spikenet.kernels.dynamics import may_be_bound
from spikenet.layers.delay import DelayLinear
from spikenet.layers.recurrent import named_input
from spikenet.neurons import Neuron
from spikenet.neurons.carry import carrier

__all__ = ["DelayRecurrent", "DelayRecurrentState"]


class DelayRecurrentState(NamedTuple):
    """What a `DelayRecurrent` layer carries: its last outputs `[taps, B, N]`, oldest first, and its neuron's state."""

    z: Tensor
    neuron: Any


class DelayRecurrent(nn.Module):
    """A neuron population with all-to-all connections of its own, each with a delay of one step or more.

        z[t], s[t] = step(x[t] + b + sum_d K[d] z[t - 1 - d], s[t-1])        d = 0 .. taps - 1

    where `step` is one step of `neuron` and K are the taps of `synapses`, a `DelayLinear` from the population to
    itself: a spike is heard `1 + delay` steps after it was sent. In evaluation delays are rounded, as there.

    Steps run in a loop, each with one matrix product with all taps; autograd goes back through the loop. In evaluation
    on the CPU without gradients (`torch.no_grad()`) a step reads each synapse once, and adds up in another order. A
    chunk, a step and the whole sequence agree to the last bit.

    Args:
        neuron: any `Neuron`; its parameters may be learned.
        features: N, the number of neurons.
        taps: the number of steps that a synapse can reach; the longest delay is `taps` steps.
        into: the name of the input that hears the recurrence; may be left out where there is only one.
        elements, kernel, sigma, per, bias, device, dtype: as for `DelayLinear`.

    Attributes:
        synapses: the `DelayLinear` whose parameters they are.

    Shape:
        Inputs `[T, B, N]` -> output `[T, B, N]`; state: `z` `[taps, B, N]` in the input's dtype, and the `neuron`'s
        own.

    Raises:
        ArgumentError, UnknownNameError: as `Recurrent` and `DelayLinear`.
        ShapeError, DeviceError, StateError: on a call, if an input or state does not go with the synapses.
    """

    State = DelayRecurrentState

    def __init__(
        self,
        neuron: Neuron,
        features: int,
        taps: int,
        *,
        into: str | None = None,
        elements: int = 1,
        kernel: Bump | str = "gauss",
        sigma: float = 0.23,
        per: str = "synapse",
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise ArgumentError(f"DelayRecurrent takes a Neuron, got {type(neuron).__name__}, which has no single step")
        self.neuron, self.into = neuron, named_input(neuron, into)
        rest: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.synapses = DelayLinear(
            features, features, taps, elements=elements, kernel=kernel, sigma=sigma, per=per, **rest
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run whole sequences `[T, B, N]` from the initial state; returns the output sequence."""
        running = carrier()
        if running is None:
            return self.run(*inputs)[0]
        key, state = running.take(self, inputs[0])
        output, state = self.run(*inputs, state)
        running.put(key, state)
        return output

    def run(self, *inputs: Any, **state: Any) -> tuple[Tensor, DelayRecurrentState]:
        """`run(*inputs, state=initial)`: a chunk `[T, B, N]` from `state`; returns (output, state)."""
        sequences, before = self._split(inputs, state)
        at = self.neuron.inputs.index(self.into)
        x = self._checked(sequences[at])
        z, s = self.initial_state(x.new_zeros(x.shape[1:])) if before is None else self._fitting(before, x)
        outputs, steps = list(z.unbind()), self._steps(z[0])
        for sent in outputs if before is not None else ():
            steps.send(sent)
        for t in range(len(x)):
            total = x[t] + steps.heard()
            if self.synapses.bias is not None:
                total = total + self.synapses.bias.to(x.dtype)
            now = [total if n == at else i[t] for n, i in enumerate(sequences)]
            sent, s = self.neuron.step(*now, s)
            outputs.append(sent)
            steps.send(sent)
        taps = len(z)
        output = torch.stack(outputs[taps:]) if len(x) else x.new_zeros(x.shape)
        return output, DelayRecurrentState(torch.stack(outputs[-taps:]), s)

    def step(self, *inputs: Any, **state: Any) -> tuple[Tensor, DelayRecurrentState]:
        """`step(*inputs, state=initial)`: one step `[B, N]`; returns (output, state)."""
        sequences, before = self._split(inputs, state)
        output, after = self.run(*(x.unsqueeze(0) for x in sequences), state=before)
        return output.squeeze(0), after

    def sends(self, _: Tensor, output: Tensor) -> tuple[Tensor, nn.Module]:
        """See `DelayLinear.sends`: its own output goes through its synapses, each spike when it is sent."""
        return self.synapses.sends(output, output)

    def initial_state(self, like: Tensor) -> DelayRecurrentState:
        """The state before the first step for a batch like `like` `[B, N]`; see `Neuron.initial_state`."""
        return DelayRecurrentState(
            like.new_zeros(self.synapses.taps, *like.shape), self.neuron.initial_state(like.detach())
        )

    def _split(self, inputs: tuple[Any, ...], state: dict[str, Any]) -> tuple[list[Tensor], Any]:
        if state.get("state", 0) is None:
            state = {}
        return self.neuron._split(inputs, state)

    def _steps(self, like: Tensor) -> Steps:
        """What is heard step by step, after silence."""
        own = self.synapses
        if self.training:
            own.clamp_()
            return Products(like, own.synapses().to(like.dtype))
        if torch.is_grad_enabled() or not may_be_bound((like,)):
            return Products(like, one_tap(own.weight, own.rounded(), own.taps).to(like.dtype))
        return delay_steps(like, own.weight, own.delay, own.taps, "DelayLinear.delay")

    def _checked(self, x: Tensor) -> Tensor:
        own = self.synapses
        if x.ndim != 3 or x.shape[-1] != own.in_features:
            raise ShapeError(f"DelayRecurrent takes [T, B, {own.in_features}], got {tuple(x.shape)}")
        if x.device != own.weight.device:
            raise DeviceError(f"DelayRecurrent is on {own.weight.device}, the input on {x.device}; move one of them")
        return x

    def _fitting(self, state: Any, x: Tensor) -> DelayRecurrentState:
        shape = (self.synapses.taps, *x.shape[1:])
        if not isinstance(state, DelayRecurrentState):
            raise StateError(f"DelayRecurrent takes a DelayRecurrentState of z and neuron, got {state!r:.80}")
        z = state.z
        if tuple(z.shape) != shape or z.device != x.device or z.dtype != x.dtype:
            raise StateError(
                f"DelayRecurrent: the state 'z' is {tuple(z.shape)} {z.dtype} on {z.device}, but the input needs "
                f"{shape} {x.dtype} on {x.device}; start a new state for another batch"
            )
        return state
