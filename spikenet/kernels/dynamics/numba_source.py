"""Print a recorded program as Numba source: one forward and one backward scan over blocks of lanes.

Everything that the inner loop touches besides its first input and its output lies in one scratch array, row by
row at fixed offsets: the compiler can prove such rows apart, and vectorises the loop without fast-math.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from spikenet.kernels.dynamics.derive import derive
from spikenet.kernels.dynamics.reference import CHUNK
from spikenet.kernels.dynamics.trace import ALPHA, Operation, Phase, Program, Value

BLOCK = 1024  # lanes worked on at a time: rows stay in the first-level cache
ROW = BLOCK + 16  # apart by no multiple of 4 KiB, at which stores and loads would wait on each other

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
    "blend": "{2} if {0} != k_zero else {1}",
    "detach": "{0}",
    **{word: f"math.{word}({{0}})" for word in ("exp", "log", "sqrt", "tanh", "sin", "cos", "atan")},
}


class Variant(NamedTuple):
    """What one compiled kernel is made for.

    `storage`: dtype of inputs, output and their gradients. `keep`: write checkpoints. `trace`: write (or take
    the gradients of) the state sequences. `params`: accumulate parameter gradients.
    """

    storage: str
    keep: bool = False
    trace: bool = False
    params: bool = False

    @property
    def real(self) -> str:
        return "float64" if self.storage == "float64" else "float32"

    @property
    def half(self) -> bool:
        return self.storage in ("bfloat16", "float16")


@dataclass
class _Source:
    """Lines of a kernel in the making: scratch rows, constants and indentation."""

    program: Program
    variant: Variant
    lines: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    constants: dict[float, str] = field(default_factory=dict)

    def add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]

    def row(self, name: str) -> str:
        """The scratch element of lane `i` in the row of that name."""
        return f"scratch[{self.rows.setdefault(name, len(self.rows)) * ROW} + i]"

    def offset(self, name: str) -> int:
        return self.rows.setdefault(name, len(self.rows)) * ROW

    def value(self, v: Value) -> str:
        return v if isinstance(v, str) else self.constants.setdefault(v, f"k{len(self.constants)}")

    def work(self, depth: int, operations: Iterable[Operation]) -> None:
        for out, word, args in operations:
            self.add(depth, f"{out} = {_WORDS[word].format(*(self.value(a) for a in args))}")

    def bind(self, depth: int, kind: str, results: dict[str, Value]) -> None:
        for name, v in results.items():
            self.add(depth, f"{kind}{name} = {self.value(v)}")

    def loop(self, depth: int, *body: str) -> None:
        self.add(depth, "for i in range(n):")
        self.add(depth + 1, *body)

    def finish(self, name: str, arguments: Sequence[str]) -> str:
        """The whole module: prelude, signature, constants, then the lines."""
        head = [*_prelude(self.program, self.variant), "", "@njit(cache=True, nogil=True, error_model='numpy')"]
        head += [f"def {name}({', '.join(arguments)}):"]
        setup = [f"scratch = np.empty({max(len(self.rows), 1) * ROW}, np.{self.variant.real})"]
        setup += ["bits = scratch.view(np.uint32)"] if self.variant.half else []
        setup += [f"{k} = np.{self.variant.real}({v!r})" for v, k in self.constants.items()]
        setup += [f"k_zero = np.{self.variant.real}(0.0)"]
        return "\n".join(head + ["    " + line for line in setup] + self.lines) + "\n"


def forward_source(program: Program, variant: Variant) -> str:
    """Source of `forward(*inputs, state, *params, spans, z_all, state_out, checkpoints, *sequences, key, step, start, stop)`."""
    s = _Source(program, variant)
    _begin_block(s, program.params)
    s.loop(2, *(f"{s.row('s_' + n)} = state[{j}, n0 + i]" for j, n in enumerate(program.state)), "pass")
    s.add(2, "for t in range(z_all.shape[0]):")
    if variant.keep:
        s.add(3, f"if t % {CHUNK} == 0:")
        s.loop(4, *(f"checkpoints[t // {CHUNK}, {j}, n0 + i] = {s.row('s_' + n)}" for j, n in enumerate(program.state)), "pass")
    _load_inputs(s, 3)
    _draw(s, 3)
    if not variant.half:
        s.add(3, "z_row = z_all[t, n0:n0 + n]")
    s.add(3, "for i in range(n):")
    _load_lane(s, 4)
    _forward_step(s, 4)
    s.add(4, f"{s.row('z') if variant.half else 'z_row[i]'} = z_out")
    _advance(s, 4)
    if variant.half:
        s.add(3, f"narrow(scratch, bits, {s.offset('z')}, z_all[t, n0:n0 + n], n)")
    if variant.trace:
        s.loop(3, *(f"q{j}[t, n0 + i] = {s.row('s_' + n)}" for j, n in enumerate(program.state)), "pass")
    s.loop(2, *(f"state_out[{j}, n0 + i] = {s.row('s_' + n)}" for j, n in enumerate(program.state)), "pass")
    sequences = [f"q{j}" for j in range(len(program.state))] if variant.trace else []
    arguments = [*_inputs(program), "state", *_params(program), "spans", "z_all", "state_out", "checkpoints", *sequences]
    return s.finish("forward", [*arguments, "key", "step", "start", "stop"])


def backward_source(program: Program, variant: Variant) -> str:
    """Source of `backward(*inputs, *params, spans, checkpoints, gz, g_state, *g_sequences, *gx, gs, gp, steps, key, step, start, stop)`.

    `gz` is [T, N] or [1, 1] (a gradient that is everywhere the same). States are recomputed chunk by chunk.
    """
    b = derive(program)
    s = _Source(program, variant)
    states = list(enumerate(program.state))
    wanted = [m for m in program.params if m != ALPHA] if variant.params else []
    s.add(1, f"previous = np.empty({CHUNK * max(len(states), 1) * ROW}, np.{variant.real})")
    _begin_block(s, program.params)
    s.loop(2, *(f"{s.row('lam_' + n)} = g_state[{j}, n0 + i]" for j, n in states), *(f"{s.row('gp_' + m)} = k_zero" for m in wanted), "pass")
    s.add(2, f"for chunk in range((steps + {CHUNK - 1}) // {CHUNK} - 1, -1, -1):")
    s.add(3, f"first, last = chunk * {CHUNK}, min(steps, (chunk + 1) * {CHUNK})")
    s.loop(3, *(f"{s.row('s_' + n)} = checkpoints[chunk, {j}, n0 + i]" for j, n in states), "pass")
    _recompute(s, 3)
    s.add(3, "for t in range(last - 1, first - 1, -1):")
    _previous_row(s, 4)
    _load_inputs(s, 4)
    _draw(s, 4)
    _load_output_gradient(s, 4)
    if variant.trace:
        s.loop(4, *(f"{s.row('lam_' + n)} += gq{j}[t, n0 + i]" for j, n in states), "pass")
    in_place = not variant.half
    if in_place:
        s.add(4, "gx_row = gx0[t, n0:n0 + n]")
    s.add(4, "for i in range(n):")
    _load_lane(s, 5, saved=True)
    _forward_step(s, 5)
    s.work(5, program.slope.operations)
    s.add(5, f"sg = {s.value(program.slope.results['sg'])}")
    if "gate" in program.fire.results:
        s.add(5, "sg = sg if gate else k_zero")
    s.add(5, "z = z_out", "gz = g_row[i]", *(f"lam_{n} = {s.row('lam_' + n)}" for _, n in states))
    s.work(5, program.reset.operations)
    s.work(5, b.operations)
    for k, n in enumerate(program.inputs):
        s.add(5, f"{'gx_row[i]' if k == 0 and in_place else s.row(f'gx{k}')} = {s.value(b.inputs[n])}")
    s.add(5, *(f"next_{n} = {s.value(b.state[n])}" for _, n in states))
    s.add(5, *(f"{s.row('gp_' + m)} += {s.value(b.params[m])}" for m in wanted))
    s.add(5, *(f"{s.row('lam_' + n)} = next_{n}" for _, n in states))
    for k in range(0 if variant.half else 1, len(program.inputs)):
        if variant.half:
            s.add(4, f"narrow(scratch, bits, {s.offset(f'gx{k}')}, gx{k}[t, n0:n0 + n], n)")
        else:
            s.loop(4, f"gx{k}[t, n0 + i] = {s.row(f'gx{k}')}")
    s.loop(2, *(f"gs[{j}, n0 + i] = {s.row('lam_' + n)}" for j, n in states), *(f"gp[{k}, n0 + i] = {s.row('gp_' + m)}" for k, m in enumerate(wanted)), "pass")
    sequences = [f"gq{j}" for j, _ in states] if variant.trace else []
    gradients = [f"gx{k}" for k in range(len(program.inputs))]
    arguments = [*_inputs(program), *_params(program), "spans", "checkpoints", "gz_all", "g_state", *sequences, *gradients]
    return s.finish("backward", [*arguments, "gs", "gp", "steps", "key", "step", "start", "stop"])


def _inputs(program: Program) -> list[str]:
    return [f"x{k}" for k in range(len(program.inputs))]


def _params(program: Program) -> list[str]:
    return [f"p{m}" for m in range(len(program.params))]


def _begin_block(s: _Source, params: Sequence[str]) -> None:
    """The loop over blocks of lanes; parameters, scalar or not, become rows. `spans`: neighbours that share a value."""
    s.add(1, f"for n0 in range(start, stop, {BLOCK}):", f"    n = min({BLOCK}, stop - n0)")
    for m, name in enumerate(params):
        s.add(2, f"if p{m}.size == 1:")
        s.loop(3, f"{s.row('p_' + name)} = p{m}[0]")
        s.add(2, "else:")
        s.loop(3, f"{s.row('p_' + name)} = p{m}[((n0 + i) // spans[{m}]) % p{m}.size]")


def _load_inputs(s: _Source, depth: int) -> None:
    """Input rows of step t; an input of one step serves them all."""
    for k in range(len(s.program.inputs)):
        row = f"x{k}[t if x{k}.shape[0] > 1 else 0, n0:n0 + n]"
        s.add(depth, f"x{k}_row = {row}")
        if s.variant.half:
            s.add(depth, f"widen(x{k}_row, scratch, bits, {s.offset(f'x{k}')}, n)")
        elif k > 0:
            s.loop(depth, f"{s.row(f'x{k}')} = x{k}_row[i]")


def _load_output_gradient(s: _Source, depth: int) -> None:
    offset = s.offset("gz")
    s.add(depth, "if gz_all.shape[1] == 1:")
    if s.variant.half:
        s.loop(depth + 1, f"bits[{offset} + i] = 0")
        s.add(depth + 1, "one = gz_all[0]", f"widen(one, scratch, bits, {offset}, 1)")
        s.loop(depth + 1, f"scratch[{offset} + i] = scratch[{offset}]")
        s.add(depth, "else:", f"    widen(gz_all[t, n0:n0 + n], scratch, bits, {offset}, n)")
        s.add(depth, f"g_row = scratch[{offset}:{offset} + n]")
    else:
        s.loop(depth + 1, f"scratch[{offset} + i] = gz_all[0, 0]")
        s.add(depth + 1, f"g_row = scratch[{offset}:{offset} + n]")
        s.add(depth, "else:", "    g_row = gz_all[t, n0:n0 + n]")


def _draw(s: _Source, depth: int) -> None:
    for index, (name, kind) in enumerate(s.program.draws):
        s.loop(depth, f"{s.row('d_' + name)} = {kind}(key, n0 + i, step + t, {index})")


def _load_lane(s: _Source, depth: int, saved: bool = False) -> None:
    """Give lane i's state, inputs, draws and the parameters that are used their names."""
    for j, n in enumerate(s.program.state):
        s.add(depth, f"s_{n} = {f'saved[{j * ROW} + i]' if saved else s.row('s_' + n)}")
    for k, n in enumerate(s.program.inputs):
        s.add(depth, f"x_{n} = {s.row(f'x{k}') if s.variant.half or k else 'x0_row[i]'}")
    for n, _ in s.program.draws:
        s.add(depth, f"d_{n} = {s.row('d_' + n)}")
    for n in s.program.params:
        s.add(depth, f"p_{n} = {s.row('p_' + n)}")


