"""Each example is a program that runs from start to end in its quick form; the documents' scripts run as they stand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(folder: Path, *words: str) -> str:
    """Start a program in a folder of its own, as a user would; what it writes stays there."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def script(document: str) -> str:
    """The first Python script of a document."""
    found = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{document} holds no script"
    return found[1]


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_says_what_it_shows(example):
    assert ast.get_docstring(ast.parse(example.read_text(encoding="utf-8")))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    assert run(tmp_path, str(example), "--quick").strip()


def test_readme_script_runs(tmp_path):
    """With one epoch; the README's figure is measured with all of them."""
    quick, changed = re.subn(r"range\(\d+\)", "range(1)", script("README.md"))
    assert changed == 1
    assert re.fullmatch(r"test accuracy \d+\.\d%\n", run(tmp_path, "-c", quick))


def test_contributing_neuron_runs(tmp_path):
    run(tmp_path, "-c", script("CONTRIBUTING.md") + "\nassert spikes.sum() > 0\n")
