"""Learning without backpropagation through every time step."""

from spikenet.learning.eventprop import EventPropLIF, first_spike_loss, spike_times

__all__ = ["EventPropLIF", "first_spike_loss", "spike_times"]
