"""digits-dvs: scikit-learn's handwritten digits seen by a simulated event camera. Made on the user's machine."""

from __future__ import annotations

import hashlib
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikenet.cache import cache_dir, write_atomically
from spikenet.data.about import About
from spikenet.data.base import EventDataModule
from spikenet.data.recordings import BinRecordings, EventData, Selection, hold_out
from spikenet.events import EventCamera, Sensor
from spikenet.events.files.bin import encode_bin

SENSOR = Sensor(24, 24, 2)
EVENTS_SHA256 = (
    "e34d90146cc262095b2e66ad2db3b74608e21f391d0e9f4ef21d9d763c9c1a5c"  # of what `generate` returns, on every machine
)
_DIGITS = 1797
_HELD_OUT, _TEST_SEED, _VALIDATION_SEED = 360, 1, 2

_SCALE = 2.25  # sensor pixels per digit pixel: a digit is 18 pixels wide
_CORNERS = np.array([[-2, -2], [0, 2], [2, -2], [-2, -2]])  # x, y in pixels: the triangle of N-MNIST's saccades
_SACCADE_US, _FRAMES = 100_000, 20  # of one saccade
_CAMERA = EventCamera(theta_on=0.25, theta_off=0.25, sigma=0.03, eps=0.15)


class DigitsDVS(EventDataModule):
    """1797 handwritten digits from events: no download, made and cached on first use in a few seconds.

    The 8 x 8 images that scikit-learn ships (UCI "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak 1998)
    are enlarged smoothly to 18 x 18 and moved over a 24 x 24 sensor along a triangle in three saccades of 100 ms, as
    N-MNIST was made (Orchard et al. 2015); the camera is `spikenet.events.EventCamera`.

    The split is fixed and stratified: 1077 train, 360 validation, 360 test. The digits come from 43 writers, but the
    images carry no writer's number, so one hand may occur in all three parts.

    Args:
        dt_us: length of a time step in microseconds; a recording lasts 300 000.
        steps: number of time steps; later events are left out. None (null) gives each recording its own length.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="digits-dvs",
        content="small handwritten digits seen by a simulated event camera, made on this machine",
        citation="images: Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        url="https://doi.org/10.24432/C50P49",
        licence="CC BY 4.0",
        layout="nothing: it is made on first use, in a few seconds, and kept in the cache",
        split="stratified, always the same: 1077 training, 360 validation, 360 test",
        sensor=SENSOR,
        classes=tuple("0123456789"),
        counts={"train": 1077, "val": 360, "test": 360},
        made=True,
    )

    def __init__(self, *, dt_us: int = 20_000, steps: int | None = 15, **options: Any) -> None:
        super().__init__(dt_us=dt_us, steps=steps, **options)

    def read(self) -> EventData:
        """Load the cached events, or make them."""
        recordings = _unpack(_load())
        rest, test = hold_out(recordings.labels, _HELD_OUT, _TEST_SEED)
        train, val = hold_out(recordings.labels[rest], _HELD_OUT, _VALIDATION_SEED)
        parts = {"train": rest[train], "val": rest[val], "test": test}
        chosen = {name: Selection(recordings, numbers) for name, numbers in parts.items()}
        return EventData("digits-dvs", tuple("0123456789"), SENSOR, **chosen)


def generate() -> bytes:
    """Make all recordings: 1797 labels (uint8), 1797 sizes in bytes (little-endian uint32), then ``.bin`` records.

    The frames are sums of dyadic numbers, exact in float64, and the camera counts in whole numbers: the bytes are the
    same everywhere (as long as numpy draws normal numbers as it does now).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    across, down = _weights(_path()[:, 0]), _weights(_path()[:, 1])
    times = torch.arange(len(across)) * _SACCADE_US // _FRAMES
    files = []
    for number, image in enumerate(digits.images / 16):
        frames = torch.from_numpy(down @ image @ across.transpose(0, 2, 1))
        files.append(encode_bin(_CAMERA(frames, times, seed=number)))
    sizes = np.array([len(file) for file in files], "<u4")
    return b"".join([digits.target.astype(np.uint8).tobytes(), sizes.tobytes(), *files])


def _path() -> np.ndarray:
    """Position of the digit's centre in each frame, pixels ``[N, 2]``; the last frame is back at the start."""
    share = np.arange(_FRAMES)[:, None] / _FRAMES
    sides = [a + (b - a) * share for a, b in pairwise(_CORNERS)]
    return np.concatenate([*sides, _CORNERS[-1:]])


def _weights(positions: np.ndarray) -> np.ndarray:
    """How the 8 digit pixels add up along one side of the sensor, ``[N, 24, 8]``: quadratic B-splines, smooth and never
    negative, rounded to 16 bits so that sums are exact."""
    pixel = np.arange(SENSOR.width) - (SENSOR.width - 1) / 2
    source = (pixel[None, :, None] - positions[:, None, None]) / _SCALE + 3.5
    distance = np.abs(source - np.arange(8))
    near, far = 0.75 - distance**2, 0.5 * np.maximum(1.5 - distance, 0) ** 2
    weights: np.ndarray = np.rint(np.where(distance < 0.5, near, far) * 2**16) / 2**16
    return weights


def _load() -> bytes:
    """The generated bytes from the cache, their checksum verified; made anew where they are missing or damaged."""
    path = cache_dir() / f"digits-dvs-{EVENTS_SHA256[:16]}.events"
    stored = _read(path)
    digest, content = stored[:32], stored[32:]
    if stored and hashlib.sha256(content).digest() == digest:
        return content
    if stored:
        warnings.warn(f"{path} is damaged (its checksum differs); it is made anew", stacklevel=2)
    content = generate()
    _check_known(content)
    _store(path, hashlib.sha256(content).digest() + content)
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _check_known(content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != EVENTS_SHA256:
        warnings.warn(
            f"the digits-dvs events made here differ from the published ones (SHA-256 {found}, not {EVENTS_SHA256}): "
            "train as usual, but compare accuracies with care",
            stacklevel=3,
        )


def _store(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({error}); digits-dvs is made anew in every run", stacklevel=3)


def _unpack(content: bytes) -> BinRecordings:
    stored = np.frombuffer(content, np.uint8)
    labels, sizes, records = np.split(stored, [_DIGITS, 5 * _DIGITS])
    return BinRecordings(records, sizes.view("<u4"), labels, SENSOR)
