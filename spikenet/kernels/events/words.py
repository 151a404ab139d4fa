"""Unaligned access to byte arrays, for the decoders' inner loops. Importing this module imports numba.

Nothing here checks a bound: the caller has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


def _at(context: Any, builder: Any, kind: Any, array: Any, place: Any, form: Any) -> Any:
    """A pointer to values of an LLVM type at a byte of an array."""
    base = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(base, [place]), form.as_pointer())


@intrinsic
def copy16(_typing: Any, target: Any, to: Any, source: Any, origin: Any) -> Any:
    """Copy 16 bytes: both places must have them."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        form = ir.VectorType(ir.IntType(8), 16)
        value = builder.load(_at(context, builder, signature.args[2], args[2], args[3], form), align=1)
        builder.store(value, _at(context, builder, signature.args[0], args[0], args[1], form), align=1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), build


@intrinsic
def word(_typing: Any, source: Any, place: Any) -> Any:
    """The 4 bytes at a place as a little-endian number, int64, not negative."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_at(context, builder, signature.args[0], args[0], args[1], ir.IntType(32)), align=1)
        return builder.zext(value, ir.IntType(64))

    return types.int64(source, types.int64), build
