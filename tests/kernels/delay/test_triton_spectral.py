"""Delayed synapses by their spectra: torch's convolution in float64 and its gradients, at any window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.kernels.delay import bump
from spikenet.kernels.delay.construct import spread

# steps in, batch, inputs, outputs, taps, first, steps out, elements; steps of a window's output in taps
SIZES = [
    (13, 5, 7, 3, 5, 0, 15, 1, 0.5),
    (12, 9, 6, 20, 5, 4, 8, 2, 1.5),
    (3, 1, 2, 2, 1, 0, 3, 1, 1.5),
    (4, 2, 3, 5, 9, 0, 4, 1, 100.0),
    (9, 2, 3, 8, 9, 8, 1, 1, 0.5),
    (70, 3, 9, 37, 6, 2, 90, 1, 2.0),  # long after the last step of the input
]
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


def truth(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int) -> Tensor:
    """Torch's convolution of the sequence between silences."""
    k = spread(weight, delay, torch.tensor(0.7).double(), bump("gauss"), taps)
    silence = x.new_zeros(1, *x.shape[1:])
    long = torch.cat([silence.expand(taps - 1, -1, -1), x, silence.expand(steps, -1, -1)])
    return functional.conv1d(long.permute(1, 2, 0), k.flip(-1)).permute(2, 0, 1)[first : first + steps]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("scale", "scale_of_grad"), [(1.0, 1.0), (1e-20, 1e12)])
@pytest.mark.parametrize("size", SIZES)
def test_equals_torchs_convolution(
    size: tuple[float, ...], scale: float, scale_of_grad: float, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spikenet.kernels.delay import triton_spectral

    *numbers, hop = size
    steps_in, batch, inputs, outputs, taps, first, steps, elements = map(int, numbers)
    monkeypatch.setattr(triton_spectral, "HOP", hop)
    monkeypatch.setattr(triton_spectral, "TOGETHER", 16)
    x, grad = torch.randn(steps_in, batch, inputs) * scale, torch.randn(steps, batch, outputs) * scale_of_grad
    weight, delay = torch.randn(outputs, inputs, elements), torch.rand(outputs, inputs, elements) * (taps - 1)
    wide = [v.double().requires_grad_() for v in (weight, delay)]
    y = truth(x.double(), *wide, taps, first, steps)
    expected = [y.detach(), *torch.autograd.grad(y, wide, grad.double())]

    plan = triton_spectral.Spectra(x.shape, torch.device(device), weight.shape, "gauss", taps, first, steps)
    given = [v.to(device) for v in (x, weight, delay, torch.tensor(0.7))]
    found = [plan.forward(*given), *plan.gradients(*given, grad.to(device))]
    for got, wanted in zip(found, expected, strict=True):
        assert float((got.cpu().double() - wanted).norm()) <= 2e-3 * float(wanted.norm())
