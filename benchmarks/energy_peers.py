"""The same layers and network on the same input in every counter that can be installed, and why they differ.

    python benchmarks/energy_peers.py [--quick]

SpikingJelly 2.0 (`SynOpCounter`, `MACCounter`), NeuroBench 2.3.0 (effective ACs and MACs) and syops 0.0.5, each called
as its own examples do. syops imports neurons (`MultiStepIFNode` and two more) that SpikingJelly 2 no longer has; it is
given today's under the old names, and its rules run as they are. What each counter finds is worked out beside it from
the input, and the run stops where that does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.energy import count

Counts = tuple[float, float]
"""Accumulates, multiply-accumulates."""


class Case(NamedTuple):
    """A network on ``x`` ``[T, B, ...]``; what each counter should find, and in words why, where it is not ours."""

    name: str
    net: nn.Module
    x: Tensor
    ours: Counts
    theirs: dict[str, tuple[Counts, str]]


class Folded(nn.Module):
    """A layer that knows no time, on time folded into the batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Scores(nn.Module):
    """q k^T of spikes; the linear layer is never called (syops wants a parameter somewhere)."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.transpose(-2, -1)


class BatchFirst(nn.Module):
    """The batch before the time, as NeuroBench and syops want it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.transpose(0, 1)).transpose(0, 1)


# The counters; totals over the batch.


def spikenet(net: nn.Module, x: Tensor) -> Counts:
    with count(net, strict=True) as work:
        net(x)
    return work.acs, work.macs


def spikingjelly(net: nn.Module, x: Tensor) -> Counts:
    from spikingjelly.activation_based import op_counter

    counters = op_counter.SynOpCounter(), op_counter.MACCounter()
    with op_counter.DispatchCounterMode(list(counters)):
        net(x)
    return tuple(counter.get_total() for counter in counters)


def neurobench(net: nn.Module, x: Tensor) -> Counts:
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel
    from torch.utils.data import DataLoader, TensorDataset

    batch = x.shape[1]
    loader = DataLoader(TensorDataset(x.transpose(0, 1).contiguous(), torch.zeros(batch)), batch_size=batch)
    found = Benchmark(TorchModel(BatchFirst(net)), loader, [], [], [[], [SynapticOperations]]).run(quiet=True)
    each = found["SynapticOperations"]
    return batch * each["Effective_ACs"], batch * each["Effective_MACs"]


def syops(net: nn.Module, x: Tensor) -> Counts:
    from spikingjelly.activation_based import neuron

    for gone, kept in (
        ("IFNode", neuron.IFNode),
        ("LIFNode", neuron.LIFNode),
        ("ParametricLIFNode", neuron.ParametricLIFNode),
    ):
        if not hasattr(neuron, f"MultiStep{gone}"):
            setattr(neuron, f"MultiStep{gone}", type(gone, (kept,), {}))
    from syops import get_model_complexity_info

    batches = [(x.transpose(0, 1).contiguous(), None)]
    with contextlib.redirect_stdout(io.StringIO()):
        found, _ = get_model_complexity_info(
            BatchFirst(net), (1,), batches, as_strings=False, print_per_layer_stat=False
        )
    return x.shape[1] * found[1], x.shape[1] * found[2]


PEERS: dict[str, Callable[[nn.Module, Tensor], Counts]] = {
    "SpikingJelly": spikingjelly,
    "NeuroBench": neurobench,
    "syops": syops,
}


# The cases.


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.3).float()


def reached(conv: nn.Conv2d, x: Tensor) -> float:
    """Synapses that spikes reach: the outputs' sum with all weights 1."""
    ones = torch.ones_like(conv.weight)
    return float(nn.functional.conv2d(x.flatten(0, 1), ones, None, conv.stride, conv.padding, 1, conv.groups).sum())


def dense(conv: nn.Conv2d, x: Tensor) -> float:
    """Multiplications of the layer, those with its padding included."""
    sides = conv(x.flatten(0, 1)).shape
    return sides[0] * sides[2] * sides[3] * conv.weight.numel()


PADDING = "mean rate times all multiplications, as if every spike reached all taps, and padding were as busy"
SPIKES_ARE_BINARY = "takes 0 and 1 alone for spikes: dense multiplications"


def linear(name: str, x: Tensor, ours: Counts, **theirs: tuple[Counts, str]) -> Case:
    return Case(name, nn.Linear(20, 7, bias=False), x, ours, theirs)


def cases() -> list[Case]:
    x, real = spikes(4, 2, 20), torch.rand(4, 2, 20) * spikes(4, 2, 20)
    k, every = float(x.sum()), 4 * 2 * 20 * 7.0
    signed = x - 2 * x * spikes(*x.shape)
    never = (0.0, every), SPIKES_ARE_BINARY
    flat = [
        linear("linear, k spikes", x, (7 * k, 0)),
        linear(
            "linear, counts of 3",
            3 * x,
            (7 * 3 * k, 0),
            SpikingJelly=never,
            NeuroBench=((0, 7 * k), "a multiplication for each value that is not 0"),
            syops=never,
        ),
        linear("linear, ternary", signed, (7 * k, 0), SpikingJelly=never, syops=never),
        linear(
            "linear, real values",
            real,
            (0, every),
            NeuroBench=((0, 7 * float(real.count_nonzero())), "leaves out multiplications by 0"),
        ),
        pruned(x),
        biased(x),
    ]
    return [*flat, *convolutions(), attention(), network()]


