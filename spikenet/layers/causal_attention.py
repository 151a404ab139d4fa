"""Causal linear attention of spikes, with a constant state, and over sequences in parts on several devices."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from spikenet.errors import ArgumentError, StateError, UnknownNameError
from spikenet.kernels.attention import causal_attention, parallel_attention
from spikenet.layers.rwkv import TokenShift
from spikenet.neurons import Neuron
from spikenet.neurons.carry import carrier

__all__ = ["Binary", "CausalSpikingAttention", "sequence_parallel"]

Decay = Literal["none", "fixed", "gated"]
_GATE = 16.0  # root of the gate that GLA takes


class Binary(Neuron):
    """1 where the input is not negative: a neuron without memory, for its surrogate."""

    state = {"v": 0.0}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v}


class CausalSpikingAttention(nn.Module):
    """Causal linear attention with binary queries, keys and values; tokens are time steps.

        q, k, v = step(W x), in heads of d = D / heads
        S_t = a_t S_{t-1} + k_t^T v_t        o_t = d^(-1/2) q_t S_t        y = W_o o

    with a = 1 (decay="none": counts of coincidences), a = 1 - 2^(-5 - h) for head h ("fixed"), or
    a_t = sigmoid(W_a x_t)^(1/16) a head ("gated"). What the tokens become before attention depends on no other token,
    so that `sequence_parallel` can spread a sequence over devices.

    Args:
        dim: D, features of a token.
        heads: number of heads.
        decay: how the state forgets.

    Shape:
        `[T, B, D]` -> the same. A stream carries the state `[B, heads, d, d]`.

    Raises:
        ArgumentError: if the heads do not divide the width. UnknownNameError: for another decay.

    Source: Katharopoulos et al., ICML 2020; the decays of Sun et al., "Retentive network", 2023, and Yang et al.,
    "Gated linear attention", ICML 2024. The binary projections are ours.
    """

    log_decay: Tensor | None

    def __init__(self, dim: int, heads: int = 8, decay: Decay = "fixed") -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ArgumentError(f"CausalSpikingAttention: {heads} heads do not divide a width of {dim} evenly.")
        if decay not in get_args(Decay):
            raise UnknownNameError("decay", decay, get_args(Decay))
        self.heads, self.decay = heads, decay
        self.project, self.binary = nn.Linear(dim, 3 * dim), Binary()
        self.gate = nn.Linear(dim, heads) if decay == "gated" else None
        fixed = torch.log1p(-(2.0 ** (-5.0 - torch.arange(heads)))) if decay == "fixed" else None
        self.register_buffer("log_decay", fixed, persistent=False)
        self.out = nn.Linear(dim, dim)
        self.attend: Any = causal_attention

    def forward(self, x: Tensor) -> Tensor:
        heads = (part.unflatten(-1, (self.heads, -1)) for part in self.binary(self.project(x)).chunk(3, -1))
        q, k, v = heads
        g = self.log_decay if self.gate is None else logsigmoid(self.gate(x)) / _GATE
        attend, running = functools.partial(self.attend, q, k, v, g, scale=q.shape[-1] ** -0.5), carrier()
        if running is None:
            return self.out(attend()[0].flatten(2))
        if self.attend is not causal_attention:
            raise StateError("CausalSpikingAttention over several devices cannot be streamed; stream on one.")
        key, state = running.take(self, x)
        y, state = attend(state=state)
        running.put(key, state)
        return self.out(y.flatten(2))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, decay={self.decay!r}"


def sequence_parallel(net: nn.Module, group: Any = None) -> nn.Module:
    """Let the causal attention of `net` run over sequences whose parts lie on several processes, in their order.

    Each process calls the network on its part `[T_r, B, D]`, all together, and gets the output of that part. The
    gradients of the weights are those of the part's own loss terms: their sum over the processes is that of the whole,
    and `DistributedDataParallel` takes their mean.

    Args:
        net: a network that mixes time steps in `CausalSpikingAttention` alone; changed in place.
        group: the processes; None for all.

    Returns:
        `net`.

    Raises:
        ArgumentError: if there is no such attention in `net`, or another module with a memory, whose state before a
            part would not be known.
    """
    found = [m for m in net.modules() if isinstance(m, CausalSpikingAttention)]
    if not found:
        raise ArgumentError(f"sequence_parallel finds no CausalSpikingAttention in {type(net).__name__}.")
    for name, module in net.named_modules():
        if _remembers(module):
            raise ArgumentError(
                f"sequence_parallel: {name or 'the network'} ({type(module).__name__}) carries a state from step to "
                "step, which one gather cannot give; only CausalSpikingAttention may mix time steps."
            )
    for module in found:
        module.attend = functools.partial(parallel_attention, group=group)
    return net


def _remembers(module: nn.Module) -> bool:
    """Whether what a module makes of a step depends on others: it can be run in parts, or takes statistics."""
    norm = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    recurrent = isinstance(module, nn.RNNBase | nn.MultiheadAttention)
    runs = hasattr(module, "run") or isinstance(module, TokenShift)
    return norm or recurrent or (runs and not isinstance(module, Binary))
