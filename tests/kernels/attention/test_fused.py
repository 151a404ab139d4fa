"""Attention with its neuron in one pass: the spikes of the two in turn, and their gradients."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.attention import spiking_attention, spiking_attention_lif
from spikenet.kernels.attention.fused import FUSED
from spikenet.neurons import IF, LIF, Neuron

SIZES = [(4, 1, 2, 70, 16, 16), (3, 2, 1, 5, 20, 12), (1, 1, 1, 1, 3, 1)]  # T, B, H, N, D, E
NEURONS = [
    lambda: LIF(2.0, 0.5, detach_reset=True, surrogate="sigmoid"),
    lambda: LIF(3.0, 0.7, None, decay_input=False),
    lambda: IF(2.0, surrogate="triangle"),
]
gpu = pytest.mark.gpu
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")


def case(sizes: tuple[int, ...], dtype: torch.dtype = torch.float32, rate: float = 0.3) -> list[Tensor]:
    """q, k, v as a projection leaves them, heads behind tokens, and the gradient of the output."""
    steps, batch, heads, tokens, width, values = sizes
    q, k, v = (
        (torch.rand(steps, batch, tokens, heads, n) < rate).to(dtype).transpose(2, 3) for n in (width, width, values)
    )
    return [q, k, v, torch.randn(v.shape).to(dtype)]


def fused(neuron: Neuron, q: Tensor, k: Tensor, v: Tensor, state: Any = None, **wanted: bool) -> Any:
    return neuron._scan([v], state, by=functools.partial(spiking_attention_lif, q, k, 0.125), **wanted)


def results(run: Any, q: Tensor, k: Tensor, v: Tensor, gz: Tensor) -> list[Tensor]:
    leaves = [u.detach().requires_grad_() for u in (q, k, v)]
    z = run(*leaves)
    return [z.detach(), *torch.autograd.grad(z, leaves, gz.to(z.dtype))]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return NEURONS[0]()(0.125 * ((q @ k.mT) @ v))


def compare(neuron: Neuron, given: list[Tensor], device: str = "cpu") -> None:
    wide = [u.double() for u in given]
    truth = results(lambda q, k, v: neuron(0.125 * ((q @ k.mT) @ v)), *wide)
    with use_backend("triton"):
        found = results(lambda *u: fused(neuron.to(device), *u)[0], *(u.to(device) for u in given))
    assert torch.equal(found[0].cpu().double(), truth[0])
    unit = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[given[0].dtype]
    for a, b, like in zip(found[1:], truth[1:], given, strict=False):
        assert a.stride() == like.stride()
        assert float((a.cpu().double() - b).norm()) <= unit * float(b.norm())


@interpreted
@pytest.mark.parametrize(("make", "sizes"), [*((NEURONS[0], s) for s in SIZES), *((m, SIZES[1]) for m in NEURONS[1:])])
def test_kernels_equal_product_and_neuron_in_float64(make: Any, sizes: tuple[int, ...]) -> None:
    compare(make(), case(sizes))


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_values_that_are_no_spikes(dtype: torch.dtype) -> None:
    q, k, v, gz = case((3, 2, 1, 20, 16, 16), dtype)
    q[1, 0, 0, 3] *= 3  # in one head's one token
    v[2, 1, 0, 19, 2] = -1
    compare(NEURONS[0](), [q, k, v, gz])
    if dtype == torch.float32:
        compare(NEURONS[0](), [*(u.mul(torch.randn(u.shape)) for u in (q, k, v)), gz])


STRIDED = {
    "expanded": lambda z: z.sum(),
    "expanded over tokens": lambda z: (z.sum(3) * torch.arange(4.0).to(z)).sum(),
    "transposed": lambda z: (z.transpose(0, 4) * torch.linspace(-1, 1, 4).to(z)[:, None, None, None, None]).sum(),
    "sliced": lambda z: z[1:, :, ::2, 3:, ::3].square().sum() + z.flip(3)[0].sum(),
    "joined": lambda z: (torch.cat([z, z], -1) * torch.linspace(-1, 1, 8).to(z)).sum(),
}


@pytest.mark.parametrize("backend", ["reference", "numba", pytest.param("triton", marks=interpreted)])
@pytest.mark.parametrize("loss", STRIDED.values(), ids=STRIDED)
def test_the_output_s_gradient_may_have_any_strides(loss: Any, backend: str) -> None:
    *given, _ = case((2, 2, 2, 5, 3, 4))
    grads = []
    for run, wide in ((lambda *u: fused(NEURONS[0](), *u)[0], False), (plain, True)):
        leaves = [(u.double() if wide else u).detach().requires_grad_() for u in given]
        with use_backend(None if wide else backend):
            grads.append(torch.autograd.grad(loss(run(*leaves)), leaves))
    for found, truth in zip(*grads, strict=True):
        torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-5)


@interpreted
@pytest.mark.parametrize(
    "lay",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0),
        lambda x: torch.stack([x, x], -1)[..., 1],
        lambda x: x[:, :1].expand(-1, x.shape[1], -1, -1, -1),
        lambda x: x[:, :, :1].expand(-1, -1, x.shape[2], -1, -1),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_queries_keys_and_values_may_have_any_strides(lay: Any, batch: int) -> None:
    *qkv, gz = case((2, batch, 2, 4, 3, 3))
    given = [lay(u) for u in qkv]
    truth = results(plain, *(u.double() for u in given), gz)
    with use_backend("triton"):
        found = results(lambda *u: fused(NEURONS[0](), *u)[0], *given, gz)
    assert torch.equal(found[0].double(), truth[0])
    for a, b in zip(found[1:], truth[1:], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernels_in_half_precision_with_exact_spikes(dtype: torch.dtype) -> None:
    compare(NEURONS[0](), case((4, 1, 2, 20, 16, 16), dtype))
    compare(NEURONS[0](), case((2, 1, 1, 270, 16, 16), dtype))  # more tokens than bfloat16 counts


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_operators_are_seen_whole(dtype: torch.dtype) -> None:
    neuron, (q, k, v, _) = NEURONS[0](), case((2, 1, 2, 4, 3, 3), dtype)
    leaves = [u.requires_grad_() for u in (q, k, v)]
    with use_backend("triton"):
        params, _, state = neuron._prepared([v])
        values = neuron._program, [s.as_strided((1,), (1,)) for s in state], params, 0.125
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.spikenet.attention_neuron, (*leaves, *values), test_utils=checks)
        out = torch.compile(lambda *u: fused(neuron, *u)[0], backend="aot_eager", fullgraph=True)(*leaves)
        assert torch.equal(out, fused(neuron, *leaves)[0])


@pytest.mark.parametrize("backend", [None, "numba", "reference"])
def test_elsewhere_it_is_the_two_in_turn_with_states(backend: str | None) -> None:
    neuron, (q, k, v, _) = NEURONS[0](), case((6, 2, 2, 9, 4, 5))
    with use_backend(backend):
        whole, last, _ = fused(neuron, q, k, v, final=True)
        z, after = neuron.run(spiking_attention(q, k, v, 0.125))
        assert torch.equal(whole, z)
        assert torch.equal(last.v, after.v)
        first, state, _ = fused(neuron, q[:2], k[:2], v[:2], final=True)
        second, _, _ = fused(neuron, q[2:], k[2:], v[2:], state, final=True)
    assert torch.equal(torch.cat([first, second]), whole)


def test_learned_parameters_get_their_gradients() -> None:
    neuron, (q, k, v, gz) = LIF(torch.nn.Parameter(torch.tensor(2.5))), case((4, 1, 2, 9, 4, 5))
    ours = torch.autograd.grad(fused(neuron, q, k, v)[0], neuron.tau, gz)
    theirs = torch.autograd.grad(neuron(spiking_attention(q, k, v, 0.125)), neuron.tau, gz)
    torch.testing.assert_close(ours, theirs)
    with use_backend("triton"), pytest.raises(BackendError, match="no gradients for states and parameters"):
        fused(neuron, q, k, v)


def test_what_the_kernels_refuse() -> None:
    neuron, (q, k, v, _) = NEURONS[0](), case((2, 1, 2, 9, 4, 5))
    refused = [
        (neuron, [u.double() for u in (q, k, v)], {}, "float64"),
        (neuron, [u.expand(2, 1, 2, 9, u.shape[-1]).repeat(9, 1, 1, 1, 1) for u in (q, k, v)], {}, "up to 16 steps"),
        (neuron, (q, k, v), {"final": True}, "keep no states"),
        (LIF(torch.linspace(2, 3, 5)), (q, k, v), {}, "one value"),
    ]
    for who, given, wanted, reason in refused:
        with use_backend("triton"), pytest.raises(BackendError, match=reason):
            fused(who, *given, **wanted)
    with pytest.raises(ShapeError, match=r"\[T, B, H, N, E\]"):
        fused(neuron, q[:, 0], k[:, 0], v[:, 0])
    assert FUSED.name == "spiking_attention_lif"


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [*SIZES, (4, 2, 8, 196, 64, 64), (10, 1, 2, 300, 32, 32)])
def test_on_the_gpu(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    tokens, width = sizes[3:5]
    rate = min(0.3, (4 / (tokens * width)) ** (1 / 3))  # input about the threshold: far above it, no slope is left
    compare(NEURONS[0](), case(sizes, dtype, rate), "cuda")
