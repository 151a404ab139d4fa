"""``spikenet bench``: a grid of runs, and the one table that comes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikenet.cli.bench_table import write_table
from spikenet.cli.grid import Cell, Grid, Setting, deciding, read_grid
from spikenet.cli.runs import Run, data_of, network_of, stored
from spikenet.cli.screen import described, say
from spikenet.cli.text import is_text, text_work
from spikenet.errors import ArgumentError, RunError

_DONE = "cell.json"  # what is measured of a cell: written last, so that it says that the cell is done


def bench(words: Sequence[str]) -> int:
    """Train and measure a grid of networks, data sets, neurons, time steps and seeds: ``spikenet bench GRID.yaml``.

    The file, or the command line, lists ``presets`` or ``networks``, and what to vary: ``datasets``, ``neurons`` (in
    the place of LIF), ``steps`` (into how many steps the data's span of time is cut) and ``seeds``. Names may carry
    options of their own (``networks: {SpikingMLP: {hidden: [64]}}``); ``options``, or the options of ``spikenet train``
    on the command line, are those of every run. Each run has a folder in ``--out``; the same command goes on where
    it was stopped, and ends with the same table: table.csv, table.json and table.html.
    """
    grid = read_grid(words, described(bench))
    cells, refused = grid.cells()
    refused |= _impossible(grid, cells)
    for setting, reason in refused.items():
        say(f"refused: {setting.name}: {reason}")
    cells = [cell for cell in cells if cell.setting not in refused]
    if not cells:
        raise ArgumentError("no combination of this grid is possible; the reasons stand above.")
    _say_changes(grid, cells)
    started, trained = time.perf_counter(), 0
    for number, cell in enumerate(cells, start=1):
        left = (time.perf_counter() - started) / trained * (len(cells) - number + 1) / 60 if trained else 0.0
        about = f", about {left:.0f} min to go" if left >= 1 else ""
        if _done(grid, cell) is None:
            say(f"\n[{number}/{len(cells)}] {cell.name}{about}")
            _run(grid, cell)
            trained += 1
        else:
            say(f"[{number}/{len(cells)}] {cell.name}: done before")
        write_table(grid.out, [(each, found) for each in cells if (found := _done(grid, each))], refused)
    write_table(grid.out, [(each, _done(grid, each) or {}) for each in cells], refused, show=True)
    return 0


def _folder(grid: Grid, cell: Cell) -> Path:
    return grid.out / "runs" / cell.folder


def _done(grid: Grid, cell: Cell) -> dict[str, Any] | None:
    """What was measured of a cell, once it is done."""
    path = _folder(grid, cell) / _DONE
    return json.loads(path.read_text()) if path.is_file() else None


def _impossible(grid: Grid, cells: Sequence[Cell]) -> dict[Setting, str]:
    """The settings whose network does not go with the data: each is built and tried on one sample beforehand."""
    first: dict[Setting, Cell] = {}
    for cell in cells:
        first.setdefault(cell.setting, cell)
    known = {cell.setting for cell in cells if _done(grid, cell)}
    found = {setting: _reason(cell) for setting, cell in first.items() if setting not in known}
    return {setting: reason for setting, reason in found.items() if reason}


def _reason(cell: Cell) -> str:
    """Why a network cannot be run on its data, or nothing. Data that are missing are an error of their own."""
    import torch

    from spikenet.events import EventTensor

    data = data_of(cell.options, cell.seed)
    try:
        network = network_of(cell.options, data).eval()
        x, _ = next(iter(data.test_dataloader()))
        with torch.inference_mode():
            network(EventTensor.stack([x.entry(0)]) if isinstance(x, EventTensor) else x[:, :1])
    except ArgumentError as error:
        return str(error)
    return ""


def _say_changes(grid: Grid, cells: Sequence[Cell]) -> None:
    """Name the runs whose options are not what they were."""
    for cell in cells:
        folder = _folder(grid, cell)
        for old in () if folder.exists() else sorted(folder.parent.glob(f"{cell.name}-????????/config.yaml")):
            before, now = deciding(old.read_text(encoding="utf-8")), deciding(cell.text)
            names = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
            changes = ", ".join(f"{name} {before.get(name)} -> {now.get(name)}" for name in names)
            say(f"changed: {cell.name}: {changes}; {old.parent.name} is left alone, and a new run made")


def _run(grid: Grid, cell: Cell) -> None:
    """Train what is left to train of a cell and measure it. A run that fails is recorded with its reason."""
    from spikenet.cache import write_atomically
    from spikenet.training import RunFolder

    folder = RunFolder.at(_folder(grid, cell), cell.text)
    try:
        run = stored(folder.path)
        if folder.weights.is_file():
            run.load()
        else:
            run.train()
        found = _measured(run)
        say("  ".join(f"{name} {found[name]:.4g}" for name in ("accuracy", "bits", "spikes") if name in found))
    except RunError as error:
        found = {"failed": str(error)}
        say(f"failed: {error}")
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{stop or 'interrupted'}; the same command goes on from there") from None
    write_atomically(folder.path / _DONE, (json.dumps(found, indent=2) + "\n").encode())


def _measured(run: Run) -> dict[str, Any]:
    """All that the table says of a run; results.json as every run has it."""
    import torch

    from spikenet.training import seconds_per_sample, training_memory
    from spikenet.training.report import history

    found, work = _tested(run)
    device = "cuda" if torch.cuda.is_available() and run.trainer.accelerator != "cpu" else "cpu"
    batch = next(iter(run.data.train_dataloader()))
    module = run.module(run.model, len(run.data.classes), run.optim)
    return {
        "data": run.data.name,
        **found,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "steps": work.T,
        **_spent(work),
        "memory_mb": training_memory(module, batch, device) / 1e6,
        "train_s": sum(row["seconds"] for row in history(run.folder)),
        "inference_ms": 1e3 * seconds_per_sample(run.model, run.data.test_dataloader(), device=device),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads",
    }


def _tested(run: Run) -> tuple[dict[str, Any], Any]:
    """How good it is on the test part, and the operations that took."""
    if is_text(run.data):
        from spikenet.training import bits_per_token

        bits, work = bits_per_token(run.model, run.data.parts.test), text_work(run)
        return {"test_samples": work.samples, "bits": bits}, work
    from spikenet.training import write_results

    result = run.test()
    write_results(run.folder, result)
    return {"test_samples": result.samples, "accuracy": result.accuracy}, result.work


def _spent(work: Any) -> dict[str, float]:
    """Spikes and energies of a sample: the network and its dense twins, also both with few bits."""
    from spikenet.energy import StepStyle, compare, firing_rate, with_bits

    field, memory, few = compare(work), compare(work, StepStyle()), compare(with_bits(work, 8, 16), StepStyle())
    priced = {
        "field_snn_nj": field.snn,
        "field_ann_nj": field.ann_frame,
        "snn_nj": memory.snn,
        "ann_nj": memory.ann_frame,
        "ann_steps_nj": memory.ann_steps,
        "snn_8bit_nj": few.snn,
        "ann_8bit_nj": few.quantised,
    }
    spiking = [layer for layer in work.layers if layer.operation == "neuron" and layer.bits.output == 1]
    spikes = sum(layer.spikes for layer in spiking) / max(work.samples, 1)
    return {"spikes": spikes, "rate": firing_rate(work)} | {name: each.total / 1e3 for name, each in priced.items()}
