"""Sequences through delayed taps: every backend against torch's convolution in float64, forward and all gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.delay import (
    conv,
    delay_conv,
    delay_taps,
    delay_taps_of_events,
    numba_taps,
    numba_terms,
    numba_vectors,
    one_tap,
)

# steps in, batch, inputs, outputs, taps, first, steps out
SIZES = [
    (13, 5, 7, 3, 5, 0, 15),
    (12, 9, 6, 4, 5, 4, 8),
    (3, 1, 2, 2, 1, 0, 3),
    (4, 17, 3, 5, 9, 0, 4),
    (9, 2, 3, 20, 9, 8, 1),
    (30, 3, 11, 6, 4, 2, 40),
    (70, 17, 9, 5, 6, 2, 69),  # more than is worked on together
]
BACKENDS = ["reference", "numba"]


def truth(x: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """Torch's convolution of the sequence between silences."""
    silence = x.new_zeros(1, *x.shape[1:])
    long = torch.cat([silence.expand(k.shape[2] - 1, -1, -1), x, silence.expand(steps, -1, -1)])
    return functional.conv1d(long.permute(1, 2, 0), k.flip(-1)).permute(2, 0, 1)[first : first + steps]


def case(size: tuple[int, ...], density: float = 0.2, graded: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """x, K (half of its taps 0) and a gradient for the output, in float64."""
    steps_in, batch, inputs, outputs, taps, _, steps = size
    x = (torch.rand(steps_in, batch, inputs) < density).double()
    x = x * torch.randn(x.shape) if graded else x
    k = torch.randn(outputs, inputs, taps).double() * (torch.rand(outputs, inputs, taps) < 0.5)
    return x, k, torch.randn(steps, batch, outputs).double()


def results(run: Callable[..., Tensor], x: Tensor, k: Tensor, grad: Tensor, *rest: int) -> list[Tensor]:
    x, k = x.detach().requires_grad_(), k.detach().requires_grad_()
    y = run(x, k, *rest)
    return [y.detach(), *torch.autograd.grad(y, [x, k], grad.to(y.dtype))]


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", [*BACKENDS, None])
def test_equals_torchs_convolution(backend: str | None, size: tuple[int, ...], graded: bool) -> None:
    x, k, grad = case(size, graded=graded)
    expected = results(truth, x, k, grad, *size[-2:])
    with use_backend(backend):
        ours = results(delay_conv, x, k, grad, *size[-2:])
    for got, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_in_float32_or_better(backend: str, dtype: torch.dtype) -> None:
    x, k, grad = (v.to(dtype) for v in case(SIZES[0]))
    expected = results(truth, x.double(), k.double(), grad.double(), *SIZES[0][-2:])
    with use_backend(backend):
        ours = results(delay_conv, x, k, grad, *SIZES[0][-2:])
    for got, wanted in zip(ours, expected, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), wanted, rtol=torch.finfo(dtype).eps, atol=2e-6)


