"""A network on the CPU's cores: one compiled call for many steps, on plain threads. Imports numba.

Each thread owns some blocks of every group of neurons: their tiles, the sums that arrive at them, and the synapses onto
them. Threads read each other's spikes only, and wait for them once a stretch, the shortest delay of the network.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from spikenet.kernels.dynamics.numba_text import ROW
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.simulate.inlets import inlets
from spikenet.kernels.simulate.numba_loop import KINDS, LINE, SEGMENTS
from spikenet.kernels.simulate.numba_threads import APART
from spikenet.kernels.simulate.plan import BLOCK, Plan, Recorded, Sources, blocks, columns, shares
from spikenet.kernels.simulate.poisson import guide, thresholds
from spikenet.kernels.sources import load

CAPACITY = 1 << 20  # spikes that a thread can write down in one call
_DYNAMICS = ("trace.py", "printer.py", "numba_source.py", "numba_text.py")
_HERE = ("inlets.py", "numba_source.py", "numba_loop.py", "numba_plastic.py", "numba_threads.py", "plan.py")


class Engine:
    """A network that can be advanced; see `engine.Engine`."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device, self.step = plan, device, 0
        lanes, inputs = [g.lanes for g in plan.groups], [len(g.program.inputs) for g in plan.groups]
        self._threads = len(plan.shards)
        self._shares = shares(lanes, self._threads)
        places = [columns(lanes, inputs, share) for share in self._shares]
        self._columns = [begins for begins, _ in places]
        self._sums: list[np.ndarray] = [_zeros((max(n, 1),), plan.real) for _, n in places]
        self._module = _compiled(
            *(tuple(g.program for g in plan.groups), _shared(plan), plan.scaled, plan.direct),
            *(plan.learning is not None, np.dtype(plan.real).name),
        )
        self._tiles: list[np.ndarray] = [
            _zeros((blocks(g.lanes), len(rows) * ROW), plan.real) for g, rows in self._groups()
        ]
        self._drives = _drives(plan)
        self._history(plan.horizon + plan.stretch + 1)  # a thread may be a turn and a step ahead of another
        self.tally = np.zeros(plan.rows, np.int64)
        self._rooms = [plan.stretch * BLOCK * sum(high - low for low, high in share) for share in self._shares]
        self._buffers = [np.empty((2, CAPACITY + 2 * room), np.uint32) for room in self._rooms]
        self.load_state([g.state for g in plan.groups])

    def _groups(self) -> list[tuple[Any, list[str]]]:
        return list(zip(self.plan.groups, self._module.ROWS, strict=True))

    def _history(self, slots: int) -> None:
        """Lists of the rows that fired: of each group those of each thread, then those of each source."""
        groups = range(len(self.plan.groups))
        sizes = [(high - low) * BLOCK for g in groups for low, high in (s[g] for s in self._shares)]
        sizes += list(self.plan.source_sizes)
        self._begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self._ids = np.zeros((slots, max(int(np.sum(sizes)), 1)), np.uint32)
        self._counts = np.zeros((slots, len(sizes)), np.int64)

    # State.

    def load_state(self, states: list[list[np.ndarray]]) -> None:
        """Set every group's states, [lanes] each."""
        for g, ((group, rows), tiles, values) in enumerate(zip(self._groups(), self._tiles, states, strict=True)):
            for name, value in zip(group.program.state, values, strict=True):
                if f"s_{name}" in rows:
                    _fill(tiles, rows.index(f"s_{name}"), value, group.lanes)
                else:
                    for some, column in self._held(g, name):
                        column[:] = value[some]
            for name, value in zip(group.program.params, group.params, strict=True):
                if f"p_{name}" in rows:
                    _fill(tiles, rows.index(f"p_{name}"), value, group.lanes)

    def state(self) -> list[list[np.ndarray]]:
        """Every group's states, copied."""
        return [[self._state(g, name) for name in group.program.state] for g, group in enumerate(self.plan.groups)]

    def _state(self, g: int, name: str) -> np.ndarray:
        rows, lanes = self._module.ROWS[g], self.plan.groups[g].lanes
        if f"s_{name}" in rows:
            return _row(self._tiles[g], rows.index(f"s_{name}"), lanes)
        return np.concatenate([column for _, column in self._held(g, name)])

    def _held(self, g: int, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Each thread's lanes of a group and, of a state that takes what arrives itself, their columns."""
        group = self.plan.groups[g]
        k = inlets(group.program).index(name)
        for share, begins, sums in zip(self._shares, self._columns, self._sums, strict=True):
            first, last = share[g][0] * BLOCK, min(share[g][1] * BLOCK, group.lanes)
            yield slice(first, last), sums[begins[g, k] :][: last - first]

    def in_flight(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and rows of the spikes of the last `horizon` steps, in order."""
        found: list[tuple[int, np.ndarray]] = []
        for t in range(max(0, self.step - self.plan.horizon), self.step):
            slot = t % len(self._counts)
            found += [(t, self._ids[slot, b : b + n]) for b, n in zip(self._begins, self._counts[slot], strict=True)]
        steps = np.concatenate([np.full(len(rows), t, np.int64) for t, rows in found] or [np.empty(0, np.int64)])
        return steps, np.concatenate([rows for _, rows in found] or [np.empty(0, np.uint32)]).astype(np.int64)

    def resume(self, step: int, steps: np.ndarray, rows: np.ndarray) -> None:
        """Go on at `step`, with the spikes of the last `horizon` steps."""
        self.step = step
        self._counts[:] = 0
        for t in np.unique(steps):
            slot, fired = int(t) % len(self._counts), rows[steps == t]
            for each, (low, high) in enumerate(self._row_ranges()):
                mine = fired[(fired >= low) & (fired < high)]
                self._counts[slot, each] = len(mine)
                self._ids[slot, self._begins[each] : self._begins[each] + len(mine)] = mine

    def _row_ranges(self) -> list[tuple[int, int]]:
        """The rows that each list holds."""
        ranges = []
        for g, group in enumerate(self.plan.groups):
            bounds = [(s[g][0] * BLOCK, min(s[g][1] * BLOCK, group.lanes)) for s in self._shares]
            ranges += [(group.first_row + low, group.first_row + max(low, high)) for low, high in bounds]
        return ranges + self.plan.source_ranges

    # Running.

    def run(self, steps: int, sources: Sources, watched: np.ndarray) -> Recorded:
        """Advance by up to `steps`; see `engine.Engine.run`."""
        sync = np.zeros(self._threads * APART, np.int64)
        halt = np.full_like(sync, np.iinfo(np.int64).max)
        counted = [np.zeros((steps, int(self.plan.populations.max(initial=0)) + 1), np.int32) for _ in self._shares]
        tallies = [np.zeros_like(self.tally) for _ in self._shares]
        results: list[Any] = [None] * self._threads

        arguments = [
            (
                *self._common(p, steps, sync, halt, watched, tallies[p], counted[p], sources),
                *(*self._of_groups(p), *self._of_learning(p)),
            )
            for p in range(self._threads)
        ]

        def work(p: int) -> None:
            results[p] = self._module.run(*arguments[p])

        def release() -> None:
            sync[:] = np.iinfo(np.int64).max

        with_flushed_denormals(work, self._threads, release)
        done = results[0][0]
        self.step += done
        self.tally += sum(tallies)
        found = [self._buffers[p][:, : results[p][1]] for p in range(self._threads)]
        return Recorded.joined(done, found, np.stack(counted).sum(0, dtype=np.int32)[:done])

    def _common(
        self,
        p: int,
        steps: int,
        sync: np.ndarray,
        halt: np.ndarray,
        watched: np.ndarray,
        tally: np.ndarray,
        counted: np.ndarray,
        sources: Sources,
    ) -> tuple[Any, ...]:
        plan = self.plan
        segments = np.empty((3, SEGMENTS), np.int64)
        return (
            *(p, self._threads, self.step, steps, plan.stretch, *plan.classes, *plan.shards[p], self._sums[p]),
            *(self._ids, self._counts, self._begins, sync, halt, segments, *self._drives, plan.populations, watched),
            *(tally, counted, self._buffers[p], self._rooms[p], sources.indptr, sources.rows),
            *(_zeros((self._rooms[p] // plan.stretch,), np.uint8), np.zeros(BLOCK, np.uint32)),
        )

    def _of_learning(self, p: int) -> list[Any]:
        return [] if self.plan.learning is None else [self.plan.learning.arguments(p)]

    def _of_groups(self, p: int) -> list[Any]:
        found: list[Any] = []
        for g, group in enumerate(self.plan.groups):
            low, high = self._shares[p][g]
            chosen = [i for i, d in enumerate(self.plan.drives) if d.group == g]
            drives = np.array([chosen[0], chosen[-1] + 1] if chosen else [0, 0], np.int64)
            shared: np.ndarray = np.array([v[0] for v in group.params], self.plan.real)
            found += [self._tiles[g], low, high, group.lanes, group.first_row, group.key]
            found += [np.array(group.scales, self.plan.real), self._columns[p][g], drives, shared]
        return found


def with_flushed_denormals(work: Callable[[int], None], threads: int, release: Callable[[], None]) -> None:
    """Call `work(p)` on as many threads, which take the smallest numbers for zero: a current that has died away would
    slow the loop down eighteenfold otherwise. Where one fails, `release` lets the others go that wait for it."""
    failures: list[BaseException] = []

    def flushed(p: int) -> None:
        before = _flushes()
        torch.set_flush_denormal(True)
        try:
            work(p)
        except BaseException as failure:  # noqa: BLE001 - raised below, in the thread that asked
            failures.append(failure)
            release()
        finally:
            torch.set_flush_denormal(before)

    others = [threading.Thread(target=flushed, args=(p,), daemon=True) for p in range(1, threads)]
    for other in others:
        other.start()
    flushed(0)
    for other in others:
        other.join()
    if failures:
        raise failures[0]


def _flushes() -> bool:
    """Whether this thread takes denormal numbers for zero."""
    smallest = np.full(1, np.finfo(np.float32).tiny, np.float32)
    return bool((smallest * np.float32(0.5))[0] == 0)


def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that begin with a cache line: where vectors straddle two of them, a step takes a third longer."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + size].view(dtype).reshape(shape)


def _fill(tiles: np.ndarray, row: int, value: np.ndarray, lanes: int) -> None:
    padded = np.zeros(len(tiles) * BLOCK, tiles.dtype)
    padded[:lanes] = value
    tiles[:, row * ROW : row * ROW + BLOCK] = padded.reshape(len(tiles), BLOCK)


def _row(tiles: np.ndarray, row: int, lanes: int) -> np.ndarray:
    return tiles[:, row * ROW : row * ROW + BLOCK].reshape(-1)[:lanes].copy()


def _drives(plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Drives as `numba_loop.add_drives` takes them; drives of one mean share a table."""
    known: dict[float, tuple[int, int]] = {}
    guides, tables = np.zeros(0, np.float32), np.zeros(0, np.uint64)
    rows: list[list[int]] = []
    for d in plan.drives:
        if d.kind == "poisson" and d.mean not in known:
            known[d.mean] = len(guides), len(tables)
            table = thresholds(d.mean)
            guides, tables = np.concatenate([guides, guide(table)]), np.concatenate([tables, table])
        rows.append([d.input, d.first, d.last, KINDS[d.kind], d.key, *known.get(d.mean, (0, 0))])
    strengths: np.ndarray = np.array([d.weight for d in plan.drives], plan.real)
    return np.array(rows, np.int64).reshape(-1, 7), strengths, guides, tables


def _shared(plan: Plan) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(len(v) == 1 for v in g.params) for g in plan.groups)


@functools.cache
def _compiled(
    programs: tuple[Program, ...],
    shared: tuple[tuple[bool, ...], ...],
    scaled: bool,
    direct: bool,
    plastic: bool,
    real: str,
) -> ModuleType:
    """The module of one set of equations."""
    import hashlib

    told = repr(([p.key for p in programs], shared, scaled, direct, plastic, real))
    name = f"network_{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    here = Path(__file__).parent
    printers = [*(here.parent / "dynamics" / p for p in _DYNAMICS), *(here / p for p in _HERE)]
    return load(name, functools.partial(_source, programs, shared, scaled, direct, plastic, real), printers)


def _source(
    programs: tuple[Program, ...],
    shared: tuple[tuple[bool, ...], ...],
    scaled: bool,
    direct: bool,
    plastic: bool,
    real: str,
) -> str:
    from spikenet.kernels.simulate.numba_source import network_source  # sympy comes with it

    return network_source(programs, shared, scaled, direct, plastic, real)
