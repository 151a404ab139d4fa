"""What is seen of whole networks: attention, time in every layout, norms, training, backends."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spikenet import energy
from spikenet.energy.work import COUNTERS
from spikenet.errors import ArgumentError
from spikenet.events import EventTensor
from spikenet.kernels.attention import causal_attention
from spikenet.kernels.backends import use_backend
from spikenet.layers import (
    BatchNorm2d,
    Conv2d,
    EventLinear,
    MaxPool2d,
    MeanReadout,
    SpikingLinear,
    SpikingSelfAttention,
    Stream,
)
from spikenet.neurons import IF, LIF, PLIF, LeakyReadout


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(shape) < rate).float()


def only(work: energy.Work, operation: str) -> energy.LayerWork:
    (layer,) = (layer for layer in work.layers if layer.operation == operation)
    return layer


# Products of two activations.


class Product(nn.Module):
    def forward(self, ab: torch.Tensor) -> torch.Tensor:
        a, b = ab.chunk(2, -1)
        return a @ b.transpose(-2, -1)


def by_loop(a: torch.Tensor, b: torch.Tensor, kinds: str) -> int:
    """Walk over every multiplication of ``a b^T``."""
    done = 0
    for i, j, k in itertools.product(range(a.shape[-2]), range(b.shape[-2]), range(a.shape[-1])):
        x, y = a[..., i, k], b[..., j, k]
        if kinds == "spikes meet":
            done += int(((x != 0) & (y != 0)).sum())
        elif kinds == "a selects":
            done += int(x.abs().sum())
    return done


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_spikes_that_meet_cost_an_accumulate(sign: float) -> None:
    a, b = spikes(3, 2, 4, 5), sign * spikes(3, 2, 4, 5)
    with energy.count(net := Product()) as work:
        out = net(torch.cat([a, b], -1))
    layer = only(work, "product")
    assert layer.acs == by_loop(a, b, "spikes meet") == float(out.abs().sum())
    assert (layer.macs, layer.dense_macs_steps, layer.dense_macs) == (0, 6 * 4 * 4 * 5, 2 * 4 * 4 * 5)
    assert layer.values == ("spikes" if sign > 0 else "ternary")


def test_counts_times_spikes_are_added_where_a_spike_selects_them() -> None:
    a, b = torch.poisson(torch.ones(3, 2, 4, 5)), spikes(3, 2, 4, 5)
    with energy.count(net := Product()) as work:
        net(torch.cat([a, b], -1))
    assert (work.acs, work.macs) == (by_loop(a, b, "spikes meet"), 0)


def test_spikes_select_real_values_and_real_values_multiply() -> None:
    a, b = spikes(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    with energy.count(net := Product()) as work:
        net(torch.cat([a, b], -1))
    assert (work.acs, work.macs) == (by_loop(a, b, "a selects"), 0)
    with energy.count(net) as work:
        net(torch.cat([b, b], -1))
    assert (work.acs, work.macs) == (0, 6 * 4 * 4 * 5)


@pytest.mark.parametrize("equation", ["tbnk,tbmk->tbnm", "tbnk,tbmk->tbmn"])
def test_einsum_is_a_product(equation: str) -> None:
    class Mixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum(equation, x, x)

    x = spikes(3, 2, 4, 5)
    with energy.count(net := Mixed()) as work:
        net(x)
    assert work.acs == by_loop(x, x, "spikes meet")


def test_softmax_attention_in_one_operation() -> None:
    class Softmax(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    x = spikes(3, 2, 4, 5)
    with energy.count(net := Softmax()) as work:
        net(x)
    assert work.acs == by_loop(x, x, "spikes meet") + 4 * int(x.sum())  # v's spikes select real weights
    assert not work.uncounted


def test_torch_s_fused_transformer_is_opened() -> None:
    """Projections of 8 to 24 and of 8 to 8, the feed-forward layer, and q k^T and its product with v."""
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    with torch.inference_mode(), energy.count(net, strict=True) as work:
        net(torch.randn(3, 5, 8))
    linear, products = 15 * (8 * 24 + 8 * 8 + 2 * 8 * 16), 2 * 3 * 5 * 5 * 8
    assert sum(layer.dense_macs_steps for layer in work.layers) == linear + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_weights_used_in_a_function_are_a_connection() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.mask = nn.Parameter(torch.randn(7, 5)), nn.Buffer(torch.ones(7, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, self.weight * self.mask) + torch.einsum("tbi,oi->tbo", x, self.weight)

    x = spikes(3, 2, 5)
    with energy.count(net := Functional()) as work:
        net(x)
    assert only(work, "connection").acs == 2 * 7 * int(x.sum())
    assert (work.dense_macs, work.dense_macs_steps) == (2 * 2 * 35, 3 * 2 * 2 * 35)
    assert work.per_step("acs").tolist() == [2 * 7 * int(x_t.sum()) for x_t in x]
    assert only(work, "other").total("adds") == 3 * 2 * 7


# Time.


class Plain(nn.Module):
    """Layers that know no time, called as `Whole`, `Folded` and `Loop` do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.MaxPool2d(2)
        self.head = nn.Linear(4 * 3 * 3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.conv(x).gt(0.0).float()).flatten(-3))


