"""Causal linear attention: tokens are time steps, and what was seen is kept in a state of constant size.

One recurrence holds the family (row vectors q, k, v; state S `[D, E]`; log-decay g; write strength beta):

    S~_t = diag(exp(g_t)) S_{t-1}
    S_t = S~_t + k_t^T v_t                            (additive)
    S_t = S~_t + k_t^T beta_t (v_t - k_t S~_t)        (delta rule)
    o_t = scale q_t S_t

| g | additive | delta |
|---|---|---|
| none | linear attention, integer counts for spikes | DeltaNet |
| a number a head | RetNet, Lightning Attention-2 | |
| a number a step | simple GLA, Mamba-2, mLSTM with sigmoid gates | gated DeltaNet |
| a number a step and channel of k | GLA | Kimi Delta Attention |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from spikenet.errors import ShapeError
from spikenet.kernels.attention import kernels
from spikenet.kernels.attention.chunks import chunkwise
from spikenet.kernels.attention.reference import recurrent
from spikenet.kernels.attention.tokens import check_heads
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced


def _step_by_step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    return _in_real(recurrent, q, k, v, g, beta, state, scale)


def _in_torch(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The plain form: by chunks, which is many times faster, unless the reference is asked for by name."""
    return _in_real(recurrent, *arguments) if forced() == "reference" else _in_chunks(*arguments)


