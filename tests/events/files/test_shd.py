"""SHD files written with h5py, in every layout that HDF5 offers for them; read back exactly or refused by name."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenet.data import read_spikes, write_spikes
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from spikenet.events.files.hdf5 import open_hdf5
from spikenet.events.files.shd import StoredSpikeFile

FSDD = Path(__file__).resolve().parents[4] / "shared/data/fsdd_spikes_valid.h5.gz"
TIMES = [[0.0, 0.0468, 0.1973, 0.9023], [], [0.5]]
UNITS = [[0, 4, 699, 17], [], [5]]


def make(path, times=TIMES, units=UNITS, dtype="<f2", labels=(2, 0, 1), keys=(b"null", b"eins", b"zwei"), **layout):
    with h5py.File(path, "w") as file:
        for name, arrays, inner in (("times", times, dtype), ("units", units, "<u2")):
            data = file.create_dataset(f"spikes/{name}", (len(arrays),), h5py.vlen_dtype(np.dtype(inner)), **layout)
            for number, array in enumerate(arrays):
                data[number] = np.array(array, inner)
        file["labels"] = np.array(labels[: len(times)])
        file["extra/keys"] = np.array(keys)
        file["extra/speaker"] = np.arange(len(times))
    return path


def exact_microseconds(value, code):
    """A stored float's microseconds, rounded in exact arithmetic."""
    (stored,) = struct.unpack(code, struct.pack(code, value))
    return round(Fraction(stored) * 10**6)


@pytest.mark.parametrize("code", ["<e", "<f", "<d"])
def test_every_float(tmp_path, code):
    path = make(tmp_path / "a.h5", dtype=np.dtype(code))
    stream = read(path, index=0)
    assert stream.t.tolist() == [exact_microseconds(time, code) for time in TIMES[0]]
    assert stream.x.tolist() == UNITS[0]
    assert (stream.sensor, len(read(path, index=1)), read(path, index=2).x.tolist()) == (Sensor(700), 0, [5])
    assert read_spikes(path).starts.tolist() == [0, 4, 4, 5]


def test_the_other_byte_order(tmp_path):
    """h5py returns such arrays with their bytes the wrong way round."""
    path = make(tmp_path / "a.h5", dtype=">f4")
    assert np.array(TIMES[0], ">f4").tobytes() in path.read_bytes()
    assert read(path, index=0).t.tolist() == [exact_microseconds(time, ">f") for time in TIMES[0]]


def test_a_heap_that_leads_in_circles(tmp_path):
    """The library never comes back from some of these."""
    content = make(tmp_path / "a.h5").read_bytes()
    heap, path = content.index(b"GCOL"), tmp_path / "b.h5"
    for place in range(heap, heap + 160):
        for value in (0x00, 0x08, 0xF0, 0xFF):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                assert len(read(path, index=0)) == len(TIMES[0])
            except FormatError:
                continue


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (2,)},
        {"chunks": (2,), "compression": "gzip"},
        {"chunks": (2,), "compression": "gzip", "shuffle": True},
        {"maxshape": (None,)},
    ],
)
def test_every_storage_layout(tmp_path, layout):
    path = make(tmp_path / "a.h5", dtype="<f8", **layout)
    assert read(path, index=0).t.tolist() == [0, 46800, 197300, 902300]
    assert read(path, index=2).x.tolist() == [5]


def test_what_the_file_says_of_itself(tmp_path):
    header = open_recording(make(tmp_path / "a.h5"), index=2).header
    assert header == {"recordings": "3", "index": "2", "label": "1", "class": "eins", "speaker": "2"}


def test_packed_as_published(tmp_path):
    packed = tmp_path / "b.h5.gz"
    packed.write_bytes(gzip.compress(make(tmp_path / "a.h5").read_bytes()))
    assert read(packed, index=0).t.tolist() == read(tmp_path / "a.h5", index=0).t.tolist()


def test_pieces_are_the_whole(tmp_path):
    times = [np.arange(1000) / 1000, [0.5]]
    path = make(tmp_path / "a.h5", times, [np.arange(1000) % 700, [1]], "<f8")
    recording = open_recording(path, index=0)
    chunks = list(recording.chunks(1000))
    assert len(chunks) > 5
    assert torch.equal(EventStream.concat(chunks).t, torch.arange(1000) * 1000)
    assert recording.slice(5000, 9000).t.tolist() == [5000, 6000, 7000, 8000]


def test_which_recording(tmp_path):
    path = make(tmp_path / "a.h5")
    for index in (None, 3, -1):
        with pytest.raises(ArgumentError, match=f"holds 3 recordings, received index={index}"):
            read(path, index=index)
    assert read(make(tmp_path / "b.h5", TIMES[:1], UNITS[:1])).x.tolist() == UNITS[0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1e9])
