"""Broken files of every format: a FormatError that names the path, or a count of what was left out; nothing else."""

from __future__ import annotations

import functools
import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikenet.errors import DataError, FormatError, SpikenetError
from spikenet.events import Sensor, read
from tests.events.files.encoders import aedat, aedat4, ecf, lz4_frame, plain
from tests.events.files.samples import DVS, HD, MAKERS, Sample, events, samples
from tests.events.files.trial import PER_BYTE, ROOM, Case, Finding, Outcome, apart, bounded, trial

pytestmark = pytest.mark.timeout(120)

FEW = 60  # places in a larger file that are tried; with -m slow, every one


def case_of(sample: Sample, format: str, folder: Path) -> Case:
    return Case(sample.put(folder), format, sample.sensor, sample.index)


def survives(case: Case, contents: Iterable[bytes]) -> None:
    """Read each file, in a process apart that tells the number of the one it is at."""
    trial(case)  # loads and compiles what the reader needs, before memory is watched
    place = case.path.with_name("place")
    contents = list(contents)
    sizes = (1, 7, 64, 1000) if len(contents[-1]) < 1500 else (64, 1000)

    def read_all() -> None:
        with bounded(max(map(len, contents))):
            for number, content in enumerate(contents):
                place.write_text(f"{number}")
                case.path.write_bytes(content)
                trial(case, sizes[number % len(sizes)])

    try:
        apart(read_all)
    except Finding as finding:
        number = int(place.read_text())
        finding.add_note(f"{case.format} {case.path.name}, damage number {number}: {contents[number][:200].hex()}")
        raise


def places(length: int, every: bool, few: int = FEW) -> Iterable[int]:
    return range(length) if every or length < 2 * few else range(0, length, length // few)


def truncations(content: bytes, every: bool) -> Iterable[bytes]:
    return (content[:length] for length in places(len(content), every))


def flips(content: bytes, every: bool) -> Iterable[bytes]:
    """One bit of a byte, a different one at each place, and then all eight."""
    for at in places(len(content), every):
        for mask in (1 << at * 5 % 8, 0xFF):
            yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def extremes(content: bytes, every: bool) -> Iterable[bytes]:
    """Four bytes that may be a length become the largest of their kind."""
    for number, at in enumerate(places(len(content) - 3, every)):
        yield content[:at] + struct.pack("<I", (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)[number % 3]) + content[at + 4 :]


DAMAGES = [truncations, flips, extremes]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("format", MAKERS)
def test_damage(format, damage, tmp_path):
    """The first file of a format is cut at every byte if it is small; other damage is done at some sixty places."""
    for sample in samples(format):  # a damaged file may ask for the kernel of another kind
        trial(case_of(sample, format, tmp_path))
    for number, sample in enumerate(samples(format)):
        every = damage is truncations and number == 0 and len(sample.content) < 1500
        survives(case_of(sample, format, tmp_path), damage(sample.content, every=every))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("format", MAKERS)
def test_damage_at_every_byte(format, damage, tmp_path):
    for sample in samples(format):
        survives(case_of(sample, format, tmp_path), damage(sample.content, every=True))


RECORD = {"bin": 5, "dat": 8, "evt2": 4, "evt21": 8, "evt3": 2, "aedat2": 8, "aedat4": 16, "spikenet": 1, "npy": 7}


@pytest.mark.parametrize("format", RECORD)
def test_a_torn_record_is_refused_and_counted(format, tmp_path):
    """One byte less is never in order where records have more than one; a tolerant reader keeps those before."""
    sample = samples(format)[0]
    case = case_of(sample, format, tmp_path)
    case.path.write_bytes(sample.content[:-1])
    refusal = trial(case).refusal
    assert isinstance(refusal, FormatError), f"{refusal}"


@pytest.mark.parametrize("asked", MAKERS)
def test_files_of_other_formats(asked, tmp_path):
    """The bytes of each format under the name of each."""
    for format in MAKERS:
        sample = samples(format)[0]
        case = Case(sample.put(tmp_path), asked, HD, 0 if asked in {"shd", "ntidigits"} else None)
        trial(case)


NONSENSE = {
    "nothing": b"",
    "one byte": b"%",
    "zeros": bytes(640),
    "ones": b"\xff" * 640,
    "noise": np.random.default_rng(0).bytes(4096),
    "words": b"It was a dark and stormy night.\r\n" * 20,
    "hashes": b"#" * 5000,
    "endless line": b"% " + b"x" * 300_000,
    "many lines": b"% a b\n" * 20_000,
    "zip": b"PK\x03\x04" + bytes(100),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "npy": b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 100,
}


@pytest.mark.parametrize("format", MAKERS)
def test_nonsense(format, tmp_path):
    index = 0 if format in {"shd", "ntidigits"} else None
    for name, content in NONSENSE.items():
        path = tmp_path / name
        path.write_bytes(content)
        with bounded(len(content)):
            trial(Case(path, format, HD, index))


def test_nonsense_is_of_no_format(tmp_path):
    for name, content in NONSENSE.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SpikenetError):
            read(path)


