"""``spikenet bench``: one that is killed ends with the table of one that was not; grids that cannot be are refused."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from spikenet.cli import main

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("memory_mb_mean", "memory_mb_sd", "train_s_mean", "train_s_sd", "inference_ms_mean", "inference_ms_sd")
GRID = """
networks: {tests.training.tiny.Killed: {hidden: [4], dropout: 0.2}}
datasets: {digits-dvs: {batch_size: 360}}
steps: 3
seeds: [0, 1]
options: {trainer: {epochs: 2, accelerator: cpu}, threads: 1}
"""
EPOCH, MEASURE = 3, 4  # training batches of an epoch, and of a measurement of the memory


def table(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open() as file:
        return list(csv.DictReader(file))


def unmeasured(out: Path) -> list[dict[str, str]]:
    return [{name: each for name, each in row.items() if name not in MEASURED} for row in table(out)]


def weights(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("runs/*/model.safetensors")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid, run without a break."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "tiny.yaml").write_text(GRID)
    assert main(["bench", str(folder / "tiny.yaml"), "--out", str(folder / "whole")]) == 0
    return folder


def test_killed_and_started_again_equals_uninterrupted(finished: Path, capsys) -> None:
    words = ["bench", str(finished / "tiny.yaml"), "--out", str(finished / "killed")]
    killed = subprocess.run(
        [sys.executable, "-m", "spikenet", *words],
        cwd=ROOT,
        env={**os.environ, "KILL_AT": str(2 * EPOCH + MEASURE + EPOCH + 2)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    out, whole = finished / "killed", finished / "whole"
    assert [row["seeds"] for row in table(out)] == ["0"]
    (broken,) = out.glob("runs/*seed1*")
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["epoch-0001.safetensors"]
    first = (broken / "metrics.csv").read_text().splitlines()[1]

    capsys.readouterr()
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("done before") == printed.count("training: 1 epoch of") == 1
    assert unmeasured(out) == unmeasured(whole)
    assert weights(out) == weights(whole)
    rows = (broken / "metrics.csv").read_text().splitlines()
    assert rows[1] == first  # the epoch that was complete was not run again, and its time counts
    run = json.loads((broken / "cell.json").read_text())
    assert run["train_s"] == pytest.approx(sum(float(row.rpartition(",")[2]) for row in rows[1:]))


def test_a_break_between_any_two_files(finished: Path, capsys) -> None:
    """Each file that a run leaves is missing in turn, and those after it."""
    whole = finished / "whole"
    before, kept = table(whole), weights(whole)
    (run,) = whole.glob("runs/*seed1*")
    last_first = ("cell.json", "results.json", "model.safetensors")
    for gone in (1, 2, 3):
        for name in last_first[:gone]:
            (run / name).unlink()
        assert main(["bench", str(finished / "tiny.yaml"), "--out", str(whole)]) == 0
        assert weights(whole) == kept
        for row, was in zip(table(whole), before, strict=True):
            assert {k: v for k, v in row.items() if "inference" not in k} == {
                k: v for k, v in was.items() if "inference" not in k
            }


def test_the_table_is_what_the_runs_say(finished: Path) -> None:
    whole = finished / "whole"
    (row,), runs = table(whole), json.loads((whole / "table.json").read_text())["runs"]
    results = [json.loads((whole / "runs" / run["run"] / "results.json").read_text()) for run in runs]
    assert len(results) == 2
    accuracies = [found["accuracy"] for found in results]
    mean, spread = float(row["accuracy_mean"]), float(row["accuracy_sd"])
    assert mean == pytest.approx(statistics.fmean(accuracies))
    assert spread == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert (row["data"], row["test_samples"], row["steps"], row["seeds"]) == ("digits-dvs", "360", "3", "0 1")
    spikes = [sum(n["totals"]["spikes"] for n in f["layers"] if n["bits"]["output"] == 1) / 360 for f in results]
    assert float(row["spikes_mean"]) == pytest.approx(statistics.fmean(spikes))
    priced = statistics.fmean(found["energy"]["snn_pj"] for found in results) / 1e3
    assert float(row["field_snn_nj_mean"]) == pytest.approx(priced)
    inputs = 2 * 24 * 24
    assert float(row["parameters_mean"]) == inputs * 4 + 4 + 4 * 10 + 10
    assert float(row["field_ann_nj_mean"]) == pytest.approx((inputs * 4 + 40) * 4.6e-3)  # every MAC at 4.6 pJ
    assert float(row["ann_8bit_nj_mean"]) < float(row["ann_nj_mean"]) < float(row["ann_steps_nj_mean"])
    page = (whole / "table.html").read_text()
    assert f"{100 * mean:.2f} ± {100 * spread:.2f} %" in page
    assert "nothing was selected on the test part" in page


def test_runs_of_a_grid_are_runs(finished: Path, capsys) -> None:
    run = min((finished / "whole" / "runs").iterdir())
    assert main(["energy", str(run)]) == 0
    assert "dense ANN twin" in capsys.readouterr().out


def test_a_change_is_found_and_said(finished: Path, capsys) -> None:
    words = ["bench", str(finished / "tiny.yaml"), "--out", str(finished / "whole")]
    words += ["--seeds", "0"]
    assert main([*words, "--optim.lr", "0.002"]) == 0
    assert "done before" in capsys.readouterr().out  # other words for the same run
    assert main([*words, "--optim.lr", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"changed: digits-dvs-Killed-T3-seed0: optim\.lr 0\.002 -> 0\.5", printed)
    assert "done before" not in printed


def test_what_does_not_go_together_is_recorded(tmp_path: Path, capsys) -> None:
    words = ["--networks", "SpikingMLP", "Spikformer", "--datasets", "tests.training.tiny.Sounds", "--neurons", "PLIF"]
    rest = ["--trainer.epochs", "1", "--trainer.accelerator", "cpu", "--out", str(tmp_path / "out")]
    assert main(["bench", *words, *rest]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"refused: Sounds-Spikformer-PLIF: .*\(C, H, W\), this data has \(12,\)", printed)
    assert printed.index("refused") < printed.index("training")
    good, bad = table(tmp_path / "out")
    assert (good["model"], good["note"], bad["model"]) == ("SpikingMLP", "", "Spikformer")
    assert "(C, H, W)" in bad["note"]
    assert bad["accuracy_mean"] == ""


def test_a_run_that_fails_is_recorded(tmp_path: Path, capsys) -> None:
    words = ["bench", "--networks", "SpikingMLP", "--datasets", "tests.training.tiny.TinyEvents"]
    rest = ["--trainer.epochs", "1", "--trainer.accelerator", "cpu", "--optim.lr", "1e30", "--seeds", "0", "1"]
    assert main([*words, *rest, "--out", str(tmp_path)]) == 0
    (row,) = table(tmp_path)
    assert re.search(r"seed 0 failed: the loss is \w+ at train batch", row["note"])
    assert row["seeds"] == ""
    capsys.readouterr()
    assert main([*words, *rest, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("done before") == 2


def test_interrupted_by_hand(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("tests.training.tiny").Killed, "trained", 0)
    monkeypatch.setenv("KILL_AT", "2")
    monkeypatch.setenv("KILL_WITH", "SIGINT")
    words = ["--networks", "tests.training.tiny.Killed", "--datasets", "tests.training.tiny.TinyEvents"]
    assert main(["bench", *words, "--trainer.accelerator", "cpu", "--out", str(tmp_path)]) == 130
    assert "stopped in epoch 1; the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        ([], 1, "a grid needs models"),
        (["--presets", "digit-dvs"], 2, "Did you mean 'digits-dvs'"),
        (["--networks", "SpikingMPL"], 2, "Did you mean 'SpikingMLP'"),
        (["--networks", "SpikingMLP", "--datasets", "nmist"], 2, "Did you mean 'nmnist'"),
        (["--networks", "SpikingMLP", "--neurons", "PLFI"], 2, "Did you mean 'PLIF'"),
        (["--networks", "SpikingMLP", "--steps", "0"], 1, "steps: whole numbers from 1"),
        (["--networks", "SpikingMLP", "--seeds", "1", "1"], 1, "twice"),
        (["--networks", "SpikingMLP", "--optim.lrr", "1"], 2, r"optim\.lrr"),
        (["--networks", "SpikingMLP", "--datasets", "nmnist"], 1, "root"),
        (["--networks", "SpikeGPT", "--datasets", "kjv-text", "--steps", "4"], 1, "no combination"),
        (["gone.yaml"], 1, r"gone\.yaml does not exist"),
    ],
)
def test_grids_that_cannot_be(words: list[str], code: int, pattern: str, tmp_path: Path, capsys) -> None:
    assert main(["bench", *words, "--out", str(tmp_path / "out")]) == code
    assert re.search(pattern, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_grid_files_that_cannot_be(tmp_path: Path, capsys) -> None:
    file = tmp_path / "grid.yaml"
    for text, pattern in (
        ("network: SpikingMLP", "key of a grid 'network'.*Did you mean 'networks'"),
        ("networks: {SpikingMLP: 3}", "options are needed"),
        ("networks: [SpikingMLP]\nseeds: [x]", "seeds: whole numbers from 0 are needed, received 'x'"),
        ("networks: {SpikingMLP: {hiden: [3]}}", "hiden"),
    ):
        file.write_text(text)
        assert main(["bench", str(file), "--out", str(tmp_path / "out")]) in (1, 2)
        assert re.search(pattern, capsys.readouterr().err)
