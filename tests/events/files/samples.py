"""Small files of every format, made by the independent encoders, with what a reader must find in them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenet.events import EventStream, Sensor, write
from tests.events.files.encoders import aedat, aedat4, ecf, plain, prophesee

Event = tuple[int, int, int, int]  # t, x, y, p

HD, VGA, DVS, DAVIS = Sensor(1280, 720, 2), Sensor(640, 480, 2), Sensor(128, 128, 2), Sensor(240, 180, 2)


@dataclass(frozen=True)
class Sample:
    """One file: ``skipped`` counts what it holds that is no event, None where a format's unit of that is not given;
    ``says_sensor`` and ``says_format`` tell whether a reader can know them from the file and its name."""

    name: str
    suffix: str
    content: bytes
    sensor: Sensor
    events: list[Event]
    skipped: int | None = 0
    index: int | None = None
    says_sensor: bool = True
    says_format: bool = True

    def put(self, folder: Path) -> Path:
        path = folder / f"{self.name}{self.suffix}"
        path.write_bytes(self.content)
        return path


def events(count: int, sensor: Sensor, start: int = 0, step: int = 997, run: int = 1) -> list[Event]:
    """Distinct places all over the sensor, its corners first; ``run`` events share a time."""
    width, height, _ = sensor
    corners = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]
    places = corners + [(i * 7919 % width, i * 104729 % height) for i in range(1, count)]
    return [(start + i // run * step, *places[i], i // 3 % 2) for i in range(count)]


def neighbours(count: int, sensor: Sensor, start: int = 0) -> list[Event]:
    """Runs of neighbours in one row that fire at once."""
    return [
        (start + i // 5 * 61, i % 5 * 3 + i // 5 * 31 % (sensor.width - 20), i // 5 * 7 % sensor.height, i // 5 % 2)
        for i in range(count)
    ]


def _bin() -> list[Sample]:
    sensor = Sensor(34, 34, 2)
    few = events(12, sensor, step=3001)
    return [
        Sample("plain", ".bin", plain.bin_file(few), sensor, few, says_sensor=False),
        Sample("marked", ".bin", plain.bin_file(few, limit=9000), sensor, few, None, says_sensor=False),
    ]


def _aedat2() -> list[Sample]:
    few, small = events(10, DAVIS), events(10, DVS)
    mixed = aedat.davis(few)
    for at, address in ((8, aedat.EXTERNAL), (5, aedat.IMU_SAMPLE), (2, aedat.APS_SAMPLE), (0, aedat.APS_SAMPLE)):
        mixed.insert(at, (address, mixed[at][1]))
    special = [(aedat.SPECIAL, 0), *aedat.dvs128(small)]
    sixteen = [*aedat.dvs128(small), (aedat.SPECIAL_16, 10**6)]
    return [
        Sample("davis", ".aedat", aedat.aedat2(mixed, "raw", chip=aedat.DAVIS240C), DAVIS, few, 4),
        Sample("dvs128", ".aedat", aedat.aedat2(special, chip=aedat.DVS128), DVS, small, 1),
        Sample("oldest", ".dat", aedat.aedat1(sixteen), DVS, small, 1, says_sensor=False, says_format=False),
    ]


def _aedat3() -> list[Sample]:
    few = events(10, DVS)
    late = [(t + (1 << 31), *place) for t, *place in events(3, DVS)]
    special = aedat.packet(aedat.SPECIAL_EVENT, bytes(8))
    packets = [aedat.polarities(few[:6], invalid=(1, 4)), special, aedat.polarities(few[6:])]
    packets += [aedat.polarities(late, overflow=1)]
    kept = [row for i, row in enumerate(few) if i not in (1, 4)]
    return [Sample("gesture", ".aedat", aedat.aedat3(*packets), DVS, kept + late, None)]


def _aedat4() -> list[Sample]:
    sensor = Sensor(346, 260, 2)
    few = events(12, sensor, start=1_605_507_430_438_338)
    packets = [(aedat4.EVENTS, aedat4.events(few[:5])), (aedat4.IMUS, aedat4.imus())]
    packets += [(aedat4.EVENTS, aedat4.events(few[5:])), (aedat4.TRIGGERS, aedat4.triggers())]
    made = {
        "open": aedat4.aedat4(packets),
        "table": aedat4.aedat4(packets, table=True),
        "lz4": aedat4.aedat4(packets, compression=aedat4.LZ4),
    }
    return [Sample(name, ".aedat4", content, sensor, few, None) for name, content in made.items()]


def _dat() -> list[Sample]:
    few = events(12, VGA)
    said = prophesee.dat(few, "Width 640", "Height 480")
    return [
        Sample("sized", ".dat", said, VGA, few),
        Sample("bare", "_td.dat", prophesee.dat(few, kind=0), VGA, few, says_sensor=False),
    ]


def _evt2() -> list[Sample]:
    few = events(10, VGA)
    body = prophesee.evt2_body(few)
    mixed = prophesee.evt2_word(1, 3, 5, 5) + body + prophesee.evt2_trigger(9)
    return [
        Sample("said", ".raw", prophesee.evt2(body, "geometry 640x480"), VGA, few),
        Sample("mixed", ".raw", prophesee.evt2(mixed, "format EVT2;height=480;width=640"), VGA, few, 2),
    ]


def _evt21() -> list[Sample]:
    few = neighbours(40, HD)
    words = [*prophesee.evt21_words(few), prophesee.evt21_trigger(3)]
    return [
        Sample("little", ".raw", prophesee.evt21(words), HD, few, 1),
        Sample("legacy", ".raw", prophesee.evt21(words, legacy=True), HD, few, 1),
    ]


def _evt3() -> list[Sample]:
    p = prophesee
    few = events(8, HD)
    words = p.evt3_words(few)
    vectors = [p.time_high(9), p.time_low(800), p.addr_y(7), p.vect_base_x(100, 1), p.vect_12(0x801), p.vect_12(0)]
    vectors += [p.vect_8(0x81), p.trigger(1, 2), p.time_low(799), p.addr_x(5, 0)]
    start = 9 << 12
    fired = [*[(start + 800, x, 7, 1) for x in (100, 111, 124, 131)], (start + 799, 5, 7, 0)]
    return [
        Sample("said", ".raw", p.evt3(words), HD, few),
        Sample("vectors", ".raw", p.evt3([*words, *vectors]), HD, few + fired, 1),
    ]


def _ecf() -> list[Sample]:
    few = neighbours(30, HD, start=11_718_656)
    return [
        Sample(
            mode, ".hdf5", ecf.metavision(few, chunk_size=16, encode=functools.partial(ecf.chunk, mode=mode)), HD, few
        )
        for mode in ecf.MODES
    ]


SPIKES = [[(0.0, 0), (0.015625, 699), (0.25, 3)], [(0.5, 5), (0.5, 6)], [(0.125, 350)]]  # exact in half precision


def spike_events(spikes: list[plain.Spike]) -> list[Event]:
    return [(round(t * 1e6), unit, 0, 0) for t, unit in spikes]


def _shd() -> list[Sample]:
    content = plain.shd(SPIKES)
    return [Sample("digits", ".h5", content, Sensor(700), spike_events(SPIKES[0]), index=0)]


def _ntidigits() -> list[Sample]:
    spikes = [(0.000001, 0), (0.25, 63), (1.5, 3)]
    content = plain.ntidigits({"train": {"a-ac-1": spikes}, "test": {"b-bd-z": [(0.5, 1)]}})
    return [Sample("digits", ".hdf5", content, Sensor(64), spike_events(spikes), index=0)]


def _stmnist() -> list[Sample]:
    moments = [(0.001, {0: 1}), (0.0025, {11: -1}), (0.003, {}), (2.0, {99: 1})]
    found = [(1000, 0, 0, 1), (2500, 1, 1, 0), (2_000_000, 9, 9, 1)]
    return [Sample("touch", ".mat", plain.stmnist(moments), Sensor(10, 10, 2), found)]


def _asldvs() -> list[Sample]:
    few = events(9, DAVIS)
    return [
        Sample("letter", ".mat", plain.asldvs(few), DAVIS, few),
        Sample("packed", ".mat", plain.asldvs(few, compressed=True), DAVIS, few),
    ]


def _npy() -> list[Sample]:
    few = events(9, DVS)
    return [Sample("word", ".npy", plain.npy(plain.structured(few)), DVS, few)]


def _npz() -> list[Sample]:
    sensor = Sensor(346, 260, 2)
    few = events(9, sensor)
    return [
        Sample("action", ".npz", plain.npz(plain.columns(few)), sensor, few, says_sensor=False),
        Sample("packed", ".npz", plain.npz(plain.columns(few), compressed=True), sensor, few, says_sensor=False),
    ]


def _text() -> list[Sample]:
    few = events(9, DAVIS, start=1_000_001)
    return [Sample("lines", ".txt", plain.text(few), DAVIS, few, says_sensor=False)]


def _spikenet() -> list[Sample]:
    few = events(9, DAVIS)
    stream = EventStream.from_numpy(*np.array(few).T, sensor=DAVIS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own"
        write(stream, path, format="spikenet")
        return [Sample("own", ".safetensors", path.read_bytes(), DAVIS, few)]


MAKERS: dict[str, Callable[[], list[Sample]]] = {
    "bin": _bin,
    "aedat2": _aedat2,
    "aedat3": _aedat3,
    "aedat4": _aedat4,
    "dat": _dat,
    "evt2": _evt2,
    "evt21": _evt21,
    "evt3": _evt3,
    "ecf": _ecf,
    "shd": _shd,
    "ntidigits": _ntidigits,
    "stmnist": _stmnist,
    "asldvs": _asldvs,
    "npy": _npy,
    "npz": _npz,
    "text": _text,
    "spikenet": _spikenet,
}


@functools.cache
def samples(format: str) -> list[Sample]:
    return MAKERS[format]()
