"""Time stepping of a LIF layer, forward plus backward: spikenet beside SpikingJelly, Norse and snnTorch.

    python benchmarks/neurons.py [--quick] [--rounds N] [--threads N]

Every library gets the same float32 input and the same gradient at its output, and runs the same neuron (hard
reset to 0, threshold 1; Norse and snnTorch with their own surrogate slopes). Spikes are compared before anything is
timed, and SpikingJelly's input gradient too. Norse and snnTorch loop over steps in Python, as their users do.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor

import spikenet
from spikenet.neurons import surrogate

TAU = 2.0
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


def case(steps: int, batch: int, features: int, rounds: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps, batch, features, generator=generator) + 0.5
    gz = torch.randn(x.shape, generator=generator)
    layers = {name: make() for name, make in LAYERS.items() if name == "spikenet" or importlib.util.find_spec(name)}
    z, gx = work(layers["spikenet"], x, gz)
    for name, layer in layers.items():
        theirs_z, theirs_gx = work(layer, x, gz)
        assert torch.equal(z, theirs_z), f"{name} spikes differently"
        assert name in ("norse", "snntorch") or torch.allclose(gx, theirs_gx, atol=1e-5), f"{name} has another gradient"
    seconds = alternate([Contender(n, lambda layer=layer: work(layer, x, gz)) for n, layer in layers.items()], rounds)
    rate = float(z.mean())
    return report(
        f"LIF forward + backward, float32, T={steps} B={batch} N={features}, rate {rate:.3f}", seconds, "spikenet"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, few rounds")
    parser.add_argument("--rounds", type=int, default=9, help="alternations (default 9)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    if options.quick:
        finish([case(20, 16, 512, 3)])
    else:
        finish(
            [case(*size, options.rounds) for size in ((100, 16, 512), (100, 16, 4096), (500, 16, 512), (4, 64, 16384))]
        )


if __name__ == "__main__":
    main()
