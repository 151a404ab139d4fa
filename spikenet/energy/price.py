"""The price of a count: the field's formula unless another model is named."""

from __future__ import annotations

from spikenet.energy.models import FIELD, Energy, EnergyModel
from spikenet.energy.work import Work


def price(work: Work, model: EnergyModel = FIELD) -> Energy:
    """Price a count, per sample.

    Args:
        work: what `count` recorded.
        model: a price list with its constants; the field's formula in float32 by default.

    Returns:
        Energy in pJ a sample, by layer, cause and step, from low to high, with its assumptions.
    """
    return model(work)


def picojoules(macs: float, acs: float) -> float:
    """The field's formula in float32 on bare numbers: `macs` multiply-accumulates and `acs` accumulates, in pJ."""
    return FIELD.mac * macs + FIELD.ac * acs
