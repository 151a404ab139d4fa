"""The parts of the GPU's time loop that are the same for all neurons. Importing this module imports triton.

All programs of the loop are on the device at the same time and meet twice a step. What a spike adds at its arrival goes
into a ring of sums as soon as it comes: integers, so that the order in which they are added does not matter.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spikenet.kernels.simulate.plan import BLOCK as _BLOCK
from spikenet.kernels.triton_device import interpreted

LANES = tl.constexpr(_BLOCK)  # that share a block of Poisson words, as on the CPU
QUADS = tl.constexpr(_BLOCK // 4)


@triton.jit
def arrive(sync):  # type: ignore[no-untyped-def]
    """Say that this program is here; what it wrote is seen by all who wait for it."""
    tl.debug_barrier()
    tl.atomic_add(sync, 1, sem="release")


if interpreted():  # one program, which never has to wait

    @triton.jit
    def _until(sync, arrivals):  # type: ignore[no-untyped-def]
        pass

else:

    @triton.jit
    def _until(sync, arrivals):  # type: ignore[no-untyped-def]
        """One thread looks; the others wait at the barrier that follows."""
        tl.inline_asm_elementwise(
            """
            {
                .reg .pred %p<2>;
                .reg .b32 %r<2>;
                mov.u32 %r0, %tid.x;
                setp.ne.u32 %p0, %r0, 0;
                @%p0 bra done;
            again:
                ld.acquire.gpu.global.b32 %r1, [$1];
                setp.lt.s32 %p1, %r1, $2;
                @%p1 bra again;
            done:
                mov.b32 $0, 0;
            }
            """,
            "=r,l,r",
            [sync, arrivals],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@triton.jit
def wait(sync, arrivals):  # type: ignore[no-untyped-def]
    """Wait until there were so many arrivals in all."""
    _until(sync, arrivals)
    tl.debug_barrier()


@triton.jit
def deliver(  # type: ignore[no-untyped-def]
    ring,  # int32 [slots * columns]
    slot,  # of this step
    slots,
    columns,
    starts,  # where the synapses of each row that fired begin, int64; those of this step are `first` to `last - 1`
    lengths,  # how many there are, int32
    first,
    last,
    words,  # delay * columns + column, int32
    weights,
    parts,  # of the longest row
    PROGRAMS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    PART: tl.constexpr,
):
    """Add the weights of all synapses of these rows where and when they arrive; programs share the rows' parts out.

    The first round reads on past the last row, so as not to wait for its number.
    """
    items, size, now = (last - first) * parts, slots * columns, slot * columns
    _some(ring, now, size, starts + first, lengths + first, 0, items, words, weights, parts, PROGRAMS, AT_ONCE, PART)
    for k in range(PROGRAMS * AT_ONCE, items, PROGRAMS * AT_ONCE):
        _some(
            ring, now, size, starts + first, lengths + first, k, items, words, weights, parts, PROGRAMS, AT_ONCE, PART
        )


@triton.jit
def _some(  # type: ignore[no-untyped-def]
    ring,
    now,
    size,
    starts,
    lengths,
    begin,
    items,
    words,
    weights,
    parts,
    PROGRAMS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    PART: tl.constexpr,
):
    item = begin + tl.program_id(0) + PROGRAMS * tl.arange(0, AT_ONCE)
    start = tl.load(starts + item // parts, cache_modifier=".cg")
    length = tl.load(lengths + item // parts, cache_modifier=".cg")
    e = (item % parts * PART)[:, None] + tl.arange(0, PART)[None, :]
    inside = (item < items)[:, None] & (e < length[:, None])
    at = start[:, None] + e
    place = now + tl.load(words + at, mask=inside, other=0)
    place = tl.where(place >= size, place - size, place)
    weight = tl.load(weights + at, mask=inside, other=0).to(tl.int32)
    tl.atomic_add(ring + place, weight, mask=inside, sem="relaxed")


@triton.jit
def quad(lane):  # type: ignore[no-untyped-def]
    """The counter whose four words a lane shares with three others, see `numba_loop.block_words`."""
    return lane // LANES * QUADS + lane % QUADS


@triton.jit
def own_word(lane, w0, w1, w2, w3):  # type: ignore[no-untyped-def]
    """Which of them is the lane's, int64."""
    which = lane % LANES // QUADS
    word = tl.where(which < 2, tl.where(which == 0, w0, w1), tl.where(which == 2, w2, w3))
    return word.to(tl.int64)


@triton.jit
def number(table, word, HALVINGS: tl.constexpr):  # type: ignore[no-untyped-def]
    """How many entries of a table of `2^HALVINGS`, ascending, are at most `word`; the last one never is."""
    found = tl.zeros_like(word)
    for k in tl.static_range(HALVINGS):
        more = found + (1 << (HALVINGS - 1 - k))
        found = tl.where(word >= tl.load(table + more - 1), more, found)
    return found.to(tl.float32)
