"""Weighted sums of shifted rows in vector registers, for Numba. Importing this module imports numba.

Numba's loops keep a running sum in memory, where each term reads and writes it; here it stays in registers over all
terms. Terms come in groups of `GROUP`, which are added up first:

    total += ((((c0 x0) + c1 x1) + c2 x2) + c3 x3) + c4 x4        each product and its sum in one rounding

Where every x is 0 or 1 a group has one of 32 values, a table that two registers hold: its numbers, in the same order,
looked up by the five bits, are the same sums to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

LANES = 16  # of a vector
GROUP = 5  # terms that are added up before they join the total
FIELDS = 6  # groups of bits in a word
WORDS = 3  # vectors of words whose sums are in registers at once
INDEX, LANE = ir.IntType(64), ir.IntType(32)


def weigher(vectors: int) -> Callable[..., None]:
    """The function that adds up terms in that many vectors side by side, in whole groups.

    total[at + n] += coefficient[k] source[base + offset[k] + n]        k = begin .. end - 1, n < vectors LANES
    """

    @intrinsic
    def weigh(
        typing: Any, total: Any, at: Any, source: Any, base: Any, offset: Any, coefficient: Any, begin: Any, end: Any
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            to, read, offsets, coefficients = _arrays(context, builder, signature, args, (0, 2, 4, 5))
            vector = ir.VectorType(to.type.pointee, LANES)
            places = [_place(builder, to, args[1], n, vector) for n in range(vectors)]
            before = [builder.load(place, align=4) for place in places]

            def add(first: Any, sums: list[Any]) -> list[Any]:
                weights = [_spread(builder, w) for w in _following(builder, coefficients, first)]
                starts = _starts(builder, args[3], offsets, first)
                heard = [[_vector(builder, read, start, n, vector) for start in starts] for n in range(vectors)]
                return [builder.fadd(s, _weighed(builder, weights, x)) for s, x in zip(sums, heard, strict=True)]

            _store(builder, _over_groups(builder, args[6], args[7], before, add), places)
            return context.get_dummy_value()

        return types.void(total, at, source, base, offset, coefficient, begin, end), emit

    return weigh


def looks_up() -> bool:
    """Whether the processor that Numba compiles for has registers of 16 numbers that one instruction looks up."""
    return "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


@intrinsic
def _look_up(
    typing: Any, total: Any, at: Any, words: Any, base: Any, offset: Any, coefficient: Any, begin: Any, end: Any
) -> Any:
    """The sums of `weigher`, from 0, where each x is a bit, n < WORDS LANES and f < FIELDS:

    total[at + f WORDS LANES + n] = sum over k of coefficient[k] bit GROUP f + k % GROUP of words[base + offset[k] + n]

    Other bits of such a word are 0.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, read, offsets, coefficients = _arrays(context, builder, signature, args, (0, 2, 4, 5))
        vector, word = ir.VectorType(to.type.pointee, LANES), ir.VectorType(LANE, LANES)
        choose = _chooser(builder, vector, word)

        def add(first: Any, sums: list[Any]) -> list[Any]:
            weights = [_spread(builder, w) for w in _following(builder, coefficients, first)]
            tables, starts = _table(builder, weights, vector), _starts(builder, args[3], offsets, first)
            after: list[Any] = []
            for n in range(WORDS):
                bits = _vector(builder, read, starts[0], n, word)
                for start in starts[1:]:
                    bits = builder.or_(bits, _vector(builder, read, start, n, word))
                later = []
                for f, running in enumerate(sums[n * FIELDS : (n + 1) * FIELDS]):
                    field = builder.lshr(bits, ir.Constant(word, [GROUP * f] * LANES))
                    later.append(builder.fadd(running, builder.call(choose, [tables[0], field, tables[1]])))
                after += _in_turn(builder, later)
            return after

        nothing = ir.Constant(vector, [0.0] * LANES)
        sums = _over_groups(builder, args[6], args[7], [nothing] * (WORDS * FIELDS), add)
        places = [_place(builder, to, args[1], f * WORDS + n, vector) for n in range(WORDS) for f in range(FIELDS)]
        _store(builder, sums, places)
        return context.get_dummy_value()

    return types.void(total, at, words, base, offset, coefficient, begin, end), emit


look_up: Any = _look_up  # not called by Python, whatever its signature says


def transposer(streamed: bool) -> Callable[..., None]:
    """The function that sets `to[place + n column + m] = source[at + m row + n]` for n, m < LANES, in registers.

    If `streamed`, whole lines go past the caches, to addresses that are multiples of their size.
    """

    @intrinsic
    def transpose(typing: Any, source: Any, at: Any, row: Any, to: Any, place: Any, column: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            read, write = _arrays(context, builder, signature, args, (0, 3))
            vector = ir.VectorType(read.type.pointee, LANES)
            starts = [builder.add(args[1], builder.mul(args[2], ir.Constant(INDEX, m))) for m in range(LANES)]
            for n, row_of in enumerate(_turned(builder, [_vector(builder, read, m, 0, vector) for m in starts])):
                start = builder.add(args[4], builder.mul(args[5], ir.Constant(INDEX, n)))
                store = builder.store(row_of, _place(builder, write, start, 0, vector), align=64 if streamed else 4)
                if streamed:
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(LANE, 1)]))
            return context.get_dummy_value()

        return types.void(source, at, row, to, place, column), emit

    return transpose


