"""A network as plain arrays: what every simulation engine starts from.

Neurons with the same equations form one `Group` of lanes, whatever populations they belong to. Every neuron, and every
source of given spikes, is a *row*: groups one after the other, then sources. One step `t` of the network is

    x_k = scale_k * sum of the weights that arrive at t, then the drives in their order
    (state, z) = one step of the neuron's equations with inputs x
    a spike of row r at t arrives at t + d through each of its synapses of delay d >= 1

Sums have one order, so that every engine on the CPU, with any number of threads, gives the same spikes: by class of
synapses, then by row of the spike, then as the synapses were made. Where inputs do nothing but add to a state
(`inlets`), in all groups, the plan is *direct*: the drives, then the weights, are added one by one to that state at the
end of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.simulate.inlets import inlets

if TYPE_CHECKING:
    from spikenet.kernels.simulate.plastic import Learning

BLOCK = 1024  # lanes that are worked on together; threads share a group out in whole blocks


class Drive(NamedTuple):
    """An input that is no synapse, the same process in the lanes `first` to `last - 1` of one group.

    `kind`: "constant" (`weight` every step), "poisson" (`weight` times a Poisson number of mean `mean` every step) or
    "normal" (a normal number of standard deviation `weight` every step).
    """

    group: int
    input: int
    first: int
    last: int
    kind: str
    weight: float
    mean: float = 0.0
    key: int = 0


@dataclass
class Group:
    """Lanes with the same equations. A parameter is [lanes], or [1] for all of them; a state is [lanes]."""

    program: Program
    lanes: int
    first_row: int
    state: list[np.ndarray]
    params: list[np.ndarray]
    key: int = 0  # seed of the equations' draws
    scales: list[float] = field(default_factory=list)  # of the sums that arrive, one an input


class Classes(NamedTuple):
    """Synapses sorted by class: the delay, and the weight where all synapses of a class have one weight."""

    delay: np.ndarray  # steps, int64 [K]
    weight: np.ndarray  # [K], or [0] where each synapse has its own


class Shard(NamedTuple):
    """The synapses onto the lanes of one thread. Those of row r and class k are `offsets[r K + k]` to the next one."""

    offsets: np.ndarray  # uint32 or int64 [rows * K + 1]
    targets: np.ndarray  # uint16 or uint32 [E]: a column of the thread's sums
    weights: np.ndarray  # real or int16 [E], or [0]


class Sources(NamedTuple):
    """Given spikes of one call: those of source s at step t (from 0) are `rows[indptr[s, t]:indptr[s, t + 1]]`."""

    indptr: np.ndarray  # int64 [S, steps + 1]
    rows: np.ndarray  # uint32, ascending within a step


class Recorded(NamedTuple):
    """What one call leaves: the steps that it did, the watched spikes by step (from the call's first) and row, and the
    number of spikes of every population at every step."""

    done: int
    steps: np.ndarray  # int64 [E]
    rows: np.ndarray  # int64 [E]
    counts: np.ndarray  # int32 [done, populations]

    @classmethod
    def joined(cls, done: int, parts: Sequence[np.ndarray], counts: np.ndarray) -> Recorded:
        """From spikes [2, E] (step, row), each part in order."""
        found = parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
        steps, rows = found.astype(np.int64)
        if len(parts) == 1:
            return cls(done, steps, rows, counts)
        order = np.lexsort((rows, steps))
        return cls(done, steps[order], rows[order], counts)


@dataclass
class Plan:
    """Everything a run needs. Drives are sorted by group; rows of sources come last, each source's in one piece."""

    real: type
    groups: list[Group]
    drives: list[Drive]
    classes: Classes
    shards: list[Shard]  # one a thread
    sources: list[tuple[int, int]]  # neurons of each source, and the most spikes that it has in a step
    populations: np.ndarray  # uint16 [rows]: which population a row belongs to
    learning: Learning | None = None  # of projections whose weights change

    @property
    def rows(self) -> int:
        """Neurons and sources together."""
        return len(self.populations)

    @property
    def source_sizes(self) -> list[int]:
        """Places that the spikes of each source need in a step."""
        return [most for _, most in self.sources]

    @property
    def source_ranges(self) -> list[tuple[int, int]]:
        """The rows of each source."""
        first, ranges = sum(g.lanes for g in self.groups), []
        for n, _ in self.sources:
            ranges.append((first, first + n))
            first += n
        return ranges

    @property
    def scaled(self) -> bool:
        """Whether what arrives is scaled: weights are integers."""
        return any(scale != 1.0 for g in self.groups for scale in g.scales)

    @property
    def direct(self) -> bool:
        """Whether states take what arrives without sums."""
        return not self.scaled and all(inlets(g.program) for g in self.groups)

    @property
    def horizon(self) -> int:
        """Steps that a spike may travel."""
        return int(self.classes.delay.max(initial=1))

    @property
    def stretch(self) -> int:
        """Steps that threads may go without hearing of each other."""
        return int(self.classes.delay.min(initial=self.horizon))


def blocks(lanes: int) -> int:
    """Blocks of a group."""
    return -(-lanes // BLOCK)


def shares(groups: list[int], threads: int) -> list[list[tuple[int, int]]]:
    """For each thread and group of that many lanes, the first and the last block (not included) of its share."""
    return [[(blocks(n) * p // threads, blocks(n) * (p + 1) // threads) for n in groups] for p in range(threads)]


def most_threads(groups: list[int], threads: int) -> int:
    """As many as there are blocks for, up to `threads`."""
    return max(1, min(threads, max(map(blocks, groups), default=1)))


def columns(groups: list[int], inputs: list[int], share: list[tuple[int, int]]) -> tuple[np.ndarray, int]:
    """Where the sums of each group and input begin among one thread's, [groups, most inputs], and how many there are.

    Every input has whole blocks of them.
    """
    begins, at = np.zeros((len(groups), max(inputs, default=1)), np.int64), 0
    for g, ((low, high), n) in enumerate(zip(share, inputs, strict=True)):
        for k in range(n):
            begins[g, k] = at
            at += (high - low) * BLOCK
    return begins, at
