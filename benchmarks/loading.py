"""One epoch from files on disk to batches: events on a time grid here, frames with Tonic's `ToFrame` and a DataLoader.

    python benchmarks/loading.py                              # look-alike files, made in a temporary folder
    python benchmarks/loading.py --nmnist Train.zip --fsdd spikes_train.h5.gz
    python benchmarks/loading.py --quick

Both read the same files (archives are unpacked first), decode them anew in every epoch and keep nothing in memory
between epochs, use the same time grid and the same batch size, and each may use 0, 1 or 2 workers, which stay alive.
The counts are compared before anything is timed. Peak memory is that of processes of their own, one a way, which run
one epoch; with workers the largest worker is added.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from _compare import Contender, alternate, finish, report
from torch import Tensor
from torch.utils.data import DataLoader

from spikenet.data import NMNIST, EpochSampler, EventDataset, read_spikes
from spikenet.data.base import CountedDataset
from spikenet.data.spoken import JoinedSpikes
from spikenet.events.binning import TimeGrid

BATCH = 64
GRIDS = {"N-MNIST": (20_000, 16), "FSDD": (10_000, 100)}  # microseconds, steps
WORKERS = (0, 1, 2)
Epoch = Callable[[], Iterator[tuple[Any, Tensor]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few recordings, few rounds")
    parser.add_argument("--nmnist", type=Path, help="an archive in the layout of N-MNIST's Train.zip")
    parser.add_argument("--fsdd", type=Path, help="spikes in the layout of SHD, .h5 or .h5.gz")
    parser.add_argument("--one", nargs=4, metavar=("SET", "LIBRARY", "WORKERS", "FILES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    if options.one:
        name, library, workers, files = options.one
        _one(WAYS[name, library](Path(files), int(workers), True))
        return
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "N-MNIST": _recordings(Path(folder), options.nmnist, 200 if options.quick else 1000),
            "FSDD": _spikes(Path(folder), options.fsdd, 200 if options.quick else 2400),
        }
        finish([_case(name, place, 2 if options.quick else 5) for name, place in files.items()])


def _case(name: str, files: Path, rounds: int) -> dict[str, Any]:
    count = _compare(name, files)
    ways = {f"{library} {w}": WAYS[name, library](files, w, True) for library in ("spikenet", "tonic") for w in WORKERS}
    seconds = alternate([Contender(way, lambda epoch=epoch: _through(epoch)) for way, epoch in ways.items()], rounds)
    best = {
        library: min((f"{library} {w}" for w in WORKERS), key=lambda way: sorted(seconds[way])[rounds // 2])
        for library in ("spikenet", "tonic")
    }
    result = report(
        f"{name}: one epoch of {count} recordings, number of workers behind the name", seconds, best["spikenet"]
    )
    print(f"  fastest: {best['tonic']} / {best['spikenet']} = {result[best['tonic']]['ratio']:.1f}")
    result["peak MiB"] = {way: _peak(name, way, files) for way in best.values()}
    print("  peak memory, MiB: " + ", ".join(f"{way} {mib:.0f}" for way, mib in result["peak MiB"].items()))
    return result


def _through(epoch: Epoch) -> None:
    for _ in epoch():
        pass


def _compare(name: str, files: Path) -> int:
    """Count for count, in file order. Returns the number of recordings."""
    total = 0
    ours, theirs = (WAYS[name, library](files, 0, False)() for library in ("spikenet", "tonic"))
    for (events, labels), (frames, targets) in zip(ours, theirs, strict=True):
        assert torch.equal(events.to_dense(), frames.reshape(events.shape)), f"{name}: counts differ"
        assert torch.equal(labels, torch.as_tensor(targets)), f"{name}: labels differ"
        total += len(labels)
    return total


# Ours.


def _ours(dataset: EventDataset, name: str, workers: int, shuffle: bool) -> DataLoader:
    sampler = EpochSampler(len(dataset), 0) if shuffle else None
    counted = CountedDataset(dataset, TimeGrid(*GRIDS[name]))
    return _loader(counted, workers, sampler=sampler, collate_fn=counted.batch)


def _ours_nmnist(files: Path, workers: int, shuffle: bool) -> Epoch:
    loader = _ours(EventDataset(NMNIST(files).find(files)["train"]), "N-MNIST", workers, shuffle)
    return lambda: iter(loader)


def _ours_fsdd(files: Path, workers: int, shuffle: bool) -> Epoch:
    """The file is read in the main process, anew for every epoch, so workers are started anew too."""
    return lambda: iter(_ours(EventDataset(JoinedSpikes(read_spikes(files), 700, 1)), "FSDD", workers, shuffle))


# Tonic's.


def _tonic(dataset: Any, workers: int, shuffle: bool) -> Epoch:
    import tonic

    loader = _loader(dataset, workers, shuffle=shuffle, collate_fn=tonic.collation.PadTensors(batch_first=False))
    return lambda: iter(loader)


def _frames(name: str, sensor: tuple[int, int, int]) -> Any:
    import tonic

    dt, steps = GRIDS[name]
    return tonic.transforms.ToFrame(sensor_size=sensor, time_window=dt, start_time=0, end_time=dt * steps)


def _tonic_nmnist(files: Path, workers: int, shuffle: bool) -> Epoch:
    from tonic import datasets

    class Recordings(datasets.NMNIST):
        """Tonic's data set, which here need not hold 60 000 files."""

        def __init__(self) -> None:
            self.first_saccade_only = self.stabilize = False
            self.transform, self.target_transform, self.transforms = _frames("N-MNIST", (34, 34, 2)), None, None
            paths = sorted((files / "Train").glob("*/*.bin"), key=lambda path: path.name)
            self.data = [str(path) for path in paths]
            self.targets = [int(path.parent.name) for path in paths]

    return _tonic(Recordings(), workers, shuffle)


