"""Print the GPU's time loop of a network: one function a group of neurons, and the kernel that runs many steps.

Every program owns one block of lanes of each group, whose states and parameters stay in its registers from the first
step to the last. A step is

    what arrives is read from the ring, drives are added, neurons advance, rows that fired are listed;
    all programs meet; each delivers a part of the listed spikes into the ring; all meet again.

Random input is drawn for the next step while a program waits for the others.
"""

from __future__ import annotations

from typing import NamedTuple

from spikenet.kernels.dynamics.printer import Printer
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.dynamics.triton_source import Source
from spikenet.kernels.dynamics.triton_text import PHILOX, PRELUDE, PRELUDE_INTERPRETED, Variant

_SHARED = "from spikenet.kernels.simulate.triton_loop import arrive, deliver, number, own_word, quad, wait"
_POISSON = """

@triton.jit
def poisson(key, table, lane, step, HALVINGS: tl.constexpr):
    w0, w1, w2, w3 = philox(key, quad(lane), step, 0)
    return number(table, own_word(lane, w0, w1, w2, w3), HALVINGS)
"""
_NUMBERS = ("slots", "columns", "parts", "first_step", "steps", "room")


class GroupForm(NamedTuple):
    """What the code of a group depends on: its equations, which parameters differ between lanes, and its drives in
    order, (input, kind) each."""

    program: Program
    spread: tuple[bool, ...]
    drives: tuple[tuple[int, str], ...]


class NetworkForm(NamedTuple):
    """What a network's code depends on."""

    groups: tuple[GroupForm, ...]
    given: bool  # whether there are sources of given spikes
    interpreted: bool


def network_source(form: NetworkForm) -> str:
    """The source of a module with the kernel `run`."""
    lines = (PRELUDE_INTERPRETED if form.interpreted else PRELUDE).splitlines()
    lines.insert(lines.index("import triton"), _SHARED)
    lines += (PHILOX + _POISSON).splitlines()
    for g, group in enumerate(form.groups):
        lines += ["", "", *_Step(g, group.program, form.interpreted).source().splitlines()]
    return "\n".join([*lines, "", "", *_Run(form).source().splitlines()]) + "\n"


class _Step(Source):
    """One step of a group's lanes: inputs, states, draws and parameters -> spikes and the next states."""

    def __init__(self, number: int, program: Program, interpreted: bool) -> None:
        spread = (False,) * len(program.params)
        super().__init__(program, Variant(1, False, True, False, spread, False, False, True, interpreted=interpreted))
        self.name = f"advance{number}"

    def arguments(self) -> list[str]:
        p = self.program
        return [
            *(f"x_{n}" for n in p.inputs),
            *(f"s_{n}" for n in p.state),
            *(f"d_{n}" for n, _ in p.draws),
            *(f"p_{n}" for n in p.params),
        ]

    def source(self) -> str:
        names: dict[str, str] = {}
        self.work(self.program.charge, names, "h_")
        self.fire(names)
        self.work(self.program.reset, names, "next_")
        setup = [f"{k} = tl.full([BLOCK], float('{v}'), tl.float32)" for v, k in self._constants.items()]
        setup += ["zero = tl.full([BLOCK], 0.0, tl.float32)", "minus_one = tl.full([BLOCK], -1.0, tl.float32)"]
        head = ["@triton.jit", f"def {self.name}({', '.join(self.arguments())}, BLOCK: tl.constexpr):"]
        left = ", ".join(["z != zero", *(f"next_{n}" for n in self.program.state)])
        return "\n".join([*head, *("    " + line for line in setup), *self._lines, f"    return {left}"])


