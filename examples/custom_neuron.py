"""A neuron that spikenet does not have, in ten lines of equations, trained to fire at a wanted rate.

    python examples/custom_neuron.py [--quick]

The quadratic integrate-and-fire neuron, tau dv/dt = (v - v_rest)(v - v_critical) + x (Ermentrout and Kopell, SIAM J.
Appl. Math. 46, 1986). Its kernels, forward and backward, follow from the equations; its time constant is learned.
"""

import argparse

import torch
from torch import nn

from spikenet.neurons import Neuron, Param, blend


class QIF(Neuron):
    state = {"v": "v_rest"}
    params = {"tau": Param(20.0, "steps", above=0.0), "v_rest": 0.0, "v_critical": 0.5, "v_threshold": 1.0}

    def charge(self, s, x, d, p):
        return {"v": s.v + ((s.v - p.v_rest) * (s.v - p.v_critical) + x.x) / p.tau}

    def reset(self, h, z, p):
        return {"v": blend(z, h.v, p.v_rest)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    steps = 5 if parser.parse_args().quick else 150
    torch.manual_seed(0)
    neuron = QIF(tau=nn.Parameter(torch.tensor(20.0)))
    optimiser = torch.optim.Adam(neuron.parameters(), lr=0.2)
    drive, wanted = 1.5 + torch.rand(200, 16, 32), 0.12  # [T, B, neurons]; spikes per step
    for step in range(steps):
        rate = neuron(drive).mean()
        loss = (rate - wanted) ** 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step:3d}  tau {neuron.tau.item():6.2f}  rate {rate.item():.4f} (wanted {wanted})")


if __name__ == "__main__":
    main()
