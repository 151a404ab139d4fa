"""From populations, projections and inputs to the plain arrays of a `Plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from spikenet.errors import ArgumentError
from spikenet.kernels.dynamics.ops import registered
from spikenet.kernels.simulate.plan import Classes, Drive, Group, Plan, most_threads
from spikenet.simulate.drive import ConstantInput, Input, PoissonInput
from spikenet.simulate.plasticity import learning
from spikenet.simulate.population import Cells, Population, Source, neuron_arrays
from spikenet.simulate.projection import Projection
from spikenet.simulate.values import values

STATES, PROJECTIONS, DRIVES, DRAWS, SOURCES = range(5)  # streams of random numbers
LARGEST = {16: 32767}


class Layout:
    """Where each population's neurons are: its group, its first lane there, its first row."""

    def __init__(self, populations: Sequence[Population], sources: Sequence[Source]) -> None:
        programs: dict[str, list[Population]] = {}
        for population in populations:
            programs.setdefault(registered(population.neuron._program).key, []).append(population)
        self.members = list(programs.values())
        self.group: dict[Population, int] = {}
        self.lane: dict[Population, int] = {}
        self.row: dict[Cells, int] = {}
        at = 0
        for g, members in enumerate(self.members):
            lane = 0
            for population in members:
                self.group[population], self.lane[population], self.row[population] = g, lane, at
                lane, at = lane + population.n, at + population.n
        for source in sources:
            self.row[source] = at
            at += source.n
        self.rows = at


