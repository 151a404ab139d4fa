"""The recurrent scan on the CPU: a product and a Numba kernel each step."""

from __future__ import annotations

from typing import Any

from spikenet.kernels.dynamics import numba_backend
from spikenet.kernels.recurrent import steps


def forward(*arguments: Any) -> Any:
    """See `ops.recurrent`."""
    return steps.forward(numba_backend.forward, *arguments)


def backward(*arguments: Any) -> Any:
    """See `ops.recurrent_backward`."""
    return steps.backward(numba_backend.forward, numba_backend.backward, *arguments)
