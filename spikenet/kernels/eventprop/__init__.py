"""Spike times of LIF neurons with current-based synapses and delays, solved event by event, and their exact adjoint."""

from spikenet.kernels.eventprop.ops import Constants, eventprop

__all__ = ["Constants", "eventprop"]
