"""Statistics of spike trains, as the field reports them of networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.simulate.monitor import SpikeMonitor
from spikenet.simulate.network import Network

__all__ = ["Activity", "activity", "interval_cv", "synchrony"]


def interval_cv(steps: Tensor, neurons: Tensor, least: int = 3) -> Tensor:
    """The coefficient of variation of the intervals between the spikes of each neuron: standard deviation by mean.
    0 is a clock, 1 a Poisson process.

    Args:
        steps: time of each spike, `[E]`, in any unit, ascending.
        neurons: whose spike it was, int64 `[E]`.
        least: intervals that a neuron needs to be counted.

    Returns:
        float64, one for each neuron with so many intervals.
    """
    if steps.shape != neurons.shape:
        raise ArgumentError(f"one neuron a spike is needed, got {len(neurons)} for {len(steps)}")
    order = np.lexsort((steps.numpy(), neurons.numpy()))
    times, owner = steps.numpy()[order].astype(np.float64), neurons.numpy()[order]
    same = owner[1:] == owner[:-1]
    interval, owner = np.diff(times)[same], owner[1:][same]
    n = np.bincount(owner)
    enough = n >= least
    count = np.maximum(n, 1)
    mean = np.bincount(owner, interval) / count
    variance = np.bincount(owner, interval**2) / count - mean**2
    return torch.from_numpy(np.sqrt(np.maximum(variance[enough], 0.0)) / mean[enough])


def synchrony(counts: Tensor) -> float:
    """Variance by mean of a population's spike counts in bins: 1 for independent Poisson neurons, more where they fire
    together (Potjans and Diesmann, 2014, with bins of 3 ms).

    Args:
        counts: spikes of the population in each bin, `[bins]`.
    """
    counts = counts.double()
    return float(counts.var() / counts.mean()) if float(counts.mean()) > 0 else 0.0


class Activity(NamedTuple):
    """How a population fires: mean rate (Hz), mean CV of its neurons' intervals (NaN if none has enough), synchrony."""

    rate: float
    cv: float
    synchrony: float


def activity(network: Network, *, since: float = 0.0, bin: float = 3.0) -> dict[str, Activity]:
    """The activity of every population that a `SpikeMonitor` of the network watches.

    Args:
        network: after a run.
        since: spikes before that time are left out, ms.
        bin: of the counts that synchrony is taken from, ms.

    Raises:
        ArgumentError: if nothing was run since, or two populations have one name.
    """
    if network.time - since < bin:
        raise ArgumentError(f"no bin of {bin} ms since {since} ms: the network stands at {network.time} ms")
    found = {}
    for monitor in network.monitors:
        if isinstance(monitor, SpikeMonitor):
            mine = monitor.times >= since
            steps, neurons = monitor.steps[mine], monitor.neurons[mine]
            seconds = (network.time - since) / 1000.0
            whole = int((network.time - since) / bin)  # a last bin that is not full is left out
            bins = torch.bincount(((monitor.times[mine] - since) / bin).long(), minlength=whole)[:whole]
            cvs = interval_cv(steps, neurons)
            rate = len(steps) / monitor.cells.n / seconds
            if monitor.cells.name in found:
                raise ArgumentError(f"two watched populations are called {monitor.cells.name!r}: give them names")
            found[monitor.cells.name] = Activity(rate, float(cvs.mean()), synchrony(bins))
    return found
