"""LIF and IF in float32 against float64 autograd through the independent transcription.

A lane counts if every |u|, and every distance to a kink of the surrogate, exceeds 1e-5 of the threshold.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spikenet.kernels import use_backend
from spikenet.neurons import IF, LIF
from spikenet.neurons import surrogate as sg
from tests.neurons import transcription as ts

PARAMS = ("tau", "v_threshold", "v_reset", "v_rest")
SURROGATES = {
    "atan": (sg.atan(2.0), ts.atan_slope(2.0), []),
    "atan_sharp": (sg.atan(25.0), ts.atan_slope(25.0), []),
    "sigmoid": (sg.sigmoid(4.0), ts.sigmoid_slope(4.0), []),
    "fast_sigmoid": (sg.fast_sigmoid(5.0), ts.fast_sigmoid_slope(5.0), [0.0]),
    "triangle": (sg.triangle(0.7), ts.triangle_slope(0.7), [0.0, 1 / 0.7]),
    "gaussian": (sg.gaussian(2.0), ts.gaussian_slope(2.0), []),
    "multi_gaussian": (sg.multi_gaussian(), ts.multi_gaussian_slope(), []),
    "slayer": (sg.slayer(), ts.slayer_slope(), [0.0]),
    "straight_through": (sg.straight_through(), torch.ones_like, []),
    "rectangle": (sg.rectangle(0.8), ts.rectangle_slope(0.8), [0.5 / 0.8]),
}
CASES = {
    "hard": ts.Case(),
    "soft": ts.Case(soft=True),
    "undecayed": ts.Case(decay_input=False),
    "undecayed_soft_detached": ts.Case(decay_input=False, soft=True, detach_reset=True),
    "detached": ts.Case(detach_reset=True),
    "if": ts.Case(leak=False),
    "if_soft": ts.Case(leak=False, soft=True),
}
RUNS = [
    *(("atan", case, 100, shape) for case in CASES for shape in ("scalar", "neuron")),
    *((name, "hard", 60, "channel") for name in SURROGATES),
    ("atan", "hard", 500, "neuron"),
    ("atan_sharp", "undecayed", 500, "scalar"),
    ("triangle", "if", 500, "scalar"),
]
FEATURES = {"scalar": (13, 11), "neuron": (13, 11), "channel": (5, 6, 4)}


def draw_params(shape: str, generator: torch.Generator) -> dict[str, Tensor]:
    size = {"scalar": (), "neuron": FEATURES["neuron"], "channel": (FEATURES["channel"][0], 1, 1)}[shape]

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=generator)

    return {
        "tau": between(1.5, 6.0),
        "v_threshold": between(0.8, 1.2),
        "v_reset": between(-0.2, 0.1),
        "v_rest": between(-0.1, 0.1),
    }


def build(case: ts.Case, params: dict[str, Tensor], surrogate: sg.Surrogate) -> nn.Module:
    given = {n: nn.Parameter(v.clone()) for n, v in params.items()}
    reset = None if case.soft else given.pop("v_reset")
    if not case.leak:
        return IF(
            given["v_threshold"], reset, detach_reset=case.detach_reset, surrogate=surrogate, v_rest=given["v_rest"]
        )
    return LIF(
        given["tau"],
        given["v_threshold"],
        reset,
        decay_input=case.decay_input,
        detach_reset=case.detach_reset,
        surrogate=surrogate,
        v_rest=given["v_rest"],
    )


def relative(ours: Tensor, truth: Tensor) -> float:
    return float((ours.double() - truth).norm() / truth.norm().clamp(min=1e-30))


@pytest.mark.parametrize(("surrogate", "case_name", "steps", "shape"), RUNS)
def test_spikes_and_every_gradient(surrogate: str, case_name: str, steps: int, shape: str) -> None:
    generator = torch.Generator().manual_seed(steps)
    case, (ours, slope, kinks) = CASES[case_name], SURROGATES[surrogate]
    params = draw_params(shape, generator)
    size = (steps, 4, *FEATURES[shape])
    x = torch.randn(size, generator=generator) * (0.9 if case.leak and case.decay_input else 0.4) + 0.35
    v0, gz, gv = (torch.randn(s, generator=generator) * 0.3 for s in (size[1:], size, size[1:]))

    # The truth; parameters written out per lane and step, so that their gradients are the single terms.
    x64, v64 = x.double().requires_grad_(), v0.double().requires_grad_()
    p64 = {n: v.double().expand(size).clone().requires_grad_() for n, v in params.items()}
    z64, u64, last64 = ts.integrate(case, x64, v64, **p64, slope=slope)
    ties = [u64.abs(), *((u64.abs() - k).abs() for k in kinks if k)]
    counts = torch.stack([(t > 1e-5 * params["v_threshold"]).all(0) for t in ties]).all(0)
    assert counts.double().mean() >= 0.99
    gz, gv = gz * counts, gv * counts
    used = [n for n in PARAMS if p64[n].requires_grad and _matters(n, case)]
    wanted = [x64, v64, *(p64[n] for n in used)]
    truth = torch.autograd.grad([z64, last64], wanted, [gz.double(), gv.double()], allow_unused=True)

    neuron = build(case, params, ours)
    x32, v32 = x.clone().requires_grad_(), v0.clone().requires_grad_()
    with use_backend("numba"):
        z32, state = neuron.run(x32, neuron.State(v32))
        torch.autograd.backward([z32, state.v], [gz, gv])

    assert z32.dtype == torch.float32
    assert torch.equal(z32[:, counts].double(), z64[:, counts].detach())
    assert 0.02 < z64.mean() < 0.6
    tolerance = 3e-5 if ours.alpha > 10 else 1e-5
    assert relative(x32.grad, truth[0]) <= tolerance
    assert relative(v32.grad, truth[1]) <= tolerance
    for name, terms in zip(used, truth[2:], strict=True):
        got = getattr(neuron, name).grad
        error = (got.double() - terms.sum_to_size(got.shape)).abs()
        assert bool((error <= tolerance * terms.abs().sum_to_size(got.shape)).all()), name


def _matters(name: str, case: ts.Case) -> bool:
    if name == "tau":
        return case.leak
    if name == "v_reset":
        return not case.soft
    return case.leak or name != "v_rest"  # without a leak v_rest is only where it starts, and v0 is given here
