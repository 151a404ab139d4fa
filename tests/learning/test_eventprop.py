"""EventProp against finite differences, closed forms and a task that only delays can solve."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, BackendError, DtypeError, ShapeError, UnknownNameError
from spikenet.events import EventStream, Sensor
from spikenet.learning import EventPropLIF, first_spike_loss, spike_times

STEP = 3e-5
STEEPEST = 300.0  # gradients above this belong to spikes that are about to vanish


def layer(inputs: int, outputs: int, **options: object) -> EventPropLIF:
    return EventPropLIF(inputs, outputs, dtype=torch.float64, **options)  # type: ignore[arg-type]


def one(weight: float, delay: float = 0.0, **options: float) -> EventPropLIF:
    """A neuron with one synapse."""
    net = layer(1, 1, **options)
    torch.nn.init.constant_(net.weight, weight)
    torch.nn.init.constant_(net.delay, delay)
    return net


def differences(loss: Callable[[], Tensor], value: Tensor) -> Tensor:
    """Central differences of the fourth order of a loss, for every element of `value`."""
    found = torch.zeros_like(value)
    flat, into = value.detach().view(-1), found.view(-1)

    def at(k: int, shift: float) -> float:
        here = float(flat[k])
        with torch.no_grad():
            flat[k] = here + shift
            there = float(loss())
            flat[k] = here
        return there

    for k in range(len(flat)):
        near, far = (at(k, step) - at(k, -step) for step in (STEP, 2 * STEP))
        into[k] = (8 * near - far) / (12 * STEP)
    return found


def drawn(inputs: int, batch: int = 3, spikes: int = 2) -> Tensor:
    """Input times, one of them missing."""
    times = (torch.rand(batch, inputs, spikes, dtype=torch.float64) * 15).sort(-1).values
    times[0, 0, -1] = math.inf
    return times


@pytest.mark.parametrize("tau", [(20.0, 5.0), (20.0, 10.0), (10.0, 10.0), (6.0, 9.0)])
@pytest.mark.parametrize(
    ("recurrent", "per"), [(False, "synapse"), (True, "synapse"), (True, "input"), (False, "output")]
)
def test_gradients_equal_finite_differences(tau: tuple[float, float], recurrent: bool, per: str) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        net = layer(6, 3, tau_mem=tau[0], tau_syn=tau[1], longest=8.0, recurrent=recurrent, per=per, t_end=60.0)
        times = drawn(6).requires_grad_()
        known = net(times) < math.inf
        factor = torch.randn(known.shape, dtype=torch.float64)

        def loss() -> Tensor:
            found = net(times)  # noqa: B023
            assert torch.equal(found < math.inf, known)  # noqa: B023 - no spike has come or gone
            return (found[known] * factor[known]).sum() + found[known].square().sum() / 50  # noqa: B023

        values = dict(net.named_parameters()) | {"times": times}
        gradients = dict(zip(values, torch.autograd.grad(loss(), list(values.values())), strict=True))
        if int(known.sum()) > 9 and max(float(g.abs().max()) for g in gradients.values()) < STEEPEST:
            break
    else:
        pytest.fail("every draw has a spike that is about to vanish")
    for name, value in values.items():
        finite = value.detach() < math.inf
        error = (gradients[name] - differences(loss, value))[finite].abs()
        assert float(error.max()) < 1e-6, name
        assert float(gradients[name].abs().max()) > 1e-2, name


def test_gradients_go_through_layers() -> None:
    """Spike times of one layer are the inputs of the next."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(layer(5, 4, longest=5.0), layer(4, 2, longest=5.0))
    times = drawn(5)
    known = net(times) < math.inf
    assert known.any()

    def loss() -> Tensor:
        found = net(times)
        assert torch.equal(found < math.inf, known)
        return found[known].sum()

    loss().backward()
    for value in net.parameters():
        assert value.grad is not None
        torch.testing.assert_close(value.grad, differences(loss, value), atol=1e-6, rtol=1e-6)


def test_first_spike_where_tau_mem_is_twice_tau_syn() -> None:
    """t = -tm ln((1 + s)/2) with s = sqrt(1 - 4 th/w), which solves w (e^(-t/tm) - e^(-2t/tm)) = th."""
    weight, tau, delay = 5.0, 20.0, 3.0
    net = one(weight, delay, tau_mem=tau, tau_syn=tau / 2)
    first = net(torch.tensor([[[1.5]]], dtype=torch.float64))[0, 0, 0]
    root = math.sqrt(1 - 4 / weight)
    assert first.item() == pytest.approx(1.5 + delay - tau * math.log((1 + root) / 2), abs=1e-12)
    first.backward()
    assert net.weight.grad.item() == pytest.approx(-2 * tau / (weight**2 * root * (1 + root)), rel=1e-10)
    assert net.delay.grad.item() == pytest.approx(1.0, rel=1e-10)


