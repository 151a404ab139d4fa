"""Every error that spikenet raises on purpose, in one small tree.

    SpikenetError
    ├── ArgumentError     (ValueError)   a value that cannot work: out of range, contradictory, not finite
    │   ├── UnknownNameError             a name that is not known; carries the nearest match
    │   └── ShapeError                   a tensor of the wrong rank or size
    ├── DtypeError        (TypeError)    a tensor of the wrong dtype
    ├── DeviceError       (RuntimeError) tensors on devices that do not go together
    ├── StateError        (RuntimeError) a stream or state that does not fit what it is given
    ├── BackendError      (RuntimeError) a forced backend that cannot run, with its reason
    ├── EquationError     (TypeError)    a neuron equation that uses a word the tracer does not know
    ├── DataError         (ValueError)   data that is missing, inconsistent or not what was announced
    │   └── FormatError                  a file that breaks its format, with path and offset
    ├── RunError          (RuntimeError) a training run that cannot start, go on or be resumed
    └── PackageError      (ImportError)  an optional package that is not installed

A message says what was asked, what was received and what would work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class SpikenetError(Exception):
    """Base of every error that spikenet raises on purpose."""


class ArgumentError(SpikenetError, ValueError):
    """A value that cannot work: out of range, contradictory or not finite."""


class UnknownNameError(ArgumentError):
    """A name that is not known.

    Args:
        kind: what was asked for, in words (``"preset"``).
        name: the name received.
        known: the names that would work.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")
        self.kind, self.name, self.known = kind, name, names


class ShapeError(ArgumentError):
    """A tensor of the wrong rank or size."""


class DtypeError(SpikenetError, TypeError):
    """A tensor of the wrong dtype."""


class DeviceError(SpikenetError, RuntimeError):
    """Tensors on devices that do not go together."""


class StateError(SpikenetError, RuntimeError):
    """A stream or a state that does not fit what it is given."""


class BackendError(SpikenetError, RuntimeError):
    """A forced backend that cannot run, with its reason."""


class EquationError(SpikenetError, TypeError):
    """A neuron equation that uses a word the tracer does not know."""


class DataError(SpikenetError, ValueError):
    """Data that is missing, inconsistent or not what was announced."""


class FormatError(DataError):
    """A file that breaks its format.

    Args:
        path: the file.
        offset: the byte (or record) at which it breaks, or None where no single place can be named.
        reason: what was expected and what was found.
    """

    def __init__(self, path: str | Path, offset: int | None, reason: str) -> None:
        place = "" if offset is None else f" at offset {offset}"
        super().__init__(f"{path}{place}: {reason}")
        self.path, self.offset, self.reason = Path(path), offset, reason


class EnergyError(SpikenetError, RuntimeError):
    """An operation that cannot be counted or priced."""


class RunError(SpikenetError, RuntimeError):
    """A training run that cannot start, go on or be resumed."""


class PackageError(SpikenetError, ImportError):
    """An optional package that is not installed, with the line that installs it."""
