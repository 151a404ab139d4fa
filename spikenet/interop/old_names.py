"""SpikingJelly's names for neurons and their arguments, those of its older versions too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from spikenet.errors import UnknownNameError
from spikenet.neurons import IF, LIF, PLIF, Neuron, Surrogate
from spikenet.neurons import surrogate as slopes

__all__ = ["slope_of", "spikingjelly_neuron"]

_NEURONS: Mapping[str, type[Neuron]] = {"IFNode": IF, "LIFNode": LIF, "ParametricLIFNode": PLIF}
_KEPT = ("tau", "init_tau", "v_threshold", "v_reset", "decay_input", "detach_reset")
_GONE = {
    "step_mode": "a neuron takes whole sequences, and .step takes one step",
    "backend": "the fastest backend that can run is taken; spikenet.use_backend forces one",
    "store_v_seq": ".trace returns the potentials",
    "cupy_fp32_inference": "the fastest backend that can run is taken",
}
_SLOPES = {"ATan": slopes.atan, "Sigmoid": slopes.sigmoid}


def slope_of(theirs: Any) -> Surrogate:
    """The surrogate that one of SpikingJelly's is.

    Raises:
        UnknownNameError: for one that has no counterpart.
    """
    make = _SLOPES.get(type(theirs).__name__)
    if make is None:
        raise UnknownNameError("surrogate of SpikingJelly's", type(theirs).__name__, _SLOPES)
    return make(float(theirs.alpha))


def spikingjelly_neuron(name: str, **arguments: Any) -> Neuron:
    """The neuron that SpikingJelly calls `name`, made with its arguments: `LIFNode`, `MultiStepLIFNode` and so on.

    Warns of each name that means nothing here or is called otherwise, and says what does its work. The membrane rests
    at `v_reset`, as theirs does, and a surrogate left out is theirs, `Sigmoid` with a sharpness of 4. It does not need
    the package.

    Args:
        name: a class of theirs; the `MultiStep` of older versions may stand before it.
        **arguments: theirs. `surrogate_function` is an object of theirs, or a surrogate of spikenet's or its name.

    Raises:
        UnknownNameError: for a neuron, an argument or a surrogate that has no counterpart here.
    """
    kind = _NEURONS.get(name.removeprefix("MultiStep"))
    if kind is None:
        raise UnknownNameError("SpikingJelly neuron", name, _NEURONS)
    given = {k: v for k, v in arguments.items() if k in _KEPT}
    for argument in arguments.keys() - given.keys() - {"surrogate_function"}:
        if argument not in _GONE:
            raise UnknownNameError(f"argument of {name}", argument, (*_KEPT, "surrogate_function", *_GONE))
        _warn(f"{name}({argument}=...) has no place here: {_GONE[argument]}")
    theirs = arguments.get("surrogate_function", slopes.sigmoid(4.0))
    surrogate = theirs if isinstance(theirs, Surrogate | str) else slope_of(theirs)
    _warn(f"{name} is spikenet.neurons.{kind.__name__}, and surrogate_function its surrogate")
    return kind(**given, surrogate=surrogate, v_rest=given.get("v_reset", 0.0) or 0.0)


def _warn(message: str) -> None:
    warnings.warn(message, FutureWarning, stacklevel=3)
