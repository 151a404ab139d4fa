"""Record a neuron's equations, ordinary Python functions of scalars, as a list of operations.

The functions are called once with `Symbol`s. Every arithmetic operation and every word below appends one
operation to a `Tape`, in the order in which it was written; forward code in every backend is made from that
list, so that no backend rounds differently from another.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from spikenet.errors import EquationError

WORDS = (
    "arithmetic (+ - * / **), abs, comparisons inside where, exp, log, sqrt, tanh, sin, cos, atan, erf, "
    "floor, minimum, maximum, where, blend, detach"
)


class Operation(NamedTuple):
    """One recorded operation: `out = word(*args)`; an argument is a symbol's name or a constant."""

    out: str
    word: str
    args: tuple[str | float, ...]


@dataclass
class Tape:
    """The operations of one phase, in the order in which they were written; `prefix` keeps phases apart."""

    prefix: str
    operations: list[Operation] = field(default_factory=list)

    def record(self, word: str, *args: Symbol | float) -> Symbol:
        out = f"{self.prefix}{len(self.operations)}"
        names = tuple(a.name if isinstance(a, Symbol) else float(a) for a in args)
        self.operations.append(Operation(out, word, names))
        return Symbol(out, self, _kind(word, args))


CONDITIONS = frozenset({"lt", "le", "gt", "ge"})


def _kind(word: str, args: Sequence[Symbol | float]) -> str:
    if word in CONDITIONS:
        return "condition"
    return "graded" if any(isinstance(a, Symbol) and a.kind == "graded" for a in args) else "value"


def refuse(what: str) -> EquationError:
    return EquationError(f"a neuron equation cannot use {what}. Words allowed: {WORDS}.")