class _Run(Printer):
    """The kernel."""

    def __init__(self, form: NetworkForm) -> None:
        super().__init__()
        self.form = form

    def arguments(self) -> list[str]:
        given = ["given_ends", "given_starts", "given_lengths"] if self.form.given else []
        found = ["ring", "rows", "starts", "lengths", "ends", "counter", "sync", "begins", "words", "weights", *given]
        for g, group in enumerate(self.form.groups):
            p = group.program
            found += [f"scales{g}", *(f"s{g}_{n}" for n in p.state), *(f"p{g}_{n}" for n in p.params)]
            for d, (_, kind) in enumerate(group.drives):
                found += [f"weight{g}_{d}", *([f"key{g}_{d}"] if kind != "constant" else [])]
                found += [f"table{g}_{d}", f"entries{g}_{d}"] if kind == "poisson" else []
        return found

    def numbers(self) -> list[str]:
        each = [f"{what}{g}" for g in range(len(self.form.groups)) for what in ("lanes", "first", "seed")]
        places = [f"at{g}_{k}" for g, group in enumerate(self.form.groups) for k in range(len(group.program.inputs))]
        return [*_NUMBERS, *each, *places]

    def constants(self) -> list[str]:
        found = ["PROGRAMS", "AT_ONCE", "PART"]
        for g, group in enumerate(self.form.groups):
            found += [
                f"BLOCK{g}",
                *(f"HALVINGS{g}_{d}" for d, (_, kind) in enumerate(group.drives) if kind == "poisson"),
            ]
        return found

    def source(self) -> str:
        self.body()
        wide = ("first_step", *(f"seed{g}" for g in range(len(self.form.groups))))
        listed = [f'{n}: "{"i64" if n in wide else "i32"}"' for n in self.numbers()]
        listed += [f"{name}: tl.constexpr" for name in self.constants()]
        head = [
            f"@triton.jit(do_not_specialize={self.numbers()})",
            f"def run({', '.join([*self.arguments(), *listed])}):",
        ]
        return "\n".join([*head, *self._lines])

    def body(self) -> None:
        self.line("program = tl.program_id(0)", "slot = (first_step % slots).to(tl.int32)", "s = 0", "last = 0")
        wide = ["first_step", *(f"seed{g}" for g in range(len(self.form.groups)))]
        self.line(*(f"{n} = {n}.to(tl.int64)" for n in wide))
        for g, group in enumerate(self.form.groups):
            self.begin(g, group)
        for g, group in enumerate(self.form.groups):
            self.draw(g, group, "first_step")
        with self.block("while (s < steps) & (last <= room):"):
            self.line("here = ring + slot * columns", "before = last")
            for g, group in enumerate(self.form.groups):
                self.step(g, group)
            self.meet("2 * s + 1")
            self.line("last = tl.load(counter, volatile=True)")
            with self.block("if program == 0:"):
                self.line("tl.store(ends + s, last)")
            self.deliver("", "before", "last")
            if self.form.given:
                self.line("given, given_end = tl.load(given_ends + s), tl.load(given_ends + s + 1)")
                self.deliver("given_", "given", "given_end")
            self.line("arrive(sync)", "wait(sync, (2 * s + 2) * PROGRAMS)")
            self.line("slot = tl.where(slot + 1 == slots, 0, slot + 1)", "s += 1")
        for g, group in enumerate(self.form.groups):
            states = group.program.state
            self.line(*(f"tl.store(s{g}_{n} + lane{g}, state{g}_{n}, inside{g})" for n in states))
        with self.block("if program == 0:"):
            self.line("tl.store(counter + 1, s)")

    def meet(self, turn: str) -> None:
        """Wait for all programs, and draw for the next step meanwhile."""
        self.line("arrive(sync)")
        for g, group in enumerate(self.form.groups):
            self.draw(g, group, "first_step + s + 1")
        self.line(f"wait(sync, ({turn}) * PROGRAMS)")

    def deliver(self, which: str, first: str, last: str) -> None:
        fired = f"{which}starts, {which}lengths, {first}, {last}"
        constants = "PROGRAMS, AT_ONCE, PART"
        self.line(f"deliver(ring, slot, slots, columns, {fired}, words, weights, parts, {constants})")

    def begin(self, g: int, group: GroupForm) -> None:
        """What stays in registers."""
        p = group.program
        self.line(f"lane{g} = program * BLOCK{g} + tl.arange(0, BLOCK{g})", f"inside{g} = lane{g} < lanes{g}")
        self.line(f"start{g} = tl.load(begins + first{g} + lane{g}, inside{g}, other=0)")
        self.line(f"length{g} = (tl.load(begins + first{g} + lane{g} + 1, inside{g}, other=0) - start{g}).to(tl.int32)")
        self.line(*(f"scale{g}_{k} = tl.load(scales{g} + {k})" for k in range(len(p.inputs))))
        self.line(*(f"state{g}_{n} = tl.load(s{g}_{n} + lane{g}, inside{g}, other=0.0)" for n in p.state))
        for n, spread in zip(p.params, group.spread, strict=True):
            one = f"tl.broadcast_to(tl.load(p{g}_{n}), [BLOCK{g}])"
            self.line(f"param{g}_{n} = " + (f"tl.load(p{g}_{n} + lane{g}, inside{g}, other=1.0)" if spread else one))
        for d, (_, kind) in enumerate(group.drives):
            self.line(f"strength{g}_{d} = tl.load(weight{g}_{d} + lane{g}, inside{g}, other=0.0)")
            if kind != "constant":
                self.line(f"own{g}_{d} = tl.load(key{g}_{d} + lane{g}, inside{g}, other=0)")
            if kind == "poisson":
                self.line(f"from{g}_{d} = tl.load(table{g}_{d} + lane{g}, inside{g}, other=0)")

    def draw(self, g: int, group: GroupForm, step: str) -> None:
        """What a step adds by its drives, and the draws of the equations."""
        for d, (_, kind) in enumerate(group.drives):
            place = f"{g}_{d}"
            drawn = f"drawn{place}"
            if kind == "poisson":
                drawn_from = f"own{place}, entries{place} + from{place}, lane{g}, {step}, HALVINGS{place}"
                self.line(f"{drawn} = strength{place} * poisson({drawn_from})")
            elif kind == "normal":
                self.line(f"{drawn} = strength{place} * normal(own{place}, lane{g}, {step}, 0)")
        for index, (name, kind) in enumerate(group.program.draws):
            self.line(f"draw{g}_{name} = {kind}(seed{g}, lane{g}, {step}, {index})")

    def step(self, g: int, group: GroupForm) -> None:
        p = group.program
        for k in range(len(p.inputs)):
            self.line(f"place = here + at{g}_{k} + lane{g}")
            self.line(f"arrived = tl.load(place, inside{g}, other=0, cache_modifier='.cg')")
            self.line(f"tl.store(place, tl.zeros_like(arrived), inside{g} & (arrived != 0))")
            self.line(f"x{k} = arrived.to(tl.float32) * scale{g}_{k}")
        for d, (k, kind) in enumerate(group.drives):
            self.line(f"x{k} = x{k} + " + (f"strength{g}_{d}" if kind == "constant" else f"drawn{g}_{d}"))
        given = [f"x{k}" for k in range(len(p.inputs))] + [f"state{g}_{n}" for n in p.state]
        given += [f"draw{g}_{n}" for n, _ in p.draws] + [f"param{g}_{n}" for n in p.params]
        left = ", ".join(["fired", *(f"state{g}_{n}" for n in p.state)])
        self.line(f"{left} = advance{g}({', '.join(given)}, BLOCK{g})")
        self.line(f"fired = fired & inside{g}")
        self.line("at = tl.atomic_add(counter + tl.zeros_like(fired.to(tl.int32)), 1, mask=fired, sem='relaxed')")
        self.line(f"tl.store(rows + at, first{g} + lane{g}, fired)")
        self.line(f"tl.store(starts + at, start{g}, fired)", f"tl.store(lengths + at, length{g}, fired)")
