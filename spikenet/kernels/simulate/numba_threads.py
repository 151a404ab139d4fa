"""What compiled loops need of the processor: atomic numbers, waiting, a prefetch, bits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

intrinsic: Any = _intrinsic  # callable from compiled code alone
# For functions of a time loop: without reference counts, which would take longer than a small network's step.
bare: Any = njit(nogil=True, error_model="numpy", _nrt=False)  # type: ignore[call-overload]
SPINS = 4000  # looks at another thread before the processor is offered to others
APART = 8  # int64 of a cache line


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, made, [index], wraparound=False)


@intrinsic
def atomic_store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Set an element of an int64 array, after all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        builder.store_atomic(arguments[2], place, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@intrinsic
def atomic_load(typing: Any, array: Any, index: Any) -> Any:
    """An element of an int64 array, as it is now."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(array, types.int64), generate


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element of a one-dimensional array, which may lie past its end."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        place = builder.bitcast(place, cgutils.voidptr_t)
        number = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [cgutils.voidptr_t], ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, *[number] * 3])
        )
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic
def set_bytes(typing: Any, array: Any, index: Any) -> Any:
    """Which of 64 elements of a uint8 array, from `index` on, are not zero: one bit each, uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        kind = ir.VectorType(ir.IntType(8), 64)
        found = builder.load(builder.bitcast(place, kind.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_unsigned("!=", found, ir.Constant(kind, [0] * 64)), ir.IntType(64))

    return types.uint64(array, types.int64), generate


@intrinsic
def lowest(typing: Any, bits: Any) -> Any:
    """The place of the lowest bit of a uint64 that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _sched_yield(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


YIELDS = hasattr(os, "sched_yield")


@bare
def give_way() -> None:
    """Let another thread have the processor, where there is a call for it; else spin on."""
    if YIELDS:
        _sched_yield()


@bare
def arrive(sync: np.ndarray, thread: int, turn: int) -> None:
    """Say that this thread is done with its `turn`-th turn (from 0). `sync` [threads * APART], int64, begins as 0."""
    atomic_store(sync, thread * APART, turn + 1)


@bare
def wait(sync: np.ndarray, threads: int, turn: int) -> None:
    """Until all threads have arrived at this turn: what they wrote before is then seen here."""
    for thread in range(threads):
        spins = 0
        while atomic_load(sync, thread * APART) <= turn:
            spins += 1
            if spins > SPINS:
                give_way()
