"""The embedded text: its size, its parts, and that it is what it says."""

import pytest
import torch

from spikenet.data import KJVText
from spikenet.errors import DataError


def test_parts_follow_each_other_and_are_the_whole_text() -> None:
    data = KJVText()
    assert len(data.text) == 695_167
    assert len(data.characters) == 62
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
