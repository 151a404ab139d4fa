"""Weighted sums of shifted rows in vector registers, for Numba. Importing this module imports numba.

Numba's loops keep a running sum in memory, where each term reads and writes it; here it stays in registers over all
terms. A term is multiplied and added in one rounding where the processor can, in vectors and alone alike, so that the
two give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LANES = 16  # of a vector
INDEX = ir.IntType(64)


@intrinsic
def _multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c` of one type."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(_fused(builder, args[0].type), args)

    return c(c, c, c), emit


multiply_add: Any = _multiply_add  # not called by Python, whatever its signature says


def weigher(vectors: int) -> Callable[..., None]:
    """The function that adds up terms in that many vectors side by side.

    total[at + n] += coefficient[k] source[base + offset[k] + n]        k = begin .. end - 1 in turn, n < vectors LANES
    """

    @intrinsic
    def weigh(
        typing: Any, total: Any, at: Any, source: Any, base: Any, offset: Any, coefficient: Any, begin: Any, end: Any
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            to, read, offsets, coefficients = (
                context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 2, 4, 5)
            )
            _emit(builder, vectors, (to, args[1]), (read, args[3]), offsets, coefficients, args[6], args[7])
            return context.get_dummy_value()

        return types.void(total, at, source, base, offset, coefficient, begin, end), emit

    return weigh


def _emit(
    builder: Any, vectors: int, total: Any, source: Any, offsets: Any, coefficients: Any, begin: Any, end: Any
) -> None:
    vector = ir.VectorType(total[0].type.pointee, LANES)
    places = [_place(builder, total[0], total[1], n, vector) for n in range(vectors)]
    before = [builder.load(place, align=4) for place in places]
    entry, loop, done = builder.basic_block, builder.append_basic_block("terms"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", begin, end), loop, done)

    builder.position_at_end(loop)
    k, sums = builder.phi(INDEX), [builder.phi(vector) for _ in places]
    weight = _spread(builder, builder.load(builder.gep(coefficients, [k])), vector)
    offset = builder.load(builder.gep(offsets, [k]))
    start = builder.add(source[1], offset if offset.type == INDEX else builder.sext(offset, INDEX))
    fused, after = _fused(builder, vector), []
    for n, running in enumerate(sums):
        heard = builder.load(_place(builder, source[0], start, n, vector), align=4)
        after.append(builder.call(fused, [heard, weight, running]))
        running.add_incoming(before[n], entry)
        running.add_incoming(after[n], loop)
    following = builder.add(k, ir.Constant(INDEX, 1))
    k.add_incoming(begin, entry)
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, end), loop, done)

    builder.position_at_end(done)
    results = [builder.phi(vector) for _ in places]
    for n, result in enumerate(results):
        result.add_incoming(before[n], entry)
        result.add_incoming(after[n], loop)
    for result, place in zip(results, places, strict=True):
        builder.store(result, place, align=4)


@intrinsic
def _transposed(typing: Any, source: Any, at: Any, row: Any, to: Any, place: Any, column: Any) -> Any:
    """`to[place + n column + m] = source[at + m row + n]` for n, m < LANES, in registers."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read, write = (context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 3))
        vector = ir.VectorType(read.type.pointee, LANES)
        rows = []
        for m in range(LANES):
            start = builder.add(args[1], builder.mul(args[2], ir.Constant(INDEX, m)))
            rows.append(builder.load(_place(builder, read, start, 0, vector), align=4))
        for n, row_of in enumerate(_turned(builder, rows)):
            start = builder.add(args[4], builder.mul(args[5], ir.Constant(INDEX, n)))
            builder.store(row_of, _place(builder, write, start, 0, vector), align=4)
        return context.get_dummy_value()

    return types.void(source, at, row, to, place, column), emit


transposed: Any = _transposed


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Columns of a square block as rows: squares of 1, 2, 4 .. change places across the diagonal."""
    size, lane = 1, ir.VectorType(ir.IntType(32), LANES)
    while size < LANES:
        upper = ir.Constant(lane, [n if not n & size else LANES + n - size for n in range(LANES)])
        lower = ir.Constant(lane, [n + size if not n & size else LANES + n for n in range(LANES)])
        for m in (m for m in range(LANES) if not m & size):
            a, b = rows[m], rows[m + size]
            rows[m], rows[m + size] = builder.shuffle_vector(a, b, upper), builder.shuffle_vector(a, b, lower)
        size *= 2
    return rows


def _place(builder: Any, data: Any, index: Any, n: int, vector: Any) -> Any:
    """Where the n-th vector from an index is."""
    index = builder.add(index, ir.Constant(INDEX, n * LANES))
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _spread(builder: Any, number: Any, vector: Any) -> Any:
    nothing, lane = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, number, ir.Constant(lane, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(lane, LANES), [0] * LANES))


def _fused(builder: Any, kind: Any) -> Any:
    """LLVM's multiply and add of numbers or vectors."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    name = ("v16" if kind is not element else "") + ("f32" if isinstance(element, ir.FloatType) else "f64")
    return builder.module.declare_intrinsic(f"llvm.fmuladd.{name}", (), ir.FunctionType(kind, [kind] * 3))