def test_bad_times(tmp_path, wrong):
    path = make(tmp_path / "a.h5", [[0.25, wrong, 0.5, wrong]], [[1, 2, 3, 4]], "<f4")
    with pytest.raises(FormatError, match=r"t wants seconds from 0 to 60000, received .* at event 1") as caught:
        read(path)
    assert caught.value.offset == 1
    with pytest.warns(UserWarning, match="left out 2 x t wants seconds"):
        assert read(path, strict=False).x.tolist() == [1, 3]


def test_units_outside_the_sensor(tmp_path):
    path = make(tmp_path / "a.h5", [[0.25, 0.5]], [[1, 700]])
    with pytest.raises(FormatError, match="first number 1: column 700"):
        read(path)
    assert read(path, sensor=Sensor(1000)).x.tolist() == [1, 700]


def test_minus_zero_is_zero(tmp_path):
    assert read(make(tmp_path / "a.h5", [[-0.0, 0.5]], [[1, 2]])).t.tolist() == [0, 500_000]


def test_unequal_arrays(tmp_path):
    path = make(tmp_path / "a.h5", [[0.1, 0.2], [0.3]], [[1, 2], []])
    with pytest.raises(FormatError, match="recording 1 has 1 times and 0 units"):
        read(path, index=1)
    assert len(read(path, index=0)) == 2


@pytest.mark.parametrize("layout", [{}, {"chunks": (2,)}, {"chunks": (2,), "compression": "gzip"}])
def test_a_length_that_the_file_cannot_hold(tmp_path, layout):
    """The library would take 4 GiB and clear it before it looks; the claim is refused before."""
    path = make(tmp_path / "a.h5", TIMES[:2], UNITS[:2], **layout)
    claim = struct.pack("<I", 2**31 - 1)
    with h5py.File(path, "r+") as file:
        data = file["spikes/times"].id
        offset = None if layout else data.get_offset()
        if layout:
            packed = "compression" in layout
            raw = data.read_direct_chunk((0,))[1]
            wrong = claim + (zlib.decompress(raw) if packed else raw)[4:]
            data.write_direct_chunk((0,), zlib.compress(wrong) if packed else wrong)
    if offset is not None:
        content = bytearray(path.read_bytes())
        content[offset : offset + 4] = claim
        path.write_bytes(content)
    with pytest.raises(FormatError, match=r"arrays claim \d+ bytes in a file of"):
        read(path, index=0)


