"""The examples in their quick form, run for the gallery: what each prints and draws goes to build/gallery/NAME.

    python docs/run_examples.py      runs those that changed since, or all after a change in spikenet

The tests run all of them, by the same function, so that after `make test` nothing is left to do here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
KEPT = ROOT / "build" / "gallery"


def run(folder: Path, *words: str) -> str:
    """Start a Python program in a folder, as a user would; what it writes stays there. Returns what it prints."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(example: Path) -> str:
    """Run an example in an empty folder of its own, and keep what it prints beside what it draws."""
    folder = KEPT / example.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    printed = run(folder, str(example), "--quick")
    (folder / "printed.txt").write_text(printed, encoding="utf-8")
    return printed


def is_fresh(example: Path) -> bool:
    """Whether what is kept is newer than the example and all of spikenet."""
    kept = KEPT / example.stem / "printed.txt"
    sources = [example, *(ROOT / "spikenet").rglob("*.py")]
    return kept.exists() and kept.stat().st_mtime > max(source.stat().st_mtime for source in sources)


if __name__ == "__main__":
    for example in EXAMPLES:
        if not is_fresh(example):
            print(f"gallery: examples/{example.name} --quick", flush=True)
            record(example)
