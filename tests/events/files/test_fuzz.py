"""The fuzz program must itself be able to find what it looks for, in a format that goes wrong on purpose."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.events.files.fuzz import mutated
from tests.events.files.toy import MAGIC, SAMPLE

# What the toy's byte of trouble asks for, and the kind of finding that it must become.
TROUBLES = {1: "crash", 2: "hang", 4: "memory", 8: "MemoryError", 16: "IndexError", 32: "silence", 64: "differs"}


def first(trouble: int) -> int:
    """The number of the first mutation that keeps a readable toy and asks for this trouble alone."""
    for number in range(200_000):
        _, content = mutated([SAMPLE], random.Random(f"0 {number}"))
        torn = len(content) % 3 != 2
        if content[:4] == MAGIC and content[4:5] == bytes([trouble]) and len(content) > 7 and torn == (trouble == 32):
            return number
    raise AssertionError(f"no mutation asks for {trouble}")


def fuzz(folder: Path, start: int, count: int = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.events.files.fuzz", "toy", "--plugin", "tests.events.files.toy"]
    command += ["--start", str(start), "--count", str(count), "--limit", "5", "--findings", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "kind"), TROUBLES.items())
def test_trouble_is_found_and_its_bytes_are_kept(trouble, kind, tmp_path):
    number = first(trouble)
    done = fuzz(tmp_path, number)
    assert done.returncode == 1, done.stdout + done.stderr
    (kept,) = tmp_path.glob("*.bytes")
    assert kind in kept.name
    assert kept.read_bytes() == mutated([SAMPLE], random.Random(f"0 {number}"))[1]
    assert kept.with_suffix(".txt").read_text()


@pytest.mark.slow
def test_goes_on_after_a_crash_and_ends_well_without_findings(tmp_path):
    number = first(1)
    done = fuzz(tmp_path, number - 1, 3)
    assert "3 files" in done.stdout, done.stdout + done.stderr
    assert len(list(tmp_path.glob("*crash*.bytes"))) == 1
    quiet = fuzz(tmp_path / "none", 0, 5)
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
