"""Recurrent layers of the peers on the same weights: the same spikes, and the same gradients where they are defined
alike.

Weights are multiples of 1/512 and inputs odd multiples of 1/1024: every order of summation gives the same sum.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikenet.layers import Recurrent
from spikenet.neurons import LIF, CubaLIF, Neuron
from spikenet.neurons import surrogate as sg

pytestmark = pytest.mark.peers
N = 24


def case(steps: int = 80) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weights, and a gradient for the output."""
    generator = torch.Generator().manual_seed(11)
    x = ((torch.randn(steps, 4, N, generator=generator) + 0.4) * 512).round() / 512 + 1 / 1024
    weight = (torch.randn(N, N, generator=generator) * 120).round() / 512
    return x.requires_grad_(), weight, torch.randn(steps, 4, N, generator=generator)


def ours(neuron: Neuron, x: Tensor, weight: Tensor, gz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    layer = Recurrent(neuron, N, dtype=x.dtype)
    layer.weight.data.copy_(weight.detach())
    z = layer(x)
    assert 0.03 < z.mean() < 0.6
    return z, *torch.autograd.grad(z, [x, layer.weight], gz)


def agree(got: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    assert torch.equal(got[0], expected[0])
    for a, b in zip(got[1:], expected[1:], strict=True):
        assert float((a - b).norm() / b.norm()) < tolerance


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_spikingjelly_linear_recurrent_container(v_reset: float | None) -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import layer, neuron, surrogate

    x, weight, gz = case()
    lif = neuron.LIFNode(tau=2.0, v_reset=v_reset, surrogate_function=surrogate.ATan(2.0))
    theirs = layer.LinearRecurrentContainer(lif, N, N, bias=False, step_mode="m")
    theirs.rc.weight.data.copy_(torch.cat([torch.eye(N), weight], 1))
    z = theirs(x)
    gx, gw = torch.autograd.grad(z, [x, theirs.rc.weight], gz)
    agree(ours(LIF(2.0, v_reset=v_reset, surrogate=sg.atan(2.0)), x, weight, gz), (z, gx, gw[:, N:]))


def test_snntorch_rleaky() -> None:
    pytest.importorskip("snntorch")
    from snntorch import RLeaky, surrogate

    x, weight, gz = case()
    theirs = RLeaky(0.5, linear_features=N, reset_mechanism="zero", reset_delay=False, spike_grad=surrogate.atan(2.0))
    theirs.recurrent.weight.data.copy_(weight / 2)  # their input is not divided by tau
    theirs.recurrent.bias = None
    spikes, (z, membrane) = [], theirs.init_rleaky()
    for x_t in x / 2:
        z, membrane = theirs(x_t, z, membrane)
        spikes.append(z)
    expected = torch.stack(spikes)
    gx, gw = torch.autograd.grad(expected, [x, theirs.recurrent.weight], gz)
    agree(ours(LIF(2.0, surrogate=sg.atan(2.0)), x, weight, gz), (expected, gx, gw / 2))


def test_norse_lif_recurrent() -> None:
    pytest.importorskip("norse.torch")
    from norse.torch import LIFParameters, LIFRecurrentCell

    x, weight, gz = (v.detach().double() for v in case())
    x, weight = (x * 0.3).requires_grad_(), weight * 0.3
    p = LIFParameters(tau_mem_inv=torch.tensor(250.0), tau_syn_inv=torch.tensor(125.0))
    cell = LIFRecurrentCell(
        N,
        N,
        p=p,
        dt=1e-3,
        autapses=True,
        input_weights=torch.eye(N).double(),
        recurrent_weights=weight.requires_grad_(),
    )
    state, spikes = None, []
    for x_t in x:
        z, state = cell(x_t, state)
        spikes.append(z)
    expected = torch.stack(spikes)
    gx, gw = torch.autograd.grad(expected, [x, cell.recurrent_weights], gz)
    neuron = CubaLIF(4.0, 8.0, detach_reset=True, surrogate=sg.fast_sigmoid(1.0))  # theirs, whatever their alpha says
    agree(ours(neuron, x, weight, gz), (expected, gx, gw), 1e-10)
