"""Prophesee EVT2: a real file against second decoders, words packed by hand, damage, the way back."""

from __future__ import annotations

import numpy as np
import pytest

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.prophesee_bytes import (
    assert_pieces_agree,
    assert_same,
    evt2,
    evt2_event,
    evt2_high,
    random_stream,
    raw,
    rows,
    sample,
)

VGA = Sensor(640, 480, 2)
TOP = (1 << 28) - 1  # the highest TIME_HIGH


def test_real_file():
    stream = read(sample("prophesee_evt2/expelliarmus_evt2_sample.raw"), sensor=VGA)
    assert len(stream) == 539481
    assert (stream.t.min(), stream.t.max()) == (1317888, 1367888)


def test_real_file_as_expelliarmus_reads_it():
    wizard = pytest.importorskip("expelliarmus").Wizard(encoding="evt2")
    path = sample("prophesee_evt2/expelliarmus_evt2_sample.raw")
    theirs, stream = wizard.read(str(path)), read(path, sensor=VGA)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(stream, name).numpy(), theirs[name])


def test_real_file_as_evlib_reads_it():
    evlib = pytest.importorskip("evlib")
    path = sample("prophesee_evt2/expelliarmus_evt2_sample.raw")
    theirs, stream = evlib.load_events(str(path), sort=False).collect(), read(path, sensor=VGA)
    np.testing.assert_array_equal(stream.t.numpy(), theirs["t"].to_physical().to_numpy())
    np.testing.assert_array_equal(stream.x.numpy(), theirs["x"].to_numpy())
    np.testing.assert_array_equal(stream.y.numpy(), theirs["y"].to_numpy())
    np.testing.assert_array_equal(stream.p.numpy(), theirs["polarity"].to_numpy() > 0)


def test_words(tmp_path):
    body = evt2(evt2_high(3), evt2_event(0, 639, 0, 1), evt2_event(63, 0, 479, 0), evt2_high(5), evt2_event(1, 7, 8, 1))
    assert rows(read(raw(tmp_path / "a.raw", "2.0", body))) == [(192, 639, 0, 1), (255, 0, 479, 0), (321, 7, 8, 1)]


def test_events_before_the_first_time_are_skipped(tmp_path):
    body = evt2(evt2_event(9, 1, 1, 1), 0xA << 28, evt2_event(8, 1, 1, 0), evt2_high(0), evt2_event(2, 1, 1, 1))
    recording = open_recording(raw(tmp_path / "a.raw", "2.0", body))
    assert rows(recording.read()) == [(2, 1, 1, 1)]
    assert recording.dropped == {"event before the first time stamp": 2, "trigger": 1}


def test_other_words_are_skipped_and_counted(tmp_path):
    others = [0xA << 28, 0xE << 28 | 5, 0xF << 28, 0xF << 28, 0x3 << 28]
    body = evt2(evt2_high(1), *others, evt2_event(0, 1, 2, 0))
    recording = open_recording(raw(tmp_path / "a.raw", "2.0", body))
    assert rows(recording.read()) == [(64, 1, 2, 0)]
    assert recording.dropped == {
        "trigger": 1, "other word": 1, "continued word": 2, "word of the unknown kind 3": 1
    }  # fmt: skip


def test_time_wraps_after_34_bits(tmp_path):
    body = evt2(
        evt2_high(TOP),
        evt2_event(63, 1, 1, 0),
        evt2_high(0),
        evt2_event(0, 1, 1, 0),
        evt2_high(1),
        evt2_event(0, 1, 1, 0),
    )
    body += evt2(evt2_high(TOP), evt2_high(0), evt2_event(1, 1, 1, 0))
    times = [row[0] for row in rows(read(raw(tmp_path / "a.raw", "2.0", body)))]
    assert times == [(1 << 34) - 1, 1 << 34, (1 << 34) + 64, (1 << 35) + 1]


def test_backward_time_is_kept(tmp_path):
    body = evt2(*(word for high in (9, 4, TOP - 5, 200) for word in (evt2_high(high), evt2_event(0, 1, 1, 0))))
    assert [row[0] >> 6 for row in rows(read(raw(tmp_path / "a.raw", "2.0", body)))] == [9, 4, TOP - 5, 200]


def test_old_header_without_end_or_size(tmp_path):
    """The first byte of the body is a percent sign here, and is not taken for a header line."""
    body = evt2(evt2_high(0), evt2_event(0, 4, ord("%"), 1))
    body = evt2(evt2_event(0, 0, ord("%"), 0)) + body
    path = raw(tmp_path / "a.raw", "2.0", body, "% Date 2020-09-14 09:03:25")
    with pytest.raises(ArgumentError, match="sensor="):
        read(path)
    assert rows(read(path, sensor=VGA)) == [(0, 4, ord("%"), 1)]


