"""Numbers as spike counts with a threshold that follows each token, and counts as spike trains."""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError, UnknownNameError

__all__ = ["Code", "SpikeCodedLinear", "SpikeCounts", "SpikeTrain", "spike_coded", "spike_counts", "spike_train"]

Code = Literal["binary", "ternary", "bitwise", "twos-complement"]
CODES = ("binary", "ternary", "bitwise", "twos-complement")


class SpikeCounts(NamedTuple):
    """Whole numbers `[..., D]`, negative ones for spikes of the other sign, and what one spike is worth, `[..., 1]`."""

    counts: Tensor
    v_threshold: Tensor


class SpikeTrain(NamedTuple):
    """Events -1, 0 and 1 `[K, ...]`, and the weight of each of the K slots: `counts = sum_k weight[k] spikes[k]`."""

    spikes: Tensor
    weight: Tensor

    @property
    def sparsity(self) -> float:
        """Share of the slots without a spike."""
        return 1.0 - self.spikes.ne(0).double().mean().item()


def spike_counts(x: Tensor, k: float = 3.0) -> SpikeCounts:
    """Each number as a count of spikes, with a threshold for each token.

        v_threshold = mean_d |x| / k, within 1e-5 to 1e4         counts = round(x / v_threshold)

    so that `x ~ counts v_threshold`. In the backward pass rounding is left out, and the threshold is a constant.

    Args:
        x: `[..., D]`.
        k: mean size of a count: more is finer, and takes more spikes.

    Raises:
        ArgumentError: if `k` is not above 0.

    Source: Pan et al., "SpikingBrain", arXiv 2509.05276, the adaptive-threshold spiking.
    """
    if not k > 0:
        raise ArgumentError(f"spike_counts wants k above 0, got {k}")
    v_threshold = (x.detach().abs().mean(-1, keepdim=True) / k).clamp(1e-5, 1e4)
    scaled = x / v_threshold
    return SpikeCounts(scaled.round().detach() + (scaled - scaled.detach()), v_threshold)


def spike_train(counts: Tensor, code: Code = "ternary") -> SpikeTrain:
    """Counts `c` as a train of K slots, exactly.

        binary             K = max c                         the first c slots are 1; no count may be negative
        ternary            K = max |c|                       the first |c| slots are the sign of c
        bitwise            K = bits of max |c|               the bits of |c|, each with the sign of c; weights 2^k
        twos-complement    K = 1 + bits of max |c|           the bits of c; weights 2^k, the last negative

    Args:
        counts: whole numbers.
        code: one of these four.

    Raises:
        ArgumentError: for numbers that are not whole, or negative ones in the binary code.
        UnknownNameError: for another code.

    Source: Pan et al., "SpikingBrain", arXiv 2509.05276, and its code.
    """
    if code not in CODES:
        raise UnknownNameError("code", code, CODES)
    whole = counts.detach().round().long()
    if not torch.equal(whole.to(counts.dtype), counts.detach()):
        raise ArgumentError("spike_train wants whole numbers; spike_counts makes them")
    if code == "binary" and bool((whole < 0).any()):
        raise ArgumentError("the binary code has no negative spikes; ternary, bitwise and twos-complement have")
    largest = int(whole.abs().max()) if whole.numel() else 0
    bits = max(largest.bit_length(), 1)
    if code in ("binary", "ternary"):
        slots = torch.arange(max(largest, 1), device=counts.device)
        spikes, weight = (slots.view(-1, *[1] * whole.ndim) < whole.abs()) * whole.sign(), torch.ones_like(slots)
    else:
        slots = torch.arange(bits + (code == "twos-complement"), device=counts.device)
        places, weight = slots.view(-1, *[1] * whole.ndim), 2**slots
        spikes = (whole.abs() >> places & 1) * whole.sign() if code == "bitwise" else whole >> places & 1
        weight = weight if code == "bitwise" else torch.cat([weight[:-1], -weight[-1:]])
    return SpikeTrain(spikes.to(counts.dtype), weight.to(counts.dtype))


class SpikeCodedLinear(nn.Linear):
    """`torch.nn.Linear` that is sent spikes: `y = v_threshold (W counts) + b` of `spike_counts(x, k)`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: learn an additive bias.
        k: mean size of a count.
        code: None adds counts as they are; a code sends them as a `spike_train`, slot by slot.

    Shape:
        `[..., K]` -> `[..., N]`.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, k: float = 3.0, code: Code | None = None
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.k, self.code = k, code

    def forward(self, x: Tensor) -> Tensor:
        counts, v_threshold = spike_counts(x, self.k)
        if self.code is None:
            sent = functional.linear(counts, self.weight)
        else:
            train = spike_train(counts, self.code)
            sent = torch.tensordot(train.weight, functional.linear(train.spikes, self.weight), 1)
            if counts.requires_grad:  # a train has no gradient of its own: its counts', straight through
                straight = functional.linear(counts, self.weight.detach())
                sent = sent + (straight - straight.detach())
        return v_threshold * sent if self.bias is None else v_threshold * sent + self.bias


def spike_coded(network: nn.Module, k: float = 3.0, code: Code | None = None) -> nn.Module:
    """A copy of a network whose every `torch.nn.Linear` is a `SpikeCodedLinear` of the same weights; one that has
    several names stays one layer.

    What uses a linear layer's weights without calling it (torch's multi-head attention) is left as it is.
    """
    whole = nn.ModuleList([copy.deepcopy(network)])
    coded = {m: _coded(m, k, code) for m in whole.modules() if type(m) is nn.Linear}
    for module in list(whole.modules()):
        for name, child in module._modules.items():
            if child in coded:
                setattr(module, name, coded[child])
    return whole[0]


def _coded(linear: nn.Linear, k: float, code: Code | None) -> SpikeCodedLinear:
    coded = SpikeCodedLinear(linear.in_features, linear.out_features, linear.bias is not None, k, code)
    coded.weight, coded.bias = linear.weight, linear.bias
    return coded.train(linear.training)
