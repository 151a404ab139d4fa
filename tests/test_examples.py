"""Each example is a program that runs from start to end in its quick form; the documents' scripts run as they stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs.run_examples import EXAMPLES, record, run

ROOT = Path(__file__).resolve().parents[1]


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
def test_example_runs(example):
    """What it prints and draws is kept for the gallery."""
    assert record(example).strip()


def test_readme_script_runs(tmp_path):
    """With one epoch; the README's figure is measured with all of them."""
    quick, changed = re.subn(r"range\(\d+\)", "range(1)", script("README.md"))
    assert changed == 1
    assert re.fullmatch(r"test accuracy \d+\.\d%\n", run(tmp_path, "-c", quick))


def test_contributing_neuron_runs(tmp_path):
    run(tmp_path, "-c", script("CONTRIBUTING.md") + "\nassert spikes.sum() > 0\n")
