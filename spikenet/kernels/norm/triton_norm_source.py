"""Print Triton kernels in which a neuron's step follows batch norm, written out over the time steps.

A program works on tiles of tokens and channels. Scale and shift of the norm are known; the neuron's input
`x[t] = scale y[t] + shift` and its state stay in registers. The neuron's part is printed from its equations, as in
`dynamics.triton_source`, for tiles in the place of lanes.
"""

from __future__ import annotations

from spikenet.kernels.dynamics.derive import derive
from spikenet.kernels.dynamics.trace import Phase, Program
from spikenet.kernels.dynamics.triton_source import GRADIENT_WORDS, Source
from spikenet.kernels.dynamics.triton_text import PRELUDE, PRELUDE_INTERPRETED, Variant


def source(program: Program, direction: str, steps: int, interpreted: bool) -> str:
    """The module that holds the kernel `direction`, "forward" or "backward", for `steps` time steps."""
    kernel = (_Forward if direction == "forward" else _Backward)(program, steps, interpreted)
    return kernel.source()


class _Normed(Source):
    """What both directions share."""

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
        return ["y", "moments", *values, *self.tensors(), "tokens", "C", "tiles"]

    def tensors(self) -> list[str]:
        """What comes after the neuron's values."""
        raise NotImplementedError

    def source(self) -> str:
        """The whole module: prelude, signature, constants, then the body."""
        self.body()
        head = (PRELUDE_INTERPRETED if self.variant.interpreted else PRELUDE).splitlines()
        setup = [f"{k} = tl.full([M, N], float('{v}'), tl.float32)" for v, k in self._constants.items()]
        setup += ["zero = tl.full([M, N], 0.0, tl.float32)", "minus_one = tl.full([M, N], -1.0, tl.float32)"]
        listed = ", ".join(f'{a}: "i64"' if a == "tokens" else a for a in self.arguments())
        signature = ["", "", "@triton.jit", f"def {self.name}({listed}, M: tl.constexpr, N: tl.constexpr):"]
        return "\n".join([*head, *signature, *("    " + line for line in setup), *self._lines]) + "\n"

    def begin(self) -> None:
        """Channels, their moments, and the neuron's parameters."""
        self.line("channel = tl.program_id(1) * N + tl.arange(0, N)", "within = channel < C")
        for k, name in enumerate(("mean", "rstd", "scale", "shift")):
            self.line(f"{name} = tl.load(moments + {k} * C + channel, mask=within, other=0.0)[None, :]")
        for m, name in enumerate(self.program.params):
            self.line(f"p_{name} = tl.broadcast_to(tl.load(p{m}), [M, N])")

    def steps_of_a_tile(self) -> None:
        """The tokens of a tile, the neurons' first state, and the input at every step."""
        self.line("token = (tl.program_id(0) * tiles + tile) * M + tl.arange(0, M)")
        self.line("inside = (token < tokens)[:, None] & within[None, :]")
        self.line("place = token.to(tl.int64)[:, None] * C + channel[None, :]")
        for j, name in enumerate(self.program.state):
            self.line(f"s_{name} = tl.broadcast_to(tl.load(s{j}), [M, N])")
        for k in range(self.steps):
            self.line(f"y_{k} = tl.load({self.place('y', k)}, mask=inside, other=0.0).to(tl.float32)")
            self.line(f"x0_{k} = y_{k} * scale + shift")

    def place(self, x: str, k: int) -> str:
        """Where the tile of sequence `x` lies at step k."""
        return f"{x} + {k} * tokens * C + place"


class _Forward(_Normed):
    name = "forward"

    def tensors(self) -> list[str]:
        return ["z_all"]

    def body(self) -> None:
        self.begin()
        with self.block("for tile in range(tiles):"):
            self.steps_of_a_tile()
            for k in range(self.steps):
                self.forward_step(k)
                self.line(f"tl.store({self.place('z_all', k)}, z, mask=inside)")


class _Backward(_Normed):
    """The gradient of x, and its sums over the tokens: alone, and times `y - mean`."""

    name = "backward"

    def __init__(self, program: Program, steps: int, interpreted: bool) -> None:
        super().__init__(program, steps, interpreted)
        self.derived = derive(program)

    def tensors(self) -> list[str]:
        return ["gz_all", "gx_all", "sums"]

    def body(self) -> None:
        self.begin()
        self.line("sum_g = zero", "sum_gy = zero")
        with self.block("for tile in range(tiles):"):
            self.steps_of_a_tile()
            names = [self.forward_step(k) for k in range(self.steps)]
            self.line(*(f"lam_{n} = zero" for n in self.program.state))
            for k in reversed(range(self.steps)):
                self.back_step(k, names[k])
        self.line("row = sums + tl.program_id(0) * 2 * C + channel")
        self.line("tl.store(row, tl.sum(sum_g, 0), mask=within)", "tl.store(row + C, tl.sum(sum_gy, 0), mask=within)")

    def back_step(self, k: int, names: dict[str, str]) -> None:
        p = self.program
        self.fire(names)
        self.work(p.slope, names, words=GRADIENT_WORDS)
        if "gate" in p.fire.results:
            self.line("sg = tl.where(gate, sg, zero)")
        self.line(f"gz = tl.load({self.place('gz_all', k)}, mask=inside, other=0.0).to(tl.float32)")
        self.work(Phase(p.reset.operations, {}), names)
        self.work(Phase(self.derived.operations, {}), names, words=GRADIENT_WORDS)
        self.line(f"gx = tl.where(inside, {self.value(self.derived.inputs[p.inputs[0]], names)}, zero)")
        self.line(f"tl.store({self.place('gx_all', k)}, gx, mask=inside)")
        self.line("sum_g = sum_g + gx", f"sum_gy = sum_gy + gx * (y_{k} - mean)")
        self.line(*(f"new_{n} = {self.value(g, names)}" for n, g in self.derived.state.items()))
        self.line(*(f"lam_{n} = new_{n}" for n in self.derived.state))
