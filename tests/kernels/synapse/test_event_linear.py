"""Event-driven products against float64 products of the same rows made dense, with autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels import threads, use_backend
from spikenet.kernels.synapse import event_linear, sparse_linear
from tests.kernels.synapse.events import BACKENDS, Rows, assert_near, rows, with_gradients

SIZES = [(13, 7, 5), (1, 1, 1), (70, 33, 130), (5, 9, 1), (3, 4, 64)]


def parameters(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    return weight, torch.randn(outputs, generator=generator, dtype=torch.float64)


def truth(given: Rows, weight: Tensor, bias: Tensor | None, gy: Tensor) -> list[Tensor]:
    """Output and gradients in float64: values (at the events), weight, bias."""
    y, gx, *rest = with_gradients(functional.linear, gy, given.dense, weight.double(), bias)
    return [y, gx[given.dense != 0], *rest]


def check(count: int, inputs: int, outputs: int, *, bias: bool, dtype: torch.dtype, device: str = "cpu") -> None:
    given, (weight, offset) = rows(count, inputs, 0.3), parameters(inputs, outputs)
    weight, offset = weight.to(dtype), offset.to(dtype)
    gy = torch.randn(count, outputs).to(dtype)
    exact = truth(given, weight, offset.double() if bias else None, gy.double())
    events = [t.to(device) for t in given[:2]]
    moved = [t.to(device) for t in (given.values.float(), weight)]
    got = with_gradients(
        lambda v, w, b: event_linear(*events, v, w, b), gy.to(device), *moved, offset.to(device) if bias else None
    )
    tolerance = {torch.float64: 1e-6, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for ours, expected in zip(got, exact, strict=True):
        assert_near(ours.cpu(), expected, tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_output_and_gradients_are_the_dense_products(backend: str, bias: bool) -> None:
    with use_backend(backend):
        for size in SIZES:
            check(*size, bias=bias, dtype=torch.float32)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_float64_is_computed_in_float64(backend: str) -> None:
    given, (weight, bias), gy = rows(40, 33, 0.2), parameters(33, 70), torch.randn(40, 70, dtype=torch.float64)
    with use_backend(backend):
        got = with_gradients(lambda v, w, b: event_linear(*given[:2], v, w, b), gy, given.values, weight, bias)
    for ours, expected in zip(got, truth(given, weight, bias, gy), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_half_precision_weights(backend: str, dtype: torch.dtype) -> None:
    with use_backend(backend):
        check(13, 17, 9, bias=True, dtype=dtype)


def test_half_precision_is_summed_in_float32() -> None:
    """512 halves of 1/512 on top of 2048: summed in float16 each one would be lost."""
    indptr, indices = torch.tensor([0, 1024]), torch.arange(1024, dtype=torch.int32)
    weight = torch.full((1, 1024), 0.25, dtype=torch.float16)
    weight[0, 0] = 2048
    for backend in ("numba", "reference"):
        with use_backend(backend):
            y = event_linear(indptr, indices, torch.ones(1024), weight)
            assert (y.dtype, y.item()) == (torch.float16, 2304)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_by_finite_differences(backend: str) -> None:
    given, (weight, bias) = rows(6, 5, 0.4), parameters(5, 3)
    if backend == "triton":
        pytest.skip("float32 is too coarse for finite differences; the dense products stand for it")
    with use_backend(backend):
        leaves = [t.requires_grad_() for t in (given.values, weight, bias)]
        assert torch.autograd.gradcheck(lambda v, w, b: event_linear(*given[:2], v, w, b), leaves)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(0, 4, 3), (4, 0, 3), (4, 3, 0), (4, 3, 2)])
def test_no_rows_inputs_outputs_or_events(backend: str, size: tuple[int, int, int]) -> None:
    count, inputs, outputs = size
    weight, bias = (p.float() for p in parameters(inputs, outputs))
    indptr, indices = torch.zeros(count + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    gy = torch.randn(count, outputs)
    with use_backend(backend):
        got = with_gradients(lambda v, w, b: event_linear(indptr, indices, v, w, b), gy, torch.zeros(0), weight, bias)
    exact = [bias.expand(count, outputs), torch.zeros(0), torch.zeros(outputs, inputs), gy.sum(0)]
    for ours, expected in zip(got, exact, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_tensors(backend: str) -> None:
    """A transposed weight, a gradient that is a transpose, an expansion, every second row; strided events."""
    given, (weight, bias) = rows(12, 10, 0.3), (p.float() for p in parameters(10, 6))
    values = given.values.float()
    wide = torch.stack([values, values], 1)[:, 0]
    index = torch.stack([given.indices, given.indices], 1)[:, 1]
    grads = [
        torch.randn(6, 12).t(),
        torch.ones(()).expand(12, 6),
        torch.randn(24, 6)[::2],
        torch.randn(12, 1).expand(12, 6),
    ]
    with use_backend(backend):
        for gy in grads:
            exact = truth(given, weight, bias.double(), gy.double())
            leaves = [wide.requires_grad_(), weight.t().contiguous().t().requires_grad_(), bias.requires_grad_()]
            y = event_linear(given.indptr, index, *leaves)
            for ours, expected in zip([y, *torch.autograd.grad(y, leaves, gy)], exact, strict=True):
                assert_near(ours.detach(), expected, 2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_part_gives_the_bits_of_the_whole_and_repeats_do_too(backend: str) -> None:
    if backend == "reference":
        pytest.skip("matrix products of other sizes round differently")
    given, (weight, bias) = rows(60, 20, 0.3), (p.float() for p in parameters(20, 33))
    values = given.values.float()
    with use_backend(backend):
        whole = event_linear(*given[:2], values, weight, bias)
        assert torch.equal(event_linear(*given[:2], values, weight, bias), whole)
        for first, last in ((0, 1), (1, 17), (17, 60)):
            begin, end = given.indptr[first], given.indptr[last]
            indptr = given.indptr[first : last + 1] - begin
            part = event_linear(indptr, given.indices[begin:end], values[begin:end], weight, bias)
            assert torch.equal(part, whole[first:last])


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SERIAL", 0)
    given, (weight, bias) = rows(500, 40, 0.1), (p.float() for p in parameters(40, 300))
    gy, before, seen = torch.randn(500, 300), torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with use_backend("numba"):
                run = with_gradients(
                    lambda v, w, b: event_linear(*given[:2], v, w, b), gy, given.values.float(), weight, bias
                )
                seen.append([*run, *with_gradients(sparse_linear, gy, given.dense.float(), weight, bias)])
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        for one, two in zip(seen[0][:4], other[:4], strict=True):
            assert torch.equal(one, two)
        for one, two in zip(seen[0][6:], other[6:], strict=True):
            assert torch.equal(one, two)  # all but the gradient of the dense input, a product of torch's
    for ours, expected in zip(seen[0], [*truth(given, weight, bias.double(), gy.double())] * 2, strict=True):
        if ours.shape == expected.shape:  # the dense input's gradient has an entry for every zero too
            assert_near(ours, expected, 2e-6)


def test_one_sum_in_the_order_of_the_events() -> None:
    """1 and 2^24 in float32: which of the two comes first decides what is left of the 1."""
    indptr, indices, weight = torch.tensor([0, 3]), torch.arange(3, dtype=torch.int32), torch.ones(1, 3)
    with use_backend("numba"):
        for values, exact in (([2.0**24, 1.0, -(2.0**24)], 0.0), ([2.0**24, -(2.0**24), 1.0], 1.0)):
            assert event_linear(indptr, indices, torch.tensor(values), weight).item() == exact


def test_only_what_is_asked_for_is_computed() -> None:
    given, (weight, bias) = rows(9, 8, 0.3), (p.float() for p in parameters(8, 4))
    for wanted in range(3):
        leaves = [t.clone().requires_grad_(i == wanted) for i, t in enumerate((given.values.float(), weight, bias))]
        y = event_linear(*given[:2], *leaves)
        y.sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == wanted for i in range(3)]
    with torch.no_grad():
        assert not event_linear(*given[:2], *leaves).requires_grad


def test_above_the_crossover_the_dense_product_is_taken() -> None:
    given, (weight, bias) = rows(90, 40, 0.5, graded=False), (p.float() for p in parameters(40, 30))
    density = len(given.indices) / given.dense.numel()
    y = functional.linear(given.dense.float(), weight, bias)
    for run in (
        lambda most: event_linear(*given[:2], given.values.float(), weight, bias, most),
        lambda most: sparse_linear(given.dense.float(), weight, bias, most),
    ):
        assert torch.equal(run(density * 0.99), y)
        with use_backend("numba"):  # forced: by the events, whatever the density
            by_events = run(density * 0.99)
        assert torch.equal(run(density * 1.01), by_events)
        assert not torch.equal(by_events, y)
        with use_backend("reference"):
            assert torch.equal(run(1.0), y)


@pytest.mark.parametrize("most", [1.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mostly_zero_input_is_an_input_like_any(dtype: torch.dtype, most: float) -> None:
    """Its gradient is owed where it is zero, too; NaN counts as a value."""
    for size in [*SIZES, (0, 3, 2), (3, 0, 2), (3, 2, 0)]:
        given, (weight, bias) = rows(*size[:2], 0.3), parameters(*size[1:])
        gy = torch.randn(size[0], size[2], dtype=torch.float64)
        exact = with_gradients(functional.linear, gy, given.dense, weight, bias)
        leaves = [t.to(dtype) for t in (given.dense, weight, bias)]
        got = with_gradients(lambda x, w, b: sparse_linear(x, w, b, most), gy, *leaves)
        for ours, expected in zip(got, exact, strict=True):
            assert ours.dtype == dtype
            assert_near(ours, expected, 1e-13 if dtype == torch.float64 else 2e-6)
    broken = torch.zeros(3, 4)
    broken[1, 2] = torch.nan
    assert sparse_linear(broken, torch.ones(2, 4)).isnan().any(1).tolist() == [False, True, False]


def test_compiled_whole() -> None:
    given, (weight, bias) = rows(9, 8, 0.3), (p.float() for p in parameters(8, 4))
    gy, values = torch.randn(9, 4), given.values.float()
    for run, x in (
        (lambda v, w, b: event_linear(given.indptr, given.indices, v, w, b), values),
        (sparse_linear, given.dense.float()),
    ):
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
        pairs = zip(*(with_gradients(f, gy, x, weight, bias) for f in (compiled, run)), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)


def test_the_operators_keep_torchs_rules() -> None:
    given, (weight, bias) = rows(9, 8, 0.3), (p.float().requires_grad_() for p in parameters(8, 4))
    values, x = given.values.float().requires_grad_(), given.dense.float().requires_grad_()
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    ops = torch.ops.spikenet
    torch.library.opcheck(ops.event_linear, (*given[:2], values, weight, bias, 1.0), test_utils=checks)
    torch.library.opcheck(ops.sparse_linear, (x, weight, None, 1.0), test_utils=checks)
    gy, plain = torch.randn(9, 4), weight.detach()
    for wants in ((True, True), (True, False), (False, True)):
        arguments = (*given[:2], values.detach(), plain, gy, 1.0, *wants)
        torch.library.opcheck(ops.event_linear_backward, arguments, test_utils=checks)
        torch.library.opcheck(ops.sparse_linear_backward, (x.detach(), plain, gy, 1.0, *wants), test_utils=checks)


def test_what_is_refused() -> None:
    given, (weight, bias) = rows(9, 8, 0.3), (p.float() for p in parameters(8, 4))
    indptr, indices, values = given.indptr, given.indices, given.values.float()
    with pytest.raises(ShapeError, match=r"indices \[E\] and values \[E\], got"):
        event_linear(indptr, indices, values[1:], weight)
    with pytest.raises(ShapeError, match=r"a weight \[N, K\] and a bias \[N\], got \[\(4, 8\), \(1, 4\)\]"):
        event_linear(indptr, indices, values, weight, bias[None])
    with pytest.raises(DtypeError, match="int64 indptr, int32 indices"):
        event_linear(indptr, indices.long(), values, weight)
    with pytest.raises(DtypeError, match=r"one floating-point dtype, got \['torch.float32', 'torch.float64'\]"):
        event_linear(indptr, indices, values, weight, bias.double())
    with pytest.raises(DeviceError, match="values are on cpu, weight on meta"):
        event_linear(indptr, indices, values, weight.to("meta"))
    with pytest.raises(ShapeError, match=r"takes \[R, K\] and \[N, K\], got \(9, 8\) and \(4, 7\)"):
        sparse_linear(given.dense.float(), weight[:, 1:])
    with pytest.raises(ShapeError, match=r"a bias of shape \(4,\), got \(3,\)"):
        sparse_linear(given.dense.float(), weight, bias[1:])
    with pytest.raises(DtypeError, match=r"input is torch\.float64, the weight torch\.float32"):
        sparse_linear(given.dense, weight)
    with pytest.raises(DeviceError, match="input is on cpu, the bias on meta"):
        sparse_linear(given.dense.float(), weight, bias.to("meta"))
    for y in (
        event_linear(indptr, indices, values, weight.requires_grad_()),
        sparse_linear(given.dense.float(), weight),
    ):
        with pytest.raises(BackendError, match="no second derivative"):
            torch.autograd.grad(y.sum(), weight, create_graph=True)
    with (
        use_backend("triton"),
        pytest.raises(BackendError, match=r"compute in float32, and the input is torch\.float64"),
    ):
        event_linear(indptr, indices, values, weight.detach().double())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_on_the_gpu(backend: str, dtype: torch.dtype) -> None:
    with use_backend(backend):
        for size in [*SIZES, (2000, 700, 512), (500, 2312, 1500), (40_000, 5, 33)]:
            for bias in (True, False):
                check(*size, bias=bias, dtype=dtype, device="cuda")


@pytest.mark.gpu
def test_the_same_bits_in_parts_and_in_every_run_on_the_gpu() -> None:
    given, (weight, bias) = rows(3000, 300, 0.1), (p.float().cuda() for p in parameters(300, 500))
    indptr, indices, values = given.indptr.cuda(), given.indices.cuda(), given.values.float().cuda()
    gy = torch.randn(3000, 500, device="cuda")
    runs = [
        with_gradients(lambda v, w, b: event_linear(indptr, indices, v, w, b), gy, values, weight, bias)
        for _ in range(3)
    ]
    for other in runs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(runs[0], other, strict=True))
    begin, end = int(indptr[1000]), int(indptr[2100])
    part = event_linear(indptr[1000:2101] - begin, indices[begin:end], values[begin:end], weight, bias)
    assert torch.equal(part, runs[0][0][1000:2100])
