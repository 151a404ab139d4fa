"""Broken event files without end: ``python -m tests.events.files.fuzz FORMAT --minutes 10 --seed 0``.

Small files of the independent encoders are mutated and read, strictly and tolerantly, whole and in chunks. A reader
may refuse them with a FormatError or give a valid stream; whatever else it does is a finding: another exception,
results that do not go together, a crash, a hang, or more memory than the file's size allows. The bytes of a finding go
to a folder, with what happened. The program ends with 1 where there is a finding.

The reading is done by a child process with limits on memory and time; a new one goes on after one that died. Mutation
number n of a seed is always the same, so a finding comes back with ``--seed S --start n --count 1``.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from spikenet.events.files import FORMATS
from tests.events.files.samples import Sample, samples
from tests.events.files.trial import Case, Finding, bounded, trial

ADDRESS_ROOM = 1 << 30  # bytes of address space beyond what the libraries hold when the reading starts
KEPT = 5  # files a kind of finding
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1]
EXTREMES += [1 << 63, (1 << 64) - 1, (1 << 64) - 8]


# Mutations: each takes bytes that are not empty and a source of chance.


def flip_bits(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def set_bytes(data: bytearray, draw: random.Random) -> bytearray:
    """A run of bytes, of one value or of any."""
    at, length = draw.randrange(len(data)), draw.choice((1, 2, 4, 8, 32))
    value = draw.choice((0, 0xFF, None))
    run = draw.randbytes(length) if value is None else bytes([value]) * length
    data[at : at + length] = run[: len(data) - at]
    return data


def truncate(data: bytearray, draw: random.Random) -> bytearray:
    return data[: draw.randrange(len(data))]


def extend(data: bytearray, draw: random.Random) -> bytearray:
    return data + draw.randbytes(draw.choice((1, 3, 8, 100)))


def cut(data: bytearray, draw: random.Random) -> bytearray:
    at, length = draw.randrange(len(data)), draw.choice((1, 2, 4, 5, 8, 16, 100))
    return data[:at] + data[at + length :]


def insert(data: bytearray, draw: random.Random) -> bytearray:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.choice((1, 2, 4, 5, 8))) + data[at:]


def set_number(data: bytearray, draw: random.Random) -> bytearray:
    """An extreme value, or one near the size of the file, where a length may be."""
    width = draw.choice((1, 2, 4, 4, 8))
    at = draw.randrange(len(data))
    at -= draw.choice((0, at % width))
    value = draw.choice((*EXTREMES, len(data), len(data) - at, len(data) - at - width, draw.randrange(1 << 32)))
    order = draw.choice(("little", "little", "big"))
    data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, order)[: len(data) - at]
    return data


def change_digit(data: bytearray, draw: random.Random) -> bytearray:
    """A digit of a header in words becomes another, or many."""
    places = [i for i, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if not places:
        return flip_bits(data, draw)
    at = draw.choice(places)
    new = draw.choice((b"%d" % draw.randrange(10), b"-1", b"99999999999", b"", b".5", b"nan", b"1e9"))
    return data[:at] + new + data[at + 1 :]


def duplicate(data: bytearray, draw: random.Random) -> bytearray:
    """A block again, once or often, here or elsewhere."""
    at, length = draw.randrange(len(data)), draw.choice((2, 4, 5, 8, 16, 64, 300))
    to = draw.choice((at, draw.randrange(len(data))))
    return data[:to] + data[at : at + length] * draw.choice((1, 1, 2, 50)) + data[to:]


MUTATIONS = [
    flip_bits,
    flip_bits,
    set_bytes,
    truncate,
    extend,
    cut,
    insert,
    set_number,
    set_number,
    change_digit,
    duplicate,
]


def splice(data: bytearray, other: bytes, draw: random.Random) -> bytearray:
    """The beginning of one file and the end of another."""
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def mutated(corpus: list[Sample], draw: random.Random) -> tuple[Sample, bytes]:
    sample = draw.choice(corpus)
    data = bytearray(sample.content)
    if draw.random() < 0.1:
        data = splice(data, draw.choice(corpus).content, draw)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        if data:
            data = draw.choice(MUTATIONS)(data, draw)
    return sample, bytes(data)


# The child: reads until its time is over, dies of what it finds, or has found an error.


def confine(limit: float) -> None:
    """Bound the address space; a read that takes ``limit`` seconds ends the process, with its stack on stderr."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + ADDRESS_ROOM
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, chain=True)
    faulthandler.enable()


