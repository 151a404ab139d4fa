"""The linear recurrence: every backend against float64 loops and closed forms, forward and all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikenet.errors import BackendError, DtypeError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.scan import linear_scan
from spikenet.kernels.scan.ops import SCAN

TRITON = pytest.param(
    "triton", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
)
BACKENDS = ["reference", "numba", TRITON]
SHAPES = [(1, 1), (5, 3), (33, 1), (32, 33), (70, 35)]
gpu = pytest.mark.gpu


def case(steps: int, lanes: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, ...]:
    """x, a (some beyond 0 and 1), h0 and the gradient of h."""
    random = torch.Generator().manual_seed(steps * 1000 + lanes)
    x, gh = (torch.randn(steps, lanes, generator=random).to(dtype) for _ in range(2))
    a, h0 = torch.rand(lanes, generator=random) * 1.5 - 0.5, torch.randn(lanes, generator=random)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    return tuple(v.to(device) for v in (x, a.to(real), h0.to(real), gh.to(real)))


def loop(x: Tensor, a: Tensor, h: Tensor) -> Tensor:
    """The recurrence as it is written, in float64."""
    rows = []
    for x_t in x.double():
        h = a.double() * h.double() + x_t
        rows.append(h)
    return torch.stack(rows)


def gradients(x: Tensor, a: Tensor, h0: Tensor, gh: Tensor, of: str = "ours") -> list[Tensor]:
    leaves = [v.detach().clone() for v in (x, a, h0)]
    leaves = [(v.double() if of == "loop" else v).requires_grad_() for v in leaves]
    h = loop(*leaves) if of == "loop" else linear_scan(*leaves)[0]
    return [h.detach(), *torch.autograd.grad(h, leaves, gh.to(h.dtype))]


def bounds(x: Tensor, a: Tensor, h0: Tensor, gh: Tensor) -> list[Tensor]:
    """What (2T + 1) roundings of 2^-24 in every term may come to, for h and for each gradient."""
    h, gx, _, gh0 = gradients(x.double().abs(), a.double().abs(), h0.double().abs(), gh.double().abs(), "loop")
    before = torch.cat([h0.double().abs()[None], h[:-1]])
    unit = (2 * len(x) + 1) * 2.0**-24
    return [h * unit, gx * unit, 3 * unit * (gx * before).sum(0), 2 * unit * gh0]  # ga: two scans and a sum


def check(backend: str, steps: int, lanes: int, dtype: torch.dtype, device: str = "cpu") -> None:
    arguments = case(steps, lanes, dtype, device)
    with use_backend(backend):
        ours = gradients(*arguments)
    truth = gradients(*arguments, of="loop")
    assert [o.dtype for o in ours] == [arguments[1].dtype, dtype, *[arguments[1].dtype] * 2]
    shrink = 2.0**-29 if dtype == torch.float64 else 1.0
    storage = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)  # the gradient of x is stored in it
    for k, (got, expected, bound) in enumerate(zip(ours, truth, bounds(*arguments), strict=True)):
        allowed = bound * shrink + (expected.abs() * storage + 2.0**-24 if k == 1 and storage else 1e-300)
        assert ((got.double() - expected.double()).abs() <= allowed).all(), (backend, steps, lanes, k)


@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_gradients_lie_within_the_stated_error_of_float64(backend: str) -> None:
    for steps, lanes in SHAPES:
        check(backend, steps, lanes, torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_storage_types(dtype: torch.dtype, backend: str) -> None:
    if (backend, dtype) != ("triton", torch.float64):  # refused: see below
        check(backend, 37, 5, dtype)


def test_numba_and_reference_agree_to_the_last_bit_on_any_number_of_threads() -> None:
    arguments, results, before = case(70, 9000), [], torch.get_num_threads()
    try:
        for backend, threads in (("reference", 1), ("numba", 1), ("numba", 3)):
            torch.set_num_threads(threads)
            with use_backend(backend):
                results.append(gradients(*arguments)[:2])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_impulse_decays_geometrically_and_a_sum_of_powers_saturates(backend: str) -> None:
    a = torch.tensor([0.5, -0.25, 1.0, 0.0])
    steps = torch.arange(40.0)[:, None]
    impulse = torch.zeros(40, 4).index_fill_(0, torch.tensor([0]), 1.0)
    with use_backend(backend):
        assert torch.equal(linear_scan(impulse, a, torch.zeros(()))[0], a**steps)  # powers of two: exact
        h, last = linear_scan(torch.ones(40, 4), a, torch.zeros(()))
    closed = torch.where(a == 1, steps + 1, (1 - a ** (steps + 1)) / (1 - a))
    torch.testing.assert_close(h, closed, rtol=1e-6, atol=0)
    assert torch.equal(last, h[-1])


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_chunks_give_the_bits_of_the_whole(backend: str) -> None:
    x, a, h0, gh = case(50, 6)
    with use_backend(backend):
        whole = gradients(x, a, h0, gh)
        leaves = [v.clone().requires_grad_() for v in (x, a, h0)]
        first, state = linear_scan(leaves[0][:19], *leaves[1:])
        second, _ = linear_scan(leaves[0][19:], leaves[1], state)
        h = torch.cat([first, second])
        chunked = [h.detach(), *torch.autograd.grad(h, leaves, gh)]
    assert torch.equal(whole[0], chunked[0])
    assert torch.equal(whole[1], chunked[1])
    torch.testing.assert_close(chunked[2:], whole[2:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_and_expanded_input(backend: str) -> None:
    x, a, h0, _ = case(12, 10)
    with use_backend(backend):
        for view in (x.t()[:, :10], x[::2, ::3], x[:1].expand(7, -1), x.flip(0), x[:, :1].expand(-1, 4)):
            n = view.shape[1]
            assert torch.equal(linear_scan(view, a[:n], h0[:n])[0], linear_scan(view.contiguous(), a[:n], h0[:n])[0])


def test_second_derivatives() -> None:
    x, a, h0 = (v.requires_grad_() for v in case(4, 3, torch.float64)[:3])
    assert torch.autograd.gradgradcheck(lambda *v: linear_scan(*v)[0], (x, a, h0))


def test_shapes_broadcast_and_empty_input() -> None:
    x = torch.randn(6, 2, 3, 4)
    h, last = linear_scan(x, torch.full((3, 1), 0.5), torch.zeros(()))
    assert h.shape == x.shape
    assert torch.equal(last, h[-1])
    for shape in ((0, 3), (4, 0)):
        x, a, h0 = torch.zeros(shape).requires_grad_(), torch.ones(shape[1]).requires_grad_(), torch.ones(shape[1])
        h, last = linear_scan(x, a, h0)
        (h.sum() + last.sum()).backward()
        assert h.shape == x.grad.shape == shape
        assert torch.equal(last, torch.ones(shape[1]))


def test_torch_compile_sees_one_operation() -> None:
    x, a, h0, _ = case(9, 4)
    compiled = torch.compile(lambda x: linear_scan(x, a, h0)[0] * 2, backend="aot_eager", fullgraph=True)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    compiled(leaves[0]).sum().backward()
    (linear_scan(leaves[1], a, h0)[0] * 2).sum().backward()
    assert torch.equal(leaves[0].grad, leaves[1].grad)
    sample = [v.clone().requires_grad_() for v in (x, a, h0)]
    torch.library.opcheck(torch.ops.spikenet.linear_scan, (*sample, False))


def test_what_is_refused() -> None:
    x, a, h0, _ = case(4, 3)
    with pytest.raises(DtypeError, match=r"16, 32 or 64 bits, got torch\.int64"):
        linear_scan(x.long(), a, h0)
    with pytest.raises(ShapeError, match=r"a of shape \(2,\) does not broadcast against the lanes \(3,\)"):
        linear_scan(x, a[:2], h0)
    with (
        use_backend("triton"),
        pytest.raises(BackendError, match=r"compute in float32, and the input is torch\.float64"),
    ):
        linear_scan(x.double(), a, h0)


def test_the_interpreter_is_never_chosen_unasked() -> None:
    if not torch.cuda.is_available():
        assert "run on CUDA devices" in SCAN.reasons(torch.ones(2, 2))["triton"]


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_the_gpu(dtype: torch.dtype) -> None:
    for steps, lanes in [*SHAPES, (500, 8192), (4, 100_003)]:
        check("triton", steps, lanes, dtype, "cuda")
    check("reference", 37, 5, torch.float64, "cuda")
