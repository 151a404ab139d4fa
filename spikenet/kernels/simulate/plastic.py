"""Projections whose weights learn while a network runs.

Each is a *site*: the synapses of one projection with one rule. At the end of step t, with x, x_slow the traces of a
synapse's row at t - d (d its delay: traces travel with the spikes), and y, y_slow those of its neuron,

    all traces decay
    a spike arrives:      w <- w - F-(w) y (minus + triplet_minus x_slow)
    the neuron spikes:    w <- w + F+(w) (x - target) (plus + triplet_plus y_slow)
    y, y_slow take the neuron's spikes

as `kernels.plasticity` says for dense weights; where there is a third factor, both changes go to an eligibility first.
What has arrived at t counts in x at t. Every thread changes the synapses onto its own lanes alone. The traces of rows
are worked out `stretch` steps late, when all threads know the spikes, and kept for as long as a spike may travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spikenet.kernels.simulate.plan import BLOCK, Shard, columns, shares

if TYPE_CHECKING:
    from spikenet.kernels.simulate.plan import Plan

CODE = 40  # bits of a synapse's number within its site
SHARED = ("x", "slow_before", "slow", "modulator", "pulse")  # the same in every part
NOTHING = np.empty(0, np.int64)


class Constants(NamedTuple):
    """Of a site's rule. `modulation` is 0 where there is no third factor, else learning rate times dt."""

    decay_pre: float
    decay_pre_slow: float
    decay_post: float
    decay_post_slow: float
    plus: float
    minus: float
    triplet_plus: float
    triplet_minus: float
    target: float
    low: float
    high: float
    mu_plus: float
    mu_minus: float
    decay_eligibility: float = 0.0
    decay_modulator: float = 0.0
    modulation: float = 0.0


class Site(NamedTuple):
    """Where a site's synapses lead: from `pre` rows to `post` lanes of a group, at one of its inputs."""

    first_row: int
    pre: int
    group: int
    first_lane: int
    post: int
    input: int
    nearest: bool
    third: bool  # whether there is a third factor
    constants: Constants


class Places(NamedTuple):
    """Numbers of a site as the compiled step reads them, int64 each."""

    first_row: int
    pre: int
    pre_at: int  # where its rows begin among the traces of all sites
    group: int
    first_post_row: int
    post: int
    post_at: int
    nearest: int
    third: int


@dataclass
class Part:
    """What one thread has of all sites; `heard` lists its synapses by neuron, in the order of `heard_begins`."""

    x: np.ndarray  # [slots, rows of all sites], after the step's spikes
    slow_before: np.ndarray  # likewise, before them
    slow: np.ndarray  # [rows of all sites]
    modulator: np.ndarray  # [sites]
    pulse: np.ndarray  # what the modulators take in the next step, [sites]
    owner: np.ndarray  # whose each synapse of the shard is: the site's number + 1, or 0; uint16 [E]
    heard_begins: np.ndarray  # [neurons of all sites + 1]
    heard: np.ndarray  # the synapse
    heard_pre: np.ndarray  # its row, among those of all sites
    heard_delay: np.ndarray
    heard_number: np.ndarray  # its place among the projection's synapses, as they were made
    shift: np.ndarray  # from a synapse's target to its neuron among those of all sites, [sites]
    own: np.ndarray  # the first and the last (not included) of the thread's neurons of each site, [sites, 2]
    eligibility: np.ndarray  # [E], or [0]


