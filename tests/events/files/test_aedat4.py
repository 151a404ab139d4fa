"""AEDAT 4: a real file against a second decoder, files built by hand in every compression, damage, the way back."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from spikenet.errors import ArgumentError, DataError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from spikenet.events.files.aedat4 import write_aedat4
from tests.events.files.aedat_bytes import (
    assert_pieces_agree,
    evts,
    header4,
    packet4,
    random_stream,
    refusal,
    rows,
    sample,
    stored,
    stream_xml,
    tolerated,
)

QVGA = Sensor(320, 240, 2)
CAMERA = stream_xml(0, "EVTS", QVGA)
START = 1_605_537_493_718_345  # Unix time in microseconds
EVENTS = [(START, 0, 0, 0), (START + 5, 319, 239, 1), (START + 5, 7, 9, 0), (START + 900, 100, 200, 1)]
BROKEN = "packet that cannot be read"
OUTSIDE = "it is no flatbuffer of events, or an offset or a length in it leads outside"


def recorded(path, *packets, compression=0, streams=(CAMERA,), **changes):
    return stored(path, header4(compression, *streams, **changes), *packets)


def test_real_file():
    path = sample("aedat4/tonic_sample.aedat4")
    recording = open_recording(path)
    stream = recording.read()
    assert (len(stream), stream.sensor) == (111954, QVGA)
    assert recording.header["source"] == "DVXplorer_DXB00010"
    assert recording.dropped == {"packet of IMUS": 59}


def test_real_file_as_numpy_and_lz4_read_it():
    frames = pytest.importorskip("lz4.frame")
    path = sample("aedat4/tonic_sample.aedat4")
    content = path.read_bytes()
    (header,) = struct.unpack_from("<I", content, 14)
    (end,) = struct.unpack_from("<q", content, content.index(b"[l\x0e\0"))  # seen in a hex dump: the table's place
    place, found = 18 + header, []
    while place < end:
        number, size = struct.unpack_from("<ii", content, place)
        if number == 0:
            packet = frames.decompress(content[place + 8 : place + 8 + size])
            assert packet[8:12] == b"EVTS"
            found.append(np.frombuffer(packet, "<i8, <i2, <i2, u1, 3u1", offset=32))
        place += 8 + size
    t, x, y, p, _ = (np.concatenate([part[f"f{k}"] for part in found]) for k in range(5))
    stream = read(path)
    for name, column in zip("txyp", (t, x, y, p), strict=True):
        np.testing.assert_array_equal(getattr(stream, name).numpy(), column)


def test_real_file_in_pieces():
    path = sample("aedat4/tonic_sample.aedat4")
    assert_pieces_agree(path, (1, 100_000))


def test_packets_that_are_not_compressed(tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS[:3])), packet4(evts([])), packet4(evts(EVENTS[3:])))
    stream = read(path)
    assert (rows(stream), stream.sensor) == (EVENTS, QVGA)
    assert_pieces_agree(path, (1, 50, 10_000))


def test_fields_that_are_left_out_have_their_defaults(tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS)), compression=None)
    assert rows(read(path)) == EVENTS


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("level", [0, 9])
def test_lz4_as_its_library_writes_it(linked, sums, level, tmp_path):
    frames = pytest.importorskip("lz4.frame")
    many = [(START + k // 3, k % 320, k * 7 % 240, k % 2) for k in range(9000)]  # more than one block of 64 KiB
    options = {"block_linked": linked, "content_checksum": sums, "block_checksum": sums, "store_size": not sums}
    packed = [frames.compress(evts(part), compression_level=level, **options) for part in (many, EVENTS, [])]
    path = recorded(tmp_path / "a.aedat4", *(packet4(content) for content in packed), compression=1 + (level > 0))
    assert rows(read(path)) == many + EVENTS


def test_zstd_as_its_library_writes_it(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    content = zstandard.ZstdCompressor().compress(evts(EVENTS))
    path = recorded(tmp_path / "a.aedat4", packet4(content), packet4(content), compression=3)
    assert rows(read(path)) == EVENTS * 2
    path = recorded(tmp_path / "b.aedat4", packet4(content), packet4(content[:-9]), compression=4)
    assert BROKEN in str(refusal(path))
    assert tolerated(path)[0] == EVENTS


@pytest.fixture
def no_zstd(monkeypatch):
    for name in ("compression", "compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)


def test_zstd_without_a_library(no_zstd, tmp_path):
    with pytest.raises(DataError, match="pip install zstandard"):
        read(recorded(tmp_path / "a.aedat4", compression=3))


def test_zstd_by_pythons_own_module(no_zstd, monkeypatch, tmp_path):
    """Python 3.14 has it; here a stand-in with its two names, whose frames are reversed bytes."""

    class ZstdDecompressor:
        def decompress(self, content, max_length):
            if not content:
                raise ZstdError
            return content[::-1][:max_length]

    class ZstdError(Exception):
        pass

    module = type(sys)("compression.zstd")
    module.ZstdDecompressor, module.ZstdError = ZstdDecompressor, ZstdError
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    monkeypatch.setitem(sys.modules, "compression", type(sys)("compression"))
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS)[::-1]), packet4(b""), compression=3)
    assert tolerated(path) == (EVENTS, {f"{BROKEN}: the zstd frame is broken": 1})


def test_packets_of_other_streams_are_counted(tmp_path):
    streams = (CAMERA, stream_xml(1, "FRME", QVGA), stream_xml(2, "IMUS", None))
    others = [packet4(b"anything", 1), packet4(b"", 2), packet4(b"", 2), packet4(evts(EVENTS, b"TRIG"))]
    path = recorded(tmp_path / "a.aedat4", *others, packet4(evts(EVENTS)), streams=streams)
    recording = open_recording(path)
    assert rows(recording.read()) == EVENTS
    assert recording.dropped == {"packet of FRME": 1, "packet of IMUS": 2, "packet of another kind": 1}
    assert_pieces_agree(path, (1, 100))


def test_one_of_two_cameras_is_chosen(tmp_path):
    streams = (stream_xml(5, "EVTS", Sensor(20, 10, 2)), CAMERA)
    small = [(3, 19, 9, 1)]
    packets = (packet4(evts(small), 5), packet4(evts(EVENTS), 0))
    path = recorded(tmp_path / "a.aedat4", *packets, streams=streams)
    for index in (None, 2, -1):
        with pytest.raises(ArgumentError, match=r"2 event streams \(0: camera0, 1: camera5\); index= chooses"):
            read(path, index=index)
    first, second = read(path, index=0), read(path, index=1)
    assert (rows(first), first.sensor) == (EVENTS, QVGA)
    assert (rows(second), second.sensor) == (small, Sensor(20, 10, 2))
    recording = open_recording(path, index=1)
    assert len(recording.read()) == 1
    assert recording.dropped == {"packet of another event stream": 1}


@pytest.mark.parametrize("xml", ["", "<dv/>", '<dv><node name="outInfo"/></dv>'])
def test_a_file_that_names_no_stream(xml, tmp_path):
    """The first stream with events is read; the sensor is the caller's to name."""
    packets = packet4(evts(EVENTS), 4), packet4(evts(EVENTS[:2]), 5)
    path = recorded(tmp_path / "a.aedat4", *packets, xml=xml)
    with pytest.raises(ArgumentError, match="names no sensor size"):
        read(path)
    recording = open_recording(path, sensor=QVGA)
    assert rows(recording.read()) == EVENTS
    assert recording.dropped == {"event of another stream": 2}


