"""Print Triton kernels in which a neuron's step follows the attention product, written out over the time steps.

A program takes one head, tile by tile of its tokens. `k^T v` of each step comes first; then the neuron's input
`x[t] = scale q[t] (k[t]^T v[t])` and its state stay in registers over the steps. On the way back they are computed
again; what reaches the neuron's input lies in the place of v's gradient until all tokens have been through. The
neuron's part is printed from its equations, as in `dynamics.triton_source`, for tiles in the place of lanes.
"""

from __future__ import annotations

from spikenet.kernels.dynamics.derive import derive
from spikenet.kernels.dynamics.trace import Phase, Program
from spikenet.kernels.dynamics.triton_source import GRADIENT_WORDS, Source
from spikenet.kernels.dynamics.triton_text import PRELUDE, PRELUDE_INTERPRETED, Variant

_SHARED = (
    "from spikenet.kernels.attention.triton_heads import "
    "_grads as grads, _pack as pack, _seen as seen, _sum as sum_of, _sum_packing as sum_packing\n"
    "from spikenet.kernels.attention.triton_causal import _rows as rows\n"
    "from spikenet.kernels.attention.triton_products import _by_counts as by_counts, _dot as dot, _product as product"
)
_ROOMS = {"q": "0", "k": "tokens * tl.cdiv(D, 8)", "v": "2 * tokens * tl.cdiv(D, 8)"}  # where a step's bits begin


def source(program: Program, direction: str, steps: int, interpreted: bool) -> str:
    """The module that holds the kernel `direction`, "forward" or "backward", for `steps` time steps."""
    kernel = (_Forward if direction == "forward" else _Backward)(program, steps, interpreted)
    return kernel.source()


class _Fused(Source):
    """What both directions share."""

    def __init__(self, program: Program, steps: int, interpreted: bool) -> None:
        spread = (False,) * len(program.params)
        super().__init__(
            program,
            Variant(steps, False, True, False, spread, False, False, True, interpreted=interpreted),
        )
        self.steps = range(steps)

    def arguments(self) -> list[str]:
        p = self.program
        values = [*self.numbered("s", p.state), *self.numbered("p", p.params)]
        strides = [f"{x}_{axis}" for x in self.sequences() for axis in "nbh"]
        sizes = ["tokens", "batch", "heads", "D", "E", "room"]
        return ["kept", *values, *self.sequences(), "scale", *sizes, *strides]

    def source(self) -> str:
        """The whole module: prelude, signature, constants, then the body."""
        self.begin()
        self.body()
        head = (PRELUDE_INTERPRETED if self.variant.interpreted else PRELUDE).splitlines()
        head.insert(head.index("import triton"), _SHARED)
        setup = [f"{k} = tl.full([M, EP], float('{v}'), tl.float32)" for v, k in self._constants.items()]
        setup += ["zero = tl.full([M, EP], 0.0, tl.float32)", "minus_one = tl.full([M, EP], -1.0, tl.float32)"]
        sizes = ", ".join(f"{c}: tl.constexpr" for c in ("M", "ROWS", "DP", "EP", "SPIKES", "FEW", "STAGES"))
        anywhere = [*self.numbered("s", self.program.state), *self.numbered("p", self.program.params)]
        decorator = f"@triton.jit(do_not_specialize_on_alignment={anywhere})"
        listed = ", ".join('batch: "i64"' if a == "batch" else a for a in self.arguments())  # 1 would be no number
        signature = ["", "", decorator, f"def {self.name}({listed}, {sizes}):"]
        return "\n".join([*head, *signature, *("    " + line for line in setup), *self._lines]) + "\n"

    def begin(self) -> None:
        """Places and parameters."""
        self.line("head = tl.program_id(0)", "d, e = tl.arange(0, DP), tl.arange(0, EP)")
        self.line("flag = kept + head.to(tl.int64) * room + room - 16")
        for x in self.sequences():
            self.line(f"{x} += (head // heads).to(tl.int64) * {x}_b + (head % heads) * {x}_h")
        for m, name in enumerate(self.program.params):
            self.line(f"p_{name} = tl.broadcast_to(tl.load(p{m}), [M, EP])")
        for k in self.steps:
            for x, room in _ROOMS.items():
                self.line(f"bits_{x}_{k} = kept + ({k} * batch * heads + head) * room + {room}")

    def tile(self) -> None:
        """The next tokens, and the neurons' first state."""
        self.line("token = tile * M + tl.arange(0, M)", "inside = (token < tokens)[:, None]")
        for j, name in enumerate(self.program.state):
            self.line(f"s_{name} = tl.broadcast_to(tl.load(s{j}), [M, EP])")

    def sum(self, k: int, call: str, results: str, more: str = "") -> None:
        """`k^T v` of step k, in a type that holds it: bfloat16 or float16 where counts of tokens are exact."""
        given = ", ".join((self.at("k", k), self.at("v", k), f"bits_k_{k}", f"bits_v_{k}"))
        self.line(f"{results} = {call}({given}, tokens, d, e, D, E, k_n, v_n, ROWS, SPIKES{more})")
        with self.block("if FEW:"):
            self.line(
                f"counts_{k} = counts_{k}.to(tl.bfloat16 if q.dtype.element_ty == tl.float32 else q.dtype.element_ty)"
            )

    def at(self, x: str, k: int) -> str:
        """Where sequence `x` begins at step k."""
        return f"{x} + {k} * batch * {x}_b"

    def store(self, x: str, k: int, value: str, columns: str = "e") -> None:
        """Write the tile's rows of `x` at step k."""
        place = f"{self.at(x, k)} + token[:, None] * {x}_n + {columns}[None, :]"
        self.line(f"tl.store({place}, {value}, mask=inside & ({columns} < {columns.upper()})[None, :])")

    def step(self, k: int) -> dict[str, str]:
        """The neurons' step k."""
        self.line(f"x0_{k} = product(q_{k}, counts_{k}) * scale")
        return self.forward_step(k)


