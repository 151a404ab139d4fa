"""Traces, updates and e-prop in Triton: a tile of weights stays in registers through all steps. Imports triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.plasticity.ops import Change, Memory

LANES = 128
ROWS, COLUMNS = 16, 64  # of a tile
SIZES = ["steps", "batch", "outs", "ins", "each"]  # no compile of its own for the sizes 1 and multiples of 16


def trace(spikes: Tensor, start: Tensor, decay: float, nearest: bool) -> tuple[Tensor, Tensor]:
    """See `ops.trace`; spikes are [T, lanes]."""
    before, last = torch.empty_like(spikes), torch.empty_like(start)
    steps, lanes = spikes.shape
    _trace[(triton.cdiv(lanes, LANES),)](spikes, start, before, last, steps, lanes, decay, nearest, LANES, num_warps=4)
    return before, last


def update(
    weight: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None,
    modulator: Tensor | None,
) -> None:
    """See `ops.update`."""
    steps, entries, outs = gain.shape
    ins, held = weight.shape[1], eligibility is not None
    batch = len(eligibility) if eligibility is not None else 1
    grid = triton.cdiv(outs, ROWS), triton.cdiv(ins, COLUMNS)
    _update[grid](
        *(weight, gain, x, y, loss, weight if eligibility is None else eligibility),
        *(weight if modulator is None else modulator, steps, batch, entries // batch, outs, ins),
        *change,
        *(_kind(change.mu_plus), _kind(change.mu_minus), held, batch == 1, ROWS, COLUMNS),
        num_warps=4,
    )


def eprop(
    x: Tensor,
    slope: Tensor,
    signal: Tensor,
    memory: Memory,
    gradient: Tensor,
    filtered: Tensor,
    beta: Tensor | None,
    adaptation: Tensor | None,
) -> None:
    """See `ops.eprop`."""
    steps, batch, ins = x.shape
    outs, adapts = slope.shape[2], adaptation is not None
    grid = triton.cdiv(outs, ROWS), triton.cdiv(ins, COLUMNS)
    _eprop[grid](
        *(x, slope, signal, gradient, filtered),
        *(filtered if v is None else v for v in (beta, adaptation)),
        *(steps, batch, outs, ins, *memory, adapts, ROWS, COLUMNS),
        num_warps=4,
    )


def _kind(mu: float) -> int:
    """An exponent that needs no power: 0 or 1; else 2."""
    return int(mu) if mu in (0.0, 1.0) else 2


@triton.jit(do_not_specialize=["steps", "lanes"])
def _trace(  # type: ignore[no-untyped-def]
    spikes, start, before, last, steps, lanes, decay, NEAREST: tl.constexpr, LANES: tl.constexpr
):
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside, at = lane < lanes, lane.to(tl.int64)
    x = tl.load(start + lane, mask=inside, other=0.0)
    for _ in range(steps):
        now = tl.load(spikes + at, mask=inside, other=0.0)
        left = x * decay
        tl.store(before + at, left, mask=inside)
        x = tl.where(now != 0, now, left) if NEAREST else left + now
        at += lanes
    tl.store(last + lane, x, mask=inside)


@triton.jit
def _bounded(room, mu, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """room^mu; weights stay within their bounds, so that there is room or none."""
    if KIND == 0:
        factor = tl.full(room.shape, 1.0, tl.float32)
    elif KIND == 1:
        factor = room
    else:
        factor = tl.where(room > 0, tl.exp2(tl.log2(tl.maximum(room, 1e-30)) * mu), 0.0)
    return factor


@triton.jit
def _product(rows, columns, row_at, column_at, inside_rows, inside_columns):  # type: ignore[no-untyped-def]
    """The outer product of one entry's factors."""
    left = tl.load(rows + row_at, mask=inside_rows, other=0.0)
    return left[:, None] * tl.load(columns + column_at, mask=inside_columns, other=0.0)[None, :]