class Learning:
    """All sites of a network between two steps. Weights lie in the plan's shards and change there.

    Args:
        plan: the network, each synapse with a weight of its own.
        sites: its plastic projections.
        codes: for each shard the site and the number of every synapse, `(site + 1) << CODE | number`, or 0; int64 [E].
    """

    def __init__(self, plan: Plan, sites: Sequence[Site], codes: Sequence[np.ndarray]) -> None:
        self.plan, self.sites = plan, list(sites)
        self.pre_at = np.concatenate([[0], np.cumsum([s.pre for s in sites])])
        self.post_at = np.concatenate([[0], np.cumsum([s.post for s in sites])])
        self.places = np.array([self._place(n, s) for n, s in enumerate(sites)], np.int64)
        self.constants: np.ndarray = np.array([s.constants for s in sites], plan.real)
        self.y: np.ndarray = np.zeros(self.post_at[-1], plan.real)
        self.y_slow = np.zeros_like(self.y)
        lanes, inputs = [g.lanes for g in plan.groups], [len(g.program.inputs) for g in plan.groups]
        self.parts = []
        for share, shard, code in zip(shares(lanes, len(plan.shards)), plan.shards, codes, strict=True):
            begins, _ = columns(lanes, inputs, share)
            self.parts.append(self._part(share, begins, shard, code))

    def _place(self, number: int, site: Site) -> Places:
        first_post_row = self.plan.groups[site.group].first_row + site.first_lane
        return Places(
            *(site.first_row, site.pre, int(self.pre_at[number]), site.group, first_post_row, site.post),
            *(int(self.post_at[number]), int(site.nearest), int(site.third)),
        )

    def _part(self, share: Sequence[tuple[int, int]], begins: np.ndarray, shard: Shard, code: np.ndarray) -> Part:
        plan, sites = self.plan, self.sites
        slots, rows = plan.horizon - plan.stretch + 1, int(self.pre_at[-1])
        shift: np.ndarray = np.zeros(len(sites), np.int64)
        own: np.ndarray = np.zeros((len(sites), 2), np.int64)
        for n, site in enumerate(sites):
            low, high = (edge * BLOCK for edge in share[site.group])
            shift[n] = low - begins[site.group, site.input] - site.first_lane + self.post_at[n]
            own[n] = np.clip([low - site.first_lane, high - site.first_lane], 0, site.post) + self.post_at[n]
        owner = (code >> CODE).astype(np.uint16)
        found = np.flatnonzero(owner)
        site_of = owner[found].astype(np.int64) - 1
        neuron = shard.targets[found].astype(np.int64) + shift[site_of]
        order = np.argsort(neuron, kind="stable")
        found, site_of = found[order], site_of[order]
        place = np.searchsorted(shard.offsets, found, side="right") - 1  # row K + class
        kinds = len(plan.classes.delay)
        return Part(
            x=np.zeros((slots, rows), plan.real),
            slow_before=np.zeros((slots, rows), plan.real),
            slow=np.zeros(rows, plan.real),
            modulator=np.zeros(len(sites), plan.real),
            pulse=np.zeros(len(sites), plan.real),
            owner=owner,
            heard_begins=np.concatenate([[0], np.cumsum(np.bincount(neuron, minlength=len(self.y)))]).astype(np.int64),
            heard=found.astype(np.int64),
            heard_pre=place // kinds - self.places[site_of, 0] + self.places[site_of, 2],
            heard_delay=plan.classes.delay[place % kinds],
            heard_number=code[found] & ((1 << CODE) - 1),
            shift=shift,
            own=own,
            eligibility=np.zeros(len(owner) if any(s.third for s in sites) else 0, plan.real),
        )

    # What is asked from outside.

    def weights(self, site: int) -> np.ndarray:
        """A site's weights, in the order in which its synapses were made."""
        return self._gathered(site, [shard.weights for shard in self.plan.shards])

    def eligibility(self, site: int) -> np.ndarray:
        """Likewise its eligibilities."""
        return self._gathered(site, [part.eligibility for part in self.parts])

    def modulate(self, site: int, amount: float) -> None:
        """What a site's modulator takes in the next step."""
        for part in self.parts:
            part.pulse[site] += amount

    def state(self) -> dict[str, np.ndarray]:
        """All that a run changes, copied; the same for any number of threads."""
        first = self.parts[0]
        held = {name: getattr(first, name).copy() for name in SHARED}
        held |= {"y": self.y.copy(), "y_slow": self.y_slow.copy()}
        for n, site in enumerate(self.sites):
            held[f"weight.{n}"] = self.weights(n)
            if site.third:
                held[f"eligibility.{n}"] = self.eligibility(n)
        return held

    def load(self, held: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave."""
        self.y[:], self.y_slow[:] = held["y"], held["y_slow"]
        for part, shard in zip(self.parts, self.plan.shards, strict=True):
            for name in SHARED:
                getattr(part, name)[:] = held[name]
            for n, site in enumerate(self.sites):
                mine = self._mine(part, n)
                shard.weights[part.heard[mine]] = held[f"weight.{n}"][part.heard_number[mine]]
                if site.third:
                    part.eligibility[part.heard[mine]] = held[f"eligibility.{n}"][part.heard_number[mine]]

    def _mine(self, part: Part, site: int) -> slice:
        """A site's synapses among those that a part lists."""
        ends = part.heard_begins[self.post_at[site : site + 2]]
        return slice(int(ends[0]), int(ends[1]))

    def _gathered(self, site: int, values: Sequence[np.ndarray]) -> np.ndarray:
        found = [(part, self._mine(part, site)) for part in self.parts]
        out: np.ndarray = np.zeros(sum(mine.stop - mine.start for _, mine in found), self.plan.real)
        for (part, mine), value in zip(found, values, strict=True):
            out[part.heard_number[mine]] = value[part.heard[mine]]
        return out

    # A step.

    def arguments(self, thread: int) -> tuple[Any, ...]:
        """What `numba_plastic.learn` takes of a thread."""
        part = self.parts[thread]
        return (
            *(self.places, self.constants, self.y, self.y_slow, part.x, part.slow_before, part.slow, part.modulator),
            *(part.pulse, part.owner, part.heard_begins, part.heard, part.heard_pre, part.heard_delay, part.shift),
            *(part.own, part.eligibility),
        )

    def step(self, t: int, fired: Mapping[int, np.ndarray]) -> None:
        """The plain form of a step's end, site by site; `fired` holds the rows of the last `horizon` steps and of t."""
        for n, site in enumerate(self.sites):
            posts = slice(int(self.post_at[n]), int(self.post_at[n + 1]))
            c = Constants(*(self.plan.real(v) for v in site.constants))
            self.y[posts] *= c.decay_post
            self.y_slow[posts] *= c.decay_post_slow
            spiking = self._counts(fired.get(t, NOTHING), int(self.places[n, 4]), site.post)
            for part, shard in zip(self.parts, self.plan.shards, strict=True):
                self._trace_rows(part, n, t - self.plan.stretch, fired, c)
                self._change(part, n, shard.weights, t, fired, spiking, c)
            for trace in (self.y[posts], self.y_slow[posts]):
                trace[:] = np.where(spiking > 0, self.plan.real(1.0), trace) if site.nearest else trace + spiking

    def _counts(self, rows: np.ndarray, first: int, n: int) -> np.ndarray:
        """Spikes of each of `n` rows."""
        mine = rows[(rows >= first) & (rows < first + n)] - first
        return np.bincount(mine, minlength=n).astype(self.plan.real)

    def _trace_rows(self, part: Part, n: int, t: int, fired: Mapping[int, np.ndarray], c: Constants) -> None:
        """The traces of a site's rows at step t."""
        site, rows, slots = self.sites[n], slice(int(self.pre_at[n]), int(self.pre_at[n + 1])), len(part.x)
        if t < 0:
            return
        spikes = self._counts(fired.get(t, NOTHING), site.first_row, site.pre)
        x, slow = part.x[(t - 1) % slots, rows] * c.decay_pre, part.slow[rows] * c.decay_pre_slow
        part.slow_before[t % slots, rows] = slow
        for held, before in ((part.x[t % slots, rows], x), (part.slow[rows], slow)):
            held[:] = np.where(spikes > 0, self.plan.real(1.0), before) if site.nearest else before + spikes

    def _change(
        self,
        part: Part,
        n: int,
        weights: np.ndarray,
        t: int,
        fired: Mapping[int, np.ndarray],
        spiking: np.ndarray,
        c: Constants,
    ) -> None:
        """A part's synapses of one site: depression, potentiation, the third factor."""
        site, mine, real = self.sites[n], self._mine(part, n), self.plan.real
        at, pre, delay = part.heard[mine], part.heard_pre[mine], part.heard_delay[mine]
        neuron = np.repeat(np.arange(len(self.y)), np.diff(part.heard_begins))[mine]
        slot = (t - delay) % len(part.x)
        arrived = np.zeros(len(at))
        for d in np.unique(delay):
            counts = self._counts(fired.get(t - int(d), NOTHING), site.first_row, site.pre)
            arrived[delay == d] = counts[pre[delay == d] - self.pre_at[n]]
        w, e = weights[at], part.eligibility[at] * c.decay_eligibility if site.third else None
        down = self.y[neuron] * (c.minus + c.triplet_minus * part.slow_before[slot, pre])
        for spike in range(int(arrived.max(initial=0))):
            fall = np.where(arrived > spike, _bounded(w - c.low, c.mu_minus) * down, real(0.0))
            if e is None:
                w = np.clip(w - fall, c.low, c.high)
            else:
                e = e - fall
        up = (c.plus + c.triplet_plus * self.y_slow[neuron]) * (part.x[slot, pre] - c.target)
        rise = np.where(spiking[neuron - self.post_at[n]] > 0, _bounded(c.high - w, c.mu_plus) * up, real(0.0))
        if e is None:
            weights[at] = np.clip(w + rise, c.low, c.high)
            return
        part.modulator[n] = part.modulator[n] * c.decay_modulator + part.pulse[n]
        part.pulse[n] = 0.0
        part.eligibility[at] = e + rise
        weights[at] = np.clip(w + part.modulator[n] * c.modulation * (e + rise), c.low, c.high)


def _bounded(room: np.ndarray, mu: float) -> Any:
    return room.dtype.type(1.0) if mu == 0 else room**mu
