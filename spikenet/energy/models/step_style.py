"""A model in the style of STEP (arXiv 2505.11151): operations by bit width, and every bit read or written.

    E = E_op(b_w, b_a) N_op + e_bit (b_w R_w + b_v (R_v + W_v) + b_a (R_a + W_a))

STEP publishes the price of a bit of memory, not its formulas: the formula is ours, and so is the name.
"""

from __future__ import annotations

import numpy as np

from spikenet.energy.models.base import EnergyModel, Parts, spend, steps
from spikenet.energy.models.by_bits import add, mac, multiply
from spikenet.energy.work import LayerWork, Work


class StepStyle(EnergyModel):
    """Operations and memory traffic by bit width.

    Args:
        profile: constants: operations, and one price a bit of memory.
    """

    name = "step-style"
    default = "step-45nm"
    needs = ("operations.int8.add", "operations.int8.mul", "memory.bit")
    assumptions = (
        "In the style of STEP, our own formula: operations priced by the bits of their operands, memory by the bit, "
        "whatever the memory's size.",
        "Spiking input reads a weight for each synapse and event; graded input reads each weight once a step. "
        "Connections read activations and neurons write them, each element once a step: one bit for a spike, or the "
        "bits of the quantised twin.",
        "Neurons read and write their state at every step; their additions, products and comparisons are charged.",
    )

    def price(self, layer: LayerWork, work: Work) -> Parts:
        if layer.operation == "neuron":
            return self._neuron(layer, work)
        if layer.operation in ("connection", "product"):
            return self._connection(layer, work)
        return {}

    def _connection(self, layer: LayerWork, work: Work) -> Parts:
        bits, graded = layer.bits, layer.values == "graded"
        weights = bits.weight or bits.input
        reads = steps(layer, "dense_weight_reads" if graded else "weight_reads", work)
        reads = reads + steps(layer, "outputs", work) * layer.geometry.has_bias
        traffic = bits.weight * reads + bits.input * steps(layer, "inputs", work)
        acs = spend(add(self.profile, weights), steps(layer, "acs", work))
        macs = spend(mac(self.profile, weights, bits.input), steps(layer, "macs", work))
        return {"operations": acs + macs, "memory": spend(self.profile["memory.bit"], traffic)}

    def _neuron(self, layer: LayerWork, work: Work) -> Parts:
        of, bits = (lambda counter: steps(layer, counter, work)), layer.bits
        width = bits.state or bits.output
        sums = spend(add(self.profile, width), of("adds") + of("comparisons"))
        products = spend(multiply(self.profile, width, width), of("multiplies"))
        traffic = bits.state * (of("state_reads") + of("state_writes")) + bits.output * of("outputs")
        return {"neurons": sums + products, "memory": spend(self.profile["memory.bit"], np.asarray(traffic))}
