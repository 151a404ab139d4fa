"""How the commands speak: lines and tables on standard output."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_STYLE = {"highlight": False, "markup": False, "soft_wrap": True}
_CONSOLE = Console(**_STYLE)  # type: ignore[arg-type]
_PARTS = {"train": "training", "val": "validation", "test": "test"}


def say(text: str) -> None:
    """One line, at once."""
    _CONSOLE.print(text)
    sys.stdout.flush()


def described(function: Any) -> str:
    """What a docstring says of a command, in plain words."""
    return (inspect.getdoc(function) or "").partition("\nArgs:")[0].replace("``", "")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> None:
    """A table, as wide as it is; ``numbers`` are the columns that are set to the right."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate(columns):
        shown.add_column(name, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    wide = Measurement.get(_CONSOLE, _CONSOLE.options.update(width=10_000), shown).maximum
    Console(width=max(wide, _CONSOLE.width), **_STYLE).print(shown)  # type: ignore[arg-type]


def samples(data: Any) -> str:
    """How many recordings each part of a data set has."""
    return ", ".join(f"{data.sizes[part]} {name}" for part, name in _PARTS.items())


def introduce(data: Any) -> None:
    """Name, classes and parts of a data set."""
    say(f"data set: {data.name}")
    if hasattr(data, "sensor"):
        say(f"classes ({len(data.classes)}): {', '.join(data.classes)}")
        say(f"samples: {samples(data)}")
    else:
        sizes = (f"{len(part):,} {name}" for part, name in zip(data.parts, _PARTS.values(), strict=True))
        say(f"characters: {len(data.classes)} different ones; {', '.join(sizes)}")
