"""Causal linear attention: every form against explicit products of the steps' maps in float64, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenet.errors import BackendError, DtypeError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.attention import causal_attention, mlstm_attention, segments
from spikenet.kernels.attention.causal import CAUSAL
from spikenet.kernels.attention.chunks import chunkwise

MEMBERS = [f"{rule} {decay}" for rule in ("additive", "delta") for decay in ("none", "head", "step", "channel")]
FORMS = [None, "reference"]  # the first takes kernels where there are some
HALF = [torch.float16, torch.bfloat16]
gpu = pytest.mark.gpu
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")


def case(
    member: str, steps: int, batch: int = 2, heads: int = 3, width: int = 6, values: int = 5
) -> list[Tensor | None]:
    """q, k (of length 1), v, log-decay, beta and first state, in float64."""
    rule, decay = member.split()
    q, k = (torch.randn(steps, batch, heads, width).double() for _ in range(2))
    shapes = {"head": (heads,), "step": (steps, batch, heads), "channel": (steps, batch, heads, width)}
    g = None if decay == "none" else -torch.rand(shapes[decay]).double()
    beta = torch.rand(steps, batch, heads).double() if rule == "delta" else None
    v, state = torch.randn(steps, batch, heads, values).double(), torch.randn(batch, heads, width, values).double()
    return [q, torch.nn.functional.normalize(k, dim=-1), v, g, beta, state]


def products(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """What every earlier token left, carried on by each later step's matrix: O(T^2)."""
    eye, left, rows = torch.eye(q.shape[-1]).to(q), state.unsqueeze(0), []
    for t in range(len(q)):
        step = eye if g is None else eye * (g if g.ndim == 1 else g[t]).exp().reshape(*_per_head(g, t), -1, 1)
        own = k[t].unsqueeze(-1) * v[t].unsqueeze(-2)
        if beta is not None:
            b = beta[t][..., None, None]
            step = (eye - b * k[t].unsqueeze(-1) * k[t].unsqueeze(-2)) @ step
            own = b * own
        left = torch.cat([step @ left, own.unsqueeze(0)])
        rows.append(scale * torch.einsum("bhd,sbhde->bhe", q[t], left))
    return torch.stack(rows), left.sum(0)


def _per_head(g: Tensor, t: int) -> tuple[int, ...]:
    return (1, len(g)) if g.ndim == 1 else tuple(g.shape[1:3])


def results(form: object, values: list[Tensor | None], scale: float = 0.3) -> list[Tensor]:
    """Output, last state, and the gradient of everything that is given."""
    leaves = [None if u is None else u.detach().clone().requires_grad_() for u in values]
    found = form(*leaves, scale)  # type: ignore[operator]
    wanted = [u for u in leaves if u is not None]
    draw = torch.Generator().manual_seed(1)
    grads = [torch.randn(u.shape, generator=draw, dtype=torch.float64).to(u) for u in found]
    return [u.detach() for u in (*found, *torch.autograd.grad(found, wanted, grads))]


