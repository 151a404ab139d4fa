"""Spiking attention against cases worked by hand."""

import pytest
import torch
from torch import Tensor, nn

from spikenet import Stream
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.kernels.attention import spiking_attention
from spikenet.layers import (
    ChannelNorm,
    ConvNorm,
    DepthwiseMixing,
    FeedForward,
    QKAttention,
    SpikeDrivenSelfAttention,
    SpikingPatchSplitting,
    SpikingSelfAttention,
)
from spikenet.layers.channels import SpikePool


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape) < 0.4).float()


def identity(layer: nn.Module, *rows: float) -> None:
    """Linear layers that pass spikes on (each block of rows with its own weight), and norms that do nothing."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            eye = torch.eye(module.in_features).repeat(module.out_features // module.in_features, 1)
            weights = torch.tensor(rows if module.out_features > module.in_features else (2.0,))
            module.weight.data = eye * weights.repeat_interleave(module.in_features)[:, None]
        if isinstance(module, ChannelNorm):
            module.eps = 0.0


@pytest.mark.parametrize(("tokens", "width"), [(3, 8), (8, 3), (5, 5), (1, 4)])
def test_both_orders_of_the_product_are_the_integers_that_numpy_gets(tokens: int, width: int) -> None:
    q, k, v = (spikes(2, 3, 4, tokens, width) for _ in range(3))
    counts = [x.to(torch.int64).numpy() for x in (q, k, v)]
    expected = counts[0] @ counts[1].swapaxes(-1, -2) @ counts[2]
    assert (spiking_attention(q, k, v).numpy() == expected).all()


def test_self_attention_by_hand() -> None:
    """Input spikes of weight 2 reach the threshold at tau = 2 at once, so q = k = v = x and the first step's scores are
    x x^T x; LIF_0.5 fires where scale * count / 2 >= 0.5, that is from a count of 8 on at a scale of 0.125."""
    layer = SpikingSelfAttention(4, heads=1).eval()
    identity(layer, 2.0, 2.0, 2.0)
    x = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 1]]).float()
    counts = x @ x.T @ x
    assert counts.tolist() == [[7, 7, 3, 2], [6, 6, 2, 2], [7, 7, 2, 3]]
    assert layer(x[None, None]).sum() == 0
    layer.scale = 0.15  # from 6.67 on
    assert layer(x[None, None])[0, 0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]


def test_heads_see_only_their_own_channels() -> None:
    layer = SpikingSelfAttention(8, heads=2, scale=1.0).eval()
    identity(layer, 2.0, 2.0, 2.0)
    x = torch.zeros(1, 1, 5, 8)
    x[..., :4] = spikes(5, 4)
    assert layer(x)[..., :4].sum() > 0
    assert layer(x)[..., 4:].sum() == 0


def test_token_attention_passes_keys_of_tokens_whose_query_fires() -> None:
    """Only the first token has a query; every token has a key."""
    layer = QKAttention(4, heads=1).eval()
    identity(layer, 1.0, 2.0)
    layer.project.linear.weight.data[0, 0] = 2.0  # the other channels' queries stay below the threshold
    x = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert layer(x[None, None])[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_channel_attention_passes_channels_that_have_a_query() -> None:
    layer = QKAttention(4, heads=2, over="channel").eval()
    identity(layer, 1.0, 2.0)
    layer.project.linear.weight.data[2, 2] = 2.0
    x = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert layer(x[None, None])[0, 0].tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_spike_driven_gate_fires_from_one_coincidence_on() -> None:
    """q is everywhere, k as the input, v in the first two channels only: channels 0 and 1 pass."""
    layer = SpikeDrivenSelfAttention(4, shortcut="sew").eval()
    identity(layer, 0.0, 2.0, 2.0)
    layer.project.norm.bias.data[:4] = 2.0
    layer.project.linear.weight.data[10:] = 0.0
    x = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 1]])
    assert layer(x[None, None])[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]


def test_feed_forward_by_hand() -> None:
    """ratio 1, membrane: h = 2 LIF(x), and h + 2 LIF(x + h)."""
    layer = FeedForward(2, 1.0, "membrane").eval()
    identity(layer)
    assert layer(torch.tensor([[[[2.0, 1.0]]]])).tolist() == [[[[4.0, 0.0]]]]
    assert layer(torch.tensor([[[[2.0, 2.0]]]])).tolist() == [[[[4.0, 4.0]]]]


def test_pool_order_matters_over_time_and_not_at_one_step() -> None:
    """Two pixels in one window, fed alternately with 2: each neuron fires, the OR is 1 1; the pooled potential is 2 at
    both steps, and its neuron fires at both. Fed with 1.5 at both steps, each fires at the second alone. Fed 1.5 in
    turn, no pixel's neuron fires (0.75, 0.375), and the neuron behind the pooling does."""
    from spikenet.layers import transformer_lif

    x = torch.zeros(2, 1, 2, 2, 1)
    x[0, 0, 0, 0], x[1, 0, 0, 1] = 1.5, 1.5
    assert SpikePool()(transformer_lif()(x)).flatten().tolist() == [0, 0]
    assert transformer_lif()(SpikePool()(x)).flatten().tolist() == [0, 1]
    before, after = (SpikingPatchSplitting(2, 16, (True,) * 4, order) for order in (True, False))
    before.load_state_dict({k: v for (_, v), k in zip(after.state_dict().items(), before.state_dict(), strict=True)})
    picture = torch.rand(1, 2, 2, 32, 32) * 4
    assert torch.equal(before.eval()(picture), after.eval()(picture))


