"""What NIR cannot say, and what it says and cannot be read, is refused by name."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from spikenet import layers, models, neurons
from spikenet.errors import ArgumentError, PackageError, UnknownNameError
from spikenet.interop import Graph, from_nir, to_nir
from spikenet.neurons import ALIF, IF, LIF, NO_RESET, Neuron, RefractoryLIF

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    ("module", "shape", "reason"),
    [
        (nn.Sequential(nn.Linear(3, 3), LIF(v_reset=None)), (3,), "1: NIR resets .* subtracts the threshold"),
        (LIF(v_reset=NO_RESET), (3,), "has no reset"),
        (IF(v_rest=0.5), (3,), "starts at 0"),
        (nn.Linear(3, 3), (2, 3), "one axis of features"),
        (layers.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 5, 5), "circular"),
        (layers.Conv2d(2, 2, 3, groups=2), (2, 5, 5), "cannot type groups"),
        (layers.Conv2d(2, 2, (3, 1)), (2, 5, 5), "not square"),
        (layers.AvgPool2d(2, ceil_mode=True), (2, 5, 5), "ceil_mode"),
        (layers.AvgPool2d(3, padding=1, count_include_pad=False), (2, 5, 5), "count_include_pad"),
        (nn.Flatten(1), (2, 5), "time or batch"),
        (layers.DelayLinear(3, 3, 2, extend=1), (3,), "end of a sequence"),
        (layers.Residual(nn.Identity()), (3,), "adds an output to itself"),
    ],
)
def test_options_without_a_place_in_nir(module, shape, reason):
    with pytest.raises(ArgumentError, match=reason):
        to_nir(module, shape, dt=1e-3)


@pytest.mark.parametrize(
    "module", [ALIF(), RefractoryLIF(), layers.MaxPool2d(2), layers.BatchNorm2d(2), layers.MeanReadout(), nn.GRU(2, 2)]
)
def test_modules_without_a_node(module):
    with pytest.raises(UnknownNameError, match=f"0: '{type(module).__name__}'.*LIF"):
        to_nir(nn.Sequential(module), (2, 4, 4), dt=1e-3)


NEURONS = [kind for kind in map(neurons.__dict__.get, neurons.__all__) if isinstance(kind, type)]
SIMPLE = [kind for kind in NEURONS if issubclass(kind, Neuron) and kind not in (Neuron, neurons.MetaNeuron)]


@pytest.mark.parametrize("kind", SIMPLE, ids=lambda kind: kind.__name__)
def test_every_neuron_has_a_node_or_is_refused_by_name(kind):
    neuron = kind(3) if kind is neurons.IntrinsicLIF else kind()
    if kind in (IF, LIF, neurons.CubaLIF, neurons.LeakyReadout):
        graph = to_nir(neuron, (3,), dt=1e-3)
        assert type(from_nir(graph)[0]).__name__ == {"LeakyReadout": "LeakyIntegrator"}.get(
            kind.__name__, kind.__name__
        )
    else:
        with pytest.raises(UnknownNameError, match=kind.__name__):
            to_nir(neuron, (3,), dt=1e-3)


def test_models_with_a_forward_of_their_own():
    with pytest.raises(UnknownNameError, match="at the top"):
        to_nir(models.SpikingMLP((4,), 3), (4,), dt=1e-3)


def test_steps_are_no_seconds():
    with pytest.raises(ArgumentError, match=r"dt=1e-3.*dt is 1"):
        to_nir(nn.Sequential(nn.Linear(2, 2), LIF()), (2,))
    with pytest.raises(ArgumentError, match=r"0\.001, 0\.002"):
        to_nir(nn.Sequential(LIF(0.1, dt=1e-3), LIF(0.1, dt=2e-3)), (2,))


def test_delays_between_steps():
    graph = nir.NIRGraph.from_list(nir.Delay(torch.tensor([1.5e-3]).double().numpy()))
    with pytest.raises(ArgumentError, match=r"1.5 steps"):
        from_nir(graph, dt=1e-3)
    x = torch.arange(5.0).view(5, 1, 1)
    assert from_nir(graph, dt=5e-4)(x).flatten().tolist() == [0, 0, 0, 0, 1]


def test_several_inputs():
    nodes = {"a": nir.Input([1]), "b": nir.Input([1]), "c": nir.Output([1])}
    with pytest.raises(ArgumentError, match="2 input nodes"):
        from_nir(nir.NIRGraph(nodes=nodes, edges=[("a", "c"), ("b", "c")]), dt=1.0)


def test_loops_without_a_state():
    with pytest.raises(ArgumentError, match="no node has a state"):
        Graph({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}, [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")])
    with pytest.raises(ArgumentError, match="no module"):
        Graph({}, [("input", "a"), ("a", "output")])


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(PackageError, match="pip install nir"):
        to_nir(LIF(0.1, dt=1e-3), (2,))