@pytest.mark.parametrize("format", [None, *MAKERS])
def test_what_is_no_file(format, tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=str(path)):
            read(path, format=format, sensor=HD, index=0)


VERSIONS = {
    "aedat2": b"#!AER-DAT5.0\r\n",
    "aedat3": b"#!AER-DAT3.9\r\n#!END-HEADER\r\n",
    "aedat4": b"#!AER-DAT4.9\r\n" + bytes(100),
    "evt2": b"% evt 4.0\n% end\n",
    "evt21": b"% evt 9.1\n% end\n",
    "evt3": b"% evt 3.7\n% end\n",
}


@pytest.mark.parametrize("format", VERSIONS)
def test_unknown_versions_are_named(format, tmp_path):
    (tmp_path / "a").write_bytes(VERSIONS[format])
    with pytest.raises(FormatError, match=r"5\.0|3\.9|4\.9|4\.0|EVT4|EVT91|EVT37"):
        read(tmp_path / "a", format=format, sensor=HD)


# Files that claim more than they hold.

HUGE = 1 << 31


def held(case: Case, content: bytes) -> Outcome:
    """A trial under a bound of memory, with what is only asked for counted too."""
    case.path.write_bytes(content)
    tracemalloc.start()
    try:
        with bounded(len(content)):
            result = trial(case)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > ROOM + PER_BYTE * len(content):
        raise Finding("memory", f"{peak >> 20} MB asked for, {len(content)} bytes")
    return result


def npy_claiming(shape: str, descr: str) -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


