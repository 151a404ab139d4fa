"""What ``spikenet energy`` prints and writes."""

from __future__ import annotations

import csv
import importlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikenet.cli.screen import say, show_table
from spikenet.errors import ArgumentError, RunError


def energy_options(words: Sequence[str], description: str) -> Any:
    """The options of ``spikenet energy``: what to count, how to price it, where to write."""
    from spikenet.cli.options import parser_for
    from spikenet.energy import MODELS, profiles

    parser = parser_for("spikenet energy", description)
    parser.add_argument("subject", type=str, help="a run folder, or module:callable that returns (network, input)")
    parser.add_argument("--model", type=str | None, help=f"price list: {', '.join(MODELS)}")
    parser.add_argument("--profile", type=str | None, help=f"constants: a TOML file, or {', '.join(profiles())}")
    parser.add_argument("--json", type=str | None, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--csv", type=str | None, metavar="FILE", help="write one row a layer as CSV")
    return parser.parse_args(list(words))


def called_work(subject: str) -> Any:
    """The count of one call of what ``module:callable`` returns: a network and its input ``[T, B, ...]``."""
    import torch

    from spikenet.energy import count

    network, x = _called(subject)
    network.eval()
    with torch.inference_mode(), count(network) as work:
        network(x)
    return work


def show(work: Any, options: Any) -> None:
    """Tables on the screen, the assumptions under them, and the files that were asked for."""
    from spikenet.energy import compare, energy_model
    from spikenet.training.energy_report import cause_table, connection_table, energy_table, layer_rows, neuron_table

    compared = compare(work, energy_model(options.model, options.profile))
    tables = connection_table(work), neuron_table(work), energy_table(compared), cause_table(compared.snn)
    for table in tables:
        show_table(table.columns, table.rows, table.numbers)
    for assumption in compared.assumptions:
        say(f"- {assumption}")
    rows = layer_rows(work, compared.snn)
    if options.csv:
        _write(options.csv, _as_csv(rows))
    if options.json:
        networks = {name: energy.summary() for name, energy in compared._asdict().items()}
        found = {"samples": work.samples, "steps": work.T, "uncounted": work.uncounted, "layers": rows, **networks}
        _write(options.json, json.dumps(found, indent=2) + "\n")


def _called(subject: str) -> tuple[Any, Any]:
    module, _, attribute = subject.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the caller's own modules, as `python -m` finds them
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise RunError(f"{subject!r} cannot be called: {error}.") from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise ArgumentError(f"{subject} returned {type(made).__name__}; a tuple (network, input) is needed.")
    return made


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval=0.0, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path: str, text: str) -> None:
    from spikenet.cache import write_atomically

    write_atomically(Path(path), text.encode())
    say(f"written: {path}")
