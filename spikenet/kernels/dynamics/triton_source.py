"""Print a recorded program as Triton source: one forward and one backward scan over blocks of lanes.

Time is worked through in chunks of `span` steps, written out one by one. While a chunk is computed, the loads of the
next one are already under way into registers: a scan over few lanes would else wait on memory at every step.
"""

from __future__ import annotations

from spikenet.kernels.dynamics.derive import derive
from spikenet.kernels.dynamics.printer import Printer
from spikenet.kernels.dynamics.trace import Phase, Program, Value
from spikenet.kernels.dynamics.triton_text import PHILOX, PRELUDE, PRELUDE_INTERPRETED, Variant

_WORDS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "tl.div_rn({0}, {1})",  # Triton's own `/` is approximate
    "neg": "{0} * minus_one",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "where": "tl.where({0}, {1}, {2})",
    "blend": "tl.where({0} != zero, {2}, {1})",
    "detach": "{0}",
    "sqrt": "tl.sqrt_rn({0})",
    "floor": "tl.floor({0})",
    **{word: f"{word}({{0}})" for word in ("exp", "log", "tanh", "sin", "cos", "atan", "erf")},
}
# Gradients need not be equal to the last bit, as spikes must: a quotient within two units of it costs a tenth.
GRADIENT_WORDS = {**_WORDS, "div": "{0} * reciprocal({1})"}


def source(program: Program, direction: str, variant: Variant) -> str:
    """The module that holds the kernel `direction`, "forward" or "backward"."""
    kernel = (_Forward if direction == "forward" else _Backward)(program, variant)
    return kernel.source()


