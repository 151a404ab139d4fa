"""Frames from files, chunk by chunk, for the event cameras."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DataError, FormatError

_IMAGES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def open_video(path: str | Path, rate: float | None = None, chunk: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """Read a video as grey frames, a chunk at a time.

    A folder is read as one image a frame, in the order of the names (Pillow); any other path is a video file, read
    through PyAV (``pip install av``). Colour becomes luma. Values are those of the file, digital numbers, which for
    most files are no linear intensities but already compressed (gamma): what `V2ECamera` expects.

    Args:
        path: a folder of images or a video file.
        rate: frames a second; none takes the times of the file, which a folder has not.
        chunk: frames at a time.

    Yields:
        Frames, uint8 ``[n, H, W]`` (float32 for images of more than 8 bits), and their times in microseconds, int64
        ``[n]``, from 0 on where `rate` is given.

    Errors: ArgumentError for a rate or chunk that cannot work, DataError for a path without frames, frames of two
    sizes or a missing PyAV, FormatError for a file that cannot be decoded.
    """
    path = Path(path)
    if chunk < 1 or (rate is not None and not 0 < rate <= 1e6):
        raise ArgumentError(f"chunk wants 1 or more and rate above 0 to 1e6 frames a second, received {chunk}, {rate}")
    if path.is_dir() and rate is None:
        raise ArgumentError(f"{path} is a folder of images, which have no times: a rate in frames a second is wanted")
    if not path.exists():
        raise DataError(f"{path} does not exist; a video file or a folder of images is wanted")
    frames = _images(path) if path.is_dir() else _video(path, rate is None)
    return _chunks(path, frames, rate, chunk)


def _chunks(
    path: Path, frames: Iterator[tuple[np.ndarray, int]], rate: float | None, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    held: list[np.ndarray] = []
    times: list[int] = []
    size = None
    for number, (frame, time) in enumerate(frames):
        size = size or frame.shape
        if frame.shape != size:
            raise DataError(f"{path}: frame {number} has the size {frame.shape}, those before {size}")
        held.append(frame)
        times.append(time if rate is None else round(number * 1e6 / rate))
        if len(held) == chunk:
            yield torch.from_numpy(np.stack(held)), torch.tensor(times)
            held, times = [], []
    if size is None:
        raise DataError(f"{path} holds no frames; a video file or a folder of {', '.join(sorted(_IMAGES))} is wanted")
    if held:
        yield torch.from_numpy(np.stack(held)), torch.tensor(times)


def _images(folder: Path) -> Iterator[tuple[np.ndarray, int]]:
    from PIL import Image, UnidentifiedImageError

    for path in sorted(each for each in folder.iterdir() if each.suffix.lower() in _IMAGES):
        try:
            with Image.open(path) as image:
                deep = image.mode in {"I", "F"} or image.mode.startswith("I;16")
                frame = np.asarray(image, np.float32) if deep else np.asarray(image.convert("L"))
        except (UnidentifiedImageError, OSError) as error:
            raise FormatError(path, None, f"no image that Pillow can read: {error}") from error
        yield frame, 0


def _video(path: Path, timed: bool) -> Iterator[tuple[np.ndarray, int]]:
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"reading the video {path} needs PyAV: pip install av; or export its frames into a folder of images"
        ) from error
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if timed and (frame.pts is None or frame.time_base is None):
                    raise DataError(f"{path}: frame {number} has no time; a rate in frames a second would do")
                yield frame.to_ndarray(format="gray"), round(frame.pts * frame.time_base * 1_000_000) if timed else 0
    except (av.FFmpegError, IndexError) as error:
        raise FormatError(path, None, f"no video that PyAV can decode: {error}") from error
