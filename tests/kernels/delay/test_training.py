"""Synapses spread over taps and a sequence through them, in one operator: against the two in turn, in every backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.delay import BUMPS, Bump, bump, delay_bumps, delay_conv, delay_kernel, training
from spikenet.kernels.launch import Plans

TAPS = 6
PER = {"synapse": (7, 5, 2), "input": (1, 5, 2), "output": (7, 1, 2), "shared": (1, 1, 1)}


def case(per: str = "synapse", density: float = 0.3, outputs: int = 7) -> tuple[Tensor, ...]:
    x = (torch.rand(12, 3, 5) < density).double() * torch.randn(12, 3, 5)
    own, *rest = PER[per]
    weight, delay = torch.randn(outputs, 5, 2).double(), torch.rand(outputs if own == 7 else 1, *rest).double()
    delay *= TAPS - 1
    return tuple(v.requires_grad_() for v in (x, weight, delay))


def in_turn(x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, shape: Bump, *sizes: int) -> Tensor:
    with use_backend("reference"):
        return delay_conv(x, delay_kernel(weight, delay, sigma, shape, TAPS), *sizes)


def results(run: Callable[..., Tensor], leaves: tuple[Tensor, ...], grad: Tensor, *rest: object) -> list[Tensor]:
    y = run(*leaves, *rest)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.to(y.dtype))]


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("backend", ["reference", "numba", None])
def test_equals_the_two_in_turn(backend: str | None, per: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, sigma, grad = case(per), torch.tensor(0.7).double(), torch.randn(14, 3, 7).double()
    truth = results(in_turn, leaves, grad, sigma, BUMPS["gauss"], 1, 14)
    for largest, together in ((training.LARGEST, training.TOGETHER), (3 * TAPS * 5 * 8, 3)):
        monkeypatch.setattr(training, "LARGEST", largest)
        monkeypatch.setattr(training, "TOGETHER", together)  # in parts of 3, 3 and 1 outputs
        with use_backend(backend):
            ours = results(delay_bumps, leaves, grad, sigma, BUMPS["gauss"], TAPS, 1, 14)
        for got, wanted in zip(ours, truth, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", [lambda y, w: y.sum(), lambda y, w: (y.transpose(0, 1) * w.transpose(0, 1)).sum()])
def test_gradients_of_any_strides(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    leaves, sigma, w = case("input"), torch.tensor(0.7).double(), torch.randn(14, 3, 7).double()
    sizes = sigma, BUMPS["max"]
    truth = torch.autograd.grad(loss(in_turn(*leaves, *sizes, 1, 14), w), leaves)
    for backend in ("reference", "numba"):
        with use_backend(backend):
            ours = torch.autograd.grad(loss(delay_bumps(*leaves, *sizes, TAPS, 1, 14), w), leaves)
        for got, wanted in zip(ours, truth, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_that_are_wanted_alone(wanted: tuple[bool, ...]) -> None:
    leaves, sigma, grad = case(), torch.tensor(0.7).double(), torch.randn(12, 3, 7).double()
    truth = results(in_turn, leaves, grad, sigma, BUMPS["gauss"], 0, 12)[1:]
    some = [v.detach().requires_grad_(w) for v, w in zip(leaves, wanted, strict=True)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = delay_bumps(*some, sigma, BUMPS["gauss"], TAPS, 0, 12)
    assert sum(t.numel() for t in kept) <= (0 if wanted[0] else some[0].numel()) + 2 * some[1].numel() + 1  # no taps
    (got,) = torch.autograd.grad(y, [v for v in some if v.requires_grad], grad)
    torch.testing.assert_close(got, truth[wanted.index(True)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(0, 3, 5, 7), (4, 0, 5, 7), (4, 3, 0, 7), (4, 3, 5, 0)])
def test_nothing_in_gives_nothing_out(size: tuple[int, ...]) -> None:
    steps, batch, inputs, outputs = size
    x, weight = torch.randn(steps, batch, inputs), torch.randn(outputs, inputs, 1)
    leaves = [v.requires_grad_() for v in (x, weight, torch.ones(1, 1, 1))]
    y = delay_bumps(*leaves, torch.tensor(1.0), BUMPS["gauss"], TAPS, 0, steps + 2)
    gradients = torch.autograd.grad(y.sum(), leaves)
    assert y.shape == (steps + 2, batch, outputs)
    assert [g.shape for g in gradients] == [v.shape for v in leaves]
    assert not any(g.count_nonzero() for g in (y, *gradients))


def test_a_bump_of_ones_own() -> None:
    box = Bump("box", lambda u, s: torch.exp(-((u / s) ** 4)), lambda u, s: u, 1.0)
    leaves, sigma, grad = case(), torch.tensor(0.7).double(), torch.randn(12, 3, 7).double()
    ours = results(delay_bumps, leaves, grad, sigma, box, TAPS, 0, 12)
    for got, wanted in zip(ours, results(in_turn, leaves, grad, sigma, box, 0, 12), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


# Triton: in its interpreter here, on a CUDA device by `pytest -m gpu`.


def triton_equals_the_two_in_turn(name: str, dtype: torch.dtype, device: str, error: float) -> None:
    for per in PER:
        leaves = tuple(v.detach().to(dtype).requires_grad_() for v in case(per, outputs=67))
        sigma, grad = torch.tensor(0.7), torch.randn(14, 3, 67).to(dtype)
        wide = tuple(v.detach().double().requires_grad_() for v in leaves)
        truth = results(in_turn, wide, grad.double(), sigma.double(), BUMPS[name], 1, 14)
        there = tuple(v.detach().to(device).requires_grad_() for v in leaves)
        with use_backend("triton"):
            rest = sigma.to(device), BUMPS[name], TAPS, 1, 14
            ours = results(delay_bumps, there, grad.to(device), *rest)
        for got, wanted in zip(ours, truth, strict=True):
            assert got.dtype == dtype
            assert float((got.cpu().double() - wanted).norm()) <= error * float(wanted.norm())


WAYS = {"taps": {"PAYS": 1e9, "LITTLE": 0.0}, "kept": {"PAYS": 1e9, "LITTLE": 1e9}, "spectra": {"PAYS": 0.0}}


def go(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By that way, in parts of 64 and 3 outputs, or at once where taps are kept."""
    from spikenet.kernels.delay import triton_training

    for name, value in WAYS[way].items():
        monkeypatch.setattr(triton_training, name, value)
    if way != "kept":
        monkeypatch.setattr(training, "LARGEST", 1)
        monkeypatch.setattr(training, "TOGETHER", 64)
    monkeypatch.setattr(training, "kinds", Plans())
    monkeypatch.setattr(triton_training, "_plans", Plans())


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
@pytest.mark.parametrize(
    ("dtype", "parts", "error"),
    [
        (torch.float32, 2, 2e-6),
        (torch.float32, 1, 2e-3),
        (torch.float16, 0, 2e-3),
        (torch.bfloat16, 1, 8e-3),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_triton_equals_the_two_in_turn(
    way: str, dtype: torch.dtype, parts: int, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spikenet.kernels.delay import triton_conv, triton_training

    go(way, monkeypatch)
    for module in (triton_conv, triton_training):
        monkeypatch.setattr(module, "parts_of", lambda x: parts if x.dtype == torch.float32 else 0)
    triton_equals_the_two_in_turn("gauss" if parts == 2 else "v0", dtype, "cpu", error)


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BUMPS)
def test_triton_on_a_cuda_device(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go(way, monkeypatch)
    # A shared delay's gradient is one sum over all synapses.
    for dtype, error in ((torch.float32, 4e-6), (torch.float16, 5e-3), (torch.bfloat16, 2e-2)):
        triton_equals_the_two_in_turn(name, dtype, "cuda", error)


def test_compiled_whole() -> None:
    leaves, sigma, grad = case("output"), torch.tensor(0.7).double(), torch.randn(14, 3, 7).double()
    compiled = torch.compile(delay_bumps, backend="aot_eager", fullgraph=True)
    rest = sigma, bump("gauss"), TAPS, 1, 14
    for got, wanted in zip(
        results(compiled, leaves, grad, *rest), results(delay_bumps, leaves, grad, *rest), strict=True
    ):
        assert torch.equal(got, wanted)


def test_refusals() -> None:
    x, weight, delay = case()
    sigma, shape = torch.tensor(1.0), bump("gauss")
    with pytest.raises(ShapeError, match="one sigma"):
        delay_bumps(x, weight, delay, torch.ones(2), shape, TAPS, 0, 12)
    with pytest.raises(ShapeError, match=r"x \[T, B, M\] and weight"):
        delay_bumps(x[..., :2], weight, delay, sigma, shape, TAPS, 0, 12)
    with pytest.raises(DtypeError, match="one floating dtype"):
        delay_bumps(x, weight.int(), delay, sigma, shape, TAPS, 0, 12)
    with pytest.raises(DeviceError, match="move one of them"):
        delay_bumps(x.to("meta"), weight, delay, sigma, shape, TAPS, 0, 12)
    with pytest.raises(BackendError, match="no second derivative"):
        torch.autograd.grad(delay_bumps(x, weight, delay, sigma, shape, TAPS, 0, 12).sum(), x, create_graph=True)
