"""Time several ways of doing the same work: results compared first, runs alternated, medians and spread printed."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

BLOCK = 0.2  # seconds, as torch.utils.benchmark takes at least


@dataclass
class Contender:
    """One library's way. `run()` does the work once; `name` says whose it is."""

    name: str
    run: Callable[[], Any]


def machine() -> str:
    """The processor, the number of threads used and torch's version, for the head of a table."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def alternate(contenders: Sequence[Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of every contender in every round; the order turns round by round.

    Work that is done in less than `BLOCK` is repeated for about that long, so that short calls too are timed warm.
    """
    calls = {c.name: max(1, int(BLOCK / min(_timed(c, 1) for _ in range(2)))) for c in contenders}
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    for r in range(rounds):
        turn = r % len(contenders)
        for contender in [*contenders[turn:], *contenders[:turn]]:
            time.sleep(0.02)  # OpenMP threads of the run before spin on for a while; everyone starts on idle cores
            seconds[contender.name].append(_timed(contender, calls[contender.name]))
    return seconds


def _timed(contender: Contender, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        contender.run()
    return (time.perf_counter() - start) / calls


def report(case: str, seconds: dict[str, list[float]], ours: str) -> dict[str, Any]:
    """Print one table and return its numbers. A ratio is theirs over ours within one round."""
    print(f"\n{case}")
    print(f"  {'':14} {'median ms':>10} {'min':>9} {'max':>9}   ratio to {ours}: median (worst .. best round)")
    result: dict[str, Any] = {"case": case}
    for name, times in seconds.items():
        ms = [1e3 * t for t in times]
        ratios = [t / o for t, o in zip(times, seconds[ours], strict=True)]
        line = f"  {name:14} {statistics.median(ms):10.2f} {min(ms):9.2f} {max(ms):9.2f}"
        result[name] = {
            "median_ms": round(statistics.median(ms), 3),
            "min_ms": round(min(ms), 3),
            "max_ms": round(max(ms), 3),
        }
        if name != ours:
            line += f"   {statistics.median(ratios):6.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
            result[name] |= {
                "ratio": round(statistics.median(ratios), 3),
                "worst": round(min(ratios), 3),
                "best": round(max(ratios), 3),
            }
        print(line)
    return result


def finish(results: Sequence[dict[str, Any]]) -> None:
    """The last line, for machines."""
    print("\nRESULT " + json.dumps({"machine": machine(), "cases": list(results)}))
