"""Spike-timing-dependent plasticity: pairs, triplets, and the rules of Diehl and Cook."""

from __future__ import annotations

from dataclasses import dataclass

from spikenet.learning.spike_rule import Pairing, SpikeRule

__all__ = ["STDP", "DiehlCookSTDP", "TargetSTDP", "TripletSTDP"]


@dataclass(frozen=True, kw_only=True)
class STDP(SpikeRule):
    """Pair rule: a weight grows when its input comes before the output, and shrinks when it comes after.

        dw = +a_plus  (w_max - w)^mu_plus  exp(-D / tau_plus)     D = t_post - t_pre >= 0
        dw = -a_minus (w - w_min)^mu_minus exp( D / tau_minus)    D < 0

    for all pairs of spikes, or for each spike and the last one on the other side (`nearest`). With exponents 0, as
    here, the rule is additive and the bounds are hard; with 1 they are soft (multiplicative); between the two lies
    the rule of Gütig et al., whose weights run from 0 to 1. `SpikeRule` says how a rule is run.

    Args:
        a_plus, a_minus: amplitudes, of a pair at D = 0.
        tau_plus, tau_minus: time constants, in the unit of `dt`.
        mu_plus, mu_minus: exponents of the weight dependence.
        nearest: whether only the nearest spikes pair.
        w_min, w_max, dt: see `SpikeRule`.

    Source: Song, Miller and Abbott, Nature Neuroscience 3, 2000; Gütig, Aharonov, Rotter and Sompolinsky, Journal of
    Neuroscience 23, 2003. The numbers are those of common use.
    """

    a_plus: float = 0.005
    a_minus: float = 0.00525
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    mu_plus: float = 0.0
    mu_minus: float = 0.0
    nearest: bool = False

    def pairing(self) -> Pairing:
        return Pairing(
            self.tau_plus,
            self.tau_minus,
            plus=self.a_plus,
            minus=self.a_minus,
            mu_plus=self.mu_plus,
            mu_minus=self.mu_minus,
            nearest=self.nearest,
        )


@dataclass(frozen=True, kw_only=True)
class TripletSTDP(SpikeRule):
    """Triplet rule: what a pair of spikes does depends on the spike before them on either side.

        incoming:   dw = -y (a2_minus + a3_minus x_slow)        y: tau_minus, x_slow: tau_x, without this spike
        outgoing:   dw = +x (a2_plus + a3_plus y_slow)          x: tau_plus,  y_slow: tau_y, without this spike

    times the weight dependence of `SpikeRule`. With Poisson spikes at rates r_x and r_y the mean drift is
    `r_x r_y (a2_plus tau_plus + a3_plus tau_plus tau_y r_y - a2_minus tau_minus - a3_minus tau_minus tau_x r_x)`:
    depression at low, potentiation at high rates.

    Args:
        a2_plus, a3_plus, a2_minus, a3_minus: amplitudes of pairs and of triplets.
        tau_plus, tau_x, tau_minus, tau_y: time constants, in the unit of `dt`; here ms.
        mu_plus, mu_minus: exponents of the weight dependence.
        nearest: whether only the nearest spikes count.
        w_min, w_max, dt: see `SpikeRule`.

    Source: Pfister and Gerstner, Journal of Neuroscience 26, 2006. The defaults are NEST's for this rule, all-to-all:
    a fit to visual cortex.
    """

    a2_plus: float = 5e-10
    a3_plus: float = 6.2e-3
    a2_minus: float = 7e-3
    a3_minus: float = 2.3e-4
    tau_plus: float = 16.8
    tau_x: float = 101.0
    tau_minus: float = 33.7
    tau_y: float = 125.0
    mu_plus: float = 0.0
    mu_minus: float = 0.0
    nearest: bool = False

    def pairing(self) -> Pairing:
        return Pairing(
            self.tau_plus,
            self.tau_minus,
            plus=self.a2_plus,
            minus=self.a2_minus,
            triplet_plus=self.a3_plus,
            triplet_minus=self.a3_minus,
            tau_pre_slow=self.tau_x,
            tau_post_slow=self.tau_y,
            nearest=self.nearest,
            mu_plus=self.mu_plus,
            mu_minus=self.mu_minus,
        )


@dataclass(frozen=True, kw_only=True)
class DiehlCookSTDP(SpikeRule):
    """The rule of Diehl and Cook's code for unsupervised digits, with traces that a spike sets to 1:

        incoming:   w <- w - nu_pre  post1                    post1: tau_post
        outgoing:   w <- w + nu_post pre post2                pre: tau_pre;  post2: tau_post_slow, without this spike

    A negative `nu_pre` gives the rule of VPRSNN, whose incoming spikes strengthen.

    Args:
        nu_pre, nu_post: learning rates.
        tau_pre, tau_post, tau_post_slow: time constants, in the unit of `dt`; here ms.
        w_min, w_max, dt: see `SpikeRule`.

    Source: the authors' code of Diehl and Cook, Frontiers in Computational Neuroscience 9, 2015. There an incoming
    spike arrives after the outgoing ones of its step are known; here before (see `SpikeRule`).
    """

    nu_pre: float = 1e-4
    nu_post: float = 1e-2
    tau_pre: float = 20.0
    tau_post: float = 20.0
    tau_post_slow: float = 40.0

    def pairing(self) -> Pairing:
        return Pairing(
            self.tau_pre,
            self.tau_post,
            minus=self.nu_pre,
            triplet_plus=self.nu_post,
            tau_post_slow=self.tau_post_slow,
            nearest=True,
        )


@dataclass(frozen=True, kw_only=True)
class TargetSTDP(SpikeRule):
    """Diehl and Cook's rule at outgoing spikes alone: a weight moves up if its input was recently more active than a
    target, else down.

        outgoing:   w <- w + eta (x - x_target) (w_max - w)^mu

    Args:
        eta: learning rate.
        x_target: what the trace of an input must exceed.
        tau: time constant of the trace, in the unit of `dt`.
        mu: exponent of the weight dependence.
        nearest: whether a spike sets the trace to 1 rather than adding 1.
        w_min, w_max, dt: see `SpikeRule`.

    Source: Diehl and Cook, Frontiers in Computational Neuroscience 9, 2015. The numbers are ours.
    """

    eta: float = 1e-2
    x_target: float = 0.4
    tau: float = 20.0
    mu: float = 1.0
    nearest: bool = False

    def pairing(self) -> Pairing:
        return Pairing(self.tau, self.tau, plus=self.eta, target=self.x_target, mu_plus=self.mu, nearest=self.nearest)
