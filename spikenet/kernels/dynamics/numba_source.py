"""Print a recorded program as Numba source: one forward and one backward scan over blocks of lanes.

Everything that the inner loop touches besides its first input and its output lies in one scratch array, row by
row at fixed offsets: the compiler can prove such rows apart, and vectorises the loop without fast-math.
"""

from __future__ import annotations

from collections.abc import Iterable

from spikenet.kernels.dynamics.derive import Backward, derive
from spikenet.kernels.dynamics.numba_text import BLOCK, HALF, PHILOX, ROW, Variant
from spikenet.kernels.dynamics.printer import Printer
from spikenet.kernels.dynamics.trace import ALPHA, Operation, Program, Value

_WORDS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "where": "{1} if {0} else {2}",
    "blend": "{2} if {0} != zero else {1}",
    "detach": "{0}",
    "floor": "np.floor({0})",  # math.floor gives an integer
    **{word: f"math.{word}({{0}})" for word in ("exp", "log", "sqrt", "tanh", "sin", "cos", "atan", "erf")},
}


def forward_source(program: Program, variant: Variant) -> str:
    """The source of

    `forward(*inputs, *states, *params, spans, z_all, *last_states, checkpoints, *sequences, key, step, start, stop)`.

    An initial state is [N], or [1] for all lanes; a last state [N], or [0] where it is not wanted. `checkpoints`
    [C - 1, S, N] takes the state before every chunk but the first, or is empty where none is wanted.
    """
    return ForwardSource(program, variant).source()


def backward_source(program: Program, variant: Variant) -> str:
    """The source of

    `backward(*inputs, *states, *params, spans, checkpoints, gz_all, *g_last_states, *g_sequences, *gx, *g_states, gp,
    steps, key, step, start, stop)`.

    `gz_all` is [T, N] or [1, 1] (a gradient that is everywhere the same); gradients of states are [N], or [0] where
    there is none or none is wanted.
    """
    return BackwardSource(program, variant).source()


