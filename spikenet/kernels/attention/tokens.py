"""Attention among the tokens of one time step: every token sees every other, or those of its window.

Sums of spikes are counts, and counts stay exact: products of half precision are summed in float32 and kept in
float32 in between, so that for binary input the result before `scale` is the exact integer up to 2^24.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikenet.errors import DtypeError, ShapeError

REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_heads(name: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Refuse what is not three alike arrays of heads, `[..., D]`, `[..., D]` and `[..., E]`."""
    if not (q.dtype == k.dtype == v.dtype and q.dtype in REAL):
        raise DtypeError(
            f"{name} takes q, k and v of one floating dtype of 16, 32 or 64 bits, got {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if q.ndim < 2 or q.shape != k.shape or k.shape[:-1] != v.shape[:-1]:
        raise ShapeError(
            f"{name} takes q and k of one shape and v that differs from it at most in its last axis, "
            f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )


def spiking_attention(q: Tensor, k: Tensor, v: Tensor, scale: float = 1.0) -> Tensor:
    """Attention without softmax, `scale (q k^T) v`, computed in the order that takes fewer operations.

    `(q k^T) v` costs `N^2 (D + E)` products, `q (k^T v)` costs `2 N D E`; for spikes both give the same integers.

    Args:
        q: queries `[..., N, D]`, as a rule `[T, B, H, N, D]`; float32, float64, float16 or bfloat16.
        k: keys, like `q`.
        v: values `[..., N, E]`.
        scale: factor of the result.

    Returns:
        `[..., N, E]`, in the dtype of `v`. For binary input it is the exact integer times `scale`, rounded once.

    Raises:
        DtypeError: if q, k and v are not of one floating dtype.
        ShapeError: if the shapes do not fit.

    Source: Zhou et al., "Spikformer", ICLR 2023, equation 6 (SSA without its neuron).
    """
    check_heads("spiking_attention", q, k, v)
    wide = v.dtype if v.dtype == torch.float64 else torch.float32
    q, k, v, dtype = q.to(wide), k.to(wide), v.to(wide), v.dtype
    tokens, width, values = q.shape[-2], q.shape[-1], v.shape[-1]
    by_tokens = tokens * (width + values) < 2 * width * values
    out = (q @ k.mT) @ v if by_tokens else q @ (k.mT @ v)
    return (out * scale).to(dtype)


def windowed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    scale: float = 1.0,
    *,
    rotate: Callable[[Tensor], Tensor] | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Normalised linear attention among the tokens of one window, with the positive features `phi(u) = ELU(u) + 1`.

        y_n = scale sum_m (R phi(q_n) . R phi(k_m)) v_m / (sum_m phi(q_n) . phi(k_m) + W eps)

    over the `W` tokens m of the window of n. The rotation R (relative position) is left out of the normaliser. For
    spikes phi is 1 or 2, and `phi(q) . phi(k) = D + |q| + |k| + |q and k|` exactly.

    Args:
        q: queries `[..., N, D]`; tokens of one window follow each other.
        k: keys, like `q`.
        v: values `[..., N, E]`.
        window: tokens of a window, a divisor of N.
        scale: factor of the result.
        rotate: maps features `[..., N / W, W, D]` to rotated features; None for no rotation.
        eps: added to the mean weight of a window.

    Returns:
        `[..., N, E]`, in the dtype of `v`.

    Raises:
        ShapeError: if the shapes do not fit, or `window` does not divide the tokens.
        DtypeError: if q, k and v are not of one floating dtype.

    Source: Chen et al., "SpikMamba", ACM MM Asia 2024, the spiking linear attention of its code; the normaliser is
    that of MLLA.
    """
    check_heads("windowed_attention", q, k, v)
    if window < 1 or q.shape[-2] % window:
        raise ShapeError(f"windows of {window} tokens do not divide {q.shape[-2]} tokens")
    q, k, v = (u.unflatten(-2, (-1, window)) for u in (q, k, v))
    q, k = (torch.nn.functional.elu(u) + 1 for u in (q, k))
    weight = (q * k.mean(-2, keepdim=True)).sum(-1, keepdim=True) + eps
    if rotate is not None:
        q, k = rotate(q), rotate(k)
    return (spiking_attention(q, k, v, scale / window) / weight).flatten(-3, -2)


def qk_token(q: Tensor, k: Tensor, fire: Callable[[Tensor], Tensor]) -> Tensor:
    """Token attention of QKFormer: `fire(sum_c q[n, c]) * k[n, c]`, a mask over tokens.

    Args:
        q: queries `[T, B, H, N, D]`.
        k: keys, like `q`.
        fire: the neuron, `[T, B, H, N, 1]` -> the same.

    Source: Zhou et al., "QKFormer", NeurIPS 2024, equations 4 and 5.
    """
    return fire(q.sum(-1, keepdim=True)) * k


def qk_channel(q: Tensor, k: Tensor, fire: Callable[[Tensor], Tensor]) -> Tensor:
    """Channel attention of QKFormer: `fire(sum_n q[n, c]) * k[n, c]`, a mask over the channels of a head.

    Args:
        q: queries `[T, B, H, N, D]`.
        k: keys, like `q`.
        fire: the neuron, `[T, B, H, 1, D]` -> the same.

    Source: Zhou et al., "QKFormer", NeurIPS 2024, equations 4 and 5 with the sum over tokens.
    """
    return fire(q.sum(-2, keepdim=True)) * k