def pruned(x: Tensor) -> Case:
    layer = nn.Linear(20, 7, bias=False)
    layer.weight.data[:, :10] = 0.0
    left = (7 * float(x[..., 10:].sum()), 0.0)
    theirs = {"NeuroBench": (left, "leaves out synapses of weight 0")}
    return Case("linear, half the weights 0", layer, x, (7 * float(x.sum()), 0), theirs)


def biased(x: Tensor) -> Case:
    k, rate = float(x.sum()), float(x.mean())
    words = "adds the biases, once a call and not once a step, times the rate"
    theirs = {"syops": ((rate * (x.numel() * 7 + 7), 0.0), words)}
    return Case("linear with a bias", nn.Linear(20, 7), x, (7 * k, 0), theirs)


def convolutions() -> list[Case]:
    found = []
    for name, conv in (
        ("convolution, padded", nn.Conv2d(2, 6, 3, padding=1, bias=False)),
        ("depthwise, strided", nn.Conv2d(2, 2, 3, stride=2, padding=1, groups=2, bias=False)),
    ):
        x = spikes(4, 2, 2, 9, 8)
        theirs = {"syops": ((float(x.mean()) * dense(conv, x), 0.0), PADDING)}
        found.append(Case(name, Folded(conv), x, (reached(conv, x), 0), theirs))
    return found


def attention() -> Case:
    x = spikes(4, 2, 5, 8)
    nothing = (0.0, 0.0), "knows modules, and a product in a forward is none: nothing, and not a word"
    meet = float((x @ x.transpose(-2, -1)).sum())
    return Case("attention, q k^T of spikes", Scores(), x, (meet, 0), {"NeuroBench": nothing, "syops": nothing})


def network() -> Case:
    """Convolution, norm, neuron, pool, convolution, neuron, linear layer; SpikingJelly's neurons, which all know."""
    from spikingjelly.activation_based import neuron

    first, second = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.Conv2d(8, 6, 3, stride=2, bias=False)
    nodes = [neuron.LIFNode(step_mode="m", v_threshold=0.1, detach_reset=True) for _ in range(2)]
    head = nn.Linear(6 * 4, 5, bias=False)
    norm = nn.BatchNorm2d(8)
    layers = [Folded(first), Folded(norm), nodes[0], Folded(nn.MaxPool2d(2)), Folded(second), nodes[1]]
    net = nn.Sequential(*layers, nn.Flatten(2), head).eval()
    x, given = spikes(4, 2, 2, 10, 10), {}
    hooks = [m.register_forward_pre_hook(lambda m, args: given.update({m: args[0]})) for m in net.modules()]
    net(x)
    reset(net)
    for hook in hooks:
        hook.remove()
    maps = [(conv, given[conv].unflatten(0, (4, 2))) for conv in (first, second)]
    ours = sum(reached(conv, z) for conv, z in maps) + 5 * float(given[head].sum())
    pool = given[net[3].layer]
    acs = sum(float(z.mean()) * dense(conv, z) for conv, z in maps) + 5 * float(given[head].sum())
    acs += float(pool.mean()) * pool.numel() + sum(given[node].numel() for node in nodes)
    words = f"{PADDING}; and an operation a neuron, pooled spikes, and two multiplications an element of the norm"
    size = given[norm].numel()
    theirs = {
        "SpikingJelly": (
            (ours, size),
            "multiplies in the norm, which is part of the convolution's weights at inference",
        ),
        "syops": ((acs, 2.0 * size), words),
    }
    return Case("a network", net, x, (ours, 0), theirs)


def compare(case: Case) -> dict[str, Any]:
    result: dict[str, Any] = {"case": case.name, "spikenet": spikenet(case.net, case.x)}
    assert result["spikenet"] == case.ours, (case.name, result, case.ours)
    lines, notes = [result["spikenet"]], []
    for name, peer in PEERS.items():
        reset(case.net)
        expected, words = case.theirs.get(name, (case.ours, ""))
        try:
            found = peer(case.net, case.x)
        except ImportError as error:
            lines.append((float("nan"), float("nan")))
            notes.append(f"{name} is not here: {error}")
            continue
        close = all(abs(a - b) <= 1e-4 * max(abs(b), 1) for a, b in zip(found, expected, strict=True))
        assert close, (case.name, name, found, expected)
        result[name] = tuple(map(float, found))
        lines.append(found)
        notes += [f"{name}: {words}"] * bool(words)
    reset(case.net)
    print(f"{case.name:28}" + "".join(f"{ac:10,.0f} {mac:7,.0f}" for ac, mac in lines))
    for note in notes:
        print(f"{'':4}{note}")
    return result


def reset(net: nn.Module) -> None:
    for module in net.modules():
        if type(module).__module__.startswith("spikingjelly") and hasattr(module, "reset"):
            module.reset()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same; it takes seconds")
    parser.parse_args()
    torch.manual_seed(0)
    print(f"{'':28}" + "".join(f"{name:>18}" for name in ("spikenet", *PEERS)))
    print(f"{'':28}" + f"{'AC':>10} {'MAC':>7}" * 4)
    with torch.no_grad():
        results = [compare(case) for case in cases()]
    print("\nRESULT " + json.dumps(results))


if __name__ == "__main__":
    main()
