"""Activations to spikes: closed forms, and torch's own layers as the truth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikenet import layers
from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.interop import QuantizedReLU, fold_batch_norm, to_spiking
from spikenet.neurons import IF


@pytest.mark.parametrize("levels", [1, 4, 8, 11])
def test_the_rate_of_a_neuron_is_the_quantised_activation(levels):
    """In float64, away from ties: v_threshold / T times the spikes of T steps of the same input."""
    x = torch.linspace(-1.0, 4.0, 997, dtype=torch.float64)
    activation = QuantizedReLU(levels, 1.7).double()
    neuron = IF(activation.v_threshold.detach(), None, v_rest=activation.v_threshold.detach() / 2)
    counts = neuron(x.expand(levels, 1, -1)).sum(0)[0]
    torch.testing.assert_close(counts * activation.v_threshold / levels, activation(x))


def test_the_quantised_activation_learns():
    """The gradient of a clipped line: to the input inside, to the threshold beyond it."""
    activation, x = QuantizedReLU(8, 2.0), torch.tensor([-1.0, 0.9, 1.4, 5.0], requires_grad=True)
    activation(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
    inside = sum(activation(v).item() / 2.0 - v.item() / 2.0 for v in (x[1], x[2]))
    assert activation.v_threshold.grad.item() == pytest.approx(1.0 + inside)


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_folds_into_the_layer_before(groups):
    net = nn.Sequential(
        nn.Sequential(layers.Conv2d(4, 6, 3, groups=groups), layers.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Flatten(2), nn.Linear(96, 5, bias=False), layers.BatchNorm1d(5, affine=False)),
    ).double()
    x = torch.randn(2, 7, 4, 6, 6, dtype=torch.float64)
    for _ in range(3):
        net(x + 0.3)
    folded = fold_batch_norm(net.eval())
    assert [type(m) for m in folded] == [layers.Conv2d, nn.ReLU, nn.Flatten, nn.Linear]
    torch.testing.assert_close(folded(x), net(x))


def ann() -> nn.Sequential:
    return nn.Sequential(
        *(layers.Conv2d(2, 6, 3, bias=False), layers.BatchNorm2d(6), nn.ReLU(), layers.AvgPool2d(2)),
        *(layers.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Flatten(2), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)),
    )


def test_an_ann_comes_nearer_and_nearer():
    """The rates of many steps are the activations."""
    net, x = ann().double(), torch.randn(1, 16, 2, 10, 10, dtype=torch.float64)
    net(x)
    spiking = to_spiking(net.eval(), x)
    assert all(isinstance(m, IF) for m in (spiking[1], spiking[4], spiking[7]))
    with torch.no_grad():
        expected = net(x)[0]
        off = [spiking(x.expand(steps, *x.shape[1:])) - expected for steps in (8, 64, 512)]
    errors = [float(each.norm() / expected.norm()) for each in off]
    assert errors[0] < 0.6
    assert errors[2] < errors[1] / 4 < errors[0] / 8


def test_one_layer_is_exact():
    """QuantizedReLU in the network, and as many steps as it has levels."""
    net = nn.Sequential(nn.Linear(7, 9), QuantizedReLU(8, 1.3), nn.Linear(9, 3)).double()
    x = torch.randn(1, 50, 7, dtype=torch.float64)
    torch.testing.assert_close(to_spiking(net, x)(x.expand(8, -1, -1)), net(x)[0])


def test_thresholds_are_the_percentile_of_each_channel():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(1, 200, 4)
    active = net[:2](x)[0]
    for percentile in (100.0, 90.0):
        threshold = to_spiking(net, x, percentile=percentile)[1].v_threshold
        above = torch.stack([(active[:, c] > threshold[c]).sum() / (active[:, c] > 0).sum() for c in range(3)])
        torch.testing.assert_close(above, torch.full((3,), 1 - percentile / 100), atol=0.02, rtol=0)


def test_what_cannot_be_converted():
    x = torch.randn(1, 2, 4)
    with pytest.raises(UnknownNameError, match="GELU"):
        to_spiking(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), x)
    with pytest.raises(UnknownNameError, match="MaxPool2d"):
        to_spiking(nn.Sequential(layers.MaxPool2d(2), layers.Conv2d(1, 1, 1)), torch.randn(1, 1, 1, 4, 4))
    with pytest.raises(ArgumentError, match="last layer"):
        to_spiking(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), x)
    with pytest.raises(ArgumentError, match="percentile"):
        to_spiking(nn.Sequential(nn.Linear(4, 4)), x, percentile=0)
    with pytest.raises(ShapeError, match="one step"):
        to_spiking(nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 2, 4))
    with pytest.raises(ArgumentError, match="BatchNorm1d follows ReLU"):
        fold_batch_norm(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), layers.BatchNorm1d(4)))
    with pytest.raises(ArgumentError, match="levels"):
        QuantizedReLU(0)
