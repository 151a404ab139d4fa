"""A spiking network beside its twins under one model: totals, break-even rates, energy over time, early exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from spikenet.energy.models import FIELD, Energy, EnergyModel
from spikenet.energy.twins import at_steps, dense_twin, dense_twin_steps, quantised_twin, scaled, with_bits
from spikenet.energy.work import LayerWork, Work
from spikenet.errors import ArgumentError, ShapeError

TWINS = (
    "The dense twin is an ANN of the same layers. 'One frame' runs it once per sample on a single static frame; "
    "'every step' runs it at each time step, which a sequence needs if its timing matters.",
    "The quantised twin runs on one frame with activations of ceil(log2(T + 1)) bits and the same weights.",
)


class Comparison(NamedTuple):
    """Energies of one sample under one model.

    Args:
        snn: the spiking network with the spikes that it sent.
        ann_frame, ann_steps: the dense twin on one frame, and at every step.
        quantised: the twin on one frame with activation bits that match T.
    """

    snn: Energy
    ann_frame: Energy
    ann_steps: Energy
    quantised: Energy

    @property
    def ratio(self) -> float:
        """Dense twin on one frame over spiking network: above 1, the spiking network is cheaper."""
        return _over(self.ann_frame, self.snn)

    @property
    def ratio_steps(self) -> float:
        """Dense twin run at every step over spiking network."""
        return _over(self.ann_steps, self.snn)

    @property
    def ratio_quantised(self) -> float:
        """Quantised twin over spiking network."""
        return _over(self.quantised, self.snn)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures include and leave out."""
        return (*self.snn.assumptions, *TWINS)


def compare(work: Work, model: EnergyModel = FIELD) -> Comparison:
    """Price a spiking network and its twins.

    Args:
        work: what `count` recorded.
        model: one model prices all four.
    """
    twins = (dense_twin(work), dense_twin_steps(work), quantised_twin(work))
    return Comparison(model(work), *(model(twin) for twin in twins))


def firing_rate(work: Work) -> float:
    """Share of the inputs of connections that are spikes, over the layers with spiking input."""
    layers = [layer for layer in work.layers if _takes_spikes(layer)]
    inputs = sum(layer.inputs for layer in layers)
    return sum(layer.events for layer in layers) / inputs if inputs else 0.0


def break_even(work: Work, model: EnergyModel = FIELD, twin: Callable[[Work], Work] = quantised_twin) -> float:
    """The mean firing rate at which a spiking network costs what its twin does, all its rates changed by one factor.

    A model is linear in the spikes: with E(f) the energy at f times the spikes, f = (E_twin - E(0)) / (E(1) - E(0)).

    Returns:
        Spikes per input and step. Above 1 the spiking network wins whatever it sends; below 0 it never does; infinite
        where spikes cost nothing and the rest is cheaper than the twin.

    Raises:
        ArgumentError: the network sent no spike, or the model is not linear in the spikes.
    """
    rate = firing_rate(work)
    if not rate:
        raise ArgumentError("break_even: not one spike reached a connection, so no firing rate can be scaled.")
    none, half, all_, other = (model(each).total for each in (scaled(work, 0.0), scaled(work, 0.5), work, twin(work)))
    if not np.isclose(2 * half, none + all_, rtol=1e-9):
        raise ArgumentError(f"break_even: the model {model.name!r} is not linear in the spikes; no closed form holds.")
    if np.isclose(none, all_, rtol=1e-12):
        return float(np.copysign(np.inf, other - none))
    return rate * (other - none) / (all_ - none)


def break_even_curve(
    work: Work,
    model: EnergyModel = FIELD,
    steps: Sequence[int] = range(1, 17),
    weight_bits: int = 8,
    state_bits: int = 16,
) -> list[float]:
    """Break-even firing rates against the quantised twin over the number of steps.

    Every step is taken to be the mean of those seen, and the twin's activations widen with T.

    Returns:
        One rate for each of `steps`, as `break_even` has it.
    """
    return [break_even(with_bits(at_steps(work, T), weight_bits, state_bits), model) for T in steps]


class EarlyExit(NamedTuple):
    """Energy of samples that stop as soon as they are sure, pJ a sample.

    Args:
        full: every sample runs to the end.
        expected: the mean over the samples at their own exits.
    """

    full: float
    expected: float

    @property
    def saved(self) -> float:
        """Share of the energy that exits save."""
        return 1 - self.expected / self.full if self.full else 0.0


def early_exit(energy: Energy, exits: np.ndarray | Sequence[int]) -> EarlyExit:
    """What exits save, each step charged what it costs the mean sample.

    Args:
        energy: of a network, by steps.
        exits: for each sample the number of steps it ran, from 1 to T.

    Raises:
        ShapeError: no samples, or not one number a sample.
        ArgumentError: a number of steps that the network does not have.
    """
    ran = np.asarray(exits)
    if ran.ndim != 1 or not ran.size:
        raise ShapeError(f"early_exit: one number of steps for each sample is needed, shape {ran.shape} was given.")
    if ran.dtype.kind not in "iu" or ran.min() < 1 or ran.max() > energy.T:
        raise ArgumentError(
            f"early_exit: steps are whole numbers from 1 to {energy.T}; received {ran.min()} to {ran.max()}."
        )
    until = energy.steps[1].cumsum()
    return EarlyExit(energy.total, float(until[ran - 1].mean()))


def across_hardware(work: Work) -> dict[str, Energy]:
    """The count under every profile of hardware by the event that comes with spikenet."""
    from spikenet.energy.hardware import load_profile, profiles
    from spikenet.energy.models import PerEvent

    loaded = (load_profile(name) for name in profiles())
    return {profile.title: PerEvent(profile)(work) for profile in loaded if profile.has("event.synop")}


def _takes_spikes(layer: LayerWork) -> bool:
    return layer.operation in ("connection", "product") and layer.values != "graded" and layer.inputs > 0


def _over(first: Energy, second: Energy) -> float:
    return first.total / second.total if second.total else float("inf")
