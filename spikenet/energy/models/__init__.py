"""Energy models: each turns one count of operations into joules, with its assumptions in words."""

from collections.abc import Callable
from pathlib import Path

from spikenet.energy.hardware import Profile, load_profile
from spikenet.energy.models.base import PARTS, Energy, EnergyModel, LayerEnergy
from spikenet.energy.models.crossbar import Crossbar
from spikenet.energy.models.data_movement import DataMovement
from spikenet.energy.models.field import FIELD, FieldFormula
from spikenet.energy.models.lemaire import Lemaire
from spikenet.energy.models.neurobench import NeuroBench, neurobench
from spikenet.energy.models.per_event import PerEvent
from spikenet.energy.models.step_style import StepStyle
from spikenet.errors import UnknownNameError

MODELS: dict[str, Callable[..., EnergyModel]] = {
    model.name: model for model in (FieldFormula, Lemaire, StepStyle, DataMovement, Crossbar, PerEvent)
}
"""The models by name; each takes ``profile=``."""


def energy_model(name: str | None = None, profile: str | Path | Profile | None = None) -> EnergyModel:
    """A model by name, with its own constants or a profile's.

    Args:
        name: one of `MODELS`; without it ``per-event`` for a profile of events, else the field's formula.
        profile: a profile, its name, or a path to its file.

    Raises:
        UnknownNameError: no such model or profile.
        ArgumentError: the profile lacks a constant that the model needs.
    """
    if profile is not None and not isinstance(profile, Profile):
        profile = load_profile(profile)
    if name is None:
        name = "per-event" if profile is not None and profile.has("event.synop") else "field"
    if name not in MODELS:
        raise UnknownNameError("energy model", name, MODELS)
    return MODELS[name](profile=profile)


__all__ = [
    "FIELD",
    "MODELS",
    "PARTS",
    "Crossbar",
    "DataMovement",
    "Energy",
    "EnergyModel",
    "FieldFormula",
    "LayerEnergy",
    "Lemaire",
    "NeuroBench",
    "PerEvent",
    "StepStyle",
    "energy_model",
    "neurobench",
]
