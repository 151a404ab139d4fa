"""Spikes at one bit each: numpy's packbits is the truth, and nothing but 0 and 1 gets through."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.synapse import pack, unpack

TRITON = pytest.param(
    "triton", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
)
BACKENDS = ["reference", "numba", TRITON]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SHAPES = [(1,), (7,), (8,), (9, 1), (3, 5, 7), (2, 4099), (0, 4)]


def spikes(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))) < 0.4
    return drawn.to(dtype).to(device)


def check(shape: tuple[int, ...], dtype: torch.dtype, device: str = "cpu") -> None:
    x = spikes(shape, dtype, device)
    words = pack(x)
    expected = np.packbits(x.cpu().double().numpy().astype(bool).reshape(-1), bitorder="little")
    assert words.dtype == torch.uint8
    assert np.array_equal(words.cpu().numpy(), expected)
    back = unpack(words, x.shape, dtype)
    assert back.dtype == dtype
    assert torch.equal(back, x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_words_are_those_of_packbits_and_come_back_exactly(backend: str) -> None:
    with use_backend(backend):
        for shape in SHAPES:
            check(shape, torch.float32)
        for dtype in DTYPES[1:]:
            check((3, 5, 7), dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_and_expanded_input(backend: str) -> None:
    x = spikes((6, 10, 5))
    with use_backend(backend):
        for view in (x.transpose(0, 2), x[::2, 1::3], x[:1].expand(7, -1, -1), x.flip(0)):
            assert torch.equal(unpack(pack(view), view.shape, x.dtype), view)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, 1e-30, float("nan"), float("inf")])
def test_any_other_value_raises_and_is_named(backend: str, value: float) -> None:
    x = spikes((40, 103))
    x[17, 100] = value
    with use_backend(backend), pytest.raises(ArgumentError, match=rf"another value: {value:g} at \(17, 100\)"):
        pack(x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_value_in_the_last_word_is_seen_and_minus_zero_is_zero(backend: str) -> None:
    x = spikes((8 * 512 + 3,), torch.bfloat16)
    with use_backend(backend):
        x[0] = -0.0
        assert torch.equal(unpack(pack(x), x.shape, x.dtype), x)
        x[-1] = 3.0
        with pytest.raises(ArgumentError, match=r"3 at \(4098,\)"):
            pack(x)


def test_threads_do_not_change_a_bit() -> None:
    x, before = spikes((20, 60_001)), torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            check(tuple(x.shape), torch.float32)
    finally:
        torch.set_num_threads(before)


def test_what_is_refused() -> None:
    with pytest.raises(DtypeError, match=r"16, 32 or 64 bits, got torch\.bool"):
        pack(torch.ones(3, dtype=torch.bool))
    with pytest.raises(DtypeError, match=r"got torch\.uint8 and torch\.int64"):
        unpack(pack(torch.ones(3)), (3,), torch.int64)
    with pytest.raises(ShapeError, match=r"shape \(9,\) are not kept in words of shape \(1,\)"):
        unpack(pack(torch.ones(3)), (9,), torch.float32)


def test_torch_compile_sees_both_operations() -> None:
    x = spikes((5, 9))
    compiled = torch.compile(lambda x: unpack(pack(x), x.shape, x.dtype), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), x)
    torch.library.opcheck(torch.ops.spikenet.pack, (x,))
    torch.library.opcheck(torch.ops.spikenet.unpack, (pack(x), [5, 9], torch.float32))


@pytest.mark.gpu
def test_on_the_gpu() -> None:
    for backend in ("triton", "reference"):
        with use_backend(backend):
            for dtype in DTYPES:
                for shape in [*SHAPES, (500, 16, 4096)]:
                    check(shape, dtype, "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_another_value_fails_an_assertion_on_the_gpu(backend: str) -> None:
    """In a process of its own: a failed device-side assertion leaves none of the device to use."""
    code = f"""
import torch
from spikenet.kernels import use_backend
from spikenet.kernels.synapse import pack
use_backend({backend!r})
x = torch.ones(1000, device="cuda")
pack(x)
torch.cuda.synchronize()
x[7] = 0.5
pack(x)
print("queued", flush=True)
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "queued" in done.stdout
    assert "pack takes spikes, 0 or 1" in done.stderr + done.stdout or "device-side assert" in done.stderr
