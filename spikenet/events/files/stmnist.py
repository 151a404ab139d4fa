"""ST-MNIST: digits drawn on a tactile sensor of 10 x 10 taxels (See et al., arXiv:2005.04319, 2020).

The MATLAB array ``spiketrain`` ``[101, N]`` has a column for each moment: row 100 is its time in seconds; rows 0 to 99
hold 1 for a rising and -1 for a falling spike of taxel ``10 y + x``, else 0. A moment's spikes follow in taxel order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from spikenet.errors import FormatError
from spikenet.events.files.arrays import LONGEST, Raw, check_holds, chosen, to_columns
from spikenet.events.files.mat import MAGIC, names, read_mat
from spikenet.events.files.recording import Columns, Format, Losses, Opening
from spikenet.events.stream import EventStream, Sensor

_SENSOR = Sensor(10, 10, 2)
_TAXELS = 100
_NAME = "spiketrain"


class _Spiketrain:
    """The columns, each a row here, ``[N, 101]``."""

    def __init__(self, moments: np.ndarray, losses: Losses, stored: int) -> None:
        self.sensor: Sensor | None = _SENSOR
        self.header: Mapping[str, str] = {"columns": str(len(moments))}
        self._moments, self._losses, self._stored = moments, losses, stored

    def pieces(self, size: int) -> Iterator[Columns]:
        count = max(len(self._moments) * size // self._stored, 1)
        seen = 0
        for start in range(0, len(self._moments), count):
            raw = self._events(start, self._moments[start : start + count])
            yield to_columns(raw, self._losses, seen, seconds=True)
            seen += len(raw.t)

    def _events(self, start: int, moments: np.ndarray) -> Raw:
        column, taxel = moments[:, :_TAXELS].nonzero()
        spike = moments[column, taxel]
        wrong = (spike != 1) & (spike != -1)
        if wrong.any():
            first = int(wrong.argmax())
            received = f", received {spike[first]} in row {taxel[first]} of column {start + column[first]}"
            self._losses.refuse("a spike wants 1 or -1", start + int(column[first]), int(wrong.sum()), received)
            column, taxel, spike = column[~wrong], taxel[~wrong], spike[~wrong]
        seconds = moments[:, _TAXELS].astype(np.float64)
        return Raw(seconds[column], taxel % 10, taxel // 10, spike > 0)


def _open(opening: Opening) -> _Spiketrain:
    chosen(opening, 1)
    array = read_mat(opening.path, [_NAME])[_NAME]
    if len(array) != _TAXELS + 1:
        raise FormatError(opening.path, None, f"{_NAME} wants 101 rows, received shape {array.shape}")
    return _Spiketrain(array.T, opening.losses, opening.path.stat().st_size)


def _write(stream: EventStream, path: Path) -> None:
    """A column for each run of events of one time in ascending taxel order, so that order and repeats are kept."""
    from scipy.io import savemat

    check_holds("stmnist", stream, _SENSOR, LONGEST * 1_000_000)
    t, taxel = stream.t.numpy(), (stream.y * 10 + stream.x).numpy()
    begins = np.ones(len(t), bool)
    begins[1:] = (np.diff(t) != 0) | (np.diff(taxel) <= 0)
    column = np.cumsum(begins) - 1
    array = np.zeros((_TAXELS + 1, int(begins.sum())), order="F")
    array[_TAXELS] = t[begins] / 1e6
    array[taxel, column] = np.where(stream.p.numpy(), 1, -1)
    with path.open("wb") as file:
        savemat(file, {_NAME: array})


def _recognises(path: Path, head: bytes) -> bool:
    return _NAME in names(path, head)


STMNIST = Format("stmnist", (".mat",), _recognises, _open, _write, begins=MAGIC[:1])
