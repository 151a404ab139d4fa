"""`Plastic`: a connection and its neurons that learn while they run."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError
from spikenet.learning.spike_rule import SpikeRule, TraceState
from spikenet.learning.synapses import synapses
from spikenet.learning.three_factor import EligibilityState, ThreeFactor
from spikenet.neurons import Neuron
from spikenet.neurons.carry import carrier

__all__ = ["Plastic", "PlasticState"]


class PlasticState(NamedTuple):
    """The neurons' state and the rule's, each None before the first step."""

    neuron: Any
    rule: TraceState | EligibilityState | None


class Plastic(nn.Module):
    """`neuron(connection(x))`, whose connection follows a local rule from step to step while `training` is on.

        z[t], s[t] = step of the neurons(connection(x[t]), s[t-1])
        the rule's step with x[t] as incoming and z[t] as outgoing spikes

    so that a step runs with the weights that the one before left. Parts of a sequence, steps and a
    `spikenet.layers.Stream` give what the whole gives. After `eval()` nothing changes, and all steps run at once. No
    gradient reaches the input of a layer that learns.

    Args:
        connection: a `torch.nn.Linear`, `Conv1d` or `Conv2d` (spikenet's, which takes `[T, B, ...]`).
        neuron: any neuron of one input.
        rule: a `SpikeRule`, or a `ThreeFactor`, which needs a modulator on each call of `run`.

    Shape:
        `[T, B, ...]` -> `[T, B, ...]`, as the connection's.

    Raises:
        ArgumentError: for a connection or rule that is none, and on a call for a modulator that is missing, or that the
            rule does not take.
    """

    State = PlasticState

    def __init__(self, connection: nn.Module, neuron: Neuron, rule: SpikeRule | ThreeFactor) -> None:
        super().__init__()
        if not isinstance(rule, SpikeRule | ThreeFactor):
            raise ArgumentError(f"Plastic takes a SpikeRule or a ThreeFactor, got {type(rule).__name__}")
        synapses(connection)
        self.connection, self.neuron, self.rule = connection, neuron, rule

    def forward(self, x: Tensor) -> Tensor:
        """Run from the initial state, or on in a stream; returns the spikes."""
        running = carrier()
        if running is None:
            return self.run(x)[0]
        key, state = running.take(self, x)
        spikes, state = self.run(x, state)
        running.put(key, state)
        return spikes

    def run(
        self, x: Tensor, state: PlasticState | None = None, modulator: Tensor | None = None
    ) -> tuple[Tensor, PlasticState]:
        """A chunk `[T, B, ...]` from `state`, with the rule's `modulator` `[T, B]` or `[T, B, O]` if it takes one;
        returns spikes and state."""
        cells, held = PlasticState(None, None) if state is None else state
        if not self.training:
            spikes, cells = self.neuron.run(self.connection(x), cells)
            return spikes, PlasticState(cells, held)
        made = []
        with torch.no_grad():
            for t in range(len(x)):
                now = x[t : t + 1]
                spikes, cells = self.neuron.run(self.connection(now), cells)
                third = None if modulator is None else modulator[t : t + 1]
                held = self._learn(now, spikes, held, third)
                made.append(spikes)
            if not made:
                spikes, cells = self.neuron.run(self.connection(x), cells)
        return torch.cat(made) if made else spikes, PlasticState(cells, held)

    def _learn(self, x: Tensor, z: Tensor, held: Any, modulator: Tensor | None) -> TraceState | EligibilityState:
        if isinstance(self.rule, SpikeRule) and modulator is None:
            return self.rule.run(x, z, self.connection, held)
        if isinstance(self.rule, ThreeFactor) and modulator is not None:
            return self.rule.run(x, z, self.connection, modulator, held)
        wants = "needs a modulator" if modulator is None else "takes no modulator"
        raise ArgumentError(f"Plastic.run: {type(self.rule).__name__} {wants}")

    def step(
        self, x: Tensor, state: PlasticState | None = None, modulator: Tensor | None = None
    ) -> tuple[Tensor, PlasticState]:
        """One step `[B, ...]`; see `run`."""
        spikes, state = self.run(x[None], state, None if modulator is None else modulator[None])
        return spikes[0], state
