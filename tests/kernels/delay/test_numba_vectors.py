"""Weighted sums in vector registers against exact sums of whole numbers, and against the same sums one by one."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from spikenet.kernels.delay.numba_vectors import LANES, multiply_add, transposed, weigher

COUNT = 3
weigh = weigher(COUNT)


@numba.njit(error_model="numpy")
def in_vectors(total, at, source, base, offset, coefficient, begin, end):  # type: ignore[no-untyped-def]
    weigh(total, at, source, base, offset, coefficient, begin, end)


@numba.njit(error_model="numpy")
def alone(total, at, source, base, offset, coefficient, begin, end):  # type: ignore[no-untyped-def]
    for n in range(COUNT * LANES):
        for k in range(begin, end):
            total[at + n] = multiply_add(coefficient[k], source[base + offset[k] + n], total[at + n])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("begin", "end"), [(0, 7), (2, 3), (4, 4)])
def test_sums(dtype: type, begin: int, end: int) -> None:
    rng = np.random.default_rng(0)
    offset = rng.integers(-20, 60, 7)
    for whole in (True, False):
        source, coefficient, start = (rng.normal(size=n) * 8 for n in (160, 7, 80))
        if whole:
            source, coefficient, start = np.rint(source), np.rint(coefficient), np.rint(start)
        source, coefficient, start = (v.astype(dtype) for v in (source, coefficient, start))
        found, one_by_one = start.copy(), start.copy()
        in_vectors(found, 5, source, 33, offset, coefficient, begin, end)
        alone(one_by_one, 5, source, 33, offset, coefficient, begin, end)
        assert np.array_equal(found, one_by_one)
        if whole:
            expected = start.copy()
            for k in range(begin, end):
                at = 33 + offset[k]
                expected[5 : 5 + COUNT * LANES] += coefficient[k] * source[at : at + COUNT * LANES]
            assert np.array_equal(found, expected)


@numba.njit(error_model="numpy")
def turned(source, at, row, to, place, column):  # type: ignore[no-untyped-def]
    transposed(source, at, row, to, place, column)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_square_is_transposed(dtype: type) -> None:
    source, to = np.random.default_rng(0).normal(size=(LANES + 1, 21)).astype(dtype), np.zeros((LANES + 3, 19), dtype)
    turned(source.reshape(-1), 21 + 2, 21, to.reshape(-1), 2 * 19 + 1, 19)
    expected = np.zeros_like(to)
    expected[2 : 2 + LANES, 1 : 1 + LANES] = source[1 : 1 + LANES, 2 : 2 + LANES].T
    assert np.array_equal(to, expected)


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_offsets_of_either_size(kind: type) -> None:
    source, found = np.arange(100.0), np.zeros(COUNT * LANES)
    in_vectors(found, 0, source, 20, np.array([-3, 4], kind), np.array([1.0, 10.0]), 0, 2)
    assert np.array_equal(found, source[17 : 17 + COUNT * LANES] + 10 * source[24 : 24 + COUNT * LANES])
