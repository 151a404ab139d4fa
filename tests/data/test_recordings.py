"""The fixed rules that cut data into parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikenet.data.recordings import EventData, Recordings, Selection, hold_out, philox, shuffled
from spikenet.errors import ArgumentError, DataError
from spikenet.events import EventStream, Sensor


class Numbered(Recordings):
    """Recording ``i`` holds one event at ``t = i``."""

    def __init__(self, labels):
        self.labels = np.array(labels)

    def stream(self, index):
        return EventStream.from_numpy([index], [0], sensor=Sensor(1))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.data())
def test_hold_out_is_exact_and_stratified(labels, data):
    labels = np.array(labels)
    count = data.draw(st.integers(1, len(labels) - 1))
    rest, held = hold_out(labels, count, seed=1)
    assert len(held) == count
    assert sorted([*rest, *held]) == list(range(len(labels)))
    for label in np.unique(labels):
        assert abs((labels[held] == label).sum() - count * (labels == label).mean()) < 1


def test_hold_out_is_fixed_by_labels_and_seed():
    labels = np.arange(40) % 4
    assert hold_out(labels, 8, 1)[1].tolist() == hold_out(labels, 8, 1)[1].tolist()
    assert hold_out(labels, 8, 1)[1].tolist() != hold_out(labels, 8, 2)[1].tolist()


@pytest.mark.parametrize("count", [0, 5, 9])
def test_hold_out_leaves_both_sides_something(count):
    with pytest.raises(ArgumentError, match="cannot be held out"):
        hold_out(np.zeros(5, int), count, 0)


def test_raw_bits_are_those_of_philox_4x64():
    """Known answer from the paper's reference vectors (Salmon et al., SC 2011): counter and key all zero.

    numpy counts up before it draws, so the counter is set to one less.
    """
    first = philox(0, 0)
    first.state = first.state | {"state": {"counter": np.full(4, 2**64 - 1, np.uint64), "key": np.zeros(2, np.uint64)}}
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert first.random_raw(4).tolist() == expected


def test_neighbouring_numbers_give_other_bits():
    bits = {tuple(philox(*numbers).random_raw(3)) for numbers in np.ndindex(3, 3, 3, 3)}
    assert len(bits) == 81


def test_shuffled_is_a_permutation():
    assert sorted(shuffled(100, philox(1, 2))) == list(range(100))


def test_selection_and_sequence():
    chosen = Selection(Numbered([0, 1, 2, 3]), np.array([3, 1]))
    assert [(int(stream.t[0]), label) for stream, label in chosen] == [(3, 3), (1, 1)]
    with pytest.raises(IndexError, match="recording 2 of 2"):
        chosen[2]


def test_labels_without_class_and_empty_parts_are_refused():
    good = Numbered([0, 1])
    with pytest.raises(DataError, match=r"toy: labels in the test part want 0 to 1 .* received 0 to 2"):
        EventData("toy", ("a", "b"), Sensor(1), good, good, Numbered([0, 2]))
    with pytest.raises(DataError, match="toy: the val part is empty"):
        EventData("toy", ("a", "b"), Sensor(1), good, Numbered([]), good)
