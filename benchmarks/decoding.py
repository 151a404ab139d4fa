"""Event files, from a path to four complete arrays t, x, y, p: spikenet beside expelliarmus, evlib and tonic.

    python benchmarks/decoding.py [--quick] [--rounds N] [--threads N] [--only FORMAT ...]

Every format that spikenet reads and a peer reads, too: made files, small and large, and the real files that lie beside
the repository where there are any. All events are compared before anything is timed. What a peer returns is brought to
four arrays without gaps in whatever types it keeps; expelliarmus' own form, an array of records, is timed beside that.
Text, which no library of the field reads, is beside numpy.loadtxt. shd files hold one recording and are opened anew.
expelliarmus' times of EVT3 are wrong wherever TIME_LOW steps back, and are left out of the comparison.
All files are in the page cache. spikenet's large columns come from its pool of buffers, which a loop that drops one
recording before it reads the next fills by itself. The first read, which loads or compiles kernels, is timed apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _compare import Contender, alternate, finish, machine, report

from spikenet.events import FORMATS, EventStream, Sensor, read, write

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, x, y, p


def expelliarmus(encoding: str) -> Callable[[Path], Arrays]:
    records = expelliarmus_records(encoding)

    def run(path: Path) -> Arrays:
        found = records(path)
        return tuple(np.ascontiguousarray(found[name]) for name in "txyp")  # type: ignore[return-value]

    return run


def expelliarmus_records(encoding: str) -> Callable[[Path], np.ndarray]:
    from expelliarmus import Wizard

    return lambda path: Wizard(encoding=encoding).read(str(path))


def evlib(_: str) -> Callable[[Path], Arrays]:
    import evlib as library

    def run(path: Path) -> Arrays:
        found = library.load_events(str(path), sort=False).collect()
        return tuple(found[name].to_physical().to_numpy() for name in ("t", "x", "y", "polarity"))  # type: ignore[return-value]

    return run


def tonic_bin(_: str) -> Callable[[Path], Arrays]:
    from tonic.io import events_struct, read_mnist_file

    def run(path: Path) -> Arrays:
        found = read_mnist_file(str(path), events_struct)
        return tuple(np.ascontiguousarray(found[name]) for name in "txyp")  # type: ignore[return-value]

    return run


def tonic_dvs128(_: str) -> Callable[[Path], Arrays]:
    """By the functions that Tonic's `read_dvs_128` calls, for it does not get as far itself in Tonic 1.7."""
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    def run(path: Path) -> Arrays:
        version, start, *_ = read_aedat_header_from_file(str(path))
        found = get_aer_events_from_file(str(path), version, start)
        address = found["address"]
        return np.ascontiguousarray(found["timeStamp"]), address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1

    return run


def tonic_shd(_: str) -> Callable[[Path], Arrays]:
    """Tonic cuts times off where spikenet rounds, and makes a polarity of 1."""
    from tonic.datasets.hsd import HSD

    class Spikes(HSD):
        def __init__(self, path: Path) -> None:
            self.location_on_system, self.data_filename = str(path.parent), path.name
            self.transform = self.target_transform = None

    def run(path: Path) -> Arrays:
        found, _ = Spikes(path)[0]
        return tuple(np.ascontiguousarray(found[name]) for name in "txpp")  # type: ignore[return-value]

    return run


def numpy_text(_: str) -> Callable[[Path], Arrays]:
    def run(path: Path) -> Arrays:
        t, *rest = np.loadtxt(path, ndmin=2).T
        return np.rint(t * 1e6).astype(np.int64), *(column.astype(np.int32) for column in rest)  # type: ignore[return-value]

    return run


class Peer(NamedTuple):
    """A library's reader of a format; ``columns`` are those that it gets right."""

    library: str
    make: Callable[[str], Callable[[Path], Any]]
    columns: str = "txyp"


class Case(NamedTuple):
    """A format: its peers, the sensor and the microseconds an event of made files, real files and their sensors."""

    format: str
    peers: tuple[Peer, ...]
    sensor: Sensor
    step: float
    real: tuple[tuple[str, Sensor | None], ...] = ()


WIZARD = (Peer("expelliarmus", expelliarmus), Peer("expelliarmus records", expelliarmus_records))
WIZARD_XYP = tuple(peer._replace(columns="xyp") for peer in WIZARD)
EVLIB = Peer("evlib", evlib)
VGA, HD, NMNIST = Sensor(640, 480, 2), Sensor(1280, 720, 2), Sensor(34, 34, 2)

