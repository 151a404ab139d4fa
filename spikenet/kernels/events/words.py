"""Unaligned access to byte arrays, for the decoders' inner loops. Importing this module imports numba.

Nothing here checks a bound: the caller has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic


def _at(context: Any, builder: Any, kind: Any, array: Any, place: Any, form: Any) -> Any:
    """A pointer to values of an LLVM type at an element of an array."""
    base = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(base, [place]), form.as_pointer())


@intrinsic
def _copy16(_typing: Any, target: Any, to: Any, source: Any, origin: Any) -> Any:

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        form = ir.VectorType(ir.IntType(8), 16)
        value = builder.load(_at(context, builder, signature.args[2], args[2], args[3], form), align=1)
        builder.store(value, _at(context, builder, signature.args[0], args[0], args[1], form), align=1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), build


def _loader(bits: int, signed: bool) -> Callable[[np.ndarray, int], int]:
    """What loads a little-endian number at a byte of an array as int64."""

    def load(_typing: Any, source: Any, place: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = _at(context, builder, signature.args[0], args[0], args[1], ir.IntType(bits))
            value = builder.load(place, align=1)
            return (builder.sext if signed else builder.zext)(value, ir.IntType(64))

        return types.int64(source, types.int64), build

    return cast(Any, intrinsic(load))


@intrinsic
def _occupied(_typing: Any, source: Any, place: Any) -> Any:

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        form = ir.VectorType(ir.IntType(32), 64)
        value = builder.load(_at(context, builder, signature.args[0], args[0], args[1], form), align=4)
        marks = builder.icmp_signed("!=", value, ir.Constant(form, [0] * 64))
        return builder.bitcast(marks, ir.IntType(64))  # one instruction for 16 values where the processor has it

    return types.uint64(source, types.int64), build


def _all_lanes(builder: Any, value: Any) -> Any:
    """A vector of 16 int32 that all hold the lower half of an int64."""
    form = ir.VectorType(ir.IntType(32), 16)
    lane = builder.insert_element(ir.Constant(form, ir.Undefined), builder.trunc(value, form.element), _index(0))
    return builder.shuffle_vector(lane, ir.Constant(form, ir.Undefined), ir.Constant(form, [0] * 16))


def _index(place: int) -> Any:
    return ir.Constant(ir.IntType(32), place)


@intrinsic
def _dozen(
    _typing: Any, source: Any, place: Any, begin: Any, span: Any, width: Any, height: Any, polarities: Any, target: Any
) -> Any:
    starts = [5 * (lane % 12) for lane in range(16)]  # the last four look at the first ones again

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bytes64, lanes = ir.VectorType(ir.IntType(8), 64), ir.VectorType(ir.IntType(32), 16)
        value = builder.load(_at(context, builder, signature.args[0], args[0], args[1], bytes64), align=1)

        def gathered(places: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
            return builder.shuffle_vector(value, ir.Constant(bytes64, ir.Undefined), mask)

        def same(number: int) -> Any:
            return ir.Constant(lanes, [number] * 16)

        first, limit, wide, high, signs = (_all_lanes(builder, number) for number in args[2:7])
        x = builder.zext(gathered(starts), lanes)
        rest = builder.bitcast(gathered([start + k for start in starts for k in (4, 3, 2, 1)]), lanes)
        y, p = builder.lshr(rest, same(24)), builder.and_(builder.lshr(rest, same(23)), same(1))
        t = builder.sub(builder.and_(rest, same(0x7FFFFF)), first)
        outside = builder.icmp_unsigned(">=", t, limit)
        for column, size in ((x, wide), (y, high), (p, signs)):
            outside = builder.or_(outside, builder.icmp_unsigned(">=", column, size))
        address = builder.add(builder.mul(builder.add(builder.mul(p, high), y), wide), x)
        start = context.get_constant(types.int64, 0)
        builder.store(address, _at(context, builder, signature.args[7], args[7], start, lanes), align=4)
        return builder.icmp_unsigned("==", builder.bitcast(outside, ir.IntType(16)), ir.Constant(ir.IntType(16), 0))

    numbers = (types.int64,) * 6
    return types.boolean(source, *numbers, target), build


byte = _loader(8, signed=False)
word = _loader(32, signed=False)
signed_word = _loader(32, signed=True)


@njit(cache=True)
def big(source: np.ndarray, place: int) -> int:
    """The 4 bytes at a place as a big-endian number, int64, not negative."""
    value = word(source, place)
    return (value & 0xFF) << 24 | (value & 0xFF00) << 8 | (value >> 8) & 0xFF00 | value >> 24


copy16: Callable[[np.ndarray, int, np.ndarray, int], None] = cast(Any, _copy16)
"""Copy 16 bytes to a place of an array from a place of another: both must have them."""

occupied: Callable[[np.ndarray, int], int] = cast(Any, _occupied)
"""Which of the 64 int32 from a place of an array on are not 0: bit k (of a uint64) stands for the k-th."""

dozen: Callable[[np.ndarray, int, int, int, int, int, int, np.ndarray], bool] = cast(Any, _dozen)
"""Addresses of 12 records of 5 bytes (column, row, then polarity and 23 bits of time, most significant byte first) from
a place of an array on, which must have 64 bytes there. The others say what the records want to be: from a time on, for
a span; on a sensor of width, height, polarities. The last array, uint32 of 16, receives ``(p * H + y) * W + x``.
Returns whether all records are as they want to be."""
