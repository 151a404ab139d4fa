"""Attention among tokens against integers, explicit weights and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikenet.errors import DtypeError, ShapeError
from spikenet.kernels.attention import qk_channel, qk_token, spiking_attention, windowed_attention
from spikenet.neurons import LIF


def spikes(*shape: int, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(*shape) < rate).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "width", "values"), [(5, 33, 40), (70, 8, 8), (1, 1, 1)])  # both orders
def test_spikes_give_exact_integers(tokens: int, width: int, values: int, dtype: torch.dtype) -> None:
    q, k = (spikes(2, 3, 2, tokens, width).to(dtype) for _ in range(2))
    v = spikes(2, 3, 2, tokens, values).to(dtype)
    a, b, c = (u.double().numpy().astype(np.int64) for u in (q, k, v))
    expected = torch.from_numpy(a @ b.swapaxes(-1, -2) @ c)
    assert torch.equal(spiking_attention(q, k, v, 0.125), (expected.double() / 8).to(dtype))


def test_both_orders_have_the_gradients_of_the_plain_product() -> None:
    for tokens in (2, 5):
        inputs = [torch.randn(2, 1, 1, tokens, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
        assert torch.autograd.gradcheck(lambda q, k, v: spiking_attention(q, k, v, 0.3), inputs)


def test_spikes_weigh_each_other_by_counts_in_a_window() -> None:
    q, k = (spikes(2, 1, 2, 12, 7).double() for _ in range(2))
    v = torch.randn(2, 1, 2, 12, 5).double()
    out = windowed_attention(q, k, v, 4, eps=0.0)
    on = q.sum(-1, keepdim=True) + k.sum(-1).unsqueeze(-2)  # phi is 1 or 2, so that phi . phi counts
    weight = (7 + on + q @ k.mT) * torch.block_diag(*[torch.ones(4, 4)] * 3)
    torch.testing.assert_close(out, weight / weight.sum(-1, keepdim=True) @ v)


def test_the_rotation_is_left_out_of_the_normaliser() -> None:
    q, k, v = (torch.randn(1, 1, 1, 6, 4).double() for _ in range(3))

    def turn(x: torch.Tensor) -> torch.Tensor:
        sign = torch.tensor([1.0, -1.0, 1.0]).double()[:, None]  # of places in the window
        return x * sign

    phi_q, phi_k = (torch.where(u > 0, u + 1, u.exp())[0, 0, 0] for u in (q, k))
    sign = turn(torch.ones(3, 1).double())
    rows = []
    for window in (slice(0, 3), slice(3, 6)):
        plain = phi_q[window] @ phi_k[window].T
        rows.append((plain * sign * sign.T) @ v[0, 0, 0, window] / plain.sum(-1, keepdim=True))
    out = windowed_attention(q, k, v, 3, scale=2.0, rotate=turn, eps=0.0)
    torch.testing.assert_close(out[0, 0, 0], 2 * torch.cat(rows))


def test_a_token_or_channel_passes_if_its_queries_fire() -> None:
    q, k = spikes(1, 2, 3, 5, 4, rate=0.2), spikes(1, 2, 3, 5, 4)
    lif = LIF(2.0, 0.5)  # at the first step h is half the count: it fires from one spike on
    assert torch.equal(qk_token(q, k, lif), torch.where(q.sum(-1, keepdim=True) >= 1, k, 0.0))
    assert torch.equal(qk_channel(q, k, lif), torch.where(q.sum(-2, keepdim=True) >= 1, k, 0.0))


def test_what_is_refused() -> None:
    q = torch.randn(2, 5, 4)
    with pytest.raises(DtypeError, match=r"one floating dtype of 16, 32 or 64 bits, got torch\.int64"):
        spiking_attention(q.long(), q.long(), q.long())
    with pytest.raises(ShapeError, match=r"\(2, 5, 4\), \(2, 4, 4\)"):
        spiking_attention(q, q[:, :4], q)
    with pytest.raises(ShapeError, match="windows of 3 tokens do not divide 5"):
        windowed_attention(q, q, q, 3)