class _Source(Printer):
    """A kernel in the making: its lines, scratch rows and constants, and what both directions share."""

    name: str
    at_once = str(BLOCK)  # lanes in one pass of the outermost loop: BLOCK of them, or the name of a smaller number

    def __init__(self, program: Program, variant: Variant) -> None:
        super().__init__()
        self.program, self.variant = program, variant
        self._rows: dict[str, int] = {}

    # Writing.

    def lanes(self, body: Iterable[str]) -> None:
        """A loop over the block's lanes; none if there is nothing to do."""
        if lines := list(body):
            with self.block("for i in range(n):"):
                self.line(*lines)

    def fill(self, row: str, array: str, nothing: str | None = None) -> None:
        """A row of scratch from an array of lanes, from the one element it has, or with `nothing` if it is empty."""
        with self.block(f"if {array}.size == {1 if nothing is None else 0}:"):
            self.lanes([f"{self.at(row)} = {nothing or array + '[0]'}"])
        with self.block("else:"):
            self.lanes([f"{self.at(row)} = {array}[n0 + i]"])

    def offset(self, row: str) -> int:
        return self._rows.setdefault(row, len(self._rows)) * ROW

    def at(self, row: str) -> str:
        """Lane i's element of a scratch row."""
        return f"scratch[{self.offset(row)} + i]"

    def value(self, v: Value) -> str:
        return v if isinstance(v, str) else self.constant(v)

    def work(self, operations: Iterable[Operation]) -> None:
        for out, word, args in operations:
            self.line(f"{out} = {_WORDS[word].format(*(self.value(a) for a in args))}")

    def bind(self, kind: str, results: dict[str, Value]) -> None:
        self.line(*(f"{kind}{name} = {self.value(v)}" for name, v in results.items()))

    def states(self, pattern: str) -> list[str]:
        """One line a state: `{j}` is its index, `{s}` its scratch element, `{lam}` its adjoint's."""
        names = enumerate(self.program.state)
        return [pattern.format(j=j, n=n, s=self.at(f"s_{n}"), lam=self.at(f"lam_{n}")) for j, n in names]

    def source(self) -> str:
        """The whole module: prelude, signature, scratch and constants, then the body."""
        self.body()
        real = self.variant.real
        setup = [f"scratch = np.empty({max(len(self._rows), 1) * ROW}, np.{real})"]
        setup += ["bits = scratch.view(np.uint32)"] if self.variant.half else []
        setup += [f"{k} = np.{real}(float('{v}'))" for v, k in self._constants.items()]
        setup += [f"zero = np.{real}(0.0)"]
        arguments = ", ".join([*self.arguments(), "key", "step", "start", "stop"])
        head = ["@njit(cache=True, nogil=True, error_model='numpy')", f"def {self.name}({arguments}):"]
        return "\n".join([*self._prelude(), *head, *("    " + line for line in setup), *self._lines]) + "\n"

    def body(self) -> None:
        raise NotImplementedError

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def _prelude(self) -> list[str]:
        lines = ["import math", "", "import numpy as np", "from numba import njit", ""]
        lines += HALF[self.variant.storage].splitlines() if self.variant.half else []
        lines += PHILOX.format(real=self.variant.real).splitlines() if self.program.draws else []
        return [*lines, ""]

    # What both directions share.

    def shared_params(self) -> None:
        """Ahead of all loops: parameters that all lanes share are numbers, and what follows from them alone too."""
        if self.variant.shared:
            self.line(*(f"p_{name} = p{m}[0]" for m, name in enumerate(self.program.params)))

    def begin_block(self) -> None:
        """Inside the loop over blocks: other parameters become rows, in which `spans` neighbours share a value."""
        self.line(f"n = min({self.at_once}, stop - n0)")
        for m, name in enumerate(self.program.params if not self.variant.shared else ()):
            self.lanes([f"{self.at('p_' + name)} = p{m}[((n0 + i) // spans[{m}]) % p{m}.size]"])

    def load_step(self) -> None:
        """The input rows of step t (an input of one step serves them all) and its random numbers."""
        for k in range(len(self.program.inputs)):
            self.line(f"x{k}_row = x{k}[t if x{k}.shape[0] > 1 else 0, n0:n0 + n]")
            if self.variant.half:
                self.line(f"widen(x{k}_row, scratch, bits, {self.offset(f'x{k}')}, n)")
            elif k > 0:
                self.lanes([f"{self.at(f'x{k}')} = x{k}_row[i]"])
        for index, (name, kind) in enumerate(self.program.draws):
            self.lanes([f"{self.at('d_' + name)} = {kind}(key, n0 + i, step + t, {index})"])

    def forward_step(self) -> None:
        """Lane i's charge, fire and emit."""
        self.charge("{s}")
        self.fire()

    def charge(self, state: str) -> None:
        """`h_`, from the state at `state` (see `states`)."""
        p = self.program
        self.line(*self.states(f"s_{{n}} = {state}"))
        for k, name in enumerate(p.inputs):
            self.line(f"x_{name} = {self.input_at(k)}")
        self.line(*(f"d_{name} = {self.at('d_' + name)}" for name, _ in p.draws))
        self.load_params()
        self.work(p.charge.operations)
        self.bind("h_", p.charge.results)

    def input_at(self, k: int) -> str:
        """Lane i's element of input k; the first is read where it lies unless it is widened."""
        return self.at(f"x{k}") if self.variant.half or k else "x0_row[i]"

    def load_params(self) -> None:
        if not self.variant.shared:
            self.line(*(f"p_{name} = {self.at('p_' + name)}" for name in self.program.params))

    def fire(self) -> None:
        p = self.program
        self.work(p.fire.operations)
        self.bind("", p.fire.results)
        self.work(p.emit.operations)
        self.bind("", p.emit.results)
        if "gate" in p.fire.results:
            self.line("z = z if gate else zero")

    def advance(self) -> None:
        """The reset: the next state into its rows."""
        self.work(self.program.reset.operations)
        self.line(*(f"{self.at('s_' + n)} = {self.value(v)}" for n, v in self.program.reset.results.items()))


