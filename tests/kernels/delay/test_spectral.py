"""Products by spectra: torch's convolution in float64 and its gradients, whatever the windows and the parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.kernels.delay import spectral

# steps in, batch, inputs, outputs, taps, first, steps out
SIZES = [
    (13, 5, 7, 3, 5, 0, 15),
    (12, 9, 6, 4, 5, 4, 8),
    (3, 1, 2, 2, 1, 0, 3),
    (4, 2, 3, 5, 9, 0, 4),
    (9, 2, 3, 8, 9, 8, 1),
    (70, 3, 9, 5, 6, 2, 90),  # long after the last step of the input
]


def truth(x: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """Torch's convolution of the sequence between silences."""
    silence = x.new_zeros(1, *x.shape[1:])
    long = torch.cat([silence.expand(k.shape[2] - 1, -1, -1), x, silence.expand(steps, -1, -1)])
    return functional.conv1d(long.permute(1, 2, 0), k.flip(-1)).permute(2, 0, 1)[first : first + steps]


def pairs(size: tuple[int, ...], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Output and gradient of the taps, each as found and as it should be."""
    steps_in, batch, inputs, outputs, taps, first, steps = size
    x = (torch.rand(steps_in, batch, inputs).double() * torch.randn(steps_in, batch, inputs)).to(dtype)
    k, grad = torch.randn(outputs, inputs, taps).to(dtype), torch.randn(batch, steps, outputs).to(dtype).transpose(0, 1)
    leaves = [v.double().clone().requires_grad_() for v in (x, k)]
    y = truth(*leaves, first, steps)
    (expected,) = torch.autograd.grad(y, leaves[1], grad.double())
    cut = spectral.windows(x, steps, taps, first)
    heard, scale = spectral.spectra(x, cut), torch.tensor(2.0, dtype=cut.rows.dtype)

    def spectrum(n: slice) -> Tensor:
        return torch.einsum("nmd,fcd->fcnm", k[n], cut.rows[..., :taps].to(dtype))

    back = cut.rows[..., :taps] * cut.half * 2 / cut.length
    y_found = torch.empty(steps, batch, outputs, dtype=dtype)
    spectral.forward(heard, scale / cut.length, spectrum, cut, batch, y_found)
    parts = [torch.stack(p) for _, p in spectral.gradient_of_taps(heard, grad, scale, cut)]
    found = [y_found, torch.cat([torch.einsum("cfnm,fcd->nmd", p, back) for p in parts]) / 2]
    return list(zip(found, [y.detach(), expected], strict=True))


@pytest.mark.parametrize("hop", [0.5, 1.5, 100.0])
@pytest.mark.parametrize("together", [2, 100])
@pytest.mark.parametrize("size", SIZES)
def test_equals_torchs_convolution(
    size: tuple[int, ...], together: int, hop: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectral._windows.cache_clear()
    monkeypatch.setattr(spectral, "HOP", hop)
    monkeypatch.setattr(spectral, "TOGETHER", together)
    for got, wanted in pairs(size, torch.float64):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)], ids=str
)
def test_errors_are_the_dtypes(dtype: torch.dtype, error: float) -> None:
    for got, wanted in pairs((100, 4, 64, 32, 20, 0, 110), dtype):
        assert float((got.double() - wanted).norm()) < error * float(wanted.norm())
