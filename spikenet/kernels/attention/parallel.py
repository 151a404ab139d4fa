"""Causal linear attention over a sequence that lies in parts on several devices, with one gather each way.

To what comes after it, a part is an affine map of the state, `S -> P S + M`: M is what its tokens write, P what they
leave of what was there (nothing changes it without decay; the product of the decays; with the delta rule a matrix).
Every process gathers the maps of all, of a size that does not depend on the tokens, and knows the state before its own
part. Backwards it gathers the gradients of those states: with `L_i = dS_i + P_i^T L_{i+1}`,

    dM_i = L_{i+1}        dP_i = L_{i+1} S_i^T
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from spikenet.errors import RunError
from spikenet.kernels.attention.causal import _decay, causal_attention
from spikenet.kernels.attention.chunks import _cut

__all__ = ["parallel_attention"]

_PIECE = 512  # tokens of one matrix product
Group = Any  # torch's ProcessGroup, or None for all processes


def parallel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float = 1.0,
    group: Group = None,
) -> tuple[Tensor, Tensor]:
    """`causal_attention` over a sequence whose parts lie on the processes of `group`, in their order.

    Each process gives its part, which may be of any length, and all call together, forwards and backwards. What is sent
    is one state, with its decay, a process and direction, however long the parts are.

    Args:
        q, k, v, log_decay, beta, scale: as `causal_attention` takes them, of this process's part.
        group: the processes; None for all.

    Returns:
        The output of this part, and the state after it.

    Raises:
        RunError: if torch.distributed was not initialised.

    Source: Sun et al., "LASP-2: rethinking sequence parallelism for linear attention and its hybrid", 2025; decay and
    the delta rule by the affine maps above.
    """
    if not distributed.is_initialized():
        raise RunError("parallel_attention needs torch.distributed.init_process_group, in as many processes as parts.")
    # What the map is made of is made again for the backward pass, so that no more is kept than on one device.
    own, carry = checkpoint(_map, q, k, v, log_decay, beta, use_reentrant=False, preserve_rng_state=False)
    before = _Before.apply(own, carry, group)
    return causal_attention(q, k, v, log_decay, beta, before, scale)


def _map(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None) -> tuple[Tensor, Any]:
    """A part's M `[B, H, D, E]` and P: None, decays `[B, H, 1 or D, 1]` or matrices `[B, H, D, D]`."""
    real = torch.float64 if v.dtype == torch.float64 else torch.float32
    if beta is not None:
        both = torch.cat([v, v.new_zeros(*v.shape[:3], q.shape[-1])], -1)
        start = torch.eye(q.shape[-1], dtype=real, device=q.device).expand(*q.shape[1:3], -1, -1)
        start = torch.cat([start.new_zeros(*q.shape[1:], v.shape[-1]), start], -1)
        last = causal_attention(q, k, both, log_decay, beta, start)[1]
        return last[..., : v.shape[-1]], last[..., v.shape[-1] :]
    g, pieces_k, pieces_v = _decay(log_decay, q, real), _cut(k.to(real), _PIECE), _cut(v.to(real), _PIECE)
    if g is None:
        return (pieces_k.mT @ pieces_v).sum(0), None
    falls = _cut(g.double(), _PIECE)  # long sums of equal terms round to one side
    each = falls.sum(-2)
    pieces = (pieces_k * _later(falls, -2).exp().to(real)).mT @ pieces_v
    written = (pieces * _later(each, 0).exp().to(real).unsqueeze(-1)).sum(0)
    return written, each.sum(0).exp().to(real).unsqueeze(-1)


def _later(x: Tensor, axis: int) -> Tensor:
    """The sum of what follows along an axis."""
    return x.flip(axis).cumsum(axis).flip(axis) - x


class _Before(torch.autograd.Function):
    """The state before this process's part, from the maps of all parts."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, carry: Tensor | None, group: Group) -> Tensor:
        maps = _gathered(own if carry is None else torch.cat([own.flatten(), carry.flatten()]), group)
        owns = [m[: own.numel()].view_as(own) for m in maps]
        carries = [None if carry is None else m[own.numel() :].view_as(carry) for m in maps]
        state = torch.zeros_like(own)
        for written, kept in zip(owns[: distributed.get_rank(group)], carries, strict=False):
            state = _carried(kept, state) + written
        ctx.save_for_backward(state, *carries)
        ctx.group = group
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_state: Tensor) -> tuple[Tensor, Tensor | None, None]:
        state, *carries = ctx.saved_tensors
        rank, later = distributed.get_rank(ctx.group), torch.zeros_like(state)
        gradients = _gathered(g_state, ctx.group)
        for i in reversed(range(rank + 1, len(carries))):
            kept = carries[i]
            later = gradients[i].view_as(state) + _carried(kept.mT if _is_matrix(kept) else kept, later)
        mine = carries[rank]
        if mine is None:
            return later, None, None
        full = later @ state.mT if _is_matrix(mine) else (later * state).sum(-1, keepdim=True)
        return later, full.sum_to_size(mine.shape), None


def _is_matrix(carry: Tensor | None) -> bool:
    return carry is not None and carry.shape[-1] > 1


def _carried(carry: Tensor | None, state: Tensor) -> Tensor:
    if carry is None:
        return state
    return carry @ state if _is_matrix(carry) else carry * state


def _gathered(mine: Tensor, group: Group) -> list[Tensor]:
    """What every process gives, flat."""
    mine = mine.detach().flatten().contiguous()
    found = [torch.empty_like(mine) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(found, mine, group=group)
    return found
