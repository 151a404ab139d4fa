"""Pair STDP against SpikingJelly's, on trains without coincident spikes, which the two pair differently."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spikenet.learning import STDP, ThreeFactor

pytestmark = pytest.mark.peers
peer = pytest.importorskip("spikingjelly.activation_based.functional.learning")

FREE = {"w_min": -math.inf, "w_max": math.inf}


def trains(steps: int, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Incoming spikes in even steps, outgoing ones in odd steps."""
    x, z = (torch.rand(steps, *pre) < 0.3).double(), (torch.rand(steps, *post) < 0.3).double()
    x[1::2], z[::2] = 0.0, 0.0
    return x, z


def euler(tau: float) -> float:
    """The time constant whose exponential decay is the peer's `1 - 1 / tau`."""
    return -1.0 / math.log(1.0 - 1.0 / tau)


def amplitude(a: float):  # type: ignore[no-untyped-def]
    return lambda w: torch.full_like(w, a)


def test_linear() -> None:
    x, z = trains(40, (3, 7), (3, 5))
    weight, ours = torch.rand(2, 5, 7, dtype=torch.float64)[:1].expand(2, 5, 7).clone()
    held = torch.zeros_like(x[0]), torch.zeros_like(z[0])
    for x_t, z_t in zip(x, z, strict=True):
        change, held = peer.stdp_linear_step(
            *(x_t, z_t, held, weight), tau_pre=8.0, tau_post=12.0, f_pre=amplitude(0.03), f_post=amplitude(0.05)
        )
        weight += change
    STDP(a_plus=0.05, a_minus=0.03, tau_plus=euler(8.0), tau_minus=euler(12.0), **FREE).run(x, z, ours)
    torch.testing.assert_close(ours, weight, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_convolution(stride: int, padding: int) -> None:
    layer = nn.Conv2d(2, 3, 3, stride, padding, bias=False).double()
    shape = layer(torch.zeros(1, 2, 6, 5, dtype=torch.float64)).shape[1:]
    x, z = trains(12, (2, 2, 6, 5), (2, *shape))
    padded = nn.functional.pad(x, (padding,) * 4)  # the peer's takes what is padded
    weight, held = layer.weight.detach().clone(), (torch.zeros_like(padded[0]), torch.zeros_like(z[0]))
    for x_t, z_t in zip(padded, z, strict=True):
        change, held = peer.stdp_conv2d_step(
            *(x_t, z_t, held, weight),
            stride=(stride, stride),
            tau_pre=8.0,
            tau_post=12.0,
            f_pre=amplitude(0.03),
            f_post=amplitude(0.05),
        )
        weight += change
    STDP(a_plus=0.05, a_minus=0.03, tau_plus=euler(8.0), tau_minus=euler(12.0), **FREE).run(x, z, layer)
    torch.testing.assert_close(layer.weight.detach(), weight, rtol=1e-11, atol=1e-12)


def test_reward_modulated() -> None:
    """The peer's eligibility of a step, filtered here, times a reward of each entry."""
    x, z = trains(40, (3, 7), (3, 5))
    reward = torch.randn(40, 3, dtype=torch.float64)
    weight, ours = torch.rand(2, 5, 7, dtype=torch.float64)[:1].expand(2, 5, 7).clone()
    held, e = (torch.zeros_like(x[0]), torch.zeros_like(z[0])), torch.zeros(3, 5, 7, dtype=torch.float64)
    for x_t, z_t, r in zip(x, z, reward, strict=True):
        now, held = peer.mstdp_linear_step(
            *(x_t, z_t, held, weight), tau_pre=8.0, tau_post=12.0, f_pre=amplitude(0.03), f_post=amplitude(0.05)
        )
        e = math.exp(-1 / 25.0) * e + now
        weight += 0.1 * (r[:, None, None] * e).sum(0)
    pair = STDP(a_plus=0.05, a_minus=0.03, tau_plus=8.0, tau_minus=12.0, **FREE)
    ThreeFactor(rule=pair, tau_eligibility=25.0, lr=0.1).run(x, z, ours, reward)
    torch.testing.assert_close(ours, weight, rtol=1e-11, atol=1e-12)