class Source(Printer):
    """A kernel in the making: its lines and constants, and what both directions share."""

    name: str

    def __init__(self, program: Program, variant: Variant) -> None:
        super().__init__()
        self.program, self.variant = program, variant

    # Writing.

    def value(self, v: Value, names: dict[str, str]) -> str:
        if isinstance(v, str):
            return names.get(v, v)
        return self.constant(v)

    def work(
        self,
        phase: Phase,
        names: dict[str, str],
        prefix: str = "",
        suffix: str = "",
        words: dict[str, str] = _WORDS,
    ) -> None:
        """One phase; its results are bound to `prefix + name + suffix`, the names on its way end in `suffix` too.

        `names` says what the phase's arguments are called at this step, and learns what it leaves behind.
        """
        for out, word, args in phase.operations:
            names[out] = out + suffix
            pattern = "tl.where(spike, {2}, {1})" if word == "blend" and args[0] == "z" else words[word]
            self.line(f"{names[out]} = {pattern.format(*(self.value(a, names) for a in args))}")
        for name, v in phase.results.items():
            value = self.value(v, names)
            names[prefix + name] = prefix + name + suffix
            self.line(f"{names[prefix + name]} = {value}")

    def source(self) -> str:
        """The whole module: prelude, signature, constants, then the body."""
        self.body()
        head = (PRELUDE_INTERPRETED if self.variant.interpreted else PRELUDE).splitlines()
        head += PHILOX.splitlines() if self.program.draws else []
        setup = [f"{k} = tl.full([BLOCK], float('{v}'), tl.float32)" for v, k in self._constants.items()]
        setup += ["zero = tl.full([BLOCK], 0.0, tl.float32)", "minus_one = tl.full([BLOCK], -1.0, tl.float32)"]
        numbers = {"lanes", "steps", *self._numbers()}
        listed = ", ".join(f'{a}: "i64"' if a in numbers else a for a in self.arguments())
        decorator = f"@triton.jit(do_not_specialize_on_alignment={self._unaligned()})"
        signature = ["", "", decorator, f"def {self.name}({listed}, BLOCK: tl.constexpr):"]
        return "\n".join([*head, *signature, *("    " + line for line in setup), *self._lines]) + "\n"

    def body(self) -> None:
        raise NotImplementedError

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def sequences(self) -> list[str]:
        """The input sequences that come with strides of their own."""
        raise NotImplementedError

    def _numbers(self) -> list[str]:
        """Integer arguments besides lanes and steps: how parameters are spread, and the sequences' strides."""
        spread = [f"{kind}{m}" for m, s in enumerate(self.variant.spread) if s for kind in ("span", "size")]
        per_sequence = ("time_", "inner_", "outer_", "near_") if self.variant.strided else ("time_",)
        return [*spread, *(kind + name for name in self.sequences() for kind in per_sequence)]

    def _unaligned(self) -> list[str]:
        """Pointers that may point anywhere: the compiled kernel is used again with others."""
        numbers = {"lanes", "steps", *self._numbers()}
        pointers = [a for a in self.arguments() if a not in numbers]
        if not self.variant.aligned:
            return pointers
        small = [*self.numbered("p", self.program.params), "rng"]
        small += self.numbered("s", self.program.state) if self.variant.uniform else []
        small += [*self.numbered("gf", self.program.state), *self.numbered("gq", self.program.state)]
        return [a for a in pointers if a in small]

    # What both directions share.

    def begin(self) -> None:
        """Lanes, strides and parameters."""
        v = self.variant
        if v.aligned:  # row lengths arrive divided by 16, so that the compiler knows that they are multiples
            self.line("lanes = lanes * 16", *(f"time_{q} = time_{q} * 16" for q in self.sequences()))
        self.line("lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)", "mask = lane < lanes")
        for q in self.sequences():
            place = f"(lane // inner_{q}) * outer_{q} + (lane % inner_{q}) * near_{q}" if v.strided else "lane"
            self.line(f"at_{q} = {place}")
        for m, name in enumerate(self.program.params):
            if v.spread[m]:
                self.line(f"p_{name} = tl.load(p{m} + (lane // span{m}) % size{m}, mask=mask, other=1.0)")
            else:
                self.line(f"p_{name} = tl.broadcast_to(tl.load(p{m}), [BLOCK])")
        if self.program.draws:
            self.line("seed = tl.load(rng)", "first_step = tl.load(rng + 1)")

    def initial(self, j: int) -> str:
        if self.variant.uniform:
            return f"tl.broadcast_to(tl.load(s{j}), [BLOCK])"
        return f"tl.load(s{j} + lane, mask=mask, other=0.0)"

    def start(self) -> None:
        """The initial state. Loaded behind the barrier, it keeps what is computed from it behind it too."""
        self.line(*(f"s_{n} = {self.initial(j)}" for j, n in enumerate(self.program.state)))

    def time(self, start: str, k: int) -> str:
        return f"({start} + {k})" if k else start

    def load(self, prefix: str, start: str, mask: str) -> None:
        """The rows of one chunk: step k of a sequence into `prefix`, the sequence's name and `_k`."""
        for q in self.sequences():
            for k in range(self.variant.span):
                t = self.time(start, k)
                inside = mask if self.variant.full else f"{mask} & ({t} < steps)"
                self.line(f"{prefix}{q}_{k} = tl.load({q} + {t} * time_{q} + at_{q}, {inside}, other=0.0)")
        self.line("tl.debug_barrier()")  # else the assembler moves each load down to its use, and waits there

    def arrived(self) -> list[str]:
        """What was loaded ahead becomes the chunk to be worked through."""
        return [f"{q}_{k} = ahead_{q}_{k}" for q in self.sequences() for k in range(self.variant.span)]

    def charge(self, k: int, names: dict[str, str]) -> None:
        """Step k's charge. All that it leaves carries the step's number: the backward pass comes back to it."""
        suffix = f"_{k}"
        for index, (name, kind) in enumerate(self.program.draws):
            names[f"d_{name}"] = f"d_{name}{suffix}"
            self.line(f"d_{name}{suffix} = {kind}(seed, lane, first_step + {self.time('start', k)}, {index})")
        for name in self.program.state:
            names[f"s_{name}"] = f"s_{name}{suffix}"
            self.line(f"s_{name}{suffix} = s_{name}")
        for index, name in enumerate(self.program.inputs):
            names[f"x_{name}"] = f"x_{name}{suffix}"
            self.line(f"x_{name}{suffix} = x{index}_{k}.to(tl.float32)")
        self.work(self.program.charge, names, "h_", suffix)

    def fire(self, names: dict[str, str]) -> None:
        self.work(self.program.fire, names)
        self.work(self.program.emit, names)
        if "gate" in self.program.fire.results:
            self.line("z = tl.where(gate, z, zero)")
        if self.program.binary:
            self.line(f"spike = {self.condition(names)}")

    def condition(self, names: dict[str, str]) -> str:
        """Whether there is a spike; straight from the comparison that decided it, if that is how it was."""
        emit = self.program.emit
        made = next((o for o in emit.operations if o.out == emit.results["z"]), None)
        if made is None or made.word != "where" or made.args[1:] != (1.0, 0.0):
            return "z != zero"
        compared = self.value(made.args[0], names)
        return f"{compared} & gate" if "gate" in self.program.fire.results else compared

    def advance(self, k: int, names: dict[str, str]) -> None:
        """The reset: the next state, unless step k lies beyond the end."""
        self.work(Phase(self.program.reset.operations, {}), names)
        for n, v in self.program.reset.results.items():
            following = self.value(v, names)
            beyond = f"tl.where({self.time('start', k)} < steps, {following}, s_{n}_{k})"
            self.line(f"s_{n} = {following if self.variant.full else beyond}")

    def forward_step(self, k: int) -> dict[str, str]:
        names: dict[str, str] = {}
        self.charge(k, names)
        self.fire(names)
        self.advance(k, names)
        return names

    def inside(self, k: int) -> str:
        """The lanes to be written at step k."""
        return "mask" if self.variant.full else f"mask & ({self.time('start', k)} < steps)"


