"""Weighted sums in vector registers: exact sums of whole numbers, and the same bits in either way."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from spikenet.kernels.delay.numba_vectors import (
    FIELDS,
    GROUP,
    LANES,
    WORDS,
    look_up,
    looks_up,
    transposer,
    weigher,
)

COUNT = 3
TILE = WORDS * LANES
TERMS = 3 * GROUP
weigh = weigher(COUNT)
transposers = {streamed: transposer(streamed) for streamed in (False, True)}
plain, streamed = transposers[False], transposers[True]


@numba.njit(error_model="numpy")
def weighed(total, at, source, base, offset, coefficient, begin, end):  # type: ignore[no-untyped-def]
    weigh(total, at, source, base, offset, coefficient, begin, end)


@numba.njit(error_model="numpy")
def looked_up(total, at, words, base, offset, coefficient, begin, end):  # type: ignore[no-untyped-def]
    look_up(total, at, words, base, offset, coefficient, begin, end)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("begin", "end"), [(0, TERMS), (GROUP, 2 * GROUP), (GROUP, GROUP)])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_sums_of_whole_numbers(dtype: type, begin: int, end: int, kind: type) -> None:
    rng = np.random.default_rng(0)
    offset = rng.integers(-20, 60, TERMS).astype(kind)
    source, coefficient, start = (np.rint(rng.normal(size=n) * 8).astype(dtype) for n in (160, TERMS, 80))
    expected, found = start.copy(), start.copy()
    for k in range(begin, end):
        at = 33 + offset[k]
        expected[5 : 5 + COUNT * LANES] += coefficient[k] * source[at : at + COUNT * LANES]
    weighed(found, 5, source, 33, offset, coefficient, begin, end)
    assert np.array_equal(found, expected)


@pytest.mark.skipif(not looks_up(), reason="no vectors of 16 numbers here")
@pytest.mark.parametrize(("begin", "end"), [(0, TERMS), (GROUP, 2 * GROUP), (GROUP, GROUP)])
def test_sums_that_are_looked_up(begin: int, end: int) -> None:
    rng = np.random.default_rng(0)
    bits = rng.random((FIELDS, TERMS, 200)) < 0.4
    words = sum(bits[f].astype(np.int32) << GROUP * f for f in range(FIELDS)) << np.arange(TERMS)[:, None] % GROUP
    step = rng.integers(-20, 60, TERMS)
    offset = (np.arange(TERMS) * 200 + step).astype(np.int32)
    for coefficient in (np.rint(rng.normal(size=TERMS) * 8), rng.normal(size=TERMS)):
        coefficient = coefficient.astype(np.float32)
        found = np.full(FIELDS * TILE + 9, 7, np.float32)
        looked_up(found, 5, words.astype(np.int32).ravel(), 50, offset, coefficient, begin, end)
        assert (found[:5] == 7).all()
        assert (found[5 + FIELDS * TILE :] == 7).all()
        for f in range(FIELDS):
            now = found[5 + f * TILE : 5 + (f + 1) * TILE]
            for n in range(0, TILE, COUNT * LANES):
                one_by_one = np.zeros(COUNT * LANES, np.float32)
                spikes = bits[f].astype(np.float32).ravel()
                weighed(one_by_one, 0, spikes, 50 + n, offset, coefficient, begin, end)
                assert np.array_equal(now[n : n + COUNT * LANES], one_by_one)
            heard = [coefficient[k].item() * bits[f, k, 50 + step[k] :][:TILE] for k in range(begin, end)]
            np.testing.assert_allclose(now, sum(heard, np.zeros(TILE)), rtol=1e-5, atol=1e-5)


@numba.njit(error_model="numpy")
def turned(source, at, row, to, place, column):  # type: ignore[no-untyped-def]
    plain(source, at, row, to, place, column)


@numba.njit(error_model="numpy")
def turned_past_the_caches(source, at, row, to, place, column):  # type: ignore[no-untyped-def]
    streamed(source, at, row, to, place, column)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_a_square_is_transposed(dtype: type) -> None:
    source, to = np.random.default_rng(0).normal(size=(LANES + 1, 21)).astype(dtype), np.zeros((LANES + 3, 19), dtype)
    turned(source.reshape(-1), 21 + 2, 21, to.reshape(-1), 2 * 19 + 1, 19)
    expected = np.zeros_like(to)
    expected[2 : 2 + LANES, 1 : 1 + LANES] = source[1 : 1 + LANES, 2 : 2 + LANES].T
    assert np.array_equal(to, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_square_is_transposed_past_the_caches(dtype: type) -> None:
    source = np.random.default_rng(0).normal(size=(LANES, 21)).astype(dtype)
    room = np.zeros((LANES + 1) * 2 * LANES, dtype)
    to = room[-room.ctypes.data % 64 // room.itemsize :][: LANES * 2 * LANES]
    turned_past_the_caches(source.reshape(-1), 2, 21, to, LANES, 2 * LANES)
    expected = np.zeros((LANES, 2 * LANES), dtype)
    expected[:, LANES:] = source[:, 2 : 2 + LANES].T
    assert np.array_equal(to.reshape(LANES, -1), expected)
