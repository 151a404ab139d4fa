"""From one operation that was seen to the counters of its layer, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    fixed: dict[str, float]
    tallies: Sequence[Tensor | np.ndarray] = ()
    pairs: Tensor | np.ndarray | None = None
    fanouts: tuple[float, ...] = (1.0,)
    bits: Bits = field(default_factory=Bits)
    geometry: Geometry = field(default_factory=Geometry)
    resets: bool = False
    series: dict[str, np.ndarray] = field(default_factory=dict)


def gather(parts: Sequence[Part], steps: int) -> list[tuple[Part, bool]]:
    """Parts that cover all `steps`, and whether the layer ran once and not at each of them.

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


def _laid(part: Part, at: np.ndarray, steps: int) -> Part:
    """The part with every array over `steps`, its own at the places `at`."""

    def place(found: Tensor | np.ndarray) -> np.ndarray:
        array = found.cpu().numpy() if isinstance(found, Tensor) else found
        out = np.zeros((steps, array.shape[1]))
        out[at] = array
        return out

    series = {name: np.bincount(at, minlength=steps) * (total / len(at)) for name, total in part.fixed.items()}
    tallies, pairs = [place(t) for t in part.tallies], None if part.pairs is None else place(part.pairs)
    return Part(
        part.layer, part.kind, part.operation, steps, part.fixed, tallies, pairs, part.fanouts, part.bits,
        part.geometry, part.resets, series,
    )  # fmt: skip


def _merged(parts: list[Part]) -> Part:
    first = parts[0]
    for other in parts[1:]:
        for name, series in other.series.items():
            first.series[name] = first.series.get(name, 0.0) + series
        for mine, theirs in zip(first.tallies, other.tallies, strict=True):
            mine[:, :SUMMED] += theirs[:, :SUMMED]
            mine[:, SUMMED:] = np.maximum(mine[:, SUMMED:], theirs[:, SUMMED:])
        if first.pairs is not None and other.pairs is not None:
            first.pairs += other.pairs
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


def charge(record: LayerWork, part: Part, offset: int) -> None:
    """Add a part that covers all steps of a call, which begins at step `offset`, to its layer's record."""
    counters, values, bits = dict(part.series), record.values, part.bits
    if part.operation == "neuron":
        values = "graded"
        if part.tallies:
            counters |= _sent(part)
            bits = bits._replace(output=bits_of(part.tallies[0], bits.output))
    elif part.tallies:
        counters |= _product(part) if part.pairs is not None else _events(part)
        if part.operation == "connection":
            counters |= _connection(part)
        values = max((kind_of(tally) for tally in part.tallies), key=KINDS.index)
        bits = bits._replace(input=max(bits_of(tally, bits.input) for tally in part.tallies))
    else:
        values = "graded"
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


def _events(part: Part) -> dict[str, np.ndarray]:
    c = COLUMNS
    return {
        "events": sum(tally[:, c.total] for tally in part.tallies),
        "nonzero": sum(tally[:, c.nonzero] for tally in part.tallies),
    }


def _sent(part: Part) -> dict[str, np.ndarray]:
    (tally,), c = part.tallies, COLUMNS
    return {"spikes": tally[:, c.total], **({"resets": tally[:, c.nonzero]} if part.resets else {})}


def _connection(part: Part) -> dict[str, np.ndarray]:
    """One accumulate an event and synapse; graded values cost all of the layer."""
    (tally,), (fanout,), c = part.tallies, part.fanouts, COLUMNS
    if kind_of(tally) == "graded":
        return {"macs": part.series["dense_macs"], "weight_reads": part.series["dense_weight_reads"]}
    return {"acs": tally[:, c.reach] * fanout, "weight_reads": tally[:, c.reach_nonzero] * fanout}


def _product(part: Part) -> dict[str, np.ndarray]:
    """Two activations: a spike adds what it meets, and a pair of spikes is one accumulate."""
    (a, b), (to_b, to_a), c = part.tallies, part.fanouts, COLUMNS
    kinds, both = (kind_of(a), kind_of(b)), _events(part)
    if kinds == ("graded", "graded"):
        return {**both, "macs": part.series["dense_macs"]}
    if "graded" in kinds:
        acs = a[:, c.total] * to_b if kinds[1] == "graded" else b[:, c.total] * to_a
    elif kinds == ("counts", "counts"):
        acs = np.minimum(part.pairs[:, 1], part.pairs[:, 2])
    else:
        acs = part.pairs[:, 0]
    return {**both, "acs": acs}
