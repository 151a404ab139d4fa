"""``spikenet data``: which data sets there are, what one holds, fetching it, checking it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from spikenet.cli.options import dataset_class, parser_for
from spikenet.cli.screen import described, introduce, say, show_table
from spikenet.errors import ArgumentError, DataError, UnknownNameError

_SHOWN = 20  # damaged files and differences named one by one


def data(words: Sequence[str]) -> int:
    """List, describe, fetch or check data sets.

    ``spikenet data list`` names them all. ``spikenet data info NAME`` says what one is and where it comes from;
    with options such as ``--data.root FOLDER`` also what lies there. ``spikenet data prepare NAME --data.root FOLDER``
    downloads it or makes what it needs. ``spikenet data check NAME --data.root FOLDER`` reads every recording and
    compares with the published numbers. ``--help`` behind a name shows its options.
    """
    if not words or words[0] in ("-h", "--help"):
        say(described(data))
        return 0 if words else 2
    if words[0] not in _ACTIONS:
        raise UnknownNameError("action of spikenet data", words[0], _ACTIONS)
    return _ACTIONS[words[0]](words[1:])


def _list(words: Sequence[str]) -> int:
    from spikenet.data import SETS

    if words:
        raise ArgumentError(f"spikenet data list takes no options, received {' '.join(words)}.")
    for name, kind in sorted(SETS.items()):
        about = kind.about
        if about is not None:
            total = f"{sum(about.counts.values()):,}" if about.counts else "-"
            say(f"{name:<16} {total:>8}  {about.licence or '-':<12}  {about.content}")
    return 0


def _info(words: Sequence[str]) -> int:
    module, given = _module("info", words)
    if module.about is not None:
        for name, fact in module.about.facts().items():
            say(f"{name:>10}  {fact}")
    if given or module.about is None or not hasattr(module, "root"):
        introduce(module)
    return 0


def _prepare(words: Sequence[str]) -> int:
    from rich.progress import track

    module, _ = _module("prepare", words)
    module.prepare(track)
    introduce(module)
    return 0


def _check(words: Sequence[str]) -> int:
    from rich.progress import track

    from spikenet.data import check

    module, _ = _module("check", words)
    found = check(module, track)
    introduce(module)
    rows = [
        (name, *(str(int(counts[label])) for counts in found.counts.values()))
        for label, name in enumerate(found.classes)
    ]
    show_table(("class", *found.counts), rows, numbers=range(1, 4))
    say("events: " + ", ".join(f"{number:,} {part}" for part, number in found.events.items()))
    for title, lines in (("damaged", found.damaged), ("differs", found.differences)):
        for line in lines[:_SHOWN]:
            say(f"{title}: {line}")
        if len(lines) > _SHOWN:
            say(f"{title}: {len(lines) - _SHOWN} more")
    if found.damaged or found.differences:
        raise DataError(
            f"{found.name} is not whole: {len(found.damaged)} damaged recordings, "
            f"{len(found.differences)} differences from what was published."
        )
    say("every recording can be read, and nothing differs from what was published")
    return 0


_ACTIONS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list,
    "info": _info,
    "prepare": _prepare,
    "check": _check,
}


def _module(action: str, words: Sequence[str]) -> tuple[Any, bool]:
    """The data module that a name and its options describe, and whether there were options."""
    if not words or words[0].startswith("-"):
        raise ArgumentError(f"a data set is needed: spikenet data {action} NAME; spikenet data list names them.")
    kind = dataset_class(words[0])
    about = described(kind)
    parser = parser_for(f"spikenet data {action} {words[0]}", about)
    parser.add_class_arguments(kind, "data", skip={"seed"})
    options = parser.parse_args(list(words[1:]))
    return kind(**options.data.as_dict(), seed=0), len(words) > 1
