"""Words and headers of Prophesee files, packed by hand from the formats' descriptions."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from spikenet.events import EventStream, Sensor, open_recording

SHARED = Path(__file__).resolve().parents[4] / "shared" / "samples"


def sample(name: str) -> Path:
    """A real file that lies beside the repository; a test that asks for one that is absent is skipped."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the real file {name} is not here")
    return path


def rows(stream: EventStream) -> list[tuple[int, ...]]:
    """Events as tuples t, x, y, p."""
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


def raw(path: Path, evt: str, body: bytes, *lines: str) -> Path:
    """A RAW file with a 640 x 480 sensor unless other header lines are given."""
    head = [f"% evt {evt}", *(lines or ("% geometry 640x480", "% end"))]
    path.write_bytes("".join(f"{line}\n" for line in head).encode() + body)
    return path


def evt2(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def evt2_high(high: int) -> int:
    return 0x8 << 28 | high


def evt2_event(low: int, x: int, y: int, p: int) -> int:
    return p << 28 | low << 22 | x << 11 | y


def evt21(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}Q", *words)


def evt21_high(high: int) -> int:
    return 0x8 << 60 | high << 32


def evt21_events(low: int, x: int, y: int, p: int, mask: int) -> int:
    return p << 60 | low << 54 | x << 43 | y << 32 | mask


def evt3(*words: tuple[int, int]) -> bytes:
    """Words as pairs of kind and content."""
    return struct.pack(f"<{len(words)}H", *(kind << 12 | content for kind, content in words))


def random_stream(seed: int, count: int, sensor: Sensor, most_step: int = 50) -> EventStream:
    """Bursts of neighbours and single events, in ascending time."""
    draw = np.random.default_rng(seed)
    t = np.cumsum(draw.integers(0, most_step, count) * (draw.random(count) < 0.3))
    x, y = draw.integers(0, sensor.width, count), draw.integers(0, sensor.height, count)
    p = draw.integers(0, 2, count)
    for start in range(0, count - 40, 60):  # a row of neighbours with gaps
        run = slice(start, start + int(draw.integers(2, 40)))
        columns = np.cumsum(draw.integers(1, 4, run.stop - run.start)) + draw.integers(0, sensor.width // 2)
        x[run], y[run], p[run], t[run] = np.minimum(columns, sensor.width - 1), y[start], p[start], t[start]
    return EventStream.from_numpy(t, x, y, p, sensor=sensor)


def assert_same(one: EventStream, other: EventStream) -> None:
    assert one.sensor == other.sensor
    for name in "txyp":
        np.testing.assert_array_equal(getattr(one, name).numpy(), getattr(other, name).numpy(), err_msg=name)


def assert_pieces_agree(path: Path, sizes: range | tuple[int, ...], **options) -> None:
    """Every size of piece gives the events, and the counts of what was left out, of the whole."""
    whole = open_recording(path, **options)
    truth = rows(whole.read())
    for size in sizes:
        pieces = open_recording(path, **options)
        assert [row for chunk in pieces.chunks(size) for row in rows(chunk)] == truth, size
        assert pieces.dropped == whole.dropped
