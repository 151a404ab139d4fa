"""ASL-DVS: hand signs seen by a DAVIS240C (Bi et al., ICCV 2019).

Four MATLAB arrays of one length: ``ts`` (whole microseconds), ``x``, ``y`` and ``pol`` (1 is ON, 0 is OFF), on 240 x
180 pixels. Values are kept as stored; loaders of other libraries mirror rows, or rows and columns (``flip_y``,
``flip_x``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenet.events.files.arrays import ArraySource, Raw, check_holds, check_lengths, chosen
from spikenet.events.files.bounds import length_of
from spikenet.events.files.mat import MAGIC, names, read_mat
from spikenet.events.files.recording import Format, Opening
from spikenet.events.stream import EventStream, Sensor

_SENSOR = Sensor(240, 180, 2)
_NAMES = ("ts", "x", "y", "pol")


def _open(opening: Opening) -> ArraySource:
    chosen(opening, 1)
    path = opening.path
    arrays = read_mat(path, _NAMES)
    check_lengths(opening, **{name: length_of(path, name, array.shape) for name, array in arrays.items()})
    raw = Raw(*(arrays[name].reshape(-1) for name in _NAMES))
    return ArraySource(raw, opening.losses, _SENSOR, {}, seconds=False, stored=path.stat().st_size)


def _write(stream: EventStream, path: Path) -> None:
    from scipy.io import savemat

    check_holds("asldvs", stream, _SENSOR)
    dtypes = (np.int64, np.uint8, np.uint8, np.uint8)
    columns = (stream.t, stream.x, stream.y, stream.p)
    arrays = {
        name: column.numpy().astype(dtype)[:, None] for name, column, dtype in zip(_NAMES, columns, dtypes, strict=True)
    }
    with path.open("wb") as file:
        savemat(file, arrays)


def _recognises(path: Path, head: bytes) -> bool:
    return set(_NAMES) <= names(path, head)


ASLDVS = Format("asldvs", (".mat",), _recognises, _open, _write, begins=MAGIC[:1])
