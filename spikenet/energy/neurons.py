"""What one update of a neuron takes: spikenet's from their equations, other libraries' from a table by class path."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from spikenet.kernels.dynamics.ops import registered


class NeuronCost(NamedTuple):
    """Operations of one neuron in one time step.

    Args:
        states: state variables, each read and written once.
        adds, multiplies, comparisons: in each step, the threshold included.
        resets: whether a spike changes the state.
    """

    states: int = 1
    adds: float = 1.0
    multiplies: float = 0.0
    comparisons: float = 1.0
    resets: bool = True


_SJ, _SNN, _NORSE = "spikingjelly.activation_based.neuron", "snntorch._neurons", "norse.torch.module"
_IF, _LEAKY, _LEAKY_TWO = NeuronCost(), NeuronCost(adds=2, multiplies=1), NeuronCost(2, adds=3, multiplies=2)
_RECURSIVE = NeuronCost(adds=1, multiplies=1)

KNOWN: Mapping[str, NeuronCost] = {
    f"{_SJ}.base_node.SimpleBaseNode": _LEAKY,
    f"{_SJ}.base_node.BaseNode": _LEAKY,
    f"{_SJ}.integrate_and_fire.SimpleIFNode": _IF,
    f"{_SJ}.integrate_and_fire.IFNode": _IF,
    f"{_SJ}.ternary.TernaryIFNode": NeuronCost(comparisons=2),
    f"{_SJ}.ternary.TernaryLIFNode": NeuronCost(adds=2, multiplies=1, comparisons=2),
    f"{_SJ}.adapt.AdaptBaseNode": NeuronCost(2, adds=4, multiplies=3),
    f"{_SJ}.nonlinear_if.QIFNode": NeuronCost(adds=4, multiplies=3),
    f"{_SJ}.nonlinear_if.EIFNode": NeuronCost(adds=4, multiplies=4),
    f"{_SJ}.lif_variants.CUBALIFNode": _LEAKY_TWO,
    f"{_SJ}.lif_variants.ComplementaryLIFNode": NeuronCost(2, adds=4, multiplies=4),
    f"{_SJ}.lif_variants.GatedLIFNode": NeuronCost(adds=5, multiplies=6),
    f"{_SNN}.neurons.LIF": _RECURSIVE,
    f"{_SNN}.synaptic.Synaptic": NeuronCost(2, adds=2, multiplies=2),
    f"{_SNN}.alpha.Alpha": NeuronCost(3, adds=4, multiplies=4),
    f"{_NORSE}.snn.SNN": _LEAKY_TWO,
    f"{_NORSE}.snn.SNNCell": _LEAKY_TWO,
    f"{_NORSE}.iaf.IAF": _IF,
    f"{_NORSE}.iaf.IAFCell": _IF,
    f"{_NORSE}.leaky_integrator.LI": NeuronCost(2, adds=3, multiplies=2, comparisons=0, resets=False),
    f"{_NORSE}.leaky_integrator.LICell": NeuronCost(2, adds=3, multiplies=2, comparisons=0, resets=False),
}
"""Classes of other libraries by path, never imported; a class that is not listed counts as the base that is."""


def cost_of(module: nn.Module, also: Mapping[type[nn.Module], NeuronCost]) -> NeuronCost | None:
    """What the user says, then what is known of the module's class or its nearest base; None for no neuron."""
    for kind in type(module).__mro__:
        found = also.get(kind) or KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
        if found:
            return found
    return None


_WORDS = {
    **dict.fromkeys(("add", "sub"), "adds"),
    **dict.fromkeys(("lt", "le", "gt", "ge", "minimum", "maximum", "floor"), "comparisons"),
    **dict.fromkeys(("neg", "where", "blend", "detach"), "free"),
}  # every other word counts as a multiplication


@functools.cache
def cost_of_program(key: str) -> NeuronCost:
    """The operations that a traced neuron's equations hold; an exponential counts as one multiplication."""
    program = registered(key)
    counted = {"adds": 0, "multiplies": 0, "comparisons": 0, "free": 0}
    phases = (program.charge, program.fire, program.emit, program.reset)
    for operation in (operation for phase in phases for operation in phase.operations):
        counted[_WORDS.get(operation.word, "multiplies")] += 1
    heard = {name for operation in program.reset.operations for name in operation.args}
    resets = "z" in heard | set(program.reset.results.values())
    return NeuronCost(len(program.state), counted["adds"], counted["multiplies"], counted["comparisons"], resets)
