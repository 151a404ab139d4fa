"""Spiking linear attention and selective scans against their definitions written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikenet import Stream
from spikenet.errors import ArgumentError, ShapeError, StateError
from spikenet.layers import BidirectionalMamba, SelectiveScan, SpikingLinearAttention


def lively(layer: SpikingLinearAttention) -> SpikingLinearAttention:
    nn.init.normal_(layer.project.linear.weight)
    nn.init.constant_(layer.project.norm.bias, 1.0)
    nn.init.zeros_(layer.local.weight)
    nn.init.zeros_(layer.local.bias)
    return layer.double().eval()


def test_without_rotation_it_is_attention_with_rows_that_sum_to_one() -> None:
    layer = lively(SpikingLinearAttention(8, 2, 2))
    layer.turns[0], layer.turns[1] = 1.0, 0.0
    x = torch.rand(3, 2, 2, 2, 8).double()
    q, k = layer.lif(layer.project(x)).flatten(2, 3).chunk(2, -1)
    assert 0.1 < q.mean() < 0.9
    expected = []
    for half in (slice(0, 4), slice(4, 8)):
        weight = (q[..., half] + 1) @ (k[..., half] + 1).mT
        expected.append(weight / weight.sum(-1, keepdim=True) @ x.flatten(2, 3)[..., half])
    torch.testing.assert_close(layer(x).flatten(2, 3), torch.cat(expected, -1), rtol=1e-5, atol=1e-6)


def test_products_of_feature_maps_are_counts() -> None:
    """phi(q) . phi(k) = d + |q| + |k| + |q and k|."""
    q, k = (torch.rand(2, 50, 16) < 0.4).long().unbind()
    maps = [functional.elu(u.double()) + 1 for u in (q, k)]
    assert torch.equal((maps[0] * maps[1]).sum(-1).long(), 16 + q.sum(-1) + k.sum(-1) + (q & k).sum(-1))


def test_windows_do_not_see_each_other_and_tokens_come_back_to_their_places() -> None:
    layer = lively(SpikingLinearAttention(8, 2, 2))
    x = torch.rand(2, 1, 4, 6, 8).double()
    changed = x.clone()
    changed[:, :, 2:, 4:] = torch.rand(2, 1, 2, 2, 8).double()
    same = torch.ones(4, 6, dtype=torch.bool)
    same[2:, 4:] = False
    y, z = layer(x), layer(changed)
    assert torch.equal(y[:, :, same], z[:, :, same])
    assert not torch.equal(y[:, :, ~same], z[:, :, ~same])
    assert torch.equal(layer._join(layer._split(x), 4, 6), x)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    layer = SpikingLinearAttention(8, 1, 4)
    q, k = torch.randn(2, 8).double().unbind()
    turned = [layer._rotate(u.expand(16, 8)) for u in (q, k)]
    products = (turned[0] @ turned[1].mT).view(4, 4, 4, 4)  # row, column of q; row, column of k
    torch.testing.assert_close(products[1, 2, 0, 1], products[3, 3, 2, 2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(products[0, 3, 2, 1], products[1, 2, 3, 0], rtol=1e-5, atol=1e-6)
    assert abs(products[1, 2, 0, 1] - products[1, 2, 0, 2]) > 1e-6


def test_the_scan_is_its_recurrence() -> None:
    scan = SelectiveScan(6, states=3).double()
    x = torch.randn(7, 2, 6).double()
    padded = functional.pad(x.permute(1, 2, 0), (3, 0))
    u = functional.silu(functional.conv1d(padded, scan.conv.weight, scan.conv.bias, groups=6)).permute(2, 0, 1)
    h, rows = torch.zeros(2, 6, 3).double(), []
    for u_t in u:
        rank, b, c = scan.select(u_t).split([1, 3, 3], -1)
        delta = functional.softplus(scan.step(rank)).unsqueeze(-1)
        h = torch.exp(delta * -scan.log_a.exp()) * h + delta * b.unsqueeze(1) * u_t.unsqueeze(-1)
        rows.append((h * c.unsqueeze(1)).sum(-1) + scan.skip * u_t)
    torch.testing.assert_close(scan(x), torch.stack(rows), rtol=1e-12, atol=1e-12)


def test_a_constant_step_makes_an_exponential_filter() -> None:
    """With delta, B and C constant, y[t] = delta b c sum_s e^{-(t-s) delta a} u[s] + D u[t]."""
    scan = SelectiveScan(1, states=1, kernel=1).double()
    with torch.no_grad():
        scan.conv.weight.fill_(0.0)
        scan.conv.bias.fill_(1.0)
        scan.select.weight.copy_(torch.tensor([[0.0], [2.0], [3.0]]))
        scan.step.bias.fill_(0.5)
    u, delta = functional.silu(torch.tensor(1.0).double()), functional.softplus(torch.tensor(0.5).double())
    t = torch.arange(6).double()
    geometric = (1 - torch.exp(-(t + 1) * delta)) / (1 - torch.exp(-delta))
    expected = delta * (2 * u) * (3 * u) * u * geometric + u
    torch.testing.assert_close(scan(torch.zeros(6, 1, 1).double()).flatten(), expected)


def test_both_directions_mirror_each_other() -> None:
    layer = BidirectionalMamba(4, states=2).double()
    layer.backwards.load_state_dict(layer.forwards.state_dict())
    x = torch.randn(3, 2, 2, 2, 4).double()
    mirrored = x.flip(0, 2, 3)
    torch.testing.assert_close(layer(mirrored), layer(x).flip(0, 2, 3))


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="4 times the heads"):
        SpikingLinearAttention(8, 4)
    with pytest.raises(ShapeError, match="windows of 2 do not divide a map of 3 x 4"):
        SpikingLinearAttention(8, 2, 2)(torch.zeros(1, 1, 3, 4, 8))
    with pytest.raises(StateError, match="Conv1d"):
        Stream(BidirectionalMamba(4))(torch.zeros(1, 1, 4))
