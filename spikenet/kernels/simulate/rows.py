"""A plan's synapses as an engine wants them that sends each spike out when it comes: row by row on one device, with
integer weights, so that sums do not depend on their order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels.simulate.plan import BLOCK, Plan, Shard, columns, shares

PIECE = 1 << 25  # synapses that are worked on together
LARGEST_SUM = 2**31 - 1


class Rows(NamedTuple):
    """The synapses of row r are `begins[r]` to the next one. What arrives at a column is a sum of `weights`, in which 1
    stands for the `scales` of its group and input."""

    begins: Tensor  # int64 [rows + 1]
    words: Tensor  # int32 [E]: delay * columns + column
    weights: Tensor  # int16 or int32 [E]
    columns: int
    at: np.ndarray  # int64 [groups, most inputs]: the first column of an input
    scales: list[list[float]]

    @property
    def longest(self) -> int:
        """Synapses of the longest row."""
        return int(self.begins.diff().max()) if len(self.begins) > 1 else 0


class _Piece(NamedTuple):
    """Some synapses of a shard: where in it they lie, which row and class they are of, and their columns."""

    first: int
    last: int
    row: Tensor
    kind: Tensor
    column: Tensor


def rows(plan: Plan, device: torch.device) -> Rows:
    """Lay the synapses of all shards out on a device. Weights that are no integers are rounded to multiples of the
    smallest power of two with which no sum of a step can pass 31 bits.

    Raises:
        BackendError: for integer weights whose sums may pass them.
    """
    lanes, inputs = [g.lanes for g in plan.groups], [len(g.program.inputs) for g in plan.groups]
    at, width = columns(lanes, inputs, shares(lanes, 1)[0])
    tables = [_columns(plan, p, at) for p in range(len(plan.shards))]
    each = [_ends(shard, plan.rows).diff() for shard in plan.shards]
    begins = torch.zeros(plan.rows + 1, dtype=torch.int64)
    begins[1:] = torch.stack(each).sum(0).cumsum(0)
    quanta = _quanta(plan, tables, at, width, device)
    synapses = int(begins[-1])
    words = torch.zeros(synapses, dtype=torch.int32, device=device)
    weights = torch.zeros(synapses, dtype=torch.int16 if plan.scaled else torch.int32, device=device)
    delay = torch.from_numpy(plan.classes.delay).to(device) * width
    free = begins[:-1].to(device, copy=True)
    for shard, table, n in zip(plan.shards, tables, each, strict=True):
        moved = free - _ends(shard, plan.rows)[:-1].to(device)
        for some in _pieces(shard, table, plan.rows, device):
            places = torch.arange(some.first, some.last, device=device) + moved[some.row]
            words[places] = (delay[some.kind] + some.column).int()
            given = _weights(plan, shard, some, device)
            found = given if plan.scaled else torch.round(given.double() / quanta[some.column])
            weights[places] = found.to(weights.dtype)
        free += n.to(device)
    scales = [
        [float(g.scales[k]) if plan.scaled else float(quanta[at[i, k]]) for k in range(inputs[i])]
        for i, g in enumerate(plan.groups)
    ]
    return Rows(begins.to(device), words, weights, width, at, scales)


def _ends(shard: Shard, n_rows: int) -> Tensor:
    """Where each row of a shard begins, int64 [rows + 1]."""
    classes = (len(shard.offsets) - 1) // n_rows
    return torch.from_numpy(shard.offsets[np.arange(n_rows + 1) * classes].astype(np.int64))


def _columns(plan: Plan, p: int, at: np.ndarray) -> Tensor:
    """For each column of a thread's sums the one among all."""
    lanes, inputs = [g.lanes for g in plan.groups], [len(g.program.inputs) for g in plan.groups]
    share = shares(lanes, len(plan.shards))[p]
    begins, width = columns(lanes, inputs, share)
    table = np.zeros(width, np.int64)
    for g, ((low, high), n) in enumerate(zip(share, inputs, strict=True)):
        for k in range(n):
            size = (high - low) * BLOCK
            table[begins[g, k] : begins[g, k] + size] = at[g, k] + low * BLOCK + np.arange(size)
    return torch.from_numpy(table)


def _pieces(shard: Shard, table: Tensor, n_rows: int, device: torch.device) -> Iterator[_Piece]:
    """A shard's synapses, whole rows at a time."""
    classes, table = max((len(shard.offsets) - 1) // n_rows, 1), table.to(device)
    signed = shard.targets.view(np.dtype(f"i{shard.targets.itemsize}"))  # torch reads these
    mask = (1 << 8 * shard.targets.itemsize) - 1
    step = max(1, n_rows * PIECE // max(len(shard.targets), 1))
    for low in range(0, n_rows, step):
        ends = shard.offsets[low * classes : (low + step) * classes + 1].astype(np.int64)
        n = torch.from_numpy(ends).to(device).diff()
        run = torch.repeat_interleave(torch.arange(len(n), device=device), n)
        first, last = int(ends[0]), int(ends[-1])
        target = torch.from_numpy(signed[first:last]).to(device).long() & mask
        yield _Piece(first, last, low + run // classes, run % classes, table[target])


def _weights(plan: Plan, shard: Shard, some: _Piece, device: torch.device) -> Tensor:
    if shard.weights.size:
        return torch.from_numpy(shard.weights[some.first : some.last]).to(device)
    return torch.from_numpy(plan.classes.weight).to(device)[some.kind]


def _quanta(plan: Plan, tables: list[Tensor], at: np.ndarray, width: int, device: torch.device) -> Tensor:
    """What 1 in a sum stands for, a power of two for each input of a group, float64 [columns]."""
    most = torch.zeros(width, dtype=torch.float64, device=device)
    heard = torch.zeros(width, dtype=torch.int64, device=device)
    for shard, table in zip(plan.shards, tables, strict=True):
        for some in _pieces(shard, table, plan.rows, device):
            most.index_add_(0, some.column, _weights(plan, shard, some, device).double().abs())
            heard += torch.bincount(some.column, minlength=width)
    at_once = max([most_in_step // n for n, most_in_step in plan.sources], default=1)
    quanta = torch.ones(width, dtype=torch.float64)
    for g, group in enumerate(plan.groups):
        for k in range(len(group.program.inputs)):
            own = slice(int(at[g, k]), int(at[g, k]) + group.lanes)
            largest, synapses = float(most[own].max()) * at_once, int(heard[own].max()) * at_once
            if plan.scaled and largest > LARGEST_SUM:
                raise BackendError(
                    f"{synapses:,} spikes can arrive at a neuron in a step, too many for sums of weights of 16 bits on "
                    "a GPU; take weight_bits=32"
                )
            if largest > 0.0:  # each synapse is rounded by half a quantum at most
                bits = math.floor(math.log2((LARGEST_SUM - synapses) / largest))
                quanta[own] = 2.0 ** -min(bits, 126)
    return quanta.to(device)
