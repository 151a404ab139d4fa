"""Decoders of a few lines each, from the formats' descriptions, for formats that the table of formats lacks."""

from __future__ import annotations

import struct

import h5py
import numpy as np
from scipy.io import loadmat

from spikenet.errors import FormatError
from spikenet.events import FORMATS, Sensor
from spikenet.events.files.recording import Columns, Format


class Whole:
    """A file decoded at once by ``decode(path, index) -> t, x, y, p``."""

    header: dict[str, str] = {}

    def __init__(self, opening, decode):
        try:
            self.sensor = opening.sensor or _own_sensor(opening.path)
            found = decode(opening.path, opening.index)
        except (ValueError, OSError, KeyError, struct.error) as error:
            raise FormatError(opening.path, 0, f"stand-in: {error}") from error
        self.columns = Columns(*(np.asarray(c).astype(d) for c, d in zip(found, ("i8", "i4", "i4", "i1"), strict=True)))

    def pieces(self, size):
        yield self.columns


def _own_sensor(path):
    return Sensor(*np.load(path)["sensor"].tolist()) if path.name.endswith(".events") else None


def _bin(path, _):
    raw = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 5).astype(int)
    return (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4], raw[:, 0], raw[:, 1], raw[:, 2] >> 7


def _aedat2(path, _):
    body = path.read_bytes().rpartition(b"\r\n")[2]
    address, t = np.frombuffer(body, ">u4").reshape(-1, 2).astype(int).T
    return t, (address & 0xFE) >> 1, (address & 0x7F00) >> 8, address & 1


def _aedat3(path, _):
    content = path.read_bytes()
    place, events = content.index(b"#!END-HEADER\r\n") + 14, []
    while place < len(content):
        _, _, size, _, _, _, number, _ = struct.unpack("<hhiiiiii", content[place : place + 28])
        events.append(np.frombuffer(content[place + 28 : place + 28 + number * size], "<u4").reshape(-1, 2))
        place += 28 + number * size
    data, t = np.concatenate(events).astype(int).T
    return t, data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1


def _npy(path, _):
    events = np.load(path, allow_pickle=False)
    return tuple(events[name] for name in "txyp")


def _asldvs(path, _):
    content = loadmat(path)
    return tuple(content[name].reshape(-1) for name in ("ts", "x", "y", "pol"))


def _ntidigits(path, index):
    with h5py.File(path) as file:
        names = [(part, name.decode()) for part in ("train", "test") for name in file[f"{part}_labels"][:]]
        part, name = names[index]
        t, x = file[f"{part}_timestamps/{name}"][:], file[f"{part}_addresses/{name}"][:]
    return np.rint(t.astype(float) * 1e6), x, np.zeros(len(x)), np.zeros(len(x))


def _kept(path, _):
    return tuple(np.load(path, allow_pickle=False)["columns"])


def _keep(stream, path):
    with path.open("wb") as file:
        np.savez(
            file,
            sensor=np.array(stream.sensor),
            columns=np.stack([c.numpy().astype(np.int64) for c in (stream.t, stream.x, stream.y, stream.p)]),
        )


DECODERS = {
    "bin": _bin,
    "aedat2": _aedat2,
    "aedat3": _aedat3,
    "npy": _npy,
    "npz": _npy,
    "asldvs": _asldvs,
    "ntidigits": _ntidigits,
    "spikenet": _kept,
}


def fill_in(monkeypatch):
    """Put a stand-in wherever the table has no format of that name."""
    for name, decode in DECODERS.items():
        if name not in FORMATS:
            opened = lambda opening, decode=decode: Whole(opening, decode)  # noqa: E731
            write = _keep if name == "spikenet" else None
            monkeypatch.setitem(FORMATS, name, Format(name, (), lambda path, head: False, opened, write))
