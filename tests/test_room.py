"""The hostile room of conftest.py must itself be able to catch what it is there for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import ROOT, poison_of

MAKERS = [
    lambda dtype: torch.empty(3, dtype=dtype),
    lambda dtype: torch.empty_like(torch.zeros(3, dtype=dtype)),
    lambda dtype: torch.empty_strided((3,), (1,), dtype=dtype),
    lambda dtype: torch.zeros(1, dtype=dtype).new_empty(3),
]


@pytest.mark.parametrize("make", MAKERS)
def test_unwritten_memory_is_poison(make):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64):
        assert torch.isnan(make(dtype)).all()
    for dtype in (torch.uint8, torch.int32, torch.int64, torch.bool):
        assert (make(dtype) == poison_of(dtype)).all()


def test_poison_leaves_shape_grad_and_layout_alone():
    assert torch.empty(2, 0, 3).shape == (2, 0, 3)
    assert torch.empty(2, requires_grad=True).requires_grad
    assert torch.empty(2, device="meta").device.type == "meta"
    assert torch.empty(2, 2, layout=torch.sparse_coo).layout is torch.sparse_coo


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_torch_itself_never_reads_what_it_did_not_write(optimiser):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3), nn.LSTM(3, 2))
    step = optimiser(net.parameters(), lr=0.1)
    net(torch.ones(5, 1, 4, 4))[0].sum().backward()
    step.step()
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_poison_reaches_a_compiled_function():
    compiled = torch.compile(lambda x: torch.empty_like(x) + x, backend="eager", fullgraph=True)
    assert torch.isnan(compiled(torch.ones(3))).all()


def test_network_is_shut_and_loopback_is_open():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client:
            assert client.getpeername() == server.getsockname()
    with socket.socket() as outward, pytest.raises(PermissionError, match="reached for the network"):
        outward.connect(("192.0.2.1", 80))
    with pytest.raises(PermissionError, match="reached for the network"):
        socket.create_connection(("example.org", 80))


DRAWS: list[tuple[float, float]] = []


@pytest.mark.parametrize("turn", [0, 1])
def test_every_test_starts_from_the_same_seeds(turn):
    DRAWS.append((torch.rand(()).item(), np.random.rand()))  # noqa: NPY002 - the global state is what is tested
    assert len(set(DRAWS)) == 1


def test_cache_is_the_repository_s_own():
    assert Path(os.environ["SPIKENET_CACHE"]).is_relative_to(ROOT)


SKIPPED_TEST = """
import pytest

@pytest.mark.peers
def test_peer():
    pytest.importorskip("a_library_that_is_not_there")
"""
SKIPPED_FILE = """
import pytest

pytest.importorskip("a_library_that_is_not_there")
"""


@pytest.mark.parametrize(("ci", "outcome"), [("true", ["1 failed", "1 error"]), ("", ["2 skipped"])])
def test_skipped_peer_fails_in_ci_only(tmp_path, ci, outcome):
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "test_file.py").write_text(SKIPPED_FILE)
    (tmp_path / "test_peer.py").write_text(SKIPPED_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    command += [f"--rootdir={ROOT}", "--continue-on-collection-errors", str(tmp_path)]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert all(words in done.stdout for words in outcome), done.stdout + done.stderr
