"""spikenet's own files: laid out by hand as safetensors, read by the safetensors library, and back exactly."""

from __future__ import annotations

import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import (
    EventStream,
    EventTensor,
    Sensor,
    open_recording,
    read,
    read_tensor,
    write,
    write_tensor,
)

STREAM = {"t": ("I64", "<3q", [-5, 7, 2**62]), "x": ("U16", "<3H", [0, 639, 5]), "y": ("U16", "<3H", [479, 0, 1])}
STREAM["p"] = ("I8", "<3b", [1, 0, 1])
TENSOR = {
    "indptr": ("I64", "<7q", [0, 2, 2, 3, 3, 4, 4]),
    "indices": ("I32", "<4i", [0, 4, 1, 2]),
    "values": ("F32", "<4f", [1.0, -2.5, 3.0, 0.5]),
    "lengths": ("I64", "<2q", [3, 1]),
}
SHAPE = [3, 2, 5]


def by_hand(tensors, entry, key="spikenet.events"):
    table, body = {"__metadata__": {key: json.dumps(entry)}}, b""
    for name, (dtype, code, values) in tensors.items():
        data = struct.pack(code, *values)
        table[name] = {"dtype": dtype, "shape": [len(values)], "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + body


def stream_bytes(tensors=STREAM, **entry):
    return by_hand(tensors, {"kind": "stream", "version": 1, "sensor": [640, 480, 2]} | entry)


def tensor_bytes(tensors=TENSOR, **entry):
    return by_hand(tensors, {"kind": "tensor", "version": 1, "shape": SHAPE} | entry)


@pytest.fixture
def written(tmp_path):
    def put(content):
        path = tmp_path / "a.spikenet"
        path.write_bytes(content)
        return path

    return put


def test_a_recording_by_hand(written):
    stream = read(written(stream_bytes()))
    assert all(getattr(stream, name).tolist() == values for name, (_, _, values) in STREAM.items())
    assert stream.sensor == Sensor(640, 480, 2)
    assert (stream.t.dtype, stream.x.dtype, stream.p.dtype) == (torch.int64, torch.int32, torch.int8)


def test_an_event_tensor_by_hand(written):
    events = read_tensor(written(tensor_bytes()))
    assert all(getattr(events, name).tolist() == values for name, (_, _, values) in TENSOR.items())
    assert events.shape == tuple(SHAPE)


def test_pieces_are_the_whole(tmp_path):
    t = np.arange(10_000)
    write(EventStream.from_numpy(t, t % 640, t % 480, t % 2, sensor=Sensor(640, 480, 2)), tmp_path / "a.spikenet")
    recording = open_recording(tmp_path / "a.spikenet")
    chunks = list(recording.chunks(13_000))
    assert len(chunks) > 9
    assert torch.equal(EventStream.concat(chunks).t, torch.from_numpy(t))
    assert recording.slice(998, 1002).y.tolist() == [38, 39, 40, 41]
    assert recording.header == {"version": "1", "events": "10000"}


def test_a_slice_takes_no_more_memory_than_a_piece(tmp_path):
    t = np.arange(2_000_000)
    write(EventStream.from_numpy(t, t % 640, t % 480, t % 2, sensor=Sensor(640, 480, 2)), tmp_path / "a.spikenet")
    tracemalloc.start()
    try:
        kept = open_recording(tmp_path / "a.spikenet").slice(1_999_990, 3_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.t.tolist() == t[-10:].tolist()
    assert peak < 16e6 < (tmp_path / "a.spikenet").stat().st_size


def test_what_is_read_is_ones_own(written):
    path = written(stream_bytes())
    recording = open_recording(path)
    recording.read().t.zero_()
    assert recording.read().t.tolist() == STREAM["t"][2]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1), st.integers(0, 70_000), st.integers(0, 65_535), st.integers(0, 127)
        ),
        max_size=20,
    ),
    st.sampled_from([70_001, 2**31 - 1]),
)
def test_every_stream_comes_back(tmp_path_factory, events, width):
    path = tmp_path_factory.mktemp("own") / "a.spikenet"
    columns = np.array(events, np.int64).reshape(-1, 4).T
    stream = EventStream.from_numpy(*columns, sensor=Sensor(width, 65_536, 128))
    write(stream, path)
    again = read(path)
    assert all(torch.equal(getattr(again, name), getattr(stream, name)) for name in "txyp")
    assert again.sensor == stream.sensor
    held = load_file(path)
    assert all(np.array_equal(held[name], column) for name, column in zip("txyp", columns, strict=True))


