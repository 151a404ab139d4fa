"""The plain simulation, one step after the other in torch and NumPy: what the compiled loop is tested against."""

from __future__ import annotations

import numpy as np
import torch

from spikenet.kernels.dynamics.philox import draw, philox
from spikenet.kernels.dynamics.reference import step as advance
from spikenet.kernels.simulate.inlets import inlets
from spikenet.kernels.simulate.plan import BLOCK, Drive, Group, Plan, Recorded, Sources, columns, shares
from spikenet.kernels.simulate.poisson import numbers, thresholds


class Engine:
    """A network that can be advanced; see `engine.Engine`."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device, self.step = plan, device, 0
        self.tally = np.zeros(plan.rows, np.int64)
        self._fired: dict[int, np.ndarray] = {}  # rows, ascending, by step
        self._tables = {d.mean: thresholds(d.mean) for d in plan.drives if d.kind == "poisson"}
        self._real = torch.float64 if plan.real is np.float64 else torch.float32
        self.load_state([g.state for g in plan.groups])

    def load_state(self, states: list[list[np.ndarray]]) -> None:
        self._states = [[torch.tensor(v, dtype=self._real) for v in values] for values in states]

    def state(self) -> list[list[np.ndarray]]:
        return [[v.numpy().copy() for v in values] for values in self._states]

    def in_flight(self) -> tuple[np.ndarray, np.ndarray]:
        times = sorted(t for t in self._fired if t >= self.step - self.plan.horizon)
        steps = [np.full(len(self._fired[t]), t, np.int64) for t in times]
        nothing = np.empty(0, np.int64)
        return np.concatenate([*steps, nothing]), np.concatenate([*(self._fired[t] for t in times), nothing])

    def resume(self, step: int, steps: np.ndarray, rows: np.ndarray) -> None:
        self.step = step
        self._fired = {int(t): rows[steps == t] for t in np.unique(steps)}

    def run(self, steps: int, sources: Sources, watched: np.ndarray) -> Recorded:
        counts = np.zeros((steps, int(self.plan.populations.max(initial=0)) + 1), np.int32)
        found: list[np.ndarray] = []
        for s in range(steps):
            spiking = self._step()
            own = np.concatenate([*spiking, np.empty(0, np.int64)])
            np.add.at(self.tally, own, 1)
            np.add.at(counts[s], self.plan.populations[own], 1)
            found.append(np.stack([np.full(len(own), s), own])[:, watched[own] > 0])
            given = [
                sources.rows[a:b].astype(np.int64)
                for a, b in zip(sources.indptr[:, s], sources.indptr[:, s + 1], strict=True)
            ]
            self._fired[self.step] = np.concatenate([own, *given])
            if self.plan.learning is not None:
                self.plan.learning.step(self.step, self._fired)
            self._fired.pop(self.step - self.plan.horizon, None)
            self.step += 1
        return Recorded.joined(steps, [np.concatenate([*found, np.empty((2, 0))], 1)], counts)

    def _step(self) -> list[np.ndarray]:
        """All groups take a step; returns the rows that fire."""
        plan = self.plan
        x: list[list[np.ndarray]] = [[np.zeros(g.lanes, plan.real) for _ in g.program.inputs] for g in plan.groups]
        if plan.direct:
            fired = [self._advance(g, some) for g, some in enumerate(x)]
            taking = [[self._held(g, name) for name in inlets(group.program)] for g, group in enumerate(plan.groups)]
            self._drive(taking)
            self._deliver(taking)
            return fired
        self._deliver(x)
        for group, some in zip(plan.groups, x, strict=True):
            for scale, row in zip(group.scales, some, strict=True):
                row *= plan.real(scale)
        self._drive(x)
        return [self._advance(g, some) for g, some in enumerate(x)]

    def _held(self, g: int, name: str) -> np.ndarray:
        """A group's state, to be written to."""
        return self._states[g][self.plan.groups[g].program.state.index(name)].numpy()

    def _deliver(self, into: list[list[np.ndarray]]) -> None:
        """Add the weights that arrive at this step, one by one, for each group and input."""
        plan = self.plan
        lanes, inputs = [g.lanes for g in plan.groups], [len(g.program.inputs) for g in plan.groups]
        for share, shard in zip(shares(lanes, len(plan.shards)), plan.shards, strict=True):
            begins, size = columns(lanes, inputs, share)
            sums: np.ndarray = np.zeros(size, plan.real)
            pieces = [
                (row[low * BLOCK : high * BLOCK], begins[g, k])
                for g, (low, high) in enumerate(share)
                for k, row in enumerate(into[g])
            ]
            for piece, at in pieces:
                sums[at : at + len(piece)] = piece
            for k, delay in enumerate(plan.classes.delay):
                for row in self._fired.get(self.step - int(delay), ()):
                    i = int(row) * len(plan.classes.delay) + k
                    some = slice(int(shard.offsets[i]), int(shard.offsets[i + 1]))
                    weights = shard.weights[some] if shard.weights.size else plan.classes.weight[k]
                    np.add.at(sums, shard.targets[some], weights)
            for piece, at in pieces:
                piece[:] = sums[at : at + len(piece)]

    def _drive(self, into: list[list[np.ndarray]]) -> None:
        """Add the drives, likewise."""
        for d in self.plan.drives:
            into[d.group][d.input][d.first : d.last] += self._driven(d, self.plan.groups[d.group])

    def _advance(self, g: int, x: list[np.ndarray]) -> np.ndarray:
        """One step of a group with these inputs; returns the rows that fire."""
        group = self.plan.groups[g]
        lanes = torch.arange(group.lanes)
        at = torch.tensor(group.key), torch.tensor(self.step)
        draws = [draw(kind, *at, lanes, i, self._real) for i, (_, kind) in enumerate(group.program.draws)]
        params = [torch.tensor(p, dtype=self._real).expand(group.lanes) for p in group.params]
        z, self._states[g] = advance(group.program, [torch.from_numpy(v) for v in x], self._states[g], draws, params)
        return group.first_row + z.nonzero()[:, 0].numpy()

    def _driven(self, drive: Drive, group: Group) -> np.ndarray:
        """What a drive adds to its lanes at this step."""
        real, some = self.plan.real, slice(drive.first, drive.last)
        weight = real(drive.weight)
        if drive.kind == "constant":
            return np.full(drive.last - drive.first, weight)
        key, now = torch.tensor(drive.key), torch.tensor(self.step)
        if drive.kind == "poisson":
            words = _lane_words(key, self.step, group.lanes)[some]
            return weight * numbers(self._tables[drive.mean], words).astype(real)
        return weight * draw(
            "normal", key, now, torch.arange(drive.first, drive.last), 0, torch.float64
        ).numpy().astype(real)


def _lane_words(key: torch.Tensor, step: int, lanes: int) -> np.ndarray:
    """The word of each lane, see `numba_loop.block_words`."""
    quads = BLOCK // 4
    lane = torch.arange(lanes)
    counter = lane // BLOCK * quads + lane % quads
    zero = torch.zeros_like(lane)
    four = philox(key, (counter, zero + (step & 0xFFFFFFFF), zero + (step >> 32), zero))
    return torch.stack(four).gather(0, (lane % BLOCK // quads)[None])[0].numpy().astype(np.uint32)
