"""One table for every operation: which implementations it has, in which order, and why one will not do.

Each implementation answers `why_not(*inputs)` with a reason in words or None. The first that has none runs.
`use_backend` forces one; a forced backend that cannot run raises with its reason. A kernel that fails at run
time raises: nothing falls back in silence.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor

from spikenet.errors import BackendError, UnknownNameError

BACKENDS = ("triton", "numba", "reference")
LARGE = 1 << 20  # elements from which the reference is worth a warning


class Implementation(NamedTuple):
    """One way to compute an operation. `bind`, where there is one, prepares many calls on alike inputs."""

    backend: str
    why_not: Callable[..., str | None]
    run: Callable[..., Any]
    bind: Callable[..., Any] | None = None


def anywhere(*_: Any) -> None:
    """The `why_not` of an implementation that always can."""


def on_processor(x: Tensor, *_: Any) -> str | None:
    """The `why_not` of Numba kernels that take any tensor of the CPU."""
    return None if x.device.type == "cpu" else f"the Numba kernels run on the CPU, and the input is on {x.device}"


def lazily(module: str, function: str) -> Callable[..., Any]:
    """A function of a module that is loaded at the first call: Numba and Triton take their time."""

    @functools.cache
    def loaded() -> Callable[..., Any]:
        return getattr(importlib.import_module(module), function)

    return lambda *arguments: loaded()(*arguments)


class _Choice:
    """The forced backend of this process, or None for the first that can run."""

    forced: str | None = None


def forced() -> str | None:
    """The backend that `use_backend` forces, if any."""
    return _Choice.forced


class use_backend:
    """Force one backend for every operation of this process, from now on or for a `with` block.

    Args:
        name: "triton", "numba" or "reference"; None lets each operation take the first that can run.

    Raises:
        UnknownNameError: for any other name.
    """

    def __init__(self, name: str | None) -> None:
        if name is not None and name not in BACKENDS:
            raise UnknownNameError("backend", name, BACKENDS)
        self._name, self._before = name, _Choice.forced
        _Choice.forced = name

    def __enter__(self) -> None:
        _Choice.forced = self._name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _Choice.forced = self._before


class Operation:
    """An operation and its implementations, in order of preference.

    Args:
        name: the operation's name, for messages.
        implementations: the table; the reference comes last.
    """

    def __init__(self, name: str, *implementations: Implementation) -> None:
        self.name, self.implementations = name, implementations
        self._warned: set[tuple[str, ...]] = set()

    def reasons(self, *inputs: Any) -> dict[str, str | None]:
        """For each backend, why it will not run on `inputs`, or None."""
        return {i.backend: i.why_not(*inputs) for i in self.implementations}

    def __call__(self, *inputs: Any, size: int = 0) -> Any:
        """Run the first implementation that can. `size` counts elements, for the reference's warning."""
        if _Choice.forced is not None:
            return self._run_forced(_Choice.forced, *inputs)
        reasons: list[str] = []
        for implementation in self.implementations:
            reason = implementation.why_not(*inputs)
            if reason is None:
                if implementation.backend == "reference" and size >= LARGE:
                    self._warn(tuple(reasons))
                return implementation.run(*inputs)
            reasons.append(f"{implementation.backend}: {reason}")
        raise BackendError(f"{self.name}: no backend can run. {'; '.join(reasons)}.")

    def bind(self, *inputs: Any) -> Any:
        """What the first implementation that can run on `inputs` binds to them; None if it has no such thing."""
        able = (i for i in self.implementations if _Choice.forced in (None, i.backend) and i.why_not(*inputs) is None)
        first = next(able, None)
        return first.bind(*inputs) if first and first.bind else None

    def _run_forced(self, name: str, *inputs: Any) -> Any:
        for implementation in self.implementations:
            if implementation.backend == name:
                reason = implementation.why_not(*inputs)
                if reason is None:
                    return implementation.run(*inputs)
                raise BackendError(f"{self.name}: the backend {name!r} was forced, but {reason}.")
        has = ", ".join(i.backend for i in self.implementations)
        raise BackendError(f"{self.name}: the backend {name!r} was forced, but this operation has {has}.")

    def _warn(self, reasons: tuple[str, ...]) -> None:
        if reasons not in self._warned:
            self._warned.add(reasons)
            warnings.warn(f"{self.name} runs on the slow reference backend. {'; '.join(reasons)}.", stacklevel=3)
