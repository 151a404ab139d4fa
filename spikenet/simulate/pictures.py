"""Rasters of what a network did."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.cache import write_atomically
from spikenet.errors import ArgumentError
from spikenet.simulate.monitor import SpikeMonitor
from spikenet.simulate.network import Network

__all__ = ["draw_raster"]

INK, GREY = "#1c2733", "#8a97a5"
COLOURS = ("#2f6db5", "#c8452f")  # excitatory, inhibitory
MOST = 40_000  # dots of a population
FEW = 4000  # dots that may be large


def draw_raster(network: Network, path: str | Path, *, last: float = 200.0, share: float = 1.0) -> None:
    """Write a PNG: a dot a spike, the populations one below the other, and each one's rate beside it.

    Args:
        network: after a run, with a `SpikeMonitor` on every population to be drawn; those whose name ends in I are
            drawn in red.
        path: the file.
        last: ms from the end of the run.
        share: of the neurons of each population, evenly chosen; above 0, up to 1.

    Raises:
        ArgumentError: if the network watches no spikes, or for another share.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not 0.0 < share <= 1.0:
        raise ArgumentError(f"a raster shows a share of the neurons above 0 and up to 1, got {share}")
    monitors = [m for m in network.monitors if isinstance(m, SpikeMonitor)]
    if not monitors:
        raise ArgumentError("a raster needs spikes: give the network a SpikeMonitor for each population")
    style = {"font.size": 9, "axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):  # type: ignore[arg-type, unused-ignore]
        figure = Figure(figsize=(8.0, 4.6), layout="constrained")
        raster, bars = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
        edges = _dots(raster, network, monitors, last, share)
        _bars(bars, network, monitors, edges)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=160)
    write_atomically(path, target.getvalue())


def _colour(name: str) -> str:
    return COLOURS[name.endswith("I")]


def _dots(axes: Any, network: Network, monitors: list[SpikeMonitor], last: float, share: float) -> list[float]:
    """Draw the spikes; returns where each population begins on the axis, and where the last one ends."""
    start, edges = max(network.time - last, 0.0), [0.0]
    for monitor in monitors:
        line = np.floor(np.arange(monitor.cells.n) * share).astype(int)  # a neuron is shown where it begins one
        shown = np.diff(line, prepend=-1) > 0
        mine = (monitor.times >= start).numpy() & shown[monitor.neurons.numpy()]
        times, neurons = monitor.times.numpy()[mine], line[monitor.neurons.numpy()[mine]]
        thin = np.linspace(0, len(times) - 1, min(len(times), MOST)).astype(int)
        size = 1.8 if len(times) < FEW else 0.7
        axes.plot(times[thin], neurons[thin] + edges[-1], ".", color=_colour(monitor.cells.name), ms=size, mew=0)
        edges.append(edges[-1] + line[-1] + 1)
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    axes.set(xlim=(start, network.time), ylim=(edges[-1], 0), xlabel="time (ms)")
    axes.set_yticks(middles, [m.cells.name for m in monitors])
    for edge in edges[1:-1]:
        axes.axhline(edge, color=GREY, linewidth=0.4)
    return edges


def _bars(axes: Any, network: Network, monitors: list[SpikeMonitor], edges: list[float]) -> None:
    rates = [network.rate(m.cells) for m in monitors]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    heights = [0.7 * (b - a) for a, b in pairwise(edges)]
    axes.barh(middles, rates, height=heights, color=[_colour(m.cells.name) for m in monitors])
    for middle, rate in zip(middles, rates, strict=True):
        axes.text(rate, middle, f" {rate:.1f}", va="center", color=INK, fontsize=8)
    axes.set(xlabel="rate (Hz)", xlim=(0, 1.25 * max([*rates, 1e-9])))
