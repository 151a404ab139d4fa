"""Published energies of spiking transformers, recomputed, and the mean firing rates that they imply.

    python benchmarks/energy_published.py [--quick]

The papers print operations (SOPs) or energy, seldom the rates behind them. With the dense multiply-accumulates of one
step and those of the first convolution, which sees pixels at each of T steps,

    rate = SOPs / (T * (dense - first)),        SOPs = (energy - 4.6 pJ * T * first) / 0.9 pJ
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

from spikenet.energy import FIELD, picojoules


class Row(NamedTuple):
    """A published row: T, energy in mJ, SOPs in G if printed, dense MACs and those of the first layer in G a step."""

    name: str
    T: int
    millijoules: float
    sops: float | None
    dense: float | None
    first: float

    @property
    def implied_sops(self) -> float:
        """SOPs in G behind the published energy."""
        return (self.millijoules - FIELD.mac * self.T * self.first) / FIELD.ac

    @property
    def rate(self) -> float | None:
        """Mean firing rate of the inputs of all layers behind the first."""
        sops = self.implied_sops if self.sops is None else self.sops
        return sops / (self.T * (self.dense - self.first)) if self.dense else None


def first(width: int) -> float:
    """A 3 x 3 convolution of 3 channels on 224 x 224 pixels, in G."""
    return 27 * width * 224**2 / 1e9


ROWS = [
    Row("Spikformer-8-384", 4, 7.734, 6.82, None, first(64)),
    Row("Spikformer-8-512", 4, 11.577, 11.09, 8.25667, first(64)),
    Row("Spikformer-10-512", 4, 13.899, 13.67, None, first(64)),
    Row("Spikformer-8-768", 4, 21.477, 22.09, None, first(64)),
    Row("Spikingformer-8-384", 4, 4.69, 3.88, None, first(48)),
    Row("Spikingformer-8-512", 4, 7.46, 6.52, None, first(64)),
    Row("Spikingformer-8-768", 4, 13.68, 12.54, None, first(96)),
    Row("Max-Former-10-384", 4, 4.89, None, 5.2412, 0.01626),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same; it takes no time")
    parser.parse_args()
    print(f"{'model':20} {'published mJ':>12} {'ours mJ':>9} {'SOPs G':>8} {'dense G/step':>13} {'implied rate':>13}")
    for row in ROWS:
        sops = row.implied_sops if row.sops is None else row.sops
        ours = picojoules(row.T * row.first * 1e9, sops * 1e9) / 1e9
        dense, rate = (f"{row.dense:.4f}", f"{row.rate:.2%}") if row.rate else ("not known", "")
        printed = f"{sops:.2f}" + ("" if row.sops else " *")
        print(f"{row.name:20} {row.millijoules:12.3f} {ours:9.3f} {printed:>8} {dense:>13} {rate:>13}")
    print("* not printed in the paper: worked back from the energy, which therefore agrees by itself")


if __name__ == "__main__":
    main()
