"""Checkpointed time: the gradients of plain backpropagation through time, whatever the stack, and less kept for it."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from spikenet import use_backend
from spikenet.errors import ArgumentError, StateError
from spikenet.events import EventTensor
from spikenet.layers import (
    WKV,
    CausalSpikingAttention,
    CheckpointedTime,
    Conv2d,
    DelayLinear,
    MeanReadout,
    Recurrent,
    ToDense,
    TokenShift,
)
from spikenet.neurons import LIF, PSN

STEPS = 29


class KeysAndValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wkv = WKV(nn.Parameter(torch.zeros(6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wkv(x, x)


STACKS = {
    "layers": lambda: nn.Sequential(nn.Linear(6, 6), LIF(nn.Parameter(torch.tensor(3.0))), nn.Linear(6, 2)),
    "readout": lambda: nn.Sequential(nn.Linear(6, 6), LIF(5.0, v_reset=None), nn.Linear(6, 2), MeanReadout()),
    "recurrent and delayed": lambda: nn.Sequential(DelayLinear(6, 6, taps=5), Recurrent(LIF(5.0), 6)),
    "attention": lambda: nn.Sequential(CausalSpikingAttention(6, 2, "gated"), TokenShift(), KeysAndValues()),
}


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    """Nothing here depends on kernels, which take longer to compile than all of it to run."""
    with use_backend("reference"):
        yield


def gradients(net: nn.Module, module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    net.zero_grad()
    x = x.clone().requires_grad_()
    out = module(x)
    (out * torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view(out.shape)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


@pytest.mark.parametrize("steps", [1, 7, 100])
@pytest.mark.parametrize("stack", STACKS)
def test_output_and_gradients_are_those_of_the_whole(stack: str, steps: int) -> None:
    net = STACKS[stack]().double()
    x = 3 * torch.randn(STEPS, 3, 6, dtype=torch.float64)
    ours, truth = gradients(net, CheckpointedTime(net, steps), x), gradients(net, net, x)
    assert len(ours) == len(truth)
    for mine, theirs in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    assert float(truth[1].abs().max()) > 0


def test_the_second_pass_draws_what_the_first_drew() -> None:
    x = torch.ones(STEPS, 3, 6, requires_grad=True)
    masked = CheckpointedTime(nn.Dropout(0.5), 5)(x)
    masked.sum().backward()
    assert torch.equal(x.grad, masked.detach())  # the mask, by which it also went forward


def test_events_go_in_part_by_part() -> None:
    events = EventTensor.from_dense((torch.rand(STEPS, 2, 6) < 0.3).float())
    net = nn.Sequential(ToDense(), nn.Linear(6, 3), LIF(3.0))
    torch.testing.assert_close(CheckpointedTime(net, 4)(events), net(events), rtol=0, atol=1e-6)


def test_only_one_part_is_kept_at_a_time() -> None:
    net, x = nn.Sequential(nn.Linear(6, 64), LIF(3.0), nn.Linear(64, 1)), torch.randn(400, 2, 6)
    saved = {}
    for name, module in (("plain", net), ("parts", CheckpointedTime(net, 20))):
        kept: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t), t)[1], lambda t: t):
            module(x).sum()
        saved[name] = sum(t.numel() for t in {t.untyped_storage().data_ptr(): t for t in kept}.values())
    assert saved["parts"] < saved["plain"] / 10


def test_without_gradients_it_is_the_network_itself() -> None:
    net = nn.Sequential(Conv2d(1, 1, 1), nn.BatchNorm3d(5))
    with torch.no_grad():
        assert torch.equal(CheckpointedTime(net.eval(), 2)(torch.ones(5, 5, 1, 2, 2)), net(torch.ones(5, 5, 1, 2, 2)))


def test_what_sees_all_steps_at_once_is_refused() -> None:
    with pytest.raises(StateError, match="sees all of its 4 steps at once"):
        CheckpointedTime(PSN(4), 2)(torch.ones(4, 1, 2))
    with pytest.raises(ArgumentError, match="parts of 1 step or more"):
        CheckpointedTime(LIF(), 0)
