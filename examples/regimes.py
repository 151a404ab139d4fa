"""Brunel's network in its four regimes: the same neurons and synapses, synchronous or not, regular or not.

    python examples/regimes.py [--quick] [--picture regimes.png]

Two numbers decide: how much stronger inhibition is than excitation, and how strong the input from outside (Brunel,
J. Computational Neuroscience 8, 2000, figure 8). --quick takes a fifth of the neurons with stronger synapses.
"""

import argparse

from matplotlib.figure import Figure

from spikenet.simulate import activity
from spikenet.simulate.networks import REGIMES, brunel

SHOWN = 150.0  # ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the neurons")
    parser.add_argument("--picture", default="regimes.png", help="where the picture goes")
    options = parser.parse_args()
    size = {"excitatory": 2000, "weight": 0.25} if options.quick else {}
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(4, 2, height_ratios=(3, 1, 3, 1), sharex=True)
    print(f"{'regime':8} {'g':>4} {'input':>6} {'rate (Hz)':>10} {'CV':>5} {'synchrony':>10}")
    for k, (regime, (g, eta)) in enumerate(REGIMES.items()):
        network = brunel(regime, seed=1, **size)
        network.run(600.0)
        rate, cv, synchrony = activity(network, since=200.0)["E"]
        print(f"{regime:8} {g:4.1f} {eta:6.1f} {rate:10.1f} {cv:5.2f} {synchrony:10.1f}")
        spikes, rates = network.monitors[:2]
        dots, line = axes[2 * (k // 2), k % 2], axes[2 * (k // 2) + 1, k % 2]
        mine = (spikes.times >= 600.0 - SHOWN) & (spikes.neurons < 100)
        dots.plot(spikes.times[mine] - 600.0 + SHOWN, spikes.neurons[mine], "|", color="#2f6db5", ms=3, mew=0.7)
        dots.set(title=f"{regime}: g = {g:g}, input {eta:g}", ylabel="neuron")
        line.fill_between(rates.times - 600.0 + SHOWN, rates.rates, color="#1c2733", lw=0)
        line.set(ylabel="Hz", xlim=(0, SHOWN), ylim=(0, None), xlabel="time (ms)" if k > 1 else None)
    figure.savefig(options.picture, dpi=120)
    print(f"written: {options.picture}")


if __name__ == "__main__":
    main()
