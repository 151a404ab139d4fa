"""The same spikes as the peers' neurons of matched parameters, and the same gradients where they define them alike."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spikenet.neurons import (
    EIF,
    IF,
    LIF,
    NO_RESET,
    PLIF,
    QIF,
    AdEx,
    CubaLIF,
    Neuron,
    RefractoryLIF,
    ResonateAndFire,
    TernaryIF,
    TernaryLIF,
)
from spikenet.neurons import surrogate as sg
from spikenet.neurons.reset import VReset

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
    )
    rest = v_reset or 0.0  # their membrane rests at the reset potential
    ours = LIF(2.5, 1.0, v_reset, decay_input=decay_input, detach_reset=detach, surrogate=sg.atan(2.0), v_rest=rest)
    assert_alike(ours, theirs, drive())


def assert_alike(ours: Neuron, theirs: nn.Module, x: Tensor) -> None:
    """Equal spikes from a SpikingJelly node, and the same gradients to the input."""
    xs, gz = [x.clone().requires_grad_() for _ in range(2)], drive() - 0.4
    theirs.step_mode = "m"
    a, b = ours(xs[0]), theirs(xs[1])
    a.backward(gz.to(x.dtype))
    b.backward(gz.to(x.dtype))
    assert torch.equal(a, b)
    assert 0.02 < a.mean() < 0.7
    assert float((xs[0].grad - xs[1].grad).norm() / xs[1].grad.norm()) < 1e-5


@pytest.mark.parametrize("decay_input", [True, False])
def test_spikingjelly_parametric_lif(decay_input: bool) -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    theirs = neuron.ParametricLIFNode(3.0, decay_input, surrogate_function=surrogate.ATan(2.0))
    ours = PLIF(3.0, decay_input=decay_input)
    assert_alike(ours, theirs, drive())
    torch.testing.assert_close(ours.w, theirs.w)
    torch.testing.assert_close(ours.w.grad, theirs.w.grad, rtol=1e-4, atol=1e-2)


# Time constants of the decays 0.75 and 0.5, compared in float64: the two sides round in different places.
TAUS = [torch.tensor(-1 / math.log(keep), dtype=torch.float64) for keep in (0.75, 0.5)]


def test_spikingjelly_current_based_lif() -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    theirs = neuron.CUBALIFNode(0.5, 0.75, 1.0, -0.25, surrogate.ATan(2.0))
    ours = CubaLIF(*TAUS, 1.0, -0.25, exact_decay=True, decay_input=False).double()
    assert_alike(ours, _at_rest(theirs, 0.0), drive().double() * 0.5)


def test_spikingjelly_nonlinear_neurons() -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    slope = surrogate.ATan(2.0)
    quadratic = neuron.QIFNode(3.0, 0.7, 0.9, 1.0, 0.05, -0.1, slope)
    assert_alike(QIF(3.0, 0.9, 0.7, 1.0, -0.1, v_rest=0.05), _at_rest(quadratic, 0.05), drive())
    exponential = neuron.EIFNode(3.0, 0.3, 0.8, 1.0, 0.05, -0.1, slope)
    assert_alike(EIF(3.0, 0.3, 0.8, 1.0, -0.1, v_rest=0.05), _at_rest(exponential, 0.05), drive())


def _at_rest(theirs: nn.Module, rest: float) -> nn.Module:
    """Their membrane starts at the reset potential."""
    theirs.v = rest
    return theirs


def test_spikingjelly_resonate_and_fire() -> None:
    """Only a soft reset is defined alike: their hard one leaves the real part."""
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    theirs = neuron.RAFNode(-0.1, 0.5, 1.0, 1.0, None, surrogate.ATan(2.0))
    assert_alike(ResonateAndFire(0.5, 10.0, v_reset=None), theirs, drive() * 0.3)


def test_norse_refractory_lif() -> None:
    """Their current, made to last for one step only, is our input."""
    pytest.importorskip("norse.torch")
    from norse.torch.functional import lif_refrac as norse
    from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters

    tau, refractory = 4.0, 3
    lif = LIFParameters(tau_syn_inv=torch.tensor(1.0), tau_mem_inv=torch.tensor(1 / tau), v_reset=torch.tensor(-0.2))
    p = norse.LIFRefracParameters(lif, torch.tensor(float(refractory)))
    x, spikes = drive() * 2, []
    zero = torch.zeros_like(x[0])
    state = norse.LIFRefracFeedForwardState(LIFFeedForwardState(zero, zero), zero)
    for x_t in x:
        z, state = norse.lif_refrac_feed_forward_step(x_t, state, p, dt=1.0)
        spikes.append(z)
    ours = RefractoryLIF(refractory, tau, 1.0, -0.2)(x)
    assert torch.equal(ours, torch.stack(spikes))
    assert 0.02 < ours.mean() < 0.25


def test_norse_current_based_and_adaptive_exponential() -> None:
    """Norse's LIF holds a current in Euler steps; its AdEx (in units of the leak) adds the rest."""
    pytest.importorskip("norse.torch")
    from norse.torch.functional import lif, lif_adex

    t = torch.tensor
    x = drive()
    zero = torch.zeros_like(x[0])
    p = lif.LIFParameters(tau_syn_inv=t(0.5), tau_mem_inv=t(0.25), v_reset=t(-0.1))
    state, spikes = lif.LIFFeedForwardState(zero, zero), []
    for x_t in x:
        z, state = lif.lif_feed_forward_step(x_t, state, p, dt=1.0)
        spikes.append(z)
    assert torch.equal(CubaLIF(4.0, 2.0, 1.0, -0.1)(x), torch.stack(spikes))

    q = lif_adex.LIFAdExParameters(
        adaptation_current=t(0.2),
        adaptation_spike=t(0.3),
        delta_T=t(0.4),
        tau_ada_inv=t(0.125),
        tau_syn_inv=t(1.0),
        tau_mem_inv=t(0.25),
        v_th=t(1.0),
        v_reset=t(-0.1),
    )
    state, spikes = lif_adex.LIFAdExFeedForwardState(zero, zero, zero), []
    for x_t in x:
        z, state = lif_adex.lif_adex_feed_forward_step(x_t, state, q, dt=1.0)
        spikes.append(z)
    ours = AdEx(
        capacitance=4.0,
        conductance=1.0,
        slope_factor=0.4,
        v_onset=1.0,
        tau_w=8.0,
        a=0.2,
        b=0.3,
        v_threshold=1.0,
        v_reset=-0.1,
        v_rest=0.0,
    )(x)
    assert torch.equal(ours, torch.stack(spikes))
    assert 0.02 < ours.mean() < 0.7


@pytest.mark.parametrize(("mechanism", "v_reset"), [("zero", 0.0), ("none", NO_RESET)])
def test_snntorch_synaptic(mechanism: str, v_reset: VReset) -> None:
    """Not its soft reset, which takes the threshold twice from a potential that stays above it."""
    snntorch = pytest.importorskip("snntorch")
    theirs = snntorch.Synaptic(0.5, 0.75, reset_mechanism=mechanism, reset_delay=False)
    x, spikes = drive().double() * 0.3, []
    current, membrane = theirs.reset_mem()
    for x_t in x:
        z, current, membrane = theirs(x_t, current, membrane)
        spikes.append(z)
    ours = CubaLIF(*TAUS, 1.0, v_reset, exact_decay=True, decay_input=False)(x)
    assert torch.equal(ours.float(), torch.stack(spikes))
    assert 0.02 < ours.mean() < 0.7


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
