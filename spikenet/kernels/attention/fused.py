"""Attention among tokens and the neuron that follows it, in one pass over the time steps.

`spiking_attention_lif` stands in the place of `dynamics.scan`: the neuron's input is the attention's output.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from spikenet.kernels.attention.tokens import spiking_attention
from spikenet.kernels.dynamics import scan


def spiking_attention_lif(
    q: Tensor,
    k: Tensor,
    scale: float,
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """A neuron whose input is `scale (q k^T) v`: `scan` of that, with gradients for q, k, v, states and parameters.

    For a neuron of `spikenet.neurons` with one input: `neuron._scan([v], state, by=partial(spiking_attention_lif, q,
    k, scale))`.

    Args:
        q: queries `[T, B, H, N, D]`.
        k: keys, like `q`.
        scale: factor of the neuron's input.
        program, state, params, spans, rng, final, trace: as `dynamics.scan` takes them, for lanes `[B, H, N, E]`.
        inputs: the values `[T, B, H, N, E]` alone.

    Returns:
        What `dynamics.scan` returns.
    """
    (v,) = inputs
    x = spiking_attention(q, k, v, scale)
    return scan(program, [x], state, params, spans, rng, final, trace)
