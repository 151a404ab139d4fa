"""``spikenet simulate`` from its words to its tables and files."""

from __future__ import annotations

import pytest

from spikenet.cli import main


def test_a_network_runs_stops_and_goes_on(tmp_path, capsys) -> None:
    raster, snapshot = tmp_path / "raster.png", tmp_path / "network.safetensors"
    words = ["simulate", "izhikevich", "--duration", "60", "--seed", "3"]
    assert main([*words, "--raster", str(raster), "--snapshot", str(snapshot)]) == 0
    first = capsys.readouterr().out
    assert "1,000 neurons, 1,000,000 synapses" in first
    assert "CV of intervals" in first
    assert raster.read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--resume", str(snapshot)]) == 0
    assert "goes on at 60 ms" in capsys.readouterr().out


def test_a_run_too_short_for_statistics_leaves_its_raster(tmp_path, capsys) -> None:
    raster = tmp_path / "raster.png"
    assert main(["simulate", "izhikevich", "--duration", "3", "--raster", str(raster)]) == 1
    assert "no bin of 3" in capsys.readouterr().err
    assert raster.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["microcircus"], 2, "Did you mean 'microcircuit'?"),
        (["brunel", "--regime", "IA"], 2, "unknown regime"),
        (["microcircuit", "--scale", "2"], 1, "above 0 and at most 1, got 2"),
        (["izhikevich", "--resume", "nowhere.safetensors"], 1, "cannot be read"),
        (["izhikevich", "--device", "meta"], 1, "the network is on meta"),
    ],
)
def test_what_cannot_run_says_why(words: list[str], code: int, reason: str, capsys) -> None:
    assert main(["simulate", *words]) == code
    assert reason in capsys.readouterr().err
