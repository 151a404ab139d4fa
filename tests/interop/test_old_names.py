"""SpikingJelly's names are understood, with a word on what is called otherwise here."""

from __future__ import annotations

import pytest

from spikenet.errors import UnknownNameError
from spikenet.interop import spikingjelly_neuron
from spikenet.neurons import LIF


def test_each_name_that_means_nothing_here_is_named():
    with pytest.warns(FutureWarning) as caught:
        neuron = spikingjelly_neuron("MultiStepLIFNode", tau=3.0, v_reset=0.1, backend="cupy", store_v_seq=True)
    said = " ".join(str(warning.message) for warning in caught)
    assert all(word in said for word in ("backend", "use_backend", "store_v_seq", ".trace", "spikenet.neurons.LIF"))
    assert type(neuron) is LIF
    assert (neuron.tau.item(), neuron.v_reset.item(), neuron.v_rest.item()) == (
        3.0,
        pytest.approx(0.1),
        pytest.approx(0.1),
    )


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="LIFNode"):
        spikingjelly_neuron("LIF")
    with pytest.raises(UnknownNameError, match=r"v_treshold.*v_threshold"):
        spikingjelly_neuron("LIFNode", v_treshold=1.0)
    with pytest.raises(UnknownNameError, match="surrogate"), pytest.warns(FutureWarning):
        spikingjelly_neuron("LIFNode", surrogate_function=object(), step_mode="m")
