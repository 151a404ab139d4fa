"""Yan et al., "Reconsidering the energy efficiency of spiking neural networks", arXiv 2409.08290.

An SNN of T steps is set beside a network whose activations carry as much: ``ceil(log2(T + 1))`` bits. With `sparsity`
the share of its activations that are 0, the firing rate of the SNN that says the same lies between
``(1 - sparsity) / T`` and ``1 - sparsity``; in operations alone the SNN wins below ``T * rate = k (1 - sparsity)``,
k the price of a multiply-accumulate over that of an accumulate.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spikenet.energy.hardware import Profile
from spikenet.energy.models.base import EnergyModel, Parts, spend, steps
from spikenet.energy.models.by_bits import multiply
from spikenet.energy.work import LayerWork, Work


def activation_bits(T: int) -> int:
    """Bits of an activation that tells apart what a spike count over T steps does: ``ceil(log2(T + 1))``."""
    return math.ceil(math.log2(T + 1))


def rate_bounds(T: int, sparsity: float) -> tuple[float, float]:
    """Firing rates, lowest and highest, of an SNN that equals a quantised network of that activation sparsity."""
    return (1 - sparsity) / T, 1 - sparsity


def break_even_rate(T: int, sparsity: float, k: float) -> float:
    """Firing rate below which the SNN wins in operations: ``k (1 - sparsity) / T``."""
    return k * (1 - sparsity) / T


def dense_ratio(T: int) -> float:
    """Bits that an SNN moves for each of its quantised twin where both move everything: ``T / ceil(log2(T + 1))``."""
    return T / activation_bits(T)


class DataMovement(EnergyModel):
    """Operations, weights from DRAM, and activations over a network on chip: sparse for spikes, dense for numbers.

    Args:
        hops: routers between a layer and the next.
        profile: constants: int8 operations, DRAM and both ways to move a bit.
    """

    name = "data-movement"
    default = "yan-22nm"
    needs = ("operations.int8.add", "operations.int8.mul", "memory.dram", "routing.sparse", "routing.dense")

    def __init__(self, hops: float = 1.0, profile: Profile | str | Path | None = None) -> None:
        super().__init__(profile)
        self.hops = hops
        self.assumptions = (
            f"Yan et al. 2024: accumulates, comparisons and subtractions cost the same; {hops:g} hops between layers, "
            "a spike over the sparse network, a number bit by bit over the dense one.",
            "Every weight comes from DRAM once a sample, at the first step; memory on the chip is not charged.",
            "A multiplication is scaled by the bits of both operands from 8 by 8.",
        )

    def price(self, layer: LayerWork, work: Work) -> Parts:
        if layer.operation == "neuron":
            adds = steps(layer, "adds", work) + steps(layer, "comparisons", work)
            return {"neurons": spend(self.profile.ac("int8"), adds)}
        if layer.operation not in ("connection", "product"):
            return {}
        return {
            "operations": self._operations(layer, work),
            "memory": spend(self.profile["memory.dram"], self._weights(layer, work)),
            "routing": self.hops * self._moved(layer, work),
        }

    def _operations(self, layer: LayerWork, work: Work) -> np.ndarray:
        add, bits = self.profile.ac("int8"), layer.bits
        product = multiply(self.profile, bits.weight or bits.input, bits.input)
        return spend(add, steps(layer, "acs", work)) + spend(product + add, steps(layer, "macs", work))

    def _weights(self, layer: LayerWork, work: Work) -> np.ndarray:
        fetched = np.zeros(max(work.T, 1))
        fetched[0] = layer.geometry.parameters * layer.bits.weight * work.samples
        return fetched

    def _moved(self, layer: LayerWork, work: Work) -> np.ndarray:
        counter, way = ("inputs", "dense") if layer.values == "graded" else ("nonzero", "sparse")
        return spend(self.profile[f"routing.{way}"], steps(layer, counter, work) * layer.bits.input)