class _Forward(Source):
    name = "forward"

    def sequences(self) -> list[str]:
        return self.numbered("x", self.program.inputs)

    def arguments(self) -> list[str]:
        p, v = self.program, self.variant
        out = [*self.numbered("last", p.state)] if v.final else []
        out += ["checkpoints"] if v.keep and v.loop else []
        out += self.numbered("q", p.state) if v.trace else []
        rng = ["rng"] if p.draws else []
        given = [*self.numbered("x", p.inputs), *self.numbered("s", p.state), *self.numbered("p", p.params)]
        return [*given, "z_all", *out, *rng, "lanes", "steps", *self._numbers()]

    def body(self) -> None:
        p, v = self.program, self.variant
        self.begin()
        if v.loop:
            self.start()
            self.chunks()
        else:
            self.line("start = 0")
            self.load("", "start", "mask")
            self.start()
            self.steps()
        if v.final:
            self.line(*(f"tl.store(last{j} + lane, s_{n}, mask)" for j, n in enumerate(p.state)))

    def chunks(self) -> None:
        v = self.variant
        self.line(f"chunks = (steps + {v.span - 1}) // {v.span}")
        if v.ahead:
            self.load("ahead_", "0", "mask")
        with self.block("for chunk in range(0, chunks):"):
            self.line(f"start = chunk * {v.span}")
            if v.keep:
                self.save_checkpoint()
            if v.ahead:
                self.line("ahead = mask & (chunk + 1 < chunks)")
                self.line(*self.arrived())
                self.load("ahead_", f"(start + {v.span})", "ahead")
            else:
                self.load("", "start", "mask")
            self.steps()

    def save_checkpoint(self) -> None:
        """The state before every chunk but the first."""
        width = len(self.program.state)
        for j, n in enumerate(self.program.state):
            self.line(
                f"tl.store(checkpoints + ((chunk - 1) * {width} + {j}) * lanes + lane, s_{n}, mask & (chunk > 0))"
            )

    def steps(self) -> None:
        for k in range(self.variant.span):
            self.forward_step(k)
            row = f"{self.time('start', k)} * lanes + lane"
            self.line(f"tl.store(z_all + {row}, z, {self.inside(k)})")
            if self.variant.trace:
                states = enumerate(self.program.state)
                self.line(*(f"tl.store(q{j} + {row}, s_{n}, {self.inside(k)})" for j, n in states))


