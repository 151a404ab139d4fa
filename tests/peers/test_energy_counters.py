"""Operation counts beside NeuroBench's and syops', on the same layers and input; SpikingJelly's are in test_energy.py.

Where the tools disagree, what each of them finds is worked out from the input. `benchmarks/energy_peers.py` prints it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from spikenet import energy

Counts = tuple[float, float]


class Flat(nn.Module):
    """Time folded into the batch, for layers that know none; the batch comes first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def ours(layer: nn.Module, x: torch.Tensor) -> Counts:
    with torch.no_grad(), energy.count(net := Flat(layer), strict=True) as work:
        net(x.transpose(0, 1))
    return work.acs, work.macs


@pytest.fixture
def neurobench() -> Callable[[nn.Module, torch.Tensor], Counts]:
    """Effective ACs and MACs of the batch."""
    benchmarks, models = (pytest.importorskip(f"neurobench.{room}") for room in ("benchmarks", "models"))
    metrics = pytest.importorskip("neurobench.metrics.workload")

    def run(layer: nn.Module, x: torch.Tensor) -> Counts:
        data = torch.utils.data.TensorDataset(x, torch.zeros(len(x)))
        loader = torch.utils.data.DataLoader(data, batch_size=len(x))
        bench = benchmarks.Benchmark(models.TorchModel(Flat(layer)), loader, [], [], [[], [metrics.SynapticOperations]])
        found = bench.run(quiet=True)["SynapticOperations"]
        return len(x) * found["Effective_ACs"], len(x) * found["Effective_MACs"]

    return run


@pytest.fixture
def syops(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, torch.Tensor], Counts]:
    """ACs and MACs of the batch. It imports names that SpikingJelly 2 no longer has; they are lent to it."""
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    for name in ("IFNode", "LIFNode", "ParametricLIFNode"):
        lent = type(f"MultiStep{name}", (getattr(neuron, name),), {})
        monkeypatch.setattr(neuron, lent.__name__, lent, raising=False)
    info = pytest.importorskip("syops").get_model_complexity_info

    def run(layer: nn.Module, x: torch.Tensor) -> Counts:
        with contextlib.redirect_stdout(io.StringIO()):
            found, _ = info(Flat(layer), (1,), [(x, None)], as_strings=False, print_per_layer_stat=False)
        return len(x) * found[1], len(x) * found[2]

    return run


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape) < 0.3).float()


def values(kind: str) -> torch.Tensor:
    """Two samples of four steps of 20 numbers."""
    x = spikes(2, 4, 20)
    return {"spikes": x, "counts": 3 * x, "ternary": x - 2 * x * spikes(2, 4, 20), "graded": x * torch.rand(2, 4, 20)}[
        kind
    ]


@pytest.mark.parametrize("kind", ["spikes", "counts", "ternary", "graded"])
def test_linear_in_neurobench(neurobench: Callable[[nn.Module, torch.Tensor], Counts], kind: str) -> None:
    """It charges a multiplication for each value that is not 0, unless all are -1, 0 and 1."""
    layer, x = nn.Linear(20, 7), values(kind)
    events, some = 7 * float(x.abs().sum()), 7 * float(x.count_nonzero())
    every = float(x.numel() * 7)
    assert neurobench(layer, x) == ((some, 0) if kind in ("spikes", "ternary") else (0, some))
    assert ours(layer, x) == ((0, every) if kind == "graded" else (events, 0))


@pytest.mark.parametrize("kind", ["spikes", "counts", "ternary", "graded"])
def test_linear_in_syops(syops: Callable[[nn.Module, torch.Tensor], Counts], kind: str) -> None:
    """It charges all multiplications, unless all values are 0 and 1."""
    layer, x = nn.Linear(20, 7, bias=False), values(kind)
    every = float(x.numel() * 7)
    expected = (7 * float(x.sum()), 0.0) if kind == "spikes" else (0.0, every)
    assert syops(layer, x) == pytest.approx(expected)
    if kind in ("spikes", "graded"):
        assert ours(layer, x) == pytest.approx(expected)


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "padding": 1, "groups": 2}, {"dilation": 2}])
def test_convolutions_in_both(
    neurobench: Callable[[nn.Module, torch.Tensor], Counts],
    syops: Callable[[nn.Module, torch.Tensor], Counts],
    options: dict[str, int],
) -> None:
    """NeuroBench and the counter find the synapses reached; syops multiplies the rate with all taps, those in the
    padding too."""
    layer, x = nn.Conv2d(4, 6, 3, bias=False, **options), spikes(2, 3, 4, 9, 8)
    assert ours(layer, x) == neurobench(layer, x)
    out = layer(x.flatten(0, 1))
    dense = out.numel() // 6 * layer.weight.numel()
    assert syops(layer, x) == pytest.approx((float(x.mean()) * dense, 0.0))


def test_neurobench_leaves_out_weights_of_0(neurobench: Callable[[nn.Module, torch.Tensor], Counts]) -> None:
    layer, x = nn.Linear(20, 7), values("spikes")
    layer.weight.data[:, :12] = 0.0
    assert neurobench(layer, x) == (7 * float(x[..., 12:].sum()), 0)
    assert ours(layer, x) == (7 * float(x.sum()), 0)