@pytest.mark.parametrize("xml", ["<dv>", "<!DOCTYPE dv><dv/>", '<dv><node name="outInfo"><node name="x"/></node></dv>'])
def test_xml_that_cannot_be_read(xml, tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS)), xml=xml)
    assert "XML text that cannot be read" in str(refusal(path, sensor=QVGA))


def test_packets_end_where_their_table_begins(tmp_path):
    body = packet4(evts(EVENTS))
    start = len(header4(0, CAMERA, table=0))
    path = recorded(tmp_path / "a.aedat4", body, b"a table", table=start + len(body))
    assert rows(read(path)) == EVENTS
    assert rows(read(recorded(path, body, table=-1))) == EVENTS
    for place in (start - 1, 0, 10**6, -2, 2**62):
        path = recorded(path, body, table=place)
        assert f"said to be at byte {place}" in str(refusal(path))


@pytest.mark.parametrize(("compression", "named"), [(5, "5"), (-1, "-1")])
def test_unknown_compressions_are_named(compression, named, tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS)), compression=compression)
    assert f"compression {named} is not known" in str(refusal(path))


def test_truncation_at_every_byte(tmp_path):
    """In the header nothing can be saved; behind it the whole packets are, and the lost bytes are counted."""
    begin, first = header4(0, CAMERA), packet4(evts(EVENTS[:2]))
    whole = begin + first + packet4(evts(EVENTS[2:]))
    path = tmp_path / "a.aedat4"
    for size in range(len("#!AER-DAT4"), len(begin)):
        assert refusal(stored(path, whole[:size]), strict=False).offset in (0, 14)
    for size in range(len(begin), len(whole)):
        stored(path, whole[:size])
        ends = [end for end in (len(begin), len(begin + first)) if end <= size]
        kept = EVENTS[: 2 * len(ends) - 2]
        if size == ends[-1]:
            assert rows(read(path)) == kept
            continue
        assert refusal(path).offset == ends[-1]
        found, dropped = tolerated(path)
        assert (found, list(dropped.values())) == (kept, [size - ends[-1]])


@pytest.mark.parametrize("size", [-1, 2**31 - 1])
def test_a_packet_size_that_cannot_be(size, tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS)), struct.pack("<ii", 0, size) + bytes(40))
    assert "reaches past the end" in str(refusal(path))
    assert tolerated(path)[0] == EVENTS


