"""What all event files share: recognition, flips, chunks, slices, losses, writing whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from spikenet.errors import ArgumentError, DataError, FormatError, UnknownNameError
from spikenet.events import FORMATS, EventStream, Sensor, open_recording, read, write
from spikenet.events.files.recording import Columns, Losses, Measured, Opening, Recording, blank
from tests.events.files.prophesee_bytes import assert_same, evt2, evt2_event, evt2_high, random_stream, raw, rows

VGA = Sensor(640, 480, 2)
WRITERS = ("dat", "ecf", "evt2", "evt21", "evt3")


@pytest.fixture
def three(tmp_path):
    """A file of three events."""
    words = [evt2_high(0), evt2_event(1, 0, 0, 0), evt2_event(2, 639, 1, 1), evt2_event(3, 5, 479, 1)]
    return raw(tmp_path / "three.raw", "2.0", evt2(*words))


@pytest.mark.parametrize("name", WRITERS)
def test_content_is_recognised_whatever_the_name(tmp_path, name):
    stream = random_stream(0, 50, VGA)
    write(stream, tmp_path / "noname", format=name)
    assert_same(read(tmp_path / "noname"), stream)
    path, head = tmp_path / "noname", (tmp_path / "noname").read_bytes()
    found = [each.name for each in FORMATS.values() if each.recognises(path, head)]
    assert found == [name]


def test_unknown_content(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"neither of them")
    with pytest.raises(FormatError, match=r"no known format.*neither"):
        read(tmp_path / "a.raw")


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path / "a.raw")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_unknown_format(three, tmp_path):
    with pytest.raises(UnknownNameError, match="evt2"):
        read(three, format="evt22")
    with pytest.raises(UnknownNameError):
        write(read(three), tmp_path / "b.raw", format="evt22")


def test_extension_of_several_formats(three, tmp_path):
    with pytest.raises(ArgumentError, match="evt2, evt21, evt3"):
        write(read(three), tmp_path / "b.raw")
    with pytest.raises(ArgumentError, match="names 0 formats"):
        write(read(three), tmp_path / "b.unheard_of")


def test_write_replaces_and_leaves_nothing_behind(three, tmp_path):
    path = tmp_path / "b.dat"
    path.write_text("old")
    write(read(three), path)
    assert_same(read(path), read(three))
    unwritable = EventStream.from_numpy([-1], [0], [0], [0], sensor=VGA)
    with pytest.raises(ArgumentError):
        write(unwritable, path)
    assert_same(read(path), read(three))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.dat", "three.raw"]


def test_flips(three):
    assert rows(read(three)) == [(1, 0, 0, 0), (2, 639, 1, 1), (3, 5, 479, 1)]
    assert [row[1] for row in rows(read(three, flip_x=True))] == [639, 0, 634]
    assert [row[2] for row in rows(read(three, flip_y=True))] == [479, 478, 0]
    assert [row[3] for row in rows(read(three, flip_p=True))] == [1, 0, 0]
    flipped = read(three, flip_x=True, flip_y=True, flip_p=True)
    flipped.check()
    assert flipped.sensor == VGA


def test_another_sensor_takes_the_place_of_the_files(three):
    assert read(three, sensor=Sensor(700, 500, 2)).sensor == Sensor(700, 500, 2)
    with pytest.raises(FormatError, match="2 x 2 x 2"):
        read(three, sensor=Sensor(2, 2, 2))


@pytest.mark.parametrize("limit", [Sensor(639, 480, 2), Sensor(640, 479, 2), Sensor(640, 480, 1)])
def test_every_limit_is_checked(three, limit):
    with pytest.raises(FormatError, match="outside"):
        read(three, sensor=limit)


def test_slices_are_half_open(three):
    recording = open_recording(three)
    assert [row[0] for row in rows(recording.slice(1, 3))] == [1, 2]
    assert rows(recording.slice(4, 9)) == []
    assert recording.slice(4, 9).sensor == VGA


def test_chunks_can_be_asked_for_again(three):
    recording = open_recording(three)
    for _ in range(2):
        assert [len(chunk) for chunk in recording.chunks(4)] == [0, 1, 1, 1]
    with pytest.raises(ArgumentError, match="1 byte"):
        recording.chunks(0)


def test_losses_are_those_of_the_last_pass(tmp_path):
    path = raw(
        tmp_path / "a.raw", "2.0", evt2(evt2_high(0), 0xA << 28, evt2_event(1, 640, 0, 0), evt2_event(1, 1, 0, 0))
    )
    recording = open_recording(path, strict=False)
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out 1"):
            assert len(recording.read()) == 1
        assert sorted(recording.dropped.values()) == [1, 1]


@pytest.mark.parametrize("measured", [True, False])
def test_columns_are_looked_at_unless_their_decoder_has_measured_them(tmp_path, measured):
    columns = Columns(
        np.zeros(3, np.int64), np.array([1, 2, -1], np.int32), np.zeros(3, np.int32), np.zeros(3, np.int8)
    )
    if measured:
        columns = Measured(*columns)
        columns.top = (2, 0, 2)

    class Source:
        header, sensor = {}, Sensor(3, 1, 2)

        def pieces(self, size):
            yield columns

    losses = Losses(tmp_path / "a", strict=False)
    recording = Recording(Source(), losses, None, (False, False, False), 1)
    with pytest.warns(UserWarning, match="left out 1 x event outside"):
        assert rows(recording.read()) == [(0, 1, 0, 0), (0, 2, 0, 0)]


@pytest.mark.parametrize("head", [0, 10, 100, 1000])
@pytest.mark.parametrize("size", [1, 7, 64, 100, 5000])
def test_blocks_are_the_bytes_of_the_file(tmp_path, head, size):
    content = np.random.default_rng(0).bytes(1000)
    path = tmp_path / "a"
    path.write_bytes(content)
    opening = Opening(path, Losses(path, True), None, None, content[:head], len(content))
    for start, stop in ((0, 1000), (13, 990), (5, 5), (3, 64)):
        blocks = [bytes(block) for block in opening.blocks(start, stop, size)]
        assert b"".join(blocks) == content[start:stop]
        assert all(len(block) == size for block in blocks[:-1])


def test_file_that_shrinks(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    opening = Opening(path, Losses(path, True), None, None, b"", 9)
    with pytest.raises(DataError, match="4 bytes shorter"):
        list(opening.blocks(0, 9, 9))


@pytest.mark.parametrize("count", [0, 5, 1 << 18])
def test_blank_columns_are_those_of_a_stream(count):
    columns = blank(count)
    assert [column.dtype for column in columns] == [np.int64, np.int32, np.int32, np.int8]
    assert {len(column) for column in columns} == {count}


@pytest.mark.parametrize("name", WRITERS)
def test_large_file(tmp_path, name):
    """Past every bound below which small files are read in a shorter way."""
    stream = random_stream(7, 300_000, VGA)
    write(stream, tmp_path / "a", format=name)
    assert_same(read(tmp_path / "a"), stream)
    assert_same(EventStream.concat(list(open_recording(tmp_path / "a").chunks(100_003))), stream)
