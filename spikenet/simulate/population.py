"""Neurons of one kind, and the sources of given spikes that stand in for neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.events import EventStream, EventTensor
from spikenet.neurons import Neuron
from spikenet.simulate.values import Value

__all__ = ["PoissonSource", "Population", "SpikeSource"]


class Cells:
    """What projections connect: `n` neurons, or sources of spikes, with places in space if need be."""

    def __init__(self, n: int, name: str, places: Tensor | np.ndarray | None) -> None:
        if n < 1:
            raise ArgumentError(f"{name} needs at least one neuron, got n={n}")
        self.n, self.name = int(n), name
        self.places = None if places is None else np.asarray(places, np.float64)
        if self.places is not None and (self.places.ndim != 2 or len(self.places) != n):
            raise ShapeError(f"{name}: places must be [{n}, D], got {self.places.shape}")


class Population(Cells):
    """`n` neurons with the same equations.

    Args:
        n: how many.
        neuron: any spiking neuron of `spikenet.neurons`, its `dt` in milliseconds; per-neuron parameters are `[n]`.
        state: initial values of some of its states: a number, one each `[n]`, or a `Distribution`.
        places: where they are, `[n, D]`, for `Spatial` projections.
        name: what tables and errors call them.

    Raises:
        ArgumentError: for `n < 1`, or a neuron whose output is not a spike.
        UnknownNameError: for a state that the neuron does not have.
    """

    def __init__(
        self,
        n: int,
        neuron: Neuron,
        *,
        state: Mapping[str, Value] | None = None,
        places: Tensor | np.ndarray | None = None,
        name: str = "population",
    ) -> None:
        super().__init__(n, name, places)
        if not getattr(neuron.emit, "binary", False):
            raise ArgumentError(
                f"{name}: {type(neuron).__name__} does not emit spikes; a simulation needs an output of 0 or 1"
            )
        for known in state or {}:
            if known not in neuron.state:
                raise UnknownNameError(f"state of {type(neuron).__name__}", known, neuron.state)
        self.neuron, self.initial = neuron, dict(state or {})

    @property
    def dt(self) -> float:
        """Length of a step, ms."""
        return self.neuron.dt

    def input_index(self, name: str | None) -> int:
        """The place of an input among the neuron's; None is the only one.

        Raises:
            UnknownNameError: if there is no such input.
            ArgumentError: if there are several and none is named.
        """
        inputs = self.neuron.inputs
        if name is None and len(inputs) == 1:
            return 0
        if name is None:
            raise ArgumentError(f"{self.name} has the inputs {', '.join(inputs)}; say which one: input=...")
        if name not in inputs:
            raise UnknownNameError(f"input of {self.name}", name, inputs)
        return inputs.index(name)

    def __repr__(self) -> str:
        return f"Population({self.n}, {self.neuron}, name={self.name!r})"


class Source(Cells):
    """Neurons whose spikes are given and do not depend on the network."""

    def most_in_step(self, dt: float) -> int:
        """The most spikes of one neuron in a step of `dt` ms."""
        return 1

    def content(self, dt: float) -> tuple[Any, ...]:
        """What its spikes depend on, beside seeds."""
        raise NotImplementedError

    def spikes(self, first: int, steps: int, dt: float, key: int) -> tuple[np.ndarray, np.ndarray]:
        """The spikes of `steps` steps from step `first` on: where each step begins, [steps + 1], and their neurons,
        ascending within a step. The same ones however a time is cut into pieces."""
        raise NotImplementedError


class SpikeSource(Source):
    """Given spikes: a recording, or a batch entry of an `EventTensor`.

    Args:
        events: an `EventTensor` of one batch entry, whose steps are the network's (a value of 2 is two spikes), or an
            `EventStream`, whose microseconds are rounded down to steps, counted from `start`.
        start: for a stream, the time that falls on the network's time 0, in microseconds.
        places, name: as for `Population`.

    Raises:
        ShapeError: for a batch of more than one.
        ArgumentError: for values that are no whole numbers of spikes.
    """

    def __init__(
        self,
        events: EventTensor | EventStream,
        *,
        start: int = 0,
        places: Tensor | np.ndarray | None = None,
        name: str = "source",
    ) -> None:
        self._start, self._events = start, events
        if isinstance(events, EventTensor):
            if events.batch != 1:
                raise ShapeError(f"{name}: one batch entry is needed, got {events.batch}; choose one: events.entry(b)")
            counts = events.values.numpy()
            whole = np.isfinite(counts) & (counts >= 0) & (counts == np.rint(counts))
            if not whole.all():
                raise ArgumentError(
                    f"{name}: values must be whole numbers of spikes, got {counts.min()} to {counts.max()}"
                )
            n = int(np.prod(events.features))
        else:
            n = events.sensor.size
        super().__init__(n, name, places)
        self._known: tuple[float, np.ndarray, np.ndarray] | None = None

    def _sorted(self, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """Step and neuron of every spike, sorted."""
        if self._known is None or self._known[0] != dt:
            steps, neurons = self._listed(dt)
            order = np.lexsort((neurons, steps))
            self._known = dt, steps[order], neurons[order]
        return self._known[1:]

    def _listed(self, dt: float) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self._events, EventTensor):
            steps = np.repeat(np.arange(self._events.T), np.diff(self._events.indptr.numpy()))
            counts = self._events.values.numpy().astype(np.int64)
            return np.repeat(steps, counts), np.repeat(self._events.indices.numpy().astype(np.int64), counts)
        steps = np.floor((self._events.t.numpy() - self._start) / (1000.0 * dt) + 1e-9)  # 0.3 ms is step 3 of 0.1 ms
        return steps.astype(np.int64), self._events.address().numpy()

    def most_in_step(self, dt: float) -> int:
        steps, neurons = self._sorted(dt)
        return int(np.unique(steps * self.n + neurons, return_counts=True)[1].max(initial=1))

    def content(self, dt: float) -> tuple[Any, ...]:
        return self._sorted(dt)

    def spikes(self, first: int, steps: int, dt: float, key: int) -> tuple[np.ndarray, np.ndarray]:
        times, neurons = self._sorted(dt)
        indptr = np.searchsorted(times, np.arange(first, first + steps + 1))
        return indptr - indptr[0], neurons[indptr[0] : indptr[-1]]


class PoissonSource(Source):
    """`n` independent Poisson trains: each fires at each step with probability `rate dt`, at most once a step.

    Args:
        n: how many.
        rate: Hz, one for all or `[n]`; `rate dt` must not pass 1.
        places, name: as for `Population`.

    Raises:
        ArgumentError: for a rate that is negative or not finite.
        ShapeError: for another number of rates.
    """

    def __init__(
        self,
        n: int,
        rate: float | Tensor,
        *,
        places: Tensor | np.ndarray | None = None,
        name: str = "poisson",
    ) -> None:
        super().__init__(n, name, places)
        given = torch.as_tensor(rate, dtype=torch.float64)
        if given.ndim > 1 or given.numel() not in (1, n):
            raise ShapeError(f"{name}: one rate or {n} are needed, got {list(given.shape)}")
        self.rate = given.expand(n)
        if not bool((self.rate >= 0).all() and torch.isfinite(self.rate).all()):
            raise ArgumentError(f"{name}: rates must be finite and not negative, got {self.rate.min().item()}")

    def content(self, dt: float) -> tuple[Any, ...]:
        return (self.rate,)

    def spikes(self, first: int, steps: int, dt: float, key: int) -> tuple[np.ndarray, np.ndarray]:
        if (self.rate * dt > 1000.0).any():
            raise ArgumentError(f"{self.name}: {self.rate.max().item()} Hz is more than a spike a step of {dt} ms")
        from spikenet.kernels.simulate.numba_trains import poisson_trains

        return poisson_trains(key, first, steps, self.rate.numpy() * dt / 1000.0)


def neuron_arrays(population: Population, real: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernel parameters, [1] or [n] each, and initial states, [n] each, of a population's neuron."""
    from spikenet.kernels.dynamics.lanes import lane_params

    neuron, n = population.neuron, population.n
    like = torch.zeros(1, 1, n, dtype=torch.float64 if real is np.float64 else torch.float32)
    with torch.no_grad():
        params, spans, state = neuron._prepared([like] * len(neuron.inputs))
        each = lane_params(params, spans, n)
    return [p.reshape(-1).numpy().astype(real) for p in each], [s.reshape(-1).numpy().astype(real) for s in state]
