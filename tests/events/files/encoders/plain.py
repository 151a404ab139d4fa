"""Formats that are little more than arrays: .bin, text, npy, npz, and the HDF5 and MATLAB layouts of data sets."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence

import h5py
import numpy as np
import scipy.io

Event = tuple[int, int, int, int]  # t, x, y, p
Spike = tuple[float, int]  # seconds, channel

# N-MNIST and N-Caltech101.

MARK_ROW = 240  # a record of this row is no event: it adds 8192 us to all that follow
STEP = 8192


def bin_record(t: int, x: int, y: int, p: int) -> bytes:
    return struct.pack(">BBBH", x, y, p << 7 | t >> 16, t & 0xFFFF)


def bin_marker(x: int = 0, p: int = 0, t: int = 0) -> bytes:
    return bin_record(t, x, MARK_ROW, p)


def bin_file(events: Iterable[Event], limit: int = 1 << 23) -> bytes:
    """Five bytes an event; before a stored time would reach ``limit`` as many overflow markers as keep it below."""
    parts: list[bytes] = []
    added = 0
    for t, x, y, p in events:
        while t - added >= limit:
            parts.append(bin_marker(x=x, t=t - added & 0x1FFF))
            added += STEP
        parts.append(bin_record(t - added, x, y, p))
    return b"".join(parts)


# UZH.


def text(events: Iterable[Event], newline: str = "\n") -> bytes:
    """``t x y p`` a line, seconds with six decimals."""
    return "".join(f"{t // 10**6}.{t % 10**6:06d} {x} {y} {p}{newline}" for t, x, y, p in events).encode()


# numpy.

DVS_LIP = np.dtype([("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")])


def structured(events: Sequence[Event], dtype: np.dtype = DVS_LIP) -> np.ndarray:
    columns = dict(zip("txyp", zip(*events, strict=True), strict=True)) if events else dict.fromkeys("txyp", ())
    array = np.zeros(len(events), dtype)
    for name in "txyp":
        array[name] = columns[name]
    return array


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    memory = io.BytesIO()
    np.save(memory, array, allow_pickle=allow_pickle)
    return memory.getvalue()


def npz(arrays: Mapping[str, np.ndarray], compressed: bool = False) -> bytes:
    memory = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(memory, **arrays)
    return memory.getvalue()


def columns(events: Sequence[Event]) -> dict[str, np.ndarray]:
    """HARDVS: one array a column."""
    return dict(zip("txyp", np.array(events, np.int64).reshape(-1, 4).T, strict=True))


# Cochleas.


def _ragged(file: h5py.File, name: str, arrays: Sequence[np.ndarray]) -> None:
    data = file.create_dataset(name, (len(arrays),), h5py.vlen_dtype(arrays[0].dtype))
    for number, array in enumerate(arrays):
        data[number] = array


def shd(recordings: Sequence[Sequence[Spike]], time_type: str = "f2", labels: Sequence[int] | None = None) -> bytes:
    """Heidelberg digits: times in seconds and units, one ragged row a recording."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        _ragged(file, "spikes/times", [np.array([t for t, _ in spikes], time_type) for spikes in recordings])
        _ragged(file, "spikes/units", [np.array([unit for _, unit in spikes], "u2") for spikes in recordings])
        file["labels"] = np.arange(len(recordings)) if labels is None else np.array(labels)
        file["extra/keys"] = np.array([b"null", b"eins", b"zwei", b"drei"])
        file["extra/speaker"] = np.zeros(len(recordings), "u2")
    return memory.getvalue()


def ntidigits(parts: Mapping[str, Mapping[str, Sequence[Spike]]], time_type: str = "f8") -> bytes:
    """Per part (train, test) and recording: channels and times in seconds, and the list of names."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for part, recordings in parts.items():
            file[f"{part}_labels"] = np.array([name.encode() for name in recordings])
            for name, spikes in recordings.items():
                file[f"{part}_addresses/{name}"] = np.array([channel for _, channel in spikes], "i8")
                file[f"{part}_timestamps/{name}"] = np.array([t for t, _ in spikes], time_type)
    return memory.getvalue()


# MATLAB.


def mat(variables: Mapping[str, np.ndarray], compressed: bool = False) -> bytes:
    memory = io.BytesIO()
    scipy.io.savemat(memory, dict(variables), do_compression=compressed)
    return b"MATLAB 5.0 MAT-file".ljust(116) + memory.getvalue()[116:]  # the text would name the hour


def asldvs(events: Sequence[Event], compressed: bool = False) -> bytes:
    """A column vector each: ts, x, y, pol."""
    names = {"t": "ts", "x": "x", "y": "y", "p": "pol"}
    return mat({names[name]: values[:, None].astype("f8") for name, values in columns(events).items()}, compressed)


def stmnist(moments: Sequence[tuple[float, Mapping[int, int]]], compressed: bool = False) -> bytes:
    """Tactile digits: at each moment (seconds) the taxels (0 to 99) that fired, each with +1 or -1."""
    table = np.zeros((101, len(moments)))
    for number, (seconds, fired) in enumerate(moments):
        table[100, number] = seconds
        for taxel, sign in fired.items():
            table[taxel, number] = sign
    return mat({"spiketrain": table}, compressed)
