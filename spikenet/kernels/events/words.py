"""Unaligned access to byte arrays, for the decoders' inner loops. Importing this module imports numba.

Nothing here checks a bound: the caller has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


def _at(context: Any, builder: Any, kind: Any, array: Any, place: Any, form: Any) -> Any:
    """A pointer to values of an LLVM type at a byte of an array."""
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


byte = _loader(8, signed=False)
word = _loader(32, signed=False)
signed_word = _loader(32, signed=True)

copy16: Callable[[np.ndarray, int, np.ndarray, int], None] = cast(Any, _copy16)
"""Copy 16 bytes to a place of an array from a place of another: both must have them."""
