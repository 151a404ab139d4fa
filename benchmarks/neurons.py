"""Time stepping of a LIF layer, forward plus backward and forward alone, beside SpikingJelly, Norse and snnTorch.

    python benchmarks/neurons.py [--quick] [--rounds N] [--threads N]

Every library gets the same float32 input and the same gradient at its output, and runs the same neuron (hard
reset to 0, threshold 1; Norse and snnTorch with their own surrogate slopes). Spikes are compared before anything is
timed, and SpikingJelly's input gradient too; Norse and snnTorch round otherwise: one spike of 100,000 may differ.
They loop over steps in Python, as their users do.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections.abc import Callable

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor

import spikenet
from spikenet.neurons import surrogate

TAU = 2.0
SIZES = [(4, 8192), (4, 65536), (4, 1572864), (100, 8192), (100, 65536), (100, 262144), (500, 8192), (500, 65536)]
Layer = Callable[[Tensor], Tensor]


def ours() -> Layer:
    return spikenet.LIF(TAU, surrogate=surrogate.atan(2.0))


def spikingjelly() -> Layer:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based import surrogate as theirs

    lif = neuron.LIFNode(tau=TAU, surrogate_function=theirs.ATan(2.0), step_mode="m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(lif)
        return lif(x)

    return run


def norse(device: str = "cpu") -> Layer:
    from norse.torch import LIFBoxCell, LIFBoxParameters
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState

    cell = LIFBoxCell(p=LIFBoxParameters(tau_mem_inv=torch.tensor(1 / TAU, device=device)), dt=1.0)

    def run(x: Tensor) -> Tensor:
        state, spikes = LIFBoxFeedForwardState(v=torch.zeros_like(x[0])), []
        for x_t in x.unbind():
            z, state = cell(x_t, state)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def snntorch(device: str = "cpu") -> Layer:
    from snntorch import Leaky

    lif = Leaky(beta=1 - 1 / TAU, reset_mechanism="zero", reset_delay=False).to(device)

    def run(x: Tensor) -> Tensor:
        membrane, spikes = lif.init_leaky().to(x.device), []
        for x_t in (x / TAU).unbind():  # their input is not divided by tau
            z, membrane = lif(x_t, membrane)
            spikes.append(z)
        return torch.stack(spikes)

    return run


LAYERS = {"spikenet": ours, "spikingjelly": spikingjelly, "norse": norse, "snntorch": snntorch}


def work(layer: Layer, x: Tensor, gz: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward once, from an input that asks for its gradient."""
    x = x.detach().requires_grad_()
    z = layer(x)
    z.backward(gz)
    return z.detach(), x.grad  # type: ignore[return-value]


def infer(layer: Layer, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x)


def case(steps: int, lanes: int, rounds: int) -> list[dict[str, object]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps, 16, lanes // 16, generator=generator) + 0.5
    gz = torch.randn(x.shape, generator=generator)
    layers = {name: make() for name, make in LAYERS.items() if name == "spikenet" or importlib.util.find_spec(name)}
    z, gx = work(layers["spikenet"], x, gz)
    for name, layer in layers.items():
        theirs_z, theirs_gx = work(layer, x, gz)
        other = float((z != theirs_z).float().mean())
        assert other <= (1e-5 if name in ("norse", "snntorch") else 0), f"{name} spikes differently ({other:.1e})"
        assert name in ("norse", "snntorch") or torch.allclose(gx, theirs_gx, atol=1e-5), f"{name} has another gradient"
    both = {n: lambda layer=layer: work(layer, x, gz) for n, layer in layers.items()}
    forward = {n: lambda layer=layer: infer(layer, x) for n, layer in layers.items()}
    rows = []
    for what, runs in (("forward + backward", both), ("forward", forward)):
        seconds = alternate([Contender(n, run) for n, run in runs.items()], rounds)
        name = f"LIF {what}, float32, T={steps} lanes={lanes}, rate {float(z.mean()):.3f}"
        rows.append(report(name, seconds, "spikenet") | {"what": what})
    return rows


def summary(rows: list[dict[str, object]]) -> None:
    """Over all sizes: the geometric mean of the ratio to the best peer, and the smallest."""
    for what in ("forward + backward", "forward"):
        best = [
            min(v["ratio"] for v in row.values() if isinstance(v, dict) and "ratio" in v)
            for row in rows
            if row["what"] == what
        ]
        if best:
            print(f"{what}: {statistics.geometric_mean(best):.2f} x the best peer, at least {min(best):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    sizes, rounds = ([(20, 8192)], 3) if options.quick else (SIZES, options.rounds)
    rows = [row for steps, lanes in sizes for row in case(steps, lanes, rounds)]
    print()
    summary(rows)
    finish(rows)


if __name__ == "__main__":
    main()
