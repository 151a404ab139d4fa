"""Sample graphs that lie beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikenet import use_backend

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "nir"


@pytest.fixture
def sample():
    """The path of a sample; a test that asks for one that is absent is skipped."""

    def find(name: str) -> Path:
        path = SAMPLES / name
        if not path.exists():
            pytest.skip(f"the sample {name} is not here")
        return path

    return find


@pytest.fixture(autouse=True)
def plain_backend():
    """No kernel is compiled for each neuron and dtype: what is compared here does not depend on it."""
    with use_backend("reference"):
        yield
