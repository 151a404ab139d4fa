"""ASL-DVS files: MATLAB level 5 bytes made by hand after MathWorks' description, and with scipy."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write

SENSOR = Sensor(240, 180, 2)
EVENTS = {"ts": [0, 7, 3_000_000], "x": [239, 0, 12], "y": [0, 179, 3], "pol": [1, 0, 1]}
CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
DOUBLE, COMPLEX, CHAR, SPARSE = 6, 0x806, 4, 5


def element(kind, content, order="<"):
    if len(content) <= 4:
        return struct.pack(order + "I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(name, values, kind=9, order="<", flags=DOUBLE, shape=None, announced=None):
    shape = shape or (len(values), 1)
    parts = struct.pack(order + "IIII", 6, 8, flags, 0)
    parts += element(5, struct.pack(order + f"{len(shape)}i", *shape), order) + element(1, name.encode(), order)
    parts += element(kind, struct.pack(f"{order}{len(values)}{CODES[kind]}", *values), order)
    return struct.pack(order + "II", 14, len(parts) if announced is None else announced) + parts


def packed(content, order="<"):
    content = zlib.compress(content)
    return struct.pack(order + "II", 15, len(content)) + content


def mat(elements, order="<"):
    head = b"MATLAB 5.0 MAT-file, by hand".ljust(124) + struct.pack(order + "H", 0x0100)
    return head + (b"IM" if order == "<" else b"MI") + b"".join(elements)


def content_of(kinds=(9, 9, 9, 9), order="<", events=EVENTS, pack=False):
    elements = [matrix(name, values, kind, order) for (name, values), kind in zip(events.items(), kinds, strict=True)]
    return mat([packed(each, order) for each in elements] if pack else elements, order)


@pytest.fixture
def written(tmp_path):
    def put(content):
        path = tmp_path / "a.mat"
        path.write_bytes(content)
        return path

    return put


def same(stream, events=EVENTS):
    return all(getattr(stream, n).tolist() == list(v) for n, v in zip("txyp", events.values(), strict=True))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("kinds", [(9, 9, 9, 9), (5, 2, 2, 2), (6, 3, 4, 1), (12, 7, 5, 2), (13, 6, 6, 6)])
def test_by_hand(written, kinds, order, pack):
    path = written(content_of(kinds, order, pack=pack))
    assert all(loadmat(path)[name].ravel().tolist() == values for name, values in EVENTS.items())
    stream = read(path)
    assert same(stream)
    assert stream.sensor == SENSOR


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(1, -1), (-1, 1)])
def test_by_scipy(tmp_path, compressed, shape):
    arrays = {name: np.array(values, float).reshape(shape) for name, values in EVENTS.items()}
    savemat(
        tmp_path / "a.mat", arrays | {"note": "text", "cells": np.array([1, "a"], object)}, do_compression=compressed
    )
    assert same(read(tmp_path / "a.mat"))
    flipped = read(tmp_path / "a.mat", flip_y=True)
    assert flipped.y.tolist() == [179, 0, 176]


def test_no_events(tmp_path):
    savemat(tmp_path / "a.mat", {name: np.zeros((0, 0)) for name in EVENTS})
    assert len(read(tmp_path / "a.mat")) == 0


def test_pieces_are_the_whole(tmp_path):
    arrays = {"ts": np.arange(1000), "x": np.arange(1000) % 240, "y": np.arange(1000) % 180, "pol": np.arange(1000) % 2}
    savemat(tmp_path / "a.mat", arrays)
    recording = open_recording(tmp_path / "a.mat")
    chunks = list(recording.chunks(1000))
    assert len(chunks) > 5
    assert same(EventStream.concat(chunks), arrays)
    assert recording.slice(10, 12).t.tolist() == [10, 11]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ts": [0, -1, 5]}, "t wants whole numbers from 0"),
        ({"ts": [0, float("nan"), 5]}, "t wants whole numbers from 0"),
        ({"ts": [0, 0.5, 5]}, "t wants whole numbers from 0"),
        ({"ts": [0, 1e300, 5]}, "t wants whole numbers from 0"),
        ({"x": [0, 240, 5]}, "column 240"),
        ({"pol": [0, -1, 1]}, "polarity -1"),
        ({"y": [0, 1]}, r"arrays of one length are wanted, received {'ts': 3, 'x': 3, 'y': 2"),
    ],
)
def test_bad_values(written, changes, message):
    with pytest.raises(FormatError, match=message):
        read(written(content_of(events=EVENTS | changes)))


def test_missing_arrays(written):
    path = written(content_of((9, 9, 9), events={name: EVENTS[name] for name in ("ts", "x", "y")}))
    with pytest.raises(FormatError, match="of no known format"):
        read(path)
    with pytest.raises(FormatError, match=r"lacks the arrays \['pol'\]"):
        read(path, format="asldvs")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (matrix("ts", [0, 7, 8], flags=COMPLEX), "a real array of 2 dimensions is wanted"),
        (matrix("ts", [0, 7, 8], flags=CHAR), "a real array of 2 dimensions is wanted, received class 4"),
        (matrix("ts", [0, 7, 8], flags=SPARSE), "a real array of 2 dimensions is wanted"),
        (matrix("ts", [0, 7, 8], shape=(3, 1, 1)), "a real array of 2 dimensions is wanted"),
        (matrix("ts", [0, 7, 8], shape=(-3, 1)), "a real array of 2 dimensions is wanted"),
        (matrix("ts", [0, 7, 8], shape=(2**31 - 1, 1)), "wants 2147483647 numbers of 8 bytes in 24"),
        (matrix("ts", [0, 7, 8], shape=(2**31 - 1, 2**31 - 1)), "wants 4611686014132420609 numbers"),
        (matrix("ts", [0, 7, 8], announced=2**31), "an element of 2147483648 bytes"),
        (packed(matrix("ts", [0, 7, 8], announced=2**31)), "a matrix claims 2147483648 bytes"),
        (packed(matrix("ts", [0, 7, 8], announced=600)), r"600 bytes are announced, \d+ are there"),
        (packed(matrix("ts", [0, 7, 8]))[:-8] + bytes(8), "broken element|incorrect data check|incomplete stream"),
    ],
)
def test_broken_elements(written, wrong, message):
    rest = [matrix(name, EVENTS[name]) for name in ("x", "y", "pol")]
    with pytest.raises(FormatError, match=message):
        read(written(mat([wrong, *rest])), format="asldvs")


def test_a_bomb(written):
    bomb = packed(matrix("ts", [0] * 10_000_000, kind=9))
    rest = [matrix(name, EVENTS[name]) for name in ("x", "y", "pol")]
    with pytest.raises(FormatError, match=r"a matrix claims 800000.. bytes; a file of this size may hold"):
        read(written(mat([bomb, *rest])))


@pytest.mark.parametrize("pack", [False, True])
def test_truncated(written, pack):
    whole = content_of(pack=pack)
    for size in range(0, len(whole), 3):
        with pytest.raises(FormatError):
            read(written(whole[:size]), format="asldvs")


@pytest.mark.parametrize("pack", [False, True])
def test_every_flipped_byte_ends_well(written, pack):
    whole = content_of(pack=pack)
    for place in range(128, len(whole)):
        path = written(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(path, format="asldvs")
        except FormatError:
            continue


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 239), st.integers(0, 179), st.integers(0, 1)), max_size=20)
)
def test_written_and_read(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("asldvs") / "a.mat"
    columns = np.array(events, np.int64).reshape(-1, 4).T
    stream = EventStream.from_numpy(*columns, sensor=SENSOR)
    write(stream, path, format="asldvs")
    again = read(path)
    assert all(torch.equal(getattr(again, name), getattr(stream, name)) for name in "txyp")
    held = loadmat(path)
    assert all(held[n].ravel().tolist() == c.tolist() for n, c in zip(EVENTS, columns, strict=True))


def test_what_the_layout_does_not_hold(tmp_path):
    for t, sensor in ((-1, SENSOR), (1, Sensor(240, 180))):
        with pytest.raises(ArgumentError, match="asldvs files hold"):
            write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a.mat", format="asldvs")
    with pytest.raises(ArgumentError, match=r"names 2 formats; format= takes one of: asldvs, stmnist"):
        write(EventStream.from_numpy([1], [0], sensor=SENSOR), tmp_path / "a.mat")
