"""Attention without softmax for spikes: over tokens, in windows, and causal with a state."""

from spikenet.kernels.attention.causal import causal_attention, mlstm_attention
from spikenet.kernels.attention.fused import spiking_attention_lif
from spikenet.kernels.attention.parallel import parallel_attention
from spikenet.kernels.attention.tokens import qk_channel, qk_token, spiking_attention, windowed_attention

__all__ = [
    "causal_attention",
    "mlstm_attention",
    "parallel_attention",
    "qk_channel",
    "qk_token",
    "spiking_attention",
    "spiking_attention_lif",
    "windowed_attention",
]
