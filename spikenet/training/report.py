"""What is kept of a finished run: the results as JSON and the report as one HTML page."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from spikenet.analysis import Report, write_report
from spikenet.cache import write_atomically
from spikenet.energy import Comparison, compare, record
from spikenet.events import EventTensor
from spikenet.training.energy_report import connection_table, energy_table, neuron_table, pictures
from spikenet.training.evaluate import Evaluation
from spikenet.training.run import WEIGHTS_RULE, RunFolder

_PICTURES = 6


def report(folder: RunFolder, model: nn.Module, data: Any, evaluation: Evaluation, facts: Mapping[str, str]) -> None:
    """Write ``results.json`` and ``report.html`` into the run folder.

    Args:
        folder: the run.
        model: the trained network.
        data: a set up data module: `name`, `classes`, `raw`, `test_dataloader`, and the step in `dt_us` if it has a
            fixed length.
        evaluation: what `evaluate` found on the test part.
        facts: what else the report should state, name -> value.
    """
    write_results(folder, evaluation)
    x = _first_samples(data)
    model.eval()
    with torch.inference_mode(), record(model) as sent:
        predicted = model(x).argmax(-1).tolist()
    write_report(_page(folder, data, evaluation, facts, x, sent, predicted), folder.report)


def write_results(folder: RunFolder, evaluation: Evaluation) -> None:
    """Write ``results.json`` into the run folder."""
    write_atomically(folder.results, (json.dumps(evaluation.summary(), indent=2) + "\n").encode())


def _page(
    folder: RunFolder,
    data: Any,
    evaluation: Evaluation,
    facts: Mapping[str, str],
    x: EventTensor,
    sent: Mapping[str, Any],
    predicted: Sequence[int],
) -> Report:
    energy = compare(evaluation.work)
    raw = data.raw("test")
    recordings = [raw[index] for index in range(len(predicted))]
    return Report(
        title=f"{data.name}: run {folder.path.name}",
        headline=headline(evaluation, energy, data),
        facts={**facts, "weights": WEIGHTS_RULE},
        history=history(folder),
        confusion=evaluation.confusion.numpy(),
        classes=data.classes,
        recordings=[
            (stream, data.classes[label], data.classes[guess])
            for (stream, label), guess in zip(recordings, predicted, strict=True)
        ],
        rasters={
            name: _first_raster(output, int(x.lengths[0]))
            for name, output in sent.items()
            if name in evaluation.work.rates
        },
        dt_ms=getattr(data, "dt_us", 0) / 1000 or None,
        rates=evaluation.work.rates,
        energy=energy_table(energy),
        layers=(connection_table(evaluation.work), neuron_table(evaluation.work)),
        assumptions=energy.assumptions,
        pictures=pictures(evaluation.work),
        environment=_environment(folder),
    )


def headline(evaluation: Evaluation, energy: Comparison, data: Any) -> dict[str, str]:
    """The facts to be seen first."""
    return {
        f"test accuracy ({evaluation.correct} of {evaluation.samples})": f"{evaluation.accuracy:.2%}",
        "classes": str(len(data.classes)),
        "energy per sample, as priced below": f"{energy.snn.total / 1e3:,.1f} nJ",
        "dense ANN twin on one frame, against it": f"{energy.ratio:.2f} x",
        "dense ANN twin at every step, against it": f"{energy.ratio_steps:.1f} x",
    }


def history(folder: RunFolder) -> list[dict[str, float]]:
    """The rows of metrics.csv as numbers."""
    with folder.metrics.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _first_samples(data: Any) -> EventTensor:
    """The first test samples, as the network saw them."""
    x, _ = next(iter(data.test_dataloader()))
    return EventTensor.stack([x.entry(b) for b in islice(range(x.batch), _PICTURES)])


def _first_raster(output: torch.Tensor, steps: int) -> np.ndarray:
    return output[:steps, 0].flatten(1).cpu().numpy()


def _environment(folder: RunFolder) -> dict[str, str]:
    found = folder.environment()
    versions = found.pop("versions")
    plain = {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in found.items()}
    return {name: value for name, value in {**plain, **versions}.items() if value}