class ForwardSource(_Source):
    name = "forward"

    def arguments(self) -> list[str]:
        p = self.program
        sequences = self.numbered("q", p.state) if self.variant.trace else []
        inputs, params = self.numbered("x", p.inputs), self.numbered("p", p.params)
        states, last = self.numbered("s", p.state), self.numbered("last", p.state)
        return [*inputs, *states, *params, "spans", "z_all", *last, "checkpoints", *sequences]

    def body(self) -> None:
        self.shared_params()
        with self.block(f"for n0 in range(start, stop, {self.at_once}):"):
            self.begin_block()
            for j, name in enumerate(self.program.state):
                self.fill(f"s_{name}", f"s{j}")
            with self.block("for t in range(z_all.shape[0]):"):
                self.time_step()
            for j, line in enumerate(self.states("last{j}[n0 + i] = {s}")):
                with self.block(f"if last{j}.size > 0:"):
                    self.lanes([line])

    def time_step(self) -> None:
        chunk = self.program.chunk
        with self.block(f"if checkpoints.shape[0] > 0 and t > 0 and t % {chunk} == 0:"):
            self.lanes([*self.states(f"checkpoints[t // {chunk} - 1, {{j}}, n0 + i] = {{s}}"), "pass"])
        self.load_step()
        self.line("z_row = z_all[t, n0:n0 + n]")
        with self.block("for i in range(n):"):
            self.forward_step()
            self.line(f"{self.at('z') if self.variant.half else 'z_row[i]'} = z")
            self.advance()
        if self.variant.half:
            self.line(f"narrow(scratch, bits, {self.offset('z')}, z_row, n)")
        if self.variant.trace:
            self.lanes(self.states("q{j}[t, n0 + i] = {s}"))