def _forward_step(s: _Source, depth: int) -> None:
    p = s.program
    s.work(depth, p.charge.operations)
    s.bind(depth, "h_", p.charge.results)
    s.work(depth, p.fire.operations)
    s.bind(depth, "", p.fire.results)
    s.work(depth, p.emit.operations)
    s.add(depth, f"z_out = {s.value(p.emit.results['z'])}")
    if "gate" in p.fire.results:
        s.add(depth, "z_out = z_out if gate else k_zero")


def _advance(s: _Source, depth: int) -> None:
    s.add(depth, "z = z_out")
    s.work(depth, s.program.reset.operations)
    s.add(depth, *(f"{s.row('s_' + n)} = {s.value(v)}" for n, v in s.program.reset.results.items()))


def _previous_row(s: _Source, depth: int) -> None:
    states = max(len(s.program.state), 1)
    s.add(depth, f"saved = previous[(t - first) * {states * ROW}:(t - first + 1) * {states * ROW}]")


def _recompute(s: _Source, depth: int) -> None:
    """Redo the chunk from its checkpoint, leaving the state before each step in `previous`."""
    s.add(depth, "for t in range(first, last):")
    _previous_row(s, depth + 1)
    _load_inputs(s, depth + 1)
    _draw(s, depth + 1)
    s.add(depth + 1, "for i in range(n):")
    s.add(depth + 2, *(f"saved[{j * ROW} + i] = {s.row('s_' + n)}" for j, n in enumerate(s.program.state)))
    _load_lane(s, depth + 2)
    _forward_step(s, depth + 2)
    _advance(s, depth + 2)


