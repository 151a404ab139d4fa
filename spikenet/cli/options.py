"""The options of a run: presets, files and the command line, and the parser that knows them all.

Which options there are depends on the data set and the network, so these two are looked up first (command line, then
the files given, then the preset), and the parser is built for them.
"""

from __future__ import annotations

import argparse
import glob
import importlib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from spikenet.errors import RunError, UnknownNameError

PRESETS = Path(__file__).parents[1] / "presets"
_SHORT = ("--devices", "--strategy", "--precision", "--accumulate")  # what the trainer's options are also called
_GIVEN_BY_DATA = {"in_shape", "classes", "vocabulary"}


def parse(description: str, words: Sequence[str]) -> tuple[Any, Any]:
    """Find data set and network, build the parser for them, and parse; files come before the command line.

    Args:
        description: what the help says first.
        words: the command line.

    Returns:
        The parser and the options; `threads` is resolved to a number.
    """
    import torch

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", action="append", default=[])
    for name in ("--preset", "--dataset", "--network"):
        first.add_argument(name)
    given, _ = first.parse_known_args(list(words))
    mine = [Path(path) for path in given.config]
    preset = given.preset or _from_files(mine, "preset")
    start = _preset(preset) if preset else None
    files = [start, *mine] if start else mine
    chosen = {name: getattr(given, name) or _from_files(files, name) for name in ("dataset", "network")}
    parser = _train_parser(description, chosen["dataset"] or "digits-dvs", chosen["network"] or "SpikingMLP", start)
    options = parser.parse_args([_in_full(word) for word in words])
    options.threads = options.threads or max(1, torch.get_num_threads() // options.trainer.devices)
    return parser, options


def _in_full(word: str) -> str:
    """``--devices`` for ``--trainer.devices``, and its like."""
    name, equals, value = word.partition("=")
    return f"--trainer.{name[2:]}{equals}{value}" if name in _SHORT else word


def _train_parser(description: str, dataset: str, network: str, start: Path | None) -> Any:
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    from spikenet.training import Optimiser, TrainerOptions

    parser = parser_for("spikenet train", description, start)
    parser.add_argument("--preset", type=str | None, help=f"start from a preset: {', '.join(_presets())}")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument(
        "--dataset", type=str, default=dataset, help="data set: a name, or the import path of a data module"
    )
    parser.add_argument("--network", type=str, default=network, help="network: a name, or the import path of a module")
    parser.add_argument("--neuron", type=str | None, help=f"in the place of LIF: {', '.join(_neurons())}, or a class")
    parser.add_argument("--seeds", "--seed", type=NonNegativeInt, nargs="+", default=[0], help="one run for each seed")
    parser.add_argument(
        "--threads", type=PositiveInt | None, help="threads of each process's CPU kernels (default: torch's choice)"
    )
    parser.add_argument("--out", type=str, default="runs", help="folder for the run folders")
    parser.add_argument(
        "--resume", type=str | None, metavar="RUN_FOLDER", help="go on with a stopped run; takes no other option"
    )
    parser.add_class_arguments(dataset_class(dataset), "data", skip={"seed"}, instantiate=False)
    parser.add_class_arguments(network_class(network), "model", skip=_GIVEN_BY_DATA)
    parser.add_class_arguments(Optimiser, "optim")
    parser.add_class_arguments(TrainerOptions, "trainer")
    return parser


def parser_for(prog: str, description: str, start: Path | None = None) -> Any:
    """A parser whose errors are raised, not printed; a file's values may take the place of the defaults."""
    import jsonargparse

    files: list[Any] = [glob.escape(str(start))] if start else []  # they are patterns
    return jsonargparse.ArgumentParser(
        prog=prog, description=description, exit_on_error=False, default_config_files=files
    )


def dataset_class(name: str) -> type:
    """The data module of this name, or at this import path."""
    from spikenet.data import SETS, TEXTS

    known: dict[str, type] = {**SETS, **TEXTS}
    return known[name] if name in known else _imported("data set", name, known)


def network_class(name: str) -> type:
    """The network of this name, or at this import path; its sizes come from the data."""
    from torch.nn import Module

    from spikenet import models

    every = {known: getattr(models, known) for known in models.__all__}
    networks = {known: kind for known, kind in every.items() if isinstance(kind, type) and issubclass(kind, Module)}
    return networks[name] if name in networks else _imported("network", name, networks)


def neuron_class(name: str) -> type:
    """The neuron of this name, or at this import path, that takes the place of LIF."""
    from spikenet.models import STAND_INS

    return STAND_INS[name] if name in STAND_INS else _imported("neuron to take the place of LIF", name, STAND_INS)


def _neurons() -> list[str]:
    from spikenet.models import STAND_INS

    return list(STAND_INS)


def _imported(kind: str, name: str, known: Collection[str]) -> type:
    """A class by its import path, ``package.module.Class``."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise UnknownNameError(kind, name, known)
    if "" not in sys.path:
        sys.path.insert(0, "")  # the caller's own modules, as `python -m` finds them
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RunError(f"{kind} {name!r} cannot be imported: {error}.") from error


def _presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _preset(name: str) -> Path:
    if name not in _presets():
        raise UnknownNameError("preset", name, _presets())
    return PRESETS / f"{name}.yaml"


def _from_files(files: Sequence[Path], key: str) -> str | None:
    """The last file that names `key` wins."""
    found = None
    for path in files:
        found = mapping(path).get(key, found)
    return found


def mapping(path: Path) -> dict[str, Any]:
    """What a YAML file of options says.

    Raises:
        RunError: for a file that is missing, or is no such file.
    """
    import yaml

    if not path.is_file():
        raise RunError(f"{path} does not exist.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}; options are needed, such as `seeds: [0]`.")
    return content