def test_filters_that_are_not_undone(tmp_path):
    """A damaged number may name one that the library trusts in what it finds."""
    path = make(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["labels"]
        file.create_dataset("labels", data=np.arange(3), chunks=(3,), scaleoffset=0)
    with pytest.raises(FormatError, match=r"packed by filters \[6\]"):
        read(path, index=0)


def test_a_number_of_recordings_that_the_file_cannot_hold(tmp_path):
    path = make(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["labels"], file["spikes/times"]
        file.create_dataset("labels", (2**31,), "u2")
        file.create_dataset("spikes/times", (2**31,), h5py.vlen_dtype(np.float32), chunks=(1024,))
    with pytest.raises(FormatError, match=r"claims .* bytes"):
        read(path, index=0)


def test_a_gzip_bomb(tmp_path):
    path = tmp_path / "a.h5.gz"
    path.write_bytes(gzip.compress(bytes(200_000_000), 1))
    with pytest.raises(FormatError, match=r"unpacks to more than .* bytes, 64 times its size"):
        read(path, index=0)


def test_nothing_outside_the_file_is_read(tmp_path):
    make(tmp_path / "a.h5")
    linked, stored, virtual = (tmp_path / f"{name}.h5" for name in ("linked", "stored", "virtual"))
    for path in (linked, stored, virtual):
        make(path)
        with h5py.File(path, "r+") as file:
            del file["labels"]
            if path == linked:
                file["labels"] = h5py.ExternalLink(str(tmp_path / "a.h5"), "labels")
            elif path == stored:
                file.create_dataset("labels", (3,), "u1", external=[(str(tmp_path / "a.h5"), 0, 3)])
            else:
                layout = h5py.VirtualLayout((3,), np.int64)
                layout[:] = h5py.VirtualSource(str(tmp_path / "a.h5"), "labels", (3,))
                file.create_virtual_dataset("labels", layout)
        with pytest.raises(FormatError, match="lacks the data set labels"):
            read(path, index=0)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_what_lies_behind_a_link_is_refused_and_not_left_out(tmp_path, libver):
    path = tmp_path / "a.h5"
    with h5py.File(make(tmp_path / "b.h5")) as old, h5py.File(path, "w", libver=libver) as file:
        for name in ("spikes", "labels"):
            old.copy(name, file)
        file["elsewhere"] = np.arange(3)
        file["extra/speaker"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(FormatError, match="lacks the data set extra/speaker"):
        read(path, index=0)


def test_truncated_or_flipped(tmp_path):
    content = make(tmp_path / "a.h5").read_bytes()
    path = tmp_path / "b.h5"
    for size in range(0, len(content), 149):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError):
            read(path, index=0)
    for place in range(0, len(content), 149):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            read(path, index=0)
        except (FormatError, ArgumentError):
            continue


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6 * 10**10), st.integers(0, 699)), max_size=20))
def test_written_and_read(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("shd") / "a.h5"
    stream = EventStream.from_numpy(*np.array(events, np.int64).reshape(-1, 2).T, sensor=Sensor(700))
    write(stream, path)
    again = read(path)
    assert torch.equal(again.t, stream.t)
    assert torch.equal(again.x, stream.x)
    with h5py.File(path) as file:
        assert np.rint(file["spikes/times"][0] * 1e6).tolist() == [t for t, _ in events]
        assert file["spikes/units"][0].tolist() == [x for _, x in events]


def test_several_recordings_written(tmp_path):
    streams = [
        EventStream.from_numpy([1, 2], [3, 4], sensor=Sensor(700)),
        EventStream.from_numpy([], [], sensor=Sensor(700)),
    ]
    write_spikes(tmp_path / "a.h5", streams, [1, 0], ["yes", "no"], [7, 8])
    assert [read(tmp_path / "a.h5", index=number).t.tolist() for number in (0, 1)] == [[1, 2], []]
    content = read_spikes(tmp_path / "a.h5")
    assert (content.labels.tolist(), content.classes, content.speakers.tolist()) == ([1, 0], ("yes", "no"), [7, 8])
    with pytest.raises(ArgumentError, match="a label"):
        write_spikes(tmp_path / "a.h5", streams, [1])


@pytest.mark.parametrize(("t", "sensor"), [(-1, Sensor(700)), (60_000_000_001, Sensor(700)), (5, Sensor(701))])
def test_what_the_layout_does_not_hold(tmp_path, t, sensor):
    with pytest.raises(ArgumentError, match="shd files hold"):
        write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_real_speech(tmp_path):
    if not FSDD.exists():
        pytest.skip("the real file is not here")
    plain = tmp_path / "plain.h5"
    plain.write_bytes(gzip.decompress(FSDD.read_bytes()))
    content = read_spikes(FSDD)
    with h5py.File(plain) as file:
        for number in range(300):
            times, units = file["spikes/times"][number], file["spikes/units"][number]
            part = slice(content.starts[number], content.starts[number + 1])
            assert np.array_equal(content.times[part], times)
            assert np.array_equal(content.units[part], units)
            if number % 60 == 0:
                stream = read(plain, index=number)
                assert stream.t.tolist() == [round(Fraction(float(time)) * 10**6) for time in times]
                assert stream.x.tolist() == units.tolist()
    assert torch.equal(read(FSDD, index=240).t, stream.t)


def test_texts_are_no_times(tmp_path):
    path = make(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["spikes/times"]
        file["spikes/times"] = np.array(["a", "", "b"], h5py.string_dtype())
    with pytest.raises(FormatError, match="spikes/times wants arrays of floats"):
        read(path, index=0)


def test_a_file_cut_or_replaced_while_it_is_read_is_refused(tmp_path):
    path = make(tmp_path / "a.h5", times=[[0.5] * 5000] * 3, units=[[1] * 5000] * 3)
    stored = StoredSpikeFile(path)
    assert len(stored.read(0)[0]) == 5000
    with open_hdf5(path) as file:
        os.truncate(path, path.stat().st_size // 2)  # its reader would be killed if the file were mapped
        with pytest.raises(FormatError):
            file.ragged("spikes/units", "iu", slice(None))
    for content in (path.read_bytes(), make(tmp_path / "b.h5").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match="has changed"):
            stored.read(0)


def test_classes_without_names_are_numbers_and_not_without_end(tmp_path):
    path = make(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["extra/keys"]
    assert read_spikes(path).classes == ("0", "1", "2")
    with h5py.File(path, "r+") as file:
        file["labels"][1] = 1 << 60
    with pytest.raises(FormatError, match=f"labels want 0 to 65535 .* received {1 << 60}"):
        read(path, index=0)
