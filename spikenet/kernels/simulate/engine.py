"""What an engine is, and which one runs a plan."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from spikenet.kernels.backends import Implementation, Operation, lazily
from spikenet.kernels.simulate.plan import Plan, Recorded, Sources
from spikenet.kernels.triton_device import why_not_at


class Engine(Protocol):
    """A network between two steps."""

    plan: Plan
    device: torch.device
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


LARGEST_RING = 1 << 30  # sums in flight that the GPU's loop can count
MOST_LANES = 1 << 20  # neurons with the same equations that its programs hold


def _why_not_triton(plan: Plan, device: torch.device) -> str | None:
    """The GPU's loop works in 32 bits."""
    reason = why_not_at(device, "the network")
    if reason is None and plan.real is not np.float32:
        reason = "the Triton engine runs in float32, and the network in float64"
    if reason is None and max(g.lanes for g in plan.groups) > MOST_LANES:
        reason = f"the Triton engine takes up to {MOST_LANES:,} neurons with the same equations"
    if reason is None and plan.learning is not None:
        reason = "the Triton engine's weights do not change, and the network has projections that learn"
    sums = sum(g.lanes * len(g.program.inputs) for g in plan.groups) * (plan.horizon + 1)
    if reason is None and sums > LARGEST_RING:
        reason = f"the Triton engine keeps every input's sums of {plan.horizon + 1} steps, too many for 32 bits"
    return reason


def _why_not_elsewhere(plan: Plan, device: torch.device) -> str | None:
    """The compiled and the plain loop run on the CPU."""
    return None if device.type == "cpu" else f"it runs on the CPU, and the network is on {device}"


ENGINE = Operation(
    "simulate",
    Implementation("triton", _why_not_triton, lazily("spikenet.kernels.simulate.triton_backend", "Engine")),
    Implementation("numba", _why_not_elsewhere, lazily("spikenet.kernels.simulate.numba_backend", "Engine")),
    Implementation("reference", _why_not_elsewhere, lazily("spikenet.kernels.simulate.reference", "Engine")),
)
