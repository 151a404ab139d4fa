"""Work made by hand, so that every energy can be worked out on paper."""

from __future__ import annotations

import numpy as np

from spikenet.energy import Bits, Geometry, LayerWork, Work


def linear(events: float = 10.0, T: int = 4, inputs: int = 20, outputs: int = 5, name: str = "linear") -> LayerWork:
    """A linear layer without bias that sees so many spikes at each step of one sample."""
    dense = inputs * outputs
    steps = {
        "events": events,
        "nonzero": events,
        "inputs": inputs,
        "outputs": outputs,
        "acs": events * outputs,
        "macs": 0.0,
        "dense_macs": dense,
        "weight_reads": events * outputs,
        "dense_weight_reads": dense,
    }
    return LayerWork(
        name,
        "Linear",
        "connection",
        "spikes",
        Bits(weight=32, input=1, output=32),
        Geometry(inputs, outputs, parameters=dense),
        {counter: np.full(T, float(amount)) for counter, amount in steps.items()},
        dense_macs_frame=dense,
    )


def graded(layer: LayerWork) -> LayerWork:
    """The same layer on numbers."""
    layer.values, layer.bits = "graded", layer.bits._replace(input=32)
    layer.steps |= {"macs": layer.steps["dense_macs"], "acs": 0 * layer.steps["acs"]}
    return layer


def neurons(count: int = 5, spikes: float = 2.0, T: int = 4, leaks: bool = True) -> LayerWork:
    """Leaky neurons that send so many spikes at each step."""
    each = ("updates", "outputs", "adds", "comparisons", "state_reads", "state_writes")
    steps = dict.fromkeys(each, float(count)) | {"multiplies": float(count * leaks), "spikes": spikes, "resets": spikes}
    bits = Bits(state=32, input=32, output=1)
    arrays = {counter: np.full(T, amount) for counter, amount in steps.items()}
    return LayerWork("lif", "LIF", "neuron", "graded", bits, steps=arrays)


def work(*layers: LayerWork, T: int = 4, samples: int = 1) -> Work:
    return Work(list(layers), samples=samples, T=T)
