"""Neuromorphic and ordinary hardware by the event, after KerasSpiking.

    E = synaptic operations * e_synop + neuron updates * e_neuron

On spiking hardware a synaptic operation is a spike at a synapse. On any other every connection is one, at every step,
whatever it carries.
"""

from __future__ import annotations

from spikenet.energy.models.base import EnergyModel, Parts, spend, steps
from spikenet.energy.work import LayerWork, Work


class PerEvent(EnergyModel):
    """Synaptic operations and neuron updates of one chip.

    Args:
        profile: constants: the energy of a synaptic operation and, where known, of a neuron update.
    """

    name = "per-event"
    default = "loihi"
    needs = ("event.synop",)

    def price(self, layer: LayerWork, work: Work) -> Parts:
        if self.profile.spiking:
            synops = steps(layer, "acs", work) + steps(layer, "macs", work)
        else:
            synops = steps(layer, "dense_macs", work)
        parts = {"operations": spend(self.profile["event.synop"], synops)}
        if self.profile.has("event.neuron"):
            parts["neurons"] = spend(self.profile["event.neuron"], steps(layer, "updates", work))
        return parts

    def stated(self, work: Work) -> tuple[str, ...]:
        device = self.profile.title
        if self.profile.spiking:
            first = (
                f"{device}: a fixed energy for a spike at a synapse and for a neuron update; graded input as if dense."
            )
        else:
            first = f"{device}: a fixed energy for a connection and for a neuron at every step; spikes save nothing."
        known = (
            () if self.profile.has("event.neuron") else ("Neuron updates are not charged: their energy is not known.",)
        )
        return (first, *known, *super().stated(work))
