"""Traces and updates: every backend against the plain one, and the plain one against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spikenet.kernels import use_backend
from spikenet.kernels.plasticity import Change, Memory, eprop, trace, update

FREE = Change(-math.inf, math.inf)
CHANGES = [
    FREE,
    Change(-0.4, 0.5),
    Change(0.0, 1.0, 1.0, 1.0),
    Change(-1.0, 1.0, 0.3, 0.02),
    Change(0.0, 9.0, 2.0, 0.0),
]
SHAPES = [(5, 3, 2, 7, 9), (1, 1, 1, 1, 1), (9, 1, 1, 17, 70), (3, 2, 3, 33, 2)]  # T, B, L, O, I
EMPTY = [(0, 2, 1, 3, 4), (3, 0, 1, 3, 4), (3, 2, 1, 0, 4), (3, 2, 1, 3, 0)]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def factors(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Gain, x, y, loss: what spikes is mostly 0."""
    steps, batch, places, outs, ins = shape
    made = []
    for size, rate in ((outs, 0.2), (ins, 1.0), (outs, 0.8), (ins, 0.2)):
        v = torch.randn(steps, batch * places, size, dtype=dtype)
        made.append(v * (torch.rand_like(v) < rate) * 0.2)
    return made


def learned(backend: str, weight: Tensor, given: list[Tensor], change: Change, batch: int | None) -> list[Tensor]:
    """The weights afterwards, and the eligibility if there are `batch` of them."""
    weight, outs = weight.clone(), weight.shape[0]
    eligibility = modulator = None
    if batch is not None:
        generator = torch.Generator(weight.device).manual_seed(1)
        like = {"device": weight.device, "generator": generator}  # the same numbers in every dtype
        eligibility = torch.randn(batch, *weight.shape, **like).to(weight)
        modulator = torch.randn(len(given[0]), batch, outs, **like).to(weight)
        modulator[1::3] = 0.0
    with use_backend(backend):
        update(weight, *given, change, eligibility, modulator)
    return [weight] if eligibility is None else [weight, eligibility]


def compare(backend: str, shape: tuple[int, ...], dtype: torch.dtype, change: Change, device: str = "cpu") -> None:
    given = [v.to(device) for v in factors(shape, dtype)]
    low, high = max(change.low, -1.0), min(change.high, 1.0)
    weight = (torch.rand(shape[3], shape[4], dtype=dtype) * (high - low) + low).to(device)
    for batch in (None, shape[1]):
        ours, truth = (learned(b, weight, given, change, batch) for b in (backend, "reference"))
        for found, expected in zip(ours, truth, strict=True):
            torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        if weight.numel() and given[0].numel() > 20:
            assert not torch.equal(truth[0], weight)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [*SHAPES, *EMPTY])
def test_numba_updates(shape: tuple[int, ...], dtype: torch.dtype, change: Change) -> None:
    compare("numba", shape, dtype, change)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_an_update_by_hand(backend: str) -> None:
    """One weight, numbers written out."""
    gain, x, y, loss = (
        torch.tensor(v, dtype=torch.float64).view(2, 1, 1) for v in ([0.0, 0.5], [0.3, 0.4], [0.2, 0.7], [0.1, 0.0])
    )
    weight = torch.tensor([[0.6]], dtype=torch.float64)
    with use_backend(backend):
        update(weight, gain, x, y, loss, Change(0.0, 2.0, 2.0, 1.0))
    first = 0.6 - 0.6 * 0.2 * 0.1
    assert weight.item() == pytest.approx(first + (2.0 - first) ** 2 * 0.5 * 0.4, rel=1e-14)

    weight, eligibility = torch.tensor([[0.6]], dtype=torch.float64), torch.tensor([[[1.5]]], dtype=torch.float64)
    modulator = torch.tensor([2.0, -3.0], dtype=torch.float64).view(2, 1, 1)
    with use_backend(backend):
        update(weight, gain, x, y, loss, FREE._replace(decay=0.5), eligibility, modulator)
    first = 0.75 - 0.02
    second = 0.5 * first + 0.2
    assert eligibility.item() == pytest.approx(second, rel=1e-14)
    assert weight.item() == pytest.approx(0.6 + 2.0 * first - 3.0 * second, rel=1e-14)


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("nearest", [False, True])
def test_a_trace_by_hand(backend: str, nearest: bool) -> None:
    spikes = torch.tensor([0.0, 1.0, 0.0, 1.0, 2.0], dtype=torch.float64)[:, None]
    with use_backend(backend):
        before, last = trace(spikes, torch.tensor([8.0], dtype=torch.float64), 0.5, nearest)
    expected = [4.0, 2.0, 0.5, 0.25, 0.5] if nearest else [4.0, 2.0, 1.5, 0.75, 0.875]
    assert before[:, 0].tolist() == expected
    assert last.tolist() == ([2.0] if nearest else [2.875])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(9, 3, 5), (1, 1), (40, 300), (0, 4), (5, 0)])
