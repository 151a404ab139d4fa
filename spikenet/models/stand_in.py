"""Other neurons in a finished network, in the place of its LIF neurons."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from spikenet.errors import ArgumentError
from spikenet.neurons import (
    ALIF,
    EIF,
    IF,
    LIF,
    NO_RESET,
    PLIF,
    QIF,
    CubaLIF,
    MultiSpikeLIF,
    Neuron,
    RefractoryLIF,
    StochasticLIF,
    TernaryIF,
    TernaryLIF,
)

__all__ = ["STAND_INS", "with_neuron"]

_KINDS = (LIF, IF, PLIF, ALIF, CubaLIF, EIF, QIF, RefractoryLIF, StochasticLIF, TernaryIF, TernaryLIF, MultiSpikeLIF)
STAND_INS: dict[str, type[Neuron]] = {kind.__name__: kind for kind in _KINDS}
"""Neurons that hear what a LIF neuron hears."""


def with_neuron(net: nn.Module, kind: type[Neuron]) -> nn.Module:
    """The network itself, each of its `LIF` neurons replaced by one of another kind.

    Time constant, potentials, resets, surrogate and step stay what they were wherever `kind` has them under the same
    name (`PLIF` starts from the time constant); everything else has the default of `kind`.

    Args:
        net: a network, which is changed.
        kind: a neuron of one input, such as those of `STAND_INS`.

    Raises:
        ArgumentError: for a network without a `LIF` neuron, or a kind that cannot be made from what a LIF has.
    """
    places = [
        (parent, name, each)
        for parent in net.modules()
        for name, each in parent._modules.items()  # one that stands in two places is there twice
        if type(each) is LIF  # its subclasses are what they are for a reason
    ]
    if not places:
        raise ArgumentError(f"{type(net).__name__} has no LIF neuron in whose place {kind.__name__} could be.")
    made: dict[int, Neuron] = {}  # a neuron in two places stays one
    for parent, name, lif in places:
        if id(lif) not in made:
            made[id(lif)] = _made(kind, lif)
        setattr(parent, name, made[id(lif)])
    return net


def _made(kind: type[Neuron], lif: Any) -> Neuron:
    inputs = getattr(kind, "inputs", None)
    if inputs != LIF.inputs:
        raise ArgumentError(f"{kind.__name__} has {inputs or 'no'} inputs by name; a LIF neuron has {LIF.inputs}.")
    has, takes = _options(lif), _takes(kind).values()
    needed = [each.name for each in takes if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if missing := [name for name in needed if name not in has]:
        raise ArgumentError(f"{kind.__name__} needs {', '.join(missing)}, which a LIF neuron does not have.")
    return kind(**{name: value for name, value in has.items() if name in _understood(kind)}).train(lif.training)


def _options(lif: Any) -> dict[str, Any]:
    names = ("tau", "v_threshold", "v_rest", "decay_input", "exact_decay", "detach_reset", "dt")
    found = {name: getattr(lif, name) for name in names}
    v_reset = lif.v_reset if lif.hard else None if lif.soft else NO_RESET
    return {**found, "init_tau": lif.tau, "v_reset": v_reset, "surrogate": lif.emit.surrogate}


def _understood(kind: Any) -> set[str]:
    """The names that a class takes: its own, and where it hands the rest on, those of its base."""
    takes = _takes(kind)
    hands_on = any(each.kind is each.VAR_KEYWORD for each in takes.values()) and kind.__base__ is not Neuron
    return {*takes, *(_understood(kind.__base__) if hands_on else ())}


def _takes(kind: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class's `__init__`, itself left out: a metaclass hides them from `signature(kind)`."""
    return dict(list(inspect.signature(kind.__init__).parameters.items())[1:])