OFFSETS = {"size": 0, "root": 4, "vtable": 12, "vector": 16, "vtable size": 20, "field": 24, "events": 28}


@pytest.mark.parametrize("name", OFFSETS)
@pytest.mark.parametrize("value", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 70])
def test_offsets_that_lead_outside_are_refused_or_harmless(name, value, tmp_path):
    damaged = bytearray(evts(EVENTS))
    struct.pack_into("<I", damaged, OFFSETS[name], value)
    path = recorded(tmp_path / "a.aedat4", packet4(evts(EVENTS)), packet4(bytes(damaged)))
    begin = len(header4(0, CAMERA)) + len(packet4(evts(EVENTS)))
    if name in ("size", "root", "vector", "events"):
        assert refusal(path).offset == begin
    recording = open_recording(path, strict=False)
    stream = EventStream.concat(list(recording.chunks()))
    stream.check()
    assert rows(stream) in (EVENTS, EVENTS * 2)


def test_a_count_of_events_that_are_not_there(tmp_path):
    """2^32 - 1 events of 16 bytes: refused before anything is allocated."""
    for count in (5, 2**28, 2**32 - 1):
        claim = bytearray(evts(EVENTS))
        struct.pack_into("<I", claim, 28, count)
        path = recorded(tmp_path / "a.aedat4", packet4(bytes(claim)), packet4(evts(EVENTS)))
        assert BROKEN in str(refusal(path))
        assert tolerated(path) == (EVENTS, {f"{BROKEN}: {OUTSIDE}": 1})


@pytest.mark.parametrize("content", [b"", b"\0" * 11, bytes(40), evts(EVENTS, b"\0\1\2\3")])
def test_packets_that_are_no_flatbuffers(content, tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(content), packet4(evts(EVENTS)))
    assert BROKEN in str(refusal(path))
    assert tolerated(path)[0] == EVENTS


def test_every_flipped_byte_of_a_summed_packet_is_found(tmp_path):
    """The frame's checksums cover all of it; what they cannot see is the first bits of its flags."""
    frames = pytest.importorskip("lz4.frame")
    content = frames.compress(evts(EVENTS), content_checksum=True)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path = recorded(tmp_path / "a.aedat4", packet4(bytes(damaged)), packet4(content), compression=1)
        assert BROKEN in str(refusal(path))
        assert tolerated(path)[0] == EVENTS


def test_addresses_outside_the_sensor(tmp_path):
    path = recorded(tmp_path / "a.aedat4", packet4(evts([(1, -1, 0, 0), (2, 3, 4, 1), (3, 0, 0, 255)])))
    assert "column -1, row 0, polarity 0" in str(refusal(path))
    assert tolerated(path)[0] == [(2, 3, 4, 1)]


@pytest.mark.parametrize("compression", [0, 1])
def test_round_trip(compression, tmp_path):
    sensor, path = Sensor(77, 33, 2), tmp_path / "a.aedat4"
    for count in (0, 1, 20_000):  # three packets
        stream = random_stream(sensor, count, 2**40)
        write_aedat4(stream, path, compression)
        again = read(path)
        assert (rows(again), again.sensor) == (rows(stream), sensor)
    assert_pieces_agree(path, (1, 200_000))


def test_any_time_comes_back(tmp_path):
    times = [-(2**63), 2**63 - 1, 0, -1]
    write(EventStream.from_numpy(times, [32767] * 4, sensor=Sensor(32768, 1, 2)), tmp_path / "a.aedat4")
    assert read(tmp_path / "a.aedat4").t.tolist() == times


def test_written_packets_are_smaller_and_the_library_reads_them(tmp_path):
    frames = pytest.importorskip("lz4.frame")
    stream = random_stream(QVGA, 5000, 10**6)
    write(stream, tmp_path / "a.aedat4")
    content = (tmp_path / "a.aedat4").read_bytes()
    place = 18 + struct.unpack_from("<I", content, 14)[0]
    number, size = struct.unpack_from("<ii", content, place)
    packet = frames.decompress(content[place + 8 :])
    assert (number, size) == (0, len(content) - place - 8)
    assert size < 0.75 * len(packet)
    assert np.frombuffer(packet, "<i8, <i2, <i2, u1, 3u1", offset=32)["f0"].tolist() == stream.t.tolist()


@pytest.mark.parametrize("sensor", [Sensor(32769, 1, 2), Sensor(1, 32769, 2), Sensor(9, 9, 1), Sensor(9, 9, 3)])
def test_what_it_cannot_hold(sensor, tmp_path):
    with pytest.raises(ArgumentError, match=r"AEDAT 4 holds events of 32768 x 32768 x 2 .* received"):
        write(EventStream.from_numpy([0], [0], sensor=sensor), tmp_path / "a.aedat4")
    assert not list(tmp_path.iterdir())
