"""`Neuron`: from declared equations to a module that runs them over time."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import (
    ArgumentError,
    DeviceError,
    DtypeError,
    EquationError,
    ShapeError,
    StateError,
    UnknownNameError,
)
from spikenet.kernels.backends import forced
from spikenet.kernels.dynamics import ALPHA, Emit, bind, may_be_bound, register, scan, trace
from spikenet.neurons.carry import carrier
from spikenet.neurons.constants import number, passing
from spikenet.neurons.prepared import Kept, Prepared, flat_param
from spikenet.neurons.surrogate import Spike, Surrogate
from spikenet.neurons.surrogate import surrogate as _surrogate


class Param(NamedTuple):
    """A declared parameter: its default, its unit, and the open interval in which it makes sense."""

    default: float
    unit: str = "1"
    above: float = -math.inf
    below: float = math.inf


class _Traced(type):
    """Traces a neuron's equations once all of its `__init__` has run: early errors, and nothing left to compile."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        neuron = super().__call__(*args, **kwargs)
        neuron._trace()
        return neuron


class Neuron(nn.Module, metaclass=_Traced):
    """A neuron population, written as equations. A subclass declares, and writes nothing else:

    - `inputs`: the names of its input sequences.
    - `state`: each state's name with its initial value, a number or the name of a kernel parameter.
    - `params`: each parameter's name with a `Param`, or a bare number for its default.
    - `draws`: each random number's name with "uniform" (on (0, 1)) or "normal", one a lane and step.
    - `derive(p)`: torch code run once a call, from parameters to what the equations use (default: the same).
    - `charge(s, x, d, p) -> h`, `fire(h, p) -> u` (or `(u, gate)`), `reset(h, z, p) -> next state`: functions of
      scalars in the words of `spikenet.neurons`; `charge` and `reset` return dicts.
    - `emit`: how `u` becomes the output; by default a spike where `u >= 0`.

    Args:
        surrogate: the slope of the spike in the backward pass, or its name.
        dt: length of a time step, in the unit of the time constants.
        **params: values of declared parameters: a number or tensor is fixed, an `nn.Parameter` is learned. A number is
            held in torch's default dtype. To change a fixed one, write to it in place, but not through `.data`,
            which hides the change.
            Shapes broadcast against the features: `()`, per channel `[C, 1, 1]`, per neuron `[*features]`.

    Shape:
        Inputs `[T, B, *features]`, float32, float64, bfloat16 or float16; output likewise. States `[B, *features]`,
        float32 (float64 for float64 input).

    Raises:
        UnknownNameError: for a parameter that is not declared.
        ArgumentError: for a value outside its declared range.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    state: ClassVar[Mapping[str, float | str]] = {}
    params: Mapping[str, Param | float] = {}
    draws: ClassVar[Mapping[str, str]] = {}
    emit: Emit
    _State: ClassVar[Any]
    _RandomState: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the class its state types, named tuples of tensors: without and with random numbers."""
        super().__init_subclass__(**kwargs)
        for name, last in (("_State", ()), ("_RandomState", ("rng",))):
            kind = namedtuple(f"{cls.__name__}State", (*cls.state, *last))  # type: ignore[misc]
            kind.__module__, kind.__qualname__ = cls.__module__, f"{cls.__qualname__}.{name}"  # so that it pickles
            setattr(cls, name, kind)

    def __init__(self, *, surrogate: Surrogate | str = "atan", dt: float = 1.0, **params: float | Tensor) -> None:
        super().__init__()
        if not (math.isfinite(dt) and dt > 0):
            raise ArgumentError(f"{type(self).__name__}.dt must be a finite number above 0, got {dt}")
        self.dt = float(dt)
        if not hasattr(self, "emit"):
            self.emit = Spike(_surrogate(surrogate))
        for name in params:
            if name not in self.params:
                raise UnknownNameError(f"parameter of {type(self).__name__}", name, self.params)
        for name, spec in self.params.items():
            self._declare(name, params.get(name), spec if isinstance(spec, Param) else Param(spec))

    def _declare(self, name: str, value: float | Tensor | None, spec: Param) -> None:
        if hasattr(self, name):
            raise ArgumentError(f"{type(self).__name__}: the parameter name {name!r} is taken by the module itself")
        value = spec.default if value is None else value
        tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
        inside = (tensor > spec.above) & (tensor < spec.below)
        if not tensor.is_meta and not bool(inside.all()):  # a meta tensor has no values to look at
            bad = tensor.detach()[~inside].flatten()[0].item()
            raise ArgumentError(
                f"{type(self).__name__}.{name} must lie between {spec.above} and {spec.below}, got {bad}"
            )
        if isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        else:
            self.register_buffer(name, tensor.detach().clone())

    # The equations. Defaults suit most neurons.

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        """Kernel parameters from the declared ones, in torch, once a call."""
        return p

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        """The state before a spike is decided, from the state, the inputs, the draws and the parameters."""
        raise NotImplementedError(f"{type(self).__name__} does not define charge")

    def fire(self, h: Any, p: Any) -> Any:
        """The distance to the threshold."""
        return h.v - p.v_threshold

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        """The next state, from the charged one and the output."""
        raise NotImplementedError(f"{type(self).__name__} does not define reset")

    # Running it.

    @property
    def State(self) -> Any:
        """The type of this neuron's states; where the neuron or its emission draws, `rng` holds seed and step."""
        return self._RandomState if self._draws else self._State

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run whole sequences `[T, B, *features]` from the initial state; returns the output sequence."""
        running = carrier()
        if running is None:
            bound = self._bound(inputs)
            if bound is not None:
                return bound(inputs)
            sequences, before = self._split(inputs, {})
            return self._scan(sequences, before)[0]
        key, state = running.take(self, inputs[0])
        output, state = self.run(*inputs, state)
        running.put(key, state)
        return output

    def run(self, *inputs: Any, **state: Any) -> tuple[Tensor, Any]:
        """`run(*inputs, state=initial)`: a chunk `[T, B, *features]` from `state`; returns (output, state)."""
        sequences, before = self._split(inputs, state)
        output, after, _ = self._scan(sequences, before, final=True)
        return output, after

    def step(self, *inputs: Any, **state: Any) -> tuple[Tensor, Any]:
        """`step(*inputs, state=initial)`: one step `[B, *features]`; returns (output, state)."""
        sequences, before = self._split(inputs, state)
        output, after, _ = self._scan([x.unsqueeze(0) for x in sequences], before, final=True)
        return output.squeeze(0), after

    def trace(self, *inputs: Any, **state: Any) -> tuple[Tensor, Any]:
        """`trace(*inputs, state=initial)`: returns the output and the state after every step, `[T, B, *features]`."""
        sequences, before = self._split(inputs, state)
        output, _, states = self._scan(sequences, before, trace=True)
        return output, states

    def initial_state(self, like: Tensor) -> Any:
        """The state before the first step for a batch like `like` `[B, *features]`.

        Neurons that draw start from a seed taken from torch's generator.
        """
        state = self._seeded(self._prepared([like.unsqueeze(0)] * len(self.inputs))[2], like.device)
        return self.State(*(v.clone() for v in state))

    def _seeded(self, values: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
        """The initial state's values, with a seed where there are draws."""
        if not self._draws:
            return values
        seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=device)
        return [*values, torch.stack([seed, torch.zeros_like(seed)])]

    def _start(self, x: Tensor, known: dict[str, Tensor]) -> list[Tensor]:
        """The values of the initial state for a sequence like `x`, equal ones held once."""
        real = _real(x.dtype)
        numbers = (known[v] if isinstance(v, str) else number(v, real, x.device) for v in self.state.values())
        return [v.expand(x.shape[1:]) for v in numbers]

    def _split(self, arguments: tuple[Any, ...], keyword: dict[str, Any]) -> tuple[list[Tensor], Any]:
        """Inputs and state, which comes last or as `state=`."""
        n = len(self.inputs)
        arguments += tuple(keyword.values())
        if len(arguments) not in (n, n + 1) or keyword.keys() - {"state"}:
            names = ", ".join(self.inputs)
            raise ShapeError(
                f"{type(self).__name__} takes {n} input(s) ({names}) and an optional state, "
                f"got {len(arguments)} arguments"
            )
        if len(arguments) == n and carrier() is not None:
            raise StateError(
                f"{type(self).__name__}.run, .step and .trace without a state would start anew in every part of a "
                "stream; call the neuron itself, or hand the state on"
            )
        return list(arguments[:n]), arguments[n] if len(arguments) > n else None

    def _scan(
        self,
        inputs: list[Tensor],
        state: Any,
        *,
        final: bool = False,
        trace: bool = False,
        by: Callable[..., tuple[Tensor, list[Tensor], list[Tensor]]] = scan,
    ) -> tuple[Tensor, Any, Any]:
        """The output; the state after the last step if `final`, and after every step if `trace`.

        `by` goes through the steps; a layer may put its own in the place of `scan`.
        """
        x = inputs[0]
        params, spans, fresh = self._prepared(inputs)
        before = self._seeded(fresh, x.device) if state is None else self._fitting(state, x)
        n, rng = len(self.state), before[-1] if self._draws else None
        if x.numel():
            z, after, states = by(self._program, inputs, before[:n], params, spans, rng, final, trace)
        else:
            z, after, states = self._nothing(x), [v.clone() for v in before[:n]], [x.to(v.dtype) for v in before[:n]]
        if not (final or trace):
            return z, None, None
        drawn = () if rng is None else (torch.stack([rng[0], rng[1] + len(x)]),)
        return z, self.State(*after, *drawn) if final else None, self.State(*states, *drawn) if trace else None

    def _nothing(self, x: Tensor) -> Tensor:
        """The output for no elements; learned parameters get a gradient of zero."""
        learned = (p.sum() for p in self._declared().values() if p.requires_grad)
        return x + sum((0.0 * p for p in learned), start=x.new_zeros(()))

    def _declared(self) -> dict[str, Tensor]:
        buffers = self._buffers  # most parameters; nn.Module takes its time to find them there
        found = {name: buffers.get(name) for name in self.params}
        return {name: getattr(self, name) if v is None else v for name, v in found.items()}

    def _prepared(self, inputs: Sequence[Tensor]) -> Prepared:
        """Flat kernel parameters, their spans and the initial state for sequences like `inputs`, which it checks.

        Kept from call to call while no parameter is learned or has changed: at few time steps working them out takes
        longer than the kernel. A CUDA graph works them out anew at each replay.
        """
        declared = self._declared()
        if passing(inputs[0]) or any(v.requires_grad or v.is_inference() for v in declared.values()):
            return self._prepare(self._checked(inputs), declared)
        return self._keep(inputs, declared).prepared

    def _bound(self, inputs: Sequence[Tensor], by: Callable[..., Any] = bind, *given: Hashable) -> Any:
        """The short way to the output for sequences like `inputs`, where there is one.

        `by` makes it, as `bind` does; a layer may put its own in that place, which is `given` more.
        """
        if self._draws or len(inputs) != len(self.inputs) or passing(inputs[0]):
            return None
        kept: Kept | None = self.__dict__.get("_kept")
        if kept is None or not kept.fits(inputs, self._declared()) or not may_be_bound(inputs):
            return None  # it is kept from the second call on
        key = (by, forced(), *given)
        if key not in kept.bound:
            params, spans, state = kept.prepared
            made = by(self._program, inputs, state, params, spans, *given) if inputs[0].numel() else None
            kept.bound[key] = made
        return kept.bound[key]

    def _keep(self, inputs: Sequence[Tensor], declared: dict[str, Tensor]) -> Kept:
        kept: Kept | None = self.__dict__.get("_kept")
        if kept is None or not kept.fits(inputs, declared):
            x = self._checked(inputs)
            with torch.inference_mode(False), torch.no_grad():
                own = {name: v.clone() for name, v in declared.items()}  # a change does not reach what is kept
                kept = self.__dict__["_kept"] = Kept(inputs, declared, self._prepare(x, own))
        return kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def _prepare(self, x: Tensor, declared: dict[str, Tensor]) -> Prepared:
        for name, value in declared.items():
            self._fits(name, value, x)
        known = self._kernel_params(declared, _real(x.dtype))
        flat = [flat_param(known[name], x.shape[2:]) for name in self._used]
        alpha = number(self.emit.alpha, _real(x.dtype), x.device)
        return [*(f for f, _ in flat), alpha], [*(span for _, span in flat), 1], self._start(x, known)

    def _checked(self, inputs: Sequence[Tensor]) -> Tensor:
        name, x = type(self).__name__, inputs[0]
        if not isinstance(x, Tensor):
            raise DtypeError(
                f"{name} takes tensors [T, B, *features], got {type(x).__name__} (an EventTensor: x.to_dense())"
            )
        for other in inputs:
            if not isinstance(other, Tensor) or not other.is_floating_point():
                found = getattr(other, "dtype", type(other).__name__)
                raise DtypeError(f"{name} takes floating-point input, got {found}; convert it with x.float()")
            if other.device != x.device:
                raise DeviceError(f"{name}: inputs are on {x.device} and {other.device}; move one of them")
            if other.shape != x.shape or other.dtype != x.dtype:
                raise ShapeError(
                    f"{name}: inputs must agree in shape and dtype, got {tuple(x.shape)} {x.dtype} "
                    f"and {tuple(other.shape)} {other.dtype}"
                )
        if x.ndim < 2:
            raise ShapeError(f"{name} takes [T, B, *features], got a tensor of shape {tuple(x.shape)}")
        return x

    def _fitting(self, state: Any, x: Tensor) -> Any:
        """`state` itself, if it fits a chunk like `x`."""
        name = type(self).__name__
        if getattr(state, "_fields", None) != self.State._fields:
            raise StateError(f"{name} takes a state with the fields {self.State._fields}, got {state!r:.80}")
        for field, v in zip(self.state, state, strict=False):
            if v.shape != x.shape[1:] or v.device != x.device or v.dtype != _real(x.dtype):
                raise StateError(
                    f"{name}: the state {field!r} is {tuple(v.shape)} {v.dtype} on {v.device}, but the input needs "
                    f"{tuple(x.shape[1:])} {_real(x.dtype)} on {x.device}; start a new state for another batch"
                )
        if self._draws and (state[-1].shape != (2,) or state[-1].dtype != torch.int64 or state[-1].device != x.device):
            raise StateError(
                f"{name}: the state 'rng' holds [seed, step] in int64 on {x.device}, got {tuple(state[-1].shape)} "
                f"{state[-1].dtype} on {state[-1].device}; start a new state"
            )
        return state

    def _kernel_params(self, declared: dict[str, Tensor], real: torch.dtype) -> dict[str, Tensor]:
        derived = self.derive({n: v.to(real) for n, v in declared.items()})
        if ALPHA in derived:
            raise EquationError(f"{type(self).__name__}: the parameter name {ALPHA!r} is taken by the surrogate")
        device = next((v.device for v in declared.values()), None)
        return {n: torch.as_tensor(v, dtype=real, device=device) for n, v in derived.items()}

    def _trace(self) -> None:
        names = tuple(self._kernel_params(self._declared(), torch.float32))
        for initial in self.state.values():
            if isinstance(initial, str) and initial not in names:
                raise UnknownNameError(f"initial value in {type(self).__name__}.state", initial, names)
        program = trace(self, self.inputs, tuple(self.state), names, tuple(self.draws.items()))
        self._program, self._draws = register(program), bool(program.draws)
        self.__dict__.pop("_kept", None)
        self._used = names

    def __setattr__(self, name: str, value: Any) -> None:
        """An option that the equations read may change at any time: they are traced again."""
        super().__setattr__(name, value)
        option = not name.startswith("_") and name != "training" and not isinstance(value, Tensor | nn.Module)
        if option and "_program" in self.__dict__:
            self._trace()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trace()  # another process does not know the program yet

    def _fits(self, name: str, value: Tensor, x: Tensor) -> None:
        """Refuse a parameter on another device, or of a shape that does not broadcast against the features."""
        owner = f"{type(self).__name__}.{name}"
        if value.device != x.device:
            raise DeviceError(f"{owner} is on {value.device}, the input on {x.device}; move one of them")
        if value.ndim == 0:
            return
        features = x.shape[2:]
        aligned = (1,) * (len(features) - value.ndim) + tuple(value.shape)
        if len(aligned) > len(features) or any(a not in (1, b) for a, b in zip(aligned, features, strict=True)):
            raise ShapeError(
                f"{owner} of shape {tuple(value.shape)} does not broadcast against the features {tuple(features)}"
            )

    def extra_repr(self) -> str:
        values = ", ".join(f"{n}={_shown(getattr(self, n))}" for n in self.params)
        return f"{values}{self._shown_emission()}, dt={self.dt:g}"

    def _shown_emission(self) -> str:
        if isinstance(self.emit, Spike):
            return f", surrogate={self.emit.surrogate}"
        return f", emission={self.emit}" if "emit" in self.__dict__ else ""


def _real(dtype: torch.dtype) -> torch.dtype:
    """The precision that states and arithmetic have for inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _shown(value: Tensor) -> str:
    return f"{value.item():g}" if value.numel() == 1 else f"{tuple(value.shape)}"
