"""From one operation that was seen to the counters of its layer, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from spikenet.energy.work import KINDS, Bits, Geometry, LayerWork
from spikenet.kernels.count import COLUMNS
from spikenet.kernels.count.ops import SUMMED


@dataclass
class Part:
    """One operation in one call of its module.

    Attributes:
        layer, kind: name and class of the module.
        operation: see `LayerWork`.
        steps: time steps that it covers: all of them, or 1.
        fixed: counters that do not depend on values, totals over the steps.
        tallies: of its operands; of a neuron, of its output.
        pairs: of a product, float64 ``[steps, 3]``: non-zero pairs, |a| where b is not 0, |b| where a is not 0.
        fanouts: outputs that a value of each operand reaches, besides what the tallies weigh.
        bits: with the dtypes' input and output.
        resets: of a neuron, whether it does.
    """

    layer: str
    kind: str
    operation: str
    steps: int
    fixed: Mapping[str, float]
    tallies: Sequence[Tensor] = ()
    pairs: Tensor | None = None
    fanouts: tuple[float, ...] = (1.0,)
    bits: Bits = field(default_factory=Bits)
    geometry: Geometry = field(default_factory=Geometry)
    resets: bool = False


class Laid(NamedTuple):
    """A part, or several alike, over all the steps of a call: its counters, tallies ``[T, 7]`` and pairs ``[T, 3]``."""

    part: Part
    series: dict[str, np.ndarray]
    tallies: list[np.ndarray]
    pairs: np.ndarray | None


def gather(parts: Sequence[Part], steps: int) -> list[tuple[Laid, bool]]:
    """What was seen, over all `steps`, and whether the layer ran once and not at each of them.

    Operations seen one step at a time are put one after the other; one that was not seen at each step (a readout's
    answer, when the time axis is gone) belongs to the last.
    """
    whole = [(_laid(part, np.arange(steps), steps), False) for part in parts if part.steps == steps]
    groups: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        if part.steps != steps:
            groups.setdefault((part.operation, part.geometry, part.fanouts), []).append(part)
    for group in groups.values():
        runs, rest = divmod(len(group), steps)
        at = np.arange(len(group)) // runs if runs and not rest else np.full(len(group), steps - 1)
        laid = [_laid(part, at[i : i + 1], steps) for i, part in enumerate(group)]
        whole.append((_merged(laid), not runs or bool(rest)))
    return whole


def _laid(part: Part, at: np.ndarray, steps: int) -> Laid:
    """The part with its own steps at the places `at`."""

    def place(found: Tensor) -> np.ndarray:
        out = np.zeros((steps, found.shape[1]))
        out[at] = found.cpu().numpy()
        return out

    series = {name: np.bincount(at, minlength=steps) * (total / len(at)) for name, total in part.fixed.items()}
    return Laid(part, series, [place(t) for t in part.tallies], None if part.pairs is None else place(part.pairs))


def _merged(laid: list[Laid]) -> Laid:
    first = laid[0]
    for other in laid[1:]:
        for name, series in other.series.items():
            first.series[name] = first.series.get(name, 0.0) + series
        for mine, theirs in zip(first.tallies, other.tallies, strict=True):
            mine[:, :SUMMED] += theirs[:, :SUMMED]
            mine[:, SUMMED:] = np.maximum(mine[:, SUMMED:], theirs[:, SUMMED:])
        if first.pairs is not None and other.pairs is not None:
            first.pairs[:] += other.pairs
    return first


def kind_of(tally: np.ndarray) -> str:
    """What the values tallied are, one of `KINDS`."""
    c = COLUMNS
    if tally[:, c.fractional].any():
        return "graded"
    if (tally[:, c.largest] > 1).any():
        return "counts"
    return "ternary" if tally[:, c.negative].any() else "spikes"


def bits_of(tally: np.ndarray, dtype: int) -> int:
    """Storage bits of the values tallied: those of a whole number with its sign, at most the dtype's."""
    kind = kind_of(tally)
    if kind == "graded":
        return dtype
    signed = int(tally[:, COLUMNS.negative].any())
    return min(dtype, max(1, int(np.ceil(np.log2(tally[:, COLUMNS.largest].max() + 1)))) + signed)


def charge(record: LayerWork, laid: Laid, offset: int) -> None:
    """Add what was seen in a call, which begins at step `offset`, to its layer's record."""
    part, tallies, counters = laid.part, laid.tallies, dict(laid.series)
    values, bits = "graded", part.bits
    if part.operation == "neuron":
        counters |= _sent(tallies[0], part.resets)
        bits = bits._replace(output=bits_of(tallies[0], bits.output))
    elif tallies:
        counters |= _events(tallies)
        if part.operation == "connection":
            counters |= _connection(laid)
        elif laid.pairs is not None:
            counters |= _product(laid, laid.pairs)
        values = max((kind_of(tally) for tally in tallies), key=KINDS.index)
        bits = bits._replace(input=max(bits_of(tally, bits.input) for tally in tallies))
    record.values = max(record.values, values, key=KINDS.index)
    record.bits = Bits(*map(max, record.bits, bits))
    record.geometry = part.geometry
    for name, series in counters.items():
        _add(record.steps, name, series, offset)


def _add(steps: dict[str, np.ndarray], name: str, series: np.ndarray, offset: int) -> None:
    held = steps.get(name, np.zeros(0))
    if len(held) < offset + len(series):
        held = np.concatenate([held, np.zeros(offset + len(series) - len(held))])
    held[offset : offset + len(series)] += series
    steps[name] = held


def _events(tallies: list[np.ndarray]) -> dict[str, np.ndarray]:
    both = np.sum(tallies, 0)
    return {"events": both[:, COLUMNS.total], "nonzero": both[:, COLUMNS.nonzero]}


def _sent(tally: np.ndarray, resets: bool) -> dict[str, np.ndarray]:
    spikes = {"spikes": tally[:, COLUMNS.total]}
    return {**spikes, "resets": tally[:, COLUMNS.nonzero]} if resets else spikes


def _connection(laid: Laid) -> dict[str, np.ndarray]:
    """One accumulate an event and synapse; graded values cost all of the layer."""
    (tally,), (fanout,), c = laid.tallies, laid.part.fanouts, COLUMNS
    if kind_of(tally) == "graded":
        return {"macs": laid.series["dense_macs"], "weight_reads": laid.series["dense_weight_reads"]}
    return {"acs": tally[:, c.reach] * fanout, "weight_reads": tally[:, c.reach_nonzero] * fanout}


def _product(laid: Laid, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Two activations: a spike adds what it meets, and a pair of spikes is one accumulate."""
    (a, b), (to_b, to_a), c = laid.tallies, laid.part.fanouts, COLUMNS
    kinds = kind_of(a), kind_of(b)
    if kinds == ("graded", "graded"):
        return {"macs": laid.series["dense_macs"]}
    if kinds[1] == "graded":
        return {"acs": a[:, c.total] * to_b}
    if kinds[0] == "graded":
        return {"acs": b[:, c.total] * to_a}
    return {"acs": np.minimum(pairs[:, 1], pairs[:, 2]) if kinds == ("counts", "counts") else pairs[:, 0]}
