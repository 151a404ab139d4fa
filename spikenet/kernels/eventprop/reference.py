"""Spike times in plain PyTorch, from sums over all arrivals and spikes so far:

    I(t) = sum_a w_a exp(-(t - a)/ts),    V(t) = sum_a w_a rise(t - a) - th sum_k exp(-(t - t_k)/tm)

with `rise(s) = ts/(tm - ts) (exp(-s/tm) - exp(-s/ts))`. A spike time found by bisection becomes a function of weights,
delays and earlier times by one Newton step around it, which is the implicit function theorem; the rest is autograd's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LATE = 200.0  # time constants after which nothing is left


def forward(
    times: Tensor, weight: Tensor, delay: Tensor, tau: tuple[float, float], threshold: float, t_end: float, most: int
) -> tuple[Tensor, Tensor]:
    """Spikes and currents `[B, N, S]`; `S > most` says that a neuron spikes more often, and they are not whole."""
    with torch.no_grad():
        return _spikes(times.double(), weight.double(), delay.double(), tau, threshold, t_end, most, 0.0)


def gradients(
    times: Tensor,
    weight: Tensor,
    delay: Tensor,
    spikes: Tensor,
    currents: Tensor,
    grad: Tensor,
    tau: tuple[float, float],
    threshold: float,
    grazing: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of times, weight and delay from that of the spikes."""
    t, w, d = leaves = [a.detach().double().requires_grad_() for a in (times, weight, delay)]
    last = float(spikes[spikes < math.inf].max()) if bool((spikes < math.inf).any()) else -math.inf
    with torch.enable_grad():
        again, _ = _spikes(t, w, d, tau, threshold, last, spikes.shape[2], grazing)
        known = again < math.inf
        total = (again[known] * grad.double()[known]).sum() + sum(0.0 * a[a < math.inf].sum() for a in leaves)
    found = torch.autograd.grad(total, leaves)
    return found[0], found[1], found[2]


def _spikes(
    times: Tensor,
    weight: Tensor,
    delay: Tensor,
    tau: tuple[float, float],
    threshold: float,
    t_end: float,
    most: int,
    grazing: float,
) -> tuple[Tensor, Tensor]:
    nets = [_Net(t, weight, delay, tau, threshold) for t in times]
    for net in nets:
        net.run(t_end, most, grazing)
    width = max([1, *(len(fired) for net in nets for fired in net.fired)])
    shape = len(times), len(weight), width
    spikes, currents = times.new_full(shape, math.inf), times.new_zeros(shape)
    for b, net in enumerate(nets):
        for n, fired in enumerate(net.fired):
            for k, (t, current) in enumerate(fired):
                spikes[b, n, k], currents[b, n, k] = t, current
    return spikes, currents


class _Net:
    """One batch entry: `fired[n]` are the spikes of neuron n so far, each with its current."""

    def __init__(self, times: Tensor, weight: Tensor, delay: Tensor, tau: tuple[float, float], threshold: float):
        self.times, self.weight, self.delay, self.threshold = times, weight, delay, threshold
        self.tau_mem, self.tau_syn = tau
        self.recurrent = weight.shape[1] > len(times)
        self.fired: list[list[tuple[Tensor, Tensor]]] = [[] for _ in weight]

    def run(self, t_end: float, most: int, grazing: float) -> None:
        """Take the earliest spike of all, which nothing later can change, until there is none by `t_end`."""
        while all(len(fired) <= most for fired in self.fired):
            with torch.no_grad():
                upcoming = [self.next_spike(n) for n in range(len(self.weight))]
            t = min(upcoming, default=math.inf)
            if not t <= t_end or t == math.inf:
                return
            n = upcoming.index(t)
            volt, current = self.volt_and_current(n, torch.as_tensor(t, dtype=self.weight.dtype))
            slope = (current.detach() - self.threshold).clamp(min=grazing * self.threshold) / self.tau_mem
            self.fired[n].append((t - (volt - volt.detach()) / slope, current.detach()))

    def arrivals(self, n: int) -> tuple[Tensor, Tensor]:
        """What neuron n hears, so far as is known: times and weights."""
        heard = [(self.times[m] + self.delay[n, m], self.weight[n, m]) for m in range(len(self.times))]
        if self.recurrent:
            for m, fired in enumerate(self.fired, start=len(self.times)):
                heard += [((t + self.delay[n, m])[None], self.weight[n, m]) for t, _ in fired]
        at = torch.cat([self.weight.new_empty(0), *(t for t, _ in heard)])
        return at, torch.cat([self.weight.new_empty(0), *(w.expand(len(t)) for t, w in heard)])

    def volt_and_current(self, n: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """V and I of neuron n at t, after what arrives and before what fires at t."""
        at, weight = self.arrivals(n)
        heard = at <= t
        s, w = t - at[heard], weight[heard]
        volt = (w * self.rise(s)).sum()
        for k, _ in self.fired[n]:
            volt = volt - self.threshold * torch.exp(-(t - k) / self.tau_mem)
        return volt, (w * torch.exp(-s / self.tau_syn)).sum()

    def rise(self, s: Any) -> Any:
        """V after s from V = 0 and I = 1; of a number or a tensor."""
        exp = torch.exp if isinstance(s, Tensor) else math.exp
        if self.tau_mem == self.tau_syn:
            return s / self.tau_mem * exp(-s / self.tau_mem)
        scale = self.tau_syn / (self.tau_mem - self.tau_syn)
        return scale * (exp(-s / self.tau_mem) - exp(-s / self.tau_syn))

    def next_spike(self, n: int) -> float:
        """When neuron n spikes if it hears nothing more."""
        at, _ = self.arrivals(n)
        since = float(self.fired[n][-1][0]) if self.fired[n] else -math.inf
        starts = sorted({since, *(float(a) for a in at if float(a) > since)} - {-math.inf, math.inf})
        for start, end in zip(starts, [*starts, math.inf][1:], strict=True):
            volt, current = self.volt_and_current(n, torch.as_tensor(start, dtype=self.weight.dtype))
            wait = self.crossing(float(volt), float(current), end - start)
            if wait < math.inf:
                return start + wait
        return math.inf

    def crossing(self, volt: float, current: float, longest: float) -> float:
        """How long from V and I to the threshold, by bisection: V rises at most once, while I > V."""

        def after(s: float) -> tuple[float, float]:
            return volt * math.exp(-s / self.tau_mem) + current * self.rise(s), current * math.exp(-s / self.tau_syn)

        longest = min(longest, LATE * max(self.tau_mem, self.tau_syn))
        peak = _last(lambda s: after(s)[1] > after(s)[0], longest)
        return _last(lambda s: after(s)[0] < self.threshold, peak) if after(peak)[0] > self.threshold else math.inf


def _last(holds: Callable[[float], bool], high: float) -> float:
    """Up to when a condition holds that is never met again once it has failed, from 0 to `high`, by bisection."""
    if holds(high):
        return high
    low = 0.0
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
