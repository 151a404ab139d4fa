"""What becomes of the potential after a spike: a hard reset, a soft one, or none."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from torch import Tensor

from spikenet.kernels.dynamics.words import blend, detach
from spikenet.neurons.base import Neuron

__all__ = ["NO_RESET", "NoReset", "ResetNeuron", "VReset"]


class NoReset(Enum):
    """The type of `NO_RESET`."""

    NO_RESET = "no reset"

    def __repr__(self) -> str:
        return self.name


NO_RESET: Final = NoReset.NO_RESET
"""As `v_reset`: a spike leaves the potential as it is."""
VReset = float | Tensor | NoReset | None


class ResetNeuron(Neuron):
    """A neuron with a potential `v` that its spikes reset, attached to the spike's gradient or detached.

    Args:
        v_reset: a potential: hard reset to it; None: soft reset, which subtracts `v_threshold`; `NO_RESET`: none.
        detach_reset: let no gradient pass through the reset's spike.
        **rest: what `Neuron` takes.
    """

    def __init__(self, v_reset: VReset, detach_reset: bool, **rest: Any) -> None:
        self.soft = v_reset is None
        self.hard = not (v_reset is None or isinstance(v_reset, NoReset))
        self.detach_reset = detach_reset
        if self.hard:
            rest["v_reset"] = v_reset
        else:
            self.params = {name: spec for name, spec in self.params.items() if name != "v_reset"}
        super().__init__(**rest)

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": self.after_spike(h.v, z, p)}

    def after_spike(self, v: Any, z: Any, p: Any) -> Any:
        """The potential after the output `z`."""
        if self.soft:
            return v - self.heard(z) * p.v_threshold
        return blend(self.heard(z), v, p.v_reset) if self.hard else v

    def heard(self, z: Any) -> Any:
        """The spike as the reset hears it: with its gradient or without."""
        return detach(z) if self.detach_reset else z
