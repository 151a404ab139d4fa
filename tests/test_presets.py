"""Presets that claim an accuracy keep it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spikenet.cli import main


@pytest.mark.slow
def test_maxformer_digits_reads_digits(tmp_path: Path, capsys) -> None:
    """97.8 to 99.2 % of 360 test recordings were measured; five more may be missed on another machine."""
    words = ["--preset", "maxformer-digits", "--trainer.accelerator", "cpu", "--out", str(tmp_path)]
    assert main(["train", *words]) == 0
    right, of = re.search(r"test accuracy: [\d.]+% \((\d+) of (\d+)\)", capsys.readouterr().out).groups()  # type: ignore[union-attr]
    assert int(of) == 360
    assert int(right) >= 347
