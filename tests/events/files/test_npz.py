"""``.npz`` archives of t, x, y, p, made with zipfile and numpy."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write

HARDVS = Sensor(346, 260, 2)
EVENTS = {"t": [0, 5, 2**40], "x": [345, 0, 17], "y": [0, 259, 3], "p": [1, 0, 1]}


def arrays(**changes):
    columns = EVENTS | changes
    dtypes = {"t": "<i8", "x": "<i2", "y": "<i2", "p": "?"}
    return {name: np.array(values, getattr(values, "dtype", dtypes[name])) for name, values in columns.items()}


@pytest.fixture
def archive(tmp_path):
    """Writes an archive member by member; values may be arrays or bytes."""

    def make(members, method=zipfile.ZIP_STORED, name="a.npz"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", method) as file:
            for key, value in members.items():
                content = io.BytesIO()
                if not isinstance(value, bytes):
                    np.save(content, value, allow_pickle=True)
                file.writestr(f"{key}.npy", value if isinstance(value, bytes) else content.getvalue())
        return path

    return make


def same(stream, events):
    return all(getattr(stream, name).tolist() == list(events[name]) for name in "txyp")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpys_own_archives(tmp_path, save):
    save(tmp_path / "a.npz", **arrays())
    with pytest.raises(ArgumentError, match="names no sensor size"):
        read(tmp_path / "a.npz")
    assert same(read(tmp_path / "a.npz", sensor=HARDVS), EVENTS)


def test_columns_and_other_members(archive):
    members = {name: array[:, None] for name, array in arrays().items()} | {"label": np.array(3)}
    assert same(read(archive(members), sensor=HARDVS), EVENTS)


def test_a_sensor_of_its_own(archive):
    path = archive(arrays() | {"sensor": np.array([346, 260, 2], np.int16)})
    assert read(path).sensor == HARDVS
    for wrong in ([346, 260], [346, 0, 2], [346.0, 260.0, 2.0]):
        with pytest.raises(FormatError, match="sensor wants"):
            read(archive(arrays() | {"sensor": np.array(wrong)}))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_pieces_are_the_whole(archive, method):
    events = {"t": np.arange(5000), "x": np.arange(5000) % 346, "y": np.arange(5000) % 260, "p": np.arange(5000) % 2}
    recording = open_recording(archive(events, method), sensor=HARDVS)
    chunks = list(recording.chunks(3000))
    assert len(chunks) > 3
    assert same(EventStream.concat(chunks), events)
    assert recording.slice(2000, 2004).t.tolist() == [2000, 2001, 2002, 2003]


def test_missing_and_unequal(archive):
    members = arrays()
    with pytest.raises(FormatError, match=r"lacks the arrays \['p'\]; it holds \['t', 'x', 'y'\]"):
        read(archive({name: members[name] for name in "txy"}), sensor=HARDVS)
    with pytest.raises(FormatError, match=r"arrays of one length are wanted, received {'t': 3, 'x': 2"):
        read(archive(arrays(x=[1, 2])), sensor=HARDVS)
    with pytest.raises(FormatError, match="y wants one dimension"):
        read(archive(members | {"y": np.zeros((3, 2), int)}), sensor=HARDVS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": np.array([1, -2, 3])}, "t wants whole numbers from 0 .* -2 at event 1"),
        ({"t": np.array([1.0, np.nan, 3.0])}, "t wants whole numbers from 0 .* nan at event 1"),
        ({"t": np.array([1, 2, 2**63], np.uint64)}, "t wants whole numbers from 0 .* at event 2"),
        ({"x": np.array([0, 2**33, 0])}, "x wants whole numbers .* at event 1"),
        ({"x": np.array([0, np.inf, 0], np.float16)}, "x wants whole numbers .* inf at event 1"),
        ({"x": np.array([0, 2**31, 0], np.float32)}, "x wants whole numbers .* at event 1"),
        ({"p": np.array([1, -1, 1])}, "first number 1: column 0, row 259, polarity -1"),
        ({"p": np.array(["a", "b", "c"])}, "p wants numbers"),
        ({"x": np.array([None, 1, 2])}, "pickled objects"),
    ],
)
def test_bad_values(archive, changes, message):
    with pytest.raises(FormatError, match=message):
        read(archive(arrays() | changes), sensor=HARDVS)


def test_headers_that_claim_more_than_is_there(archive):
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (2147483648,), }".ljust(117) + "\n"
    claim = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(24)
    with pytest.raises(FormatError, match=r"t has 152 bytes for 2147483648 numbers"):
        read(archive(arrays() | {"t": claim}), sensor=HARDVS)


def test_a_zip_bomb(archive):
    bomb = {"t": np.zeros(12_000_000, np.int64)}
    with pytest.raises(FormatError, match="t claims 96000128 bytes; a file of this size may hold"):
        read(archive(arrays() | bomb, zipfile.ZIP_DEFLATED), sensor=HARDVS)


def test_packing_that_may_hide_a_bomb(archive):
    with pytest.raises(FormatError, match="t is packed by method 14"):
        read(archive(arrays(), zipfile.ZIP_LZMA), sensor=HARDVS)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_truncated_or_flipped(archive, tmp_path, method):
    whole = archive(arrays(), method).read_bytes()
    path = tmp_path / "b.npz"
    for size in range(0, len(whole), 13):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read(path, sensor=HARDVS)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(path, sensor=HARDVS)
        except FormatError:
            continue


def test_a_changed_number_fails_its_checksum(archive):
    path = archive(arrays())
    content = path.read_bytes()
    place = content.index(np.array(EVENTS["x"], "<i2").tobytes())
    path.write_bytes(content[:place] + b"\x00" + content[place + 1 :])
    with pytest.raises(FormatError, match=r"Bad CRC-32 for file 'x\.npy'"):
        read(path, sensor=HARDVS)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**53), st.integers(0, 70_000), st.integers(0, 259), st.integers(0, 3)), max_size=20
    )
)
def test_written_and_read(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    columns = np.array(events, np.int64).reshape(-1, 4).T
    stream = EventStream.from_numpy(*columns, sensor=Sensor(70_001, 260, 4))
    write(stream, path)
    again = read(path)
    assert all(torch.equal(getattr(again, name), getattr(stream, name)) for name in "txyp")
    assert again.sensor == stream.sensor
    with np.load(path) as file:
        assert all(np.array_equal(file[name], column) for name, column in zip("txyp", columns, strict=True))


def test_what_the_layout_does_not_hold(tmp_path):
    for t in (-1, 2**53 + 1):
        with pytest.raises(ArgumentError, match="npz files hold times from 0"):
            write(EventStream.from_numpy([t], [0], sensor=HARDVS), tmp_path / "a.npz")
