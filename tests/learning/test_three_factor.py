"""Three-factor rules against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError, StateError
from spikenet.learning import STDP, RewardSTDP, ThreeFactor, TripletSTDP

FREE = {"w_min": -math.inf, "w_max": math.inf}


def spikes(*shape: int, rate: float = 0.2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator) < rate).double()


@pytest.mark.parametrize("late", [0.2, 1.0, 2.5])
def test_a_pair_and_a_late_reward(late: float) -> None:
    """c0 d0 exp(-T/tau_c) tau_c tau_d / (tau_c + tau_d): in steps of a tenth of a millisecond, times in seconds."""
    dt, tau_c, tau_d, lr, reward = 1e-3, 1.0, 0.2, 3.0, 0.7
    pair = STDP(a_plus=0.1, tau_plus=0.02, dt=dt, **FREE)
    rule = RewardSTDP(rule=pair, tau_eligibility=tau_c, tau_modulator=tau_d, lr=lr)
    steps, first = 6000, round(late / dt)
    pre, post, given = (torch.zeros(steps, 1, 1, dtype=torch.float64) for _ in range(3))
    pre[0], post[10], given[10 + first] = 1.0, 1.0, reward
    weight = torch.zeros(1, 1, dtype=torch.float64)
    state = rule.run(pre, post, weight, given[:, :, 0])
    c0 = 0.1 * math.exp(-10 * dt / 0.02)
    expected = lr * c0 * reward * math.exp(-late / tau_c) * tau_c * tau_d / (tau_c + tau_d)
    assert weight.item() == pytest.approx(expected, rel=5e-3)  # the sum of steps for the integral
    assert state.eligibility.item() == pytest.approx(c0 * math.exp(-(steps - 11) * dt / tau_c), rel=1e-9)
    exact = lr * dt * c0 * reward * math.exp(-late / tau_c) / -math.expm1(-dt / tau_c - dt / tau_d)
    assert weight.item() == pytest.approx(exact, rel=1e-4)  # what is left after the end is cut off


def test_r_max_is_the_gradient_of_the_expected_reward() -> None:
    """A neuron with escape noise, over all 2^T spike trains that it can give: the mean update against autograd."""
    steps, tau, width, theta, keep = 6, 4.0, 0.4, 0.8, math.exp(-1 / 4.0)
    pre = spikes(steps, 3, rate=0.5)
    trains = torch.tensor([[(n >> t) & 1 for n in range(2**steps)] for t in range(steps)], dtype=torch.float64)
    reward = torch.randn(2**steps, dtype=torch.float64)
    weight = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    u, earlier, chances = torch.zeros(2**steps, dtype=torch.float64), torch.zeros_like(reward), []
    for now, z in zip(pre, trains, strict=True):
        u = keep * u + now @ weight[0] - theta * earlier
        chances.append(torch.sigmoid((u - theta) / width))
        earlier = z
    p = torch.stack(chances)
    likelihood = torch.where(trains > 0, p, 1 - p).prod(0)
    (wanted,) = torch.autograd.grad((likelihood * reward).sum(), weight)

    rule = ThreeFactor(rule=STDP(a_plus=1 / width, a_minus=0.0, tau_plus=tau, **FREE), tau_eligibility=math.inf)
    given = torch.zeros(steps, 2**steps, dtype=torch.float64)
    given[-1] = (likelihood * reward).detach()  # each train as often as it comes
    learned = weight.detach().clone()
    rule.run(pre[:, None].expand(-1, 2**steps, -1), (trains - p.detach())[..., None], learned, given)
    torch.testing.assert_close(learned - weight.detach(), wanted, rtol=1e-12, atol=1e-14)


def test_modulators_of_neurons_gate_their_own_weights() -> None:
    """Attention: where it is 0 nothing changes; elsewhere as if the neuron were alone."""
    rule = ThreeFactor(rule=TripletSTDP(**FREE), tau_eligibility=30.0)
    pre, post = spikes(40, 2, 6), spikes(40, 2, 3, seed=1)
    gate = torch.randn(40, 2, 3, dtype=torch.float64)
    gate[:, :, 1] = 0.0
    weight = torch.zeros(3, 6, dtype=torch.float64)
    rule.run(pre, post, weight, gate)
    assert torch.equal(weight[1], torch.zeros(6, dtype=torch.float64))
    for o in (0, 2):
        alone = torch.zeros(1, 6, dtype=torch.float64)
        rule.run(pre, post[:, :, o : o + 1], alone, gate[:, :, o])
        torch.testing.assert_close(alone[0], weight[o], rtol=1e-12, atol=1e-12)
        assert alone.abs().min() > 0


def test_a_constant_modulator_without_decay_is_the_rule_itself() -> None:
    """With m = 1 in the last step alone and no decay the weights move by all that the rule would have added."""
    pair = STDP(**FREE)
    rule = ThreeFactor(rule=pair, tau_eligibility=math.inf, lr=1.0)
    pre, post, m = spikes(30, 2, 6), spikes(30, 2, 4, seed=1), torch.zeros(30, 2, dtype=torch.float64)
    m[-1] = 1.0
    ours, expected = torch.rand(2, 4, 6, dtype=torch.float64)[:1].expand(2, 4, 6).clone()
    rule.run(pre, post, ours, m)
    pair.run(pre, post, expected)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_reward_less_its_mean_leaves_weights_where_it_says_nothing() -> None:
    """Rewards of mean 0 that do not depend on the spikes: the mean change is 0 within its error; not so for reward
    that has a mean."""
    rule = RewardSTDP(rule=STDP(a_plus=0.1, a_minus=0.02, **FREE), tau_eligibility=50.0, tau_modulator=10.0)
    pre, post = spikes(4000, 1, 30, rate=0.05), spikes(4000, 1, 30, rate=0.05, seed=1)
    found = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
        weight = torch.zeros(30, 30, dtype=torch.float64)
        rule.run(pre, post, weight, noise)
        found.append(float(weight.mean()))
    told = torch.zeros(30, 30, dtype=torch.float64)
    rule.run(pre, post, told, torch.ones(4000, 1, dtype=torch.float64))
    error = torch.tensor(found).std() / len(found) ** 0.5
    assert abs(sum(found) / len(found)) < 3 * error
    assert told.mean() > 5 * torch.tensor(found).std()


@pytest.mark.parametrize("tau_modulator", [0.0, 7.0])
@pytest.mark.parametrize("each", [False, True])
def test_parts_and_steps_give_what_the_whole_gives(tau_modulator: float, each: bool) -> None:
    rule = ThreeFactor(rule=STDP(mu_plus=0.5), tau_eligibility=20.0, tau_modulator=tau_modulator, lr=0.3)
    pre, post = spikes(23, 3, 7, seed=1), spikes(23, 3, 5, seed=2)
    m = torch.randn(23, 3, 5, dtype=torch.float64)[..., slice(None) if each else 0]
    start = torch.rand(5, 7, dtype=torch.float64)
    whole, parted, stepped = start.clone(), start.clone(), start.clone()
    expected = rule.run(pre, post, whole, m)
    state = rule.run(pre[:9], post[:9], parted, m[:9])
    state = rule.run(pre[9:9], post[9:9], parted, m[9:9], state)
    state = rule.run(pre[9:], post[9:], parted, m[9:], state)
    stepping = rule.init(pre[0], post[0], start, m[0])
    for x, y, z in zip(pre, post, m, strict=True):
        stepping = rule.step(x, y, stepped, z, stepping)
    for weight, held in ((parted, state), (stepped, stepping)):
        assert torch.equal(weight, whole)
        assert torch.equal(held.eligibility, expected.eligibility)
        assert torch.equal(held.modulator, expected.modulator)
    assert not torch.equal(whole, start)


def test_the_places_of_a_convolution_share_an_eligibility() -> None:
    """A modulator that all places hear: as if each place were an entry of the batch with the same modulator."""
    layer = nn.Conv1d(2, 3, 2, bias=False).double()
    pre, post, m = spikes(12, 2, 2, 5), spikes(12, 2, 3, 4, seed=1), torch.randn(12, 2, dtype=torch.float64)
    rule = ThreeFactor(rule=STDP(**FREE), tau_eligibility=5.0)
    patches = pre.unfold(3, 2, 1).permute(0, 1, 3, 2, 4).reshape(12, 8, 4)
    places = post.permute(0, 1, 3, 2).reshape(12, 8, 3)
    expected = layer.weight.detach().clone().flatten(1)
    rule.run(patches, places, expected, m.repeat_interleave(4, 1))
    state = rule.run(pre, post, layer, m)
    assert state.eligibility.shape == (2, 3, 4)
    torch.testing.assert_close(layer.weight.detach().flatten(1), expected, rtol=1e-12, atol=1e-12)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="tau_eligibility > 0"):
        ThreeFactor(rule=STDP(), tau_eligibility=0.0)
    rule, weight = RewardSTDP(), torch.zeros(3, 4)
    pre, post = torch.zeros(5, 2, 4), torch.zeros(5, 2, 3)
    with pytest.raises(ShapeError, match=r"\[T, B\] or \[T, B, 3\]"):
        rule.run(pre, post, weight, torch.zeros(5, 4))
    state = rule.run(pre, post, weight, torch.zeros(5, 2))
    with pytest.raises(StateError, match="eligibility and modulator"):
        rule.run(pre[:, :1], post[:, :1], weight, torch.zeros(5, 1), state)
    with pytest.raises(StateError, match="eligibility and modulator"):
        rule.run(pre, post, weight, torch.zeros(5, 2, 3), state)
