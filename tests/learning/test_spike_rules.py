"""Pair, triplet and trace-target rules against closed forms and published shapes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DtypeError, ShapeError, StateError
from spikenet.events import EventTensor
from spikenet.learning import STDP, DiehlCookSTDP, SpikeRule, TargetSTDP, TripletSTDP

FREE = {"w_min": -math.inf, "w_max": math.inf}


def spikes(*shape: int, rate: float = 0.2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator) < rate).double()


def change(rule: SpikeRule, pre: list[int], post: list[int], steps: int, w: float = 0.0) -> float:
    """What spikes at these steps do to one weight."""
    weight = torch.full((1, 1), w, dtype=torch.float64)
    trains = torch.zeros(2, steps, 1, 1, dtype=torch.float64)
    trains[0, pre], trains[1, post] = 1.0, 1.0
    rule.run(trains[0], trains[1], weight)
    return weight.item() - w


def test_window() -> None:
    """One pair at every difference, in steps of half a millisecond."""
    rule = STDP(a_plus=0.3, a_minus=0.2, tau_plus=15.0, tau_minus=30.0, dt=0.5, **FREE)
    for lag in range(-100, 101):
        expected = 0.3 * math.exp(-lag * 0.5 / 15.0) if lag >= 0 else -0.2 * math.exp(lag * 0.5 / 30.0)
        assert change(rule, [100], [100 + lag], 201) == pytest.approx(expected, rel=1e-12)
    assert change(STDP(a_plus=1.0, **FREE), [0], [10], 11) == pytest.approx(0.60653, abs=5e-6)


@pytest.mark.parametrize("nearest", [False, True])
def test_every_pair_or_the_nearest(nearest: bool) -> None:
    """Against the sum over pairs of two irregular trains, written as sums."""
    rule = STDP(a_plus=0.3, a_minus=0.2, tau_plus=15.0, tau_minus=30.0, nearest=nearest, **FREE)
    pre, post = [3, 4, 11, 30, 31, 47], [4, 9, 10, 25, 31, 44, 49]
    total = 0.0
    for t in post:
        before = [s for s in pre if s <= t]
        total += sum(0.3 * math.exp((s - t) / 15.0) for s in (before[-1:] if nearest else before))
    for s in pre:
        before = [t for t in post if t < s]
        total -= sum(0.2 * math.exp((t - s) / 30.0) for t in (before[-1:] if nearest else before))
    assert change(rule, pre, post, 50) == pytest.approx(total, rel=1e-12)


def test_triplets_are_the_sum_over_triplets() -> None:
    rule = TripletSTDP(a2_plus=0.1, a3_plus=0.2, a2_minus=0.15, a3_minus=0.05, **FREE)
    pre, post = [3, 4, 11, 30, 31, 47], [5, 9, 10, 25, 33, 44, 49]
    total = 0.0
    for t in post:
        slow = sum(math.exp((u - t) / 125.0) for u in post if u < t)
        total += sum(math.exp((s - t) / 16.8) * (0.1 + 0.2 * slow) for s in pre if s <= t)
    for s in pre:
        slow = sum(math.exp((u - s) / 101.0) for u in pre if u < s)
        total -= sum(math.exp((t - s) / 33.7) * (0.15 + 0.05 * slow) for t in post if t < s)
    assert change(rule, pre, post, 50) == pytest.approx(total, rel=1e-12)


def pairings(rule: TripletSTDP, rate: float, lag: float, pairs: int = 60) -> float:
    """The closed form of so many pairs at a rate (Hz), by the geometric sums of the four traces."""
    period = 1000.0 / rate
    total = 0.0
    for n in range(pairs):

        def geometric(tau: float, first: float, terms: int) -> float:
            """exp(-first/tau) + exp(-(first + period)/tau) + ..., so many terms."""
            q = math.exp(-period / tau)
            return math.exp(-first / tau) * (1 - q**terms) / (1 - q)

        x = geometric(rule.tau_plus, lag if lag > 0 else period + lag, n + 1 if lag > 0 else n)
        y = geometric(rule.tau_minus, period - lag if lag > 0 else -lag, n if lag > 0 else n + 1)
        x_slow, y_slow = geometric(rule.tau_x, period, n), geometric(rule.tau_y, period, n)
        total += x * (rule.a2_plus + rule.a3_plus * y_slow) - y * (rule.a2_minus + rule.a3_minus * x_slow)
    return total


@pytest.mark.parametrize("rate", [1.0, 10.0, 20.0, 40.0, 50.0])
@pytest.mark.parametrize("lag", [10.0, -10.0])
def test_triplet_pairings_by_frequency(rate: float, lag: float) -> None:
    """60 pairings of 10 ms, pre before post and post before pre (the protocol of Sjöström et al., 2001)."""
    rule = TripletSTDP(dt=1.0, **FREE)
    period = round(1000.0 / rate)
    pre = [20 + period * n for n in range(60)]
    post = [t + round(lag) for t in pre]
    assert change(rule, pre, post, pre[-1] + 40) == pytest.approx(pairings(rule, rate, lag), rel=1e-9)


def test_pre_before_post_potentiates_with_frequency_and_post_before_pre_turns() -> None:
    """The shape that pairs cannot have and that made the triplet rule: with visual cortex' numbers nothing happens at
    low rates to pre before post, post before pre is depressed at low rates and potentiated at high ones."""
    rates = [0.1, 10.0, 20.0, 40.0, 50.0]
    forward, backward = ([pairings(TripletSTDP(), rate, lag) for rate in rates] for lag in (10.0, -10.0))
    assert forward == sorted(forward)
    assert abs(forward[0]) < 1e-3 < backward[-1]
    assert backward[0] < 0.0
    assert backward[1] < 0.0
    pair = [
        change(STDP(**FREE), [20 + k * p for k in range(60)], [10 + k * p for k in range(60)], 60 * p + 60)
        for p in (100, 50, 25, 20)
    ]
    assert all(value < 0 for value in pair)


def drift(rule: SpikeRule, rates: tuple[float, float], seconds: float, lanes: int) -> tuple[float, float]:
    """Mean change of a weight in a second, and its standard error, with independent Poisson trains (Hz)."""
    steps = round(seconds * 1000.0 / rule.dt)
    chance = [rate * rule.dt / 1000.0 for rate in rates]
    weight = torch.zeros(lanes, lanes, dtype=torch.float64)
    pre, post = (spikes(steps, 1, lanes, rate=p, seed=k) for k, p in enumerate(chance))
    rule.run(pre, post, weight)
    found = weight / seconds
    return float(found.mean()), float(found.mean(0).std() / lanes**0.5 + found.mean(1).std() / lanes**0.5)


def test_drift_of_poisson_trains() -> None:
    """E[dw/dt] of pairs; in steps the sums over exponentials replace the time constants."""
    rule = STDP(a_plus=0.01, a_minus=0.012, tau_plus=17.0, tau_minus=34.0, **FREE)
    plus, minus = 0.01 / -math.expm1(-1 / 17.0), 0.012 / (math.expm1(1 / 34.0))
    mean, error = drift(rule, (20.0, 30.0), 20.0, 60)
    assert mean == pytest.approx(20.0 * 30.0 * (plus - minus) / 1000.0, abs=4 * error)
    assert error < abs(mean) / 5


@pytest.mark.parametrize(("rate", "sign"), [(5.0, -1), (30.0, 1)])
def test_triplets_turn_from_depression_to_potentiation(rate: float, sign: int) -> None:
    """BCM-like: the drift of Poisson trains changes its sign with their rate."""
    rule = TripletSTDP(**FREE)
    r = rate / 1000.0
    pair = rule.a2_plus * rule.tau_plus - rule.a2_minus * rule.tau_minus
    triplet = rule.a3_plus * rule.tau_plus * rule.tau_y - rule.a3_minus * rule.tau_minus * rule.tau_x
    expected = r * r * (pair + triplet * r) * 1000.0
    mean, error = drift(rule, (rate, rate), 30.0, 60)
    assert math.copysign(1, expected) == sign
    assert mean == pytest.approx(expected, abs=5 * error + 0.05 * abs(expected))  # the closed form has no steps
    assert sign * mean > 3 * error


def test_soft_bounds_settle_where_they_balance() -> None:
    """Multiplicative rule, equal time constants, independent trains: w* = 1 / (1 + alpha), alpha = A-/A+."""
    alpha, tau = 1.05, 20.0
    lag = math.exp(-1 / tau)  # a pair of one step counts as potentiation alone
    rule = STDP(a_plus=0.002, a_minus=0.002 * alpha / lag, tau_plus=tau, tau_minus=tau, mu_plus=1.0, mu_minus=1.0)
    for start in (0.1, 0.9):
        weight = torch.full((40, 40), start, dtype=torch.float64)
        rule.run(spikes(20000, 1, 40, rate=0.05, seed=1), spikes(20000, 1, 40, rate=0.05, seed=2), weight)
        assert weight.mean() == pytest.approx(1 / (1 + alpha), abs=0.02)


def test_hard_bounds_hold_in_every_step() -> None:
    """A weight pressed against a bound comes off it with the next change, and starts within them."""
    rule = STDP(a_plus=0.6, a_minus=0.25)
    assert change(rule, [5], [5, 6], 7, w=0.5) == 0.5
    pressed = change(rule, [5, 7], [5, 6], 9, w=0.5)
    y = math.exp(-1 / 20.0) + math.exp(-2 / 20.0)
    assert pressed == pytest.approx(0.5 - 0.25 * y, rel=1e-12)
    weight = torch.tensor([[3.0, -2.0]])
    rule.run(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1), weight)
    assert weight.tolist() == [[1.0, 0.0]]


def test_diehl_and_cook_by_hand() -> None:
    """Traces set to 1; an outgoing spike changes nothing without one before it."""
    rule = DiehlCookSTDP(nu_pre=0.1, nu_post=1.0, w_max=10.0)
    assert change(rule, [0, 3], [5], 6, w=1.0) == 0.0
    grown = math.exp(-(9 - 3) / 20.0) * math.exp(-(9 - 5) / 40.0)
    assert change(rule, [0, 3], [5, 9], 10, w=1.0) == pytest.approx(grown, rel=1e-12)
    shrunk = grown - 0.1 * math.exp(-(12 - 9) / 20.0)
    assert change(rule, [0, 3, 12], [5, 9], 13, w=1.0) == pytest.approx(shrunk, rel=1e-12)


def test_target_rule_by_hand() -> None:
    rule = TargetSTDP(eta=0.1, x_target=0.4, mu=2.0, w_max=3.0)
    assert change(rule, [2], [6], 20, w=1.0) == pytest.approx(0.1 * (math.exp(-4 / 20.0) - 0.4) * 4.0, rel=1e-12)
    assert change(rule, [], [6], 20, w=1.0) == pytest.approx(-0.1 * 0.4 * 4.0, rel=1e-12)


def test_a_batch_adds_up() -> None:
    """Weights that nothing bounds and that pairs do not depend on: the sum over entries is exact."""
    rule = TripletSTDP(**FREE)
    pre, post = spikes(30, 4, 6, seed=1), spikes(30, 4, 3, seed=2)
    together, alone = torch.zeros(3, 6, dtype=torch.float64), torch.zeros(3, 6, dtype=torch.float64)
    rule.run(pre, post, together)
    for b in range(4):
        rule.run(pre[:, b : b + 1], post[:, b : b + 1], alone)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "rule", [STDP(**FREE), DiehlCookSTDP(**FREE), TargetSTDP(mu=0.0, **FREE)], ids=["pair", "diehl_cook", "target"]
)
@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (5, 6)),
        (nn.Conv2d(1, 2, 3, padding="same"), (4, 3)),
        (nn.Conv1d(2, 3, 3, stride=2, padding=1), (7,)),
    ],
    ids=["strides", "same", "one"],
)
def test_a_convolution_is_every_place_with_its_patch(rule: SpikeRule, layer: nn.Conv2d, size: tuple[int, ...]) -> None:
    """Against the derivative of the convolution itself: a kernel's weight changes by the sum over the places that
    share it. Pairs are additive, so the changes of one step are the weight gradient of `conv(x)` against `y`."""
    layer = layer.double()
    steps, batch, p = 8, 2, rule.pairing()
    pre = spikes(steps, batch, layer.in_channels, *size, rate=0.4)
    post = spikes(steps, batch, *layer(pre[0]).shape[1:], rate=0.4, seed=3)
    before = layer.weight.detach().clone()
    expected, x, y, y_slow = torch.zeros_like(before), pre[0] * 0, post[0] * 0, post[0] * 0

    def product(columns: Tensor, rows: Tensor) -> Tensor:
        kernel = torch.zeros_like(before, requires_grad=True)
        return torch.autograd.grad(layer._conv_forward(columns, kernel, None), kernel, rows)[0]

    def taken(left: Tensor, now: Tensor) -> Tensor:
        return torch.where(now != 0, now, left) if p.nearest else left + now

    for pre_t, post_t in zip(pre, post, strict=True):
        x, y, y_slow = (
            v * math.exp(-1 / tau) for v, tau in ((x, p.tau_pre), (y, p.tau_post), (y_slow, p.tau_post_slow))
        )
        expected -= product(pre_t * p.minus, y)
        x = taken(x, pre_t)
        gain = post_t * (p.plus + p.triplet_plus * y_slow)
        expected += product(x, gain) - p.target * gain.transpose(0, 1).flatten(1).sum(1).view(-1, *[1] * (x.ndim - 1))
        y, y_slow = taken(y, post_t), taken(y_slow, post_t)
    rule.run(pre, post, layer)
    torch.testing.assert_close(layer.weight.detach() - before, expected, rtol=1e-10, atol=1e-12)
    assert expected.abs().max() > 1e-3


def test_events_and_layers_are_taken_as_they_are() -> None:
    layer = nn.Linear(6, 4, bias=False)
    pre, post = spikes(12, 2, 6), spikes(12, 2, 4, seed=1)
    weight = layer.weight.detach().clone()
    STDP(w_min=-1.0).run(EventTensor.from_dense(pre), EventTensor.from_dense(post), layer)
    STDP(w_min=-1.0).run(pre.bool(), post.half(), weight)
    assert torch.equal(layer.weight.detach(), weight)
    assert layer.weight.requires_grad


def test_a_strided_weight_is_changed_in_place() -> None:
    pre, post = spikes(12, 2, 6), spikes(12, 2, 4, seed=1)
    store = torch.rand(6, 8, dtype=torch.float64)
    expected, rest = store[:, ::2].T.clone(), store[:, 1::2].clone()
    STDP().run(pre, post, expected)
    STDP().run(pre, post, store[:, ::2].T)
    assert torch.equal(store[:, ::2].T, expected)
    assert torch.equal(store[:, 1::2], rest)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="above 0"):
        STDP(tau_plus=0.0)
    with pytest.raises(ArgumentError, match="w_min < w_max"):
        STDP(w_min=1.0)
    with pytest.raises(ArgumentError, match="needs w_max"):
        STDP(mu_plus=1.0, w_max=math.inf)
    with pytest.raises(ArgumentError, match="finite"):
        STDP(a_plus=math.nan)
    rule, weight = STDP(), torch.zeros(3, 4)
    with pytest.raises(ShapeError, match=r"pre \[T, B, 4\]"):
        rule.run(torch.zeros(5, 1, 3), torch.zeros(5, 1, 3), weight)
    with pytest.raises(ShapeError, match=r"\[T, B, \.\.\.\]"):
        rule.run(torch.zeros(5, 4), torch.zeros(5, 3), weight)
    with pytest.raises(DtypeError, match="float16"):
        rule.run(torch.zeros(5, 1, 4), torch.zeros(5, 1, 3), weight.half())
    with pytest.raises(ArgumentError, match="Conv2d"):
        rule.run(torch.zeros(5, 1, 4), torch.zeros(5, 1, 3), nn.ReLU())
    with pytest.raises(ArgumentError, match="groups=1"):
        rule.run(torch.zeros(5, 1, 4, 2), torch.zeros(5, 1, 4, 2), nn.Conv1d(4, 4, 1, groups=2))
    with pytest.raises(ShapeError, match="output's size"):
        rule.run(torch.zeros(5, 1, 4, 9), torch.zeros(5, 1, 2, 9), nn.Conv1d(4, 2, 3))
    state = rule.run(torch.zeros(5, 2, 4), torch.zeros(5, 2, 3), weight)
    with pytest.raises(StateError, match="needs the state"):
        rule.run(torch.zeros(5, 1, 4), torch.zeros(5, 1, 3), weight, state)
    with pytest.raises(StateError, match="no trace"):
        TripletSTDP().run(torch.zeros(5, 2, 4), torch.zeros(5, 2, 3), weight, state)
