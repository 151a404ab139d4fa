"""Where Triton kernels can run: on a CUDA device, or anywhere in Triton's interpreter, which is for tests."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.backends import forced

_INSTALLED = importlib.util.find_spec("triton") is not None


def why_not_on(x: Tensor, *_: Any) -> str | None:
    """Why a Triton kernel cannot run on `x` where it lies, or None."""
    return why_not_at(x.device, "the input")


def why_not_at(device: torch.device, what: str) -> str | None:
    """Why a Triton kernel cannot run on a device, where `what` is, or None."""
    if not _INSTALLED:
        return "Triton is not installed"
    if device.type == "cuda" or (forced() == "triton" and interpreted()):
        return None
    return f"the Triton kernels run on CUDA devices, and {what} is on {device}"


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on the CPU: thousands of times slower, so only where it is forced."""
    return os.environ.get("TRITON_INTERPRET") == "1"
