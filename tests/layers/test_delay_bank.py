"""Synapses at every delay: events sent on one by one, logistic regression, chunks, pruning, and motifs in rasters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import prune

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events import EventTensor
from spikenet.layers import DelayBank, DelayBankConv2d, Stream


def spikes(*shape: int, rate: float = 0.15) -> Tensor:
    return (torch.rand(shape) < rate).double()


def drawn(layer: DelayBank | DelayBankConv2d) -> DelayBank | DelayBankConv2d:
    """The layer in float64 with weights that are not 0."""
    layer = layer.double()
    torch.nn.init.normal_(layer.weight)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


def sent_on(layer: DelayBank | DelayBankConv2d, x: Tensor) -> Tensor:
    """Each event (t, address) sent on over each synapse as (t + delay, address), and nothing else."""
    weight = layer.weight.detach()
    if weight.ndim == 3:
        weight, x = weight[:, :, None, None], x[..., None, None]
    outputs, _, height, width, taps = weight.shape
    places = x.shape[3] - height + 1, x.shape[4] - width + 1
    y = torch.zeros(len(x), x.shape[1], outputs, *places, dtype=x.dtype)
    for t, b, c, row, column in x.nonzero().tolist():
        for m in range(height):
            for n in range(width):
                for d in range(taps):
                    if t + d < len(x) and 0 <= row - m < places[0] and 0 <= column - n < places[1]:
                        y[t + d, b, :, row - m, column - n] += weight[:, c, m, n, d]
    if layer.bias is not None:
        y += layer.bias.detach()[:, None, None]
    return y if layer.weight.ndim == 5 else y[..., 0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_equals_events_sent_on_one_by_one(training: bool) -> None:
    cases = [(DelayBank(5, 3, 6), (9, 2, 5)), (DelayBankConv2d(2, 3, (3, 2), 4), (7, 2, 2, 5, 4))]
    for made, shape in cases:
        layer, x = drawn(made).train(training), spikes(*shape)
        torch.testing.assert_close(layer(x), sent_on(layer, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_events_chunks_and_streams_are_heard_like_the_whole(training: bool) -> None:
    """To the last bit for the linear layer; a convolution adds up another shape in another order."""
    cases = [(DelayBank(5, 3, 6), (12, 2, 5), 0.0), (DelayBankConv2d(2, 3, 3, 4), (12, 2, 2, 5, 4), 1e-12)]
    for made, shape, error in cases:
        layer, x = drawn(made).train(training), spikes(*shape)
        whole, stream = layer(x), Stream(layer)
        state, parts = None, []
        for chunk in x.split(5):
            y, state = layer.run(chunk, state)
            parts.append(y)
        for other in (torch.cat(parts), torch.stack([stream.step(x_t) for x_t in x]), layer(EventTensor.from_dense(x))):
            torch.testing.assert_close(other, whole, atol=error, rtol=0)


def test_the_gradient_is_that_of_logistic_regression() -> None:
    """dL/dK[i, j, d] = sum_t (sigmoid(y[t, i]) - label[t, i]) x[t - d, j], of the sum of binary cross-entropies."""
    layer, x = drawn(DelayBank(4, 3, 5)), spikes(30, 1, 4, rate=0.4)
    labels = spikes(30, 1, 3, rate=0.3)
    y = layer(x)
    functional.binary_cross_entropy_with_logits(y, labels, reduction="sum").backward()
    error = (y.detach().sigmoid() - labels)[:, 0]
    for d in range(5):
        expected = error[d:].T @ x[: len(x) - d, 0]
        torch.testing.assert_close(layer.weight.grad[:, :, d], expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(layer.bias.grad, error.sum(0), atol=1e-10, rtol=0)
    assert layer.delay.grad is None


def test_finds_what_scikit_learn_finds() -> None:
    """Logistic regression on the unfolded past, with the same penalty."""
    from sklearn.linear_model import LogisticRegression

    inputs, taps = 3, 4
    layer, x = DelayBank(inputs, 1, taps).double(), spikes(400, 1, inputs, rate=0.4)
    past = torch.stack([functional.pad(x[:, 0], (0, 0, d, 0))[: len(x)] for d in range(taps)], -1).flatten(1)
    labels = (torch.rand(len(x)) < (past @ torch.randn(past.shape[1], dtype=torch.float64)).sigmoid()).double()
    optimiser = torch.optim.LBFGS(layer.parameters(), lr=1, max_iter=200, tolerance_grad=1e-10, tolerance_change=0)

    def loss() -> Tensor:
        optimiser.zero_grad()
        cost = functional.binary_cross_entropy_with_logits(layer(x)[:, 0, 0], labels, reduction="sum")
        cost = cost + layer.weight.square().sum() / 2
        cost.backward()
        return cost

    optimiser.step(loss)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(past.numpy(), labels.numpy())
    np.testing.assert_allclose(layer.weight.detach().flatten().numpy(), theirs.coef_[0], atol=1e-5)
    assert layer.bias.item() == pytest.approx(float(theirs.intercept_[0]), abs=1e-5)


def test_pruned_synapses_send_nothing_on() -> None:
    layer, x = drawn(DelayBankConv2d(2, 3, 3, 4)), spikes(8, 1, 2, 5, 5)
    kept = layer.weight.detach().abs().flatten().topk(20).indices
    prune.l1_unstructured(layer, "weight", layer.weight.numel() - 20)
    assert layer.weight.flatten().nonzero().flatten().tolist() == sorted(kept.tolist())
    torch.testing.assert_close(layer(x), sent_on(layer, x), atol=1e-12, rtol=0)
    torch.testing.assert_close(layer.eval()(x), sent_on(layer, x), atol=1e-12, rtol=0)


def test_motifs_are_found_in_a_raster() -> None:
    """128 neurons, 144 motifs, 31 delays, 1000 steps, one motif of each kind on average, at 1 % of the synapses
    (Perrinet, ICANN 2023: 98.8 % found, neuron and exact step). The size of the weights is not published; ours is 8."""
    neurons, motifs, taps, steps, background = 128, 144, 31, 1000, 1e-3
    layer = DelayBank(neurons, motifs, taps).eval()
    active = torch.rand(motifs, neurons, taps) < 0.01
    layer.weight.data = torch.where(active, 8.0, 0.0)
    events = (torch.rand(steps - taps + 1, motifs) < 1 / steps).float()
    sent = torch.zeros(steps, neurons)
    for t, b in events.nonzero().tolist():
        sent[t : t + taps] += layer.weight[b].detach().flip(-1).T  # the motif is whole at t + taps - 1
    raster = (torch.rand(steps, neurons) < (sent + math.log(background / (1 - background))).sigmoid()).float()
    with torch.no_grad():
        evidence = layer(raster[:, None])[:, 0]
    most = evidence.flatten().topk(int(events.sum())).indices
    found = torch.zeros(steps * motifs).index_fill(0, most, 1.0).view(steps, motifs)[taps - 1 :]
    assert float(found[events == 1].mean()) > 0.98


def test_starts_without_evidence_and_keeps_its_delays() -> None:
    layer = DelayBank(3, 2, 4)
    assert bool((layer(spikes(6, 1, 3).float()) == 0).all())
    assert layer.delay.flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not layer.delay.requires_grad
    for wrong, error in (
        (lambda: DelayBank(3, 2, 0), ArgumentError),
        (lambda: layer(torch.zeros(4, 1, 5)), ShapeError),
    ):
        with pytest.raises(error):
            wrong()
