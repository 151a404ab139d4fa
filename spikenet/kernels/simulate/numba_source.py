"""Print the time loop of a network: one function a group of neurons, and the loop that calls them step by step.

A block of lanes keeps all that its inner loop touches in one *tile*: inputs, states, draws and parameters, row by row
at fixed offsets, as in `dynamics.numba_source`, so that the loop is vectorised. Tiles stay from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence

from spikenet.kernels.dynamics.numba_source import ForwardSource
from spikenet.kernels.dynamics.numba_text import PHILOX, Variant
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.simulate.inlets import inlets, without_inputs
from spikenet.kernels.simulate.plan import BLOCK

SHARED_ARGUMENTS = (
    "shard, shards, t0, steps, stretch, delay, class_weight, offsets, targets, weights, sums, ids, counts, begins, "
    "sync, halt, segments, all_drives, strengths, guides, tables, populations, watched, tally, per_step, recorded, "
    "room, source_indptr, source_rows, fired, words"
)
COMMON_ARGUMENTS = "sums, all_drives, strengths, guides, tables, words, fired"
_DELIVER = "deliver(t, delay, class_weight, offsets, targets, weights, sums, ids, counts, begins, segments)"
GROUP_ARGUMENTS = "tiles{g}, low{g}, high{g}, lanes{g}, first{g}, key{g}, scales{g}, columns{g}, drives{g}, params{g}"


def network_source(
    programs: Sequence[Program],
    shared: Sequence[tuple[bool, ...]],
    scaled: bool,
    direct: bool,
    plastic: bool,
    real: str,
) -> str:
    """The source of a module with `run(...)`, which advances a network by `steps`, and `ROWS`, for each group the names
    of a tile's rows.

    `run` is called by every thread with its `shard`; it returns the steps that were done, fewer than asked if
    `recorded` had no room for more, and how many spikes were written down.
    """
    groups = [
        StepSource(g, p, s, scaled, direct, Variant(real))
        for g, (p, s) in enumerate(zip(programs, shared, strict=True))
    ]
    lines = ["import math", "", "import numpy as np", "from numba import njit", ""]
    lines += ["from spikenet.kernels.simulate.numba_loop import add_drives, deliver, forget, halted, note"]
    lines += ["from spikenet.kernels.simulate.numba_threads import arrive, bare, lowest, set_bytes, wait", ""]
    lines += ["from spikenet.kernels.simulate.numba_plastic import learn", ""] if plastic else []
    lines += PHILOX.format(real=real).splitlines() if any(p.draws for p in programs) else []
    for group in groups:
        lines += ["", "", *group.source().splitlines()]
    lines += ["", "", f"ROWS = {[group.rows for group in groups]!r}", "", "", *_run(len(groups), direct, plastic)]
    return "\n".join(lines) + "\n"


class StepSource(ForwardSource):
    """One group's function: a step of the lanes of blocks `low` to `high - 1`, whose spikes go to `fired_rows[at:]`.

    Of a direct plan the sums of an input are the state that it is added to; its step leaves the input out.
    """

    def __init__(
        self, number: int, program: Program, shared: tuple[bool, ...], scaled: bool, direct: bool, variant: Variant
    ) -> None:
        super().__init__(without_inputs(program) if direct else program, variant)
        self.inputs, self.scaled = len(program.inputs), scaled
        self.inlets = inlets(program) if direct else ()
        self.name = f"advance{number}"
        self.lane_params = [p for p, one in zip(program.params, shared, strict=True) if not one]
        self.shared_ones = [(m, p) for m, (p, one) in enumerate(zip(program.params, shared, strict=True)) if one]
        tiled = [n for n in program.state if n not in self.inlets]
        for name in [*(f"s_{n}" for n in tiled), *(f"p_{n}" for n in self.lane_params)]:
            self.offset(name)

    @property
    def rows(self) -> list[str]:
        return list(self._rows)

    def source(self) -> str:
        self.body()
        real = self.variant.real
        setup = [f"{k} = np.{real}(float('{v}'))" for v, k in self._constants.items()]
        setup += [f"zero = np.{real}(0.0)"]
        arguments = ", ".join([GROUP_ARGUMENTS.format(g=""), COMMON_ARGUMENTS, "dense, step, fired_rows, at"])
        head = ["@bare", f"def {self.name}({arguments}):"]
        return "\n".join([*head, *("    " + line for line in setup), *self._lines, "    return at"])

    def body(self) -> None:
        self.line(*(f"p_{name} = params[{m}]" for m, name in self.shared_ones))
        with self.block("for turn in range(low, high):"):
            self.line("b = turn if step & 1 else low + high - 1 - turn")  # first what the last step left in the cache
            self.line("scratch = tiles[b]", f"n0 = b * {BLOCK}", f"n = min({BLOCK}, lanes - n0)")
            self.line(f"flags = fired[(b - low) * {BLOCK}:]")
            for k in range(self.inputs):
                self.line(f"x{k}_row = sums[columns[{k}] + (b - low) * {BLOCK}:][:n]")
                if self.scaled:
                    self.line(f"scale = scales[{k}]")
                    self.lanes([f"x{k}_row[i] *= scale"])
            if not self.inlets:
                self.drive()
            for index, (name, kind) in enumerate(self.program.draws):
                self.lanes([f"{self.at('d_' + name)} = {kind}(key, n0 + i, step, {index})"])
            with self.block("for i in range(n):"):
                self.forward_step()
                # A byte of ones is stored whole; 0 or 1 would be stored under masks, where most of the time goes then.
                self.line("flags[i] = np.uint8(255) if z != zero else np.uint8(0)")
                self.advance()
            if self.inlets:
                self.drive()
            else:
                self.clear()
        self.list_spikes()

    def drive(self) -> None:
        arguments = "sums, columns, b, low, n, step, drives, all_drives, strengths, guides, tables, words"
        with self.block("if drives[0] < drives[1]:"):
            self.line(f"add_drives({arguments})")

    def clear(self) -> None:
        with self.block("if dense or drives[0] < drives[1]:"):
            for k in range(self.inputs):
                self.lanes([f"x{k}_row[i] = zero"])

    def at(self, row: str) -> str:
        places = {f"s_{name}": f"x{k}_row[i]" for k, name in enumerate(self.inlets)}
        return places.get(row) or super().at(row)

    def states(self, pattern: str) -> list[str]:
        return [pattern.format(n=n, s=self.at(f"s_{n}")) for n in self.program.state]

    def input_at(self, k: int) -> str:
        return f"x{k}_row[i]"

    def load_params(self) -> None:
        self.line(*(f"p_{name} = {self.at('p_' + name)}" for name in self.lane_params))

    def list_spikes(self) -> None:
        """64 lanes at a time, as most are silent."""
        self.line(f"n0 = low * {BLOCK}", f"n = max(min(high * {BLOCK}, lanes) - n0, 0)")
        self.line("fired[n : (n + 63) // 64 * 64] = 0")
        with self.block("for e in range(0, n, 64):"):
            self.line("bits = set_bytes(fired, e)")
            with self.block("while bits:"):
                self.line("fired_rows[at] = first + n0 + e + lowest(bits)", "at += 1", "bits &= bits - np.uint64(1)")


def _run(groups: int, direct: bool, plastic: bool) -> list[str]:
    """The loop. Threads hear of each other before the first delivery of a turn of `stretch` steps, which where states
    take what arrives is after the neurons' step: until then the spikes have had time to get here."""
    heard = ["if s == done:", "    wait(sync, shards, turn - 1)"]
    before, after = [*heard, f"found = {_DELIVER}", "dense = found < 0"], ["forget(segments, found, targets, sums)"]
    if direct:
        before, after = ["dense = False"], [*heard, _DELIVER]
    per_group = [GROUP_ARGUMENTS.format(g=g) for g in range(groups)]
    lines = [
        "@njit(cache=True, nogil=True, error_model='numpy', _nrt=False)",
        f"def run({', '.join([SHARED_ARGUMENTS, *per_group, *(['plastic'] if plastic else [])])}):",
        "    slots, turn, done, number = counts.shape[0], 0, 0, 0",
        "    while done < steps:",
        "        stop = min(done + stretch, steps)",
        "        for s in range(done, stop):",
        "            t = t0 + s",
        "            slot = t % slots",
    ]
    lines += [f"            {line}" for line in before]
    for g in range(groups):
        lines += [
            f"            each = {g} * shards + shard",
            "            begin = begins[each]",
            f"            end = advance{g}({per_group[g]}, {COMMON_ARGUMENTS}, dense, t, ids[slot], begin)",
            "            counts[slot, each] = end - begin",
            "            seen = populations, watched, tally, per_step, recorded",
            "            number = note(ids[slot], begin, end, s, *seen, number)",
        ]
    lines += [f"            {line}" for line in after]
    lines += [
        "            if shard == 0:",
        "                for source in range(source_indptr.shape[0]):",
        f"                    each = {groups} * shards + source",
        "                    first = source_indptr[source, s]",
        "                    n = source_indptr[source, s + 1] - first",
        "                    for j in range(n):",
        "                        ids[slot, begins[each] + j] = source_rows[first + j]",
        "                    counts[slot, each] = n",
    ]
    if plastic:
        synapses = "delay, offsets, targets, weights, ids, counts, begins"
        lines += [f"            learn(t, stretch, shard, shards, {synapses}, plastic)"]
    lines += [
        "        done = stop",
        "        if recorded.shape[1] - number < 2 * room:",
        "            halt[shard * 8] = min(halt[shard * 8], turn + 1)",  # when all have heard of it
        "        arrive(sync, shard, turn)",
        "        turn += 1",
        "        if halted(halt, shards, turn - 1):",
        "            break",
        "    return done, number",
    ]
    return lines
