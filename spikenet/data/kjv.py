"""An embedded text for language models: the books Joshua to 2 Kings of the King James Bible of 1611."""

from __future__ import annotations

import lzma
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import DataError

__all__ = ["KJVText"]

_FILE = Path(__file__).with_name("kjv.txt.xz")


class _Parts(NamedTuple):
    train: Tensor
    val: Tensor
    test: Tensor


class KJVText:
    """695,167 characters, 62 different ones: the books Joshua, Judges, Ruth, 1 and 2 Samuel, 1 and 2 Kings, one verse a
    line, numbers and titles left out.

    The text is that of Debian's package bible-kjv-text 4.38 (Chip Chapin's Bible Retrieval System of 1989); its
    copyright has expired, the translation being of 1611. In the United Kingdom the Crown's letters patent apply.

    The parts follow each other: the last tenth is for testing, the tenth before it for validation.
    """

    name = "kjv-text"

    @cached_property
    def text(self) -> str:
        """All of it."""
        return lzma.decompress(_FILE.read_bytes()).decode("ascii")

    @cached_property
    def characters(self) -> str:
        """The characters in the order of their numbers."""
        return "".join(sorted(set(self.text)))

    @cached_property
    def parts(self) -> _Parts:
        """Training, validation and test part as numbers of characters, int64 `[T]`."""
        tokens = self.encode(self.text)
        tenth = len(tokens) // 10
        return _Parts(tokens[: -2 * tenth], tokens[-2 * tenth : -tenth], tokens[-tenth:])

    def encode(self, text: str) -> Tensor:
        """The numbers of a text's characters.

        Raises:
            DataError: for a character that does not occur in the training text.
        """
        number = {character: i for i, character in enumerate(self.characters)}
        if unknown := sorted(set(text) - number.keys()):
            raise DataError(f"kjv-text has no {unknown[0]!r}; its characters are {self.characters!r}.")
        return torch.from_numpy(np.array([number[character] for character in text], np.int64))

    def decode(self, tokens: Tensor) -> str:
        """The text of numbers `[T]`."""
        return "".join(self.characters[i] for i in tokens.tolist())
