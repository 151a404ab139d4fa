"""The grid of `spikenet bench`: from a file and the command line to runs with all their options."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spikenet.cli.options import mapping, neuron_class, parse
from spikenet.cli.runs import config_text
from spikenet.errors import ArgumentError, UnknownNameError

_NAMED = ("presets", "networks", "datasets")
_LISTS = ("neurons", "steps", "seeds")
_WHOLE = ("data.augment", "data.mix")  # their values may be names with arguments
_HELP = {
    "presets": "models and data, as spikenet train knows them",
    "networks": "models by name, or by import path",
    "datasets": "data sets by name; without, those of the presets or digits-dvs",
    "neurons": "in the place of LIF",
    "steps": "time steps T",
    "seeds": "one run of everything for each (default: 0)",
}
_PLACE = {"presets": "", "networks": "model.", "datasets": "data."}  # what the options of a name belong to
_NOT_THE_RUN = ("threads", "out", "seeds")  # options that do not decide what is computed, or are in the name


class Setting(NamedTuple):
    """What a grid varies, besides the seed."""

    dataset: str
    model: str
    neuron: str
    steps: str

    @property
    def name(self) -> str:
        """For people and folders."""
        parts = (self.dataset, self.model, self.neuron, self.steps and f"T{self.steps}")
        return "-".join(part.rpartition(".")[2] for part in parts if part)


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        setting, seed: what it is.
        options: all of them, resolved.
        text: the same, as its folder keeps them.
    """

    setting: Setting
    seed: int
    options: Any
    text: str

    @property
    def name(self) -> str:
        return f"{self.setting.name}-seed{self.seed}"

    @property
    def folder(self) -> str:
        """Its folder's name, in which a change of any option shows."""
        digest = hashlib.sha256(json.dumps(deciding(self.text), sort_keys=True, default=str).encode())
        return f"{self.name}-{digest.hexdigest()[:8]}"


@dataclass
class Grid:
    """What to run.

    Attributes:
        presets, networks, datasets: name -> options of their own.
        neurons: in the place of LIF; empty keeps what the networks have.
        steps: time steps T; empty keeps what the data have.
        seeds: one run of everything for each.
        words: options of every run, as `spikenet train` takes them.
        out: where everything goes.
    """

    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    neurons: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    words: list[str] = field(default_factory=list)
    out: Path = Path("bench")

    def settings(self) -> Iterator[tuple[Setting, list[str]]]:
        """Every combination, and the words that make its options but for T."""
        models = [("preset", name, own) for name, own in self.presets.items()]
        models += [("network", name, own) for name, own in self.networks.items()]
        for (kind, model, own), dataset, neuron, T in itertools.product(
            models, self.datasets or {"": {}}, self.neurons or [""], self.steps or [0]
        ):
            words = [f"--{kind}", model, *_words(own, _PLACE[f"{kind}s"])]
            if dataset:
                words += ["--dataset", dataset, *_words(self.datasets[dataset], "data.")]
            if neuron:
                words += ["--neuron", neuron]
            yield Setting(dataset, model, neuron, str(T or "")), words + self.words

    def cells(self) -> tuple[list[Cell], dict[Setting, str]]:
        """All runs, and the settings that have no meaning, with the reason.

        Raises:
            UnknownNameError, argparse.ArgumentError: for a name or an option that there is none of.
        """
        cells: list[Cell] = []
        refused: dict[Setting, str] = {}
        for setting, words in self.settings():
            parser, options = parse("", words)
            if setting.neuron:
                neuron_class(setting.neuron)
            setting = setting._replace(dataset=options.dataset)
            try:
                if setting.steps:
                    parser, options = parse("", words + _at_steps(options, int(setting.steps)))
            except ArgumentError as error:
                refused[setting] = str(error)
                continue
            cells += [Cell(setting, seed, options, config_text(parser, options, seed)) for seed in self.seeds]
        return cells, refused


