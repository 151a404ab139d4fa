"""What each command does, and how it ends."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from spikenet.cli.bench import bench
from spikenet.cli.data import data
from spikenet.cli.energy import called_work, energy_options, show
from spikenet.cli.exchange import convert, export, import_
from spikenet.cli.launch import leave_word
from spikenet.cli.options import parse
from spikenet.cli.runs import Run, config_text, stored
from spikenet.cli.screen import described, introduce, say, show_table
from spikenet.cli.simulate import simulate
from spikenet.cli.text import evaluate_text, is_text, text_work
from spikenet.cli.text import generate as _generate
from spikenet.errors import ArgumentError, RunError, SpikenetError, UnknownNameError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``spikenet``; without it those of the process.

    Returns:
        Exit code: 0 done, 1 refused or failed with one line on stderr, 2 wrong options, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        say(_usage())
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
    its last complete epoch. ``--devices N`` lets N devices share each batch, with ``--strategy ddp`` or ``fsdp``.
    """
    if "--resume" in words:
        return _resume(words)
    parser, options = parse(described(train), words)
    results = [_new_run(parser, options, seed) for seed in options.seeds]
    if len(results) > 1:
        say(_mean(options.dataset, results))
    return 0


def report(words: Sequence[str]) -> int:
    """Evaluate a finished run again on its test part and rewrite its report: ``spikenet report RUN_FOLDER``."""
    if words and words[0] in ("-h", "--help"):
        say(described(report))
        return 0
    run = _reopen("report", words)
    _evaluate(run)
    return 0


def energy(words: Sequence[str]) -> int:
    """Count the operations of a finished run on its test part and price them: ``spikenet energy RUN_FOLDER``.

    ``spikenet energy MODULE:CALLABLE`` counts one call of the network on the input that the callable returns.
    ``--model`` and ``--profile`` choose the price list and its constants, ``--json`` and ``--csv`` write files.
    """
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        raise ArgumentError("what to count comes first: spikenet energy RUN_FOLDER or MODULE:CALLABLE.")
    options = energy_options(words, described(energy))
    if ":" in options.subject:
        work = called_work(options.subject)
    else:
        run = _reopen("energy", [options.subject])
        work = text_work(run) if is_text(run.data) else run.test().work
    show(work, options)
    return 0


def generate(words: Sequence[str]) -> int:
    """Write on with a trained language model: ``spikenet generate RUN_FOLDER --prompt TEXT``."""
    return _generate(words, _reopen)


def info(words: Sequence[str]) -> int:
    """Print versions, threads and devices."""
    from spikenet.training.run import environment

    found = environment()
    versions = found.pop("versions")
    for name, value in {**found, **versions}.items():
        say(f"{name:>14}  {value}")
    return 0


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "report": report,
    "energy": energy,
    "generate": generate,
    "simulate": simulate,
    "data": data,
    "bench": bench,
    "export": export,
    "convert": convert,
    "import": import_,
    "info": info,
}


def _new_run(parser: Any, options: Any, seed: int) -> float:
    from spikenet.training import RunFolder
    from spikenet.training.processes import check_devices, launched

    if launched():
        raise RunError("spikenet train starts its processes itself: leave torchrun out and say --devices N.")
    run = Run(options, seed)
    check_devices(run.trainer.accelerator, run.trainer.devices)
    introduce(run.data)
    name = f"{options.preset or options.dataset}-seed{seed}"
    run.folder = RunFolder.create(options.out, name, config_text(parser, options, seed))
    return _finish(run)


def _mean(dataset: str, results: Sequence[float]) -> str:
    """Mean and standard deviation over seeds: bits for a text, else an accuracy."""
    from spikenet.data import TEXTS

    what, factor, unit = ("bits per character", 1, "") if dataset in TEXTS else ("test accuracy", 100, " %")
    mean, spread = statistics.mean(results), statistics.stdev(results)
    return f"mean {what} of {len(results)} seeds: {factor * mean:.2f} ± {factor * spread:.2f}{unit}"


def _resume(words: Sequence[str]) -> int:
    if len(words) != 2 or words[0] != "--resume":
        raise ArgumentError(
            "a run is resumed with the options stored in it: spikenet train --resume RUN_FOLDER, and nothing else."
        )
    from spikenet.training.processes import launched

    run = stored(words[1])
    if launched():
        run.fit()
        return 0
    introduce(run.data)
    _finish(run)
    return 0


def _finish(run: Run) -> float:
    """Train what is left to train, then evaluate and report; returns the test accuracy."""
    say(f"run folder: {run.folder.path}")
    with _resumable(run.folder):
        run.train()
        return _evaluate(run)


def _evaluate(run: Run) -> float:
    """Evaluate on the test part, write results and report, and say what came out."""
    if is_text(run.data):
        return evaluate_text(run)
    from spikenet.energy import compare
    from spikenet.training import report as write
    from spikenet.training.energy_report import energy_table

    result = run.test()
    write(run.folder, run.model, run.data, result, run.facts())
    rates = "  ".join(f"{name} {rate:.1%}" for name, rate in result.work.rates.items())
    say(f"\n{run.data.name}, seed {run.seed}")
    say(f"test accuracy: {result.accuracy:.2%} ({result.correct} of {result.samples})")
    say(f"firing rates (spikes per neuron and step): {rates}")
    _print_table(energy_table(compare(result.work)))
    say(f"report: {run.folder.report}")
    return result.accuracy


def _reopen(command: str, words: Sequence[str]) -> Run:
    """A finished run with its final weights."""
    if len(words) != 1 or words[0].startswith("-"):
        raise ArgumentError(f"one run folder is needed: spikenet {command} RUN_FOLDER.")
    run = stored(words[0])
    run.load()
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


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name not in _COMMANDS:
        raise UnknownNameError("command", name, _COMMANDS)
    return _COMMANDS[name]


def _usage() -> str:
    lines = [f"  {name:<8} {described(command).splitlines()[0]}" for name, command in _COMMANDS.items()]
    last = "Options of a command: spikenet COMMAND --help; with a preset: spikenet train --preset NAME --help"
    return "\n".join(["usage: spikenet COMMAND [options]", "", *lines, "", last])


def _print_table(table: Any) -> None:
    show_table(table.columns, table.rows, table.numbers)


def _fail(reason: Any, code: int) -> int:
    """One line on stderr, however many the reason has; one process of several tells who started it."""
    line = " ".join(str(reason).split())
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        leave_word(line)
    else:
        sys.stderr.write(f"spikenet: {line}\n")
    return code