@pytest.mark.parametrize("backend", [*BACKENDS, "triton"])
def test_half_precision_with_taps_in_float32(backend: str) -> None:
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("Triton does not interpret here")
    x, k, grad = case(SIZES[0])
    half = x.bfloat16(), k.float(), grad.bfloat16()
    expected = results(truth, half[0].double(), half[1].double(), half[2].double(), *SIZES[0][-2:])
    with use_backend(backend):
        y, gx, gk = results(delay_conv, *half, *SIZES[0][-2:])
    assert (y.dtype, gx.dtype, gk.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    for got, wanted in zip((y, gx), expected, strict=False):
        torch.testing.assert_close(got.double(), wanted, rtol=torch.finfo(torch.bfloat16).eps, atol=2e-6)
    torch.testing.assert_close(gk.double(), expected[2], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_arguments(backend: str) -> None:
    x, k, grad = case(SIZES[0])
    x = x.transpose(0, 1).contiguous().transpose(0, 1)
    k = k.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    grad = grad.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    expected = results(truth, x, k, grad, *SIZES[0][-2:])
    with use_backend(backend):
        for got, wanted in zip(results(delay_conv, x, k, grad, *SIZES[0][-2:]), expected, strict=True):
            torch.testing.assert_close(got, wanted)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of the output and of random numbers like it
    "expanded": lambda y, w: y.sum(),
    "expanded steps": lambda y, w: (y.mean(0) * w[0]).sum(),
    "transposed": lambda y, w: (y.transpose(0, 1) * w.transpose(0, 1)).sum(),
    "features first": lambda y, w: (y.permute(2, 1, 0) * w.permute(2, 1, 0)).sum(),
    "sliced": lambda y, w: (y[1::2, :, ::2] * w[1::2, :, ::2]).sum(),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [(5, 3, 7, 6, 4, 0, 7), (1, 1, 6, 8, 3, 0, 3)])
@pytest.mark.parametrize("backend", [*BACKENDS, "triton", None])
def test_gradients_of_any_strides(backend: str | None, size: tuple[int, ...], loss: str) -> None:
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("Triton does not interpret here")
    x, k, w = (v.float() for v in case(size, 0.5, graded=True))
    _, _, inputs, outputs, taps, first, steps = size
    weight, tap = torch.randn(outputs, inputs, 2), torch.randint(0, taps, (outputs, inputs, 2))
    hot = functional.one_hot(tap, taps).double()

    def gradients(run: Callable[[Tensor, Tensor], Tensor], *leaves: Tensor) -> list[Tensor]:
        leaves = tuple(v.detach().requires_grad_() for v in leaves)
        return list(torch.autograd.grad(LOSSES[loss](run(*leaves), w.to(leaves[0].dtype)), leaves))

    with use_backend(backend):
        ours = gradients(lambda x, k: delay_conv(x, k, first, steps), x, k)
        ours += gradients(lambda x, v: delay_taps(x, v, tap.double(), taps, first, steps, "delay"), x, weight)
    expected = gradients(lambda x, k: truth(x, k, first, steps), x.double(), k.double())
    summed = gradients(lambda x, v: truth(x, (v[..., None] * hot).sum(2), first, steps), x.double(), weight.double())
    for got, wanted in zip(ours, [*expected, *summed], strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size", [(5, 0, 3, 2, 4, 0, 5), (0, 2, 3, 2, 4, 0, 3), (5, 2, 3, 2, 4, 0, 5), (0, 2, 3, 2, 4, 0, 0)]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in_gives_nothing_out(backend: str, size: tuple[int, ...]) -> None:
    x, k, grad = case(size, density=0.0)
    with use_backend(backend):
        y, gx, gk = results(delay_conv, x, k, grad, *size[-2:])
    assert y.shape == grad.shape
    assert y.count_nonzero() == 0
    assert gk.count_nonzero() == 0
    assert gx.shape == x.shape
    if gx.numel():
        torch.testing.assert_close(gx, results(truth, x, k, grad, *size[-2:])[1])


@pytest.mark.parametrize("density", [0.02, 0.9])
def test_either_way_is_taken_and_gives_the_same(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (20, 6, 10, 8, 7, 0, 20)
    x, k, grad = case(size, density)
    taken = []
    reference = conv._reference
    monkeypatch.setattr(conv, "_reference", lambda *a: taken.append("dense") or reference(*a))
    ours = results(delay_conv, x, k, grad, 0, 20)
    assert taken == (["dense"] if density > 0.5 else [])
    for got, wanted in zip(ours, results(truth, x, k, grad, 0, 20), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    size = (40, 70, 60, 50, 9, 0, 40)
    x, k, grad = (v.float() for v in case(size, 0.1, graded=True))
    x, k, grad = x.repeat(1, 2, 1), k, grad.repeat(1, 2, 1)
    tap = torch.randint(0, 9, (50, 60, 2))
    weight = torch.randn(50, 60, 2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with use_backend("numba"):
                found.append(
                    [*results(delay_conv, x, k, grad, 0, 40), delay_taps(x, weight, tap.double(), 9, 0, 40, "delay")]
                )
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_part_of_a_sequence_gives_the_bits_of_the_whole() -> None:
    x, k, _ = (v.float() for v in case((30, 11, 13, 10, 6, 0, 30), 0.3, graded=True))
    weight, tap = torch.randn(10, 13, 1), torch.randint(0, 6, (10, 13, 1))
    with use_backend("numba"):
        whole, tapped = delay_conv(x, k, 0, 30), delay_taps(x, weight, tap.double(), 6, 0, 30, "delay")
        for start, stop in ((5, 30), (9, 10), (17, 24)):
            part = x[start - 5 : stop]
            assert torch.equal(delay_conv(part, k, 5, stop - start), whole[start:stop])
            assert torch.equal(delay_taps(part, weight, tap.double(), 6, 5, stop - start, "delay"), tapped[start:stop])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_tap_a_synapse(backend: str, size: tuple[int, ...]) -> None:
    x, _, grad = case(size, 0.5, graded=True)
    _, _, inputs, outputs, taps, first, steps = size
    weight, tap = torch.randn(outputs, inputs, 3).double(), torch.randint(0, taps, (outputs, inputs, 3))

    def ours(x: Tensor, w: Tensor, first: int, steps: int) -> Tensor:
        return delay_taps(x, w, tap.double(), taps, first, steps, "delay")

    def shifted(x: Tensor, w: Tensor, first: int, steps: int) -> Tensor:
        hot = functional.one_hot(tap, taps).double()
        return truth(x, (w[..., None] * hot).sum(2), first, steps)

    with use_backend(backend):
        got = results(ours, x, weight, grad, first, steps)
    for a, b in zip(got, results(shifted, x, weight, grad, first, steps), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one_tap(weight, tap, taps).sum(-1), weight.sum(-1))


@pytest.mark.parametrize("elements", [1, 2])
@pytest.mark.parametrize("size", [*SIZES, (40, 33, 37, 133, 9, 3, 45), (20, 16, 16, 16, 30, 17, 9)])
def test_spikes_and_other_numbers_give_the_same_bits(
    size: tuple[int, ...], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _, _ = (v.float() for v in case(size, 0.3))
    _, batch, inputs, outputs, taps, first, steps = size
    weight, tap = torch.randn(outputs, inputs, elements), torch.randint(0, taps, (outputs, inputs, elements))
    hot = functional.one_hot(tap, taps)
    for other in (1.0, 0.7, torch.inf):  # which only its own batch entry hears of
        x[0, -1, 0] = other
        found = []
        for looks_up in (numba_taps.looks_up, lambda: False):
            monkeypatch.setattr(numba_taps, "looks_up", looks_up)
            with use_backend("numba"):
                found.append(delay_taps(x, weight, tap.double(), taps, first, steps, "delay"))
            monkeypatch.undo()
        assert torch.equal(*(y.nan_to_num(nan=1e9) for y in found))
        expected = truth(x.double(), (weight.double()[..., None] * hot).sum(2), first, steps)
        heard = slice(None) if other < torch.inf else slice(batch - 1)
        torch.testing.assert_close(found[0][:, heard].double(), expected[:, heard], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 33, 37, 133, 9, 3, 45), (20, 16, 16, 16, 30, 17, 9), (70, 17, 9, 5, 6, 2, 69)])
def test_spikes_that_stay_events(size: tuple[int, ...]) -> None:
    x, _, _ = (v.float() for v in case(size, 0.3))
    steps_in, batch, inputs, outputs, taps, first, steps = size
    weight, tap = torch.randn(outputs, inputs, 2), torch.randint(0, taps, (outputs, inputs, 2))
    sizes, rest = (steps_in, batch, inputs), (tap.double(), taps, first, steps, "delay")
    rows = x.flatten(0, 1).nonzero()
    values, begins = torch.ones(len(rows)), torch.zeros(steps_in * batch + 1, dtype=torch.int64)
    begins[1:] = torch.bincount(rows[:, 0], minlength=steps_in * batch).cumsum(0)
    events = begins, rows[:, 1].int(), values
    with use_backend("numba"):
        found = delay_taps_of_events(events, sizes, weight, *rest)
        if numba_vectors.looks_up():
            assert found is not None
            assert torch.equal(found, delay_taps(x, weight, *rest))
        else:
            assert found is None
        assert delay_taps_of_events((*events[:2], values * 2), sizes, weight, *rest) is None
        assert delay_taps_of_events(events, sizes, weight.double(), *rest) is None
        assert delay_taps_of_events(events, sizes, weight.requires_grad_(), *rest) is None
    with use_backend("reference"):
        assert delay_taps_of_events(events, sizes, weight.detach(), *rest) is None


def test_an_output_that_no_cache_keeps_has_the_same_bits() -> None:
    x, _, _ = (v.float() for v in case((65, 256, 3, 256, 4, 0, 65)))
    weight, tap = torch.randn(256, 3, 1), torch.randint(0, 4, (256, 3, 1)).double()
    with use_backend("numba"):
        for numbers in (x, x * 0.7):
            whole = delay_taps(numbers, weight, tap, 4, 0, 65, "delay")
            parts = [delay_taps(part.contiguous(), weight, tap, 4, 0, 65, "delay") for part in numbers.split(64, 1)]
            assert whole.nbytes >= numba_terms.LARGE > parts[0].nbytes
            assert torch.equal(whole, torch.cat(parts, 1))


# Triton: in its interpreter here, on a CUDA device by `pytest -m gpu`.

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
TILES = [
    (5, 3, 2, 3, 4, 0, 7),
    (7, 30, 40, 20, 3, 2, 5),
    (3, 2, 140, 5, 2, 1, 2),
]  # rows, inputs and outputs past a tile


def against_float64(size: tuple[int, ...], dtype: torch.dtype, device: str, error: float) -> None:
    """Triton's results, with an error in parts of what the terms' magnitudes come to."""
    x, k, grad = (v.to(dtype) for v in case(size, graded=True))
    wide = [v.double() for v in (x, k, grad)]
    expected = results(truth, *wide, *size[-2:])
    magnitude = results(truth, *(v.abs() for v in wide), *size[-2:])
    with use_backend("triton"):
        ours = results(delay_conv, *(v.to(device) for v in (x, k, grad)), *size[-2:])
    for got, wanted, most in zip(ours, expected, magnitude, strict=True):
        assert got.dtype == dtype
        rounding = wanted.abs() * torch.finfo(dtype).eps / 2
        assert bool(((got.cpu().double() - wanted).abs() <= error * most + rounding + 1e-7).all())


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", TILES)
def test_triton_equals_torchs_convolution(size: tuple[int, ...], dtype: torch.dtype) -> None:
    against_float64(size, dtype, "cpu", 2e-6)


@interpreted
def test_triton_one_tap_a_synapse() -> None:
    x, _, _ = (v.float() for v in case(SIZES[0], 0.5, graded=True))
    weight, tap = torch.randn(3, 7, 2), torch.randint(0, 5, (3, 7, 2))
    with use_backend("triton"):
        y = delay_taps(x, weight, tap.double(), 5, 0, 15, "delay")
    torch.testing.assert_close(y, delay_taps(x, weight, tap.double(), 5, 0, 15, "delay"))
    delays = torch.cat([torch.linspace(-2.0, 8.0, 35), torch.tensor([0.5, 1.5, 2.5, 3.5, 1.4999999, 2.5000002, 1e9])])
    with use_backend("triton"):
        y = delay_taps(x, weight, delays.view(3, 7, 2), 5, 0, 15, "delay")
    torch.testing.assert_close(y, delay_taps(x, weight, delays.view(3, 7, 2), 5, 0, 15, "delay"))


@pytest.mark.gpu
@pytest.mark.parametrize(("tf32", "error"), [(False, 4e-6), (True, 2e-3)])
@pytest.mark.parametrize("size", [*TILES, (50, 64, 256, 200, 25, 0, 62)])
def test_triton_on_a_cuda_device(size: tuple[int, ...], tf32: bool, error: float) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        against_float64(size, torch.float32, "cuda", error)
        against_float64(size, torch.bfloat16, "cuda", 4e-6)
        against_float64(size, torch.float16, "cuda", 4e-6)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_triton_says_what_it_cannot_do() -> None:
    x, k, _ = case(SIZES[0])
    with use_backend("triton"), pytest.raises(BackendError, match=r"in float32, and the input is torch\.float64"):
        delay_conv(x, k, 0, 15)


def test_compiled_whole() -> None:
    x, k, grad = case(SIZES[0])
    weight, tap = torch.randn(3, 7, 1).double(), torch.randint(0, 5, (3, 7, 1))

    def run(x: Tensor, k: Tensor) -> Tensor:
        return delay_conv(x, k, 0, 15) + delay_taps(x, weight, tap.double(), 5, 0, 15, "delay")

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    for got, wanted in zip(results(compiled, x, k, grad), results(run, x, k, grad), strict=True):
        assert torch.equal(got, wanted)


def test_refusals() -> None:
    x, k, _ = case(SIZES[0])
    weight, tap = torch.randn(3, 7, 1).double(), torch.zeros(3, 7, 1, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"x \[T, B, M\] and k \[N, M"):
        delay_conv(x[0], k, 0, 15)
    with pytest.raises(ShapeError, match=r"x \[T, B, M\] and k \[N, M"):
        delay_conv(x, k[:, :3], 0, 15)
    with pytest.raises(DtypeError, match="both must be of one floating dtype"):
        delay_conv(x.float(), k, 0, 15)
    with pytest.raises(DeviceError, match="move one of them"):
        delay_conv(x.to("meta"), k, 0, 15)
    with pytest.raises(ShapeError, match="first = 5"):
        delay_conv(x, k, 5, 15)
    with pytest.raises(ShapeError, match="steps = 12"):
        delay_conv(x, k, 0, 12)
    with pytest.raises(ShapeError, match=r"delays that broadcast against weights \(3, 7, 1\)"):
        delay_taps(x, weight, tap[:2].double(), 5, 0, 15, "delay")
    with pytest.raises(DtypeError, match=r"delays must be of a floating dtype, got torch\.int64"):
        delay_taps(x, weight, tap, 5, 0, 15, "delay")
    with pytest.raises(DeviceError, match="the delays on meta"):
        delay_taps(x, weight, tap.double().to("meta"), 5, 0, 15, "delay")
    x.requires_grad_()
    for y in (delay_conv(x, k, 0, 15), delay_taps(x, weight, tap.double(), 5, 0, 15, "delay")):
        with pytest.raises(BackendError, match="no second derivative"):
            torch.autograd.grad(y.sum(), x, create_graph=True)
