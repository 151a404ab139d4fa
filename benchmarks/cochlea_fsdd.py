"""Spoken digits through the cochlea: how fast it is, and whether a network learns from its spikes.

    python benchmarks/cochlea_fsdd.py --wav FOLDER [--seeds 0 1 2] [options of spikenet train]

FOLDER holds recordings of the Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset,
CC BY-SA 4.0), named ``digit_speaker_number.wav``. Recordings 5 to 14 are trained on and 45 and 46 tested on; the
weights are those of the last epoch. Without FOLDER only the speed is measured, on a made sound.

With the preset as it stands the network gets 68.1 % (66.7, 68.3, 69.2; seeds 0 to 2, 540 recordings for training and 60
held out), and 71.1 % (70.0, 71.7, 71.7) with the best options found on the held-out part: --trainer.epochs 70
--data.dt_us 20000 --data.steps 50 --model.tau 5 --model.tau_out 10 --model.dropout 0.5 --data.shift 4
--data.batch_size 32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from scipy.io import wavfile

from spikenet.events import Cochlea, EventStream

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PARTS = {"train": range(5, 15), "test": range(45, 47)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wav", type=Path, help="folder of recordings")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], help="seeds of the training runs")
    parser.add_argument("--quick", action="store_true", help="two seconds of sound, no training")
    options, more = parser.parse_known_args()
    speed(Cochlea(), 2 if options.quick else 20)
    if options.wav and not options.quick:
        with tempfile.TemporaryDirectory() as folder:
            files = [record(options.wav, part, Path(folder)) for part in PARTS]
            words = ["train", "--preset", "shd", "--data.train", files[0], "--data.test", files[1]]
            subprocess.run([sys.executable, "-m", "spikenet", *words, "--seeds", *options.seeds, *more], check=True)


def speed(cochlea: Cochlea, seconds: int, rate: int = 8000) -> None:
    """Time one second of a gliding tone after another."""
    glide = torch.sin(2 * torch.pi * 1500 * torch.linspace(0, 1, rate) ** 2)
    cochlea(glide, rate)  # compiles
    times = []
    for seed in range(seconds):
        start = time.perf_counter()
        cochlea(glide, rate, seed=seed)
        times.append(time.perf_counter() - start)
    print(
        f"1 s of sound at {rate} Hz, {cochlea.channels} channels: {min(times):.2f} s, median {np.median(times):.2f} s"
    )


def record(wav: Path, part: str, folder: Path) -> Path:
    """Let the cochlea hear one part and write the spikes in the layout of SHD."""
    paths = [path for path in sorted(wav.glob("*.wav")) if int(path.stem.split("_")[2]) in PARTS[part]]
    if not paths:
        raise SystemExit(f"{wav} holds no recordings {PARTS[part]} named digit_speaker_number.wav")
    start = time.perf_counter()
    streams = [hear(path, seed) for seed, path in enumerate(paths)]
    events = sum(map(len, streams))
    print(f"{part}: {len(paths)} recordings, {events} spikes, {time.perf_counter() - start:.0f} s")
    return write(folder / f"fsdd_{part}.h5", streams, [int(path.stem.split("_")[0]) for path in paths])


def hear(path: Path, seed: int) -> EventStream:
    rate, sound = wavfile.read(path)
    return Cochlea()(torch.from_numpy(sound), rate, seed)


def write(path: Path, streams: list[EventStream], labels: list[int]) -> Path:
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", len(streams), h5py.vlen_dtype(np.float32))
        units = file.create_dataset("spikes/units", len(streams), h5py.vlen_dtype(np.uint16))
        for number, stream in enumerate(streams):
            times[number], units[number] = stream.t.numpy() * 1e-6, stream.x.numpy()
        file["labels"] = np.array(labels, np.uint16)
        file["extra/keys"] = np.array(DIGITS, "S")
    return path


if __name__ == "__main__":
    main()
