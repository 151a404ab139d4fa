"""What a network costs: operations are counted once, on real spikes (`count`), then priced (`price`) and compared."""

from spikenet.energy.compare import (
    Comparison,
    EarlyExit,
    across_hardware,
    break_even,
    break_even_curve,
    compare,
    early_exit,
    firing_rate,
)
from spikenet.energy.count import count
from spikenet.energy.hardware import Profile, load_profile, profiles
from spikenet.energy.loss import EnergyTerm
from spikenet.energy.models import (
    FIELD,
    MODELS,
    Crossbar,
    DataMovement,
    Energy,
    EnergyModel,
    FieldFormula,
    LayerEnergy,
    Lemaire,
    NeuroBench,
    PerEvent,
    StepStyle,
    energy_model,
    neurobench,
)
from spikenet.energy.neurons import NeuronCost
from spikenet.energy.price import picojoules, price
from spikenet.energy.record import record
from spikenet.energy.twins import at_steps, dense_twin, dense_twin_steps, quantised_twin, scaled, with_bits
from spikenet.energy.work import Bits, Geometry, LayerWork, Work

__all__ = [
    "FIELD",
    "MODELS",
    "Bits",
    "Comparison",
    "Crossbar",
    "DataMovement",
    "EarlyExit",
    "Energy",
    "EnergyModel",
    "EnergyTerm",
    "FieldFormula",
    "Geometry",
    "LayerEnergy",
    "LayerWork",
    "Lemaire",
    "NeuroBench",
    "NeuronCost",
    "PerEvent",
    "Profile",
    "StepStyle",
    "Work",
    "across_hardware",
    "at_steps",
    "break_even",
    "break_even_curve",
    "compare",
    "count",
    "dense_twin",
    "dense_twin_steps",
    "early_exit",
    "energy_model",
    "firing_rate",
    "load_profile",
    "neurobench",
    "picojoules",
    "price",
    "profiles",
    "quantised_twin",
    "record",
    "scaled",
    "with_bits",
]