def npz_claiming(shape: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name in "txyp":
            archive.writestr(f"{name}.npy", npy_claiming(shape, "'<i8'"))
    return memory.getvalue()


def hdf5_claiming(layout: str) -> bytes:
    """Data sets with an extent of 2^31 and nothing in them."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        if layout == "shd":
            ragged = h5py.vlen_dtype(np.float16), h5py.vlen_dtype(np.uint16)
            for name, dtype in zip(("times", "units"), ragged, strict=True):
                file.create_dataset(f"spikes/{name}", (HUGE,), dtype, chunks=(1024,))
            file.create_dataset("labels", (HUGE,), "u2", chunks=(1024,))
        else:
            for part in ("train", "test"):
                file[f"{part}_labels"] = np.array([b"a-1"])
                for name in ("addresses", "timestamps"):
                    file.create_dataset(f"{part}_{name}/a-1", (HUGE,), "f8", chunks=(1024,))
    return memory.getvalue()


def safetensors_claiming() -> bytes:
    entries = [
        f'"{n}":{{"dtype":"I64","shape":[{HUGE}],"data_offsets":[{8 * HUGE * i},{8 * HUGE * (i + 1)}]}}'
        for i, n in enumerate("txyp")
    ]
    head = ("{" + ",".join(entries) + "}").encode()
    return struct.pack("<Q", len(head)) + head + bytes(64)


def aedat4_claiming(at: int, value: int) -> bytes:
    """An events packet with one number replaced: its size prefix, or the count of its vector."""
    buffer = bytearray(aedat4.events(events(4, DVS)))
    buffer[at : at + 4] = struct.pack("<I", value)
    return aedat4.aedat4([(aedat4.EVENTS, bytes(buffer))])


def ecf_claiming() -> bytes:
    """A chunk of 2^30 - 1 events, in runs of 65535."""
    chunk = struct.pack("<IQ", 0xFFFFFFFC, 0) + b"\x1f\xff\xff" * 9
    return ecf.metavision(events(4, HD), encode=lambda _: chunk)


LIP = "[('t', '<i4'), ('x', '|i1'), ('y', '|i1'), ('p', '|i1')]"
COUNT_AT = len(aedat4.events(events(4, DVS))) - 4 * 16 - 4

CLAIMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "aedat3 number": ("aedat3", lambda: aedat.aedat3(aedat.packet(aedat.POLARITY, bytes(80), number=HUGE - 1))),
    "aedat3 size": ("aedat3", lambda: aedat.aedat3(aedat.packet(aedat.POLARITY, bytes(80), size=HUGE - 1, number=10))),
    "aedat3 frame": ("aedat3", lambda: aedat.aedat3(aedat.packet(aedat.FRAME, bytes(80), size=HUGE - 1, number=9))),
    "aedat3 negative": ("aedat3", lambda: aedat.aedat3(aedat.packet(aedat.POLARITY, bytes(80), number=-HUGE))),
    "aedat3 backwards": ("aedat3", lambda: aedat.aedat3(aedat.packet(aedat.IMU6, bytes(80), size=-28, number=1))),
    "aedat3 nothing": ("aedat3", lambda: aedat.aedat3(aedat.packet(aedat.POLARITY, bytes(80), size=0, number=10))),
    "aedat4 count": ("aedat4", lambda: aedat4_claiming(COUNT_AT, HUGE)),
    "aedat4 count beyond 32 bits": ("aedat4", lambda: aedat4_claiming(COUNT_AT, 1 << 28)),
    "aedat4 prefix": ("aedat4", lambda: aedat4_claiming(0, HUGE - 1)),
    "aedat4 packet": ("aedat4", lambda: aedat4.aedat4([]) + struct.pack("<ii", 0, HUGE - 1) + bytes(64)),
    "aedat4 negative packet": ("aedat4", lambda: aedat4.aedat4([]) + struct.pack("<ii", 0, -8) * 8),
    "aedat4 header": ("aedat4", lambda: aedat4.MAGIC + struct.pack("<I", HUGE - 1) + bytes(64)),
    "ecf chunk": ("ecf", ecf_claiming),
    "ecf extent": ("ecf", lambda: ecf.metavision(events(4, HD), claim=HUGE)),
    "npy": ("npy", lambda: npy_claiming(f"({HUGE},)", LIP)),
    "npy negative": ("npy", lambda: npy_claiming("(-1,)", LIP)),
    "npy beyond 64 bits": ("npy", lambda: npy_claiming(f"({1 << 62}, {1 << 62})", LIP)),
    "npz": ("npz", lambda: npz_claiming(f"({HUGE},)")),
    "spikenet": ("spikenet", safetensors_claiming),
    "spikenet header": ("spikenet", lambda: struct.pack("<Q", 1 << 40) + b"{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_are_refused_before_memory_is_taken(name, tmp_path):
    format, make = CLAIMS[name]
    sensor = samples(format)[0].sensor
    result = held(Case(tmp_path / "a", format, sensor), make())
    assert isinstance(result.refusal, FormatError), result.words


@pytest.mark.parametrize("format", ["shd", "ntidigits"])
def test_extents_without_data_take_no_memory(format, tmp_path):
    """Such a file may be valid (its recording is empty) or not."""
    held(Case(tmp_path / "a", format, samples(format)[0].sensor, 0), hdf5_claiming(format))


# Files that unfold.

UNFOLDED = 256 << 20


def zeros_deflated(head: bytes, raw: bool) -> tuple[bytes, int, int]:
    """``head`` and 256 MB of zeros, deflated; the sum of bytes and their checksum."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15 if raw else 15)
    zeros, checksum = bytes(1 << 20), zlib.crc32(head)
    parts = [squeeze.compress(head)]
    for _ in range(UNFOLDED >> 20):
        parts.append(squeeze.compress(zeros))
        checksum = zlib.crc32(zeros, checksum)
    return b"".join(parts) + squeeze.flush(), len(head) + UNFOLDED, checksum


def zip_bomb() -> bytes:
    """t unfolds to 256 MB, the others are three events long."""
    head = npy_claiming(f"({UNFOLDED},)", "'|i1'")[:-64]
    packed, size, checksum = zeros_deflated(head, raw=True)
    three = plain.npz({name: np.zeros(3, np.int64) for name in "xyp"})
    local = (
        struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, checksum, len(packed), size, 5, 0) + b"t.npy" + packed
    )
    entry = (
        struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, checksum, len(packed), size, 5, 0, 0, 0, 0, 0, 0
        )
        + b"t.npy"
    )
    with zipfile.ZipFile(io.BytesIO(three)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    memory = io.BytesIO(local + entry + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local), 0))
    with zipfile.ZipFile(memory, "a") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return memory.getvalue()


