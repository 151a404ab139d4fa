"""What is written down while a network runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.events import EventTensor
from spikenet.simulate.population import Cells, Population

if TYPE_CHECKING:
    from spikenet.kernels.simulate.plan import Recorded
    from spikenet.simulate.network import Network
    from spikenet.simulate.projection import Projection

__all__ = ["RateMonitor", "SpikeMonitor", "StateMonitor", "WeightMonitor"]


class Monitor:
    """Something that a network writes to: after every chunk of steps, and at the steps that it asks for."""

    every: int | None = None  # steps between two samples; None asks for none
    cells: Cells
    _dt = 0.0  # of its network, once it has one

    def prepare(self, network: Network) -> None:
        """Called when the network is made.

        Raises:
            ArgumentError: if it belongs to a network already.
        """
        if self._dt:
            raise ArgumentError(
                f"this {type(self).__name__} of {self.cells.name!r} belongs to another network, whose record it holds; "
                "give each network monitors of its own"
            )
        self._dt = network.dt

    def add(self, network: Network, first: int, recorded: Recorded) -> None:
        """A chunk of steps that began at step `first` is done."""

    def sample(self, network: Network) -> None:
        """The network stands at a step that was asked for."""

    def content(self) -> dict[str, Tensor]:
        """All that was written down, for a snapshot."""
        raise NotImplementedError

    def load(self, content: dict[str, Tensor]) -> None:
        """Take up what `content` gave."""
        raise NotImplementedError


class SpikeMonitor(Monitor):
    """Every spike of a population or source.

    Attributes:
        steps: the step of each spike, int64 `[E]`, ascending.
        neurons: which neuron of the population it was, int64 `[E]`, ascending within a step.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._parts: list[Tensor] = []

    def prepare(self, network: Network) -> None:
        super().prepare(network)
        network.watch(self.cells)

    def add(self, network: Network, first: int, recorded: Recorded) -> None:
        row = network.first_row(self.cells)
        neurons = recorded.rows - row
        mine = np.flatnonzero(neurons.view(np.uint64) < self.cells.n)  # what is below `row` is a large number there
        self._parts.append(torch.from_numpy(np.stack([recorded.steps[mine] + first, neurons[mine]])))

    @property
    def _all(self) -> Tensor:
        self._parts = [torch.cat([torch.empty(2, 0, dtype=torch.int64), *self._parts], 1)]
        return self._parts[0]

    @property
    def steps(self) -> Tensor:
        return self._all[0]

    @property
    def neurons(self) -> Tensor:
        return self._all[1]

    @property
    def times(self) -> Tensor:
        """The begin of the step of each spike, ms, float64 `[E]`."""
        return self.steps.double() * self._dt

    def events(self, steps: int) -> EventTensor:
        """The first `steps` steps as an `EventTensor` `(steps, 1, n)`."""
        mine = self.steps < steps
        flat, counts = torch.unique(self.steps[mine] * self.cells.n + self.neurons[mine], return_counts=True)
        rows = flat // self.cells.n
        indptr = torch.zeros(steps + 1, dtype=torch.int64)
        indptr[1:] = torch.bincount(rows, minlength=steps).cumsum(0)
        return EventTensor(indptr, (flat % self.cells.n).int(), counts.float(), (steps, 1, self.cells.n))

    def content(self) -> dict[str, Tensor]:
        return {"spikes": self._all}

    def load(self, content: dict[str, Tensor]) -> None:
        self._parts = [content["spikes"]]


class RateMonitor(Monitor):
    """The population's rate over time: spikes a neuron and second in bins of `bin` ms.

    Args:
        cells: the population or source.
        bin: length of a bin, ms; a whole number of steps.

    Raises:
        ArgumentError: for a bin that is shorter than a step.
    """

    def __init__(self, cells: Cells, bin: float = 1.0) -> None:
        self.cells, self.bin = cells, bin
        self._parts: list[np.ndarray] = []

    def prepare(self, network: Network) -> None:
        super().prepare(network)
        if round(self.bin / network.dt) < 1:
            raise ArgumentError(f"RateMonitor: a bin of {self.bin} ms is shorter than a step of {network.dt} ms")

    def add(self, network: Network, first: int, recorded: Recorded) -> None:
        self._parts.append(recorded.counts[:, network.number(self.cells)].astype(np.int64))

    @property
    def _counts(self) -> np.ndarray:
        self._parts = [np.concatenate([np.empty(0, np.int64), *self._parts])]
        return self._parts[0]

    @property
    def rates(self) -> Tensor:
        """Hz, float64 `[bins]`; a last bin that is not full is left out."""
        steps = round(self.bin / self._dt)
        counts = self._counts
        whole = len(counts) // steps
        sums = torch.from_numpy(counts[: whole * steps]).view(whole, steps).sum(1)
        return sums.double() / (self.cells.n * steps * self._dt / 1000.0)

    @property
    def times(self) -> Tensor:
        """The begin of each bin, ms, float64 `[bins]`, from the first step that was seen."""
        return torch.arange(len(self.rates), dtype=torch.float64) * round(self.bin / self._dt) * self._dt

    def content(self) -> dict[str, Tensor]:
        return {"counts": torch.from_numpy(self._counts)}

    def load(self, content: dict[str, Tensor]) -> None:
        self._parts = [content["counts"].numpy()]