CASES = (
    Case("dat", WIZARD, VGA, 0.2, (("prophesee_dat/tonic_sample_ncars.dat", Sensor(120, 100, 2)),)),
    Case("evt2", (*WIZARD, EVLIB), VGA, 0.2, (("prophesee_evt2/expelliarmus_evt2_sample.raw", VGA),)),
    Case("evt21", (EVLIB,), HD, 0.2),
    Case("evt3", (*WIZARD_XYP, EVLIB), HD, 0.2, (("prophesee_evt3/expelliarmus_evt3_sample.raw", HD),)),
    Case("ecf", (EVLIB,), VGA, 0.2, tuple((f"prophesee_hdf5_ecf/evt{v}_slice_60000.hdf5", None) for v in (2, 3))),
    Case("bin", (Peer("tonic", tonic_bin),), NMNIST, 0.2, (("nmnist_bin/tonic_sample_nmnist.bin", NMNIST),)),
    Case("aedat2", (Peer("tonic", tonic_dvs128),), Sensor(128, 128, 2), 0.2),
    Case("aedat4", (EVLIB,), VGA, 0.2, (("aedat4/tonic_sample.aedat4", None),)),
    Case("text", (Peer("numpy loadtxt", numpy_text),), VGA, 0.2),
    Case("shd", (Peer("tonic", tonic_shd, "x"),), Sensor(700), 200.0),
)


def made(count: int, sensor: Sensor, step: float) -> EventStream:
    """Events in ascending time: single ones, and rows of neighbours as vectors hold them, half and half."""
    draw = np.random.default_rng(0)
    t = 1_000_000 + np.sort(draw.integers(0, max(int(count * step), 1), count))
    x, y, p = (draw.integers(0, limit, count) for limit in sensor)
    burst = np.arange(count) // 16
    in_row = (burst % 2 == 1) & (burst < count // 16)
    first = 16 * burst[in_row]
    t[in_row], y[in_row], p[in_row] = t[first], y[first], p[first]
    x[in_row] = x[first] % max(sensor.width - 32, 1) + 2 * (np.arange(count)[in_row] - first)
    return EventStream.from_numpy(t, np.minimum(x, sensor.width - 1), y, p, sensor=sensor)


def same(name: str, peer: Peer, theirs: Any, ours: EventStream) -> None:
    """Stop unless a peer has the same events."""
    for column, here in zip("txyp", (ours.t, ours.x, ours.y, ours.p), strict=True):
        if column not in peer.columns:
            continue
        there = theirs[column] if isinstance(theirs, np.ndarray) else theirs["txyp".index(column)]
        there = there > 0 if column == "p" else there  # OFF is 0 or -1
        assert np.array_equal(here.numpy(), there), f"{peer.library} has another {column} in {name}"


def compare(case: Case, name: str, path: Path, sensor: Sensor | None, rounds: int) -> dict[str, Any]:
    begin = time.perf_counter()
    ours = read(path, sensor=sensor)
    first = time.perf_counter() - begin
    contenders = [Contender("spikenet", lambda: read(path, sensor=sensor))]
    for peer in case.peers:
        if importlib.util.find_spec(peer.library.split()[0]) is None:
            continue
        run = peer.make(case.format)
        same(name, peer, run(path), ours)
        contenders.append(Contender(peer.library, lambda run=run: run(path)))
    seconds = alternate(contenders, rounds)
    rate = len(ours) / np.median(seconds["spikenet"]) / 1e6
    size = f"{len(ours)} events, {path.stat().st_size} bytes"
    result = report(f"{case.format}, {name}: {size}; spikenet {rate:.0f} million events/s", seconds, "spikenet")
    print(f"  first read in this process: {first:.2f} s")
    return result | {"events": len(ours), "million_events_per_s": round(rate, 1), "first_s": round(first, 3)}


def results(case: Case, sizes: tuple[int, ...], rounds: int, folder: Path) -> list[dict[str, Any]]:
    found = []
    for name, sensor in case.real:
        if (SAMPLES / name).exists():
            found.append(compare(case, f"real file {Path(name).name}", SAMPLES / name, sensor, rounds))
    for count in sizes if FORMATS[case.format].write else ():
        path = folder / f"made{FORMATS[case.format].extensions[0]}"
        write(made(count, case.sensor, case.step), path, format=case.format)
        found.append(compare(case, "made file", path, case.sensor, rounds))
        path.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="made files of a few events, few rounds")
    parser.add_argument("--rounds", type=int, default=9, help="alternations (default 9)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads")
    parser.add_argument("--only", nargs="*", default=[], help="formats (default all)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    sizes, rounds = ((2_000, 100_000), 3) if options.quick else ((2_000, 200_000, 10_000_000), options.rounds)
    chosen = [c for c in CASES if c.format in FORMATS and (not options.only or c.format in options.only)]
    with tempfile.TemporaryDirectory() as folder:
        finish([result for case in chosen for result in results(case, sizes, rounds, Path(folder))])


if __name__ == "__main__":
    main()
