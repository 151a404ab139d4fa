"""Norm- and magnitude-aware linear attention and sigmoid attention: their equations token by token in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spikenet.energy import count
from spikenet.errors import ArgumentError
from spikenet.layers import MagnitudeAwareAttention, NormAwareAttention, SigmoidAttention, aware_attention

LAYERS = [MagnitudeAwareAttention, NormAwareAttention, SigmoidAttention]


def turned(u: Tensor, row: int, column: int) -> Tensor:
    """Pairs of features as complex numbers times e^(i angle): the first half of them by rows, the other by columns."""
    pairs = torch.view_as_complex(u.reshape(-1, 2).contiguous())
    half = len(pairs) // 2
    rate = torch.tensor([10_000 ** (-n / half) for n in range(half)]).double()
    return torch.view_as_real(
        pairs * torch.polar(torch.ones(2 * half).double(), torch.cat([row * rate, column * rate]))
    )


def magnitude_aware(q: Tensor, k: Tensor, v: Tensor, places: list[tuple[int, int]]) -> list[Tensor]:
    """Weights beta phi(q) phi(k) s / N - gamma / N with beta = 1 + 1 / z, gamma = z."""
    n, s = len(q), q.shape[1] ** -0.5
    phi_q, phi_k = (torch.where(u > 0, u + 1, u.exp()) for u in (q, k))
    rows = []
    for i in range(n):
        z = sum(s * (phi_q[i] @ phi_k[j]) for j in range(n)) / n
        turns = [(turned(phi_q[i], *places[i]) * turned(phi_k[j], *places[j])).sum() for j in range(n)]
        rows.append(sum(((1 + 1 / z) * turns[j] * s / n - z / n) * v[j] for j in range(n)))
    return rows


def norm_aware(q: Tensor, k: Tensor, v: Tensor, places: list[tuple[int, int]]) -> list[Tensor]:
    n, rows = len(q), []
    signs = torch.tensor([1.0, -1.0]).double()
    for i in range(n):
        norm = math.sqrt(float(q[i] @ q[i]))
        features = [(s * q[i] / norm).clamp(min=0) ** (3 * (0.5 + math.tanh(norm))) for s in signs]
        keys = [[(s * k[j] ** 3).clamp(min=0) for s in signs] for j in range(n)]
        z = sum(f @ g for j in range(n) for f, g in zip(features, keys[j], strict=True))
        weights = [
            sum((turned(f, *places[i]) * turned(g, *places[j])).sum() for f, g in zip(features, keys[j], strict=True))
            for j in range(n)
        ]
        rows.append(sum(weights[j] * v[j] for j in range(n)) / z)
    return rows


def sigmoid(q: Tensor, k: Tensor, v: Tensor, places: list[tuple[int, int]]) -> list[Tensor]:
    n, d = q.shape
    return [sum(v[j] / (1 + n * math.exp(-float(q[i] @ k[j]) / math.sqrt(d))) for j in range(n)) for i in range(n)]


@pytest.mark.parametrize(
    ("layer", "equation"),
    [*zip(LAYERS, (magnitude_aware, norm_aware, sigmoid), strict=True)],
    ids=lambda given: given.__name__,
)
def test_attention_is_its_equation(layer: type[nn.Module], equation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aware_attention, "EPS", 0.0)
    heads, height, width, d = 2, 2, 3, 8
    q, k, v = torch.randn(3, 2, 1, heads, height * width, d).double().unbind()
    found = layer(heads * d, heads).attend(q, k, v, (height, width))
    places = [(row, column) for row in range(height) for column in range(width)]
    for t in range(2):
        for h in range(heads):
            expected = torch.stack(equation(q[t, 0, h], k[t, 0, h], v[t, 0, h], places))
            torch.testing.assert_close(found[t, 0, h], expected, rtol=1e-6, atol=1e-6)  # angles are float32


def test_magnitude_aware_weights_sum_to_one_and_sharpen_with_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values are unit vectors, so that what comes out are the weights."""
    monkeypatch.setattr(aware_attention, "rotate", lambda u, _: u)
    monkeypatch.setattr(aware_attention, "EPS", 0.0)
    q, k = torch.randn(2, 1, 1, 1, 16, 16).double().unbind()
    layer, v = MagnitudeAwareAttention(16, 1), torch.eye(16).double().expand(1, 1, 1, 16, 16)
    weights = [layer.attend(c * q.abs(), k, v, (4, 4)) for c in (1.0, 4.0)]
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(1, 1, 1, 16).double(), rtol=0, atol=1e-12)
    assert (weights[0] < 0).any()
    assert (weights[1].std(-1) > weights[0].std(-1)).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_projections_attention_and_gate(layer: type[nn.Module]) -> None:
    net = layer(16, 2).double().eval()
    nn.init.normal_(net.project.linear.weight)
    x = 2 * torch.rand(3, 2, 4, 3, 16).double()
    parts = net.project(net.lif(x)).split(16, -1)
    q, k, v = (u.flatten(2, 3).unflatten(-1, (2, 8)).transpose(2, 3) for u in parts[:3])
    y = net.attend(q, k, v, (4, 3)).transpose(2, 3).reshape(x.shape)
    if layer is not SigmoidAttention:
        y = y + torch.stack([net.local.forward(u.movedim(-1, 1)[None])[0].movedim(1, -1) for u in parts[2]])
    if layer is MagnitudeAwareAttention:
        y = y * parts[3]
    if layer is NormAwareAttention:
        y = nn.functional.layer_norm(y, (16,), net.norm.weight, net.norm.bias) * parts[3] * parts[3].sigmoid()
    torch.testing.assert_close(net(x), net.out(y))


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_reach_every_weight_and_the_counter_sees_every_operation(layer: type[nn.Module]) -> None:
    net = layer(16, 2)
    x = 3 * torch.rand(3, 2, 4, 3, 16)
    net(x).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad(), count(net, strict=True) as work:
        net(x)
    seen = {
        kind: sum(each.dense_macs_frame for each in work.layers if each.operation == kind) / work.samples
        for kind in ("connection", "product")
    }
    tokens, parts, d = 12, net.parts, 8
    assert seen["connection"] == tokens * (parts + 1) * 16 * 16 + (25 * tokens * 16 if parts == 4 else 0)
    features = {MagnitudeAwareAttention: d, NormAwareAttention: 2 * d}
    matrices = 2 * tokens * (features[layer] * d if layer in features else tokens * d) * 2  # two products, two heads
    assert seen["product"] >= matrices


@pytest.mark.parametrize("layer", LAYERS)
def test_silent_and_single_tokens_stay_finite(layer: type[nn.Module]) -> None:
    net = layer(8, 2)
    for x in (torch.zeros(2, 3, 2, 2, 8), torch.rand(2, 3, 1, 1, 8)):
        x.requires_grad_()
        net(x).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_wrong_heads_are_refused_in_words() -> None:
    for layer, heads in ((MagnitudeAwareAttention, 4), (NormAwareAttention, 0), (SigmoidAttention, 3)):
        with pytest.raises(ArgumentError, match=f"{layer.__name__} wants a width .*heads={heads}"):
            layer(8, heads)
