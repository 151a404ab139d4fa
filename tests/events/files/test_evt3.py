"""Prophesee EVT3: a real file against second decoders, words packed by hand, damage, the way back."""

from __future__ import annotations

import numpy as np
import pytest

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.prophesee_bytes import (
    assert_pieces_agree,
    assert_same,
    evt3,
    random_stream,
    raw,
    rows,
    sample,
)

VGA = Sensor(640, 480, 2)
HD = Sensor(1280, 720, 2)
ROW, X, BASE, VECT12, VECT8, LOW, HIGH = 0, 2, 3, 4, 5, 6, 8  # kinds of words
ON = 1 << 11


@pytest.fixture
def decoded(tmp_path):
    """Rows of events and what was dropped, from words (kind, content)."""

    def decode(*words):
        recording = open_recording(raw(tmp_path / "a.raw", "3.0", evt3(*words)))
        return rows(recording.read()), recording.dropped

    return decode


def test_real_file():
    stream = read(sample("prophesee_evt3/expelliarmus_evt3_sample.raw"), sensor=HD)
    assert len(stream) == 219596
    assert (stream.t.min(), stream.t.max()) == (11718656, 11727457)


def test_real_file_has_time_words_that_step_back():
    """TIME_LOW runs 799, 811, 800 in places: eleven steps back, none a wrap."""
    path = sample("prophesee_evt3/expelliarmus_evt3_sample.raw")
    words = np.frombuffer(path.read_bytes().partition(b"system_ID 48\n")[2], "<u2")
    low = (words & 0xFFF)[words >> 12 == LOW].astype(int)
    assert (np.diff(low) < 0).sum() == 11
    assert read(path, sensor=HD).duration == 8801


def test_real_file_as_evlib_reads_it():
    evlib = pytest.importorskip("evlib")
    path = sample("prophesee_evt3/expelliarmus_evt3_sample.raw")
    theirs, stream = evlib.load_events(str(path), sort=False).collect(), read(path, sensor=HD)
    np.testing.assert_array_equal(stream.t.numpy(), theirs["t"].to_physical().to_numpy())
    np.testing.assert_array_equal(stream.x.numpy(), theirs["x"].to_numpy())
    np.testing.assert_array_equal(stream.y.numpy(), theirs["y"].to_numpy())
    np.testing.assert_array_equal(stream.p.numpy(), theirs["polarity"].to_numpy() > 0)


def test_real_file_as_expelliarmus_reads_it():
    """Addresses and polarities; it takes every TIME_LOW that steps back for a wrap of 4096 us."""
    wizard = pytest.importorskip("expelliarmus").Wizard(encoding="evt3")
    path = sample("prophesee_evt3/expelliarmus_evt3_sample.raw")
    theirs, stream = wizard.read(str(path)), read(path, sensor=HD)
    for name in "xyp":
        np.testing.assert_array_equal(getattr(stream, name).numpy(), theirs[name])
    assert theirs["t"][-1] - int(stream.t[-1]) == 11 * 4096


def test_single_events(decoded):
    words = [(HIGH, 3), (LOW, 7), (ROW, 479), (X, 5 | ON), (X, 639), (LOW, 8), (ROW, 2), (X, 0)]
    now = 3 << 12
    assert decoded(*words) == ([(now + 7, 5, 479, 1), (now + 7, 639, 479, 0), (now + 8, 0, 2, 0)], {})


def test_origin_bit_of_a_row_is_no_part_of_it(decoded):
    assert decoded((HIGH, 0), (ROW, 5 | ON), (X, 1))[0] == [(0, 1, 5, 0)]


def test_vectors(decoded):
    words = [(HIGH, 0), (ROW, 1), (BASE, 100 | ON), (VECT12, 0b1000_0000_0001), (VECT12, 0), (VECT8, 0b1000_0010)]
    assert decoded(*words)[0] == [(0, 100, 1, 1), (0, 111, 1, 1), (0, 125, 1, 1), (0, 131, 1, 1)]


def test_base_moves_by_12_and_by_8_even_without_events(decoded):
    words = [(HIGH, 0), (ROW, 1), (BASE, 0), (VECT12, 0), (VECT8, 0), (VECT12, 1), (VECT8, 1), (VECT12, 1)]
    assert [row[1] for row in decoded(*words)[0]] == [20, 32, 40]


def test_only_8_bits_of_a_vector_of_8(decoded):
    assert [row[1] for row in decoded((HIGH, 0), (ROW, 1), (BASE, 0), (VECT8, 0xFFF))[0]] == list(range(8))


