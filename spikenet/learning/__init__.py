"""Learning without backpropagation through every time step.

Rules that move weights are descriptions without state, which change a weight in place: `SpikeRule` says how.
"""

from spikenet.learning.eprop import EProp, EPropState
from spikenet.learning.eventprop import EventPropLIF, first_spike_loss, spike_times
from spikenet.learning.homeostasis import ThresholdAdaptation, normalize_weights
from spikenet.learning.ottt import OTTT, OTTTState
from spikenet.learning.plastic import Plastic, PlasticState
from spikenet.learning.readout import DeltaRule, DeltaState, LeastSquaresState, RecursiveLeastSquares
from spikenet.learning.spike_rule import Pairing, SpikeRule, TraceState
from spikenet.learning.stdp import STDP, DiehlCookSTDP, TargetSTDP, TripletSTDP
from spikenet.learning.tempotron import Decision, Tempotron
from spikenet.learning.three_factor import EligibilityState, RewardSTDP, ThreeFactor
from spikenet.learning.truncated import truncated_bptt

__all__ = [
    "OTTT",
    "STDP",
    "Decision",
    "DeltaRule",
    "DeltaState",
    "DiehlCookSTDP",
    "EProp",
    "EPropState",
    "EligibilityState",
    "EventPropLIF",
    "LeastSquaresState",
    "OTTTState",
    "Pairing",
    "Plastic",
    "PlasticState",
    "RecursiveLeastSquares",
    "RewardSTDP",
    "SpikeRule",
    "TargetSTDP",
    "Tempotron",
    "ThreeFactor",
    "ThresholdAdaptation",
    "TraceState",
    "TripletSTDP",
    "first_spike_loss",
    "normalize_weights",
    "spike_times",
    "truncated_bptt",
]
