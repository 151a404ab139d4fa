"""Sound files turned into spikes by the cochlea, once, and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from spikenet.cache import cache_dir
from spikenet.data.base import Track, untracked
from spikenet.data.recordings import CachedRecordings, EventData, Made, Recordings, packed
from spikenet.data.stored import StoredData
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import Cochlea, EventStream, Sensor

CHANNELS = 700
Ear = Callable[[Tensor, int, int], EventStream]


class SpokenData(StoredData):
    """Words in ``.wav`` files, heard through a cochlea of 700 channels.

    Sound is turned into spikes when a recording is first asked for, and kept in the cache under the cochlea's
    settings and the folder's path; ``spikenet data prepare`` does so for all. The cochlea's random
    draws follow from the name of the file, never from `seed`.

    Args:
        root: folder with the published files.
        pool: neighbouring channels joined to one; 5 makes 140 of 700.
        cochlea: what hears, called as ``cochlea(waveform, rate, seed)``, with a ``repr`` that tells its settings; none
            takes ``spikenet.events.Cochlea()``.
        options: those of every `EventDataModule`.
    """

    def __init__(self, root: Path | None = None, pool: int = 5, cochlea: Ear | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        if not 1 <= pool <= CHANNELS:
            raise ArgumentError(f"pool wants 1 to {CHANNELS}, received {pool}")
        self.pool, self.cochlea = pool, cochlea

    def read(self) -> EventData:
        """Look for the recordings and cut them into parts."""
        parts = super().read()
        sensor = Sensor(-(-CHANNELS // self.pool))
        return EventData(parts.name, parts.classes, sensor, parts.train, parts.val, parts.test)

    def heard(self, root: Path, names: Sequence[str], labels: ArrayLike) -> Recordings:
        """The recordings of sound files, by name below the root."""
        cochlea = self.cochlea or Cochlea()
        settings = hashlib.sha256(repr(cochlea).encode() + os.fsencode(root.resolve())).hexdigest()[:16]
        folder = cache_dir() / f"{self.about.title.lower().replace(' ', '-')}-{settings}"
        return _Pooled(CachedRecordings(_Sounds(root, names, labels, cochlea), names, folder), self.pool)

    def prepare(self, track: Track = untracked) -> None:
        """Turn every sound into spikes and keep them in the cache."""
        self.read_all(track)


class _Sounds(Made):
    """Sound files, heard when they are asked for."""

    def __init__(self, root: Path, names: Sequence[str], labels: ArrayLike, cochlea: Ear) -> None:
        self.root, self.names, self.cochlea = root, packed(names), cochlea
        self.labels = np.asarray(labels, np.int64)

    def origin(self, index: int) -> Path:
        return self.root / os.fsdecode(self.names[index])

    def stream(self, index: int) -> EventStream:
        waveform, rate = read_wav(self.origin(index))
        return self.cochlea(waveform, rate, zlib.crc32(self.names[index]))


class _Pooled(Recordings):
    """Recordings with neighbouring channels joined."""

    def __init__(self, recordings: Recordings, pool: int) -> None:
        self.recordings, self.pool, self.labels = recordings, pool, recordings.labels

    def origin(self, index: int) -> Path | None:
        return self.recordings.origin(index)

    def stream(self, index: int) -> EventStream:
        stream = self.recordings.stream(index)
        sensor = Sensor(-(-stream.sensor.width // self.pool))
        return EventStream(stream.t, stream.x // self.pool, stream.y, stream.p, sensor)


def read_wav(path: Path) -> tuple[Tensor, int]:
    """The samples of a mono sound file of 16 bits, float32 ``[N]`` from -1 to 1, and their number in a second.

    Errors: DataError where it cannot be read, FormatError where it is broken, of another width or not mono.
    """
    try:
        with wave.open(os.fspath(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            content = file.readframes(count)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (wave.Error, EOFError) as error:
        raise FormatError(path, None, f"is no readable wav file: {error}") from error
    if (channels, width) != (1, 2):
        raise FormatError(path, None, f"wants one channel of 16 bits, received {channels} of {8 * width}")
    if len(content) != 2 * count:
        raise FormatError(path, None, f"claims {count} samples and holds {len(content) // 2}")
    return torch.from_numpy(np.frombuffer(content, "<i2").astype(np.float32) / 32768), rate
