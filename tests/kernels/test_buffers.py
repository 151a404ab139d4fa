from __future__ import annotations

import gc
import os

import pytest
import torch

from spikenet.kernels import buffers


def test_a_freed_buffer_is_lent_again_and_a_held_one_is_not() -> None:
    shape = (1024, 517)
    first = buffers.empty(shape, torch.float32)
    address = first.data_ptr()
    second = buffers.empty(shape, torch.float32)
    assert second.data_ptr() != address
    view = first[3:5]  # a view keeps its buffer
    del first
    gc.collect()
    assert buffers.empty(shape, torch.float32).data_ptr() != address
    del view
    gc.collect()
    assert address in {t.data_ptr() for t in [buffers.empty(shape, torch.float32) for _ in range(3)]}


def test_shapes_and_dtypes() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        for shape in ((0, 5), (3, 7), (1000, 1111)):
            tensor = buffers.empty(shape, dtype)
            assert tensor.shape == shape
            assert tensor.dtype == dtype
            assert tensor.is_contiguous()
            assert tensor.data_ptr() % 64 == 0
            assert torch.equal(tensor.fill_(1.5), torch.full(shape, 1.5, dtype=dtype))


def test_idle_memory_has_a_limit(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(buffers, "_idle", {})
    monkeypatch.setattr(buffers, "LARGEST_IDLE", 3 << 20)
    held = [buffers.empty((1 << 20,), torch.uint8) for _ in range(9)]
    del held
    gc.collect()
    assert sum(b.nbytes for queue in buffers._idle.values() for b in queue) == 3 << 20
    buffers.empty((3 << 20,), torch.uint8)  # lent and given back at once
    gc.collect()
    assert list(buffers._idle) == [3 << 20]  # the older size made room


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_writes_to_pages_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_idle", {})
    shape = (1 << 20,)
    held = buffers.empty(shape, torch.float32).fill_(1.0)
    buffers.empty(shape, torch.float32)  # idles from here on, and both processes take it
    gc.collect()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(ready, 1)
            for tensor in (held, buffers.empty(shape, torch.float32)):
                tensor.numpy()[:] = 7.0  # torch's threads have not come along
        finally:
            os._exit(0)
    taken = buffers.empty(shape, torch.float32).fill_(2.0)
    os.write(go, b"x")
    os.waitpid(child, 0)
    os.close(ready)
    os.close(go)
    assert held.eq(1.0).all()
    assert taken.eq(2.0).all()