def _tonic_fsdd(files: Path, workers: int, shuffle: bool) -> Epoch:
    from tonic.datasets.hsd import HSD

    class Spikes(HSD):
        """Tonic's reader of the layout, on a file of any name."""

        def __init__(self) -> None:
            self.location_on_system, self.data_filename = str(files.parent), files.name
            self.transform, self.target_transform = _frames("FSDD", (700, 1, 1)), None

    return _tonic(Spikes(), workers, shuffle)


WAYS: dict[tuple[str, str], Callable[[Path, int, bool], Epoch]] = {
    ("N-MNIST", "spikenet"): _ours_nmnist,
    ("N-MNIST", "tonic"): _tonic_nmnist,
    ("FSDD", "spikenet"): _ours_fsdd,
    ("FSDD", "tonic"): _tonic_fsdd,
}


def _loader(dataset: Any, workers: int, **options: Any) -> DataLoader:
    return DataLoader(dataset, BATCH, num_workers=workers, persistent_workers=workers > 0, **options)


# Memory.


def _peak(name: str, way: str, files: Path) -> float:
    library, workers = way.split()
    words = [sys.executable, __file__, "--one", name, library, workers, str(files)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def _one(epoch: Epoch) -> None:
    """Run one epoch and print this process's peak, with that of its largest worker."""
    _through(epoch)
    del epoch
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(sum(peaks) / 1024)


# Files.


def _recordings(folder: Path, archive: Path | None, count: int) -> Path:
    if archive is None:
        _invent_recordings(folder, count)
        return folder
    with zipfile.ZipFile(archive) as file:
        members = sorted(name for name in file.namelist() if name.endswith(".bin"))
        file.extractall(folder, sorted(members, key=lambda name: name.rpartition("/")[2])[:count])
    return folder


def _invent_recordings(folder: Path, count: int) -> None:
    """Files with as many events as N-MNIST's, a blob that wanders over the sensor."""
    draw = np.random.default_rng(0)
    for number in range(1, count + 1):
        t = np.sort(draw.integers(0, 310_000, int(draw.normal(4100, 800))))
        x, y = (np.clip(draw.normal(17, 6, len(t)), 0, 33).astype(int) for _ in "xy")
        flags = draw.integers(0, 2, len(t)) << 7 | t >> 16
        path = folder / "Train" / str(number % 10) / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(x.tolist(), y.tolist(), flags.tolist(), (t & 0xFFFF).tolist(), strict=True)
        path.write_bytes(b"".join(struct.pack(">BBBH", *row) for row in rows))


def _spikes(folder: Path, file: Path | None, count: int) -> Path:
    path = folder / "spikes_train.h5"
    if file is not None and file.suffix == ".gz":
        path.write_bytes(gzip.decompress(file.read_bytes()))
    return path if file is not None and file.suffix == ".gz" else file or _invent_spikes(path, count)


def _invent_spikes(path: Path, count: int) -> Path:
    """Spikes as many as those of spoken digits."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1500, 5300, count)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(np.uint16))
        for number, size in enumerate(sizes):
            times[number] = np.sort(draw.uniform(0, 0.6, size)).astype(np.float16)
            units[number] = draw.integers(0, 700, size).astype(np.uint16)
        file["labels"] = np.arange(count) % 10
    return path


if __name__ == "__main__":
    main()
