"""What counting costs: a spiking ResNet-18 and a Spikformer, forward on the CPU, plain and counted.

    python benchmarks/energy_overhead.py [--quick] [--rounds N] [--threads N]

Where SpikingJelly is installed its counter of synaptic operations runs beside. What the counted network puts out is
compared with the plain one's to the last bit, and the totals are printed.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor, nn

from spikenet import energy
from spikenet.layers import BatchNorm2d, Conv2d
from spikenet.models import Spikformer
from spikenet.neurons import LIF


def convolved(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions and a shortcut; the sum goes into a neuron."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.spike = convolved(inputs, outputs, stride=stride), LIF()
        self.second, self.sent = convolved(outputs, outputs), LIF()
        changed = stride > 1 or inputs != outputs
        self.shortcut = convolved(inputs, outputs, 1, stride) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.sent(self.second(self.spike(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    """Widths 64 to 512, two blocks each, on frames ``[T, B, 3, H, W]`` of 32 pixels."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        blocks: list[nn.Module] = [convolved(3, 64), LIF()]
        for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((3, 4))).mean(0)


def compare(name: str, net: nn.Module, x: Tensor, rounds: int) -> dict[str, Any]:
    for norm in (m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        nn.init.constant_(norm.weight, 2.0)  # so that deep layers spike
        norm.momentum = None
    with torch.no_grad():
        net(x)  # in training: the norms take the statistics
    net.eval()

    def plain() -> Tensor:
        with torch.inference_mode():
            return net(x)

    def counted() -> energy.Work:
        with torch.inference_mode(), energy.count(net, strict=True) as work:
            net(x)
        return work

    with torch.inference_mode(), energy.count(net):
        same = net(x)
    assert torch.equal(same, plain()), "counting changed the result"
    contenders = [Contender("plain", plain), Contender("counted", counted)]
    if theirs := spikingjelly(net, x):
        contenders.append(theirs)
    work, seconds = counted(), alternate(contenders, rounds)
    result = report(f"{name}, {tuple(x.shape)}", seconds, "plain")
    spent = {c.name: min(processor_seconds(c) for _ in range(rounds)) for c in contenders}
    result["processor_ratio"] = {each: round(spent[each] / spent["plain"], 3) for each in spent}
    print("  processor time, least of all rounds, to plain: " + str(result["processor_ratio"]))
    result |= {"acs": work.acs, "macs": work.macs, "dense_macs_steps": work.dense_macs_steps}
    print(
        f"  {work.acs / 1e6:.1f} M AC, {work.macs / 1e6:.1f} M MAC, dense twin {work.dense_macs_steps / 1e6:.1f} M MAC"
    )
    return result


def processor_seconds(contender: Contender) -> float:
    """Of all threads together: what the machine does besides matters less than to the clock on the wall."""
    start = time.process_time()
    contender.run()
    return time.process_time() - start


def spikingjelly(net: nn.Module, x: Tensor) -> Contender | None:
    try:
        from spikingjelly.activation_based import op_counter
    except ImportError:
        return None

    def run() -> int:
        counters = [op_counter.SynOpCounter(), op_counter.MACCounter()]
        with torch.no_grad(), op_counter.DispatchCounterMode(counters):
            net(x)
        return counters[0].get_total()

    return Contender("SpikingJelly", run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(machine())
    rounds, batch = (3, 2) if options.quick else (options.rounds, 8)
    x = torch.rand(1, batch, 3, 32, 32).expand(4, -1, -1, -1, -1).contiguous()
    spikformer = Spikformer.cifar(dim=192, depth=1) if options.quick else Spikformer.cifar()
    finish([compare("spiking ResNet-18", ResNet18(), x, rounds), compare("Spikformer", spikformer, x, rounds)])


if __name__ == "__main__":
    main()