class Symbol:
    """A scalar that has no value yet: arithmetic on it is recorded on its tape.

    `kind` is "value", "condition" (the result of a comparison) or "graded" (an output that is not just 0 or 1).
    """

    __slots__ = ("kind", "name", "tape")
    __array_ufunc__ = None  # NumPy scalars and arrays defer to the reflected operators below

    def __init__(self, name: str, tape: Tape, kind: str = "value") -> None:
        self.name, self.tape, self.kind = name, tape, kind

    def __add__(self, other: Any) -> Symbol:
        return record("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return record("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return record("sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return record("sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return record("mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return record("mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return record("div", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return record("div", other, self)

    def __neg__(self) -> Symbol:
        return record("neg", self)

    def __abs__(self) -> Symbol:
        return record("where", record("ge", self, 0.0), self, record("neg", self))

    def __pow__(self, exponent: Any) -> Symbol:
        return _power(self, exponent)

    def __rpow__(self, base: Any) -> Symbol:
        raise refuse("a power whose exponent is a variable (write exp(log(base) * exponent))")

    def __lt__(self, other: Any) -> Symbol:
        return record("lt", self, other)

    def __le__(self, other: Any) -> Symbol:
        return record("le", self, other)

    def __gt__(self, other: Any) -> Symbol:
        return record("gt", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return record("ge", self, other)

    def __bool__(self) -> bool:
        raise refuse("`if`, `and`, `or`, `not`, min() or max() on a value that is not known yet (use where)")

    def __float__(self) -> float:
        raise refuse("math functions or float() on a symbol (use the words of spikenet.neurons)")

    def __eq__(self, other: object) -> bool:
        raise refuse("`==` or `!=` (two real numbers are hardly ever equal; compare with < or >)")

    __hash__ = object.__hash__  # refusing `==` would take it away

    def _refused(self, *_: Any) -> Any:
        raise refuse("`%`, `//`, `&`, `|`, `^`, `~`, `@`, int(), round(), len(), indexing or iteration on a symbol")

    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __and__ = __or__ = __xor__ = __invert__ = _refused
    __matmul__ = __int__ = __round__ = __len__ = __getitem__ = __iter__ = _refused

    def __pos__(self) -> Symbol:
        return self

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any) -> Any:
        raise refuse(f"torch.{getattr(function, '__name__', function)} on a symbol")

    def __getattr__(self, name: str) -> Any:
        raise refuse(f"`.{name}`")


def record(word: str, *args: Any) -> Symbol:
    """Append one operation to the tape that the symbols among `args` share."""
    for a in args:
        if not isinstance(a, Symbol | int | float):
            raise refuse(f"a value of type {type(a).__name__} in {word!r}")
    symbols = [a for a in args if isinstance(a, Symbol)]
    if not symbols:
        raise refuse(f"{word!r} of constants alone (compute it in plain Python)")
    if any(a.tape is not symbols[0].tape for a in symbols):
        raise refuse("a value kept from another of the three functions (hand it on through what they return)")
    return symbols[0].tape.record(word, *args)


def _power(base: Symbol, exponent: Any) -> Symbol:
    """Integer powers are products, so that every backend rounds them alike; others go through exp and log."""
    if exponent == 0.5:
        return record("sqrt", base)
    if not isinstance(exponent, int | float) or exponent != int(exponent):
        raise refuse(f"the power {exponent!r} (integer powers and 0.5 work; else exp(log(x) * p))")
    if exponent < 0:
        return 1.0 / _power(base, -exponent)
    if exponent == 0:
        raise refuse("the power 0 (write 1.0)")
    result = base
    for _ in range(int(exponent) - 1):
        result = result * base
    return result


class Emit(Protocol):
    """How `u = fire(h)` becomes the output `z`: a value, and the slope dz/du that the backward pass uses.

    `alpha` is the surrogate's sharpness, a run-time number. `binary` says that `z` is 0 or 1, so that
    `blend` may select. `draws` names random numbers of its own ("uniform" on (0, 1) or "normal", one a lane and
    step); value and slope find them in `d`, the same ones for both. An emission whose slope is not a derivative of its
    output has `detaches_reset = True`: then `reset` sees a `z` without a derivative.
    """

    @property
    def binary(self) -> bool: ...
    @property
    def alpha(self) -> float: ...
    @property
    def draws(self) -> Mapping[str, str]: ...
    def value(self, u: Any, d: Any, alpha: Any) -> Any: ...
    def slope(self, u: Any, d: Any, alpha: Any) -> Any: ...


class Equations(Protocol):
    """What a neuron declares (see `spikenet.neurons.Neuron`)."""

    emit: Emit

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> Mapping[str, Any]: ...
    def fire(self, h: Any, p: Any) -> Any: ...
    def reset(self, h: Any, z: Any, p: Any) -> Mapping[str, Any]: ...


Value = str | float  # the name of a symbol, or a constant


@dataclass(frozen=True)
class Phase:
    """Operations and the values that they leave behind."""

    operations: tuple[Operation, ...]
    results: dict[str, Value]


@dataclass(frozen=True, eq=False)
class Program:
    """A neuron's recorded equations: everything that a backend needs to know of it."""

    inputs: tuple[str, ...]
    state: tuple[str, ...]
    params: tuple[str, ...]
    draws: tuple[tuple[str, str], ...]  # (name, "uniform" | "normal"); the emission's come last
    binary: bool
    charge: Phase  # s_, x_, d_, p_ -> h
    fire: Phase  # h_, p_ -> u (and gate)
    emit: Phase  # u, d_ -> z
    slope: Phase  # u, d_ -> sg
    reset: Phase  # h_, z, p_ -> the next state

    @property
    def chunk(self) -> int:
        """Steps between two state checkpoints: as many as a GPU's registers hold of what a step leaves."""
        rows = len(self.inputs) + 1 + max(len(self.state), len(self.charge.results))
        phases = (self.charge, self.fire, self.emit, self.slope, self.reset)
        operations = sum(len(phase.operations) for phase in phases)
        return 20 if rows <= 4 and operations <= 60 else 10

    @functools.cached_property
    def key(self) -> str:
        """A name that two programs share only if they compute the same thing."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


ALPHA = "alpha"
DRAWS = ("uniform", "normal")


def trace(
    equations: Equations,
    inputs: Sequence[str],
    state: Sequence[str],
    params: Sequence[str],
    draws: Sequence[tuple[str, str]] = (),
) -> Program:
    """Record `equations`. Names of kernel parameters come from `params`, and `alpha` is added to them."""
    p_names, output = (*params, ALPHA), equations.emit
    apart = getattr(output, "detaches_reset", False)
    drawn = _drawn(draws, output.draws)
    p = _names("p", p_names)
    charge = _phase("c", equations.charge, _names("s", state), _names("x", inputs), _names("d", dict(draws)), p)
    h = _names("h", charge.results)
    fire = _phase("f", lambda h, p: _fired(equations.fire(h, p)), h, p)
    known = _single("u"), _names("d", output.draws), _single(f"p_{ALPHA}")
    emit = _phase("e", lambda u, d, a: {"z": output.value(u, d, a)}, *known)
    slope = _phase("g", lambda u, d, a: {"sg": output.slope(u, d, a)}, *known)
    z = _single("z", "value" if output.binary else "graded")
    reset = _phase("r", lambda h, z, p: equations.reset(h, record("detach", z) if apart else z, p), h, z, p)
    reset = Phase(reset.operations, _checked(reset.results, state))
    binary = output.binary
    return Program(tuple(inputs), tuple(state), p_names, drawn, binary, charge, fire, emit, slope, reset)


def _drawn(own: Sequence[tuple[str, str]], emission: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The neuron's draws and its emission's, in this order."""
    if twice := dict(own).keys() & emission.keys():
        raise EquationError(f"the neuron and its emission both draw {sorted(twice)}; rename one")
    both = (*own, *emission.items())
    if unknown := [f"{name}={kind!r}" for name, kind in both if kind not in DRAWS]:
        raise EquationError(f"a draw is one of {', '.join(DRAWS)}, got {', '.join(unknown)}")
    return both


class _Namespace(SimpleNamespace):
    """Symbols by name; an unknown name says which are known."""

    def __getattr__(self, name: str) -> Any:
        raise EquationError(
            f"a neuron equation asks for {name!r}; declared here: {', '.join(sorted(vars(self))) or 'none'}"
        )


Argument = Callable[[Tape], Any]


def _names(kind: str, names: Iterable[str]) -> Argument:
    names = tuple(names)
    return lambda tape: _Namespace(**{name: Symbol(f"{kind}_{name}", tape) for name in names})


def _single(name: str, kind: str = "value") -> Argument:
    return lambda tape: Symbol(name, tape, kind)


def _phase(prefix: str, function: Callable[..., Any], *arguments: Argument) -> Phase:
    tape = Tape(prefix)
    results = function(*(argument(tape) for argument in arguments))
    if not isinstance(results, Mapping):
        raise EquationError(f"{function.__qualname__} must return a dict of names to values, got {results!r}")
    return Phase(tuple(tape.operations), {k: _value(tape, k, v) for k, v in results.items()})


def _value(tape: Tape, name: str, value: Any) -> Value:
    if isinstance(value, Symbol):
        if value.tape is not tape:
            raise refuse(f"a value kept from another of the three functions for {name!r}")
        if (value.kind == "condition") != (name == "gate"):
            raise refuse(f"a {'comparison' if value.kind == 'condition' else 'number'} for {name!r} (see where)")
        return value.name
    if isinstance(value, int | float) and name != "gate":
        return float(value)
    raise refuse(f"a value of type {type(value).__name__} for {name!r}")


def recorded(function: Callable[..., Any], *names: str) -> Phase:
    """One function of scalars on its own: its arguments are called `names`, its result "value"."""
    return _phase("a", lambda *arguments: {"value": function(*arguments)}, *map(_single, names))


def _fired(result: Any) -> dict[str, Any]:
    u, *gate = result if isinstance(result, tuple) else (result,)
    return {"u": u, **({"gate": gate[0]} if gate else {})}


def _checked(results: dict[str, Value], state: Sequence[str]) -> dict[str, Value]:
    if set(results) != set(state):
        raise EquationError(f"reset must return the states {sorted(state)}, got {sorted(results)}")
    return {name: results[name] for name in state}
