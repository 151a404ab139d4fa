"""Prepared launches: torch's numbers whatever the addresses, the first time and after."""

from __future__ import annotations

import pytest
import torch

from spikenet.kernels.launch import Launch, Plans

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


@triton.jit
def scaled(x, shift, y, count, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count) * scale
    if shift is not None:
        value += tl.load(shift + at, mask=at < count)
    tl.store(y + at, value, mask=at < count)


@pytest.mark.parametrize("device", DEVICES)
def test_equals_torch_at_any_address(device: str) -> None:
    made = Launch(scaled, (3,), (37,), (16,))
    for scale in (2.0, 3.0):
        for start in (0, 1, 4, 1):
            x, shift = torch.randn(2, 50, device=device)[:, start : start + 37]
            y = torch.empty(37, device=device)
            made(x, shift, y, floats=(scale,))
            torch.testing.assert_close(y, scale * x + shift)


def test_a_plan_is_made_once() -> None:
    plans: Plans[list[int]] = Plans()
    first = plans.at("a", lambda: [1])
    assert plans.at("a", lambda: [2]) is first
    assert plans.at("b", lambda: [2]) == [2]
