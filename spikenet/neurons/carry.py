"""States that go from one call to the next while a `spikenet.layers.Stream` runs a module.

A module with state asks `carrier()` for the stream that runs it, takes the state of this call from it and hands the
new one back. Outside a stream nothing is carried, and every call starts from the initial state.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from torch import Tensor, nn


class Carrier(Protocol):
    """What a stream offers to the modules that it runs."""

    def take(self, module: nn.Module, like: Tensor) -> tuple[Any, Any]:
        """The key of this call, and the state that it left the last time (None the first time)."""

    def put(self, key: Any, state: Any) -> None:
        """Keep `state` for the next time."""

    def collapse(self) -> None:
        """The module that runs has dropped the time axis."""


class _Active(threading.local):
    carrier: Carrier | None = None


_active = _Active()


def carrier() -> Carrier | None:
    """The stream that is running in this thread, if any."""
    return _active.carrier


class carrying:
    """Make `carrier` the running one for a `with` block."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    def __enter__(self) -> None:
        self._before, _active.carrier = _active.carrier, self._carrier

    def __exit__(self, *_: object) -> None:
        _active.carrier = self._before
