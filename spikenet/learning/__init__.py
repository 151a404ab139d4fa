"""Learning without backpropagation through every time step."""

from spikenet.learning.eventprop import EventPropLIF, first_spike_loss, spike_times
from spikenet.learning.spike_rule import Pairing, SpikeRule, TraceState
from spikenet.learning.stdp import STDP, DiehlCookSTDP, TargetSTDP, TripletSTDP
from spikenet.learning.three_factor import EligibilityState, RewardSTDP, ThreeFactor

__all__ = [
    "STDP",
    "DiehlCookSTDP",
    "EligibilityState",
    "EventPropLIF",
    "Pairing",
    "RewardSTDP",
    "SpikeRule",
    "TargetSTDP",
    "ThreeFactor",
    "TraceState",
    "TripletSTDP",
    "first_spike_loss",
    "spike_times",
]
