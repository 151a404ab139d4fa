"""Tallies: what the values of a tensor are and what they add up to, step by step, in one reading."""

from spikenet.kernels.count.ops import COLUMNS, tally, tally_events

__all__ = ["COLUMNS", "tally", "tally_events"]