@pytest.mark.parametrize("line", ["% geometry 640x480", "% format EVT2;height=480;width=640"])
def test_size_in_the_header(tmp_path, line):
    assert open_recording(raw(tmp_path / "a.raw", "2.0", b"", line)).sensor == VGA


def test_another_version_is_refused(tmp_path):
    path = raw(tmp_path / "a.raw", "3.0", b"")
    with pytest.raises(FormatError, match="EVT3"):
        read(path, format="evt2")


def test_cut_word(tmp_path):
    path = raw(tmp_path / "a.raw", "2.0", evt2(evt2_high(0), evt2_event(0, 1, 2, 1)) + b"\0\0\0")
    with pytest.raises(FormatError, match=f"offset {path.stat().st_size - 3}"):
        read(path)
    with pytest.warns(UserWarning, match="3 x bytes"):
        assert rows(read(path, strict=False)) == [(0, 1, 2, 1)]


def test_outside_the_sensor(tmp_path):
    path = raw(tmp_path / "a.raw", "2.0", evt2(evt2_high(0), evt2_event(0, 1, 480, 1), evt2_event(0, 1, 2, 1)))
    with pytest.raises(FormatError, match=r"first number 0.*row 480"):
        read(path)
    with pytest.warns(UserWarning, match="left out 1"):
        assert rows(read(path, strict=False)) == [(0, 1, 2, 1)]


def test_pieces(tmp_path):
    words = [evt2_event(1, 2, 3, 0), 0xA << 28, evt2_high(TOP), evt2_event(5, 1, 1, 1), evt2_high(0)]
    words += [
        word for high in range(0, 90, 3) for word in (evt2_high(high), evt2_event(high % 64, high, high, high % 2))
    ]
    assert_pieces_agree(raw(tmp_path / "a.raw", "2.0", evt2(*words)), range(1, 4 * len(words) + 9, 3))


def test_there_and_back(tmp_path):
    path = tmp_path / "a.raw"
    sensor = Sensor(2048, 2048, 2)
    for stream in (random_stream(0, 2000, sensor, 200), random_stream(1, 0, sensor)):
        write(stream, path, format="evt2")
        assert_same(read(path), stream)


@pytest.mark.parametrize(
    "t",
    [
        [(1 << 34) - 1, 1 << 34],  # a wrap
        [5, (1 << 36) + 7, (3 << 36) + 2],  # several
        [(1 << 34) - 1, 0],  # back by the whole range, which alone would be a wrap
        [(1 << 35) - 70, (1 << 34) + 3, (1 << 34) + 2],
    ],
)
def test_times_there_and_back(tmp_path, t):
    stream = EventStream.from_numpy(t, [3] * len(t), [4] * len(t), [1] * len(t), sensor=VGA)
    write(stream, tmp_path / "a.raw", format="evt2")
    assert_same(read(tmp_path / "a.raw"), stream)


def test_written_words_are_few(tmp_path):
    """One word an event and one a step of the high part of time."""
    stream = EventStream.from_numpy([64, 65, 127, 128], [1, 2, 3, 4], [0] * 4, [1, 0, 1, 0], sensor=VGA)
    write(stream, tmp_path / "a.raw", format="evt2")
    body = evt2(evt2_high(1), evt2_event(0, 1, 0, 1), evt2_event(1, 2, 0, 0), evt2_event(63, 3, 0, 1))
    body += evt2(evt2_high(2), evt2_event(0, 4, 0, 0))
    assert (tmp_path / "a.raw").read_bytes().partition(b"% end\n")[2] == body


def test_written_file_as_expelliarmus_reads_it(tmp_path):
    wizard = pytest.importorskip("expelliarmus").Wizard(encoding="evt2")
    stream = random_stream(3, 1000, VGA)
    write(stream, tmp_path / "a.raw", format="evt2")
    theirs = wizard.read(str(tmp_path / "a.raw"))
    for name in "txyp":
        np.testing.assert_array_equal(getattr(stream, name).numpy(), theirs[name])


@pytest.mark.parametrize(
    ("t", "sensor"),
    [([-1], VGA), ([1 << 44], VGA), ([0], Sensor(2049, 9, 2)), ([0], Sensor(9, 9, 1)), ([1 << 34, 5], VGA)],
)
def test_what_cannot_be_written(tmp_path, t, sensor):
    zeros = [0] * len(t)
    with pytest.raises(ArgumentError, match="EVT2"):
        write(EventStream.from_numpy(t, zeros, zeros, zeros, sensor=sensor), tmp_path / "a.raw", format="evt2")
    assert not list(tmp_path.iterdir())