def _prelude(program: Program, variant: Variant) -> list[str]:
    lines = ["import math", "", "import numpy as np", "from numba import njit", ""]
    if variant.half:
        lines += _HALF[variant.storage].splitlines()
    if program.draws:
        lines += _PHILOX.format(real=variant.real).splitlines()
    return lines


_HALF = {
    "bfloat16": '''
@njit(nogil=True, error_model="numpy")
def widen(row, scratch, bits, offset, n):
    for i in range(n):
        bits[offset + i] = np.uint32(row[i]) << np.uint32(16)


@njit(nogil=True, error_model="numpy")
def narrow(scratch, bits, offset, row, n):
    for i in range(n):  # round to nearest even; a NaN stays one
        b = bits[offset + i]
        rounded = (b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        row[i] = rounded if (b & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000) else (b >> np.uint32(16)) | np.uint32(64)
''',
    "float16": '''
@njit(nogil=True, error_model="numpy")
def widen(row, scratch, bits, offset, n):
    for i in range(n):  # as if the exponent were biased as in float32, so 2^112 too small
        bits[offset + i] = np.uint32(row[i] & np.uint16(0x7FFF)) << np.uint32(13)
    for i in range(n):
        scratch[offset + i] *= np.float32(2.0**112)
    for i in range(n):  # infinities and NaNs keep all exponent bits set; then the sign
        h = np.uint32(row[i])
        special = np.uint32(0x7F800000) if (h & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
        bits[offset + i] |= special | ((h & np.uint32(0x8000)) << np.uint32(16))


@njit(nogil=True, error_model="numpy")
def narrow(scratch, bits, offset, row, n):
    for i in range(n):
        sign = (bits[offset + i] >> np.uint32(16)) & np.uint32(0x8000)
        a = bits[offset + i] & np.uint32(0x7FFFFFFF)
        if a > np.uint32(0x7F800000):
            row[i] = sign | np.uint32(0x7E00)
        elif a >= np.uint32(0x47800000):
            row[i] = sign | np.uint32(0x7C00)
        elif a < np.uint32(0x38800000):  # subnormal: adding one half lets the hardware round at 2^-24
            scratch[offset + i] = abs(scratch[offset + i]) + np.float32(0.5)
            row[i] = sign | (bits[offset + i] - np.uint32(0x3F000000))
        else:
            row[i] = sign | ((a - np.uint32(0x38000000) + np.uint32(0xFFF) + ((a >> np.uint32(13)) & np.uint32(1))) >> np.uint32(13))
''',
}

_PHILOX = '''
@njit(nogil=True, error_model="numpy")
def philox(key, lane, step, draw):
    mask = np.uint64(0xFFFFFFFF)
    c0, c1 = np.uint64(lane) & mask, np.uint64(step) & mask
    c2, c3 = (np.uint64(step) >> np.uint64(32)) & mask, np.uint64(draw)
    k0, k1 = np.uint64(key) & mask, (np.uint64(key) >> np.uint64(32)) & mask
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ k0, b & mask, (a >> np.uint64(32)) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1


@njit(nogil=True, error_model="numpy")
def open_interval(word):
    return np.{real}((word >> np.uint64(9)) * np.uint64(2) + np.uint64(1)) * np.{real}(2.0**-24)


@njit(nogil=True, error_model="numpy")
def uniform(key, lane, step, draw):
    return open_interval(philox(key, lane, step, draw)[0])


@njit(nogil=True, error_model="numpy")
def normal(key, lane, step, draw):
    first, second = philox(key, lane, step, draw)
    radius = math.sqrt(np.{real}(-2.0) * math.log(open_interval(first)))
    return radius * math.cos(np.{real}(2.0 * math.pi) * open_interval(second))
'''
