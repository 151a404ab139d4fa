"""An embedded text for language models: the books Joshua to 2 Kings of the King James Bible of 1611."""

from __future__ import annotations

import lzma
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spikenet.data.base import EpochSampler
from spikenet.data.recordings import philox
from spikenet.errors import ArgumentError, DataError

__all__ = ["KJVText"]

_FILE = Path(__file__).with_name("kjv.txt.xz")
_PLACES = 3  # purpose of random bits
Pair = tuple[Tensor, Tensor]


class _Parts(NamedTuple):
    train: Tensor
    val: Tensor
    test: Tensor


class _Pieces(Dataset[Pair]):
    """Pieces of a text and the same a character later; those of ``(epoch, index)`` begin anywhere, by chance."""

    def __init__(self, tokens: Tensor, length: int, seed: int) -> None:
        self.tokens, self.length, self.seed = tokens, length, seed

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def __getitem__(self, key: int | tuple[int, int]) -> Pair:
        if isinstance(key, tuple):
            draw = np.random.Generator(philox(self.seed, _PLACES, *key))
            start = int(draw.integers(len(self.tokens) - self.length))
        else:
            start = key * self.length
        piece = self.tokens[start : start + self.length + 1]
        return piece[:-1], piece[1:]


class KJVText(lightning.LightningDataModule):
    """695,167 characters, 62 different ones: the books Joshua, Judges, Ruth, 1 and 2 Samuel, 1 and 2 Kings, one verse a
    line, numbers and titles left out.

    The text is that of Debian's package bible-kjv-text 4.38 (Chip Chapin's Bible Retrieval System of 1989); its
    copyright has expired, the translation being of 1611. In the United Kingdom the Crown's letters patent apply.

    The parts follow each other: the last tenth is for testing, the tenth before it for validation. Batches are
    characters ``[T, B]`` and those that follow them, int64. An epoch has as many training pieces as fit into the text;
    where they begin follows from ``(seed, epoch, index)``.

    Args:
        length: T, characters of a piece.
        batch_size: pieces in a batch.
        seed: order and places follow from it.

    Errors: ArgumentError for a length or batch size below 1, or a length that the text does not have.
    """

    name = "kjv-text"

    def __init__(self, *, length: int = 128, batch_size: int = 16, seed: int = 0) -> None:
        super().__init__()
        if not (0 < length < 60_000 and batch_size > 0):
            raise ArgumentError(f"kjv-text wants lengths of 1 to 59999 and batches from 1, got {length}, {batch_size}.")
        self.length, self.batch_size, self.seed = length, batch_size, seed

    @cached_property
    def text(self) -> str:
        """All of it."""
        return lzma.decompress(_FILE.read_bytes()).decode("ascii")

    @cached_property
    def classes(self) -> list[str]:
        """The characters in the order of their numbers."""
        return sorted(set(self.text))

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
        number = {character: i for i, character in enumerate(self.classes)}
        if unknown := sorted(set(text) - number.keys()):
            raise DataError(f"kjv-text has no {unknown[0]!r}; its characters are {''.join(self.classes)!r}.")
        return torch.from_numpy(np.array([number[character] for character in text], np.int64))

    def decode(self, tokens: Tensor) -> str:
        """The text of numbers `[T]`."""
        return "".join(self.classes[i] for i in tokens.tolist())

    def train_dataloader(self) -> DataLoader[Any]:
        """Pieces from anywhere in the training part, others in every epoch."""
        pieces = _Pieces(self.parts.train, self.length, self.seed)
        return self._loader(pieces, EpochSampler(len(pieces), self.seed))

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation part piece by piece."""
        return self._loader(_Pieces(self.parts.val, self.length, self.seed))

    def test_dataloader(self) -> DataLoader[Any]:
        """The test part piece by piece."""
        return self._loader(_Pieces(self.parts.test, self.length, self.seed))

    def _loader(self, pieces: _Pieces, sampler: EpochSampler | None = None) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            pieces,
            self.batch_size,
            sampler=sampler,
            collate_fn=_side_by_side,
            pin_memory=torch.cuda.is_available(),
            generator=generator,
        )


def _side_by_side(pairs: list[Pair]) -> Pair:
    tokens, following = zip(*pairs, strict=True)
    return torch.stack(tokens, 1), torch.stack(following, 1)
