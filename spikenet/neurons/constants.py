"""Constants on a device, and when nothing that is made now may be kept."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


@functools.cache  # never let go: a CUDA graph may read it
def _held(value: float, real: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.full((1,), value, dtype=real, device=device)


def number(value: float, real: torch.dtype, device: torch.device) -> Tensor:
    """A constant [1] on a device, made once: at few time steps making it anew would cost as much as the kernel."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or _capturing(device):
        return torch.full((1,), value, dtype=real, device=device)
    return _held(value, real, device)


def passing(x: Any) -> bool:
    """Whether what is made now is not there to be kept: while torch traces, or captures a CUDA graph."""
    return torch.compiler.is_compiling() or (isinstance(x, Tensor) and _capturing(x.device))


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