class _Forward(_Fused):
    """Both products and the neurons; and the spikes' bits, with a byte that says whether these are all."""

    name = "forward"

    def sequences(self) -> list[str]:
        return ["q", "k", "v", "z_all"]

    def body(self) -> None:
        with self.block("if not SPIKES:"), self.block("if tl.load(flag) == 0:"):
            self.line("return")
        self.line("most = 0")
        for k in self.steps:
            self.sum(k, "sum_packing", f"counts_{k}, most_{k}", ", STAGES")
            self.line(f"most = tl.maximum(most, most_{k})")
        self.line("queries = tl.zeros([M, DP // 8], tl.int32)")
        with self.block("for tile in tl.range(tl.cdiv(tokens, M)):"):
            self.tile()
            for k in self.steps:
                self.line(f"q_{k} = rows({self.at('q', k)}, token, tokens, d, D, q_n)")
            for k in self.steps:
                self.line(f"queries = tl.maximum(queries, pack(q_{k}, bits_q_{k}, token, tokens, D))")
                self.line("if SPIKES and q.dtype.element_ty == tl.float32:", f"    q_{k} = q_{k}.to(tl.bfloat16)")
                self.step(k)
                self.store("z_all", k, "z")
        self.line(
            "most = tl.maximum(most, tl.max(tl.max(queries, 1), 0))", "tl.store(flag, (most >> 8 != 0).to(tl.uint8))"
        )


class _Backward(_Fused):
    """The gradients of q, k and v."""

    name = "backward"

    def __init__(self, program: Program, steps: int, interpreted: bool) -> None:
        super().__init__(program, steps, interpreted)
        self.derived = derive(program)

    def sequences(self) -> list[str]:
        return ["q", "k", "v", "gz_all", "gq", "gk", "gv"]

    def body(self) -> None:
        self.line("if (tl.load(flag) == 0) != SPIKES:", "    return")
        for k in self.steps:
            self.sum(k, "sum_of", f"counts_{k}")
        with self.block("for tile in tl.range(tl.cdiv(tokens, M)):"):
            self.tile()
            for k in reversed(self.steps):
                self.line(f"gz_all_{k} = rows({self.at('gz_all', k)}, token, tokens, e, E, gz_all_n)")
            for k in self.steps:
                self.line(f"q_{k} = seen({self.at('q', k)}, bits_q_{k}, token, tokens, d, D, q_n, SPIKES)")
            names = [self.step(k) for k in self.steps]
            self.line(*(f"lam_{n} = zero" for n in self.program.state))
            for k in reversed(self.steps):
                self.back_step(k, names[k])
        self.line("tl.debug_barrier()  # what reached the neurons' input lies in gv")
        for k in self.steps:
            queries, keys = f"{self.at('q', k)}, bits_q_{k}", f"{self.at('k', k)}, bits_k_{k}"
            values, gk, gv = f"{self.at('v', k)}, bits_v_{k}", self.at("gk", k), self.at("gv", k)
            given = f"{queries}, {keys}, {values}, {gk}, {gv}, tokens, d, e, D, E, q_n, k_n, v_n, gk_n, gv_n"
            self.line(f"grads({given}, ROWS, SPIKES, STAGES)")

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
        self.line(
            "if SPIKES and q.dtype.element_ty == tl.float32:", f"    g_query = by_counts(gx, tl.trans(counts_{k}))"
        )
        self.line("else:", f"    g_query = dot(gx, tl.trans(counts_{k}.to(gx.dtype)))")
        self.store("gq", k, "g_query", "d")
        self.store("gv", k, "gx")
        self.line(*(f"new_{n} = {self.value(g, names)}" for n, g in self.derived.state.items()))
        self.line(*(f"lam_{n} = new_{n}" for n in self.derived.state))
