"""From the rules of projections to the arrays by which an engine learns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spikenet.errors import ArgumentError
from spikenet.kernels.simulate.plan import Plan
from spikenet.kernels.simulate.plastic import CODE, Constants, Learning, Site
from spikenet.learning import SpikeRule, ThreeFactor

if TYPE_CHECKING:
    from spikenet.simulate.assemble import Layout
    from spikenet.simulate.projection import Projection

PlasticRule = SpikeRule | ThreeFactor


def constants(rule: PlasticRule, dt: float) -> Constants:
    """A rule's, in steps of `dt` ms."""
    spikes = replace(rule.rule if isinstance(rule, ThreeFactor) else rule, dt=dt)
    p, change = spikes.pairing(), spikes.change
    taus = p.tau_pre, p.tau_pre_slow, p.tau_post, p.tau_post_slow
    third: tuple[float, ...] = ()
    if isinstance(rule, ThreeFactor):
        fade = math.exp(-dt / rule.tau_modulator) if rule.tau_modulator else 0.0
        third = math.exp(-dt / rule.tau_eligibility), fade, rule.lr * dt
    return Constants(
        *(math.exp(-dt / tau) for tau in taus),
        *(p.plus, p.minus, p.triplet_plus, p.triplet_minus, p.target, *change[:4], *third),
    )


def learning(
    plan: Plan,
    layout: Layout,
    projections: Sequence[Projection],
    tables: Sequence[np.ndarray],
    seed: list[int],
    dt: float,
) -> Learning | None:
    """What a network's plastic projections need, or None if it has none.

    Args:
        plan: the network's, each synapse with its own weight.
        layout: where its populations are.
        projections: all of them.
        tables: for each projection the class of every delay.
        seed: what projections draw from, without their number.
        dt: length of a step, ms.

    Raises:
        ArgumentError: for weights that lie outside their rule's bounds.
    """
    from spikenet.kernels.simulate import build

    plastic = [n for n, p in enumerate(projections) if p.plasticity is not None]
    if not plastic:
        return None

    def batches(_: bool) -> Iterator[build.Batch]:
        for number, (p, table) in enumerate(zip(projections, tables, strict=True)):
            site, done = (plastic.index(number) + 1 if number in plastic else 0), 0
            first, lane = np.int32(layout.row[p.pre]), np.int32(layout.lane[p.post])
            for some in p.synapses([*seed, number], weights=False):
                codes = np.arange(done, done + len(some.pre), dtype=np.int64) | (site << CODE)
                done += len(some.pre)
                given = codes if site else np.zeros(1, np.int64)
                group = layout.group[p.post]
                yield build.Batch(some.pre + first, some.post + lane, table[some.delay], given, group, p.input)

    lanes, inputs = [g.lanes for g in plan.groups], [len(g.program.inputs) for g in plan.groups]
    sizes = plan.rows, len(plan.classes.delay), len(plan.shards)
    codes = [shard.weights for shard in build.sort(batches, lanes, inputs, *sizes, np.dtype(np.int64))]
    made = Learning(plan, [_site(layout, projections[n], dt) for n in plastic], codes)
    for site, n in enumerate(plastic):
        _check(projections[n], made.weights(site), made.sites[site].constants)
    return made


def _site(layout: Layout, p: Projection, dt: float) -> Site:
    rule = p.plasticity
    assert rule is not None
    spikes = rule.rule if isinstance(rule, ThreeFactor) else rule
    return Site(
        first_row=layout.row[p.pre],
        pre=p.pre.n,
        group=layout.group[p.post],
        first_lane=layout.lane[p.post],
        post=p.post.n,
        input=p.input,
        nearest=spikes.pairing().nearest,
        third=isinstance(rule, ThreeFactor),
        constants=constants(rule, dt),
    )


def _check(p: Projection, weights: np.ndarray, c: Constants) -> None:
    real = weights.dtype.type
    if len(weights) and (weights.min() < real(c.low) or weights.max() > real(c.high)):
        raise ArgumentError(
            f"{p.name}: its rule keeps weights from {c.low:g} to {c.high:g}, and they begin from {weights.min():g} to "
            f"{weights.max():g}; change w_min and w_max, or the weights"
        )
