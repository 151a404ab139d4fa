"""Delays step by step against torch's convolution of what was sent, and against the whole sequence's bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import ArgumentError
from spikenet.kernels import use_backend
from spikenet.kernels.delay import delay_steps, delay_taps

SIZES = [(30, 3, 7, 5, 4, 2), (9, 17, 3, 20, 1, 1), (40, 33, 6, 2, 9, 3), (4, 0, 3, 2, 3, 1)]
# steps, batch, inputs, outputs, taps, elements


def case(size: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What is sent, weights and taps."""
    steps, batch, inputs, outputs, taps, elements = size
    sent = torch.randn(steps, batch, inputs).to(dtype)
    return sent, torch.randn(outputs, inputs, elements).to(dtype), torch.randint(0, taps, (outputs, inputs, elements))


def heard(sent: Tensor, weight: Tensor, tap: Tensor, taps: int) -> Tensor:
    """In each step what the steps before it sent, and after the last."""
    steps = delay_steps(sent[0], weight, tap.double(), taps, "delay")
    found = [steps.heard()]
    for z in sent:
        steps.send(z)
        found.append(steps.heard())
    return torch.stack(found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", ["reference", "numba", "triton"])
def test_equals_torchs_convolution(backend: str, size: tuple[int, ...], dtype: torch.dtype) -> None:
    sent, weight, tap = case(size, dtype)
    taps = size[4]
    with use_backend(backend):
        found = heard(sent, weight, tap, taps)
    k = (weight.double()[..., None] * functional.one_hot(tap, taps)).sum(2)
    if not sent.numel():
        assert found.shape == (len(sent) + 1, 0, len(weight))
        return
    expected = functional.conv1d(functional.pad(sent.double().permute(1, 2, 0), (taps, 0)), k.flip(-1))
    error = (8 if backend == "numba" else 60) * torch.finfo(dtype).eps
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected.permute(2, 0, 1), rtol=error, atol=error)


@pytest.mark.parametrize("size", SIZES[:3])
def test_gives_the_bits_of_the_whole_sequence(size: tuple[int, ...]) -> None:
    sent, weight, tap = case(size, torch.float32)
    with use_backend("numba"):
        for numbers in (sent, (sent > 0).float()):
            whole = delay_taps(numbers, weight, tap.double(), size[4], 0, len(numbers), "delay")
            assert torch.equal(heard(numbers, weight, tap, size[4])[1:], whole)


def test_refuses_a_delay_that_is_not_finite() -> None:
    delay = torch.ones(2, 3, 1)
    delay[0, 1] = torch.nan
    with pytest.raises(ArgumentError, match="delay has 1 of 6 delays that are not finite"):
        delay_steps(torch.zeros(2, 3), torch.ones(2, 3, 1), delay, 4, "delay")
