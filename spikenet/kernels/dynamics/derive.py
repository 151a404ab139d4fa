"""One step of the backward pass, derived from a neuron's recorded equations. Sympy only differentiates.

With `lam` the adjoint of the next state, `gz` the gradient that reaches the output and `sg` the slope dz/du:

    gz'  = gz + sum_j lam_j dR_j/dz
    gh_i = sum_j lam_j dR_j/dh_i + gz' sg dU/dh_i
    gs_j = sum_i gh_i dH_i/ds_j                    adjoint of the previous state
    gx_k = sum_i gh_i dH_i/dx_k                    gradient of each input
    gp_m = sum_i gh_i dH_i/dp_m + gz' sg dU/dp_m + sum_j lam_j dR_j/dp_m

where H (charge), U (fire) and R (reset) are the neuron's three functions. The gate of `fire` carries no
gradient of its own: it multiplies `sg`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import sympy

from spikenet.kernels.dynamics.trace import ALPHA, CONDITIONS, Operation, Phase, Program, Tape, Value


class Select(sympy.Function):
    """`Select(condition, a, b)`: a where the condition holds, else b; differentiated branch by branch."""

    def _eval_derivative(self, s: sympy.Symbol) -> sympy.Expr:
        condition, a, b = self.args
        da, db = sympy.diff(a, s), sympy.diff(b, s)
        return da if da == db else Select(condition, da, db)


class Blend(sympy.Function):
    """`Blend(z, a, b)`: a without a spike, b with one. To z the derivative is b - a, to the rest a selection."""

    def _eval_derivative(self, s: sympy.Symbol) -> sympy.Expr:
        z, a, b = self.args
        dz, da, db = (sympy.diff(argument, s) for argument in self.args)
        return (da if da == db else Blend(z, da, db)) + dz * (b - a)


_EXPRESSION = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "exp": sympy.exp,
    "log": sympy.log,
    "sqrt": sympy.sqrt,
    "tanh": sympy.tanh,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "atan": sympy.atan,
    "erf": sympy.erf,
    "where": Select,
    "blend": Blend,
}
# Their values are known in the backward pass and carry no derivative.
_OPAQUE = CONDITIONS | {"detach", "floor"}


@dataclass(frozen=True)
class Backward:
    """One backward step: the operations, and where each gradient is left.

    Operations may use the values of the forward step (recomputed), `lam_<state>`, `gz` and `sg`.
    """

    operations: tuple[Operation, ...]
    state: dict[str, Value]
    inputs: dict[str, Value]
    params: dict[str, Value]


def derive(program: Program) -> Backward:
    """Differentiate `program` and lower the five equations above to operations."""
    charge, fire, reset = (_expressions(phase) for phase in (program.charge, program.fire, program.reset))
    lower = _Lowering()
    lam = {j: sympy.Symbol(f"lam_{j}") for j in program.state}

    def through_reset(name: str) -> sympy.Expr:
        return _sum(lam[j] * sympy.diff(reset[j], sympy.Symbol(name)) for j in program.state)

    gz = lower.named(sympy.Symbol("gz") + through_reset("z"))
    gu = lower.named(gz * sympy.Symbol("sg"))
    gh = {
        i: lower.named(through_reset(f"h_{i}") + gu * sympy.diff(fire["u"], sympy.Symbol(f"h_{i}")))
        for i in program.charge.results
    }

    def through_charge(name: str) -> sympy.Expr:
        return _sum(gh[i] * sympy.diff(charge[i], sympy.Symbol(name)) for i in gh)

    def parameter(name: str) -> sympy.Expr:
        return through_charge(name) + gu * sympy.diff(fire["u"], sympy.Symbol(name)) + through_reset(name)

    state = {j: lower.value(through_charge(f"s_{j}")) for j in program.state}
    inputs = {k: lower.value(through_charge(f"x_{k}")) for k in program.inputs}
    params = {m: lower.value(parameter(f"p_{m}")) for m in program.params if m != ALPHA}
    return Backward(tuple(lower.tape.operations), state, inputs, params)


def _sum(terms: Iterable[sympy.Expr]) -> sympy.Expr:
    return sympy.Add(*terms)


def _expressions(phase: Phase) -> dict[str, sympy.Expr]:
    """The phase's results as expressions of its arguments. Plain symbols: sympy must not fold sqrt(a**2)."""
    known: dict[str, sympy.Expr] = {}

    def value(a: Value) -> sympy.Expr:
        if isinstance(a, str):
            return known.get(a, sympy.Symbol(a))
        return sympy.Integer(int(a)) if math.isfinite(a) and a == int(a) else sympy.Float(a)

    for out, word, args in phase.operations:
        known[out] = sympy.Symbol(out) if word in _OPAQUE else _EXPRESSION[word](*(value(a) for a in args))
    return {name: value(v) for name, v in phase.results.items()}