@triton.jit(do_not_specialize=SIZES)
def _update(  # type: ignore[no-untyped-def]
    weight,
    gain,
    x,
    y,
    loss,
    eligibility,
    modulator,
    steps,
    batch,
    each,
    outs,
    ins,
    low,
    high,
    mu_plus,
    mu_minus,
    decay,
    KIND_PLUS: tl.constexpr,
    KIND_MINUS: tl.constexpr,
    HELD: tl.constexpr,  # whether there is an eligibility
    ONE: tl.constexpr,  # of a single entry, which stays in registers
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    o = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    i = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    rows, columns = o < outs, i < ins
    inside = rows[:, None] & columns[None, :]
    tile = o[:, None] * ins + i[None, :]
    w = tl.load(weight + tile, mask=inside, other=0.0)
    e = tl.zeros((ROWS, COLUMNS), tl.float32)
    if HELD and ONE:
        e = tl.load(eligibility + tile, mask=inside, other=0.0)
    row_at, column_at, third_at = o, i, o
    for _ in range(steps):
        change = tl.zeros((ROWS, COLUMNS), tl.float32)
        held_at = tile
        for _b in range(batch):
            if HELD:
                if not ONE:
                    e = tl.load(eligibility + held_at, mask=inside, other=0.0)
                e = e * decay
            up = tl.zeros((ROWS, COLUMNS), tl.float32)
            down = tl.zeros((ROWS, COLUMNS), tl.float32)
            for _n in range(each):
                up += _product(gain, x, row_at, column_at, rows, columns)
                down += _product(y, loss, row_at, column_at, rows, columns)
                row_at += outs
                column_at += ins
            if HELD:
                rise, fall = _bounded(high - w, mu_plus, KIND_PLUS), _bounded(w - low, mu_minus, KIND_MINUS)
                e += rise * up - fall * down
                if not ONE:
                    tl.store(eligibility + held_at, e, mask=inside)
                    held_at += outs * ins
                change += tl.load(modulator + third_at, mask=rows, other=0.0)[:, None] * e
                third_at += outs
            else:  # one entry of the batch, which holds them all
                w = tl.minimum(tl.maximum(w - _bounded(w - low, mu_minus, KIND_MINUS) * down, low), high)
                change = _bounded(high - w, mu_plus, KIND_PLUS) * up
        w = tl.minimum(tl.maximum(w + change, low), high)
    tl.store(weight + tile, w, mask=inside)
    if HELD and ONE:
        tl.store(eligibility + tile, e, mask=inside)


@triton.jit(do_not_specialize=SIZES[:4])
def _eprop(  # type: ignore[no-untyped-def]
    x,
    slope,
    signal,
    gradient,
    filtered,
    beta,
    adaptation,
    steps,
    batch,
    outs,
    ins,
    rho,
    kappa,
    ADAPTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    o = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    i = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    rows, columns = o < outs, i < ins
    inside = rows[:, None] & columns[None, :]
    tile = o[:, None] * ins + i[None, :]
    g = tl.load(gradient + tile, mask=inside, other=0.0)
    held_at, row_first, column_first = tile, o, i
    lift = tl.zeros((ROWS, 1), tl.float32)
    if ADAPTS:
        lift = tl.load(beta + o, mask=rows, other=0.0)[:, None]
    for _b in range(batch):
        f = tl.load(filtered + held_at, mask=inside, other=0.0)
        a = tl.zeros((ROWS, COLUMNS), tl.float32)
        if ADAPTS:
            a = tl.load(adaptation + held_at, mask=inside, other=0.0)
        row_at, column_at = row_first, column_first
        for _ in range(steps):
            s = tl.load(slope + row_at, mask=rows, other=0.0)[:, None]
            now = tl.load(x + column_at, mask=columns, other=0.0)[None, :]
            e = s * (now - lift * a)
            if ADAPTS:
                a = (rho - lift * s) * a + s * now
            f = kappa * f + e
            g += tl.load(signal + row_at, mask=rows, other=0.0)[:, None] * f
            row_at += batch * outs
            column_at += batch * ins
        tl.store(filtered + held_at, f, mask=inside)
        if ADAPTS:
            tl.store(adaptation + held_at, a, mask=inside)
        held_at += outs * ins
        row_first += outs
        column_first += ins
    tl.store(gradient + tile, g, mask=inside)
