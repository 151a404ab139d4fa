"""Lemaire et al., "An analytical estimation of spiking neural networks energy efficiency", arXiv 2210.13107.

    E = E_operations + E_addressing + E_memory        (32-bit integers; memory by the word, priced by the memory's size)

The paper's equation (2) multiplies a fully connected layer's spikes by the number of inputs once too often; its other
equations, and this file, charge each spike once per output.
"""

from __future__ import annotations

import numpy as np

from spikenet.energy.models.base import EnergyModel, Parts, each, spend, steps
from spikenet.energy.work import LayerWork, Work

_WORD, _HALF = 32, 16


class Lemaire(EnergyModel):
    """Operations, addressing and memory of an event-driven accelerator with its own buffers for each layer.

    Args:
        profile: constants: int32 operations and memory by size.
    """

    name = "lemaire"
    default = "lemaire-45nm"
    needs = ("operations.int32.add", "operations.int32.mul", "memory.sram")
    fifo_words = 1000
    assumptions = (
        "Lemaire et al. 2022: 32-bit integers, memory by the 32-bit word, piecewise linear in the size of each layer's "
        "own memory; spikes pass through FIFOs of 1000 words.",
        "Synaptic accumulates are those that happened, exact at borders and strides; the paper charges "
        "ceil(kernel / stride) outputs a spike and axis. Addresses and potentials follow the paper: every tap.",
        "A neuron costs one accumulate a spike (reset) and, if it leaks, one multiply-accumulate a step.",
    )

    def price(self, layer: LayerWork, work: Work) -> Parts:
        if layer.operation == "neuron":
            return self._neuron(layer, work)
        if layer.operation in ("connection", "product"):
            return self._connection(layer, work)
        return {}

    def _connection(self, layer: LayerWork, work: Work) -> Parts:
        of, shape = (lambda counter: steps(layer, counter, work)), layer.geometry
        biases = of("outputs") * shape.has_bias
        reached = of("events") * shape.outputs / shape.groups * shape.kernel if shape.outputs else of("acs")
        convolution = shape.kernel > 1
        if layer.values == "graded":
            words_in = of("dense_macs") if convolution else of("inputs")
            add_addresses = (
                of("inputs") + of("outputs") + convolution * shape.outputs * shape.kernel * _runs(layer, work)
            )
            multiply_addresses = np.zeros_like(add_addresses)
            memory = self._word(each(layer.inputs, work)) * words_in + self._weights(layer) * (
                of("dense_macs") + biases
            )
            if not _spiking(work):
                memory += self._word(each(layer.outputs, work)) * of("outputs")
        else:
            add_addresses, multiply_addresses = reached, 2 * of("events") * convolution
            memory = self._word(self.fifo_words) * of("events") + self._weights(layer) * (reached + biases)
            memory += 2 * self._word(each(layer.outputs, work)) * reached
        return {
            "operations": self._operations(of("acs") + biases, of("macs")),
            "addressing": self._operations(add_addresses, multiply_addresses),
            "memory": np.broadcast_to(memory, (3, len(memory))),
        }

    def _neuron(self, layer: LayerWork, work: Work) -> Parts:
        of = lambda counter: steps(layer, counter, work)  # noqa: E731 - a name for the layer's counters
        leaks = layer.total("multiplies") > 0
        sent = of("spikes") * (layer.bits.output < _HALF)
        potentials = self._word(each(layer.total("state_reads"), work)) * (of("state_reads") + of("state_writes"))
        memory = potentials + self._word(self.fifo_words) * sent
        return {
            "neurons": self._operations(sent, of("updates") * leaks),
            "memory": np.broadcast_to(memory, (3, len(memory))),
        }

    def _operations(self, acs: np.ndarray, macs: np.ndarray) -> np.ndarray:
        return spend(self.profile.ac("int32"), acs) + spend(self.profile.mac("int32"), macs)

    def _weights(self, layer: LayerWork) -> float:
        return self._word(layer.geometry.parameters)

    def _word(self, words: float) -> float:
        """pJ to reach one word in a memory of `words` words."""
        return float(self.profile.sram_bit(words * _WORD / 8)[1]) * _WORD


def _spiking(work: Work) -> bool:
    """Whether its neurons are made for spikes, also if they send none."""
    return any(layer.operation == "neuron" and layer.bits.state and layer.bits.output < _HALF for layer in work.layers)


def _runs(layer: LayerWork, work: Work) -> np.ndarray:
    """Runs of the layer at each step, one a sample: the paper counts a kernel's addresses once a run."""
    return work.samples * (steps(layer, "inputs", work) > 0)
