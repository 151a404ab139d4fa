"""The table of `spikenet bench`: a row a setting, mean and spread over its seeds."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spikenet.cache import write_atomically
from spikenet.cli.grid import Cell, Setting
from spikenet.cli.screen import say, show_table

MEASURED = ("memory_mb", "train_s", "inference_ms")
"""Columns that are measured; every other follows from the grid alone."""
_NUMBERS = {
    "accuracy": "share of the test part, whose size is test_samples, that was recognised, with the weights of the last "
    "epoch: nothing was selected on the test part",
    "bits": "of a text: bits per character of its test part",
    "parameters": "learned numbers",
    "spikes": "sent a sample, summed over neurons and steps",
    "rate": "share of the inputs of connections that are spikes",
    "field_snn_nj": "nJ a sample by the field's formula, accumulates and multiply-accumulates of 32 bits",
    "field_ann_nj": "the same of the dense twin, an ANN of the same layers on one frame",
    "snn_nj": "nJ a sample in the style of STEP: operations by their bits, and every bit read or written",
    "ann_nj": "the same of the dense twin on one frame",
    "ann_steps_nj": "the same of the dense twin at every time step",
    "snn_8bit_nj": "snn_nj with weights of 8 bits and states of 16",
    "ann_8bit_nj": "the quantised twin: weights of 8 bits, activations of ceil(log2(T + 1))",
    "memory_mb": "most that torch holds at once in a training step of one batch: weights, gradients, moments, states",
    "train_s": "seconds of all complete epochs, with their validation",
    "inference_ms": "milliseconds a sample in batches of the run's size, on the device named",
}
_ON_SCREEN = ("accuracy", "bits", "spikes", "snn_8bit_nj", "ann_8bit_nj", "train_s")
_ON_PAGE = ("accuracy", "bits", "parameters", "spikes", "snn_nj", "ann_nj", "snn_8bit_nj", "ann_8bit_nj", *MEASURED)
Found = tuple[Cell, Mapping[str, Any]]


def write_table(out: Path, cells: Sequence[Found], refused: Mapping[Setting, str], *, show: bool = False) -> None:
    """Write table.csv, table.json and table.html, each at once; `show` says them too.

    Args:
        out: the folder.
        cells: the runs that are done, with what was measured of them.
        refused: the settings that have no meaning, with the reason.
        show: print the table and where it lies.
    """
    rows = [_row(setting, group) for setting, group in _grouped(cells).items()]
    rows += [{**_head(setting), "note": f"refused: {reason}"} for setting, reason in refused.items()]
    each = [{**_head(cell.setting), "seed": cell.seed, "run": cell.folder, **found} for cell, found in cells]
    told = {"columns": _NUMBERS, "rows": rows, "runs": each}
    write_atomically(out / "table.json", (json.dumps(told, indent=2) + "\n").encode())
    write_atomically(out / "table.csv", _csv(rows).encode())
    _write_page(out / "table.html", out.name, rows, len(cells))
    if show:
        columns, shown = _shown(rows, _ON_SCREEN)
        say("")
        show_table(columns[:-1], [row[:-1] for row in shown], range(3, len(columns)))
        say(f"table: {out / 'table.html'}, table.csv, table.json")


def _grouped(cells: Sequence[Found]) -> dict[Setting, list[Found]]:
    groups: dict[Setting, list[Found]] = {}
    for cell, found in cells:
        groups.setdefault(cell.setting, []).append((cell, found))
    return groups


def _head(setting: Setting) -> dict[str, Any]:
    names = {name: value.rpartition(".")[2] for name, value in setting._asdict().items() if name != "steps"}
    return {**names, "steps": setting.steps}


def _row(setting: Setting, group: Sequence[Found]) -> dict[str, Any]:
    """Means and standard deviations of the runs that did not fail."""
    good = [found for _, found in group if "failed" not in found]
    row: dict[str, Any] = {**_head(setting), "network": group[0][0].options.network.rpartition(".")[2]}
    row |= {"seeds": " ".join(str(cell.seed) for cell, found in group if "failed" not in found)}
    if good:
        row |= {name: good[0][name] for name in ("data", "test_samples", "steps", "device")}
    for name in _NUMBERS:
        values = [found[name] for found in good if name in found]
        if values:
            row[f"{name}_mean"] = statistics.fmean(values)
        if len(values) > 1:
            row[f"{name}_sd"] = statistics.stdev(values)
    failures = [f"seed {cell.seed} failed: {found['failed']}" for cell, found in group if "failed" in found]
    return {**row, "note": "; ".join(failures)}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    numbers = [f"{name}_{what}" for name in _NUMBERS for what in ("mean", "sd")]
    head = ("dataset", "data", "test_samples", "model", "network", "neuron", "steps", "seeds")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*head, *numbers, "device", "note"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _shown(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table for people: what some row has, mean and spread in one cell."""
    names = [name for name in wanted if any(f"{name}_mean" in row for row in rows)]
    shown = []
    for row in rows:
        setting = [row["dataset"], row["model"], row["neuron"] or "its own", str(row["steps"])]
        numbers = [_number(row, name) for name in names]
        shown.append([*setting, *numbers, str(len(row.get("seeds", "").split())), row["note"]])
    return ["data set", "model", "neurons", "T", *names, "seeds", "note"], shown


def _number(row: Mapping[str, Any], name: str) -> str:
    mean, spread = row.get(f"{name}_mean"), row.get(f"{name}_sd")
    if mean is None:
        return ""
    digits, factor, unit = (2, 100, " %") if name == "accuracy" else (2 if mean < 100 else 0, 1, "")
    around = "" if spread is None else f" ± {factor * spread:,.{digits}f}"
    return f"{factor * mean:,.{digits}f}{around}{unit}"


def _write_page(path: Path, title: str, rows: Sequence[Mapping[str, Any]], runs: int) -> None:
    from spikenet.analysis import Table, write_tables

    columns, shown = _shown(rows, _ON_PAGE)
    headline = {"runs": str(runs), "settings": str(len(rows))}
    tests = sorted({f"{row['data']}: {row['test_samples']} test samples" for row in rows if "data" in row})
    notes = [*tests, *(f"{name}: {meaning}" for name, meaning in _NUMBERS.items())]
    notes.append("A mean over seeds carries its standard deviation (n - 1).")
    table = Table(columns, shown, range(3, len(columns) - 1))
    write_tables(f"Grid {title}", headline, {"Mean over seeds": table}, notes, path)
