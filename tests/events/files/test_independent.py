"""Every reader of event files before bytes of encoders whose author saw the formats' descriptions alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenet.errors import SpikenetError
from spikenet.events import FORMATS, EventStream, Sensor, open_recording, read, write
from tests.events.files.agreement import agree, refused, rows, tolerated
from tests.events.files.encoders import aedat, aedat4, ecf, plain
from tests.events.files.encoders import prophesee as p
from tests.events.files.samples import DAVIS, DVS, HD, MAKERS, VGA, Event, samples

# What holds for every format.


def test_all_formats_are_there():
    assert set(MAKERS) == set(FORMATS) - {"bs1", "bs3"}  # SLAYER's kin of bin: tests/events/files/test_bin.py


@pytest.mark.parametrize("format", MAKERS)
def test_events_come_back(format, tmp_path):
    for sample in samples(format):
        path = sample.put(tmp_path)
        agree(path, format, sample.events, sample.skipped, sensor=sample.sensor, index=sample.index)


@pytest.mark.parametrize("format", MAKERS)
def test_files_are_recognised_and_sensors_known(format, tmp_path):
    for sample in samples(format):
        path = sample.put(tmp_path)
        if sample.says_format:
            assert rows(read(path, sensor=sample.sensor, index=sample.index)) == sample.events
        if sample.says_sensor:
            assert read(path, format=format, index=sample.index).sensor == sample.sensor


@pytest.mark.parametrize("format", MAKERS)
def test_no_sensor_is_guessed(format, tmp_path):
    for sample in samples(format):
        if not sample.says_sensor:
            with pytest.raises(SpikenetError, match="sensor"):
                read(sample.put(tmp_path), format=format, index=sample.index)


@pytest.mark.parametrize("format", [name for name in MAKERS if name not in {"shd", "ntidigits"}])
def test_flips_mirror_what_the_file_holds(format, tmp_path):
    sample = samples(format)[0]
    width, height, polarities = sample.sensor
    options = {"sensor": sample.sensor, "flip_x": True, "flip_y": True, "flip_p": True}
    found = rows(read(sample.put(tmp_path), format=format, **options))
    assert found == [(t, width - 1 - x, height - 1 - y, polarities - 1 - p) for t, x, y, p in sample.events]


@pytest.mark.parametrize("format", MAKERS)
def test_an_event_beside_the_sensor_is_refused_or_counted(format, tmp_path):
    """The sensor is said to be one column narrower than the rightmost event."""
    sample = samples(format)[0]
    right = max(x for _, x, _, _ in sample.events)
    sensor = sample.sensor._replace(width=right)
    path = sample.put(tmp_path)
    options = {"sensor": sensor, "index": sample.index}
    refused(path, sample.content, format, **options)
    found, dropped = tolerated(path, format, **options)
    assert found == [row for row in sample.events if row[1] < right]
    whole = open_recording(path, format=format, sensor=sample.sensor, index=sample.index)
    whole.read()
    assert sum(dropped.values()) == sum(whole.dropped.values()) + len(sample.events) - len(found)


@pytest.mark.parametrize(
    "format", ["aedat3", "aedat4", "evt2", "evt21", "evt3", "dat", "bin", "npy", "text", "npz", "ecf"]
)
def test_files_without_events_are_empty(format, check):
    empty = {
        "aedat3": aedat.aedat3(),
        "aedat4": aedat4.aedat4([]),
        "evt2": p.evt2(b"", "geometry 1280x720"),
        "evt21": p.evt21([]),
        "evt3": p.evt3([]),
        "dat": p.dat([]),
        "bin": b"",
        "npy": plain.npy(plain.structured([])),
        "npz": plain.npz(plain.columns([])),
        "text": b"",
        "ecf": ecf.metavision([]),
    }
    check(format, empty[format], [], sensor=HD)


def coordinates(sensor: Sensor, last: int) -> st.SearchStrategy[list[Event]]:
    """Events in any order of time; neighbours in time and place are likely."""
    near = st.one_of(st.integers(0, min(last, 70)), st.integers(0, last))
    x = st.one_of(st.integers(0, min(30, sensor.width - 1)), st.integers(0, sensor.width - 1))
    return st.lists(st.tuples(near, x, st.integers(0, sensor.height - 1), st.integers(0, 1)), max_size=40)


def ascending(found: list[Event]) -> list[Event]:
    return sorted(found, key=lambda row: row[0])


def in_order(found: list[Event]) -> list[Event]:
    return found


ANY_EVENTS = {
    "bin": (Sensor(34, 34, 2), 2**23 - 1, in_order, plain.bin_file),
    "aedat2": (DVS, 2**31 - 1, in_order, lambda rows: aedat.aedat2(aedat.dvs128(rows), chip=aedat.DVS128)),
    "aedat3": (DVS, 2**31 - 1, in_order, lambda rows: aedat.aedat3(*(aedat.polarities([row]) for row in rows))),
    "aedat4": (HD, 2**60, in_order, lambda rows: aedat4.aedat4([(0, aedat4.events(rows))], compression=aedat4.LZ4)),
    "dat": (VGA, 2**32 - 1, ascending, p.dat),
    "evt2": (VGA, 2**34 - 1, ascending, lambda rows: p.evt2(p.evt2_body(rows))),
    "evt21": (HD, 2**34 - 1, ascending, lambda rows: p.evt21(p.evt21_words(rows))),
    "evt3": (HD, 2**12 - 1, in_order, lambda rows: p.evt3(p.evt3_words(rows))),
    "ecf": (HD, 2**60, ascending, lambda rows: ecf.metavision(rows, chunk_size=8)),
    "npy": (DVS, 2**31 - 1, in_order, lambda rows: plain.npy(plain.structured(rows))),
    "npz": (HD, 2**53, in_order, lambda rows: plain.npz(plain.columns(rows))),
    "asldvs": (DAVIS, 2**31 - 1, in_order, plain.asldvs),
    "text": (DAVIS, 10**15, in_order, plain.text),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return tmp_path_factory.mktemp("any")


@pytest.mark.parametrize("format", ANY_EVENTS)
def test_any_events_come_back(format, room):
    sensor, last, order, encode = ANY_EVENTS[format]

    @settings(max_examples=25)
    @given(coordinates(sensor, last))
    def hold(drawn):
        expected = order(drawn)
        path = room / format
        path.write_bytes(encode(expected))
        recording = open_recording(path, format=format, sensor=sensor)
        assert rows(recording.read()) == expected
        assert rows(recording.chunks(5)) == expected

    hold()


# Our own files.


@pytest.mark.parametrize("format", [name for name in MAKERS if name in FORMATS and FORMATS[name].write])
def test_what_is_written_is_read_and_is_the_same_file_again(format, tmp_path):
    """Writers are proved by readers that were proved above."""
    sample = samples(format)[0]
    few, sensor = sample.events, sample.sensor
    stream = EventStream.from_numpy(*np.array(few).T, sensor=sensor)
    write(stream, tmp_path / "a", format=format)
    agree(tmp_path / "a", format, few, sensor=sensor)
    write(read(tmp_path / "a", format=format, sensor=sensor), tmp_path / "b", format=format)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_own_file_keeps_everything(tmp_path):
    stream = EventStream.from_numpy(
        [-(2**62), 5, 5, 2**62], [0, 99_999, 7, 0], [0, 1, 0, 1], [2, 0, 1, 2], sensor=Sensor(100_000, 2, 3)
    )
    write(stream, tmp_path / "a", format="spikenet")
    found = read(tmp_path / "a")
    assert found.sensor == stream.sensor
    assert rows(found) == rows(stream)
    write(stream.take(stream.t > 2**63 - 1), tmp_path / "b", format="spikenet")
    assert rows(read(tmp_path / "b")) == []
