"""What a network did on real input: one record a layer, every counter an array over time steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

KINDS = ("spikes", "ternary", "counts", "graded")
"""What the values of a tensor are, the most spiking kind first: 0/1, -1/0/1, whole numbers, anything else."""

OPERATIONS = ("connection", "product", "neuron", "norm", "pool", "other")
"""What a layer does; "product" multiplies two activations (attention)."""

COUNTERS = (
    "events",
    "nonzero",
    "inputs",
    "outputs",
    "acs",
    "macs",
    "dense_macs",
    "adds",
    "comparisons",
    "updates",
    "multiplies",
    "spikes",
    "resets",
    "weight_reads",
    "dense_weight_reads",
    "state_reads",
    "state_writes",
)
"""The counters of `LayerWork.steps`."""


class Bits(NamedTuple):
    """Storage bits an element: spikes 1, ternary 2, counts as many as the largest needs and a sign, else the dtype's.

    Args:
        weight: one weight; 0 where there is none.
        state: one state variable; 0 where there is none.
        input, output: one activation.
    """

    weight: int = 0
    state: int = 0
    input: int = 0
    output: int = 0


class Geometry(NamedTuple):
    """The shape of a layer.

    Args:
        inputs, outputs: channels or features.
        kernel: taps for each pair of channels; 1 for a linear layer.
        groups: groups of channels that are not connected to each other.
        parameters: weights and biases held by the layer.
        has_bias: whether a bias is added.
    """

    inputs: int = 0
    outputs: int = 0
    kernel: int = 1
    groups: int = 1
    parameters: int = 0
    has_bias: bool = False


class _Totals(ABC):
    """Counters by name, of a layer or of a network."""

    @abstractmethod
    def total(self, counter: str) -> float:
        """The sum of a counter over everything that was seen."""

    @property
    def acs(self) -> float:
        return self.total("acs")

    @property
    def macs(self) -> float:
        return self.total("macs")

    @property
    def dense_macs_steps(self) -> float:
        """Multiply-accumulates of the dense twin run at every step."""
        return self.total("dense_macs")

    @property
    def updates(self) -> float:
        return self.total("updates")


@dataclass
class LayerWork(_Totals):
    """What one layer did, summed over the batch and over the calls seen, step by step.

    Attributes:
        name: its name in the network.
        kind: its class.
        operation: one of `OPERATIONS`.
        values: of the input, one of `KINDS`; the least spiking kind seen.
        bits: storage bits an element.
        geometry: its shape.
        steps: counter name -> float64 ``[T]``, in elements or operations:

            - ``events`` sum of the absolute input values; ``nonzero`` input values that are not 0;
              ``inputs``, ``outputs`` elements in and out, zeros included
            - ``acs``, ``macs`` accumulates and multiply-accumulates that the input really caused;
              ``dense_macs`` those of the dense twin at this step
            - ``adds`` additions besides (biases, residuals, norms, neurons); ``comparisons``; ``multiplies`` besides
            - ``updates`` neuron updates; ``spikes`` sum of the absolute outputs of a neuron;
              ``resets`` non-zero outputs of a neuron that resets
            - ``weight_reads`` weights read, one a synapse and event; ``dense_weight_reads`` each weight once a step;
              ``state_reads``, ``state_writes`` state variables, in words
        dense_macs_frame: multiply-accumulates of the dense twin on one frame a sample.
    """

    name: str
    kind: str
    operation: str = "other"
    values: str = "spikes"
    bits: Bits = field(default_factory=Bits)
    geometry: Geometry = field(default_factory=Geometry)
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    dense_macs_frame: float = 0.0

    def total(self, counter: str) -> float:
        """The sum of a counter over all steps; 0 for one that was never counted."""
        found = self.steps.get(counter)
        return 0.0 if found is None else float(found.sum())

    @property
    def events(self) -> float:
        return self.total("events")

    @property
    def nonzero(self) -> float:
        return self.total("nonzero")

    @property
    def inputs(self) -> float:
        return self.total("inputs")

    @property
    def outputs(self) -> float:
        return self.total("outputs")

    @property
    def dense_macs(self) -> float:
        """Multiply-accumulates of the dense twin on one frame a sample."""
        return self.dense_macs_frame

    @property
    def spikes(self) -> float:
        return self.total("spikes")

    @property
    def rate(self) -> float:
        """Spikes sent per neuron and step."""
        return self.spikes / self.updates if self.updates else 0.0


@dataclass
class Work(_Totals):
    """What a network did, layer by layer, in the order in which the layers first ran; sums over all samples seen.

    Attributes:
        layers: one record per layer that was called.
        uncounted: operations and layers that no counter knows, by name.
        samples: samples seen.
        T: time steps of the longest call.
    """

    layers: list[LayerWork] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    samples: int = 0
    T: int = 0

    def total(self, counter: str) -> float:
        """The sum of a counter over layers and steps."""
        return sum(layer.total(counter) for layer in self.layers)

    def per_step(self, counter: str) -> np.ndarray:
        """A counter summed over layers, float64 ``[T]``."""
        summed = np.zeros(self.T)
        for layer in self.layers:
            if counter in layer.steps:
                summed[: len(layer.steps[counter])] += layer.steps[counter]
        return summed

    @property
    def dense_macs(self) -> float:
        """Multiply-accumulates of the dense twin on one frame a sample."""
        return sum(layer.dense_macs for layer in self.layers)

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step of every layer whose neurons sent spikes and nothing else."""
        return {layer.name: layer.rate for layer in self.layers if layer.updates and layer.bits.output == 1}
