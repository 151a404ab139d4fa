"""Attention beside the plain forms of flash-linear-attention and SpikingJelly's product with its neuron."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikenet.kernels.attention import causal_attention, spiking_attention, spiking_attention_lif
from spikenet.neurons import LIF
from spikenet.neurons import surrogate as sg

pytestmark = pytest.mark.peers
STEPS, BATCH, HEADS, WIDTH, VALUES = 40, 2, 3, 8, 6
SCALE = WIDTH**-0.5


def naive(operation: str, function: str) -> Any:
    """A function of `fla/ops/<operation>/naive.py`, loaded by its path: the package itself wants a GPU's driver."""
    pytest.importorskip("einops")
    package = importlib.util.find_spec("fla")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("fla-core is not installed")
    path = Path(package.submodule_search_locations[0]) / "ops" / operation / "naive.py"
    spec = importlib.util.spec_from_file_location(f"naive_{operation}", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return getattr(module, function)


def batch_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous()


def heads_first(x: Tensor) -> Tensor:
    return x.movedim((1, 2), (0, 1)).contiguous()


def data(decay: str | None, delta: bool) -> dict[str, Tensor | None]:
    q, k = (torch.randn(STEPS, BATCH, HEADS, WIDTH) for _ in range(2))
    per_step = torch.rand(STEPS, BATCH, HEADS)
    return {
        "q": q,
        "k": torch.nn.functional.normalize(k, dim=-1),
        "v": torch.randn(STEPS, BATCH, HEADS, VALUES),
        "g": {None: None, "step": -per_step, "channel": -torch.rand(q.shape)}[decay],
        "beta": torch.rand(STEPS, BATCH, HEADS) if delta else None,
    }


def ours(d: dict[str, Tensor | None], state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return causal_attention(d["q"], d["k"], d["v"], d["g"], d["beta"], state, SCALE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("operation", "function", "decay", "delta"),
    [
        ("linear_attn", "naive_recurrent_linear_attn", None, False),
        ("simple_gla", "naive_recurrent_simple_gla", "step", False),
        ("gla", "naive_recurrent_gla", "channel", False),
        ("gated_delta_rule", "naive_recurrent_gated_delta_rule", "step", True),
        ("kda", "naive_recurrent_kda", "channel", True),
    ],
)
def test_members_equal_the_plain_forms_of_fla(operation: str, function: str, decay: str | None, delta: bool) -> None:
    d, state = data(decay, delta), torch.randn(BATCH, HEADS, WIDTH, VALUES)
    named = {"g": "gk"} if operation == "gla" else {}
    given = {named.get(n, n): batch_first(x) for n, x in d.items() if x is not None}
    theirs, last = naive(operation, function)(**given, initial_state=state.clone(), output_final_state=True)
    out, after = ours(d, state)
    torch.testing.assert_close(out, batch_first(theirs), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after, last, rtol=1e-5, atol=1e-5)


def test_delta_rule() -> None:
    d, state = data(None, True), torch.randn(BATCH, HEADS, WIDTH, VALUES)
    given = [heads_first(d[n]) for n in ("q", "k", "v", "beta")]  # type: ignore[arg-type]
    theirs, last = naive("delta_rule", "delta_rule_recurrence")(*given, initial_state=state)
    out, after = ours(d, state)
    torch.testing.assert_close(heads_first(out), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after, last, rtol=1e-5, atol=1e-5)


def test_retention() -> None:
    d = data(None, False)
    d["g"] = torch.log1p(-(2.0 ** (-5.0 - torch.arange(HEADS))))
    theirs = naive("retention", "naive_retention")(*(heads_first(d[n]) for n in "qkv"))  # type: ignore[arg-type]
    torch.testing.assert_close(heads_first(ours(d)[0]), theirs, rtol=1e-5, atol=1e-5)


def test_spikingjellys_product_and_neuron() -> None:
    pytest.importorskip("spikingjelly.activation_based.layer")
    from spikingjelly.activation_based import neuron, surrogate
    from spikingjelly.activation_based.layer import SpikingSelfAttention

    q, k, v = ((torch.rand(4, 2, 3, 10, 8) < 0.5).float().requires_grad_() for _ in range(3))
    qkv = torch.stack([u.mT for u in (q, k, v)], 2).detach().requires_grad_()  # channels before tokens
    product = SpikingSelfAttention._ssa_kernel_torch(qkv, 0.125)
    assert torch.equal(spiking_attention(q, k, v, 0.125), product.mT)
    lif = neuron.LIFNode(v_threshold=0.5, detach_reset=True, step_mode="m", surrogate_function=surrogate.Sigmoid(4.0))
    theirs = lif(product)
    own = LIF(2.0, 0.5, detach_reset=True, surrogate=sg.sigmoid(4.0))
    z = own._scan([v], None, by=functools.partial(spiking_attention_lif, q, k, 0.125))[0]
    assert torch.equal(z, theirs.mT)
    assert 0.05 < z.mean() < 0.95
    grad = torch.randn(z.shape)
    (expected,) = torch.autograd.grad(theirs, qkv, grad.mT)
    for found, wanted in zip(torch.autograd.grad(z, (q, k, v), grad), expected.unbind(2), strict=True):
        torch.testing.assert_close(found, wanted.mT, rtol=1e-5, atol=1e-5)