def read_grid(words: Sequence[str], description: str) -> Grid:
    """The grid that the words after `spikenet bench` describe: a file, lists, and options of every run.

    Raises:
        UnknownNameError: for a key of the file that means nothing.
        ArgumentError: for a grid without a model, or values that are none.
    """
    usage = "spikenet bench [GRID.yaml] [options, those of spikenet train too]"
    parser = argparse.ArgumentParser(usage=usage, description=description, allow_abbrev=False, exit_on_error=False)
    for name in (*_NAMED, *_LISTS):
        kind, one = int if name in ("steps", "seeds") else str, "T" if name == "steps" else name[:-1].upper()
        parser.add_argument(f"--{name}", nargs="+", type=kind, metavar=one, help=_HELP[name])
    parser.add_argument("--out", help="folder for the runs and the table (default: bench/NAME_OF_THE_FILE)")
    file = Path(words[0]) if words and not words[0].startswith("-") else None  # a later word is some option's value
    given, rest = parser.parse_known_args(list(words[1:] if file else words))
    found = mapping(file) if file else {}
    for key in found:
        if key not in (*_NAMED, *_LISTS, "options"):
            raise UnknownNameError("key of a grid", key, (*_NAMED, *_LISTS, "options"))
    found |= {name: each for name, each in vars(given).items() if each and name in (*_NAMED, *_LISTS)}
    grid = Grid(words=[*_words(found.pop("options", None) or {}, ""), *rest])
    for name, value in found.items():
        setattr(grid, name, _named(name, value) if name in _NAMED else _list(name, value))
    if not grid.presets and not grid.networks:
        raise ArgumentError("a grid needs models: presets or networks, in its file or behind --presets, --networks.")
    grid.out = Path(given.out or Path("bench") / (file.stem if file else "grid"))
    return grid


def deciding(text: str) -> dict[str, Any]:
    """The options that decide what a run computes, by their full names, from the text that its folder keeps."""
    import yaml

    return {name: value for name, value in flat(yaml.safe_load(text)).items() if name not in _NOT_THE_RUN}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optim": {"lr": 1}}` as `{"optim.lr": 1}`; what is one option stays whole."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        deeper = isinstance(value, Mapping) and f"{prefix}{name}" not in _WHOLE
        found |= flat(value, f"{prefix}{name}.") if deeper else {f"{prefix}{name}": value}
    return found


def _words(tree: Mapping[str, Any], prefix: str) -> list[str]:
    """Options as words of the command line, where JSON stands for lists and numbers."""
    return [
        word
        for name, value in flat(tree, prefix).items()
        for word in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
    ]


def _named(key: str, value: Any) -> dict[str, dict[str, Any]]:
    """Names, alone or each with its options."""
    named = dict.fromkeys(_list(key, value)) if not isinstance(value, Mapping) else value
    for name, own in named.items():
        if not isinstance(own, Mapping | None):
            raise ArgumentError(f"{key}: {name}: options are needed, such as `{name}: {{...}}`; received {own!r}.")
    return {str(name): dict(own or {}) for name, own in named.items()}


def _list(key: str, value: Any) -> list[Any]:
    values: list[Any] = value if isinstance(value, list) else [value]
    least = {"steps": 1, "seeds": 0}.get(key)
    for each in values:
        if not isinstance(each, str) if least is None else type(each) is not int or each < least:
            wanted = "names" if least is None else f"whole numbers from {least}"
            raise ArgumentError(f"{key}: {wanted} are needed, received {each!r}.")
    if len(set(values)) < len(values):
        raise ArgumentError(f"{key}: {values} names one of them twice.")
    return values


def _at_steps(options: Any, T: int) -> list[str]:
    """The words that cut the span of time which the options have, steps x dt_us, into T steps."""
    data = options.data.as_dict()
    if not data.get("steps") or not data.get("dt_us"):
        raise ArgumentError(
            f"{options.dataset} has no fixed span of time to cut into {T} steps; data.steps and data.dt_us give it one."
        )
    words = ["--data.steps", str(T), "--data.dt_us", str(-(-data["steps"] * data["dt_us"] // T))]
    return [*words, "--model.steps", str(T)] if "steps" in (options.get("model") or ()) else words
