"""Several processes train as one does: the same weights and metrics, resumed or not, and one voice towards the user."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from spikenet.cli import main
from spikenet.errors import ArgumentError, DeviceError, RunError
from spikenet.training import TrainerOptions, batch_seed, fit
from spikenet.training.processes import SharedBatches, check_devices, shared
from spikenet.training.sharding import _blocks, shard

ROOT = Path(__file__).resolve().parents[2]
# 45 recordings in batches of 11: the last batch is a single recording, which leaves nothing for the second process.
RUN = [
    "train", "--dataset", "tests.training.tiny.TinyEvents", "--data.samples", "45", "--data.batch_size", "11",
    "--network", "tests.training.tiny.Exact", "--model.hidden", "[16]", "--optim.lr", "0.02", "--trainer.epochs", "3",
    "--precision", "64-true", "--trainer.accelerator", "cpu", "--threads", "1", "--data.mix", "CutMix",
]  # fmt: skip


def spikenet(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spikenet", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **extra}, capture_output=True, text=True, check=False
    )  # fmt: skip


def numbers(run: Path) -> torch.Tensor:
    """The metrics without the header and the seconds."""
    rows = (run / "metrics.csv").read_text().splitlines()[1:]
    return torch.tensor([[float(value) for value in row.split(",")[:-1]] for row in rows], dtype=torch.float64)


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    assert main([*RUN, "--out", str(tmp_path / "one")]) == 0
    two = spikenet(*RUN, "--devices", "2", "--out", str(tmp_path / "two"))
    assert (two.returncode, two.stderr) == (0, "")
    assert two.stdout.count("epoch   3/3") == 1  # one process speaks
    (run,), (alone,) = (tmp_path / "two").iterdir(), (tmp_path / "one").iterdir()
    weights, whole = load_file(run / "model.safetensors"), load_file(alone / "model.safetensors")
    assert all(torch.allclose(weights[name], whole[name], rtol=0, atol=1e-14) for name in whole)
    # Losses are kept in float32 by Lightning until the epoch's end.
    torch.testing.assert_close(numbers(run), numbers(alone), rtol=1e-6, atol=0)
    assert (run / "report.html").exists()


def test_synced_norms_of_parts_are_torchs_of_the_whole(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.training.synced_parts", str(tmp_path / "meeting")]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "precision", "apart"), [("ddp", "64-true", 1e-12), ("fsdp", "32-true", 1e-5)])
def test_two_processes_with_synced_norms_train_as_one_does(
    tmp_path: Path, strategy: str, precision: str, apart: float
) -> None:
    words = ["tests.training.tiny.Normed" if word.endswith("Exact") else word for word in RUN]
    words = [*(word for word in words if word not in ("--model.hidden", "[16]")), "--precision", precision]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    words += ["--devices", "2", "--strategy", strategy, "--trainer.sync_batchnorm", "true"]
    two = spikenet(*words, "--out", str(tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    (run,), (alone,) = (tmp_path / "two").iterdir(), (tmp_path / "one").iterdir()
    weights, whole = load_file(run / "model.safetensors"), load_file(alone / "model.safetensors")
    assert "2.running_var" in whole
    assert all(torch.allclose(weights[name], whole[name], rtol=0, atol=apart) for name in whole)
    torch.testing.assert_close(numbers(run), numbers(alone), rtol=max(1e-6, 10 * apart), atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "kill"), [("ddp", "SIGINT"), ("ddp", "SIGKILL"), ("fsdp", "SIGKILL")])
def test_a_stopped_process_ends_the_run_and_resuming_is_exact(tmp_path: Path, strategy: str, kill: str) -> None:
    words = [*RUN, "--devices", "2", "--strategy", strategy, "--precision", "32-true"]
    whole = spikenet(*words, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    stopped = spikenet(*words, "--out", str(tmp_path / "stopped"), KILL_AT="8", KILL_WITH=kill)
    (run,), (reference,) = (tmp_path / "stopped").iterdir(), (tmp_path / "whole").iterdir()
    go_on = f"stopped in epoch 2; 1 complete epochs are saved. Go on with: spikenet train --resume {run}"
    expected = {"SIGINT": (130, go_on), "SIGKILL": (1, f"of 2 ended with {-signal.SIGKILL}")}
    code, reason = expected[kill]
    assert stopped.returncode == code
    assert len(stopped.stderr.splitlines()) == 1
    assert reason in stopped.stderr
    resumed = spikenet("train", "--resume", str(run))
    assert resumed.returncode == 0, resumed.stderr
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    assert torch.equal(numbers(run), numbers(reference))


@pytest.mark.slow
def test_shards_train_as_the_whole_does(tmp_path: Path) -> None:
    words = [*RUN, "--precision", "32-true"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    two = spikenet(*words, "--devices", "2", "--strategy", "fsdp", "--out", str(tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    (run,), (alone,) = (tmp_path / "two").iterdir(), (tmp_path / "one").iterdir()
    weights, whole = load_file(run / "model.safetensors"), load_file(alone / "model.safetensors")
    assert all(torch.allclose(weights[name], whole[name], rtol=0, atol=1e-5) for name in whole)
    torch.testing.assert_close(numbers(run), numbers(alone), rtol=1e-4, atol=0)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_the_shares_of_a_batch_are_the_batch_and_their_weighted_means_its_mean(processes: int) -> None:
    values = torch.randn(23, dtype=torch.float64)
    whole = BatchSampler(range(23), 7, drop_last=False)
    parts = [SharedBatches(whole, rank, processes) for rank in range(processes)]
    for index, (batch, *taken) in enumerate(zip(whole, *parts, strict=True)):
        counted = [own for own, part in zip(taken, parts, strict=True) if part.share(index)]
        assert sorted(i for own in counted for i in own) == batch
        means = [part.share(index) * values[own].mean() for own, part in zip(taken, parts, strict=True)]
        torch.testing.assert_close(sum(means) / processes, values[batch].mean(), rtol=0, atol=1e-15)


def test_a_shared_loader_keeps_order_and_dataset() -> None:
    loader = DataLoader(TensorDataset(torch.arange(10)), 4)
    assert shared(loader, 0, 1) is loader
    assert [b[0].tolist() for b in shared(loader, 1, 2)] == [[1, 3], [5, 7], [9]]


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ArgumentError, match="batches of 2 cannot be shared by 3 devices"):
        shared(DataLoader(TensorDataset(torch.arange(10)), 2), 0, 3)
    with pytest.raises(ArgumentError, match="without a batch sampler"):
        shared(DataLoader(TensorDataset(torch.arange(10)), None), 0, 2)


def test_more_devices_than_there_are_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*RUN, "--devices", "4096", "--out", str(tmp_path)]) == 1
    assert "trainer.devices: 4096 were asked for, this machine has" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(DeviceError, match="GPUs"):
        check_devices("gpu", 4096)


@pytest.mark.parametrize("options", [{"devices": 0}, {"accumulate": 0}, {"strategy": "zero"}, {"strategy": "fsdp"}])
def test_options_that_cannot_work_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="trainer"):
        TrainerOptions(**options)
    with pytest.raises(ArgumentError, match="precision 32-true or bf16-mixed"):
        TrainerOptions(devices=2, strategy="fsdp", precision="64-true")


def test_fit_says_how_to_start_the_processes_that_it_needs() -> None:
    with pytest.raises(RunError, match="torchrun --nproc-per-node 2"):
        fit(None, None, None, optim=None, options=TrainerOptions(devices=2), seed=0)


def test_processes_draw_apart_and_the_first_as_one_alone() -> None:
    assert batch_seed(1, 2, 3, 0) == batch_seed(1, 2, 3)
    assert len({batch_seed(1, 2, 3, rank) for rank in range(4)}) == 4


def test_blocks_are_sharded_and_single_numbers_refused() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.ModuleList([nn.Linear(2, 2)]), nn.BatchNorm1d(2))
    assert list(_blocks(net)) == [net[0], net[1]]
    net.tau = nn.Parameter(torch.tensor(2.0))
    with pytest.raises(ArgumentError, match="tau has none"):
        shard(net, None)
