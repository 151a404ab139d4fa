"""Runs in this process: what they leave behind, what they keep, what they cut back."""

import csv
from pathlib import Path

import pytest
import torch

from spikenet.errors import DataError, RunError
from spikenet.models import SpikingMLP
from spikenet.training import Optimiser, RunFolder, TrainerOptions, evaluate, fit, load_tree, seed_everything
from tests.training.tiny import Exact, NanEvents, TinyEvents


def trained(folder: RunFolder, data: TinyEvents | None = None, epochs: int = 3) -> SpikingMLP:
    data = data or TinyEvents()
    seed_everything(0)
    model = SpikingMLP(data.feature_shape, 3, hidden=(16,))
    fit(model, data, folder, optim=Optimiser(lr=1e-2), options=TrainerOptions(epochs, accelerator="cpu"), seed=0)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run", "")


def rows(folder: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader(folder.metrics.read_text().splitlines()))


def test_it_learns_three_blobs_and_leaves_a_row_per_epoch(folder: RunFolder) -> None:
    data = TinyEvents()
    model = trained(folder, data, epochs=6)
    assert evaluate(model, data.test_dataloader(), 3).accuracy > 0.9
    assert [row["epoch"] for row in rows(folder)] == [str(epoch) for epoch in range(1, 7)]
    assert [row["steps"] for row in rows(folder)] == [str(6 * epoch) for epoch in range(1, 7)]


def test_the_last_two_and_the_best_checkpoint_stay(folder: RunFolder) -> None:
    trained(folder, epochs=6)
    accuracies = [float(row["valid_accuracy"]) for row in rows(folder)]
    best = accuracies.index(max(accuracies)) + 1
    assert list(folder.checkpoints()) == sorted({best, 5, 6})


def test_the_last_checkpoint_holds_the_final_weights(folder: RunFolder) -> None:
    model = trained(folder)
    stored = load_tree(folder.checkpoint(3))["state_dict"]
    assert all(torch.equal(stored[f"model.{name}"], tensor) for name, tensor in model.state_dict().items())


def test_rows_beyond_the_checkpoint_are_cut_and_trained_again(folder: RunFolder) -> None:
    trained(folder)
    before, weights = rows(folder), folder.checkpoint(3).read_bytes()
    folder.checkpoint(3).unlink()
    with folder.metrics.open("a") as file:
        file.write("4,2")
    trained(folder)
    assert [{**row, "seconds": ""} for row in rows(folder)] == [{**row, "seconds": ""} for row in before]
    assert load_tree(folder.checkpoint(3))["state_dict"].keys() == load_tree(folder.checkpoint(2))["state_dict"].keys()
    assert folder.checkpoint(3).read_bytes() == weights


def test_a_run_killed_before_its_first_checkpoint_starts_anew(folder: RunFolder, tmp_path: Path) -> None:
    folder.metrics.write_text("epoch,steps\n1,6\n2")
    trained(folder)
    trained(fresh := RunFolder.create(tmp_path, "fresh", ""))
    assert folder.checkpoint(3).read_bytes() == fresh.checkpoint(3).read_bytes()


def test_a_finished_run_is_left_as_it_is(folder: RunFolder) -> None:
    trained(folder)
    before = folder.metrics.read_text()
    trained(folder)
    assert folder.metrics.read_text() == before


def test_a_metrics_file_that_lost_rows_is_refused(folder: RunFolder) -> None:
    trained(folder, epochs=2)
    folder.metrics.write_text(folder.metrics.read_text().splitlines()[0] + "\n")
    with pytest.raises(RunError, match=r"metrics\.csv has 0 rows"):
        trained(folder, epochs=3)


def test_bad_data_stop_the_run_with_their_place(folder: RunFolder) -> None:
    with pytest.raises(DataError, match="train batch 0 of epoch 1 holds values that are not finite"):
        trained(folder, NanEvents())


def test_accumulated_halves_are_the_whole_batch(tmp_path: Path) -> None:
    weights = []
    for batch, accumulate in ((8, 1), (4, 2)):
        seed_everything(0)
        data = TinyEvents(batch_size=batch)
        model = Exact(data.feature_shape, 3, hidden=(16,))
        folder = RunFolder.create(tmp_path, "run", "")
        options = TrainerOptions(2, accelerator="cpu", precision="64-true", accumulate=accumulate)
        fit(model, data, folder, optim=Optimiser(lr=1e-2), options=options, seed=0)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert rows(folder)[-1]["steps"] == "12"
    torch.testing.assert_close(*weights, rtol=0, atol=1e-14)
