"""The count of the same network on the same input is the same on CPU and GPU, number by number."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from spikenet import energy
from spikenet.events import EventTensor
from spikenet.layers import (
    BatchNorm2d,
    Conv2d,
    DelayConv2d,
    DelayLinear,
    DelayRecurrent,
    EventConv2d,
    EventLinear,
    MaxPool2d,
    MeanReadout,
    Recurrent,
    SpikingLinear,
)
from spikenet.neurons import IF


def dyadic(net: nn.Module) -> nn.Module:
    """Weights in eighths: every sum is exact, whatever its order, so that spikes do not depend on the device."""
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        parameter.data = torch.randint(0, 3, parameter.shape).float() if "delay" in name else eighths(parameter)
    return net.eval()


def eighths(parameter: torch.Tensor) -> torch.Tensor:
    return torch.randint(-3, 5, parameter.shape) / 8


class Attention(nn.Module):
    """Spiking self-attention with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Sequential(nn.Linear(16, 16), IF()) for _ in range(4))
        self.sent = IF(v_threshold=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part(x).unflatten(-1, (2, 8)).transpose(2, 3) for part in (self.q, self.k, self.v))
        mixed = ((q @ k.transpose(-2, -1)) @ v * 0.125).transpose(2, 3).flatten(3)
        return x + self.out(self.sent(mixed))


def convolutions() -> nn.Module:
    norm = BatchNorm2d(8)
    norm.running_var.fill_(1 - norm.eps)
    return nn.Sequential(
        Conv2d(2, 8, 3, padding=1, bias=False),
        norm,
        IF(),
        MaxPool2d(3, 2, 1),
        Conv2d(8, 8, 3, stride=2, groups=4),
        IF(),
        nn.Flatten(2),
        SpikingLinear(32, 10),
        IF(),
        Recurrent(IF(), 10, autapses=False),
        nn.Linear(10, 3),
        MeanReadout(),
    )


def delays() -> nn.Module:
    return nn.Sequential(
        DelayConv2d(2, 4, 3, 3, stride=2), IF(), nn.Flatten(2), DelayLinear(36, 8, 3), DelayRecurrent(IF(), 8, 3)
    )


def counted(net: nn.Module, x: torch.Tensor | EventTensor) -> dict[tuple[str, str, str], np.ndarray]:
    with torch.no_grad(), energy.count(net) as work:
        net(x)
    assert work.acs + work.macs > 0
    found = {(layer.name, layer.operation, name): s for layer in work.layers for name, s in layer.steps.items()}
    return found | {("bits", layer.name, layer.operation): np.array(layer.bits) for layer in work.layers}


@pytest.mark.gpu
@pytest.mark.parametrize("values", ["spikes", "ternary", "counts", "graded"])
@pytest.mark.parametrize(
    ("make", "shape", "events"),
    [
        (convolutions, (5, 3, 2, 9, 9), False),
        (Attention, (5, 3, 12, 16), False),
        (delays, (5, 3, 2, 7, 7), False),
        (lambda: nn.Sequential(EventConv2d(2, 4, 3, padding=1), IF()), (5, 3, 2, 9, 9), True),
        (lambda: nn.Sequential(EventLinear(30, 12), IF()), (5, 3, 30), True),
    ],
    ids=["convolutions", "attention", "delays", "event convolution", "event linear"],
)
def test_cpu_and_gpu_count_the_same(
    make: Callable[[], nn.Module], shape: tuple[int, ...], events: bool, values: str
) -> None:
    x = (torch.rand(shape) < 0.4).float()
    x = {"spikes": x, "ternary": x - 2 * x * (torch.rand(shape) < 0.2), "counts": 3 * x, "graded": x / 2}[values]
    given = EventTensor.from_dense(x) if events else x
    net = dyadic(make())
    here = counted(net, given)
    there = counted(net.cuda(), given.to("cuda"))
    assert here.keys() == there.keys()
    for name, found in here.items():
        np.testing.assert_array_equal(there[name], found, err_msg=str(name))


@pytest.mark.gpu
def test_cpu_and_gpu_charge_the_same_energy_term() -> None:
    net, x = dyadic(convolutions()), (torch.rand(5, 3, 2, 9, 9) < 0.4).float()
    spent = []
    for device in ("cpu", "cuda"):
        with energy.EnergyTerm(net.to(device)) as term:
            net(x.to(device))
            spent.append(term().item())
    assert spent[0] == pytest.approx(spent[1], rel=1e-6)
    assert spent[0] > 0