class BackwardSource(_Source):
    """Chunk by chunk from the end: recompute the states from the checkpoint, then walk back over the chunk."""

    name = "backward"

    def __init__(self, program: Program, variant: Variant) -> None:
        super().__init__(program, variant)
        self.step: Backward = derive(program)
        self.wanted = [m for m in program.params if m != ALPHA] if variant.params else []
        # What recomputation leaves for each step: charged values, or the state where the backward step asks for more.
        self.keeps_charged = not self._asks_for_more()
        self.width = max(len(program.charge.results if self.keeps_charged else program.state), 1) * ROW

    def _asks_for_more(self) -> bool:
        """Whether the backward step uses the state, the inputs, the draws or what was computed on the way to `h_`."""
        p, b = self.program, self.step
        operations = (op for phase in (p.fire, p.emit, p.slope, p.reset, b) for op in phase.operations)
        used = {name for operation in operations for name in operation.args}
        used |= {*p.emit.results.values(), *p.slope.results.values()}
        used |= {*b.inputs.values(), *b.state.values(), *(b.params[m] for m in self.wanted)}
        before = {f"{kind}_{name}" for kind, names in (("s", p.state), ("x", p.inputs)) for name in names}
        before |= {f"d_{name}" for name, _ in p.draws} | {operation.out for operation in p.charge.operations}
        return bool(used & before)

    def arguments(self) -> list[str]:
        p = self.program
        sequences = self.numbered("gq", p.state) if self.variant.trace else []
        inputs, params = self.numbered("x", p.inputs), self.numbered("p", p.params)
        states, last = self.numbered("s", p.state), self.numbered("gf", p.state)
        given = [*inputs, *states, *params, "spans", "checkpoints", "gz_all", *last, *sequences]
        return [*given, *self.numbered("gx", p.inputs), *self.numbered("gs", p.state), "gp", "steps"]

    def body(self) -> None:
        chunk = self.program.chunk
        self.line(f"previous = np.empty({chunk * self.width}, np.{self.variant.real})")
        self.shared_params()
        with self.block(f"for n0 in range(start, stop, {self.at_once}):"):
            self.begin_block()
            for j, name in enumerate(self.program.state):
                self.fill(f"lam_{name}", f"gf{j}", "zero")
            self.lanes([f"{self.at('gp_' + m)} = zero" for m in self.wanted])
            with self.block(f"for chunk in range((steps + {chunk - 1}) // {chunk} - 1, -1, -1):"):
                self.line(f"first, last = chunk * {chunk}, min(steps, (chunk + 1) * {chunk})")
                self.checkpoint()
                self.recompute()
                with self.block("for t in range(last - 1, first - 1, -1):"):
                    self.time_step()
            self.lanes([f"gp[{k}, n0 + i] = {self.at('gp_' + m)}" for k, m in enumerate(self.wanted)])
            for j, line in enumerate(self.states("gs{j}[n0 + i] = {lam}")):
                with self.block(f"if gs{j}.size > 0:"):
                    self.lanes([line])

    def checkpoint(self) -> None:
        """The state before the chunk."""
        for j, name in enumerate(self.program.state):
            with self.block("if chunk > 0:"):
                self.lanes([f"{self.at(f's_{name}')} = checkpoints[chunk - 1, {j}, n0 + i]"])
            with self.block("else:"):
                self.fill(f"s_{name}", f"s{j}")

    def recompute(self) -> None:
        """Leave the charged values, or the state, of each of the chunk's steps in `previous`."""
        with self.block("for t in range(first, last):"):
            self.saved_row()
            self.load_step()
            with self.block("for i in range(n):"):
                if not self.keeps_charged:
                    self.line(*self.states(f"saved[{{j}} * {ROW} + i] = {{s}}"))
                self.forward_step()
                if self.keeps_charged:
                    self.line(*(f"{self.saved(k)} = h_{n}" for k, n in enumerate(self.program.charge.results)))
                self.advance()

    def saved(self, k: int) -> str:
        return f"saved[{k * ROW} + i]"

    def charged(self) -> None:
        """Lane i's `h_`: as it was saved, or from the saved state."""
        if self.keeps_charged:
            self.line(*(f"h_{n} = {self.saved(k)}" for k, n in enumerate(self.program.charge.results)))
            self.load_params()
        else:
            self.charge(f"saved[{{j}} * {ROW} + i]")

    def saved_row(self) -> None:
        self.line(f"saved = previous[(t - first) * {self.width}:(t - first + 1) * {self.width}]")

    def time_step(self) -> None:
        self.saved_row()
        if not self.keeps_charged:
            self.load_step()
        self.load_output_gradient()
        if self.variant.trace:
            self.lanes(self.states("{lam} += gq{j}[t, n0 + i]"))
        self.line(*(f"gx{k}_row = gx{k}[t, n0:n0 + n]" for k in range(len(self.program.inputs))))
        with self.block("for i in range(n):"):
            self.charged()
            self.fire()
            self.slope()
            self.adjoints()
        self.store_input_gradients()

    def load_output_gradient(self) -> None:
        """`gz_row`; a gradient that is one number is written out."""
        row = f"scratch[{self.offset('gz')}:{self.offset('gz') + BLOCK}]"
        with self.block("if gz_all.size == 1:"):
            if self.variant.half:
                self.line(f"widen(gz_all[0], scratch, bits, {self.offset('gz')}, 1)")
                self.lanes([f"{self.at('gz')} = scratch[{self.offset('gz')}]"])
            else:
                self.lanes([f"{self.at('gz')} = gz_all[0, 0]"])
            self.line(f"gz_row = {row}")
        with self.block("else:"):
            if self.variant.half:
                self.line(f"widen(gz_all[t, n0:n0 + n], scratch, bits, {self.offset('gz')}, n)", f"gz_row = {row}")
            else:
                self.line("gz_row = gz_all[t, n0:n0 + n]")

    def slope(self) -> None:
        self.work(self.program.slope.operations)
        self.bind("", self.program.slope.results)
        if "gate" in self.program.fire.results:
            self.line("sg = sg if gate else zero")

    def adjoints(self) -> None:
        """The five equations of `derive`: gradients of inputs and parameters, and the adjoint one step back."""
        b = self.step
        self.line("gz = gz_row[i]", *self.states("lam_{n} = {lam}"))
        self.work(self.program.reset.operations)
        self.work(b.operations)
        for k, name in enumerate(self.program.inputs):
            in_place = k == 0 and not self.variant.half
            self.line(f"{'gx0_row[i]' if in_place else self.at(f'gx{k}')} = {self.value(b.inputs[name])}")
        self.line(*(f"{self.at('gp_' + m)} += {self.value(b.params[m])}" for m in self.wanted))
        self.line(*(f"{self.at('lam_' + n)} = {self.value(v)}" for n, v in b.state.items()))

    def store_input_gradients(self) -> None:
        for k in range(len(self.program.inputs)):
            if self.variant.half:
                self.line(f"narrow(scratch, bits, {self.offset(f'gx{k}')}, gx{k}_row, n)")
            elif k > 0:
                self.lanes([f"gx{k}_row[i] = {self.at(f'gx{k}')}"])
