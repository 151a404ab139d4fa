"""Causal spiking attention: against its equations, in a stream, and with the sequence in parts on several processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from spikenet.errors import ArgumentError, RunError, StateError, UnknownNameError
from spikenet.kernels.attention import parallel_attention
from spikenet.layers import CausalSpikingAttention, Stream, TokenShift, sequence_parallel
from spikenet.neurons import LIF

ROOT = Path(__file__).resolve().parents[2]


def by_scores(layer: CausalSpikingAttention, x: torch.Tensor) -> torch.Tensor:
    """The layer as a masked matrix of scores, quadratic in T."""
    q, k, v = ((part.unflatten(-1, (layer.heads, -1)) >= 0).to(x) for part in layer.project(x).chunk(3, -1))
    steps, heads = len(x), layer.heads
    a = torch.ones(steps, x.shape[1], heads).to(x)
    if layer.decay == "fixed":
        closed = (1 - 2.0 ** (-5 - torch.arange(heads))).log().to(x)
        torch.testing.assert_close(layer.log_decay, closed, rtol=1e-5, atol=0)
        a = a * layer.log_decay.exp()
    if layer.decay == "gated":
        a = layer.gate(x).sigmoid() ** (1 / 16)
    out = torch.zeros_like(v)
    for t in range(steps):
        for s in range(t + 1):
            kept = a[s + 1 : t + 1].prod(0)
            score = (q[t] * k[s]).sum(-1) * kept * q.shape[-1] ** -0.5
            out[t] += score.unsqueeze(-1) * v[s]
    return layer.out(out.flatten(2))


@pytest.mark.parametrize("decay", ["none", "fixed", "gated"])
def test_it_is_the_masked_product_of_binary_queries_keys_and_values(decay: str) -> None:
    layer = CausalSpikingAttention(12, 3, decay).double()
    x = torch.randn(9, 2, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_scores(layer, x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("decay", ["none", "fixed", "gated"])
def test_a_stream_gives_what_the_whole_gives(decay: str) -> None:
    layer = CausalSpikingAttention(8, 2, decay).double()
    x, stream = torch.randn(20, 2, 8, dtype=torch.float64), Stream(layer)
    parts = torch.cat([stream(part) for part in x.split(7)])
    torch.testing.assert_close(parts, layer(x), rtol=0, atol=1e-13)


def test_parts_on_two_and_three_processes_give_the_whole_and_its_gradients(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.layers.sequence_parts", str(tmp_path / "meeting")]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_parallel_is_refused() -> None:
    with pytest.raises(ArgumentError, match="finds no CausalSpikingAttention in Linear"):
        sequence_parallel(nn.Linear(2, 2))
    for other in (LIF(), nn.BatchNorm1d(8), TokenShift(), nn.GRU(8, 8)):
        with pytest.raises(ArgumentError, match=rf"1 \({type(other).__name__}\) carries a state"):
            sequence_parallel(nn.Sequential(CausalSpikingAttention(8), other))
    net = sequence_parallel(CausalSpikingAttention(8))
    with pytest.raises(StateError, match="cannot be streamed"):
        Stream(net)(torch.zeros(2, 1, 8))
    with pytest.raises(RunError, match="init_process_group"):
        net(torch.zeros(2, 1, 8))
    with pytest.raises(RunError, match="init_process_group"):
        parallel_attention(*[torch.zeros(2, 1, 1, 4)] * 3)


def test_widths_and_decays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="5 heads do not divide a width of 8"):
        CausalSpikingAttention(8, 5)
    with pytest.raises(UnknownNameError, match="decay"):
        CausalSpikingAttention(8, 2, "fast")