class Folded(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Loop(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([super(Loop, self).forward(x_t) for x_t in x])


def series(work: energy.Work) -> dict[tuple[str, str, str], np.ndarray]:
    return {(layer.name, layer.operation, name): s for layer in work.layers for name, s in layer.steps.items()}


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6])
def test_time_folded_in_a_loop_and_call_by_call_cost_the_same_at_each_step(batch: int) -> None:
    x, (plain, folded, loop) = spikes(4, batch, 2, 6, 6), (Plain(), Folded(), Loop())
    folded.load_state_dict(plain.state_dict())
    loop.load_state_dict(plain.state_dict())
    with energy.count(folded) as expected:
        folded(x)
    with energy.count(loop) as looped:
        loop(x)
    with energy.count(plain, calls=4) as called:
        for _ in range(2):
            for x_t in x:
                plain(x_t)
    truth = series(expected)
    conv = truth["conv", "connection", "events"]
    assert conv.tolist() == x.flatten(1).sum(1).tolist()
    assert truth["network", "other", "comparisons"].tolist() == [batch * 4 * 36] * 4
    assert (expected.T, expected.samples, called.T, called.samples) == (4, batch, 4, 2 * batch)
    for name, found in truth.items():
        np.testing.assert_array_equal(series(looped)[name], found, err_msg=str(name))
        np.testing.assert_array_equal(series(called)[name], 2 * found, err_msg=str(name))
    assert expected.dense_macs == looped.dense_macs == called.dense_macs / 2
    assert expected.dense_macs_steps == 4 * expected.dense_macs


def test_a_stream_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), LIF(), nn.Linear(8, 3), LeakyReadout())
    x = spikes(6, 3, 6, rate=0.8)
    with energy.count(net) as expected:
        net(x)
    with energy.count(stream := Stream(net)) as work:
        for _ in range(2):
            stream.reset()
            for chunk in x.split(2):
                stream(chunk)
    assert (work.T, work.samples) == (6, 6)
    np.testing.assert_array_equal(work.per_step("acs"), 2 * expected.per_step("acs"))
    np.testing.assert_array_equal(work.per_step("updates"), 2 * expected.per_step("updates"))
    assert work.dense_macs == 2 * expected.dense_macs


def test_a_network_that_makes_its_own_steps() -> None:
    class Repeats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.expand(4, *x.shape))

    with energy.count(net := Repeats(), steps=4) as work:
        net(torch.ones(3, 5))
    assert work.per_step("acs").tolist() == [3 * 5 * 2] * 4
    assert (work.samples, work.dense_macs) == (3, 30)
    with pytest.raises(ArgumentError, match="steps or calls"), energy.count(net, steps=4, calls=4):
        pass