def test_depthwise_mixing_keeps_a_checkerboard_that_averaging_loses() -> None:
    """(-1)^(i+j) through a 3x3 mean is a ninth of itself; a depth-wise kernel can pass it whole."""
    y, x = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    board = (1.0 - 2.0 * ((x + y) % 2))[None, None]
    mean = nn.functional.avg_pool2d(board, 3, 1)
    torch.testing.assert_close(mean.abs(), torch.full_like(mean, 1 / 9))
    layer = DepthwiseMixing(1, 3).eval()
    layer[1].conv.weight.data.zero_()[0, 0, 1, 1] = 1.0
    layer[1].conv.bias.data.zero_()
    layer[1].norm.eps = 0.0
    seen = layer((board * 2).unsqueeze(-1).relu())[0, 0, ..., 0]
    assert torch.equal(seen, board[0, 0].relu())


def test_streamed_attention_is_attention() -> None:
    layer = SpikingSelfAttention(8, 2, scale=1.0).eval().double()
    nn.init.normal_(layer.project.linear.weight)
    nn.init.normal_(layer.out.linear.weight)
    x = spikes(5, 2, 4, 4, 8).double()
    stream = Stream(layer)
    assert torch.equal(torch.stack([stream.step(x_t) for x_t in x]), layer(x))
    assert layer(x).sum() > 0


def test_wrong_heads_and_masks_are_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="3 heads do not divide"):
        SpikingSelfAttention(8, 3)
    with pytest.raises(ArgumentError, match="'token' or 'channel'"):
        QKAttention(8, over="row")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="multiple of 8"):
        SpikingPatchSplitting(2, 12)


def test_an_even_kernel_is_refused() -> None:
    for kernel in (0, 2):
        with pytest.raises(ArgumentError, match="odd kernel"):
            ConvNorm(4, 8, kernel)
    assert ConvNorm(4, 8, 5)(torch.zeros(2, 1, 6, 7, 4)).shape == (2, 1, 6, 7, 8)


@pytest.mark.parametrize("layer", [SpikingSelfAttention, QKAttention])
def test_an_unknown_shortcut_is_refused(layer: type[nn.Module]) -> None:
    with pytest.raises(UnknownNameError, match="swe"):
        layer(16, 2, shortcut="swe")
