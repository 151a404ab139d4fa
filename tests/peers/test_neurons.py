"""The same spikes as the peers' neurons of matched parameters, and the same gradients where they define them alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikenet.neurons import IF, LIF, TernaryIF, TernaryLIF
from spikenet.neurons import surrogate as sg

pytestmark = pytest.mark.peers


def drive(steps: int = 200) -> Tensor:
    return torch.randn(steps, 4, 257, generator=torch.Generator().manual_seed(11)) * 1.2 + 0.5


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("detach", [True, False])
def test_spikingjelly_lif(decay_input: bool, v_reset: float | None, detach: bool) -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    theirs = neuron.LIFNode(
        tau=2.5,
        decay_input=decay_input,
        v_threshold=1.0,
        v_reset=v_reset,
        detach_reset=detach,
        surrogate_function=surrogate.ATan(2.0),
        step_mode="m",
    )
    rest = v_reset or 0.0  # their membrane rests at the reset potential
    ours = LIF(2.5, 1.0, v_reset, decay_input=decay_input, detach_reset=detach, surrogate=sg.atan(2.0), v_rest=rest)
    xs, gz = [drive().requires_grad_() for _ in range(2)], drive() - 0.4
    a, b = ours(xs[0]), theirs(xs[1])
    a.backward(gz)
    b.backward(gz)
    assert torch.equal(a, b)
    assert 0.02 < a.mean() < 0.7
    assert float((xs[0].grad - xs[1].grad).norm() / xs[1].grad.norm()) < 1e-5


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_spikingjelly_if(v_reset: float | None) -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron

    x = drive() * 0.5
    assert torch.equal(IF(1.0, v_reset)(x), neuron.IFNode(1.0, v_reset, step_mode="m")(x))


def test_norse_lif_box_cell() -> None:
    pytest.importorskip("norse.torch")
    from norse.torch import LIFBoxCell, LIFBoxParameters

    dt, tau = 1e-3, 10e-3
    p = LIFBoxParameters(
        tau_mem_inv=torch.tensor(1 / tau), v_leak=torch.tensor(0.1), v_th=torch.tensor(0.9), v_reset=torch.tensor(-0.2)
    )
    cell, state, spikes = LIFBoxCell(p=p, dt=dt), None, []
    x = drive() * 4
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState

    state = LIFBoxFeedForwardState(v=torch.full(x.shape[1:], 0.1))
    for x_t in x:
        z, state = cell(x_t, state)
        spikes.append(z)
    ours = LIF(tau, 0.9, -0.2, v_rest=0.1, dt=dt)(x)
    assert torch.equal(ours, torch.stack(spikes))
    assert 0.02 < ours.mean() < 0.7


def test_snntorch_leaky_with_reset_to_zero() -> None:
    snntorch = pytest.importorskip("snntorch")
    tau = 4.0
    theirs = snntorch.Leaky(beta=1 - 1 / tau, threshold=1.0, reset_mechanism="zero", reset_delay=False)
    x, spikes = drive() * 0.6, []
    membrane = theirs.init_leaky()
    for x_t in x:
        z, membrane = theirs(x_t, membrane)
        spikes.append(z)
    ours = LIF(tau, 1.0, 0.0, decay_input=False)(x)
    assert torch.equal(ours, torch.stack(spikes))
    assert 0.02 < ours.mean() < 0.7


@pytest.mark.parametrize("leak", [True, False])
@pytest.mark.parametrize(("v_reset", "detach"), [(None, False), (0.0, True), (-0.25, True)])
def test_spikingjelly_ternary(leak: bool, v_reset: float | None, detach: bool) -> None:
    """Gradients where they are defined alike: a hard reset that passes one differentiates another function of them."""
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    given = {"v_threshold": 0.8, "v_reset": v_reset, "detach_reset": detach}
    steps = {**given, "surrogate_function": surrogate.Sigmoid(2.5), "step_mode": "m"}
    theirs = neuron.TernaryLIFNode(tau=2.5, decay_input=True, **steps) if leak else neuron.TernaryIFNode(**steps)
    rest = v_reset or 0.0
    slope = sg.sigmoid(2.5 * 0.8)  # theirs is a function of the potential, ours of the potential over the threshold
    ours = (
        TernaryLIF(2.5, v_rest=rest, surrogate=slope, **given)
        if leak
        else TernaryIF(v_rest=rest, surrogate=slope, **given)
    )
    xs, gz = [(drive() * 2 - 0.6).requires_grad_() for _ in range(2)], drive() - 0.4
    a, b = ours(xs[0]), theirs(xs[1])
    a.backward(gz)
    b.backward(gz)
    same = (a == b).all(0)  # h / v_threshold rounds, h - v_threshold rounds elsewhere
    assert same.double().mean() > 0.99
    assert 0.02 < (a > 0).double().mean() < 0.7
    assert 0.02 < (a < 0).double().mean() < 0.7
    error, size = (xs[0].grad - xs[1].grad)[:, same].norm(), xs[1].grad[:, same].norm()
    assert float(error / size) < 1e-5


def test_spikingjelly_gaussian_surrogate() -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    theirs = neuron.LIFNode(surrogate_function=surrogate.Erf(2.0), step_mode="m")
    xs, gz = [drive().requires_grad_() for _ in range(2)], drive() - 0.4
    LIF(surrogate=sg.gaussian(2.0 * 2**0.5))(xs[0]).backward(gz)
    theirs(xs[1]).backward(gz)
    assert float((xs[0].grad - xs[1].grad).norm() / xs[1].grad.norm()) < 1e-5
