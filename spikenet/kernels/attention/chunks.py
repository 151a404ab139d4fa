"""Causal linear attention by chunks, in torch: the whole family in one formula.

With `b` the sum of the log-decays from the chunk's start, `S` the state before the chunk, and, for token i and j,

    P_ij = sum_c q_ic exp(b_ic - b_jc) k_jc  (j <= i)        M_ij likewise of k_i and k_j  (j < i)
    additive: U = V
    delta:    U = A V - A (exp(b) K) S,    A = (I + diag(beta) M)^(-1) diag(beta)

    O = (exp(b) Q) S + P U        next S = diag(exp(b_C)) S + (exp(b_C - b) K)^T U

Only exponentials of differences that are not positive are taken. What goes from chunk to chunk, `U`, `O` and `S`, is in
`carried`. Yang et al., "Parallelizing linear transformers with
the delta rule", NeurIPS 2024 (the triangular form); "Kimi Linear", 2025 (vector decay).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from spikenet.kernels.attention.carried import CARRIED

CHUNK, NARROW = 64, 16  # tokens; the second for a decay a channel, whose P takes C^2 D numbers a chunk


def chunkwise(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """See `causal.causal_attention`; `log_decay` is `[T, B, H, 1 or D]`, all of one float32 or float64 dtype."""
    size = NARROW if log_decay is not None and log_decay.shape[-1] > 1 else CHUNK
    q_, k_, v_ = (_cut(u, size) for u in (q, k, v))
    b = None if log_decay is None else _cut(log_decay, size).cumsum(-2)
    score = _scores(q_, k_, b, 0)
    early = q_ if b is None else q_ * b.exp()
    late = k_ if b is None else k_ * (b[..., -1:, :] - b).exp()
    decay = None if b is None else b[..., -1, :, None].exp()
    own, heard = (v_, None) if beta is None else _solved(k_, v_, b, _cut(beta.unsqueeze(-1), size))
    out, last = CARRIED(early, late, score, decay, own, heard, state)
    return (out * scale).permute(0, 3, 1, 2, 4).flatten(0, 1)[: len(q)], last


def _cut(x: Tensor, size: int) -> Tensor:
    """`[T, B, H, D]` -> `[chunks, B, H, C, D]`, filled up with zeros: they leave the state as it is."""
    return pad(x, (0, 0) * 3 + (0, -len(x) % size)).unflatten(0, (-1, size)).permute(0, 2, 3, 1, 4)


def _scores(q: Tensor, k: Tensor, b: Tensor | None, diagonal: int) -> Tensor:
    """`P` of the tokens up to `diagonal`: 0 takes in a token itself, -1 does not."""
    size = q.shape[-2]
    seen = torch.ones(size, size, dtype=torch.bool, device=q.device).tril(diagonal)
    if b is None:
        return (q @ k.mT).masked_fill(~seen, 0.0)
    between = (b.unsqueeze(-2) - b.unsqueeze(-3)).masked_fill(~seen.unsqueeze(-1), -torch.inf).exp()
    if b.shape[-1] == 1:
        return (q @ k.mT) * between.squeeze(-1)
    return torch.einsum("...ic,...jc,...ijc->...ij", q, k, between)


def _solved(k: Tensor, v: Tensor, b: Tensor | None, beta: Tensor) -> tuple[Tensor, Tensor]:
    """`A V` and `A (exp(b) K)`."""
    eye = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
    system = eye + beta * _scores(k, k, b, -1)
    right = beta * torch.cat([v, k if b is None else k * b.exp()], -1)
    return torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True).split(
        (v.shape[-1], k.shape[-1]), -1
    )
