"""NeuroBench's metrics (Yik et al., 2025): what a network holds, how sparse it is, and what it computes."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from spikenet.energy.work import LayerWork, Work


class NeuroBench(NamedTuple):
    """The metrics; operations per sample.

    Args:
        parameters: number of parameters.
        footprint: bytes of parameters and buffers.
        connection_sparsity: share of the weights (parameters of two or more dimensions) that are 0.
        activation_sparsity: share of the neurons' outputs that are 0, over samples and steps.
        effective_macs: multiply-accumulates of the inputs that are not 0, of layers that saw more than -1, 0 and 1.
        effective_acs: the same of the other layers.
        dense: operations if nothing is 0.
        neuron_updates: every neuron at every step. NeuroBench counts only the potentials that a spike changed.
    """

    parameters: int
    footprint: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float
    dense: float
    neuron_updates: float


def neurobench(network: nn.Module, work: Work) -> NeuroBench:
    """The metrics of a network and of what it did.

    A weight of 0 is counted as an operation here, NeuroBench leaves it out. An input of a convolution that is not 0 is
    charged the mean number of its outputs if the layer saw graded values, the exact number otherwise.
    """
    samples = max(work.samples, 1)
    layers = [layer for layer in work.layers if layer.operation != "neuron" or layer.acs or layer.macs]
    ternary = [layer for layer in layers if layer.values in ("spikes", "ternary")]
    tensors = [*network.parameters(), *network.buffers()]
    return NeuroBench(
        parameters=sum(p.numel() for p in network.parameters()),
        footprint=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        connection_sparsity=_connection_sparsity(network),
        activation_sparsity=_activation_sparsity(work),
        effective_macs=sum(_effective(layer) for layer in layers if layer not in ternary) / samples,
        effective_acs=sum(layer.acs for layer in ternary) / samples,
        dense=work.dense_macs_steps / samples,
        neuron_updates=work.updates / samples,
    )


def _effective(layer: LayerWork) -> float:
    """Of counts, a value of 3 is one multiplication; of graded values, those that are not 0."""
    if layer.values == "counts":
        return layer.acs * layer.nonzero / layer.events if layer.events else 0.0
    return layer.macs * layer.nonzero / layer.inputs if layer.inputs else 0.0


def _connection_sparsity(network: nn.Module) -> float:
    weights = [p.detach() for p in network.parameters() if p.ndim > 1]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def _activation_sparsity(work: Work) -> float:
    neurons = [layer for layer in work.layers if layer.updates and layer.bits.output in (1, 2)]
    updates = sum(layer.updates for layer in neurons)
    return 1 - sum(layer.spikes for layer in neurons) / updates if updates else 0.0
