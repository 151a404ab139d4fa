"""The command ``spikenet``: train, report, energy, data, info.

Every option of a run can stand on the command line or in a YAML file; a preset is such a file that comes with spikenet.
Which options there are depends on the data set and the network, so these two are looked up first (command line, then
the files given, then the preset) and the parser is built for them.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikenet.errors import ArgumentError, RunError, SpikenetError, UnknownNameError

PRESETS = Path(__file__).parent / "presets"
_PARTS = {"train": "training", "val": "validation", "test": "test"}
_GIVEN_BY_DATA = {"in_shape", "classes"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``spikenet``; without it those of the process.

    Returns:
        Exit code: 0 done, 1 refused or failed with one line on stderr, 2 wrong options, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    try:
        return _command(words[0])(words[1:])
    except (argparse.ArgumentError, UnknownNameError) as error:
        return _fail(error, 2)
    except SpikenetError as error:
        return _fail(error, 1)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "interrupted", 130)


def train(words: Sequence[str]) -> int:
    """Train a network on an event data set and report on it.

    ``spikenet train --preset digits-dvs`` trains on the data that comes with spikenet; ``--help`` behind a preset shows
    every option with the preset's value. ``spikenet train --resume FOLDER`` goes on with a run that was stopped, after
    its last complete epoch.
    """
    if "--resume" in words:
        return _resume(words)
    parser, options = _parse(words)
    results = [_new_run(parser, options, seed) for seed in options.seeds]
    if len(results) > 1:
        spread = statistics.stdev(results)
        print(
            f"mean test accuracy of {len(results)} seeds: {100 * statistics.mean(results):.2f} ± {100 * spread:.2f} %"
        )
    return 0


def report(words: Sequence[str]) -> int:
    """Evaluate a finished run again on its test part and rewrite its report: ``spikenet report RUN_FOLDER``."""
    run = _reopen("report", words)
    _evaluate(run)
    return 0


def energy(words: Sequence[str]) -> int:
    """Count the operations of a finished run on its test part and price them: ``spikenet energy RUN_FOLDER``."""
    from spikenet.energy import price
    from spikenet.training import evaluate
    from spikenet.training.report import energy_table, layer_table

    run = _reopen("energy", words)
    result = evaluate(run.model, run.data.test_dataloader(), len(run.data.classes))
    _print_table(layer_table(result.work))
    _print_table(energy_table(price(result.work)))
    return 0


def data(words: Sequence[str]) -> int:
    """Say what a data set holds: ``spikenet data NAME [--data.OPTION VALUE ...]``."""
    from spikenet.data import SETS

    if not words or words[0].startswith("-"):
        print(f"{inspect.getdoc(data)}\nData sets: {', '.join(sorted(SETS))}")
        return 0 if words else 2
    parser = _parser("spikenet data NAME", "Say what a data set holds.")
    parser.add_class_arguments(_dataset(words[0]), "data", skip={"seed"})
    options = parser.parse_args(list(words[1:]))
    _introduce(_ready(_dataset(words[0])(**options.data.as_dict(), seed=0)))
    return 0


def info(words: Sequence[str]) -> int:
    """Print versions, threads and devices."""
    from spikenet.training.run import environment

    found = environment()
    versions = found.pop("versions")
    for name, value in {**found, **versions}.items():
        print(f"{name:>14}  {value}")
    return 0


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "report": report,
    "energy": energy,
    "data": data,
    "info": info,
}


class _Run:
    """Data, model and folder of one run, built from its resolved options."""

    def __init__(self, options: Any, seed: int) -> None:
        import torch

        from spikenet.training import Optimiser, TrainerOptions, seed_everything

        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        self.optim = Optimiser(**options.optim.as_dict())
        self.trainer = TrainerOptions(**options.trainer.as_dict())
        self.data = _ready(_dataset(options.dataset)(**options.data.as_dict(), seed=seed))
        seed_everything(seed)
        self.model = _build(_network(options.network), self.data, options.model.as_dict())
        self.folder: Any = None

    def facts(self) -> dict[str, str]:
        return {
            "data set": self.data.name,
            "classes": ", ".join(self.data.classes),
            "samples": _samples(self.data),
            "network": f"{self.options.network}, {sum(p.numel() for p in self.model.parameters()):,} parameters",
            "seed": str(self.seed),
            "epochs": str(self.options.trainer.epochs),
            "test part": "seen once, after the last epoch; nothing was chosen by it",
        }


def _new_run(parser: Any, options: Any, seed: int) -> float:
    from spikenet.training import RunFolder

    run = _Run(options, seed)
    _introduce(run.data)
    stored = options.clone()
    stored.seeds = [seed]
    for word in ("config", "preset", "resume"):
        stored.pop(word, None)
    text = parser.dump(stored, skip_validation=True)
    run.folder = RunFolder.create(options.out, f"{options.preset or options.dataset}-seed{seed}", text)
    return _finish(run)


def _resume(words: Sequence[str]) -> int:
    if len(words) != 2 or words[0] != "--resume":
        raise ArgumentError(
            "a run is resumed with the options stored in it: spikenet train --resume RUN_FOLDER, and nothing else."
        )
    run = _stored(words[1])
    _introduce(run.data)
    _finish(run)
    return 0


def _finish(run: _Run) -> float:
    """Train what is left to train, then evaluate and report; returns the test accuracy."""
    from spikenet.training import fit, save_weights

    print(f"run folder: {run.folder.path}", flush=True)
    with _resumable(run.folder):
        fit(run.model, run.data, run.folder, optim=run.optim, options=run.trainer, seed=run.seed)
        save_weights(run.model, run.folder.weights)
        return _evaluate(run)


def _evaluate(run: _Run) -> float:
    """Evaluate on the test part, write results and report, and say what came out."""
    from spikenet.energy import price
    from spikenet.training import evaluate
    from spikenet.training import report as write
    from spikenet.training.report import energy_table

    result = evaluate(run.model, run.data.test_dataloader(), len(run.data.classes))
    write(run.folder, run.model, run.data, result, run.facts())
    rates = "  ".join(f"{name} {rate:.1%}" for name, rate in result.work.rates.items())
    print(f"\n{run.data.name}, seed {run.seed}")
    print(f"test accuracy: {result.accuracy:.2%} ({result.correct} of {result.samples})")
    print(f"firing rates (spikes per neuron and step): {rates}")
    _print_table(energy_table(price(result.work)))
    print(f"report: {run.folder.report}", flush=True)
    return result.accuracy


def _reopen(command: str, words: Sequence[str]) -> _Run:
    """A finished run with its final weights."""
    from spikenet.training import load_weights

    if len(words) != 1 or words[0].startswith("-"):
        raise ArgumentError(f"one run folder is needed: spikenet {command} RUN_FOLDER.")
    run = _stored(words[0])
    load_weights(run.model, run.folder.weights)
    return run


def _stored(path: str) -> _Run:
    """A run as its folder describes it."""
    from spikenet.training import RunFolder

    folder = RunFolder.open(path)
    _, options = _parse(["--config", str(folder.config)])
    run = _Run(options, options.seeds[0])
    run.folder = folder
    return run


@contextmanager
def _resumable(folder: Any) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        saved = max(folder.checkpoints(), default=0)
        reason = str(stop) or "interrupted"
        command = f"spikenet train --resume {folder.path}"
        raise KeyboardInterrupt(f"{reason}; {saved} complete epochs are saved. Go on with: {command}") from None


def _parse(words: Sequence[str]) -> tuple[Any, Any]:
    """Find data set and network, build the parser for them, and parse; files come before the command line."""
    import torch

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", action="append", default=[])
    for name in ("--preset", "--dataset", "--network"):
        first.add_argument(name)
    given, _ = first.parse_known_args(list(words))
    mine = [Path(path) for path in given.config]
    preset = given.preset or _from_files(mine, "preset")
    files = [_preset(preset), *mine] if preset else mine
    chosen = {name: getattr(given, name) or _from_files(files, name) for name in ("dataset", "network")}
    parser = _train_parser(chosen["dataset"] or "digits-dvs", chosen["network"] or "SpikingMLP")
    options = parser.parse_args([*(["--config", str(files[0])] if preset else []), *words])
    options.threads = options.threads or torch.get_num_threads()
    return parser, options


def _train_parser(dataset: str, network: str) -> Any:
    from spikenet.training import Optimiser, TrainerOptions

    parser = _parser("spikenet train", inspect.getdoc(train) or "")
    parser.add_argument("--preset", type=str | None, help=f"start from a preset: {', '.join(_presets())}")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument(
        "--dataset", type=str, default=dataset, help="data set: a name, or the import path of a data module"
    )
    parser.add_argument("--network", type=str, default=network, help="network: a name, or the import path of a module")
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[0], help="one run for each seed")
    parser.add_argument("--threads", type=int | None, help="threads of the CPU kernels (default: torch's choice)")
    parser.add_argument("--out", type=str, default="runs", help="folder for the run folders")
    parser.add_argument(
        "--resume", type=str | None, metavar="RUN_FOLDER", help="go on with a stopped run; takes no other option"
    )
    parser.add_class_arguments(_dataset(dataset), "data", skip={"seed"}, instantiate=False)
    parser.add_class_arguments(_network(network), "model", skip=_GIVEN_BY_DATA)
    parser.add_class_arguments(Optimiser, "optim")
    parser.add_class_arguments(TrainerOptions, "trainer")
    return parser


def _parser(prog: str, description: str) -> Any:
    import jsonargparse

    return jsonargparse.ArgumentParser(prog=prog, description=description, exit_on_error=False)


def _build(network: type, data: Any, options: dict[str, Any]) -> Any:
    """A network whose sizes come from the data; its other options from the run."""
    return network(in_shape=tuple(data.feature_shape), classes=len(data.classes), **options)


def _ready(data: Any) -> Any:
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def _samples(data: Any) -> str:
    return ", ".join(f"{data.sizes[part]} {name}" for part, name in _PARTS.items())


def _introduce(data: Any) -> None:
    print(
        f"data set: {data.name}\nclasses ({len(data.classes)}): {', '.join(data.classes)}\nsamples: {_samples(data)}",
        flush=True,
    )


def _presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _preset(name: str) -> Path:
    if name not in _presets():
        raise UnknownNameError("preset", name, _presets())
    return PRESETS / f"{name}.yaml"


def _from_files(files: Sequence[Path], key: str) -> str | None:
    """The last file that names `key` wins."""
    import yaml

    found = None
    for path in files:
        if not path.is_file():
            raise RunError(f"--config: {path} does not exist.")
        content = yaml.safe_load(path.read_text()) or {}
        found = content.get(key, found)
    return found


def _dataset(name: str) -> type:
    from spikenet.data import SETS

    return SETS[name] if name in SETS else _imported("data set", name, SETS)


def _network(name: str) -> type:
    from spikenet import models

    return getattr(models, name) if name in models.__all__ else _imported("network", name, models.__all__)


def _imported(kind: str, name: str, known: Any) -> type:
    """A class by its import path, ``package.module.Class``."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError):
        raise UnknownNameError(kind, name, known) from None


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name not in _COMMANDS:
        raise UnknownNameError("command", name, _COMMANDS)
    return _COMMANDS[name]


def _usage() -> str:
    lines = [f"  {name:<8} {(inspect.getdoc(command) or '').splitlines()[0]}" for name, command in _COMMANDS.items()]
    return "\n".join(
        ["usage: spikenet COMMAND [options]", "", *lines, "", "Options of a command: spikenet COMMAND --help"]
    )


def _print_table(table: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate(table.columns):
        shown.add_column(name, justify="right" if column in table.numbers else "left")
    for row in table.rows:
        shown.add_row(*row)
    Console(highlight=False).print(shown)


def _fail(reason: Any, code: int) -> int:
    print(f"spikenet: {' '.join(str(reason).split())}", file=sys.stderr)
    return code
