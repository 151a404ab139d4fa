"""Event-driven convolution against float64 convolutions of the same frames, with autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import ArgumentError, BackendError, ShapeError
from spikenet.kernels import threads, use_backend
from spikenet.kernels.synapse import event_conv2d, sparse_conv2d
from tests.kernels.synapse.events import BACKENDS, Rows, assert_near, rows, with_gradients

# channels, (height, width), outputs, kernel, and what differs from stride 1, no padding
CASES: list[tuple[int, tuple[int, int], int, tuple[int, int], dict[str, Any]]] = [
    (2, (9, 7), 5, (3, 3), {"padding": (1, 1)}),
    (4, (8, 11), 6, (3, 2), {"stride": (2, 3), "padding": (0, 1), "dilation": (1, 2), "groups": 2}),
    (4, (6, 6), 4, (1, 1), {"groups": 4}),
    (3, (10, 8), 40, (5, 4), {"stride": (2, 1), "padding": (3, 2), "dilation": (2, 1)}),
    (1, (4, 5), 3, (4, 5), {}),
    (2, (7, 7), 70, (1, 3), {"stride": (4, 3), "padding": (2, 0)}),
    (6, (5, 4), 51, (3, 3), {"padding": (2, 2), "groups": 3}),
]
Given = tuple[Rows, Tensor, Tensor, Tensor, dict[str, Any]]


def given(case: int, count: int = 11, density: float = 0.15) -> Given:
    """Rows, weight, bias and a gradient in float64, and the keywords."""
    channels, size, outputs, kernel, options = CASES[case]
    generator = torch.Generator().manual_seed(case)
    weight, bias, noise = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((outputs, channels // options.get("groups", 1), *kernel), (outputs,), (count, outputs, 99))
    )
    frames = rows(count, channels * size[0] * size[1], density)
    with torch.device("meta"):
        y = functional.conv2d(torch.zeros(count, channels, *size), torch.zeros(weight.shape), None, **options)
    repeats = -(-y[0, 0].numel() // 99)
    gy = noise.repeat(1, 1, repeats)[..., : y[0, 0].numel()].view(y.shape)
    return frames._replace(dense=frames.dense.view(count, channels, *size)), weight, bias, gy, options


def truth(frames: Rows, weight: Tensor, bias: Tensor | None, gy: Tensor, options: dict[str, Any]) -> list[Tensor]:
    y, gx, *rest = with_gradients(lambda x, w, b: functional.conv2d(x, w, b, **options), gy, frames.dense, weight, bias)
    return [y, gx[frames.dense != 0], *rest]


def check(case: int, *, bias: bool, dtype: torch.dtype, device: str = "cpu", count: int = 11) -> None:
    frames, weight, offset, gy, options = given(case, count)
    weight, offset, gy = (t.to(dtype) for t in (weight, offset, gy))
    exact = truth(frames, weight.double(), offset.double() if bias else None, gy.double(), options)
    indptr, indices, values = (t.to(device) for t in frames[:3])
    size = frames.dense.shape[2:]
    got = with_gradients(
        lambda v, w, b: event_conv2d(indptr, indices, v, w, b, size=size, **options),
        gy.to(device),
        values.to(torch.float64 if dtype == torch.float64 else torch.float32),
        weight.to(device),
        offset.to(device) if bias else None,
    )
    assert got[0].is_contiguous()
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for ours, expected in zip(got, exact, strict=True):
        assert_near(ours.cpu(), expected, tolerance)


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("backend", BACKENDS)
def test_output_and_gradients_are_the_dense_convolutions(backend: str, case: int) -> None:
    with use_backend(backend):
        check(case, bias=case % 2 == 0, dtype=torch.float32, count=4 if backend == "triton" else 11)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_float64_is_computed_in_float64(case: int) -> None:
    with use_backend("numba"):
        check(case, bias=case % 2 == 1, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype: torch.dtype) -> None:
    with use_backend("numba"):
        check(3, bias=True, dtype=dtype)


def test_gradients_by_finite_differences() -> None:
    frames, weight, bias, _, options = given(1, count=2)
    size = frames.dense.shape[2:]
    leaves = [t.requires_grad_() for t in (frames.values, weight, bias)]
    with use_backend("numba"):
        assert torch.autograd.gradcheck(
            lambda v, w, b: event_conv2d(*frames[:2], v, w, b, size=size, **options), leaves
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [0, 3])
def test_no_rows_and_no_events(backend: str, count: int) -> None:
    weight, bias = torch.randn(3, 2, 3, 3), torch.randn(3)
    indptr, indices = torch.zeros(count + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    gy = torch.randn(count, 3, 4, 2)
    with use_backend(backend):
        got = with_gradients(
            lambda v, w, b: event_conv2d(indptr, indices, v, w, b, size=(6, 4)), gy, torch.zeros(0), weight, bias
        )
    exact = [bias[:, None, None].expand(gy.shape), torch.zeros(0), torch.zeros(weight.shape), gy.sum((0, 2, 3))]
    for ours, expected in zip(got, exact, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_tensors(backend: str) -> None:
    frames, weight, bias, gy, options = given(0, count=2)
    size, values = frames.dense.shape[2:], frames.values.float()
    weight, bias, gy = weight.float(), bias.float(), gy.float()
    index = torch.stack([frames.indices, frames.indices], 1)[:, 1]
    with use_backend(backend):
        for grad in (gy.to(memory_format=torch.channels_last), gy[..., :1].expand(gy.shape), gy.transpose(0, 2)):
            if grad.shape != gy.shape:
                grad = grad.contiguous().transpose(0, 2)
            exact = truth(frames, weight.double(), bias.double(), grad.double(), options)
            leaves = [values.clone(), weight.to(memory_format=torch.channels_last), bias.clone()]
            leaves = [leaf.requires_grad_() for leaf in leaves]
            y = event_conv2d(frames.indptr, index, *leaves, size=size, **options)
            for ours, expected in zip([y, *torch.autograd.grad(y, leaves, grad)], exact, strict=True):
                assert_near(ours.detach(), expected, 2e-6)


@pytest.mark.parametrize("backend", ["numba", BACKENDS[2]])
def test_a_part_gives_the_bits_of_the_whole_and_repeats_do_too(backend: str) -> None:
    frames, weight, bias, _, options = given(0, count=9)
    size, values = frames.dense.shape[2:], frames.values.float()
    with use_backend(backend):
        rest = (weight.float(), bias.float())
        whole = event_conv2d(*frames[:2], values, *rest, size=size, **options)
        assert torch.equal(event_conv2d(*frames[:2], values, *rest, size=size, **options), whole)
        for first, last in ((0, 1), (1, 5), (5, 9)):
            begin, end = frames.indptr[first], frames.indptr[last]
            indptr = frames.indptr[first : last + 1] - begin
            part = event_conv2d(indptr, frames.indices[begin:end], values[begin:end], *rest, size=size, **options)
            assert torch.equal(part, whole[first:last])


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SERIAL", 0)
    frames, weight, bias, gy, options = given(3, count=40, density=0.05)
    size, before, seen = frames.dense.shape[2:], torch.get_num_threads(), []
    leaves = [t.float() for t in (gy, frames.values, weight, bias)]
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with use_backend("numba"):
                seen.append(
                    with_gradients(lambda v, w, b: event_conv2d(*frames[:2], v, w, b, size=size, **options), *leaves)
                )
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        assert all(torch.equal(one, two) for one, two in zip(seen[0], other, strict=True))
    for ours, expected in zip(seen[0], truth(frames, weight, bias, gy, options), strict=True):
        assert_near(ours, expected, 2e-6)


def test_above_the_crossover_dense_frames_are_convolved() -> None:
    frames, weight, bias, _, options = given(0, density=0.5)
    x, rest = frames.dense.float(), (weight.float(), bias.float())
    density = len(frames.indices) / x.numel()
    y = functional.conv2d(x, *rest, **options)
    for run in (
        lambda most: event_conv2d(*frames[:2], frames.values.float(), *rest, size=x.shape[2:], **options, most=most),
        lambda most: sparse_conv2d(x, *rest, **options, most=most),
    ):
        assert torch.equal(run(density * 0.99), y)
        with use_backend("numba"):
            by_events = run(density * 0.99)
        assert torch.equal(run(density * 1.01), by_events)
        assert not torch.equal(by_events, y)


@pytest.mark.parametrize("most", [1.0, 0.01])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_mostly_zero_frames_are_frames_like_any(case: int, most: float) -> None:
    frames, weight, bias, gy, options = given(case)
    exact = with_gradients(lambda x, w, b: functional.conv2d(x, w, b, **options), gy, frames.dense, weight, bias)
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-13)):
        leaves = [t.to(dtype) for t in (frames.dense, weight, bias)]
        got = with_gradients(lambda x, w, b: sparse_conv2d(x, w, b, **options, most=most), gy, *leaves)
        for ours, expected in zip(got, exact, strict=True):
            assert ours.dtype == dtype
            assert_near(ours, expected, tolerance)


def test_no_frames() -> None:
    weight, bias = torch.randn(3, 2, 3, 3), torch.randn(3)
    got = with_gradients(sparse_conv2d, torch.zeros(0, 3, 4, 2), torch.zeros(0, 2, 6, 4), weight, bias)
    assert [tuple(t.shape) for t in got] == [(0, 3, 4, 2), (0, 2, 6, 4), (3, 2, 3, 3), (3,)]
    assert not any(t.any() for t in got)


def test_only_what_is_asked_for_is_computed() -> None:
    frames, weight, bias, gy, options = given(0)
    size = frames.dense.shape[2:]
    exact = truth(frames, weight, bias, gy, options)[1:]
    for wanted in range(3):
        leaves = [t.clone().requires_grad_(i == wanted) for i, t in enumerate((frames.values, weight, bias))]
        event_conv2d(*frames[:2], *leaves, size=size, **options).backward(gy)
        assert [leaf.grad is not None for leaf in leaves] == [i == wanted for i in range(3)]
        assert_near(leaves[wanted].grad, exact[wanted], 1e-13)
    with torch.no_grad():
        assert not event_conv2d(*frames[:2], *leaves, size=size, **options).requires_grad


def test_compiled_whole() -> None:
    frames, weight, bias, gy, options = given(0)
    size = frames.dense.shape[2:]
    for run, x in (
        (lambda v, w, b: event_conv2d(*frames[:2], v, w, b, size=size, **options), frames.values),
        (lambda x, w, b: sparse_conv2d(x, w, b, **options), frames.dense),
    ):
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
        pairs = zip(*(with_gradients(f, gy, x, weight, bias) for f in (compiled, run)), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)


def test_the_operators_keep_torchs_rules() -> None:
    frames, weight, bias, gy, _ = given(0, count=3)
    gy, rest = gy.float(), ([1, 1], [1, 1], [1, 1], 1, 1.0)
    values, x = frames.values.float().requires_grad_(), frames.dense.float().requires_grad_()
    weight, bias = weight.float().requires_grad_(), bias.float().requires_grad_()
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    ops, size, plain = torch.ops.spikenet, [9, 7], weight.detach()
    torch.library.opcheck(ops.event_conv2d, (*frames[:2], values, weight, bias, size, *rest), test_utils=checks)
    torch.library.opcheck(ops.sparse_conv2d, (x, weight, None, *rest), test_utils=checks)
    for wants in ((True, True, True), (True, False, False), (False, True, False), (False, False, True)):
        arguments = (*frames[:2], values.detach(), plain, gy, size, *rest, *wants)
        torch.library.opcheck(ops.event_conv2d_backward, arguments, test_utils=checks)
        torch.library.opcheck(ops.sparse_conv2d_backward, (x.detach(), plain, gy, *rest, *wants), test_utils=checks)


def test_what_is_refused() -> None:
    frames, weight, bias, _, _ = given(0)
    x, size = frames.dense, frames.dense.shape[2:]
    with pytest.raises(ShapeError, match=r"weight \[N, C / groups, kh, kw\] and a bias \[N\], got"):
        event_conv2d(*frames[:3], weight, bias[None], size=size)
    with pytest.raises(ShapeError, match=r"does not fit frames of \(2, 7\): output \(0, 5\)"):
        event_conv2d(*frames[:3], weight, bias, size=(2, 7))
    with pytest.raises(ArgumentError, match="groups that divide its 5 outputs"):
        event_conv2d(*frames[:3], weight, bias, size=size, groups=2)
    with pytest.raises(ArgumentError, match="stride and dilation from 1"):
        sparse_conv2d(x, weight, bias, stride=(0, 1))
    with pytest.raises(ShapeError, match=r"takes \[R, C, H, W\] and \[N, C / 1, kh, kw\]"):
        sparse_conv2d(x[:, :1], weight, bias)
    for y in (event_conv2d(*frames[:3], weight.requires_grad_(), size=size), sparse_conv2d(x, weight)):
        with pytest.raises(BackendError, match="no second derivative"):
            torch.autograd.grad(y.sum(), weight, create_graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_on_the_gpu(backend: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with use_backend(backend):
        for case in range(len(CASES)):
            for bias in (True, False):
                check(case, bias=bias, dtype=dtype, device="cuda", count=700)


@pytest.mark.gpu
def test_the_same_bits_in_parts_and_in_every_run_on_the_gpu() -> None:
    frames, weight, bias, gy, options = given(3, count=3000, density=0.1)
    size, values = frames.dense.shape[2:], frames.values.float().cuda()
    indptr, indices = frames.indptr.cuda(), frames.indices.cuda()
    weight, bias, gy = (t.float().cuda() for t in (weight, bias, gy))
    runs = [
        with_gradients(
            lambda v, w, b: event_conv2d(indptr, indices, v, w, b, size=size, **options), gy, values, weight, bias
        )
        for _ in range(3)
    ]
    for other in runs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(runs[0], other, strict=True))
    begin, end = int(indptr[1000]), int(indptr[2100])
    part = event_conv2d(
        indptr[1000:2101] - begin, indices[begin:end], values[begin:end], weight, bias, size=size, **options
    )
    assert torch.equal(part, runs[0][0][1000:2100])
