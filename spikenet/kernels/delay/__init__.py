"""Delayed synapses: their taps from learned delays, and products with sequences."""

from spikenet.kernels.delay.bump import BUMPS, Bump, bump
from spikenet.kernels.delay.construct import delay_kernel
from spikenet.kernels.delay.conv import CROSSOVER, delay_conv
from spikenet.kernels.delay.steps import Products, Steps, delay_steps
from spikenet.kernels.delay.taps import delay_taps, delay_taps_of_events, one_tap, rounded
from spikenet.kernels.delay.training import delay_bumps

__all__ = [
    "BUMPS",
    "CROSSOVER",
    "Bump",
    "Products",
    "Steps",
    "bump",
    "delay_bumps",
    "delay_conv",
    "delay_kernel",
    "delay_steps",
    "delay_taps",
    "delay_taps_of_events",
    "one_tap",
    "rounded",
]
