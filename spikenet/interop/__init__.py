"""Other formats and libraries: NIR."""

from spikenet.interop.nir import (
    CubaLeakyIntegrator,
    Delay,
    Graph,
    Integrator,
    LeakyIntegrator,
    Scale,
    Threshold,
    from_nir,
    to_nir,
)

__all__ = [
    "CubaLeakyIntegrator",
    "Delay",
    "Graph",
    "Integrator",
    "LeakyIntegrator",
    "Scale",
    "Threshold",
    "from_nir",
    "to_nir",
]
