"""A recurrent LIF layer, forward plus backward: spikenet beside SpikingJelly and snnTorch.

    python benchmarks/recurrent.py [--quick] [--rounds N] [--threads N]

Every library gets the same float32 input, weights and gradient at its output, and runs the same neuron (hard reset to
0, threshold 1, arctangent slope). Weights are multiples of 1/512 and inputs odd multiples of 1/1024, so that every
order of summation gives the same sum, no membrane meets the threshold exactly, and spikes must be equal. They and the
gradients are compared before anything is timed. The others loop over steps in Python, as their users do.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor

from spikenet import LIF
from spikenet.layers import Recurrent
from spikenet.neurons import surrogate

TAU = 2.0
Layer = tuple[Callable[[Tensor], Tensor], Tensor, float]  # run, weights, and what these hold of the recurrent ones


def ours(weight: Tensor) -> Layer:
    layer = Recurrent(LIF(TAU, surrogate=surrogate.atan(2.0)), len(weight))
    layer.weight.data.copy_(weight)
    return layer, layer.weight, 1.0


def spikingjelly(weight: Tensor) -> Layer:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based import layer as layers
    from spikingjelly.activation_based import surrogate as theirs

    lif = neuron.LIFNode(tau=TAU, surrogate_function=theirs.ATan(2.0))
    n = len(weight)
    layer = layers.LinearRecurrentContainer(lif, n, n, bias=False, step_mode="m")
    layer.rc.weight.data.copy_(torch.cat([torch.eye(n), weight], 1))

    def run(x: Tensor) -> Tensor:
        functional.reset_net(layer)
        return layer(x)

    return run, layer.rc.weight, 1.0


def snntorch(weight: Tensor) -> Layer:
    from snntorch import RLeaky

    lif = RLeaky(beta=1 - 1 / TAU, linear_features=len(weight), reset_mechanism="zero", reset_delay=False)
    lif.recurrent.weight.data.copy_(weight / TAU)  # their neuron does not divide its input by tau
    lif.recurrent.bias = None

    def run(x: Tensor) -> Tensor:
        (spike, membrane), spikes = lif.init_rleaky(), []
        for x_t in (x / TAU).unbind():
            spike, membrane = lif(x_t, spike, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run, lif.recurrent.weight, 1 / TAU


LAYERS = {"spikenet": ours, "spikingjelly": spikingjelly, "snntorch": snntorch}


def work(layer: Layer, x: Tensor, gz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Forward and backward once, from an input that asks for its gradient."""
    run, weight, scale = layer
    x, weight.grad = x.detach().requires_grad_(), None
    z = run(x)
    z.backward(gz)
    return z.detach(), x.grad, scale * weight.grad[:, -x.shape[-1] :]  # type: ignore[return-value, index]


def case(steps: int, batch: int, features: int, rounds: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(features, features, generator=generator) * 512 * features**-0.5).round() / 512
    x = ((torch.randn(steps, batch, features, generator=generator) + 0.25) * 512).round() / 512 + 1 / 1024
    gz = torch.randn(x.shape, generator=generator)
    layers = {n: make(weight) for n, make in LAYERS.items() if n == "spikenet" or importlib.util.find_spec(n)}
    truth = work(layers["spikenet"], x, gz)
    for name, layer in layers.items():
        theirs = work(layer, x, gz)
        assert torch.equal(truth[0], theirs[0]), f"{name} spikes differently"
        for a, b in zip(truth[1:], theirs[1:], strict=True):
            assert (a - b).norm() < 1e-5 * b.norm(), f"{name} has another gradient"
    seconds = alternate([Contender(n, lambda layer=layer: work(layer, x, gz)) for n, layer in layers.items()], rounds)
    rate = float(truth[0].mean())
    what = f"recurrent LIF forward + backward, float32, T={steps} B={batch} N={features}, rate {rate:.3f}"
    return report(what, seconds, "spikenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, few rounds")
    parser.add_argument("--rounds", type=int, default=9, help="alternations (default 9)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    if options.quick:
        finish([case(20, 16, 128, 3)])
    else:
        finish([case(*size, options.rounds) for size in ((100, 16, 256), (100, 64, 128), (250, 32, 512))])


if __name__ == "__main__":
    main()
