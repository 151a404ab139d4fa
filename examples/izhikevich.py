"""Izhikevich's seven kinds of neuron under the same constant current, as spike trains in a terminal.

    python examples/izhikevich.py [--quick]

One call simulates all kinds at once: the parameters differ from neuron to neuron (Izhikevich, IEEE Trans. Neural
Networks 14, 2003; the published step of 1 ms, in two halves).
"""

import argparse

import torch

from spikenet.neurons import Izhikevich


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 ms only")
    torch.set_default_dtype(torch.float64)  # some kinds are chaotic: their counts hang on the last digits
    steps = 200 if parser.parse_args().quick else 1000
    kinds = list(Izhikevich.kinds)
    params = {name: torch.tensor([kind[name] for kind in Izhikevich.kinds.values()]) for name in "abcd"}
    current = torch.full((steps, 1, len(kinds)), 10.0)
    spikes = Izhikevich(**params)(current)[:, 0]
    print(f"{steps} ms at a current of 10; one character for {steps // 100} ms")
    for kind, train in zip(kinds, spikes.T, strict=True):
        bins = train.view(100, -1).sum(1)
        print(f"{kind:>3} {''.join('|' if n else '.' for n in bins)} {int(train.sum()):3} spikes")


if __name__ == "__main__":
    main()
