from __future__ import annotations

import os
import sys
import threading

import pytest
import torch

from spikenet.kernels import threads


@pytest.mark.parametrize(("lanes", "block"), [(1, 8), (8, 8), (9, 8), (1000, 16), (16, 1000)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_lane_is_worked_on_once(lanes: int, block: int, count: int) -> None:
    before, seen = torch.get_num_threads(), torch.zeros(lanes)
    try:
        torch.set_num_threads(count)

        def kernel(start: int, stop: int) -> None:
            assert start % block == 0
            seen[start:stop] += 1

        threads.over_lanes(kernel, lanes, block, threads.SERIAL)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(seen, torch.ones(lanes))


def test_a_kernel_that_raises_raises_here() -> None:
    def kernel(start: int, stop: int) -> None:
        raise ValueError("lane 0 is broken")

    with pytest.raises(ValueError, match="lane 0"):
        threads.over_lanes(kernel, 64, 8, threads.SERIAL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    torch.set_num_threads(max(torch.get_num_threads(), 2))
    threads.over_lanes(lambda start, stop: None, 64, 8, threads.SERIAL)
    child = os.fork()
    if child == 0:
        total = torch.zeros(1)

        def kernel(start: int, stop: int) -> None:
            total.add_(stop - start)

        threads.over_lanes(kernel, 64, 8, threads.SERIAL)
        os._exit(0 if int(total) == 64 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors"
)
def test_threads_keep_off_their_callers_processor() -> None:
    before, allowed, seen = torch.get_num_threads(), os.sched_getaffinity(0), {}

    def kernel(start: int, stop: int) -> None:
        seen[threading.get_native_id()] = os.sched_getaffinity(0)
        everyone.wait(10)  # so that no thread does the work of two

    try:
        torch.set_num_threads(2)
        for _ in range(2):  # the first call makes the thread
            everyone = threading.Barrier(2)
            threads.over_lanes(kernel, 2, 1, threads.SERIAL)
    finally:
        torch.set_num_threads(before)
    mine = seen.pop(threading.get_native_id())
    (other,) = seen.values()
    assert mine == allowed
    assert other < allowed
    assert len(other) == len(allowed) - 1
