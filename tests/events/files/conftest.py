"""Files made in a test's own folder."""

from __future__ import annotations

from functools import partial

import pytest

from tests.events.files import agreement, ecf_bytes


@pytest.fixture
def check(tmp_path):
    return agreement.checked(tmp_path)


@pytest.fixture
def metavision(tmp_path):
    """Writes a Metavision HDF5 file with the given chunks."""
    return partial(ecf_bytes.metavision, tmp_path / "a.hdf5")
