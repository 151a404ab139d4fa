"""The room the tests run in, made hostile on purpose.

- Memory that nobody wrote is poison: ``torch.empty`` and its kin return NaN (integers: the largest value).
- The network is shut; only this machine's own addresses answer.
- Every test starts from the same seeds.
- Compiled kernels and made data go to a cache of the repository's own, never to the user's.
- In CI a comparison with another library that does not run is a failure, not a skip.
"""

from __future__ import annotations

import functools
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Set at import: kernels and data may ask for the cache while the tests are being collected; child processes inherit it.
os.environ["SPIKENET_CACHE"] = str(ROOT / ".pytest_cache" / "spikenet")
os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():  # read when triton is imported; the interpreter still runs only where it is forced
    os.environ["TRITON_INTERPRET"] = "1"

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each
    torch.set_num_threads(1)

# Hypothesis, too, draws the same examples each time, keeps no files and watches no clock.
hypothesis.settings.register_profile("spikenet", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("spikenet")


# Poison. numpy.empty stays as it is: Numba looks it up by identity when it compiles.


def _poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(make)
    def filled(*args: Any, **kwargs: Any) -> torch.Tensor:
        fresh = make(*args, **kwargs)
        if fresh.layout is torch.strided:
            with torch.no_grad():
                fresh.fill_(poison_of(fresh.dtype))
        return fresh

    return filled


def poison_of(dtype: torch.dtype) -> float | int | bool:
    """The value that unwritten memory of this dtype holds during the tests."""
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return True if dtype is torch.bool else torch.iinfo(dtype).max


@pytest.fixture(autouse=True, scope="session")
def poisoned_memory() -> Iterator[None]:
    names = [(torch, "empty"), (torch, "empty_like"), (torch, "empty_strided"), (torch, "empty_permuted")]
    names += [(torch.Tensor, "new_empty"), (torch.Tensor, "new_empty_strided")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in names:
            patch.setattr(owner, name, _poisoned(getattr(owner, name)))
        yield


# No network.


def _is_here(host: object) -> bool:
    return host in {"", "localhost", "::1", None} or (isinstance(host, str) and host.startswith("127."))


@pytest.fixture(autouse=True, scope="session")
def shut_network() -> Iterator[None]:
    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any, *rest: Any) -> Any:
            if self.family != socket.AF_UNIX and not _is_here(address[0]):
                raise PermissionError(f"a test reached for the network: {address}")
            return call(self, address, *rest)

        return connect

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if not _is_here(host):
            raise PermissionError(f"a test reached for the network: {host}")
        return look_up(host, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


# The same start for every test.


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test still draw from the global state
    torch.manual_seed(0)


# Markers and skips.


def _compares_with_peers(path: Path) -> bool:
    return path.parent.name == "peers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _compares_with_peers(item.path):
            item.add_marker(pytest.mark.peers)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _fail_instead(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"CI compares with every peer, but this was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if IN_CI and report.skipped and item.get_closest_marker("peers"):
        _fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    report = yield
    if IN_CI and report.skipped and _compares_with_peers(collector.path):
        _fail_instead(report)
    return report
