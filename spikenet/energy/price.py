"""Analytical prices of an operation count: accumulates and multiply-accumulates at published constants.

    E_SNN = e_mac * MACs + e_ac * ACs            (operations that the measured inputs really caused)
    E_ANN = e_mac * dense MACs                   (the same layers as a dense ANN)

This is the formula of the field (Spikformer, SEW-ResNet, syops-counter ...). What it leaves out, and so do we here:
memory traffic, the update of the neurons, biases, and batch norm (folded into the weights before it at inference).
"""

from __future__ import annotations

from typing import NamedTuple

from spikenet.energy.work import Work


class Constants(NamedTuple):
    """Energy of one operation in picojoules, with its source.

    Args:
        name: what the numbers belong to.
        mac: one multiply-accumulate, pJ.
        ac: one accumulate, pJ.
        source: where the numbers were published.
    """

    name: str
    mac: float
    ac: float
    source: str


HOROWITZ_45NM = Constants(
    "45 nm CMOS, 0.9 V, float32",
    mac=4.6,
    ac=0.9,
    source="Horowitz, Computing's energy problem, ISSCC 2014: fp32 multiply 3.7 pJ, add 0.9 pJ",
)

ASSUMPTIONS = (
    "Binary input: one accumulate (AC) per spike and synapse reached. Event counts: one AC per event. Any other input: "
    "every multiply-accumulate (MAC) of the layer, at every time step.",
    "The dense twin is an ANN of the same layers. 'One frame' runs it once per sample on a single static frame; "
    "'every step' runs it at each time step, which a sequence needs if its timing matters.",
    "Counted, not priced: memory traffic, neuron updates, biases, pooling and other additions, multiplications and "
    "comparisons. Batch norm behind a connection is folded into its weights.",
)


class Energy(NamedTuple):
    """Energy of one sample in picojoules: the spiking network beside its dense twin."""

    snn: float
    ann_frame: float
    ann_steps: float
    constants: Constants

    @property
    def ratio(self) -> float:
        """Dense twin on one frame over spiking network: above 1, the spiking network is cheaper."""
        return self.ann_frame / self.snn if self.snn else float("inf")

    @property
    def ratio_steps(self) -> float:
        """Dense twin run at every step over spiking network."""
        return self.ann_steps / self.snn if self.snn else float("inf")


def picojoules(macs: float, acs: float, constants: Constants = HOROWITZ_45NM) -> float:
    """Price of `macs` multiply-accumulates and `acs` accumulates, in pJ."""
    return constants.mac * macs + constants.ac * acs


def price(work: Work, constants: Constants = HOROWITZ_45NM) -> Energy:
    """Price a count, per sample.

    Args:
        work: what `count` recorded.
        constants: pJ per operation.

    Returns:
        Energy of the spiking network and of its dense ANN twin, pJ per sample.
    """
    samples = max(work.samples, 1)
    return Energy(
        snn=picojoules(work.macs, work.acs, constants) / samples,
        ann_frame=picojoules(work.dense_macs, 0, constants) / samples,
        ann_steps=picojoules(work.dense_macs_steps, 0, constants) / samples,
        constants=constants,
    )
