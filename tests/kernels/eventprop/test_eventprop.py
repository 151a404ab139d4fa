"""The kernels against the reference: spike times from sums over all arrivals, gradients from autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spikenet import use_backend
from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.kernels.eventprop import Constants, eventprop


def case(batch: int, inputs: int, neurons: int, length: int, recurrent: bool) -> tuple[Tensor, Tensor, Tensor]:
    times = (torch.rand(batch, inputs, length, dtype=torch.float64) * 20).sort(-1).values
    if times.numel() > 2:
        times[0, 1, 1:] = math.inf
    weight = torch.rand(neurons, inputs, dtype=torch.float64) * 30 / max(inputs, 1)
    weight[:, ::3] *= -0.5
    if recurrent:
        weight = torch.cat([weight, torch.randn(neurons, neurons, dtype=torch.float64) / 2], 1)
    return times, weight, torch.rand(weight.shape, dtype=torch.float64) * 10


def results(backend: str, leaves: tuple[Tensor, ...], constants: Constants) -> list[Tensor]:
    """Spikes and the gradients of a loss that weighs every one differently."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    with use_backend(backend):
        spikes = eventprop(*leaves, constants)
        known = spikes < math.inf
        factor = torch.linspace(-1, 2, spikes.numel(), dtype=spikes.dtype).view_as(spikes)
        (spikes[known] * factor[known]).sum().backward()
    return [spikes.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[list-item]


@pytest.mark.parametrize("tau", [(20.0, 5.0), (8.0, 16.0), (10.0, 10.0)])
@pytest.mark.parametrize(("size", "recurrent"), [((2, 5, 3, 2), True), ((2, 7, 2, 3), False)])
def test_equals_the_reference(tau: tuple[float, float], size: tuple[int, ...], recurrent: bool) -> None:
    constants = Constants(*tau, t_end=32.0)
    leaves = case(*size, recurrent)
    truth, found = results("reference", leaves, constants), results("numba", leaves, constants)
    assert 3 < int((truth[0] < math.inf).sum()) < 200
    for a, b in zip(found, truth, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("size", [(0, 2, 3, 2), (2, 0, 3, 2), (2, 3, 0, 2), (2, 3, 2, 0)])
@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_nothing_in_gives_nothing_out(size: tuple[int, ...], backend: str, recurrent: bool) -> None:
    spikes, *gradients = results(backend, case(*size, recurrent), Constants(t_end=10.0))
    assert spikes.shape[:2] == (size[0], size[2])
    assert all(bool((g == 0).all()) for g in gradients) or size == (2, 3, 2, 2)


def test_strided_arguments_and_single_precision() -> None:
    """Float32 is computed in float64 and rounded at the end."""
    leaves = case(3, 4, 2, 2, True)
    constants = Constants(t_end=30.0)
    strided = tuple(leaf.transpose(0, 1).contiguous().transpose(0, 1) for leaf in leaves)
    for a, b in zip(results("numba", strided, constants), results("numba", leaves, constants), strict=True):
        assert torch.equal(a, b)
    single = tuple(leaf.float() for leaf in leaves)
    wide = results("numba", tuple(leaf.double() for leaf in single), constants)
    for a, b in zip(results("numba", single, constants), wide, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b.float(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("recurrent", [False, True])
def test_gradients_of_any_strides(recurrent: bool) -> None:
    """Expanded, transposed and sliced, as losses send them."""
    leaves, constants = case(2, 5, 3, 2, recurrent), Constants(t_end=32.0)
    for loss in (
        lambda s: s.sum(),
        lambda s: (s.transpose(0, 2) * torch.arange(3.0)[:, None]).sum(),
        lambda s: s[:, ::2].sum() + s[1].mean(0).sum(),
    ):
        found = []
        for backend in ("numba", "reference"):
            own = [leaf.detach().requires_grad_() for leaf in leaves]
            with use_backend(backend):
                spikes = eventprop(*own, constants)
                loss(torch.where(spikes < math.inf, spikes, 0.0)).backward()
                found.append([leaf.grad for leaf in own])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-8)


def test_an_expanded_gradient_reaches_what_never_spikes() -> None:
    """Neurons that never spike are infinity in the output; the ones that `sum` sends there are not heard."""
    leaves = tuple(leaf.requires_grad_() for leaf in case(2, 5, 3, 2, True))
    for backend in ("numba", "reference"):
        with use_backend(backend):
            spikes = eventprop(*leaves, Constants(t_end=32.0))
            assert not bool(spikes.isfinite().all())
            whole = torch.autograd.grad(spikes.sum(), leaves, retain_graph=True)
            known = torch.autograd.grad(spikes[spikes < math.inf].sum(), leaves)
        for a, b in zip(whole, known, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikenet.kernels.threads.SERIAL", 0)
    leaves, before = case(5, 6, 4, 3, False), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(results("numba", leaves, Constants(t_end=40.0)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_refusals() -> None:
    times, weight, delay = case(2, 3, 2, 2, False)
    eventprop(times, weight, delay, Constants())
    for bad, error, words in (
        ((times[0], weight, delay), ShapeError, "wanted"),
        ((times, weight[:, :2], delay[:, :2]), ShapeError, "wanted"),
        ((times, weight, delay[:1]), ShapeError, "every weight"),
        ((times, weight, delay - 100), ArgumentError, "0 or more"),
        ((times, weight, delay * math.nan), ArgumentError, "finite"),
        ((times, weight * math.inf, delay), ArgumentError, "finite"),
        ((times.flip(-1), weight, delay), ArgumentError, "ascend"),
        ((times * math.nan, weight, delay), ArgumentError, "NaN"),
        ((times.int(), weight, delay), DtypeError, "floating"),
    ):
        with pytest.raises(error, match=words):
            eventprop(*bad, Constants())
