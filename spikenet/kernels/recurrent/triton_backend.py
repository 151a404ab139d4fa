"""The recurrent scan on CUDA devices: a product and a Triton kernel each step."""

from __future__ import annotations

from typing import Any

from spikenet.kernels.dynamics import triton_backend
from spikenet.kernels.recurrent import steps


def forward(*arguments: Any) -> Any:
    """See `ops.recurrent`."""
    return steps.forward(triton_backend.forward, *arguments)


def backward(*arguments: Any) -> Any:
    """See `ops.recurrent_backward`."""
    return steps.backward(triton_backend.forward, triton_backend.backward, *arguments)
