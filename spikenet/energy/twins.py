"""The networks that a spiking network is set beside, as work that every model can price.

A twin has the same layers. Its activations are numbers, its neurons keep no state (a comparison each, as ReLU), and all
its multiply-accumulates are done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spikenet.energy.models.data_movement import activation_bits
from spikenet.energy.work import LayerWork, Work
from spikenet.errors import ArgumentError

_FLOAT = 32
_BY_SPIKES = ("events", "nonzero", "acs", "weight_reads", "spikes", "resets")


def dense_twin(work: Work) -> Work:
    """The dense ANN on one static frame a sample."""
    return _each_layer(work, lambda layer: _dense(_one_frame(layer), layer.dense_macs_frame, _FLOAT), T=1)


def dense_twin_steps(work: Work) -> Work:
    """The dense ANN run at every time step, which a sequence needs if its timing matters."""
    return _each_layer(work, lambda layer: _dense(layer, layer.dense_macs_steps, _FLOAT), T=work.T)


def quantised_twin(work: Work) -> Work:
    """The dense ANN on one frame, its activations of ``ceil(log2(T + 1))`` bits: the values of a spike count."""
    bits = activation_bits(max(work.T, 1))
    return _each_layer(work, lambda layer: _dense(_one_frame(layer), layer.dense_macs_frame, bits), T=1)


def scaled(work: Work, factor: float) -> Work:
    """The same network with `factor` times the spikes; layers with graded input stay as they are."""

    def scale(layer: LayerWork) -> LayerWork:
        if layer.values == "graded" and layer.operation != "neuron":
            return layer
        counted = {name: each * factor if name in _BY_SPIKES else each for name, each in layer.steps.items()}
        return replace(layer, steps=counted)

    return _each_layer(work, scale, work.T)


def at_steps(work: Work, T: int) -> Work:
    """The same network over `T` steps, each of them the mean of the steps seen."""
    if T < 1:
        raise ArgumentError(f"at_steps: at least one time step is needed, {T} were given.")

    def spread(layer: LayerWork) -> LayerWork:
        means = {name: np.full(T, each.sum() / max(work.T, 1)) for name, each in layer.steps.items()}
        return replace(layer, steps=means)

    return _each_layer(work, spread, T)


def with_bits(work: Work, weight: int, state: int) -> Work:
    """The same network with weights and neuron states of so many bits; what a layer has none of stays so."""

    def narrow(layer: LayerWork) -> LayerWork:
        bits = layer.bits
        return replace(layer, bits=bits._replace(weight=weight if bits.weight else 0, state=state if bits.state else 0))

    return _each_layer(work, narrow, work.T)


def _each_layer(work: Work, change: Callable[[LayerWork], LayerWork], T: int) -> Work:
    return Work([change(layer) for layer in work.layers], list(work.uncounted), work.samples, T)


def _one_frame(layer: LayerWork) -> LayerWork:
    """All steps as one of mean size; a connection knows how many frames it saw, even if time was gone before it."""
    steps = max((len(each) for each in layer.steps.values()), default=1)
    share = layer.dense_macs_frame / layer.dense_macs_steps if layer.dense_macs_steps else 1 / steps
    return replace(layer, steps={name: np.array([each.sum() * share]) for name, each in layer.steps.items()})


def _dense(layer: LayerWork, macs: float, activation: int) -> LayerWork:
    """Numbers in place of spikes."""
    counted, bits = dict(layer.steps), layer.bits
    seen = layer.dense_macs_steps
    nothing = np.zeros_like(next(iter(counted.values()), np.zeros(1)))
    if seen:
        counted |= {
            "macs": counted["dense_macs"] * (macs / seen),
            "acs": nothing,
            "nonzero": counted.get("inputs", nothing),
        }
        bits = bits._replace(input=activation, output=activation)
    if layer.operation == "neuron":
        none = dict.fromkeys(("adds", "multiplies", "state_reads", "state_writes", "spikes", "resets"), nothing)
        counted |= none | {"comparisons": counted.get("updates", nothing)}
        bits = bits._replace(state=0, input=activation, output=activation)
    return replace(layer, values="graded", bits=bits, steps=counted)
