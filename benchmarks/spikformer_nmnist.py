"""Five-fold cross-validation of the preset spikformer-nmnist on recordings of N-MNIST.

    python benchmarks/spikformer_nmnist.py FOLDER_WITH_TRAIN_ZIP [--quick] [--processes N] [--workers N] [--preset-only]

Folds are stratified, seed 0. Within the training part of each fold a tenth is held out, every recipe is trained on the
rest and scored on that tenth; the best (the first, if equal) is then trained on the whole training part and scored once
on the fold's test part, with the weights of its last epoch. `--preset-only` skips the choice and takes the preset.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from _compare import machine

from spikenet.data import NMNIST, EventData
from spikenet.data.recordings import Selection, hold_out
from spikenet.models import Spikformer
from spikenet.training import Optimiser, RunFolder, TrainerOptions, fit, seed_everything

FOLDS = 5
PRESET = yaml.safe_load((Path(__file__).parents[1] / "spikenet/presets/spikformer-nmnist.yaml").read_text())
# Other recipes, as what they change of the preset.
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "preset": {},
    "pool first": {"model": {"pool_before_neuron": True}},
    "shift 2": {"data": {"augment": {"RandomShift": 2}}},
}


class Part(NMNIST):
    """Chosen recordings of the training archive as training and test part."""

    def __init__(self, root: str, train: np.ndarray, test: np.ndarray, **options: Any) -> None:
        super().__init__(root, **options)
        self.chosen = train, test

    def read(self) -> EventData:
        everything = self.find(Path(self.root))["train"]
        train, test = (Selection(everything, numbers) for numbers in self.chosen)
        return EventData("N-MNIST", self.about.classes, self.about.sensor, train, test, test)


def score(root: str, train: np.ndarray, test: np.ndarray, recipe: str, epochs: int, workers: int) -> float:
    """Accuracy on `test` after training on `train`; nothing is chosen by it here."""
    merged = {key: {**PRESET[key], **RECIPES[recipe].get(key, {})} for key in ("data", "model", "optim", "trainer")}
    seed_everything(0)
    data = Part(root, train, test, workers=workers, **merged["data"])
    model = Spikformer(data.feature_shape, 10, **merged["model"])
    options = TrainerOptions(**{**merged["trainer"], "epochs": epochs})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = RunFolder.create(folder, "fold", "")
        fit(model, data, run, optim=Optimiser(**merged["optim"]), options=options, seed=0)
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        hits = [(model(x.to(device)).argmax(1).cpu() == y).float() for x, y in data.test_dataloader()]
    return torch.cat(hits).mean().item()


def fold(
    root: str, train: np.ndarray, test: np.ndarray, recipes: list[str], epochs: int, threads: int, workers: int
) -> Any:
    """The recipe that was chosen, the scores by which, and the accuracy on the test part."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    labels = NMNIST(root).find(Path(root))["train"].labels
    rest, inner = hold_out(labels[train], len(train) // 10, 1)
    scores = {name: score(root, train[rest], train[inner], name, epochs, workers) for name in recipes[1:] and recipes}
    best = max(recipes, key=lambda name: scores.get(name, 0.0))
    accuracy = score(root, train, test, best, epochs, workers)
    print(f"{time.perf_counter() - start:6.1f} s  {best}  test {accuracy:.3f}  inner validation {scores}", flush=True)
    return best, scores, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--quick", action="store_true", help="two epochs of two folds, the preset alone")
    parser.add_argument("--preset-only", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data, for each of those")
    options = parser.parse_args()
    from sklearn.model_selection import StratifiedKFold

    labels = NMNIST(options.root).find(Path(options.root))["train"].labels
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels))
    recipes = list(RECIPES)[: 1 if options.preset_only or options.quick else None]
    epochs = 2 if options.quick else PRESET["trainer"]["epochs"]
    threads = max(torch.get_num_threads() // options.processes, 1)
    rest = recipes, epochs, threads, options.workers
    jobs = [(options.root, train, test, *rest) for train, test in folds[: 2 if options.quick else FOLDS]]
    if options.processes == 1:
        results = [fold(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
            results = list(pool.map(fold, *zip(*jobs, strict=True)))
    accuracies = [accuracy for _, _, accuracy in results]
    spread = statistics.stdev(accuracies)
    print(
        f"test accuracy of {len(labels)} recordings in {len(accuracies)} folds: "
        f"{100 * statistics.mean(accuracies):.2f} ± {100 * spread:.2f} %"
    )
    print("RESULT " + json.dumps({"machine": machine(), "folds": results}))


if __name__ == "__main__":
    main()