def _negative(e: sympy.Expr) -> bool:
    return bool(e.as_coeff_Mul()[0].is_negative)


class _Lowering:
    """Turns expressions back into operations; equal subexpressions are computed once."""

    _UNARY = {
        sympy.exp: "exp",
        sympy.log: "log",
        sympy.tanh: "tanh",
        sympy.sin: "sin",
        sympy.cos: "cos",
        sympy.atan: "atan",
        sympy.erf: "erf",
    }

    def __init__(self) -> None:
        self.tape = Tape("b")
        self._done: dict[sympy.Expr, Value] = {}

    def named(self, expression: sympy.Expr) -> sympy.Expr:
        """Compute `expression` once and go on with a symbol for it, or with the constant that it is."""
        value = self.value(expression)
        return sympy.Symbol(value) if isinstance(value, str) else expression

    def value(self, e: sympy.Expr) -> Value:
        if e not in self._done:
            self._done[e] = self._lower(e)
        return self._done[e]

    def _record(self, word: str, *args: Value) -> Value:
        out = f"b{len(self.tape.operations)}"
        self.tape.operations.append(Operation(out, word, args))
        return out

    def _lower(self, e: sympy.Expr) -> Value:
        if e.is_Symbol:
            return e.name
        if e.is_number:
            return float(e)
        if e.is_Add:
            return self._add(e)
        if e.is_Mul:
            return self._mul(e)
        if e.is_Pow:
            return self._power(e)
        if isinstance(e, Select):
            return self._record("where", *(self.value(a) for a in e.args))
        if isinstance(e, Blend):
            return self._record("blend", *(self.value(a) for a in e.args))
        return self._record(self._UNARY[e.func], self.value(e.args[0]))

    def _add(self, e: sympy.Expr) -> Value:
        positive = [t for t in e.args if not _negative(t)]
        negative = [-t for t in e.args if _negative(t)]
        if not positive:
            return self._record("neg", self._chain("add", negative))
        total = self._chain("add", positive)
        for t in negative:
            total = self._record("sub", total, self.value(t))
        return total

    def _mul(self, e: sympy.Expr) -> Value:
        if _negative(e):
            return self._record("neg", self.value(-e))
        for choice in e.args:  # a factor that is zero on one side: select the product, and save it there
            if isinstance(choice, Select | Blend) and sympy.Integer(0) in choice.args[1:]:
                rest = sympy.Mul(*(t for t in e.args if t is not choice))
                return self.value(choice.func(choice.args[0], *(rest * branch for branch in choice.args[1:])))
        below = [t for t in e.args if t.is_Pow and t.exp.is_negative]
        above = [t for t in e.args if t not in below]
        top = self._chain("mul", above) if above else 1.0
        return self._record("div", top, self._chain("mul", [1 / t for t in below])) if below else top

    def _power(self, e: sympy.Expr) -> Value:
        base, exponent = e.args
        if exponent.is_negative:
            return self._record("div", 1.0, self.value(1 / e))
        root, exponent = self.value(base), sympy.nsimplify(exponent)
        if exponent.q & (exponent.q - 1):  # no power of two: no chain of square roots
            return self._record("exp", self._record("mul", float(exponent), self._record("log", root)))
        for _ in range(exponent.q.bit_length() - 1):
            root = self._record("sqrt", root)
        return self._chain_values("mul", [root] * int(exponent.p))

    def _chain(self, word: str, terms: list[sympy.Expr]) -> Value:
        return self._chain_values(word, [self.value(t) for t in terms])

    def _chain_values(self, word: str, values: list[Value]) -> Value:
        total, *rest = values
        for v in rest:
            total = self._record(word, total, v)
        return total
