"""The field's formula: accumulates and multiply-accumulates at published constants, and nothing else.

    E = e_mac * MACs + e_ac * ACs

Spikformer, SEW-ResNet, syops-counter and most papers since; 4.6 and 0.9 pJ for float32 in 45 nm.
"""

from __future__ import annotations

from pathlib import Path

from spikenet.energy.hardware import Profile
from spikenet.energy.models.base import EnergyModel, Parts, spend, steps
from spikenet.energy.work import LayerWork, Work


class FieldFormula(EnergyModel):
    """``e_mac * MACs + e_ac * ACs``.

    Args:
        dtype: number format of the operations: ``int8``, ``int32``, ``fp16`` or ``fp32``.
        profile: constants.
    """

    name = "field"
    default = "horowitz-45nm"

    def __init__(self, dtype: str = "fp32", profile: Profile | str | Path | None = None) -> None:
        self.dtype = dtype
        self.needs = (f"operations.{dtype}.add", f"operations.{dtype}.mul")
        super().__init__(profile)
        self.assumptions = (
            f"The field's formula, {dtype}: {self.mac:g} pJ a multiply-accumulate (MAC), "
            f"{self.ac:g} pJ an accumulate (AC).",
            "Binary or ternary input: one AC per spike and synapse reached. Event counts: one AC per event. Any other "
            "input: every MAC of the layer, at every time step.",
            "Counted, not priced: memory traffic, neuron updates, biases, pooling and other additions, multiplications "
            "and comparisons. Batch norm behind a connection is folded into its weights.",
        )

    @property
    def mac(self) -> float:
        """pJ of one multiply-accumulate."""
        return float(self.profile.mac(self.dtype)[1])

    @property
    def ac(self) -> float:
        """pJ of one accumulate."""
        return float(self.profile.ac(self.dtype)[1])

    def price(self, layer: LayerWork, work: Work) -> Parts:
        macs = spend(self.profile.mac(self.dtype), steps(layer, "macs", work))
        acs = spend(self.profile.ac(self.dtype), steps(layer, "acs", work))
        return {"operations": macs + acs}


FIELD = FieldFormula()
"""The field's formula in float32, at 45 nm."""
