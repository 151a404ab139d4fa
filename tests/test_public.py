"""The public surface: what each room offers is listed, importable, documented, and changes only on purpose.

``tests/public_names.txt`` holds the names. After a change that is meant: ``python tests/test_public.py`` writes it.
"""

from __future__ import annotations

import importlib
import inspect
import types
from pathlib import Path

import pytest

import spikenet

LIST = Path(__file__).with_name("public_names.txt")
PACKAGE = Path(spikenet.__file__).parent
ROOMS = ["spikenet", *(f"spikenet.{file.parent.name}" for file in sorted(PACKAGE.glob("*/__init__.py")))]


def listed(room: str) -> list[str]:
    return list(importlib.import_module(room).__all__)


def public_names() -> list[str]:
    return [f"{room}.{name}" for room in ROOMS for name in listed(room)]


def stray_names(module: types.ModuleType) -> list[str]:
    """Public classes and functions of ours that lie in a room's namespace and are not listed."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("spikenet")
        and name not in module.__all__
    ]


def undocumented(module: types.ModuleType) -> list[str]:
    """Listed names that are callable, a class or a module and say nothing about themselves."""
    values = {name: getattr(module, name) for name in module.__all__ if not name.startswith("__")}
    return [
        name
        for name, value in values.items()
        if (callable(value) or inspect.ismodule(value)) and not has_own_words(value)
    ]


def has_own_words(value: object) -> bool:
    """A docstring of its own; the one that dataclass and NamedTuple write by themselves does not count."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", None)
    return bool(text) and not (inspect.isclass(value) and text.startswith(f"{value.__name__}("))


@pytest.mark.parametrize("room", ROOMS)
def test_room_lists_its_names(room):
    """Each once, each at hand, none forgotten; their order is the linter's business (RUF022)."""
    names = listed(room)
    assert len(names) == len(set(names))
    module = importlib.import_module(room)
    assert [name for name in names if not hasattr(module, name)] == []
    assert stray_names(module) == []


@pytest.mark.parametrize("room", ROOMS)
def test_room_and_names_are_documented(room):
    module = importlib.import_module(room)
    assert (module.__doc__ or "").strip()
    assert undocumented(module) == []


def test_public_names_are_the_ones_on_record():
    assert public_names() == LIST.read_text(encoding="utf-8").split(), "meant? then: python tests/test_public.py"


def test_the_rules_can_fail():
    module = types.ModuleType("spikenet.fake")
    exec(
        "from typing import NamedTuple\n"
        "class Bare: pass\n"
        "class Auto(NamedTuple):\n    x: int\n"
        "def silent(): pass\n"
        "def extra():\n    'says something'\n",
        vars(module),
    )
    module.__all__ = ["Auto", "Bare", "silent"]
    for name in ("Auto", "Bare", "silent", "extra"):
        getattr(module, name).__module__ = "spikenet.fake"
    assert undocumented(module) == ["Auto", "Bare", "silent"]
    assert stray_names(module) == ["extra"]


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
