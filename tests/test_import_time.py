"""``import spikenet`` loads next to nothing beyond torch. What gets loaded is tested; no time is."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    *("numba", "llvmlite", "sympy", "scipy", "h5py", "sklearn", "lightning", "pytorch_lightning", "torchmetrics"),
    *("jsonargparse", "safetensors", "rich", "matplotlib", "pandas", "IPython", "triton"),
    *("tonic", "nir", "nirtorch", "spikingjelly", "norse", "snntorch"),
}

LOADED_BEYOND_TORCH = """
import sys
import torch
before = set(sys.modules)
{statement}
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))
"""


def loaded_by(statement: str) -> set[str]:
    code = LOADED_BEYOND_TORCH.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy():
    loaded = loaded_by("import spikenet")
    assert "spikenet" in loaded
    assert loaded & HEAVY == set()


def test_compiled_kernels_that_are_kept_need_no_printer():
    """Sympy differentiates where a kernel is printed, and takes longer to load than a small network to be made."""
    rooms = ", ".join(f"spikenet.kernels.{room}.numba_backend" for room in ("dynamics", "recurrent", "simulate"))
    loaded = loaded_by(f"import {rooms}")
    assert "numba" in loaded
    assert "sympy" not in loaded


@pytest.mark.parametrize("name", ["h5py", "safetensors"])
def test_a_heavy_import_would_be_seen(name):
    assert name in loaded_by(f"import {name}") & HEAVY
