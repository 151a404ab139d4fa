"""What the printers of source have in common: lines at a depth, and constants by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Printer:
    """Source in the making."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 1
        self._constants: dict[str, str] = {}  # by how they are written: 0.0 is not -0.0

    def line(self, *lines: str) -> None:
        self._lines += ["    " * self._depth + line for line in lines]

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        self.line(header)
        self._depth += 1
        yield
        self._depth -= 1

    def constant(self, value: float) -> str:
        """The name of a number that is bound ahead of all loops."""
        return self._constants.setdefault(repr(value), f"k{len(self._constants)}")

    def numbered(self, letter: str, names: Sequence[str]) -> list[str]:
        return [f"{letter}{k}" for k in range(len(names))]