def read_on(options: argparse.Namespace) -> None:
    corpus = samples(options.format)
    for sample in corpus:  # compile and load before the limits count
        case = _case(options, sample, sample.content)
        for size in (1, 64):
            trial(case, size)
    confine(options.limit)
    counts: Counter[str] = Counter()
    number, end = options.start, time.monotonic() + options.seconds
    progress = Path(options.room) / "progress"
    while time.monotonic() < end and (options.count is None or number < options.start + options.count):
        progress.write_text(json.dumps({"number": number, "counts": counts}))
        draw = random.Random(f"{options.seed} {number}")
        sample, content = mutated(corpus, draw)
        case = _case(options, sample, content)
        signal.setitimer(signal.ITIMER_REAL, options.limit)
        counts[one(case, content, draw.choice((1, 5, 16, 100, 4096)), options, number)] += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        number += 1
    progress.write_text(json.dumps({"number": number, "counts": counts, "done": True}))


def _case(options: argparse.Namespace, sample: Sample, content: bytes) -> Case:
    path = Path(options.room) / f"file{sample.suffix}"
    path.write_bytes(content)
    (Path(options.room) / "current").write_text(path.name)
    return Case(path, options.format, sample.sensor, sample.index)


def one(case: Case, content: bytes, size: int, options: argparse.Namespace, number: int) -> str:
    """accepted, refused or finding."""
    try:
        with bounded(len(content)):
            return "refused" if trial(case, size).columns is None else "accepted"
    except Finding as finding:
        keep(options, finding.kind, number, content, f"{finding}\nchunks of {size} bytes\n")
    except Exception as error:  # noqa: BLE001 - any exception but a refusal is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}-{frames[-1].lineno}"
        keep(options, f"{type(error).__name__}-{place}", number, content, traceback.format_exc())
    return "finding"


def keep(options: argparse.Namespace, kind: str, number: int, content: bytes, words: str) -> None:
    """Save the bytes and the words, the first few of a kind."""
    folder = Path(options.findings)
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob(f"{options.format}_{kind}_*.bytes"))) < KEPT:
        name = f"{options.format}_{kind}_{options.seed}_{number}"
        (folder / f"{name}.bytes").write_bytes(content)
        (folder / f"{name}.txt").write_text(words)


# The parent.

DEATHS = {signal.SIGALRM: "hang", signal.SIGKILL: "killed"}


def run_child(options: argparse.Namespace, start: int, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.events.files.fuzz", options.format, "--child", "--room", options.room]
    command += ["--seed", str(options.seed), "--start", str(start), "--seconds", str(seconds)]
    command += ["--limit", str(options.limit), "--findings", str(options.findings)]
    command += ["--count", str(options.start + options.count - start)] if options.count is not None else []
    command += ["--plugin", options.plugin] if options.plugin else []
    return subprocess.run(command, capture_output=True, text=True, check=False)


def hunt(options: argparse.Namespace) -> Counter[str]:
    """Children one after the other until the time is over or the count is reached."""
    total: Counter[str] = Counter()
    start, end = options.start, time.monotonic() + options.minutes * 60
    while time.monotonic() < end and (options.count is None or start < options.start + options.count):
        progress = Path(options.room) / "progress"
        progress.unlink(missing_ok=True)
        done = run_child(options, start, end - time.monotonic())
        if not progress.exists():  # died before the first mutation: the plain samples already fail
            words = f"the reader of {options.format} fails on the files as the encoders made them"
            raise SystemExit(f"{done.stderr[-3000:]}\n{words}")
        state = json.loads(progress.read_text())
        total.update(state["counts"])
        start = state["number"]
        if not state.get("done"):
            total["finding"] += 1
            kind = DEATHS.get(-done.returncode, "crash" if done.returncode < 0 else "exit")
            content = (Path(options.room) / (Path(options.room) / "current").read_text()).read_bytes()
            keep(options, kind, start, content, f"the child ended with {done.returncode}\n{done.stderr[-5000:]}")
            start += 1
    return total


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.events.files.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("format")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the number of the first mutation")
    parser.add_argument("--count", type=int, help="how many mutations, if not for all of the time")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds that four reads of one file may take")
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"), help="the folder for findings")
    parser.add_argument("--plugin", help="a module whose register() adds formats and their samples")
    for hidden in ("--room", "--seconds"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = float(options.seconds or 0)
    return options


def main() -> int:
    options = parsed()
    if options.plugin:
        importlib.import_module(options.plugin).register()
    if options.format not in FORMATS:
        raise SystemExit(f"no format {options.format!r}; there are: {', '.join(sorted(FORMATS))}")
    if options.child:
        read_on(options)
        return 0
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as options.room:
        begun = time.monotonic()
        total = hunt(options)
    executions = sum(total.values())
    rate = executions / max(time.monotonic() - begun, 1e-9)
    words = ", ".join(f"{total[name]} {name}" for name in ("accepted", "refused", "finding"))
    found = f"; findings are in {options.findings}" if total["finding"] else ""
    sys.stdout.write(
        f"{options.format} seed {options.seed}: {executions} files ({rate:.0f} a second): {words}{found}\n"
    )
    return int(total["finding"] > 0)


if __name__ == "__main__":
    sys.exit(main())
