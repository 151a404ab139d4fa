"""Files that keep their format's form and hold what cannot be: values, lengths, kinds, pickles."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikenet.errors import FormatError
from spikenet.events import Sensor, open_recording
from tests.events.files.encoders import aedat4, ecf, lz4_frame, plain
from tests.events.files.encoders import prophesee as p
from tests.events.files.samples import DAVIS, DVS, HD, MAKERS, SPIKES, VGA, events, neighbours, samples
from tests.events.files.trial import Case, Outcome, outcome, trial


def refuses(path: Path, format: str, content: bytes, sensor: Sensor, index: int | None = None) -> Outcome:
    path.write_bytes(content)
    result = trial(Case(path, format, sensor, index))
    assert isinstance(result.refusal, FormatError), result.words
    return result


SIGNED = np.dtype([("t", "<i4"), ("x", "<i2"), ("y", "<i2"), ("p", "i1")])


@pytest.mark.parametrize("column", "xyp")
@pytest.mark.parametrize("value", [-1, 127])
def test_values_outside_the_sensor_are_counted(column, value, tmp_path):
    sensor = Sensor(100, 100, 2)
    array = plain.structured(events(9, sensor), SIGNED)
    array[column][[2, 5]] = value
    for format, content in {
        "npy": plain.npy(array),
        "npz": plain.npz({name: array[name] for name in "txyp"}),
        "text": plain.text(array.tolist()),
    }.items():
        refuses(tmp_path / format, format, content, sensor)
        recording = open_recording(tmp_path / format, format=format, sensor=sensor, strict=False)
        assert sum(len(stream) for stream in recording.chunks()) == 7, format
        assert sum(recording.dropped.values()) == 2, format


def test_negative_columns_of_aedat4(tmp_path):
    content = aedat4.aedat4([(0, aedat4.events([(1, -1, 0, 0), (2, 0, -3, 1), (3, 1, 1, 1)]))])
    refuses(tmp_path / "a", "aedat4", content, Sensor(346, 260, 2))


def test_columns_of_unequal_length(tmp_path):
    for name in "txyp":
        columns = plain.columns(events(9, DAVIS))
        columns[name] = columns[name][:-1]
        refuses(tmp_path / "a", "npz", plain.npz(columns), DAVIS)
        names = {"t": "ts", "x": "x", "y": "y", "p": "pol"}
        content = plain.mat({names[key]: values[:, None] for key, values in columns.items()})
        refuses(tmp_path / "a", "asldvs", content, DAVIS)


def edited(content: bytes, edit: Callable[[h5py.File], None]) -> bytes:
    memory = io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        edit(file)
    return memory.getvalue()


def replace(file: h5py.File, name: str, values: object) -> None:
    del file[name]
    if values is not None:
        file[name] = values


def test_recordings_of_unequal_length(tmp_path):
    def shorten(file: h5py.File) -> None:
        file["spikes/units"][0] = np.array([1], "u2")

    refuses(tmp_path / "a", "shd", edited(plain.shd(SPIKES), shorten), Sensor(700), 0)
    digits = samples("ntidigits")[0].content
    for name in ("train_addresses/a-ac-1", "train_timestamps/a-ac-1"):
        shortened = edited(digits, lambda file, name=name: replace(file, name, np.zeros(2)))
        refuses(tmp_path / "a", "ntidigits", shortened, Sensor(64), 0)


@pytest.mark.parametrize("name", ["spikes/times", "spikes/units"])
@pytest.mark.parametrize("values", [None, np.zeros(3), np.zeros((3, 3)), np.array([b"a", b"b", b"c"])])
def test_shd_parts_of_the_wrong_kind(name, values, tmp_path):
    content = edited(plain.shd(SPIKES), lambda file: replace(file, name, values))
    refuses(tmp_path / "a", "shd", content, Sensor(700), 0)


@pytest.mark.parametrize("name", ["train_addresses/a-ac-1", "train_timestamps/a-ac-1", "train_addresses"])
@pytest.mark.parametrize("values", [None, np.zeros((3, 3)), np.array([b"a", b"b", b"c"])])
def test_ntidigits_parts_of_the_wrong_kind(name, values, tmp_path):
    content = edited(samples("ntidigits")[0].content, lambda file: replace(file, name, values))
    refuses(tmp_path / "a", "ntidigits", content, Sensor(64), 0)


@pytest.mark.parametrize("values", [None, np.zeros(30), np.zeros((30, 4), "u2"), np.array([b"a"])])
def test_ecf_events_of_the_wrong_kind(values, tmp_path):
    content = edited(samples("ecf")[0].content, lambda file: replace(file, "CD/events", values))
    refuses(tmp_path / "a", "ecf", content, HD)


@pytest.mark.parametrize("left_out", ["ts", "x", "y", "pol"])
def test_asldvs_without_a_column(left_out, tmp_path):
    names = {"t": "ts", "x": "x", "y": "y", "p": "pol"}
    columns = {names[key]: values[:, None] for key, values in plain.columns(events(5, DAVIS)).items()}
    del columns[left_out]
    refuses(tmp_path / "a", "asldvs", plain.mat(columns), DAVIS)


@pytest.mark.parametrize(
    "table", [np.zeros((100, 5)), np.zeros((102, 5)), np.full((101, 5), 2.0), np.full((101, 5), np.nan)]
)
def test_stmnist_tables_of_the_wrong_kind(table, tmp_path):
    refuses(tmp_path / "a", "stmnist", plain.mat({"spiketrain": table}), Sensor(10, 10, 2))


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_times_that_are_none(seconds, tmp_path):
    spikes = [(0.5, 1), (seconds, 2), (0.75, 3)]
    path = tmp_path / "a"
    refuses(path, "shd", plain.shd([spikes], "f8"), Sensor(700), 0)
    digits = plain.ntidigits({"train": {"a-1": spikes}, "test": {"b-1": spikes}})
    refuses(path, "ntidigits", digits, Sensor(64), 0)
    refuses(path, "text", f"0.5 1 1 1\n{seconds} 2 2 0\n".encode(), DAVIS)
    refuses(path, "stmnist", plain.stmnist([(0.5, {1: 1}), (seconds, {2: 1})]), Sensor(10, 10, 2))
    array = plain.structured(events(3, DAVIS), np.dtype([("t", "f8"), ("x", "i2"), ("y", "i2"), ("p", "i1")]))
    array["t"][1] = seconds
    refuses(path, "npy", plain.npy(array), DAVIS)
    refuses(path, "npz", plain.npz({name: array[name] for name in "txyp"}), DAVIS)


LINES = [
    "1.0 2 3",
    "1.0 2 3 1 5",
    "one 2 3 1",
    "1.0 2.5 3 1",
    "1.0 2 3 x",
    "1.0,2,3,1",
    "1.0 2 3 1\x00",
    "1.0 99999999999999999999 1 1",
]


@pytest.mark.parametrize("line", LINES)
def test_lines_that_are_no_events(line, tmp_path):
    refuses(tmp_path / "a", "text", f"0.5 1 1 1\n{line}\n0.7 1 1 0\n".encode(), DAVIS)


def test_lz4_frames_that_break_their_rules(tmp_path):
    """Copies from before the beginning or from nowhere, literals and copies beyond the block, an unknown magic."""
    head = lz4_frame.frame(b"")[:7]
    good = aedat4.events(events(4, DVS))
    blocks = {
        "from before": lz4_frame.sequence(bytes(4), 5, 8) + lz4_frame.sequence(bytes(5)),
        "from nowhere": lz4_frame.sequence(bytes(4), 0, 8) + lz4_frame.sequence(bytes(5)),
        "literals beyond": bytes([0xF0, 0xFF, 0xFF, 3]) + bytes(9),
        "length beyond": bytes([0xF0]) + b"\xff" * 9,
        "copy beyond": bytes([0x1F, 0, 1]),
    }
    frames = {name: head + struct.pack("<I", len(block)) + block + bytes(4) for name, block in blocks.items()}
    frames["magic"] = b"\x05" + lz4_frame.frame(good)[1:]
    frames["no end"] = lz4_frame.frame(good)[:-4]
    frames["block beyond"] = head + struct.pack("<I", 1000) + bytes(10)
    for name, frame in frames.items():
        content = aedat4.aedat4([(0, good)], compression=aedat4.LZ4, compress=lambda _, frame=frame: frame)
        assert refuses(tmp_path / "a", "aedat4", content, DVS), name


def test_unknown_compression_is_named(tmp_path):
    content = aedat4.aedat4([(0, b"")], compression=aedat4.NONE)
    number = aedat4.MAGIC + aedat4.flatbuffer(b"IOHE", (("i", 9), ("q", -1)), aedat4.xml(8, 8), len(aedat4.xml(8, 8)))
    assert content != number
    assert "9" in str(refuses(tmp_path / "a", "aedat4", number, Sensor(8, 8, 2)).refusal)


@pytest.mark.parametrize("body", [b"", b"\x10", b"\xf1" * 40, b"\x1f\xff\xff", b"\x10" * 40])
def test_ecf_times_that_run_on(body, tmp_path):
    """Runs of no events, of more than there are, and steps that never end."""
    few = neighbours(8, HD)
    content = ecf.metavision(few, encode=lambda _: struct.pack("<IQ", len(few) << 2, 0) + body)
    refuses(tmp_path / "a", "ecf", content, HD)


def test_dat_and_raw_without_data(tmp_path):
    """A header that ends where the type of its records should be."""
    text = p.header("Data file", "Version 2", end=False)
    refuses(tmp_path / "a", "dat", text, VGA)
    refuses(tmp_path / "a", "dat", text + b"\x0c", VGA)


# Pickles.


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_touch_would_be_seen(tmp_path):
    pickle.loads(pickle.dumps(Touch(tmp_path / "touched")))
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("format", [None, *(name for name in MAKERS if name not in {"shd", "ntidigits"})])
def test_pickles_are_never_opened(format, strict, tmp_path):
    touched = tmp_path / "touched"
    objects = np.empty(3, object)
    objects[:] = [Touch(touched)] * 3
    fields = np.empty(3, np.dtype([("t", object), ("x", "i1"), ("y", "i1"), ("p", "i1")]))
    fields["t"] = objects
    contents = {
        "a.npy": plain.npy(objects, allow_pickle=True),
        "b.npy": plain.npy(fields, allow_pickle=True),
        "c.npz": plain.npz(plain.columns(events(3, DVS)) | {"t": objects}),
        "d.pkl": pickle.dumps(Touch(touched)),
        "e.npy": pickle.dumps(Touch(touched)),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        result = outcome(Case(tmp_path / name, format, DVS), strict=strict)
        assert not touched.exists()
        if format in {"npy", "npz", None}:
            assert isinstance(result.refusal, FormatError), result.words