def test_small_sensors_take_13_bytes_an_event(tmp_path):
    stream = EventStream.from_numpy(np.arange(1000), np.zeros(1000, int), sensor=Sensor(65_536, 65_536))
    write(stream, tmp_path / "a.spikenet")
    assert 13_000 < (tmp_path / "a.spikenet").stat().st_size < 13_500


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(0, 3), st.data())
def test_every_event_tensor_comes_back(tmp_path_factory, steps, batch, data):
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    dense = torch.zeros(steps, batch, 3, 2)
    for entry, length in enumerate(lengths):
        dense[:length, entry] = torch.randn(length, 3, 2).relu()
    events = EventTensor.from_dense(dense, torch.tensor(lengths, dtype=torch.int64))
    path = tmp_path_factory.mktemp("own") / "a.spikenet"
    write_tensor(events, path)
    again = read_tensor(path)
    for name in ("indptr", "indices", "values", "lengths"):
        assert torch.equal(getattr(again, name), getattr(events, name))
        assert getattr(again, name).dtype == getattr(events, name).dtype
    assert again.shape == events.shape
    assert torch.equal(again.to_dense(), dense)


def test_a_part_of_a_tensor_is_written_alone(tmp_path):
    dense = torch.arange(24.0).view(4, 2, 3)
    write_tensor(EventTensor.from_dense(dense)[1:3], tmp_path / "a.spikenet")
    assert torch.equal(read_tensor(tmp_path / "a.spikenet").to_dense(), dense[1:3])


@pytest.mark.gpu
def test_a_tensor_on_the_gpu(tmp_path):
    dense = torch.arange(24.0).view(4, 2, 3)
    write_tensor(EventTensor.from_dense(dense).to("cuda"), tmp_path / "a.spikenet")
    assert torch.equal(read_tensor(tmp_path / "a.spikenet").to_dense(), dense)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (stream_bytes(version=2), "is of version 2; 1 can be read"),
        (stream_bytes(kind="tensor"), "holds a tensor, not a stream; read_tensor may read it"),
        (stream_bytes(kind=["x"]), "not a stream"),
        (stream_bytes(sensor=[640, 480]), "a sensor wants"),
        (stream_bytes(sensor=[640, 0, 2]), "a sensor wants"),
        (stream_bytes(sensor=[True, 1, 2]), "a sensor wants"),
        (stream_bytes(sensor=[10**30, 1, 2]), "a sensor wants"),
        (stream_bytes(sensor=[600, 480, 2]), "column 639"),
        (stream_bytes({name: STREAM[name] for name in "txp"}), r"lacks the tensors \['y'\]"),
        (stream_bytes(STREAM | {"t": ("I32", "<3i", [1, 2, 3])}), r"t wants I64 in one dimension, received I32"),
        (stream_bytes(STREAM | {"x": ("U16", "<2H", [1, 2])}), "arrays of one length are wanted"),
        (stream_bytes(STREAM | {"x": ("I32", "<3i", [1, -2, 3])}), "column -2"),
        (stream_bytes().replace(b'"shape": [3]', b'"shape": [9]', 1), "not a readable safetensors file"),
        (by_hand(STREAM, [1]), "holds no events of spikenet"),
    ],
)
def test_broken_recordings(written, content, message):
    with pytest.raises(FormatError, match=message):
        read(written(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor_bytes(kind="stream"), "holds a stream, not a tensor; read may read it"),
        (tensor_bytes(shape=[3, 2]), "does not hold an EventTensor: shape wants"),
        (tensor_bytes(shape="all"), "a shape wants a list"),
        (tensor_bytes(shape=[3, 2, -5]), "a shape wants a list"),
        (tensor_bytes(shape=[2**31, 2, 5]), "does not hold an EventTensor: indptr wants shape"),
        (tensor_bytes(shape=[3, 2, 4]), "does not hold an EventTensor: indices want 0 to 3"),
        (tensor_bytes(TENSOR | {"lengths": ("I64", "<2q", [3, 9])}), "does not hold an EventTensor: lengths want"),
        (tensor_bytes(TENSOR | {"values": ("I32", "<4i", [1, 2, 3, 4])}), "values wants F32"),
        (by_hand(TENSOR, {}, "other"), "holds no events of spikenet"),
        (b"", "not a readable safetensors file"),
    ],
)
def test_broken_event_tensors(written, content, message):
    with pytest.raises(FormatError, match=message):
        read_tensor(written(content))


def test_truncated(written):
    stream, tensor = stream_bytes(), tensor_bytes()
    for size in range(0, len(stream), 3):
        with pytest.raises(FormatError):
            read(written(stream[:size]))
    for size in range(0, len(tensor), 3):
        with pytest.raises(FormatError):
            read_tensor(written(tensor[:size]))


def test_flipped_bytes_end_well(written):
    for content, reader in ((stream_bytes(), read), (tensor_bytes(), read_tensor)):
        for place in range(0, len(content), 3):
            path = written(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
            try:
                reader(path)
            except FormatError:
                continue


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")
    with pytest.raises(ArgumentError):
        write(EventStream.from_numpy([-1], [0], sensor=Sensor(128, 128, 2)), path)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.npy", b"old")]
