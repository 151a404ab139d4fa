"""A run that is killed in the middle of an epoch and resumed ends as one that was not, bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = [
    "train", "--dataset", "tests.training.tiny.TinyEvents", "--network", "tests.training.tiny.Killed",
    "--model.hidden", "[16]", "--model.dropout", "0.3", "--trainer.epochs", "4",
    "--data.augment", "[EventDrop: 0.2]", "--data.mix", "[CutMix, EventMix: 2]", "--seeds", "3", "--threads", "1",
]  # fmt: skip
BATCHES = 6


def spikenet(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spikenet", *words],
        cwd=ROOT,
        env={**os.environ, **extra},
        capture_output=True,
        text=True,
        check=False,
    )


def metrics(run: Path) -> list[str]:
    """The rows without the last column, the seconds."""
    return [row.rpartition(",")[0] for row in (run / "metrics.csv").read_text().splitlines()]


def outcome(run: Path) -> tuple[list[str], bytes, str]:
    return metrics(run), (run / "model.safetensors").read_bytes(), (run / "results.json").read_text()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, workers: str) -> None:
    whole = spikenet(*RUN, "--data.workers", workers, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    killed = spikenet(*RUN, "--data.workers", workers, "--out", str(tmp_path / "killed"), KILL_AT=str(2 * BATCHES + 3))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (run,) = (tmp_path / "killed").iterdir()
    assert not (run / "model.safetensors").exists()
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == "epoch-0002.safetensors"

    resumed = spikenet("train", "--resume", str(run))
    assert resumed.returncode == 0, resumed.stderr
    (reference,) = (tmp_path / "whole").iterdir()
    assert outcome(run) == outcome(reference)
    assert len(metrics(run)) == 5


def test_interrupted_by_hand_says_what_is_saved_and_how_to_go_on(tmp_path: Path) -> None:
    stopped = spikenet(*RUN, "--out", str(tmp_path), KILL_AT=str(BATCHES + 2), KILL_WITH="SIGINT")
    (run,) = tmp_path.iterdir()
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines() == [
        f"spikenet: stopped in epoch 2; 1 complete epochs are saved. Go on with: spikenet train --resume {run}"
    ]