class StateMonitor(Monitor):
    """States of some neurons, after every `interval` ms.

    Args:
        population: the population.
        states: names of its neuron's states.
        neurons: which ones; none means all.
        interval: ms between two samples, a whole number of steps; none means every step.

    Raises:
        UnknownNameError: for a state that the neuron does not have.
        ArgumentError: for a neuron that is not there, or an interval that is shorter than a step.
    """

    def __init__(
        self,
        population: Population,
        states: Sequence[str],
        neurons: Sequence[int] | None = None,
        interval: float | None = None,
    ) -> None:
        for name in states:
            if name not in population.neuron.state:
                raise UnknownNameError(f"state of {population.name}", name, population.neuron.state)
        self.neurons = torch.arange(population.n) if neurons is None else torch.as_tensor(neurons, dtype=torch.int64)
        if len(self.neurons) and (self.neurons.min() < 0 or self.neurons.max() >= population.n):
            raise ArgumentError(f"StateMonitor: {population.name} has the neurons 0 to {population.n - 1}")
        self.cells, self.population, self.states, self.interval = population, population, tuple(states), interval
        self._parts: list[Tensor] = []
        self._steps: list[int] = []

    def prepare(self, network: Network) -> None:
        super().prepare(network)
        self.every = 1 if self.interval is None else round(self.interval / network.dt)
        if self.every < 1:
            raise ArgumentError(f"StateMonitor: {self.interval} ms is shorter than a step of {network.dt} ms")

    def sample(self, network: Network) -> None:
        state = network.state(self.population)
        self._parts.append(torch.stack([state[name][self.neurons] for name in self.states])[None])
        self._steps.append(network.step)

    def __getitem__(self, name: str) -> Tensor:
        """`[samples, neurons]`."""
        if name not in self.states:
            raise UnknownNameError("state of this StateMonitor", name, self.states)
        return self._all[:, self.states.index(name)]

    @property
    def _all(self) -> Tensor:
        if not self._parts:
            return torch.empty(0, len(self.states), len(self.neurons))
        self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    @property
    def times(self) -> Tensor:
        """ms, float64 `[samples]`."""
        return torch.tensor(self._steps, dtype=torch.float64) * self._dt

    def content(self) -> dict[str, Tensor]:
        return {"states": self._all, "steps": torch.tensor(self._steps, dtype=torch.int64)}

    def load(self, content: dict[str, Any]) -> None:
        self._parts, self._steps = [content["states"]], content["steps"].tolist()


class WeightMonitor(Monitor):
    """Weights of a plastic projection, after every `interval` ms.

    Args:
        projection: one with a rule.
        synapses: which ones, counted as in `Network.synapses`; none means all.
        interval: ms between two samples, a whole number of steps.

    Attributes:
        weights: `[samples, synapses]`.

    Raises:
        ArgumentError: for a projection that does not learn, a synapse that is not there, or an interval that is shorter
            than a step.
    """

    def __init__(self, projection: Projection, synapses: Sequence[int] | None = None, interval: float = 100.0) -> None:
        if projection.plasticity is None:
            raise ArgumentError(f"WeightMonitor: the weights of {projection.name} do not change")
        self.cells, self.projection, self.interval = projection.post, projection, interval
        self.synapses = None if synapses is None else torch.as_tensor(synapses, dtype=torch.int64)
        self._parts: list[Tensor] = []
        self._steps: list[int] = []

    def prepare(self, network: Network) -> None:
        super().prepare(network)
        self.every = round(self.interval / network.dt)
        if self.every < 1:
            raise ArgumentError(f"WeightMonitor: {self.interval} ms is shorter than a step of {network.dt} ms")
        n = len(network.weights(self.projection))
        self.synapses = torch.arange(n) if self.synapses is None else self.synapses
        if len(self.synapses) and (self.synapses.min() < 0 or self.synapses.max() >= n):
            raise ArgumentError(f"WeightMonitor: {self.projection.name} has the synapses 0 to {n - 1}")

    def sample(self, network: Network) -> None:
        self._parts.append(network.weights(self.projection)[self.synapses][None])
        self._steps.append(network.step)

    @property
    def weights(self) -> Tensor:
        if not self._parts:
            return torch.empty(0, 0 if self.synapses is None else len(self.synapses))
        self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    @property
    def times(self) -> Tensor:
        """ms, float64 `[samples]`."""
        return torch.tensor(self._steps, dtype=torch.float64) * self._dt

    def content(self) -> dict[str, Tensor]:
        return {"weights": self.weights, "steps": torch.tensor(self._steps, dtype=torch.int64)}

    def load(self, content: dict[str, Any]) -> None:
        self._parts, self._steps = [content["weights"]], content["steps"].tolist()