def _in_chunks(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Chunk by chunk. Modes that count operations, those with a `see`, are told of the recurrence in their place."""
    modes: list[Any] = [] if torch.compiler.is_compiling() else _get_current_dispatch_mode_stack()
    counting = [mode for mode in modes if hasattr(mode, "see")]
    if not counting:
        return _in_real(chunkwise, *arguments)
    with _disable_current_modes():
        found = _in_real(chunkwise, *arguments)
    for mode in counting:
        mode.see("spikenet::causal_attention", arguments, found)
    return found


def _by_triton(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The kernels of the additive rule, or the chunkwise form with its kernel from chunk to chunk."""
    if beta is None and (g is None or g.shape[-1] == 1):
        return kernels.by_triton(q, k, v, g, beta, state, scale)
    return _in_chunks(q, k, v, g, beta, state, scale)


def _in_real(
    form: Callable[..., tuple[Tensor, Tensor]],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Any,
    beta: Any,
    state: Any,
    scale: Any,
) -> tuple[Tensor, Tensor]:
    """`form` in float32 or float64, whatever q, k and v are stored in, under autocast too."""
    real = torch.float64 if v.dtype == torch.float64 else torch.float32
    if state is None:
        state = torch.zeros(*q.shape[1:], v.shape[-1], dtype=real, device=q.device)
    with torch.autocast("cpu" if q.is_meta else q.device.type, enabled=False):
        out, last = form(q.to(real), k.to(real), v.to(real), g, beta, state, scale)
    return out.to(v.dtype), last


CAUSAL = Operation(
    "causal_attention",
    Implementation("triton", kernels.triton_why_not, _by_triton),
    Implementation("numba", kernels.numba_why_not, kernels.by_numba),
    Implementation("reference", anywhere, _in_torch),
)


def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    state: Tensor | None = None,
    scale: float = 1.0,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Causal linear attention over time, with gradients for every tensor; see this module for the equations.

    Chunks of a sequence, the state handed on, give the whole, to rounding.
    For input in half precision the gradient of the log-decay is a sum of differences of what was rounded to it, and
    the less exact the more the differences cancel.

    Args:
        q: queries `[T, B, H, D]`; float32, float64, float16 or bfloat16.
        k: keys, like `q`. The delta rule is stable for `|k| <= 1`.
        v: values `[T, B, H, E]`.
        log_decay: natural logarithm of the decay, at most 0: `[H]` (fixed), `[T, B, H]` (a number a step) or
            `[T, B, H, D]` (a number a step and channel of `k`); None for no decay.
        beta: write strength `[T, B, H]`, which turns on the delta rule.
        state: what was seen before, `[B, H, D, E]`; None for nothing.
        scale: factor of the output.
        lengths: tokens of each sequence of the batch `[B]`; what lies beyond is padding, whose output is 0 and which
            leaves the state as it is. None if all are whole.

    Returns:
        The output `[T, B, H, E]` in the dtype of `v`, and the state after the last step `[B, H, D, E]` in float32
        (float64 for float64 input).

    Raises:
        DtypeError: if q, k and v are not of one floating dtype.
        ShapeError: if the shapes do not fit.

    Source: Katharopoulos et al., ICML 2020; Sun et al., "Retentive network", 2023; Yang et al., "Gated linear
    attention", ICML 2024, and "Gated delta networks", ICLR 2025; "Kimi Linear", 2025.
    """
    check_heads("causal_attention", q, k, v)
    if q.ndim != 4:
        raise ShapeError(f"causal_attention takes q of shape [T, B, H, D], got {tuple(q.shape)}")
    real = torch.float64 if v.dtype == torch.float64 else torch.float32
    g, strength = _decay(log_decay, q, real), _fitting("beta", beta, q.shape[:3], real)
    start = _fitting("state", state, (*q.shape[1:], v.shape[-1]), real)
    if lengths is not None:
        q, k, v, g, strength = _cut_off(lengths, q, k, v, g, strength)
    if len(q) <= 1 or v.numel() == 0 or q.numel() == 0:
        return _step_by_step(q, k, v, g, strength, start, scale)
    return CAUSAL(q, k, v, g, strength, start, scale)


def mlstm_attention(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """The mLSTM with sigmoid gates, without normaliser: decay `sigmoid(f)`, keys gated by `sigmoid(i)`.

    Args:
        q: queries `[T, B, H, D]`.
        k: keys, like `q`.
        v: values `[T, B, H, E]`.
        i: pre-activations of the input gate `[T, B, H]`.
        f: pre-activations of the forget gate `[T, B, H]`.
        state: `[B, H, D, E]`; None for nothing.
        scale: factor of the output; None for `D^(-1/2)`.

    Returns:
        What `causal_attention` returns.

    Source: Beck et al., "Tiled flash linear attention", arXiv 2503.14376 (mLSTMsig).
    """
    gated = (k * i.sigmoid().unsqueeze(-1)).to(k.dtype)
    return causal_attention(
        q, gated, v, logsigmoid(f), state=state, scale=q.shape[-1] ** -0.5 if scale is None else scale
    )


def _decay(g: Tensor | None, q: Tensor, real: torch.dtype) -> Tensor | None:
    """The log-decay as `[T, B, H, 1 or D]`; e^-100 is as good as nothing, and differences of infinities are NaN."""
    if g is None:
        return None
    if g.shape == q.shape:
        return g.to(real).clamp(min=-100.0)
    if g.shape in (q.shape[:3], q.shape[2:3]):
        return g.to(real).clamp(min=-100.0).expand(q.shape[:3]).unsqueeze(-1)
    raise ShapeError(
        f"causal_attention: a log-decay of shape {tuple(g.shape)} is neither [H], [T, B, H] nor [T, B, H, D] "
        f"for q of shape {tuple(q.shape)}"
    )


def _cut_off(lengths: Tensor, q: Tensor, *rest: Tensor | None) -> Any:
    """Zeros beyond a sequence's length: no query, no key, no value, no decay."""
    if lengths.shape != q.shape[1:2]:
        raise ShapeError(f"causal_attention takes lengths of shape ({q.shape[1]},), got {tuple(lengths.shape)}")
    beyond = torch.arange(len(q), device=q.device).unsqueeze(-1) >= lengths.to(q.device)
    return [u if u is None else u.masked_fill(beyond[(...,) + (None,) * (u.ndim - 2)], 0.0) for u in (q, *rest)]


def _fitting(name: str, value: Tensor | None, shape: tuple[int, ...], real: torch.dtype) -> Tensor | None:
    if value is not None and value.shape != shape:
        raise ShapeError(f"causal_attention takes {name} of shape {tuple(shape)}, got {tuple(value.shape)}")
    return None if value is None else value.to(real)