def test_a_single_event_leaves_the_base_alone(decoded):
    words = [(HIGH, 0), (ROW, 1), (BASE, 10 | ON), (X, 300), (VECT8, 1)]
    assert decoded(*words)[0] == [(0, 300, 1, 0), (0, 10, 1, 1)]


def test_time_low_steps_back(decoded):
    words = [(HIGH, 5), (ROW, 1)] + [word for low in (799, 811, 800, 4095, 0) for word in ((LOW, low), (X, 1))]
    assert [row[0] - (5 << 12) for row in decoded(*words)[0]] == [799, 811, 800, 4095, 0]


def test_new_time_high_clears_the_low_part(decoded):
    words = [(HIGH, 1), (ROW, 1), (LOW, 9), (X, 1), (HIGH, 2), (X, 1)]
    assert [row[0] for row in decoded(*words)[0]] == [(1 << 12) + 9, 2 << 12]


def test_repeated_time_high_keeps_the_low_part(decoded):
    words = [(HIGH, 1), (ROW, 1), (LOW, 9), (X, 1), (HIGH, 1), (X, 1)]
    assert [row[0] for row in decoded(*words)[0]] == [(1 << 12) + 9] * 2


@pytest.mark.parametrize(
    ("old", "new", "wraps"), [(4095, 0, 1), (4095, 2047, 1), (4095, 2048, 0), (2048, 0, 1), (2047, 0, 0), (0, 4095, 0)]
)
def test_wrap_of_time_high(decoded, old, new, wraps):
    """A step back by 2048 or more is a wrap, a shorter one is kept."""
    words = [(HIGH, old), (ROW, 1), (X, 1), (HIGH, new), (X, 1)]
    assert [row[0] for row in decoded(*words)[0]] == [old << 12, wraps << 24 | new << 12]


def test_wraps_add_up(decoded):
    words = [(HIGH, 0), (ROW, 1)] + [word for _ in range(3) for word in ((HIGH, 4000), (HIGH, 3), (LOW, 2), (X, 1))]
    assert [row[0] for row in decoded(*words)[0]] == [n << 24 | 3 << 12 | 2 for n in (1, 2, 3)]


def test_events_before_the_first_time_are_skipped(decoded):
    """What came before, rows and columns too, is forgotten."""
    words = [(ROW, 7), (LOW, 5), (X, 1), (BASE, 0), (VECT12, 0b111), (HIGH, 0), (ROW, 1), (X, 2)]
    assert decoded(*words) == ([(0, 2, 1, 0)], {"event before the first time stamp": 4})


def test_no_time_at_all(decoded):
    assert decoded((ROW, 7), (X, 1)) == ([], {"event before the first time stamp": 1})


def test_events_before_the_first_row_or_base_are_skipped(decoded):
    words = [(HIGH, 0), (X, 1), (ROW, 4), (VECT8, 3), (X, 2)]
    assert decoded(*words) == ([(0, 2, 4, 0)], {"word of events before the first row or column": 2})


def test_other_words_are_skipped_and_counted(decoded):
    words = [(0xA, 0x301), (0xE, 1), (0x7, 1), (0xF, 1), (0x1, 1), (0x9, 1)]
    events, dropped = decoded((HIGH, 0), (LOW, 5), (ROW, 1), *words, (X, 3))
    assert events == [(5, 3, 1, 0)]
    unknown = {"word of the unknown kind 1": 1, "word of the unknown kind 9": 1}
    assert dropped == {"trigger": 1, "other word": 1, "continued word": 2, **unknown}


def test_outside_the_sensor(tmp_path):
    path = raw(tmp_path / "a.raw", "3.0", evt3((HIGH, 0), (ROW, 480), (X, 1), (ROW, 3), (X, 1)))
    with pytest.raises(FormatError, match="row 480"):
        read(path)
    with pytest.warns(UserWarning, match="left out 1"):
        assert rows(read(path, strict=False)) == [(0, 1, 3, 0)]


def test_vectors_that_run_off_the_sensor(tmp_path):
    body = evt3((HIGH, 0), (ROW, 1), (BASE, 2040), *[(VECT12, 0xFFF)] * 9999)
    path = raw(tmp_path / "a.raw", "3.0", body)
    with pytest.raises(FormatError, match="column 2040"):
        read(path)
    with pytest.warns(UserWarning, match="left out 119988"):
        assert len(read(path, strict=False)) == 0


