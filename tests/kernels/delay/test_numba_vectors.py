"""Weighted sums in vector registers against exact sums of whole numbers, and against the same sums one by one."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from spikenet.kernels.delay.numba_vectors import LANES, multiply_add, weigher

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
