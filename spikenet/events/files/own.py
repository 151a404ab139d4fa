"""spikenet's own file: a recording or an `EventTensor`, without loss, as a safetensors file.

Any safetensors library reads it. The metadata entry ``spikenet.events`` is JSON, the rest plain tensors:

- a recording, ``{"kind": "stream", "version": 1, "sensor": [width, height, polarities]}``: ``t`` int64 ``[E]`` in
  microseconds, ``x`` and ``y`` uint16 ``[E]`` (int32 on a sensor wider or higher than 65536), ``p`` int8 ``[E]``;
- an event tensor, ``{"kind": "tensor", "version": 1, "shape": [T, B, ...]}``: ``indptr`` int64, ``indices`` int32,
  ``values`` float32, ``lengths`` int64, with the meaning they have in `EventTensor`.

Recordings are read piece by piece: chunks and slices of time need memory only for what they return.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spikenet.cache import write_atomically
from spikenet.errors import FormatError, SpikenetError
from spikenet.events.files.arrays import check_lengths, chosen, sensor_of
from spikenet.events.files.recording import Columns, Format, Opening
from spikenet.events.stream import EventStream
from spikenet.events.tensor import EventTensor

_ENTRY = "spikenet.events"
_VERSION = 1
_STREAM = {"t": ("I64",), "x": ("U16", "I32"), "y": ("U16", "I32"), "p": ("I8",)}
_TENSOR = {"indptr": ("I64",), "indices": ("I32",), "values": ("F32",), "lengths": ("I64",)}
_NARROW = 1 << 16
_DTYPES: dict[str, np.dtype] = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
}


def write_tensor(events: EventTensor, path: str | Path) -> None:
    """Write a batch of events to spikenet's own format, whole or not at all; `read_tensor` gives it back exactly.

    It is written from whatever device it is on. Errors: OSError where the place cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: getattr(events, name).detach().cpu().contiguous() for name in _TENSOR}
    write_atomically(path, save(tensors, metadata=_metadata("tensor", shape=list(events.shape))))


def read_tensor(path: str | Path) -> EventTensor:
    """Read a batch of events that `write_tensor` wrote, onto the CPU.

    Errors: FormatError for a file that cannot be read, is of another kind or breaks a rule of `EventTensor`.
    """
    path = Path(path)
    with _opened(path, "pt") as file:
        shape = _header(path, file, "tensor").get("shape")
        _check_dtypes(path, file, _TENSOR)
        fields = {name: file.get_tensor(name) for name in _TENSOR}
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise FormatError(path, None, f"a shape wants a list of sizes, received {shape}")
    try:
        return EventTensor(fields["indptr"], fields["indices"], fields["values"], shape, fields["lengths"])
    except SpikenetError as error:
        raise FormatError(path, None, f"does not hold an EventTensor: {error}") from error


class _Stored:
    """A recording, of which no more is read at a time than is asked for."""

    def __init__(self, opening: Opening) -> None:
        chosen(opening, 1)
        self._path = opening.path
        with _opened(self._path, "np") as file:
            header = _header(self._path, file, "stream")
            _check_dtypes(self._path, file, _STREAM)
            lengths = {name: file.get_slice(name).get_shape()[0] for name in _STREAM}
        check_lengths(opening, **lengths)
        self.sensor = sensor_of(self._path, header.get("sensor"))
        self.header: Mapping[str, str] = {"version": str(_VERSION), "events": str(lengths["t"])}
        self._length, self._places = lengths["t"], _places(self._path)

    def pieces(self, size: int) -> Iterator[Columns]:
        count = max(self._length * size // self._path.stat().st_size, 1)
        with self._path.open("rb") as file:
            for start in range(0, self._length, count):
                part = min(count, self._length - start)
                t, x, y, p = (self._read(file, name, start, part) for name in _STREAM)
                yield Columns(t, x.astype(np.int32, copy=False), y.astype(np.int32, copy=False), p)

    def _read(self, file: BinaryIO, name: str, start: int, count: int) -> np.ndarray:
        offset, dtype = self._places[name]
        file.seek(offset + start * dtype.itemsize)
        values = np.fromfile(file, dtype, count)
        if len(values) < count:
            raise FormatError(self._path, file.tell(), f"{name} ends early; the file was changed while it was read")
        return values


def _places(path: Path) -> dict[str, tuple[int, np.dtype]]:
    """Where each column of a file that safetensors found valid begins, and its dtype.

    The library maps a file, and what was once read stays in memory with the mapping; plain reads do not.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(size))
    begin = {name: 8 + size + table[name]["data_offsets"][0] for name in _STREAM}
    return {name: (begin[name], _DTYPES[table[name]["dtype"]]) for name in _STREAM}


def _write(stream: EventStream, path: Path) -> None:
    from safetensors.numpy import save_file

    narrow = np.uint16 if max(stream.sensor[:2]) <= _NARROW else np.int32
    x, y = (column.numpy().astype(narrow) for column in (stream.x, stream.y))
    arrays = {"t": stream.t.numpy(), "x": x, "y": y, "p": stream.p.numpy()}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, metadata=_metadata("stream", sensor=list(stream.sensor)))


def _metadata(kind: str, **content: Any) -> dict[str, str]:
    return {_ENTRY: json.dumps({"kind": kind, "version": _VERSION, **content})}


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise FormatError(path, None, f"not a readable safetensors file: {error}") from error


def _header(path: Path, file: Any, kind: str) -> dict[str, Any]:
    """The metadata, which is to announce this kind of content."""
    try:
        header = json.loads((file.metadata() or {})[_ENTRY])
        found, version = header["kind"], header["version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(path, None, "is a safetensors file, but holds no events of spikenet") from error
    if version != _VERSION:
        raise FormatError(path, None, f"is of version {version}; {_VERSION} can be read")
    if found != kind:
        others = {"stream": "read_tensor", "tensor": "read"}
        raise FormatError(path, None, f"holds a {found}, not a {kind}; {others[kind]} may read it")
    return dict(header)


def _check_dtypes(path: Path, file: Any, wanted: Mapping[str, tuple[str, ...]]) -> None:
    if missing := sorted(set(wanted) - set(file.keys())):
        raise FormatError(path, None, f"lacks the tensors {missing}")
    for name, dtypes in wanted.items():
        view = file.get_slice(name)
        if view.get_dtype() not in dtypes or len(view.get_shape()) != 1:
            found = f"{view.get_dtype()} {view.get_shape()}"
            raise FormatError(path, None, f"{name} wants {' or '.join(dtypes)} in one dimension, received {found}")


def _recognises(path: Path, head: bytes) -> bool:
    return head[8:9] == b"{" and f'"{_ENTRY}"'.encode() in head


SPIKENET = Format("spikenet", (".spikenet",), _recognises, _Stored, _write)
