"""The pages in docs/ tell the truth: their code runs, and the output shown behind it is what it prints.

The Python blocks of a page run in order in one namespace. A ``text`` block directly behind a Python block, or behind a
``bash`` block of spikenet's commands, is its output; numbers with a point may differ by 3 %, since processors round
differently. A ``bash`` block without one is only shown. After a change that is meant: ``python tests/test_docs.py``
writes the outputs anew.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spikenet.cli import main

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LIST = Path(__file__).with_name("public_names.txt")
PACKAGES = {"interchange": ("nir", "spikingjelly")}  # that a page needs beside spikenet
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(\d+\.\d+)")


def printed(language: str, code: str, where: str, names: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        if language == "python":
            exec(compile(code, where, "exec"), names)
        else:
            for line in code.splitlines():
                command, *words = line.split("#")[0].split()
                assert command == "spikenet", f"{where}: only spikenet's own commands are run, not {command}"
                assert main(words) == 0
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE)


def run_page(page: Path, meet: Callable[[str, str], None]) -> str:
    """Run a page's blocks, let `meet` compare what is printed with what is shown; return the page as it should be."""
    names: dict[str, Any] = {"__name__": page.stem}

    def block(found: re.Match[str]) -> str:
        language, code, shown = found.groups()
        if language == "bash" and shown is None:
            return found[0]
        line = page.read_text(encoding="utf-8").count("\n", 0, found.start()) + 1
        out = printed(language, code, f"{page.name}:{line}", names)
        meet(out, shown or "")
        return f"```{language}\n{code}```" + (f"\n\n```text\n{out}```" if out else "")

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


def compare(out: str, shown: str) -> None:
    words, wanted = NUMBER.split(out), NUMBER.split(shown)
    assert words[::2] == wanted[::2], f"printed:\n{out}\nshown:\n{shown}"
    assert [float(word) for word in words[1::2]] == pytest.approx([float(word) for word in wanted[1::2]], rel=0.03)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_prints_what_it_shows(page, tmp_path, monkeypatch):
    for package in PACKAGES.get(page.stem, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    run_page(page, compare)


@pytest.mark.parametrize("shown", ["2 0.67", "2 0.66"])
def test_an_output_is_met(shown, tmp_path):
    run_page(page_of(tmp_path, shown), compare)


@pytest.mark.parametrize("shown", ["3 0.67", "2 0.72", "2", "two 0.67"])
def test_another_output_is_refused(shown, tmp_path):
    with pytest.raises(AssertionError):
        run_page(page_of(tmp_path, shown), compare)


def page_of(folder: Path, shown: str) -> Path:
    page = folder / "page.md"
    page.write_text(
        f"```python\nx = 2\n```\n\n```python\nprint(x, x / 3)\n```\n\n```text\n{shown}\n```\n", encoding="utf-8"
    )
    return page


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    for line in LIST.read_text(encoding="utf-8").split():
        room, _, name = line.rpartition(".")
        value = getattr(importlib.import_module(room), name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            yield line, value
            yield from ((f"{line}.{k}", f) for k, f in vars(value).items() if inspect.isfunction(f))
        elif inspect.isfunction(value):
            yield line, value


def documented(thing: Callable[..., Any]) -> set[str]:
    """The names under ``Args:``; several may share a line."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", inspect.cleandoc(thing.__doc__ or "") + "\n", re.MULTILINE)
    lines = re.findall(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*):", section[1] if section else "", re.MULTILINE)
    return {name.strip(" *") for line in lines for name in line.split(",")}


def taken(thing: Callable[..., Any]) -> set[str]:
    """Arguments; a class takes those of its bases' ``__init__`` too, and a neuron its declared parameters."""
    inits = (
        [vars(c)["__init__"] for c in inspect.getmro(thing) if "__init__" in vars(c)] if inspect.isclass(thing) else []
    )
    declared = set(getattr(thing, "params", ())) if inspect.isclass(thing) else set()
    return declared.union(*(inspect.signature(each).parameters for each in [thing, *inits]))


def test_documented_arguments_exist():
    wrong = {name: documented(thing) - taken(thing) for name, thing in public_callables()}
    assert {name: names for name, names in wrong.items() if names} == {}


def test_a_wrong_argument_is_seen():
    def function(a, b):
        """Does nothing.

        Args:
            a, c: numbers.
        """

    assert documented(function) - taken(function) == {"c"}


def write(page: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        page.write_text(run_page(page, lambda out, shown: None), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or [page.name for page in PAGES]:
        write(DOCS / name)
