"""The field's reference networks, each after its paper."""

from spikenet.simulate.networks.brunel import REGIMES, brunel
from spikenet.simulate.networks.izhikevich import izhikevich
from spikenet.simulate.networks.microcircuit import microcircuit
from spikenet.simulate.networks.vogels_abbott import coba, cuba

__all__ = ["NETWORKS", "REGIMES", "brunel", "coba", "cuba", "izhikevich", "microcircuit"]

NETWORKS = {f.__name__: f for f in (brunel, coba, cuba, izhikevich, microcircuit)}  # by name