def mat_bomb(name: str, rows: int, others: dict[str, np.ndarray]) -> bytes:
    """A compressed element that holds a matrix of 256 MB of float64."""
    columns = UNFOLDED // 8 // rows
    size = rows * columns * 8
    label = name.encode() + bytes(-len(name) % 8)
    head = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, rows, columns)
    head += struct.pack("<II", 1, len(name)) + label + struct.pack("<II", 9, size)
    packed, _, _ = zeros_deflated(struct.pack("<II", 14, len(head) + size) + head, raw=False)
    return plain.mat(others) + struct.pack("<II", 15, len(packed)) + packed


def hdf5_bomb() -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for part in ("train", "test"):
            file[f"{part}_labels"] = np.array([b"a-1"])
            file[f"{part}_addresses/a-1"] = np.zeros(3, "i8")
            times = file.create_dataset(
                f"{part}_timestamps/a-1", (UNFOLDED // 8,), "f8", chunks=(1 << 19,), compression=9
            )
            chunk = zlib.compress(bytes(1 << 22), 9)
            for start in range(0, UNFOLDED // 8, 1 << 19):
                times.id.write_direct_chunk((start,), chunk)
    return memory.getvalue()


def lz4_bomb() -> bytes:
    """A block of copies that unfolds to more than the 4 MB its frame allows."""
    block = lz4_frame.sequence(bytes(16), 16, UNFOLDED) + lz4_frame.sequence(bytes(5))
    frame = lz4_frame.frame(b"")[:7] + struct.pack("<I", len(block)) + block + bytes(4)
    return aedat4.aedat4([(aedat4.EVENTS, b"")], compression=aedat4.LZ4, compress=lambda _: frame)


BOMBS: dict[str, tuple[Callable[[], bytes], int | None]] = {
    "npz": (zip_bomb, None),
    "asldvs": (lambda: mat_bomb("ts", 1, {n: np.zeros((3, 1)) for n in ("x", "y", "pol")}), None),
    "ntidigits": (hdf5_bomb, 0),
    "aedat4": (lz4_bomb, None),
}


@pytest.mark.parametrize("format", BOMBS)
def test_bombs_are_refused(format, tmp_path):
    make, index = BOMBS[format]
    result = held(Case(tmp_path / "a", format, samples(format)[0].sensor, index), make())
    assert isinstance(result.refusal, FormatError), result.words


def test_a_touch_file_that_unfolds_is_refused_or_read_in_bounds(tmp_path):
    """101 rows of zeros are a valid recording without events."""
    held(Case(tmp_path / "a", "stmnist", Sensor(10, 10, 2)), mat_bomb("spiketrain", 101, {}))


def test_every_damage_damages():
    """The damages above change the file at every place they say."""
    content = samples("evt3")[0].content
    made = {damage.__name__: list(damage(content, every=True)) for damage in DAMAGES}
    assert [len(piece) for piece in made["truncations"]] == list(range(len(content)))
    assert len(made["flips"]) == 2 * len(content)
    assert all(piece != content for piece in made["flips"])
    assert FEW <= len(list(truncations(bytes(8000), every=False))) <= FEW + 1
    assert functools.reduce(lambda n, piece: n + (piece != content), made["extremes"], 0) == len(content) - 3