def by_chunks(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The chunkwise form, whatever the backend."""
    decay = None if g is None else g.expand(q.shape[:3] if g.ndim < 4 else q.shape).view(*q.shape[:3], -1)
    return chunkwise(q, k, v, decay, beta, state, scale)


def error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp(min=1e-9))


@pytest.mark.parametrize("steps", [1, 5, 70])
@pytest.mark.parametrize("member", MEMBERS)
def test_forms_equal_the_explicit_products_in_float64_with_every_gradient(member: str, steps: int) -> None:
    values = case(member, steps)
    truth = results(products, values)
    for backend in FORMS:
        with use_backend(backend):
            forms = [results(causal_attention, values)]
        if backend is None:
            forms.append(results(by_chunks, values))
        for found, expected in ((a, b) for form in forms for a, b in zip(form, truth, strict=True)):
            assert found.shape == expected.shape
            assert error(found, expected) < 1e-12


@pytest.mark.parametrize("backend", ["reference", "numba", pytest.param("triton", marks=interpreted)])
@pytest.mark.parametrize("member", ["additive none", "additive step"])
def test_the_last_state_s_gradient_may_be_expanded_or_transposed(member: str, backend: str) -> None:
    values = [None if u is None else u.float() for u in case(member, 5)]
    weight = torch.randn(3, 2, 6, 5)
    for loss in (lambda last: last.sum(), lambda last: (last.transpose(0, 1) * weight.to(last)).sum()):
        grads = []
        for form, leaves in ((products, [u if u is None else u.double() for u in values]), (causal_attention, values)):
            wanted = [u.requires_grad_() for u in (leaves[1], leaves[2], leaves[5])]  # type: ignore[union-attr]
            with use_backend(backend if form is causal_attention else None):
                grads.append(torch.autograd.grad(loss(form(*leaves, 1.0)[1]), wanted))  # type: ignore[operator]
        for found, truth in zip(grads[1], grads[0], strict=True):
            assert error(found, truth) < 1e-5


@pytest.mark.parametrize("backend", ["reference", "numba", None])
@pytest.mark.parametrize("member", ["additive step", "additive channel", "delta step"])
def test_a_decay_of_nothing_forgets_all(member: str, backend: str | None) -> None:
    if backend == "numba" and member.startswith("delta"):
        pytest.skip("the delta rule has no Numba kernel")
    q, k, v, g, beta, state = case(member, 6)
    g[3] = -torch.inf  # type: ignore[index]
    with use_backend(backend):
        whole, _ = causal_attention(q, k, v, g, beta, state)  # type: ignore[arg-type]
        late = [u if u is None else u[3:] for u in (q, k, v, g, beta)]
        rest, _ = causal_attention(*late, torch.zeros_like(state))  # type: ignore[arg-type]
    torch.testing.assert_close(whole[3:], rest, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["kernels", "chunks"])
@pytest.mark.parametrize("member", MEMBERS)
def test_float32_lies_within_1e_5(member: str, form: str) -> None:
    values = case(member, 130)
    if member.endswith("head"):  # the gradient of a decay a head is a sum that cancels
        values[3] = values[3].expand(values[0].shape[:3])
    truth = results(products, values)
    run = causal_attention if form == "kernels" else by_chunks
    found = results(run, [None if u is None else u.float() for u in values])
    assert max(error(a, b) for a, b in zip(found, truth, strict=True)) < 1e-5


@pytest.mark.parametrize("steps", [1, 70])
@pytest.mark.parametrize("member", MEMBERS)
def test_autocast_leaves_it_in_float32(member: str, steps: int) -> None:
    values = case(member, steps)
    single = [None if v is None else v.float() for v in values]
    with torch.autocast("cpu", torch.bfloat16):
        found = causal_attention(*single, 0.3)
    for mine, true in zip(found, products(*values, 0.3), strict=True):
        assert (mine - true).norm() <= 1e-5 * true.norm()


@pytest.mark.parametrize("member", MEMBERS)
def test_chunks_of_a_sequence_give_the_whole(member: str) -> None:
    q, k, v, g, beta, state = case(member, 90)
    whole, last = causal_attention(q, k, v, g, beta, state)
    rows = []
    for part in (slice(0, 1), slice(1, 67), slice(67, 90)):
        gates = [u if u is None or u.ndim == 1 else u[part] for u in (g, beta)]
        out, state = causal_attention(q[part], k[part], v[part], *gates, state)
        rows.append(out)
    torch.testing.assert_close(torch.cat(rows), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("member", MEMBERS)
def test_padding_beyond_the_lengths_is_not_seen(member: str) -> None:
    q, k, v, g, beta, state = case(member, 70)
    lengths, padded = torch.tensor([70, 33]), [u for u in (q, k, v, g, beta, state) if u is not None]
    for u in (q, k, v, g, beta):
        if u is not None and u.ndim > 1:
            u[33:, 1] = torch.nan
    leaves = [u if u is None else u.requires_grad_() for u in (q, k, v, g, beta, state)]
    out, last = causal_attention(*leaves, lengths=lengths)  # type: ignore[arg-type]
    grads = torch.autograd.grad(out.sum() + last.square().sum(), padded)
    rows, lasts = [], []
    for b, n in enumerate(lengths):
        gates = [u if u is None or u.ndim == 1 else u[:n, b : b + 1] for u in (g, beta)]
        own = [u[:n, b : b + 1] for u in (q, k, v)]  # type: ignore[index]
        row, end = causal_attention(*own, *gates, state[b : b + 1])  # type: ignore[index]
        rows.append(torch.nn.functional.pad(row, (0, 0, 0, 0, 0, 0, 0, 70 - int(n))))
        lasts.append(end)
    apart = torch.cat(rows, 1), torch.cat(lasts)
    torch.testing.assert_close((out, last), apart, rtol=1e-12, atol=1e-12)
    truth = torch.autograd.grad(apart[0].sum() + apart[1].square().sum(), padded)
    torch.testing.assert_close(grads, truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "numba", pytest.param("triton", marks=interpreted)])
@pytest.mark.parametrize("member", ["additive none", "delta step"])
def test_the_output_s_gradient_may_have_any_strides(member: str, backend: str) -> None:
    if (backend, member) == ("numba", "delta step"):
        pytest.skip("the delta rule has no Numba kernel")
    values = [None if u is None else u.float() for u in case(member, 5, 2, 3, 4, 4)]
    weight = torch.linspace(-1, 1, 4)
    for loss in (
        lambda out: out.sum(),
        lambda out: (out.sum(2) * weight.to(out)).sum(),
        lambda out: (out.transpose(0, 3) * weight.to(out)[:, None, None, None]).sum(),
        lambda out: (out[1:, :, ::2, 1::2].flip(0) * weight.to(out)[:, None, None, None]).sum(),
    ):
        grads = []
        for form, leaves in ((products, [u if u is None else u.double() for u in values]), (causal_attention, values)):
            wanted = [u.requires_grad_() for u in leaves if u is not None]
            with use_backend(backend if form is causal_attention else None):
                out = form(*leaves, 0.7)[0]  # type: ignore[operator]
                grads.append(torch.autograd.grad(loss(out), wanted))
        for found, truth in zip(grads[1], grads[0], strict=True):
            assert error(found, truth) < 1e-5


def counts(q: Tensor, k: Tensor, v: Tensor) -> np.ndarray:
    """`sum_{s <= t} (q_t . k_s) v_s` in 64-bit integers."""
    a, b, c = (u.double().numpy().astype(np.int64) for u in (q, k, v))
    scores = np.einsum("tbhd,sbhd->bhts", a, b) * np.tri(len(a), dtype=np.int64)
    return np.einsum("bhts,sbhe->tbhe", scores, c)


@pytest.mark.parametrize("backend", [None, "reference", pytest.param("triton", marks=interpreted)])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_spikes_give_exact_counts(dtype: torch.dtype, backend: str | None) -> None:
    if (backend, dtype) == ("triton", torch.bfloat16):
        pytest.skip("Triton's interpreter cuts bfloat16 off; the GPU's benchmark checks it")
    q, k, v = ((torch.rand(300, 1, 2, 16) < 0.4).to(dtype) for _ in range(3))
    with use_backend(backend):
        out, state = causal_attention(q, k, v, scale=0.125)
    expected = torch.from_numpy(counts(q, k, v))
    assert expected.max() > 256  # beyond what bfloat16 can tell apart
    assert torch.equal(out, (expected.double() / 8).to(dtype))
    assert torch.equal(state.long(), torch.einsum("tbhd,tbhe->bhde", k.long(), v.long()))


def test_orthonormal_keys_are_recalled_and_a_repeated_key_overwrites() -> None:
    keys = torch.linalg.qr(torch.randn(16, 16).double())[0]
    k, v = keys[:, None, None], torch.randn(16, 1, 1, 5).double()
    ones = torch.ones(16, 1, 1).double()
    _, state = causal_attention(k, k, v, beta=ones)
    torch.testing.assert_close(keys @ state[0, 0], v[:, 0, 0])
    out, _ = causal_attention(k[[3, 3]], k[[3, 3]], v[:2], beta=ones[:2], state=state)
    torch.testing.assert_close(out, v[:2])


def test_retention_of_an_impulse() -> None:
    gamma = 1 - 2.0 ** (-5 - torch.arange(4.0).double())
    q, k, v = (torch.zeros(100, 1, 4, 3).double() for _ in range(3))
    q[:, ..., 0], k[20, ..., 0], v[20] = 2.0, 3.0, 5.0
    out, _ = causal_attention(q, k, v, gamma.log())
    later = torch.arange(100.0)[:, None].double() - 20
    expected = torch.where(later >= 0, 30 * gamma**later, 0.0)
    torch.testing.assert_close(out[:, 0], expected.unsqueeze(-1).expand(-1, -1, 3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(), (6,)])
def test_complete_forgetting_leaves_each_token_to_itself(shape: tuple[int, ...]) -> None:
    q, k, v, *_ = case("additive none", 80)
    out, _ = causal_attention(q, k, v, torch.full((80, 2, 3, *shape), -800.0).double())
    torch.testing.assert_close(out, (q * k).sum(-1, keepdim=True) * v)


def test_mlstm_gates() -> None:
    q, k, v, i, f, _ = case("delta step", 12)
    out, _ = mlstm_attention(q, k, v, i, f)
    forget = torch.nn.functional.logsigmoid(f).cumsum(0)
    weight = (forget[:, None] - forget[None]).exp() * i.sigmoid() * torch.ones(12, 12).tril()[..., None, None]
    scores = torch.einsum("tbhd,sbhd->tsbh", q, k) / math.sqrt(6) * weight
    torch.testing.assert_close(out, torch.einsum("tsbh,sbhe->tbhe", scores, v))


# The Triton kernels.


def close(values: list[Tensor | None], dtype: torch.dtype, device: str = "cpu") -> None:
    """q, k and v in `dtype`, the rest in float32; against the reference on the same numbers in float64."""
    given = [u if u is None else u.to(dtype if n < 3 else torch.float32) for n, u in enumerate(values)]
    if given[3] is not None and given[3].ndim == 1:
        given[3] = given[3].expand(values[0].shape[:3])  # the gradient of a decay a head is a sum that cancels
    with use_backend("reference"):
        truth = results(causal_attention, [u if u is None else u.double() for u in given])
    with use_backend("triton"):
        found = results(causal_attention, [u if u is None else u.to(device) for u in given])
    unit = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    for n, (a, b) in enumerate(zip(found, truth, strict=True)):
        decay = n == 5 and given[3] is not None  # sums of differences of what was rounded to `dtype`
        assert error(a.cpu(), b) < unit * (4 if decay else 1), n


@interpreted
@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("sizes", [(3, 1, 1, 16, 16), (70, 1, 2, 20, 12), (200, 2, 1, 5, 33)])
def test_kernels_equal_the_reference(member: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PROGRAMS", 4)  # several chunks a segment, several segments
    close(case(member, *sizes), torch.float32)


@interpreted
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("member", MEMBERS)
def test_kernels_in_half_precision(member: str, dtype: torch.dtype) -> None:
    close(case(member, 70, 1, 2, 16, 16), dtype)


@interpreted
def test_kernels_take_strided_input_and_an_expanded_gradient() -> None:
    qkv = torch.randn(70, 2, 3, 4, 8).requires_grad_()
    q, k, v = qkv.unbind(2)  # heads that lie apart
    found = []
    for backend in ("reference", "triton"):
        with use_backend(backend):
            out, _ = causal_attention(q, k.transpose(0, 1).contiguous().transpose(0, 1), v)
        found.append((out.detach(), *torch.autograd.grad(out.sum(), qkv)))
    for a, b in zip(found[1], found[0], strict=True):
        assert error(a, b.double()) < 1e-6


@interpreted
def test_the_operators_are_seen_whole() -> None:
    q, k, v, g, _, state = (None if u is None else u.float() for u in case("additive step", 5, 1, 1, 4, 4))
    with use_backend("triton"):
        leaves = [u.requires_grad_() for u in (q, k, v, g, state)]
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.spikenet.causal_attention, (*leaves, 1.0), test_utils=checks)
        out = torch.compile(lambda *u: causal_attention(*u)[0], backend="aot_eager", fullgraph=True)(q, k, v)
        assert torch.equal(out, causal_attention(q, k, v)[0])


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("sizes", [(3, 1, 1, 16, 16), (70, 1, 2, 20, 12), (1000, 2, 3, 64, 64), (130, 1, 2, 128, 100)])
def test_on_the_gpu(member: str, sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    close(case(member, *sizes), dtype, "cuda")


# Limits.


def test_nothing_in_nothing_out() -> None:
    for shape in ((0, 2, 3, 4), (5, 0, 3, 4)):
        q, start = torch.zeros(shape), torch.ones(*shape[1:], 4)
        out, state = causal_attention(q, q, q, state=start)
        assert out.shape == shape
        assert torch.equal(state, start)


def test_what_is_refused() -> None:
    q, k, v, g, beta, state = case("delta channel", 4)
    with pytest.raises(DtypeError, match=r"one floating dtype"):
        causal_attention(q.float(), k, v)
    with pytest.raises(ShapeError, match=r"of one shape"):
        causal_attention(q[:2], k, v)
    with pytest.raises(ShapeError, match=r"\[T, B, H, D\]"):
        causal_attention(q[0], k[0], v[0])
    with pytest.raises(ShapeError, match=r"neither \[H\]"):
        causal_attention(q, k, v, g[:, :1])
    with pytest.raises(ShapeError, match=r"takes beta of shape \(4, 2, 3\), got \(4, 2\)"):
        causal_attention(q, k, v, beta=beta[..., 0])
    with pytest.raises(ShapeError, match=r"takes lengths of shape \(2,\), got \(3,\)"):
        causal_attention(q, k, v, lengths=torch.ones(3))
    with pytest.raises(ShapeError, match=r"takes state of shape"):
        causal_attention(q, k, v, state=state[:1])
    for values, reason in (
        ((q, k, v), r"torch\.float64"),
        ([u.float().repeat(1, 1, 1, 30) for u in (q, k, v)], "up to 128"),
    ):
        with use_backend("triton"), pytest.raises(BackendError, match=reason):
            causal_attention(*values)
    if not torch.cuda.is_available():
        assert "CUDA" in CAUSAL.reasons(q.float(), k.float(), v.float(), None, None, None, 1.0)["triton"]
