"""LIF and IF in float32 against float64 autograd through the independent transcription, by the rule of `margin`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spikenet.neurons import IF, LIF, NO_RESET
from spikenet.neurons import surrogate as sg
from tests.neurons import transcription as ts
from tests.neurons.margin import disagreements

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
    "exact": ts.Case(exact_decay=True),
    "exact_undecayed_soft": ts.Case(exact_decay=True, decay_input=False, soft=True),
    "unreset": ts.Case(unreset=True),
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
    given["v_reset"] = NO_RESET if case.unreset else None if case.soft else given["v_reset"]
    if not case.leak:
        return IF(
            given["v_threshold"],
            given["v_reset"],
            detach_reset=case.detach_reset,
            surrogate=surrogate,
            v_rest=given["v_rest"],
        )
    return LIF(
        given["tau"],
        given["v_threshold"],
        given["v_reset"],
        decay_input=case.decay_input,
        exact_decay=case.exact_decay,
        detach_reset=case.detach_reset,
        surrogate=surrogate,
        v_rest=given["v_rest"],
    )


@pytest.mark.parametrize(("surrogate", "case_name", "steps", "shape"), RUNS)
def test_spikes_and_every_gradient(surrogate: str, case_name: str, steps: int, shape: str) -> None:
    generator = torch.Generator().manual_seed(steps)
    case, (ours, slope, kinks) = CASES[case_name], SURROGATES[surrogate]
    params = draw_params(shape, generator)
    size = (steps, 4, *FEATURES[shape])
    x = torch.randn(size, generator=generator) * (0.9 if case.leak and case.decay_input else 0.4) + 0.35
    start = {"v": torch.randn(size[1:], generator=generator) * 0.3}
    tolerance = 3e-5 if ours.alpha > 10 else 1e-5
    assert not disagreements(
        build(case, params, ours),
        case,
        x,
        start,
        slope,
        kinks=kinks,
        margin=1e-5 * params["v_threshold"],
        tolerance=tolerance,
    )
