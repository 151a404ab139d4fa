"""The embedded text: its size, its parts, and that it is what it says."""

import pytest
import torch

from spikenet.data import KJVText
from spikenet.errors import ArgumentError, DataError


def test_parts_follow_each_other_and_are_the_whole_text() -> None:
    data = KJVText()
    assert len(data.text) == 695_167
    assert len(data.classes) == 62
    assert torch.equal(torch.cat(data.parts), data.encode(data.text))
    assert [len(part) for part in data.parts] == [556_135, 69_516, 69_516]


def test_it_begins_with_joshua_and_ends_with_second_kings() -> None:
    data = KJVText()
    assert data.text.startswith("Now after the death of Moses the servant of the LORD it came to pass")
    assert data.decode(data.parts.test).rstrip().endswith("a daily rate for every day, all the days of his life.")
    assert data.text.count("\n") == 658 + 618 + 85 + 810 + 695 + 816 + 719  # verses of the seven books


def test_numbers_and_back() -> None:
    data = KJVText()
    assert data.decode(data.encode("And David said,\n")) == "And David said,\n"
    with pytest.raises(DataError, match="no '7'"):
        data.encode("7 days")


def test_pieces_follow_from_seed_and_epoch_and_end_one_character_later() -> None:
    data = KJVText(length=200, batch_size=7, seed=3)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    first = next(iter(loader))
    assert first[0].shape == first[1].shape == (200, 7)
    assert torch.equal(first[0][1:], first[1][:-1])
    piece = data.decode(first[0][:, 4])
    assert piece in data.decode(data.parts.train)
    again = KJVText(length=200, batch_size=7, seed=3).train_dataloader()
    again.sampler.set_epoch(2)
    assert torch.equal(next(iter(again))[0], first[0])
    again.sampler.set_epoch(3)
    assert not torch.equal(next(iter(again))[0], first[0])


def test_validation_pieces_are_the_part_in_order() -> None:
    data = KJVText(length=1000, batch_size=4)
    pieces = torch.cat([x.T.flatten() for x, _ in data.val_dataloader()])
    assert torch.equal(pieces, data.parts.val[: len(pieces)])
    assert len(data.parts.val) - len(pieces) <= 1000
    with pytest.raises(ArgumentError, match="lengths"):
        KJVText(length=0)