def test_first_spike_where_both_time_constants_are_equal() -> None:
    """(w/tau) t e^(-t/tau) = th has the root t = -tau W(-th/w), and dt/dw = -t tau / (w (tau - t))."""
    from scipy.special import lambertw

    weight, tau = 4.0, 12.0
    net = one(weight, tau_mem=tau, tau_syn=tau)
    first = net(torch.zeros(1, 1, 1, dtype=torch.float64))[0, 0, 0]
    t = -tau * float(lambertw(-1 / weight).real)
    assert first.item() == pytest.approx(t, abs=1e-12)
    first.backward()
    assert net.weight.grad.item() == pytest.approx(-t * tau / (weight * (tau - t)), rel=1e-10)


@pytest.mark.parametrize("tau", [(20.0, 5.0), (5.0, 20.0), (7.0, 7.0)])
def test_one_arrival_makes_a_spike_above_the_least_drive_only(tau: tuple[float, float]) -> None:
    """The published tests of EventProp use this bound, 6.3496 for 20 and 5 ms."""
    net = one(1.0, tau_mem=tau[0], tau_syn=tau[1])
    if tau == (20.0, 5.0):
        assert net.least_drive == pytest.approx(6.3496, abs=1e-4)
    for factor, spikes in ((0.9999, False), (1.0001, True)):
        torch.nn.init.constant_(net.weight, factor * net.least_drive)
        assert bool(net(torch.zeros(1, 1, 1, dtype=torch.float64))[0, 0, 0] < math.inf) == spikes


def test_spikes_lie_on_a_fine_integration() -> None:
    """Two inputs and a self-synapse, integrated by Euler steps of 0.1 us."""
    net = layer(2, 1, recurrent=True, t_end=50.0)
    values = {"weight": [[9.0, 7.0]], "delay": [[2.0, 6.5]], "recurrent_weight": [[3.0]], "recurrent_delay": [[4.0]]}
    with torch.no_grad():
        for name, value in values.items():
            getattr(net, name).copy_(torch.tensor(value))
    found = net(torch.tensor([[[0.0, 9.0], [1.0, math.inf]]], dtype=torch.float64))[0, 0]
    due = sorted([(2.0, 9.0), (11.0, 9.0), (7.5, 7.0)])
    dt, volt, current, spikes = 1e-4, 0.0, 0.0, []
    for k in range(500_000):
        while due and due[0][0] <= k * dt:
            current += due.pop(0)[1]
        volt, current = volt + dt / 20 * (current - volt), current - dt / 5 * current
        if volt >= 1:
            spikes.append((k + 1) * dt)
            due, volt = sorted([*due, (spikes[-1] + 4.0, 3.0)]), 0.0
    assert len(spikes) > 4
    assert found.tolist() == pytest.approx(spikes, abs=5e-3)


def test_a_grazing_spike_has_a_bounded_gradient() -> None:
    bound = {}
    for grazing in (1e-3, 1e-9):
        net = one(1.0, grazing=grazing)
        torch.nn.init.constant_(net.weight, net.least_drive * (1 + 1e-10))
        net(torch.zeros(1, 1, 1, dtype=torch.float64))[0, 0, 0].backward()
        bound[grazing] = abs(net.weight.grad.item())
    assert bound[1e-3] < 20 / 1e-3 / net.least_drive * 1.01  # tau_mem dV/dw / (grazing th), and dV/dw = th/w
    assert bound[1e-9] > 10 * bound[1e-3]


def test_no_spike_gives_infinity_and_no_gradient() -> None:
    net = layer(2, 3)
    torch.nn.init.constant_(net.weight, 0.1)
    found = net(torch.zeros(4, 2, 1, dtype=torch.float64))
    assert found.shape == (4, 3, 1)
    assert bool((found == math.inf).all())
    loss = first_spike_loss(found, torch.zeros(4, dtype=torch.int64), late=50.0)
    loss.backward()
    assert loss.isfinite()
    assert net.weight.grad is not None
    assert bool((net.weight.grad == 0).all())


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 2, 0)])
def test_empty_input(shape: tuple[int, ...]) -> None:
    net = layer(2, 3, recurrent=True)
    found = net(torch.zeros(shape, dtype=torch.float64))
    assert found.shape == (shape[0], 3, 1)
    found[found < math.inf].sum().backward()


def test_the_end_of_time_cuts_and_changes_nothing_before() -> None:
    net = layer(4, 3, recurrent=True, longest=4.0)
    ended = layer(4, 3, recurrent=True, t_end=12.0)
    ended.load_state_dict(net.state_dict())
    times = drawn(4)
    every, some = net(times), ended(times)
    assert bool((every[every < math.inf] > 12.0).any())
    assert bool((some < math.inf).any())
    expected = torch.where(every <= 12.0, every, math.inf)
    assert torch.equal(some, expected[..., : some.shape[2]])
    assert bool((expected[..., some.shape[2] :] == math.inf).all())


