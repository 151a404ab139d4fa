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


if interpreted():  # one program, and no assembler

    @triton.jit
    def _arrived(sync):  # type: ignore[no-untyped-def]
        return tl.load(sync)

else:

    @triton.jit
    def _arrived(sync):  # type: ignore[no-untyped-def]
        return tl.inline_asm_elementwise(
            "ld.acquire.gpu.global.b32 $0, [$1];", "=r,l", [sync], dtype=tl.int32, is_pure=False, pack=1
        )


@triton.jit
def wait(sync, arrivals):  # type: ignore[no-untyped-def]
    """Wait until there were so many arrivals in all."""
    while _arrived(sync) < arrivals:
        pass


@triton.jit
def deliver(  # type: ignore[no-untyped-def]
    ring,  # int32 [slots * columns]
    slot,  # of this step
    slots,
    columns,
    rows,  # that fired: `first` to `last - 1`
    first,
    last,
    begins,  # where each row's synapses begin, int64 [rows + 1]
    words,  # delay * columns + column, int32
    weights,
    parts,  # of the longest row
    PROGRAMS: tl.constexpr,
    PART: tl.constexpr,
):
    """Add the weights of all synapses of these rows where and when they arrive; programs share the rows' parts out."""
    for item in range(tl.program_id(0), (last - first) * parts, PROGRAMS):
        row = tl.load(rows + first + item // parts, cache_modifier=".cg")
        at = tl.load(begins + row) + (item % parts) * PART + tl.arange(0, PART)
        inside = at < tl.load(begins + row + 1)
        place = slot * columns + tl.load(words + at, mask=inside, other=0)
        place = tl.where(place >= slots * columns, place - slots * columns, place)
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