class _Backward(Source):
    """Chunk by chunk from the end: recompute the chunk from its checkpoint, then walk back over it."""

    name = "backward"

    def __init__(self, program: Program, variant: Variant) -> None:
        super().__init__(program, variant)
        self.step = derive(program)
        self.wanted = [program.params[m] for m in variant.wanted]

    def sequences(self) -> list[str]:
        return [*self.numbered("x", self.program.inputs), "gz_all"]

    def arguments(self) -> list[str]:
        p, v = self.program, self.variant
        given = [*self.numbered("x", p.inputs), *self.numbered("s", p.state), *self.numbered("p", p.params)]
        given += ["checkpoints"] if v.loop else []
        given += ["gz_all", *(self.numbered("gf", p.state) if v.final else [])]
        given += self.numbered("gq", p.state) if v.trace else []
        out = [*self.numbered("gx", p.inputs), *(self.numbered("gs", p.state) if v.wants_state else [])]
        out += ["gp"] if self.wanted else []
        rng = ["rng"] if p.draws else []
        return [*given, *out, *rng, "lanes", "steps", *self._numbers()]

    def body(self) -> None:
        p, v = self.program, self.variant
        self.begin()
        for j, n in enumerate(p.state):
            self.line(f"lam_{n} = " + (f"tl.load(gf{j} + lane, mask, other=0.0)" if v.final else "zero"))
        self.line(*(f"gp_{m} = zero" for m in self.wanted))
        if v.loop:
            self.chunks()
        else:
            self.line("start = 0")
            self.load("", "start", "mask")
            self.start()
            self.walk()
        if v.wants_state:
            self.line(*(f"tl.store(gs{j} + lane, lam_{n}, mask)" for j, n in enumerate(p.state)))
        self.store_params()

    def chunks(self) -> None:
        span, ahead = self.variant.span, self.variant.ahead
        self.line(f"last = (steps + {span - 1}) // {span} - 1")
        if ahead:
            self.load("ahead_", f"(last * {span})", "mask")
            self.checkpoint("last", "mask")
        with self.block("for back in range(0, last + 1):"):
            self.line("chunk = last - back", f"start = chunk * {span}")
            if ahead:
                self.line("ahead = mask & (chunk > 0)", *(f"s_{n} = next_{n}" for n in self.program.state))
                self.line(*self.arrived())
                self.load("ahead_", f"(start - {span})", "ahead")
                self.checkpoint("(chunk - 1)", "ahead")
            else:
                self.load("", "start", "mask")
                self.checkpoint("chunk", "mask")
                self.line(*(f"s_{n} = next_{n}" for n in self.program.state))
            self.walk()

    def checkpoint(self, chunk: str, mask: str) -> None:
        """The state before `chunk` into `next_`: the initial one before the first."""
        width = len(self.program.state)
        for j, n in enumerate(self.program.state):
            place = f"checkpoints + (({chunk} - 1) * {width} + {j}) * lanes + lane"
            self.line(f"next_{n} = tl.load({place}, {mask} & ({chunk} > 0), other=0.0)")
            self.line(f"next_{n} = tl.where({chunk} > 0, next_{n}, {self.initial(j)})")

    def walk(self) -> None:
        names = [self.forward_step(k) for k in range(self.variant.span)]
        for k in reversed(range(self.variant.span)):
            self.back_step(k, names[k])

    def back_step(self, k: int, names: dict[str, str]) -> None:
        p, v = self.program, self.variant
        row, inside = f"{self.time('start', k)} * lanes + lane", f"{self.time('start', k)} < steps"
        if v.trace:
            loads = (f"tl.load(gq{j} + {row}, {self.inside(k)}, other=0.0)" for j in range(len(p.state)))
            self.line(*(f"lam_{n} = lam_{n} + {load}" for n, load in zip(p.state, loads, strict=True)))
        self.fire(names)
        self.work(p.slope, names, words=GRADIENT_WORDS)
        if "gate" in p.fire.results:
            self.line("sg = tl.where(gate, sg, zero)")
        self.line(f"gz = gz_all_{k}.to(tl.float32)")
        self.work(Phase(p.reset.operations, {}), names)
        self.work(Phase(self.step.operations, {}), names, words=GRADIENT_WORDS)
        for index, name in enumerate(p.inputs):
            self.line(f"tl.store(gx{index} + {row}, {self.value(self.step.inputs[name], names)}, {self.inside(k)})")
        for m in self.wanted:
            term = self.value(self.step.params[m], names)
            self.line(f"gp_{m} = gp_{m} + {term if v.full else f'tl.where({inside}, {term}, zero)'}")
        following = [(n, self.value(g, names)) for n, g in self.step.state.items()]
        self.line(*(f"new_{n} = {g}" for n, g in following))  # at once: one adjoint may be made from another
        self.line(
            *(f"lam_{n} = " + (f"new_{n}" if v.full else f"tl.where({inside}, new_{n}, lam_{n})") for n, _ in following)
        )

    def store_params(self) -> None:
        """Parameters' gradients: one sum a block of lanes where all lanes share every parameter, else lane by lane."""
        count = len(self.wanted)
        for k, m in enumerate(self.wanted):
            if any(self.variant.spread[i] for i in self.variant.wanted):
                self.line(f"tl.store(gp + {k} * lanes + lane, gp_{m}, mask)")
            else:
                total = f"tl.sum(tl.where(mask, gp_{m}, zero), 0)"
                self.line(f"tl.store(gp + tl.program_id(0) * {count} + {k}, {total})")
