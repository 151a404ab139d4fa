"""A language model from the command line: trained, asked to write, counted; refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from spikenet.cli import main

TINY = ["--data.length", "4096", "--data.batch_size", "64", "--model.dim", "8", "--model.depth", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert main(["train", "--preset", "spikegpt-char", *TINY, "--trainer.epochs", "1", "--out", str(out)]) == 0
    return out / "spikegpt-char-seed0-001"


def test_a_run_says_its_bits_per_character(trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    assert 0 < results["test_bits_per_token"] < 8
    assert (trained / "model.safetensors").exists()


def test_text_goes_on_with_the_prompt_and_follows_from_the_seed(trained: Path, capsys) -> None:
    texts = []
    for seed in ("1", "1", "2"):
        words = ["--prompt", "And David", "--count", "30", "--temperature", "1.5", "--seed", seed]
        assert main(["generate", str(trained), *words]) == 0
        texts.append(capsys.readouterr().out)
    assert re.fullmatch(r"(?s)And David.{30}\n", texts[0])
    assert texts[0] == texts[1] != texts[2]


def test_the_operations_of_a_language_model_are_counted(trained: Path, capsys) -> None:
    assert main(["energy", str(trained)]) == 0
    assert "nJ" in capsys.readouterr().out
    assert main(["report", str(trained)]) == 0


def refused(capsys, words: list[str], *said: str) -> None:
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert all(part in error for part in said), error


def test_what_cannot_be_written_is_refused_in_words(trained: Path, tmp_path: Path, capsys) -> None:
    refused(capsys, ["generate", str(trained), "--prompt", "7 days"], "no '7'")
    refused(capsys, ["generate", str(trained), "--prompt", ""], "--prompt")
    refused(capsys, ["generate", str(trained), "--temperature", "-1"], "temperature")
    refused(capsys, ["generate", str(tmp_path / "gone")], "not a folder")
    refused(capsys, ["generate"], "run folder comes first")
