"""What an engine is, and which one runs a plan."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily
from spikenet.kernels.simulate.plan import Plan, Recorded, Sources


class Engine(Protocol):
    """A network between two steps."""

    plan: Plan
    step: int  # the next one
    tally: np.ndarray  # spikes of each row so far, int64

    def run(self, steps: int, sources: Sources, watched: np.ndarray) -> Recorded:
        """Advance by up to `steps`, fewer where there was no room for more spikes.

        Args:
            steps: how many.
            sources: the given spikes of these steps.
            watched: rows whose spikes are wanted, uint8 [rows].
        """

    def state(self) -> list[list[np.ndarray]]:
        """Every group's states, [lanes] each, copied."""

    def load_state(self, states: list[list[np.ndarray]]) -> None:
        """Set them."""

    def in_flight(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and rows of the spikes of the last `horizon` steps, in order."""

    def resume(self, step: int, steps: np.ndarray, rows: np.ndarray) -> None:
        """Go on at `step`, with these spikes in flight."""


def _why_not_numba(plan: Plan) -> None:
    """The compiled loop takes every plan."""


ENGINE = Operation(
    "simulate",
    Implementation("numba", _why_not_numba, lazily("spikenet.kernels.simulate.numba_backend", "Engine")),
    Implementation("reference", anywhere, lazily("spikenet.kernels.simulate.reference", "Engine")),
)
