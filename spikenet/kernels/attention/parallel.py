"""Causal linear attention over a sequence that lies in parts on several devices, with one gather each way.

To what comes after it, a part is an affine map of the state, `S -> P S + M`: M is what its tokens write, P what they
leave of what was there (nothing changes it without decay; the product of the decays; with the delta rule a matrix).
Every process gathers the maps of all, of a size that does not depend on the tokens, and runs attention from the state
before its own part. Backwards, with `r_t` what the query of token t reads of that state, `o_t = scale r_t S + ...`,

    D_i = scale sum_t r_t^T do_t + P_i^T dS_i        L_i = D_i + P_i^T L_{i+1}

where `dS_i` is the gradient of the state that process i returned, and `L_i` that of the state before its part. Every
process gathers the D of all. Attention's own backward pass does the rest: `dS_i + L_{i+1}` is the gradient of its last
state. M, P and D are taken piece by piece, so that a part needs the memory of any sequence of its length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from spikenet.errors import RunError
from spikenet.kernels.attention.causal import _decay, causal_attention
from spikenet.kernels.attention.chunks import _cut

__all__ = ["parallel_attention"]

_PIECES = 8  # of a part: what is made of one is little beside the part
_CHUNK = 256  # tokens of one matrix product
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
    fixed = log_decay is not None and log_decay.shape == q.shape[2:3]
    falls = log_decay.expand(q.shape[:3]) if fixed else log_decay  # type: ignore[union-attr]
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):  # sums of counts need float32
        before, carries = _before(k, v, falls, beta, group)
    out, last = causal_attention(q, k, v, log_decay, beta, before, scale)
    return _Joined.apply(scale, group, carries, out, last, q, k, v, falls, beta)


class _Joined(torch.autograd.Function):
    """Hands on the output and the last state; backwards, later parts add to the gradient of that state."""

    @staticmethod
    def forward(
        ctx: Any, scale: float, group: Group, carries: list[Any], out: Tensor, last: Tensor, q: Tensor, k: Tensor,
        v: Tensor, falls: Any, beta: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.save_for_backward(q, k, None if len(v) else v, falls, beta, *carries)
        ctx.scale, ctx.group = scale, group
        return out.view_as(out), last.view_as(last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor, g_last: Tensor) -> Any:
        q, k, v, falls, beta, *carries = ctx.saved_tensors
        kept = [c.mT if _is_matrix(c) else c for c in carries]
        rank, later = distributed.get_rank(ctx.group), torch.zeros_like(g_last)
        with torch.autocast(q.device.type, enabled=False):
            read = _read(q, k, g_out, falls, beta, g_last.dtype)
            gradients = _gathered(ctx.scale * read + _carried(kept[rank], g_last), ctx.group)
            for i in reversed(range(rank + 1, len(kept))):
                later = gradients[i].view_as(later) + _carried(kept[i], later)
        # Attention knows nothing of its input where there are no tokens; elsewhere this adds nothing to what it gives.
        empty = [torch.zeros_like(u) if u is not None and not len(u) else None for u in (q, k, v, falls, beta)]
        return None, None, None, g_out, g_last + later, *empty


def _before(k: Tensor, v: Tensor, falls: Any, beta: Any, group: Group) -> tuple[Tensor, list[Tensor | None]]:
    """The state before this process's part, and P of every part."""
    own, carry = _map(k, v, falls, beta)
    maps = _gathered(own if carry is None else torch.cat([own.flatten(), carry.flatten()]), group)
    carries = [None if carry is None else m[own.numel() :].view_as(carry) for m in maps]
    state = torch.zeros_like(own)
    for written, kept in zip(maps[: distributed.get_rank(group)], carries, strict=False):
        state = _carried(kept, state) + written[: own.numel()].view_as(own)
    return state, carries


def _map(k: Tensor, v: Tensor, falls: Tensor | None, beta: Tensor | None) -> tuple[Tensor, Any]:
    """A part's M `[B, H, D, E]` and P: None, decays `[B, H, 1 or D, 1]` or matrices `[B, H, D, D]`."""
    real = torch.float64 if v.dtype == torch.float64 else torch.float32
    if beta is None:
        return _sum(k, v, falls, real, late=True)
    state = torch.cat([v.new_zeros(*k.shape[1:], v.shape[-1], dtype=real), _eye(k, real)], -1)
    for key, value, fall, strength in _pieces(k, v, falls, beta):
        both = torch.cat([value, value.new_zeros(key.shape)], -1)
        state = causal_attention(key, key, both, fall, strength, state)[1]
    return state[..., : v.shape[-1]], state[..., v.shape[-1] :]


def _read(q: Tensor, k: Tensor, g_out: Tensor, falls: Any, beta: Any, real: torch.dtype) -> Tensor:
    """`sum_t r_t^T do_t`: with the delta rule r is the output for values of 0, from a state of 1."""
    if beta is None:
        return _sum(q, g_out, falls, real, late=False)[0]
    state, total = _eye(q, real), torch.zeros((), dtype=real, device=q.device)
    for query, key, gradient, fall, strength in _pieces(q, k, g_out, falls, beta):
        query, key = query.to(real), key.to(real)
        read, state = causal_attention(query, key, torch.zeros_like(key), fall, strength, state)
        total = total + _product(read, gradient)
    return total


def _sum(a: Tensor, b: Tensor, falls: Any, real: torch.dtype, late: bool) -> tuple[Tensor, Any]:
    """`sum_t a_t^T b_t`, each decayed from its token to the end (late) or up to it from the start, and the whole decay.

    Decays add up in float64: long sums of equal terms round to one side.
    """
    total = torch.zeros(*a.shape[1:], b.shape[-1], dtype=real, device=a.device)
    if falls is None:
        for left, right in _pieces(a, b):
            total += _product(left.to(real), right)
        return total, None
    passed: Any = 0.0
    for left, right, fall in _pieces(a, b, falls)[:: -1 if late else 1]:
        g: Any = _decay(fall, left, torch.float64)
        g = g.movedim(0, -1).contiguous()  # sums along the last axis are fast
        on_the_way = g.flip(-1).cumsum(-1).flip(-1) - g if late else g.cumsum(-1)
        weight = (passed + on_the_way).exp().to(real).movedim(-1, 0)
        total += _product(left * weight, right)
        passed = passed + g.sum(-1, keepdim=True)
    return total, passed.exp().to(real)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """`sum_t a_t^T b_t` `[B, H, D, E]`."""
    return (_cut(a, _CHUNK).mT @ _cut(b.to(a.dtype), _CHUNK)).sum(0)


def _pieces(*sequences: Any) -> list[tuple[Any, ...]]:
    """Sequences of one length cut alike, into pieces of whole matrix products."""
    total = len(sequences[0])
    steps = -(-max(total, 1) // (_PIECES * _CHUNK)) * _CHUNK
    return [tuple(u if u is None else u[t : t + steps] for u in sequences) for t in range(0, max(total, 1), steps)]


def _eye(k: Tensor, real: torch.dtype) -> Tensor:
    """A state of 1, `[B, H, D, D]`."""
    return torch.eye(k.shape[-1], dtype=real, device=k.device).expand(*k.shape[1:3], -1, -1)


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