@pytest.mark.parametrize("nearest", [False, True])
def test_traces_are_equal_to_the_last_bit(shape: tuple[int, ...], dtype: torch.dtype, nearest: bool) -> None:
    spikes = (torch.rand(*shape[1:], shape[0]) < 0.3).to(dtype).movedim(-1, 0)  # not contiguous
    start = torch.rand(shape[1:], dtype=dtype)
    found = []
    for backend in ("numba", "reference"):
        with use_backend(backend):
            found.append(trace(spikes, start, 0.9, nearest))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    if len(spikes) == 0:
        assert torch.equal(found[0][1], start)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_strided_tensors(backend: str) -> None:
    """Factors, weights and eligibilities that are views."""
    given = factors((6, 2, 1, 5, 8), torch.float64)
    weight, eligibility = torch.rand(5, 8, dtype=torch.float64), torch.rand(2, 5, 8, dtype=torch.float64)
    modulator = torch.rand(6, 2, 5, dtype=torch.float64)
    store = [torch.stack([v, v * 7], -1)[..., 0].mT.contiguous().mT for v in (*given, weight, eligibility, modulator)]
    assert not any(v.is_contiguous() for v in store)
    with use_backend(backend):
        update(weight, *given, FREE, eligibility, modulator)
        update(store[4], *store[:4], FREE, *store[5:])
    assert torch.equal(store[4], weight)
    assert torch.equal(store[5], eligibility)


def test_threads_share_rows() -> None:
    """Large enough that rows are shared out: the same bits as on one thread."""
    given = factors((40, 1, 1, 300, 400), torch.float32)
    weight, found, threads = torch.rand(300, 400), [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            for batch in (None, 1):
                found.append(learned("numba", weight, given, Change(0.0, 1.0, 1.0, 1.0), batch))
        finally:
            torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(found[0] + found[1], found[2] + found[3], strict=True))


def remembered(backend: str, shape: tuple[int, ...], dtype: torch.dtype, adapts: bool, device: str) -> list[Tensor]:
    """What e-prop leaves of a random sequence: gradient, filtered eligibility, adaptation."""
    steps, batch, outs, ins = shape
    generator = torch.Generator().manual_seed(3)
    sizes = [(steps, batch, ins), *[(steps, batch, outs)] * 2, (outs, ins), *[(batch, outs, ins)] * 2]
    x, slope, signal, g, f, a = (torch.randn(size, generator=generator, dtype=dtype).to(device) for size in sizes)
    beta = torch.linspace(0.0, 0.3, outs, dtype=dtype, device=device)
    with use_backend(backend):
        eprop(x, slope.abs() * 0.3, signal, Memory(0.95, 0.9), g, f, *((beta, a) if adapts else ()))
    return [g, f, a]


@pytest.mark.parametrize("adapts", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(11, 3, 9, 7), (1, 1, 1, 1), (5, 2, 33, 70), (0, 2, 3, 4), (3, 0, 3, 4), (3, 2, 0, 4)]
)
def test_numba_eprop(shape: tuple[int, ...], dtype: torch.dtype, adapts: bool) -> None:
    ours, truth = (remembered(backend, shape, dtype, adapts, "cpu") for backend in ("numba", "reference"))
    for found, expected in zip(ours, truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
