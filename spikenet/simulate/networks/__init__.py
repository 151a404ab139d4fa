"""The field's reference networks, each after its paper."""

from spikenet.simulate.networks.brunel import brunel
from spikenet.simulate.networks.izhikevich import izhikevich
from spikenet.simulate.networks.microcircuit import microcircuit
from spikenet.simulate.networks.vogels_abbott import coba, cuba

__all__ = ["brunel", "coba", "cuba", "izhikevich", "microcircuit"]