def test_cut_word(tmp_path):
    path = raw(tmp_path / "a.raw", "3.0", evt3((HIGH, 0), (ROW, 1), (X, 2)) + b"\x01")
    with pytest.raises(FormatError, match=f"offset {path.stat().st_size - 1}"):
        read(path)
    with pytest.warns(UserWarning, match="1 x bytes"):
        assert rows(read(path, strict=False)) == [(0, 2, 1, 0)]


def test_real_file_in_pieces():
    path = sample("prophesee_evt3/expelliarmus_evt3_sample.raw")
    whole = read(path, sensor=HD)
    for size in (997, 1 << 16):
        assert_same(EventStream.concat(list(open_recording(path, sensor=HD).chunks(size))), whole)


def test_pieces(tmp_path):
    words = [
        (X, 1),
        (0xA, 0),
        (HIGH, 4094),
        (X, 1),
        (ROW, 3),
        (VECT8, 1),
        (X, 9),
        (BASE, 50 | ON),
        (VECT12, 0xA5A),
        (LOW, 77),
    ]
    words += [
        (VECT12, 0x00F),
        (VECT8, 0xFF),
        (HIGH, 4095),
        (X, 1),
        (HIGH, 1),
        (LOW, 8),
        (X, 2 | ON),
        (0xE, 0),
        (VECT8, 1),
    ]
    assert_pieces_agree(raw(tmp_path / "a.raw", "3.0", evt3(*words)), range(1, 2 * len(words) + 3))


def test_there_and_back(tmp_path):
    path = tmp_path / "a.raw"
    sensor = Sensor(2048, 2048, 2)
    for stream in (random_stream(0, 3000, sensor, 3000), random_stream(1, 0, sensor)):
        write(stream, path, format="evt3")
        assert_same(read(path), stream)


@pytest.mark.parametrize(
    "t",
    [
        [4095, 4096, 8192],
        [(1 << 24) - 1, 1 << 24],  # a wrap
        [3 << 24 | 4000 << 12, 9 << 24 | 4001 << 12],  # several, to a high part near the top
        [4095 << 12, 0],  # back by so much that it would be a wrap
        [1 << 24 | 4095 << 12, 1 << 24],
        [5, 3, 4],
    ],
)
def test_times_there_and_back(tmp_path, t):
    stream = EventStream.from_numpy(t, [3] * len(t), [4] * len(t), [1] * len(t), sensor=VGA)
    write(stream, tmp_path / "a.raw", format="evt3")
    assert_same(read(tmp_path / "a.raw"), stream)


def test_vectors_are_written_where_they_pay(tmp_path):
    """Five events in 32 columns are a vector of four words, fewer a word each."""
    x = [100, 101, 110, 120, 131, 200, 201, 202, 203]
    stream = EventStream.from_numpy([4096] * 9, x, [2] * 9, [1] * 9, sensor=VGA)
    write(stream, tmp_path / "a.raw", format="evt3")
    body = evt3(
        (HIGH, 1), (LOW, 0), (ROW, 2), (BASE, 100 | ON), (VECT12, 0b0100_0000_0011), (VECT12, 1 << 8), (VECT8, 1 << 7)
    )
    body += evt3(*((X, column | ON) for column in x[5:]))
    assert (tmp_path / "a.raw").read_bytes().partition(b"% end\n")[2] == body


def test_written_file_as_evlib_reads_it(tmp_path):
    evlib = pytest.importorskip("evlib")
    stream = random_stream(3, 2000, VGA)
    write(stream, tmp_path / "a.raw", format="evt3")
    theirs = evlib.load_events(str(tmp_path / "a.raw"), sort=False).collect()
    np.testing.assert_array_equal(stream.t.numpy(), theirs["t"].to_physical().to_numpy())
    np.testing.assert_array_equal(stream.x.numpy(), theirs["x"].to_numpy())
    np.testing.assert_array_equal(stream.y.numpy(), theirs["y"].to_numpy())
    np.testing.assert_array_equal(stream.p.numpy(), theirs["polarity"].to_numpy() > 0)


@pytest.mark.parametrize(
    ("t", "sensor"),
    [([-1], VGA), ([1 << 44], VGA), ([0], Sensor(2049, 9, 2)), ([0], Sensor(9, 9, 1)), ([1 << 24, 5], VGA)],
)
def test_what_cannot_be_written(tmp_path, t, sensor):
    zeros = [0] * len(t)
    with pytest.raises(ArgumentError, match="EVT3"):
        write(EventStream.from_numpy(t, zeros, zeros, zeros, sensor=sensor), tmp_path / "a.raw", format="evt3")
