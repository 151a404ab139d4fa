"""Event-driven convolution in Triton. Importing this module imports triton.

A program owns some output channels of a row. It writes the bias, then adds the row's events in order; a barrier between
two events lets one see what the other has written, since another thread may have done so. Half precision is summed in
float32 and rounded at the end. The weight gradient sums over the events of one input channel, sorted once a call.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.synapse.event_linear import rows_of
from spikenet.kernels.synapse.geometry import Geometry, as_taps, as_weight, reached
from spikenet.kernels.synapse.triton_event_linear import by_group

CHANNELS = 32  # output channels of a program at most
FILL = 1024  # outputs written at a time
SEGMENT = 256  # events of a program, on average, for the weights
EVENTS = 4  # of them at a time
MOST = 1 << 14  # programs that share the events of one input channel


def forward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """See `event_conv2d`."""
    rows, channels = len(indptr) - 1, len(weight)
    y = torch.empty(rows, channels, *geometry.out, dtype=torch.float32, device=weight.device)
    block = min(CHANNELS, triton.next_power_of_2(channels))
    arrays = indptr, indices.contiguous(), values.contiguous(), as_taps(weight, geometry).contiguous()
    start_from = weight if bias is None else bias.contiguous()
    grid = (rows, triton.cdiv(channels, block))
    sizes = channels, geometry.channels // geometry.groups, channels // geometry.groups
    _forward[grid](*arrays, start_from, y, *sizes, bias is not None, block, FILL, **_places(weight, geometry))
    return y.to(weight.dtype)


def gradients(
    indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, wants_bias: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """See `event_conv2d`: the gradients of weight and bias."""
    per_group, pixels = grad.shape[1] // geometry.groups, geometry.size[0] * geometry.size[1]
    begins, order = by_group(indices // pixels, geometry.channels)
    row, place = rows_of(indptr, len(indices))[order], (indices % pixels)[order]
    segments = min(max(1, len(indices) // (geometry.channels * SEGMENT)), MOST)
    taps = geometry.kernel[0] * geometry.kernel[1]
    sums = torch.empty(geometry.channels, segments, taps, per_group, dtype=torch.float32, device=grad.device)
    block = min(CHANNELS, triton.next_power_of_2(per_group))
    grid = (geometry.channels, triton.cdiv(per_group, block), segments)
    arrays = begins, row, place, values[order], grad.contiguous()
    sizes = grad.shape[1], geometry.channels // geometry.groups, per_group
    _gradients[grid](*arrays, sums, *sizes, segments, block, EVENTS, **_places(grad, geometry))
    gb = grad.sum((0, 2, 3), dtype=torch.float32) if wants_bias else grad.new_zeros(grad.shape[1])
    return as_weight(sums.sum(1), geometry).to(grad.dtype), gb.to(grad.dtype)


def of_values(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor, geometry: Geometry
) -> Tensor:
    """See `event_conv2d`: the gradient of the values."""
    gv = torch.empty_like(values, memory_format=torch.contiguous_format)
    if len(indices):
        per_group = len(weight) // geometry.groups
        block = min(CHANNELS, triton.next_power_of_2(per_group))
        arrays = rows_of(indptr, len(indices)), indices.contiguous(), as_taps(weight, geometry).contiguous()
        sizes = len(weight), geometry.channels // geometry.groups, per_group
        _of_values[(len(indices),)](*arrays, grad.contiguous(), gv, *sizes, block, **_places(weight, geometry))
    return gv


def _places(like: Tensor, geometry: Geometry) -> dict[str, Any]:
    """Where input rows and columns reach, and the sizes that turn a number into a pixel."""
    down, across = reached(geometry, like.device)
    (height, width), (kh, kw), out = geometry.size, geometry.kernel, geometry.out
    sizes = {"pixels": height * width, "width": width, "pixels_out": out[0] * out[1], "width_out": out[1]}
    return {"down": down, "across": across, **sizes, "kh": kh, "kw": kw, "TAPS": triton.next_power_of_2(kh * kw)}


@triton.jit
def _reach(  # type: ignore[no-untyped-def]
    place, down, across, width, width_out, kh: tl.constexpr, kw: tl.constexpr, TAPS: tl.constexpr
):
    """The taps, and the output pixel that each one reaches from an input pixel, or less than 0."""
    tap = tl.arange(0, TAPS)
    inside = tap < kh * kw
    oy = tl.load(down + (place // width) * kh + tap // kw, mask=inside, other=-1)
    ox = tl.load(across + (place % width) * kw + tap % kw, mask=inside, other=-1)
    return tap, tl.where((oy < 0) | (ox < 0), -1, oy * width_out + ox)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    indptr,
    indices,
    values,
    taps,
    bias,
    y,
    channels,
    per_channel,
    per_group,
    BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
    FILL: tl.constexpr,
    down,
    across,
    pixels,
    width,
    pixels_out,
    width_out,
    kh: tl.constexpr,
    kw: tl.constexpr,
    TAPS: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * BLOCK
    own = tl.minimum(channels - begin, BLOCK) * pixels_out
    planes = y + (r * channels + begin) * pixels_out
    for at in range(0, own, FILL):
        n = at + tl.arange(0, FILL)
        value = tl.zeros((FILL,), tl.float32)
        if BIAS:
            value += tl.load(bias + begin + n // pixels_out, mask=n < own, other=0.0).to(tl.float32)
        tl.store(planes + n, value, mask=n < own)
    tl.debug_barrier()
    o = begin + tl.arange(0, BLOCK)
    first, last = tl.load(indptr + r), tl.load(indptr + r + 1)
    for e in range(first, last):
        i, v = tl.load(indices + e), tl.load(values + e)
        c = i // pixels
        tap, p = _reach(i % pixels, down, across, width, width_out, kh, kw, TAPS)
        of_group = o - (c // per_channel) * per_group
        here = (p >= 0)[:, None] & ((of_group >= 0) & (of_group < per_group) & (o < channels))[None, :]
        w = tl.load(taps + (c * (kh * kw) + tap)[:, None] * per_group + of_group[None, :], mask=here, other=0.0)
        to = planes + (o - begin)[None, :] * pixels_out + p[:, None]
        tl.store(to, tl.load(to, mask=here, other=0.0) + v * w.to(tl.float32), mask=here)
        tl.debug_barrier()


@triton.jit
def _gradients(  # type: ignore[no-untyped-def]
    begins,
    row,
    place,
    values,
    gy,
    sums,
    channels,
    per_channel,
    per_group,
    segments,
    BLOCK: tl.constexpr,
    EVENTS: tl.constexpr,
    down,
    across,
    pixels,
    width,
    pixels_out,
    width_out,
    kh: tl.constexpr,
    kw: tl.constexpr,
    TAPS: tl.constexpr,
):
    c, s = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.arange(0, TAPS)
    channel = (c // per_channel) * per_group + o
    begin, end = tl.load(begins + c), tl.load(begins + c + 1)
    share = (end - begin + segments - 1) // segments
    first = begin + s * share
    last = tl.minimum(first + share, end)
    total = tl.zeros((EVENTS, TAPS, BLOCK), tl.float32)
    for k in range(first, last, EVENTS):
        e = k + tl.arange(0, EVENTS)
        r = tl.load(row + e, mask=e < last, other=0).to(tl.int64)
        at = tl.load(place + e, mask=e < last, other=0)
        v = tl.load(values + e, mask=e < last, other=0.0)
        inside = (e < last)[:, None] & (tap < kh * kw)[None, :]
        oy = tl.load(down + (at // width)[:, None] * kh + (tap // kw)[None, :], mask=inside, other=-1)
        ox = tl.load(across + (at % width)[:, None] * kw + (tap % kw)[None, :], mask=inside, other=-1)
        here = ((oy >= 0) & (ox >= 0))[:, :, None] & (o < per_group)[None, None, :]
        plane = (r[:, None] * channels + channel[None, :]) * pixels_out
        g = tl.load(gy + plane[:, None, :] + (oy * width_out + ox)[:, :, None], mask=here, other=0.0)
        total += v[:, None, None] * g.to(tl.float32)
    to = sums + ((c * segments + s) * (kh * kw) + tap)[:, None] * per_group + o[None, :]
    tl.store(to, tl.sum(total, axis=0), mask=(tap < kh * kw)[:, None] & (o < per_group)[None, :])


@triton.jit
def _of_values(  # type: ignore[no-untyped-def]
    row,
    indices,
    taps,
    gy,
    gv,
    channels,
    per_channel,
    per_group,
    BLOCK: tl.constexpr,
    down,
    across,
    pixels,
    width,
    pixels_out,
    width_out,
    kh: tl.constexpr,
    kw: tl.constexpr,
    TAPS: tl.constexpr,
):
    e = tl.program_id(0).to(tl.int64)
    r, i = tl.load(row + e).to(tl.int64), tl.load(indices + e)
    c = i // pixels
    tap, p = _reach(i % pixels, down, across, width, width_out, kh, kw, TAPS)
    planes = gy + (r * channels + (c // per_channel) * per_group) * pixels_out
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for first in range(0, per_group, BLOCK):
        o = first + tl.arange(0, BLOCK)
        here = (p >= 0)[:, None] & (o < per_group)[None, :]
        g = tl.load(planes + o[None, :] * pixels_out + p[:, None], mask=here, other=0.0).to(tl.float32)
        w = tl.load(taps + (c * (kh * kw) + tap)[:, None] * per_group + o[None, :], mask=here, other=0.0)
        total += g * w.to(tl.float32)
    tl.store(gv + e, tl.sum(tl.sum(total, axis=1), axis=0))
