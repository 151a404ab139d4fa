"""Local rules on dense weights: spikenet beside SpikingJelly.

    python benchmarks/learning.py [--quick] [--rounds N] [--threads N]

Both get the same spikes and weights, float32. Incoming spikes fall in even steps and outgoing ones in odd steps, as the
two pair coincident spikes differently; the weights afterwards are compared before anything is timed. Steps of the peer
are called from Python one after the other, as its users do; its weights are changed as its learner does.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Callable

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor

from spikenet.learning import STDP, ThreeFactor

TAU = 20.0
FREE = {"w_min": -math.inf, "w_max": math.inf}
Learn = Callable[[], Tensor]  # from the first weights to the last


def pair(x: Tensor, z: Tensor, weight: Tensor) -> dict[str, Learn]:
    rule = STDP(
        a_plus=1e-3, a_minus=1e-3, tau_plus=-1 / math.log(1 - 1 / TAU), tau_minus=-1 / math.log(1 - 1 / TAU), **FREE
    )

    def ours() -> Tensor:
        w = weight.clone()
        rule.run(x, z, w)
        return w

    def spikingjelly() -> Tensor:
        from spikingjelly.activation_based.functional.learning import stdp_linear_step

        w, held = weight.clone(), (torch.zeros_like(x[0]), torch.zeros_like(z[0]))
        for x_t, z_t in zip(x, z, strict=True):
            change, held = stdp_linear_step(
                *(x_t, z_t, held, w), tau_pre=TAU, tau_post=TAU, f_pre=lambda _: 1e-3, f_post=lambda _: 1e-3
            )
            w += change
        return w

    return {"spikenet": ours, "spikingjelly": spikingjelly}


def reward(x: Tensor, z: Tensor, weight: Tensor) -> dict[str, Learn]:
    rule = ThreeFactor(
        rule=STDP(a_plus=1e-2, a_minus=1e-2, tau_plus=TAU, tau_minus=TAU, **FREE), tau_eligibility=100.0, lr=1e-2
    )
    given = torch.randn(x.shape[:2], generator=torch.Generator().manual_seed(1))

    def ours() -> Tensor:
        w = weight.clone()
        rule.run(x, z, w, given)
        return w

    def spikingjelly() -> Tensor:
        from spikingjelly.activation_based.functional.learning import mstdp_linear_step

        w, held = weight.clone(), (torch.zeros_like(x[0]), torch.zeros_like(z[0]))
        e, decay = torch.zeros(x.shape[1], *weight.shape), math.exp(-1 / 100.0)
        for x_t, z_t, r in zip(x, z, given, strict=True):
            now, held = mstdp_linear_step(
                *(x_t, z_t, held, w), tau_pre=TAU, tau_post=TAU, f_pre=lambda _: 1e-2, f_post=lambda _: 1e-2
            )
            e = decay * e + now
            w += 1e-2 * torch.einsum("b,boi->oi", r, e)
        return w

    return {"spikenet": ours, "spikingjelly": spikingjelly}


def case(
    rule: Callable[[Tensor, Tensor, Tensor], dict[str, Learn]], size: tuple[int, int, int, int], rounds: int
) -> dict[str, object]:
    steps, batch, ins, outs = size
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(steps, batch, ins, generator=generator) < 0.04).float()
    z = (torch.rand(steps, batch, outs, generator=generator) < 0.02).float()
    x[1::2], z[::2] = 0.0, 0.0
    weight = torch.rand(outs, ins, generator=generator)
    known = rule(x, z, weight)
    known = {name: run for name, run in known.items() if name == "spikenet" or importlib.util.find_spec(name)}
    truth = known["spikenet"]()
    for name, run in known.items():
        difference = float((run() - truth).norm() / (truth - weight).norm())
        assert difference < 1e-3, f"{name} learns something else: {difference}"
    seconds = alternate([Contender(name, run) for name, run in known.items()], rounds)
    return report(f"{rule.__name__}, float32, T={steps} B={batch} {ins} -> {outs}", seconds, "spikenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    if options.quick:
        finish([case(rule, (40, 2, 100, 50), 3) for rule in (pair, reward)])
    else:
        sizes = (350, 1, 784, 400), (100, 16, 784, 100)
        finish([case(rule, size, options.rounds) for rule in (pair, reward) for size in sizes])


if __name__ == "__main__":
    main()
