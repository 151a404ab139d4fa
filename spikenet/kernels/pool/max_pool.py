"""The maximum over 3x3 pixels at a stride of 2, channels last, which on CUDA devices keeps one byte for each output.

Torch keeps eight, and adds up gradients several times slower than memory allows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily
from spikenet.kernels.dynamics.ops import _plain
from spikenet.kernels.triton_device import why_not_on

_triton_forward = lazily("spikenet.kernels.pool.triton_max_pool", "forward")
_triton_backward = lazily("spikenet.kernels.pool.triton_max_pool", "backward")


def _why_not(x: Tensor) -> str | None:
    if x.dtype == torch.float64 or not x.is_floating_point():
        return f"the Triton kernels take float32, float16 or bfloat16, got {x.dtype}"
    if not _plain(x):
        return "somebody listens to torch's operators, and the Triton kernels are none"
    if not x.numel() or x.numel() >= 2**31:
        return f"the Triton kernels take 1 to 2^31 - 1 numbers, got {x.numel()}"
    return why_not_on(x)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, chosen = _triton_forward(x)
        ctx.save_for_backward(chosen)
        ctx.sides = x.shape[1:3]
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise BackendError("max_pool has no second derivative: call grad or backward without create_graph=True")
        (chosen,) = ctx.saved_tensors
        return _triton_backward(gy, chosen, *ctx.sides)


def _torchs(x: Tensor) -> Tensor:
    return functional.max_pool2d(x.movedim(-1, 1), 3, 2, 1).movedim(1, -1)


POOL = Operation(
    "max_pool",
    Implementation("triton", _why_not, _MaxPool.apply),
    Implementation("numba", anywhere, _torchs),
    Implementation("reference", anywhere, _torchs),
)


def max_pool(x: Tensor) -> Tensor:
    """`y[n, i, j, c] = max x[n, 2 i + a, 2 j + b, c]` over a and b from -1 to 1, where that lies inside.

    Its gradient goes to the first of equal maxima, row by row, as torch's `max_pool2d(3, 2, 1)` does it; NaN is larger
    than any number.

    Args:
        x: `[N, H, W, C]`.

    Returns:
        `[N, ceil(H / 2), ceil(W / 2), C]`.

    Raises:
        ShapeError: if x has other than four dimensions.
    """
    if x.ndim != 4:
        raise ShapeError(f"max_pool takes [N, H, W, C], got {tuple(x.shape)}")
    return POOL(x)