# Norms, pools, neurons.


def test_batch_norm_behind_a_connection_is_free_and_elsewhere_is_not() -> None:
    x = spikes(3, 2, 4, 6, 6)
    net = nn.Sequential(Conv2d(4, 4, 3, padding=1, bias=False), BatchNorm2d(4), LIF(), BatchNorm2d(4)).eval()
    for context in (torch.no_grad, torch.inference_mode):
        with context(), energy.count(net) as work:
            net(x)
        (norm,) = (layer for layer in work.layers if layer.operation == "norm")
        assert (norm.name, norm.total("adds"), norm.total("multiplies")) == ("3", x.numel(), x.numel())


def test_pools_norms_and_residuals_by_hand() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.average, self.norm = nn.MaxPool2d(2), nn.AvgPool2d(3), nn.LayerNorm(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(0, 1)
            return self.norm(self.average(self.pool(x + x))).relu()

    with energy.count(net := Residual()) as work:
        net(spikes(3, 2, 4, 12, 12))
    found = {(layer.name, layer.operation): layer for layer in work.layers}
    n, pooled, left = 6 * 4 * 144, 6 * 4 * 36, 6 * 4 * 4
    assert found["network", "other"].total("adds") == n
    assert found["network", "other"].total("comparisons") == left
    assert found["pool", "pool"].total("comparisons") == pooled * 4
    assert found["pool", "pool"].values == "counts"
    assert (found["average", "pool"].total("adds"), found["average", "pool"].total("multiplies")) == (left * 9, left)
    assert found["norm", "norm"].total("multiplies") == 3 * left


def test_neurons_by_their_equations() -> None:
    """IF: one addition, the distance to the threshold, one comparison; a hard reset selects."""
    with energy.count(net := IF()) as work, torch.no_grad():
        out = net(torch.rand(5, 2, 3))
    layer = only(work, "neuron")
    assert (layer.updates, layer.spikes, layer.total("resets")) == (30, float(out.sum()), float(out.sum()))
    assert (layer.total("state_reads"), layer.total("state_writes")) == (30, 30)
    assert layer.total("comparisons") == 30
    assert layer.bits.output == 1
    assert layer.bits.state == 32
    with energy.count(net := LeakyReadout()) as work:
        net(torch.rand(5, 2, 3))
    assert only(work, "neuron").total("resets") == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_backend_and_dtype_counts_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(Conv2d(2, 4, 3, stride=2), IF(), MaxPool2d(2), nn.Flatten(2), SpikingLinear(4 * 9, 6), IF())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((8 * parameter).round() / 8)  # every sum is exact in every dtype
    net.to(dtype)
    x = spikes(5, 3, 2, 14, 14).to(dtype)
    counts = []
    for backend in ("numba", "reference"):
        with use_backend(backend), energy.count(net) as work, torch.inference_mode():
            net(x)
        counts.append(series(work))
    assert counts[0].keys() == counts[1].keys()
    for name, found in counts[0].items():
        np.testing.assert_array_equal(found, counts[1][name], err_msg=str(name))


def test_attention_and_its_neuron_in_one_kernel_count_as_apart() -> None:
    """Whatever backend is forced, the count itself picks its own."""
    net = SpikingSelfAttention(16, 2).eval()
    for parameter in (p for p in net.parameters() if p.ndim > 1):
        parameter.data = torch.randint(0, 3, parameter.shape).float()
    x, counts = spikes(2, 1, 3, 16), []
    for backend in ("reference", "triton"):
        with use_backend(backend), energy.count(net, strict=True) as work, torch.no_grad():
            net(x)
        counts.append(series(work))
    assert sum(
        found.sum() for (_, operation, name), found in counts[0].items() if (operation, name) == ("product", "acs")
    )
    assert counts[0].keys() == counts[1].keys()
    for name, found in counts[0].items():
        np.testing.assert_array_equal(found, counts[1][name], err_msg=str(name))


@pytest.mark.parametrize("decay", [None, torch.tensor([-0.5, -0.1])])
def test_causal_attention_in_a_kernel_counts_as_elsewhere(decay: torch.Tensor | None) -> None:
    class Causal(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return causal_attention(*x.unflatten(-1, (2, 12)).split(4, -1), decay)[0]

    x, counts = spikes(5, 1, 24), []
    for backend in ("reference", "numba", "triton"):
        with use_backend(backend), energy.count(net := Causal(), strict=True) as work, torch.no_grad():
            net(x)
        counts.append({name: work.total(name) for name in COUNTERS})
    assert counts[0] == counts[1] == counts[2]
    assert work.acs + work.macs > 0


@pytest.mark.parametrize("channels", [None, 1, 4])
@pytest.mark.parametrize("delta", [True, False])
def test_causal_attention_by_chunks_counts_tokens_not_chunks(delta: bool, channels: int | None) -> None:
    class Causal(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v, gates = x.unflatten(-1, (2, 17)).split((4, 4, 4, 5), -1)
            decay = None if channels is None else -gates[..., : 4 if channels == 4 else 1]
            decay = decay.squeeze(-1) if channels == 1 else decay
            return causal_attention(q, k, v, decay, gates[..., 4] if delta else None)[0]

    counts = []
    for steps in (5, 70):  # less than a chunk, and more
        for backend in ("reference", None):
            x = torch.ones(steps, 1, 34)
            with use_backend(backend), energy.count(net := Causal(), strict=True) as work, torch.no_grad():
                net(x)
            counts.append({name: work.total(name) for name in COUNTERS})
    assert counts[0::2] == counts[1::2]  # step by step, every operation seen
    assert counts[0]["acs"] + counts[0]["macs"] > 0


def test_gradients_are_the_same_to_the_last_bit_and_backward_is_not_counted() -> None:
    net = nn.Sequential(
        Conv2d(2, 4, 3, padding=1), BatchNorm2d(4), PLIF(), nn.Flatten(2), nn.Linear(4 * 36, 5), LIF(), MeanReadout()
    )
    x = spikes(4, 3, 2, 6, 6)

    def gradients() -> list[torch.Tensor]:
        net.zero_grad()
        net(x).square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    plain = gradients()
    with energy.count(net) as work:
        counted = gradients()
    with energy.count(net) as forward, torch.no_grad():
        net(x)
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    assert work.total("adds") == forward.total("adds")
    assert (work.acs, work.macs) == (forward.acs, forward.macs)


def test_events_and_frames_agree_on_every_counter() -> None:
    x = torch.poisson(torch.full((4, 3, 20), 0.3))
    layer = EventLinear(20, 5)
    with energy.count(layer) as work:
        layer(EventTensor.from_dense(x))
    with energy.count(layer) as other:
        layer(x)
    for name, found in series(work).items():
        np.testing.assert_array_equal(found, series(other)[name], err_msg=str(name))
    assert work.layers[0].values == "counts"
    assert work.layers[0].total("weight_reads") == 5 * int((x != 0).sum())
    assert work.layers[0].total("dense_weight_reads") == 4 * 3 * 100


def test_a_neuron_of_ones_own() -> None:
    class Mine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.sigmoid() > 0.5).float()

    cost = energy.NeuronCost(states=2, adds=3, multiplies=4, comparisons=5, resets=False)
    with energy.count(net := nn.Sequential(Mine()), neurons={Mine: cost}) as work:
        out = net(torch.randn(3, 2, 4))
    (layer,) = work.layers
    assert (layer.operation, layer.updates, layer.spikes) == ("neuron", 24, float(out.sum()))
    names = ("adds", "multiplies", "comparisons", "state_reads", "resets")
    assert [layer.total(name) for name in names] == [72, 96, 120, 48, 0]