def key(seed: int, stream: int, index: int) -> int:
    """A seed of its own for one part of a network."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def assemble(
    layout: Layout,
    cells: Sequence[Cells],
    projections: Sequence[Projection],
    inputs: Sequence[Input],
    seed: int,
    real: Any,
    weight_bits: int,
    threads: int,
    dt: float,
) -> Plan:
    """The plan of a network; populations are numbered in the order of `cells`."""
    groups = [_group(layout, g, members, cells, seed, real) for g, members in enumerate(layout.members)]
    classes, kinds = _classes(projections, real)
    quantised = weight_bits != 32 and not classes.weight.size
    if quantised and any(p.plasticity is not None for p in projections):
        raise ArgumentError(f"weights of {weight_bits} bits cannot learn; take weight_bits=32")
    if quantised:
        _scale(groups, layout, projections, LARGEST[weight_bits])
    populations = np.zeros(layout.rows, np.uint16)
    for number, each in enumerate(cells):
        populations[layout.row[each] : layout.row[each] + each.n] = number
    sources = [each for each in cells if isinstance(each, Source)]
    plan = Plan(
        real=real,
        groups=groups,
        drives=_drives(layout, inputs, seed, dt),
        classes=classes,
        shards=_sorted(layout, groups, projections, kinds, classes, seed, real, quantised, threads),
        sources=[(source.n, source.n * source.most_in_step(dt)) for source in sources],
        populations=populations,
    )
    plan.learning = learning(plan, layout, projections, kinds, [seed, PROJECTIONS], dt)
    return plan


def _group(
    layout: Layout, g: int, members: Sequence[Population], cells: Sequence[Cells], seed: int, real: Any
) -> Group:
    program = registered(members[0].neuron._program)
    arrays = [neuron_arrays(population, real) for population in members]
    for (_, state), population in zip(arrays, members, strict=True):
        rng = np.random.default_rng([seed, STATES, list(cells).index(population)])
        for name, value in population.initial.items():
            what = f"{population.name}: initial {name}"
            state[program.state.index(name)] = values(what, value, rng, population.n).astype(real)
    params = [_joined([p[m] for p, _ in arrays], members) for m in range(len(program.params))]
    states = [np.concatenate([s[j] for _, s in arrays]) for j in range(len(program.state))]
    lanes = sum(population.n for population in members)
    first = layout.row[members[0]]
    return Group(program, lanes, first, states, params, key(seed, DRAWS, g), [1.0] * len(program.inputs))


def _joined(parts: Sequence[np.ndarray], members: Sequence[Population]) -> np.ndarray:
    """One number if all members share it, else one a lane."""
    if all(len(p) == 1 and p[0] == parts[0][0] for p in parts):
        return parts[0]
    return np.concatenate([np.broadcast_to(p, (m.n,)) for p, m in zip(parts, members, strict=True)])


def _drives(layout: Layout, inputs: Sequence[Input], seed: int, dt: float) -> list[Drive]:
    found = []
    for number, each in enumerate(inputs):
        target = each.target
        first = layout.lane[target]
        where = layout.group[target], target.input_index(each.input), first, first + target.n
        if isinstance(each, PoissonInput):
            what = "poisson", each.weight, each.mean
        else:
            what = ("constant", each.value, 0.0) if isinstance(each, ConstantInput) else ("normal", each.sd, 0.0)
        found.append(Drive(*where, *what, key=key(seed, DRIVES, number)))
    return sorted(found, key=lambda d: d.group)


def _classes(projections: Sequence[Projection], real: Any) -> tuple[Classes, list[np.ndarray]]:
    """Classes of synapses, and for each projection the class of every delay it can have, [longest + 1]."""
    constant = all(p.constant for p in projections)
    known: dict[tuple[int, float], int] = {}
    wanted = sorted({(int(d), float(p.weight) if constant else 0.0) for p in projections for d in p.delays()})  # type: ignore[arg-type]
    for number, each in enumerate(wanted):
        known[each] = number
    tables = []
    for p in projections:
        table = np.zeros(int(p.delays().max(initial=0)) + 1, np.int32)
        for d in p.delays():
            table[d] = known[int(d), float(p.weight) if constant else 0.0]  # type: ignore[arg-type]
        tables.append(table)
    weight = np.array([w for _, w in wanted] if constant else [], real)
    return Classes(np.array([d for d, _ in wanted], np.int64), weight), tables


def _scale(groups: list[Group], layout: Layout, projections: Sequence[Projection], largest: int) -> None:
    """Set what the integer 1 stands for at each input."""
    weights: dict[tuple[int, int], float] = {}
    for p in projections:
        place = layout.group[p.post], p.input
        weights[place] = max(weights.get(place, 0.0), p.largest_weight())
    for (group, number), weight in weights.items():
        groups[group].scales[number] = weight / largest or 1.0


def _sorted(
    layout: Layout,
    groups: Sequence[Group],
    projections: Sequence[Projection],
    kinds: Sequence[np.ndarray],
    classes: Classes,
    seed: int,
    real: Any,
    quantised: bool,
    threads: int,
) -> list[Any]:
    from spikenet.kernels.simulate import build

    own = not classes.weight.size  # each synapse has its own weight

    def made(number: int, p: Projection, table: np.ndarray, weights: bool) -> Iterator[build.Batch]:
        g, first, lane = layout.group[p.post], np.int32(layout.row[p.pre]), np.int32(layout.lane[p.post])
        scale = groups[g].scales[p.input] if quantised else 1.0
        for some in p.synapses([seed, PROJECTIONS, number], weights and own):
            if not np.isfinite(some.weight).all():
                raise ArgumentError(f"{p.name}: weights must be finite")
            given = np.rint(some.weight / scale) if quantised else some.weight
            yield build.Batch(some.pre + first, some.post + lane, table[some.delay], given, g, p.input)

    def batches(weights: bool) -> Iterator[build.Batch]:
        each = [made(k, p, table, weights) for k, (p, table) in enumerate(zip(projections, kinds, strict=True))]
        return build.ahead(each, threads)

    lanes, inputs = [g.lanes for g in groups], [len(g.program.inputs) for g in groups]
    dtype = np.dtype(np.int16 if quantised else real) if own else None
    shares = most_threads(lanes, threads)
    return build.sort(batches, lanes, inputs, layout.rows, len(classes.delay), shares, dtype)
