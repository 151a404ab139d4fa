"""Print Triton kernels in which a neuron's step follows the attention product, written out over the time steps.

A program works on one tile of tokens of one head. `kv[t] = k[t]^T v[t]` is known; the neuron's input
`x[t] = scale q[t] kv[t]` and its state stay in registers. On the way back loads run ahead of their use. The neuron's
part is printed from its equations, as in `dynamics.triton_source`, for tiles in the place of lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from spikenet.kernels.dynamics.derive import derive
from spikenet.kernels.dynamics.trace import Phase, Program
from spikenet.kernels.dynamics.triton_source import GRADIENT_WORDS, Source
from spikenet.kernels.dynamics.triton_text import PRELUDE, PRELUDE_INTERPRETED, Variant

_SHARED = (
    "from spikenet.kernels.attention.triton_products import "
    "_by_counts as by_counts, _dot as dot, _product as product, _spikes as spikes"
)


def source(program: Program, direction: str, steps: int, interpreted: bool) -> str:
    """The module that holds the kernel `direction`, "forward" or "backward", for `steps` time steps."""
    kernel = (_Forward if direction == "forward" else _Backward)(program, steps, interpreted)
    return kernel.source()


class _Fused(Source):
    """What both directions share.

    Attributes:
        early: how many steps ahead rows are loaded; soon: the products, which the second-level cache holds.
    """

    early, soon = 1, 1

    def __init__(self, program: Program, steps: int, interpreted: bool) -> None:
        spread = (False,) * len(program.params)
        super().__init__(
            program,
            Variant(steps, False, True, False, spread, False, False, True, interpreted=interpreted),
        )
        self.steps = steps

    def arguments(self) -> list[str]:
        p = self.program
        values = [*self.numbered("s", p.state), *self.numbered("p", p.params)]
        strides = [f"{x}_{axis}" for x in self.sequences() for axis in "nbh"]
        sizes = ["tokens", "batch", "heads", "D", "E", "room"]
        return ["kept", "q", "kv", *values, *self.tensors(), "scale", *sizes, *strides]

    def tensors(self) -> list[str]:
        """What comes after the neuron's values."""
        raise NotImplementedError

    def source(self) -> str:
        """The whole module: prelude, signature, constants, then the body."""
        self.begin()
        self.body()
        head = (PRELUDE_INTERPRETED if self.variant.interpreted else PRELUDE).splitlines()
        head.insert(head.index("import triton"), _SHARED)
        setup = [f"{k} = tl.full([M, EP], float('{v}'), tl.float32)" for v, k in self._constants.items()]
        setup += ["zero = tl.full([M, EP], 0.0, tl.float32)", "minus_one = tl.full([M, EP], -1.0, tl.float32)"]
        sizes = "M: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, SPIKES: tl.constexpr, FEW: tl.constexpr"
        anywhere = [*self.numbered("s", self.program.state), *self.numbered("p", self.program.params)]
        decorator = f"@triton.jit(do_not_specialize_on_alignment={anywhere})"
        listed = ", ".join('batch: "i64"' if a == "batch" else a for a in self.arguments())  # 1 would be no number
        signature = ["", "", decorator, f"def {self.name}({listed}, {sizes}):"]
        return "\n".join([*head, *signature, *("    " + line for line in setup), *self._lines]) + "\n"

    def begin(self) -> None:
        """Places, parameters, and whether it is this kernel's turn."""
        self.line("head = tl.program_id(0)", "d, e = tl.arange(0, DP), tl.arange(0, EP)")
        self.line("row, column = (d < D)[:, None], (e < E)[None, :]")
        for x in self.sequences():
            self.line(f"{x} += (head // heads).to(tl.int64) * {x}_b + (head % heads) * {x}_h")
        self.line("entries = d[:, None] * E + e[None, :]")
        for m, name in enumerate(self.program.params):
            self.line(f"p_{name} = tl.broadcast_to(tl.load(p{m}), [M, EP])")
        self.line("token = tl.program_id(1) * M + tl.arange(0, M)", "inside = (token < tokens)[:, None]")
        self.line("places = token[:, None] * D + d[None, :]")
        with self.block("if q.dtype.element_ty == tl.float32:"):
            self.line("odd = 0")
            for k in range(self.steps):
                self.line(f"odd |= tl.load(kept + {self.ahead(k)} * room + room - 16).to(tl.int32)")
            self.line("if (odd == 0) != SPIKES:", "    return")

    def ahead(self, k: int) -> str:
        """Heads from the first step's first to step k's own."""
        return f"({k} * batch * heads + head)"

    def first_state(self) -> None:
        """The neurons' first state."""
        for j, name in enumerate(self.program.state):
            self.line(f"s_{name} = tl.broadcast_to(tl.load(s{j}), [M, EP])")

    def place(self, x: str, k: int, columns: str) -> str:
        """Where the rows of sequence `x` lie at step k."""
        return f"{x} + {k} * batch * {x}_b + token[:, None] * {x}_n + {columns}[None, :]"

    def product(self, k: int) -> str:
        """Where `kv` of step k lies, and its like."""
        return f"{self.ahead(k)} * D * E + entries"

    def load_rows(self, x: str, k: int, columns: str) -> str:
        """The rows of sequence `x` at step k."""
        inside = f"inside & {'column' if columns == 'e' else '(d < D)[None, :]'}"
        return f"{x}_{k} = tl.load({self.place(x, k, columns)}, mask={inside}, other=0.0)"

    def load_query(self, k: int) -> list[str]:
        place, inside = f"kept + {self.ahead(k)} * room + places", "inside & (d < D)[None, :]"
        spikes = f"q_{k} = tl.load({place}, mask={inside}, other=0)"
        return ["if SPIKES:", f"    {spikes}", "else:", f"    {self.load_rows('q', k, 'd')}"]

    def load_product(self, k: int) -> str:
        return f"seen_{k} = tl.load(kv + {self.product(k)}, mask=row & column, other=0.0)"

    def counts(self, k: int) -> str:
        """`kv` of step k, in bfloat16 where it holds them all."""
        return f"(seen_{k}.to(tl.bfloat16) if SPIKES and FEW else seen_{k})"

    def steps_ahead(self, order: Sequence[int], loads: Callable[[int], list[str]]) -> Iterator[int]:
        """Go through the steps in `order`, with `loads` printed `early` steps before, and the products `soon` steps."""
        for index, k in enumerate(order):
            for later in _due(order, index, self.early):
                self.line(*loads(later))
            for later in _due(order, index, self.soon):
                self.line(self.load_product(later))
            if self.early > 1:  # else the assembler moves each load down to its use, and waits there
                self.line("tl.debug_barrier()")
            yield k

    def all_steps(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The neuron's steps from the first."""
        for k in self.steps_ahead(range(self.steps), self.load_query):
            self.line("if SPIKES:", f"    q_{k} = spikes(q_{k})")
            self.line(f"x0_{k} = product(q_{k}, {self.counts(k)}) * scale")
            yield k, self.forward_step(k)


def _due(order: Sequence[int], index: int, ahead: int) -> Sequence[int]:
    """The steps whose loads begin at the one with that index."""
    return order[:ahead] if index == 0 else order[index + ahead - 1 : index + ahead]


class _Forward(_Fused):
    name = "forward"

    def sequences(self) -> list[str]:
        return ["q", "z_all"]

    def tensors(self) -> list[str]:
        return ["z_all"]

    def body(self) -> None:
        self.first_state()
        for k, _ in self.all_steps():
            self.line(f"tl.store({self.place('z_all', k, 'e')}, z, mask=inside & column)")


class _Backward(_Fused):
    """The gradients of q, and of the neuron's input times `scale`."""

    name = "backward"
    early, soon = 4, 2

    def __init__(self, program: Program, steps: int, interpreted: bool) -> None:
        super().__init__(program, steps, interpreted)
        self.derived = derive(program)

    def sequences(self) -> list[str]:
        return ["q", "gz_all", "gq", "gx_all"]

    def tensors(self) -> list[str]:
        return ["gz_all", "gq", "gx_all"]

    def body(self) -> None:
        self.first_state()
        names = [names for _, names in self.all_steps()]
        self.line(*(f"lam_{n} = zero" for n in self.program.state))
        order = range(self.steps - 1, -1, -1)
        for k in self.steps_ahead(order, lambda k: [self.load_rows("gz_all", k, "e")]):
            self.back_step(k, names[k])

    def back_step(self, k: int, names: dict[str, str]) -> None:
        p = self.program
        self.fire(names)
        self.work(p.slope, names, words=GRADIENT_WORDS)
        if "gate" in p.fire.results:
            self.line("sg = tl.where(gate, sg, zero)")
        self.line(f"gz = gz_all_{k}.to(tl.float32)")
        self.work(Phase(p.reset.operations, {}), names)
        self.work(Phase(self.derived.operations, {}), names, words=GRADIENT_WORDS)
        self.line(f"gx = ({self.value(self.derived.inputs[p.inputs[0]], names)} * scale).to(gz_all_{k}.dtype)")
        self.line(f"tl.store({self.place('gx_all', k, 'e')}, gx, mask=inside & column)")
        self.line("if SPIKES:", f"    g_query = by_counts(gx, tl.trans({self.counts(k)}))")
        self.line("else:", f"    g_query = dot(gx, tl.trans(seen_{k}.to(gx.dtype)))")
        self.line(f"tl.store({self.place('gq', k, 'd')}, g_query, mask=inside & (d < D)[None, :])")
        self.line(*(f"new_{n} = {self.value(g, names)}" for n, g in self.derived.state.items()))
        self.line(*(f"lam_{n} = new_{n}" for n in self.derived.state))
