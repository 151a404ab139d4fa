"""Structured ``.npy`` files, written by hand from the format's description (NEP 1) and with numpy."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write

LIP = "[('t', '<i4'), ('x', '|i1'), ('y', '|i1'), ('p', '|i1')]"
LIP_EVENTS = [(0, 0, 0, 1), (17, 127, 5, 0), (2**31 - 1, 1, 127, 1)]
LIP_SENSOR = Sensor(128, 128, 2)


def npy(descr, shape, body, version=1):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + (11 if version == 1 else 13)) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


def body(events=LIP_EVENTS, code="<ibbb"):
    return b"".join(struct.pack(code, *event) for event in events)


def rows(stream):
    return list(zip(*(getattr(stream, name).tolist() for name in "txyp"), strict=True))


@pytest.fixture
def written(tmp_path):
    def put(content):
        path = tmp_path / "a.npy"
        path.write_bytes(content)
        return path

    return put


@pytest.mark.parametrize("version", [1, 2])
def test_dvs_lip(written, version):
    stream = read(written(npy(LIP, "(3,)", body(), version)))
    assert (rows(stream), stream.sensor) == (LIP_EVENTS, LIP_SENSOR)
    assert rows(read(written(npy(LIP, "(0,)", b"", version)))) == []


@pytest.mark.parametrize(
    ("dtype", "code"),
    [
        ("[('x', '<u2'), ('y', '<u2'), ('t', '<i8'), ('p', '|b1')]", "<HHq?"),
        ("[('x', '>u4'), ('y', '>i2'), ('t', '>u8'), ('p', '|u1')]", ">IhQB"),
        ("[('x', '<f8'), ('y', '<f4'), ('t', '<f8'), ('p', '<f8')]", "<dfdd"),
    ],
)
def test_other_numbers_need_a_sensor(written, dtype, code):
    events = [(639, 479, 5, 1), (0, 1, 2**40, 0)]
    path = written(npy(dtype, "(2,)", body(events, code)))
    with pytest.raises(ArgumentError, match="names no sensor size"):
        read(path)
    assert rows(read(path, sensor=Sensor(640, 480, 2))) == [(t, x, y, p) for x, y, t, p in events]


def test_other_fields_are_ignored(written):
    path = written(npy(LIP.replace("]", ", ('label', '<u2')]"), "(3,)", body([(*e, 7) for e in LIP_EVENTS], "<ibbbH")))
    assert rows(read(path, sensor=LIP_SENSOR)) == LIP_EVENTS


def test_pieces_are_the_whole(written):
    events = [(number, number % 100, 3, 1) for number in range(1000)]
    recording = open_recording(written(npy(LIP, "(1000,)", body(events))))
    assert [len(chunk) for chunk in recording.chunks(70 * 30)] == [300, 300, 300, 100]
    assert rows(recording.slice(298, 303)) == events[298:303]
    assert list(recording.header) == ["dtype", "events"]


def test_a_claim_takes_no_memory(written):
    path = written(npy(LIP, "(2147483648,)", body()))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="2147483648 events are announced, 3 are there"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6


def test_cut_off_or_too_long(written):
    whole = npy(LIP, "(3,)", body())
    with pytest.raises(FormatError, match="3 events are announced, 2 are there"):
        read(written(whole[:-1]))
    with pytest.raises(FormatError, match="bytes after the last event"):
        read(written(whole + b"1234567890"))
    with pytest.warns(UserWarning, match="left out 1 x 3 events"):
        assert rows(read(written(whole[:-1]), strict=False)) == LIP_EVENTS[:2]
    with pytest.warns(UserWarning, match="left out 10 x bytes"):
        assert rows(read(written(whole + b"1234567890"), strict=False)) == LIP_EVENTS


def test_every_truncation_is_refused(written):
    whole = npy(LIP, "(3,)", body())
    for size in range(len(whole)):
        with pytest.raises(FormatError):
            read(written(whole[:size]))


def test_every_flipped_byte_ends_well(written):
    whole = npy(LIP, "(3,)", body())
    for place in range(len(whole)):
        for flip in (0x01, 0xFF):
            path = written(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                read(path, sensor=LIP_SENSOR)
            except FormatError:
                continue


def test_objects_are_never_loaded(written):
    for array in (np.array([{"t": 1}]), np.zeros(2, [("t", object), ("x", "i1"), ("y", "i1"), ("p", "i1")])):
        content = io.BytesIO()
        np.save(content, array, allow_pickle=True)
        with pytest.raises(FormatError, match="pickled objects"):
            read(written(content.getvalue()))


@pytest.mark.parametrize(
    ("descr", "shape", "message"),
    [
        ("'<i4'", "(4, 3)", "wants one dimension"),
        ("'<i4'", "(4,)", "structured array with fields t, x, y, p"),
        (LIP.replace("'p'", "'q'"), "(3,)", "structured array with fields t, x, y, p"),
        (LIP.replace("<i4", "<U1"), "(3,)", "t wants numbers"),
        (LIP.replace("<i4", "<c8"), "(3,)", "t wants numbers"),
        (LIP.replace("'<i4'", "'<i4', (2,)"), "(3,)", "t wants numbers"),
        (LIP, "(-3,)", "wants one dimension"),
        (LIP, "'three'", "not a readable npy file"),
        (LIP, "((((" * 300, "not a readable npy file"),
    ],
)
def test_other_arrays(written, descr, shape, message):
    with pytest.raises(FormatError, match=message):
        read(written(npy(descr, shape, body())), sensor=LIP_SENSOR)


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        (2, -1.0, "t wants whole numbers from 0"),
        (2, float("nan"), "t wants whole numbers from 0"),
        (2, 2.0**60, "t wants whole numbers from 0"),
        (2, 0.5, "t wants whole numbers from 0"),
        (0, 1e12, "x wants whole numbers"),
        (0, 2.0**31, "x wants whole numbers"),
        (0, 128.0, "column 128, row 2"),
        (1, -1.0, "row -1"),
        (3, 2.0, "polarity 2"),
        (3, 256.0, "p wants whole numbers"),
    ],
)
def test_bad_values(written, field, wrong, message):
    events = [[1.0, 2.0, 3.0, 1.0] for _ in range(4)]
    events[2][field] = wrong
    path = written(npy("[('x', '<f8'), ('y', '<f8'), ('t', '<f8'), ('p', '<f8')]", "(4,)", body(events, "<dddd")))
    with pytest.raises(FormatError, match=message):
        read(path, sensor=LIP_SENSOR)
    with pytest.warns(UserWarning, match="left out 1 x"):
        assert len(read(path, sensor=LIP_SENSOR, strict=False)) == 3


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 127), st.integers(0, 127), st.integers(0, 1)), max_size=20
    )
)
def test_written_and_read(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    stream = EventStream.from_numpy(*np.array(events, np.int64).reshape(-1, 4).T, sensor=LIP_SENSOR)
    write(stream, path)
    assert rows(read(path)) == events
    assert path.read_bytes().endswith(body(events))
    assert np.load(path).dtype == np.dtype([("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")])


def test_what_the_layout_does_not_hold(tmp_path):
    for t, sensor in ((-1, LIP_SENSOR), (2**31, LIP_SENSOR), (1, Sensor(128, 128, 1))):
        with pytest.raises(ArgumentError, match="npy files hold"):
            write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a.npy")


def test_nothing_shares_memory_with_the_file(written):
    recording = open_recording(written(npy(LIP, "(3,)", body())))
    recording.read().t.zero_()
    assert torch.equal(recording.read().t, torch.tensor([event[0] for event in LIP_EVENTS]))
