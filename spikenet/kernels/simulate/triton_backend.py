"""A network on a GPU: one launch for many steps, without a word from the host. Imports triton.

The same kernel runs in Triton's interpreter, as one program. Spikes are those of the other engines wherever sums of
weights are exact and the plan is not direct; elsewhere weights are rounded (see `rows`), or what takes them is rounded
once a step and not once a weight. A run gives the same spikes every time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nn

from spikenet.kernels.simulate.plan import Drive, Plan, Recorded, Sources
from spikenet.kernels.simulate.poisson import thresholds
from spikenet.kernels.simulate.rows import rows
from spikenet.kernels.simulate.triton_source import GroupForm, NetworkForm, network_source
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

CAPACITY = 1 << 22  # spikes of one launch
AT_ONCE, PART = 2, 512  # parts of rows that a program delivers at the same time, synapses of one
PROGRAMS, WARPS = 1, 8  # of a multiprocessor, of a program
_DYNAMICS = ("trace.py", "printer.py", "triton_source.py", "triton_text.py")


class Layer(NamedTuple):
    """Drives of one kind on one input of a group, no two of them on the same lane; all are [lanes]."""

    input: int
    kind: str
    weight: Tensor  # float32, 0 where there is none
    key: Tensor  # int64
    table: Tensor  # int32: where the lane's table of thresholds begins
    entries: Tensor  # int64: the tables
    halvings: int  # that find an entry


class Engine:
    """A network that can be advanced; see `engine.Engine`."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device, self.step = plan, device, 0
        self._rows = rows(plan, device)
        self._slots = plan.horizon + 1
        self._ring = torch.zeros(self._slots * self._rows.columns, dtype=torch.int32, device=device)
        self._params = [[self._real(v) for v in g.params] for g in plan.groups]
        self._scales = [torch.tensor(s, dtype=torch.float32, device=device) for s in self._rows.scales]
        self._layers = [_layers(plan, g, device) for g in range(len(plan.groups))]
        self._populations = torch.from_numpy(plan.populations.astype(np.int64)).to(device)
        self._neurons = sum(g.lanes for g in plan.groups)
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        self._flying = nothing, nothing  # steps and rows of the last `horizon` steps' spikes
        self.tally = np.zeros(plan.rows, np.int64)
        self._programs, self._sizes = _grid(plan, device)
        room = CAPACITY + self._neurons + self._programs * AT_ONCE
        self._found = torch.zeros(room, dtype=torch.int32, device=device)
        self._starts = torch.zeros(room, dtype=torch.int64, device=device)
        self._lengths = torch.zeros(room, dtype=torch.int32, device=device)
        self._kernel = _compiled(self._form())
        self.load_state([g.state for g in plan.groups])

    def _form(self) -> NetworkForm:
        groups = [
            GroupForm(g.program, tuple(len(v) > 1 for v in g.params), tuple((x.input, x.kind) for x in layers))
            for g, layers in zip(self.plan.groups, self._layers, strict=True)
        ]
        return NetworkForm(tuple(groups), bool(self.plan.sources), interpreted())

    def _real(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    # State.

    def load_state(self, states: list[list[np.ndarray]]) -> None:
        """Set every group's states, [lanes] each."""
        self._states = [[self._real(v) for v in values] for values in states]

    def state(self) -> list[list[np.ndarray]]:
        """Every group's states, copied."""
        return [[v.cpu().numpy().copy() for v in values] for values in self._states]

    def in_flight(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and rows of the spikes of the last `horizon` steps, in order."""
        steps, found = (v.cpu().numpy() for v in self._flying)
        order = np.lexsort((found, steps))
        return steps[order], found[order]

    def resume(self, step: int, steps: np.ndarray, rows: np.ndarray) -> None:
        """Go on at `step`, with these spikes in flight."""
        self.step = step
        self._flying = tuple(torch.tensor(v, dtype=torch.int64, device=self.device) for v in (steps, rows))  # type: ignore[assignment]
        self._ring.zero_()
        when, which = self._flying
        known = self._rows
        n = known.begins[which + 1] - known.begins[which]
        spike = torch.repeat_interleave(torch.arange(len(n), device=self.device), n)
        at = torch.arange(len(spike), device=self.device) + (known.begins[which] - n.cumsum(0) + n)[spike]
        words = known.words[at].long()
        arrival = when[spike] + words // known.columns
        due = arrival >= step
        place = arrival % self._slots * known.columns + words % known.columns
        self._ring.index_add_(0, place[due], known.weights[at].int()[due])

    # Running.

    def run(self, steps: int, sources: Sources, watched: np.ndarray) -> Recorded:
        """Advance by up to `steps`; see `engine.Engine.run`."""
        indptr, given = self._given(sources, steps)
        ends = torch.zeros(max(steps, 1), dtype=torch.int32, device=self.device)
        marks = torch.zeros(64, dtype=torch.int32, device=self.device)  # spikes found, steps done; arrivals
        self._launch(steps, indptr, given, ends, marks)
        number, done = marks[:2].tolist()
        each = ends[:done].diff(prepend=ends.new_zeros(1))
        when = torch.repeat_interleave(torch.arange(done, device=self.device), each)
        found = self._found[:number].long()
        self._remember(done, when, found, indptr, given)
        self.step += done
        self.tally += torch.bincount(found, minlength=self.plan.rows).cpu().numpy()
        return self._recorded(done, when, found, watched)

    def _given(self, sources: Sources, steps: int) -> tuple[Tensor, Tensor]:
        """The given spikes of all sources, step by step."""
        n = np.diff(sources.indptr, axis=1)
        when = np.concatenate([np.repeat(np.arange(steps), k) for k in n] or [np.empty(0, np.int64)])
        order = np.argsort(when, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(n.sum(0))]).astype(np.int32)
        listed = np.concatenate([sources.rows[i[0] : i[-1]] for i in sources.indptr] or [np.empty(0, np.uint32)])
        found = listed[order].astype(np.int64)
        return torch.from_numpy(indptr).to(self.device), torch.from_numpy(found).to(self.device)

    def _launch(self, steps: int, indptr: Tensor, given: Tensor, ends: Tensor, marks: Tensor) -> None:
        known, plan = self._rows, self.plan
        tensors = [self._ring, self._found, self._starts, self._lengths, ends, marks, marks[32:]]
        tensors += [known.begins, known.words, known.weights]
        if plan.sources:
            starts = known.begins[given]
            lengths = (known.begins[given + 1] - starts).int()
            tensors += [indptr, *(nn.pad(v, (0, self._programs * AT_ONCE)) for v in (starts, lengths))]
        constants: dict[str, Any] = {"PROGRAMS": self._programs, "AT_ONCE": AT_ONCE, "PART": PART}
        for g, layers in enumerate(self._layers):
            tensors += [self._scales[g], *self._states[g], *self._params[g]]
            constants[f"BLOCK{g}"] = self._sizes[g]
            for d, layer in enumerate(layers):
                tensors += [layer.weight, *([layer.key] if layer.kind != "constant" else [])]
                tensors += [layer.table, layer.entries] if layer.kind == "poisson" else []
                constants |= {f"HALVINGS{g}_{d}": layer.halvings} if layer.kind == "poisson" else {}
        parts = max(-(-known.longest // PART), 1)
        numbers = [self._slots, known.columns, parts, self.step, steps, CAPACITY]
        numbers += [n for group in plan.groups for n in (group.lanes, group.first_row, group.key)]
        numbers += [
            int(known.at[g, k]) for g, group in enumerate(plan.groups) for k in range(len(group.program.inputs))
        ]
        options = {} if interpreted() else _OPTIONS
        with torch.cuda.device(self.device if self.device.type == "cuda" else -1):
            self._kernel[(self._programs,)](*tensors, *numbers, **constants, **options)

    def _remember(self, done: int, when: Tensor, found: Tensor, indptr: Tensor, given: Tensor) -> None:
        """Keep the spikes that are still in flight after these steps."""
        given = given[: int(indptr[done])]
        given_when = torch.repeat_interleave(torch.arange(done, device=self.device), indptr[: done + 1].diff())
        steps = torch.cat([self._flying[0], when + self.step, given_when + self.step])
        lasting = steps >= self.step + done - self.plan.horizon
        self._flying = steps[lasting], torch.cat([self._flying[1], found, given])[lasting]

    def _recorded(self, done: int, when: Tensor, found: Tensor, watched: np.ndarray) -> Recorded:
        n = int(self.plan.populations.max(initial=0)) + 1
        counts = torch.bincount(when * n + self._populations[found], minlength=done * n).view(done, n)
        wanted = torch.from_numpy(watched).to(self.device)[found] > 0
        listed = torch.sort(when[wanted] * self.plan.rows + found[wanted])[0].cpu().numpy()
        steps, rows = np.divmod(listed, self.plan.rows)
        return Recorded(done, steps, rows, counts.int().cpu().numpy())


_OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": False, "launch_cooperative_grid": True}


def _grid(plan: Plan, device: torch.device) -> tuple[int, list[int]]:
    """Programs, all of which the device holds at the same time, and the lanes of each group that one of them owns."""
    programs = 1
    if device.type == "cuda":
        programs = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
    return programs, [max(32 * WARPS, 1 << (-(-g.lanes // programs) - 1).bit_length()) for g in plan.groups]


def _layers(plan: Plan, g: int, device: torch.device) -> list[Layer]:
    """A group's drives lane by lane. A drive shares the layer of an earlier one if its place in the sum stays."""
    shared: list[list[Drive]] = []
    for drive in (d for d in plan.drives if d.group == g):
        last = next((x for x in reversed(shared) if x[0].input == drive.input), None)
        fits = last is not None and last[0].kind == drive.kind
        if fits and all(d.last <= drive.first or drive.last <= d.first for d in last or ()):
            last.append(drive)  # type: ignore[union-attr]
        else:
            shared.append([drive])
    return [_layer(drives, plan.groups[g].lanes, device) for drives in shared]


def _layer(drives: list[Drive], lanes: int, device: torch.device) -> Layer:
    weight, key, table = np.zeros(lanes, np.float32), np.zeros(lanes, np.int64), np.zeros(lanes, np.int32)
    means = list(dict.fromkeys(d.mean for d in drives))
    tables = [thresholds(mean) for mean in means]
    halvings = (max(map(len, tables)) - 1).bit_length()
    entries = np.full((len(means), 1 << halvings), 1 << 32, np.int64)
    for row, values in zip(entries, tables, strict=True):
        row[: len(values)] = values
    for d in drives:
        weight[d.first : d.last], key[d.first : d.last] = d.weight, d.key
        table[d.first : d.last] = means.index(d.mean) << halvings
    strengths, keys, tables_at, flat = (
        torch.from_numpy(a).to(device) for a in (weight, key, table, entries.reshape(-1))
    )
    return Layer(drives[0].input, drives[0].kind, strengths, keys, tables_at, flat, halvings)


@functools.cache
def _compiled(form: NetworkForm) -> Any:
    """The kernel of one set of equations and drives."""
    told = repr([(g.program.key, g.spread, g.drives) for g in form.groups] + [form.given, form.interpreted])
    name = f"network_{hashlib.sha256(told.encode()).hexdigest()[:16]}_triton"
    here = Path(__file__).parent
    printers = [*(here.parent / "dynamics" / p for p in _DYNAMICS), here / "triton_source.py"]
    print_source: Callable[[], str] = functools.partial(network_source, form)
    return load(name, print_source, printers).run
