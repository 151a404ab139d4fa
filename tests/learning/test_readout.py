"""Readouts against ridge regression, gradients and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spikenet.errors import ArgumentError, ShapeError, StateError
from spikenet.learning import DeltaRule, RecursiveLeastSquares


def given(steps: int = 60, batch: int = 2, ins: int = 7, outs: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(steps, batch, ins, dtype=torch.float64), torch.randn(steps, batch, outs, dtype=torch.float64)


def test_recursive_least_squares_is_ridge_regression() -> None:
    """(R^T R + ridge I)^-1 R^T y, solved by NumPy."""
    r, y = given()
    weight = torch.zeros(3, 7, dtype=torch.float64)
    RecursiveLeastSquares(ridge=0.7).run(r, y, weight)
    flat, target = r.flatten(0, 1).numpy(), y.flatten(0, 1).numpy()
    expected = np.linalg.solve(flat.T @ flat + 0.7 * np.eye(7), flat.T @ target).T
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-9)


def test_forgetting_weighs_the_past() -> None:
    """Weighted ridge regression: row n of N counts forgetting^(N - 1 - n), the penalty forgetting^N."""
    r, y = given(batch=1)
    weight, keep = torch.zeros(3, 7, dtype=torch.float64), 0.97
    RecursiveLeastSquares(ridge=0.7, forgetting=keep).run(r, y, weight)
    flat, target = r[:, 0].numpy(), y[:, 0].numpy()
    scale = keep ** np.arange(len(flat))[::-1, None]
    left = flat.T @ (scale * flat) + 0.7 * keep ** len(flat) * np.eye(7)
    np.testing.assert_allclose(weight.numpy(), np.linalg.solve(left, flat.T @ (scale * target)).T, rtol=1e-9)


def test_a_batch_entry_after_the_other_is_a_sequence() -> None:
    r, y = given()
    together, alone = torch.zeros(2, 3, 7, dtype=torch.float64)
    rule = RecursiveLeastSquares()
    output, _ = rule.run(r, y, together)
    in_order, _ = rule.run(r.reshape(-1, 1, 7), y.reshape(-1, 1, 3), alone)
    assert torch.equal(together, alone)
    assert torch.equal(output.reshape(-1, 1, 3), in_order)


@pytest.mark.parametrize(
    "rule", [RecursiveLeastSquares(), DeltaRule(lr=0.02, tau_eligibility=3.0)], ids=["rls", "delta"]
)
def test_parts_and_steps_give_what_the_whole_gives(rule: DeltaRule | RecursiveLeastSquares) -> None:
    r, y = given(20)
    whole, parted, stepped = torch.zeros(3, 3, 7, dtype=torch.float64)
    expected, _ = rule.run(r, y, whole)
    first, state = rule.run(r[:8], y[:8], parted)  # type: ignore[misc]
    second, _ = rule.run(r[8:], y[8:], parted, state)  # type: ignore[arg-type]
    state, found = None, []
    for r_t, y_t in zip(r, y, strict=True):
        out, state = rule.step(r_t, y_t, stepped, state)  # type: ignore[arg-type]
        found.append(out)
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(torch.stack(found), expected)
    assert torch.equal(parted, whole)
    assert torch.equal(stepped, whole)


def test_the_offline_delta_rule_is_the_gradient_through_time() -> None:
    """A leaky readout q[t] = W (sum of decayed r), the error's gradient by backpropagation through time: with the
    eligibility as the features of the output the three factors are exact. Gates weigh each step's and neuron's loss."""
    r, y = given(25)
    gate = torch.rand(25, 2, 3, dtype=torch.float64)
    weight = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    decay, q, loss = math.exp(-1 / 5.0), torch.zeros(2, 3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    filtered, leak = [], torch.zeros(2, 7, dtype=torch.float64)
    for r_t, y_t, a_t in zip(r, y, gate, strict=True):
        q = decay * q + r_t @ weight.T
        leak = decay * leak + r_t
        filtered.append(leak)
        loss = loss + 0.5 * (a_t * (y_t - q) ** 2).sum()
    (expected,) = torch.autograd.grad(loss, weight)
    changed = weight.detach().clone()
    DeltaRule(lr=0.1, online=False).run(torch.stack(filtered), y, changed, gate=gate)
    torch.testing.assert_close(changed - weight.detach(), -0.1 * expected, rtol=1e-10, atol=1e-12)


def test_the_eligibility_filters_the_features() -> None:
    r, y = given(25)
    decay = math.exp(-0.5 / 5.0)
    filtered = r.clone()
    for t in range(1, 25):
        filtered[t] += decay * filtered[t - 1]
    weight, expected = torch.zeros(2, 3, 7, dtype=torch.float64)
    output, state = DeltaRule(lr=0.01, tau_eligibility=5.0, dt=0.5).run(r, y, weight)
    for t in range(25):
        assert torch.allclose(output[t], r[t] @ expected.T, rtol=1e-12)
        expected += 0.01 * (y[t] - r[t] @ expected.T).mT @ filtered[t]
    torch.testing.assert_close(weight, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(state.eligibility, filtered[-1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("chance", [0.2, 0.9])
def test_the_output_learns_the_probability(chance: float) -> None:
    """Targets that come with probability p, always the same features: w r tends to p, with variance
    p (1 - p) eta / (2 - eta), eta = lr |r|^2."""
    eta, trials = 0.05, 4000
    r = torch.full((trials, 1, 4), 0.5, dtype=torch.float64)
    y = (torch.rand(trials, 1, 1) < chance).double()
    weight = torch.zeros(1, 4, dtype=torch.float64)
    output, _ = DeltaRule(lr=eta).run(r, y, weight)
    late = output[trials // 2 :, 0, 0]
    assert late.var() == pytest.approx(chance * (1 - chance) * eta / (2 - eta), rel=0.5)
    assert late.mean() == pytest.approx(chance, abs=4 * (chance * (1 - chance) / (trials / 2)) ** 0.5)


def test_the_delta_rule_adapts_where_least_squares_remember() -> None:
    """The target changes from 1 to 0 after n trials: the delta rule's error falls as (1 - eta |r|^2)^m, that of least
    squares without forgetting as n / (n + m)."""
    r = torch.ones(300, 1, 1, dtype=torch.float64)
    y = torch.cat([torch.ones(200, 1, 1), torch.zeros(100, 1, 1)]).double()
    weights = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    delta, _ = DeltaRule(lr=0.1).run(r, y, weights[0])
    squares, _ = RecursiveLeastSquares(ridge=1e-9).run(r, y, weights[1])
    m = torch.arange(100, dtype=torch.float64)
    torch.testing.assert_close(delta[200:, 0, 0], 0.9**m, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(squares[200:, 0, 0], 200 / (200 + m), rtol=1e-6, atol=1e-9)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="ridge > 0"):
        RecursiveLeastSquares(ridge=0.0)
    with pytest.raises(ArgumentError, match="finite lr"):
        DeltaRule(lr=math.nan)
    r, y = given()
    weight = torch.zeros(3, 7, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"\[T, B, I\]"):
        DeltaRule().run(y, r, weight)
    with pytest.raises(ShapeError, match="gate"):
        DeltaRule().run(r, y, weight, gate=torch.ones(3))
    _, state = DeltaRule().run(r[:, :1], y[:, :1], weight)
    with pytest.raises(StateError, match="do not go on"):
        DeltaRule().run(r, y, weight, state)
    _, inverse = RecursiveLeastSquares().run(r[..., :2], y, weight[:, :2].clone())
    with pytest.raises(StateError, match="do not go on"):
        RecursiveLeastSquares().run(r, y, weight, inverse)