def _over_groups(
    builder: Any, begin: Any, end: Any, before: list[Any], add: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Sums after `add(first, sums)` for the first term of each group from begin to end."""
    entry, loop, done = builder.basic_block, builder.append_basic_block("groups"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", begin, end), loop, done)

    builder.position_at_end(loop)
    first, sums = builder.phi(INDEX), [builder.phi(running.type) for running in before]
    after = add(first, sums)
    following = builder.add(first, ir.Constant(INDEX, GROUP))
    for phi, now, later in zip([first, *sums], [begin, *before], [following, *after], strict=True):
        phi.add_incoming(now, entry)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", following, end), loop, done)

    builder.position_at_end(done)
    results = [builder.phi(running.type) for running in before]
    for phi, now, later in zip(results, before, after, strict=True):
        phi.add_incoming(now, entry)
        phi.add_incoming(later, loop)
    return results


def _weighed(builder: Any, weights: list[Any], heard: list[Any]) -> Any:
    """The sum of a group."""
    fused, total = _fused(builder, weights[0].type), builder.fmul(weights[0], heard[0])
    for weight, x in zip(weights[1:], heard[1:], strict=True):
        total = builder.call(fused, [weight, x, total])
    return total


def _table(builder: Any, weights: list[Any], vector: Any) -> list[Any]:
    """The sums of a group for all its bits, as two vectors: those without its last term and those with it."""
    bits = [ir.Constant(vector, [float(n >> k & 1) for n in range(LANES)]) for k in range(GROUP - 1)]
    lower, fused = _weighed(builder, weights[:-1], bits), _fused(builder, vector)
    last = [ir.Constant(vector, [x] * LANES) for x in (0.0, 1.0)]
    return [builder.call(fused, [weights[-1], x, lower]) for x in last]


def _chooser(builder: Any, vector: Any, word: Any) -> Any:
    """Of two vectors, the numbers that the lowest five bits of each lane say."""
    kind, name = ir.FunctionType(vector, [vector, word, vector]), "llvm.x86.avx512.vpermi2var.ps.512"
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _in_turn(builder: Any, vectors: list[Any]) -> list[Any]:
    """The same vectors, ready before anything that follows is read: LLVM else reads all of it at first, and is out of
    registers. The instruction is an empty one."""
    kind = ir.FunctionType(ir.LiteralStructType([v.type for v in vectors]), [v.type for v in vectors])
    constraint = ",".join(["=v"] * len(vectors) + [str(n) for n in range(len(vectors))] + ["~{memory}"])
    same = builder.call(ir.InlineAsm(kind, "", constraint, side_effect=True), vectors)
    return [builder.extract_value(same, n) for n in range(len(vectors))]


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Columns of a square block as rows: squares of 1, 2, 4 .. change places across the diagonal."""
    size, lane = 1, ir.VectorType(LANE, LANES)
    while size < LANES:
        upper = ir.Constant(lane, [n if not n & size else LANES + n - size for n in range(LANES)])
        lower = ir.Constant(lane, [n + size if not n & size else LANES + n for n in range(LANES)])
        for m in (m for m in range(LANES) if not m & size):
            a, b = rows[m], rows[m + size]
            rows[m], rows[m + size] = builder.shuffle_vector(a, b, upper), builder.shuffle_vector(a, b, lower)
        size *= 2
    return rows


def _arrays(context: Any, builder: Any, signature: Any, args: Any, which: tuple[int, ...]) -> list[Any]:
    """Where the data of these arguments is."""
    return [context.make_array(signature.args[n])(context, builder, args[n]).data for n in which]


def _following(builder: Any, data: Any, first: Any) -> list[Any]:
    """The numbers of a group."""
    return [builder.load(builder.gep(data, [builder.add(first, ir.Constant(INDEX, k))])) for k in range(GROUP)]


def _starts(builder: Any, base: Any, offsets: Any, first: Any) -> list[Any]:
    """Where the rows of a group are read."""
    found = _following(builder, offsets, first)
    return [builder.add(base, n if n.type == INDEX else builder.sext(n, INDEX)) for n in found]


def _vector(builder: Any, data: Any, index: Any, n: int, vector: Any) -> Any:
    return builder.load(_place(builder, data, index, n, vector), align=4)


def _place(builder: Any, data: Any, index: Any, n: int, vector: Any) -> Any:
    """Where the n-th vector from an index is."""
    index = builder.add(index, ir.Constant(INDEX, n * LANES))
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _store(builder: Any, results: list[Any], places: list[Any]) -> None:
    for result, place in zip(results, places, strict=True):
        builder.store(result, place, align=4)


def _spread(builder: Any, number: Any) -> Any:
    vector = ir.VectorType(number.type, LANES)
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(LANE, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(LANE, LANES), [0] * LANES))


def _fused(builder: Any, vector: Any) -> Any:
    """LLVM's multiply and add, in one rounding where the processor can."""
    name = f"llvm.fmuladd.v{LANES}f{32 if isinstance(vector.element, ir.FloatType) else 64}"
    return builder.module.declare_intrinsic(name, (), ir.FunctionType(vector, [vector] * 3))