def test_delays_alone_tell_lags_apart() -> None:
    """Two neurons with equal, fixed weights hear two spikes some time apart; each is to spike first for its own lag."""
    torch.manual_seed(0)

    def pairs(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(0, 2, (count,))
        lag = 4.0 + 8.0 * labels + torch.rand(count, dtype=torch.float64) - 0.5
        return torch.stack([torch.zeros_like(lag), lag], 1)[..., None], labels

    net = layer(2, 2, longest=6.0)
    torch.nn.init.constant_(net.weight, 0.8 * net.least_drive)
    optimiser = torch.optim.Adam([net.delay], lr=0.4)
    for _ in range(80):
        times, labels = pairs(24)
        optimiser.zero_grad()
        first_spike_loss(net(times), labels, late=60.0).backward()
        optimiser.step()
    times, labels = pairs(500)
    answers = net.eval()(times)[..., 0].argmin(1)
    assert float((answers == labels).double().mean()) > 0.99
    shift = (
        net.delay[:, 0] - net.delay[:, 1]
    ).detach()  # of the first input against the second: the lag that the neuron is for
    assert float(shift[1] - shift[0]) > 4.0


def test_the_loss_is_the_equation() -> None:
    times = torch.tensor([[[3.0, 4.0], [5.0, 9.0]], [[8.0, 9.0], [7.0, 8.0]]])
    labels = torch.tensor([0, 0])
    wanted = 0.0
    for own, other in ((3.0, 5.0), (8.0, 7.0)):
        wanted -= math.log(math.exp(-own / 2) / (math.exp(-own / 2) + math.exp(-other / 2)))
        wanted += 0.01 * (math.exp(own / 10) - 1)
    assert float(first_spike_loss(times, labels, late=20.0)) == pytest.approx(wanted / 2, rel=1e-6)


def test_streams_become_spike_times() -> None:
    sensor = Sensor(3, 2, 2)
    one_stream = EventStream.from_numpy([4000, 500, 2500], [1, 1, 2], [1, 1, 0], [0, 0, 1], sensor=sensor)
    none = one_stream.slice(0, 1)
    times = spike_times([one_stream, none])
    assert times.shape == (2, 12, 2)
    assert times[0, 4].tolist() == [0.5, 4.0]
    assert times[0, 8].tolist() == [2.5, math.inf]
    assert int((times < math.inf).sum()) == 3
    assert torch.equal(spike_times(one_stream, unit=1e-6)[0, 4], torch.tensor([500.0, 4000.0], dtype=torch.float64))
    assert EventPropLIF(12, 2)(times).shape[:2] == (2, 2)


def test_refusals() -> None:
    net = EventPropLIF(2, 1)
    for times, error in (
        (torch.tensor([[[1.0, math.nan], [0.0, 1.0]]]), ArgumentError),
        (torch.tensor([[[-math.inf, 0.0], [0.0, 1.0]]]), ArgumentError),
        (torch.tensor([[[2.0, 1.0], [0.0, 1.0]]]), ArgumentError),
        (torch.tensor([[[math.inf, 1.0], [0.0, 1.0]]]), ArgumentError),
        (torch.zeros(1, 3, 1), ShapeError),
        (torch.zeros(2, 1), ShapeError),
        (torch.zeros(1, 2, 1, dtype=torch.int64), DtypeError),
    ):
        with pytest.raises(error):
            net(times)
    for options, error in (
        ({"tau_mem": 0.0}, ArgumentError),
        ({"tau_syn": math.nan}, ArgumentError),
        ({"longest": -1.0}, ArgumentError),
        ({"most": 0}, ArgumentError),
        ({"per": "pair"}, UnknownNameError),
    ):
        with pytest.raises(error):
            EventPropLIF(2, 1, **options)
    torch.nn.init.constant_(net.weight, math.nan)
    with pytest.raises(ArgumentError, match="finite"):
        net(torch.zeros(1, 2, 1))
    with pytest.raises(ArgumentError, match="one sensor"):
        spike_times([])
    with pytest.raises(ShapeError, match="labels"):
        first_spike_loss(torch.zeros(2, 3, 1), torch.zeros(3, dtype=torch.int64), late=1.0)
    with pytest.raises(ArgumentError, match="late"):
        first_spike_loss(torch.zeros(2, 3, 1), torch.zeros(2, dtype=torch.int64), late=math.inf)


def test_delays_that_a_step_made_negative_come_back() -> None:
    net = EventPropLIF(1, 1)
    for mode in (True, False):
        torch.nn.init.constant_(net.delay, -1.0)
        net.train(mode)(torch.zeros(1, 1, 1))
        assert net.delay.item() == 0.0


def test_a_runaway_is_refused() -> None:
    net = EventPropLIF(1, 1, recurrent=True, most=50)
    for weight in (net.weight, net.recurrent_weight):
        torch.nn.init.constant_(weight, 20.0)
    with pytest.raises(ArgumentError, match="more than 50 times"):
        net(torch.zeros(1, 1, 1))


def test_no_second_derivative() -> None:
    net = one(9.0)
    first = net(torch.zeros(1, 1, 1, dtype=torch.float64)).sum()
    with pytest.raises(BackendError, match="second derivative"):
        torch.autograd.grad(first, net.weight, create_graph=True)
