"""A cochlea hears a falling tone: sound in, spikes of 700 channels out, high frequencies in the first.

    python examples/cochlea.py [--quick]

Prints the tone's frequency over time beside the place that answers it, and how many of the cochlea's cells spike
there. `BasilarMembrane.resonance` tells which frequency a place is tuned to.
"""

import argparse

import torch

from spikenet.events import Cochlea


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter tone")
    seconds, rate, windows = 0.3 if parser.parse_args().quick else 1.2, 16_000, 10
    time = torch.arange(int(seconds * rate)) / rate
    frequency = 4000 * (300 / 4000) ** (time / seconds)  # Hz, falling evenly in octaves
    tone = torch.sin(2 * torch.pi * torch.cumsum(frequency, 0) / rate)
    cochlea = Cochlea()
    stream = cochlea(tone, rate, seed=0)
    print(stream)
    print("   time     tone   tuned to  spikes")
    places = torch.linspace(0, cochlea.membrane.length, cochlea.channels).numpy()
    tuned = torch.from_numpy(cochlea.membrane.resonance(places))
    for number in range(windows):
        start, stop = (int(seconds * 1e6) * edge // windows for edge in (number, number + 1))
        heard = stream.slice(start, stop).x.long()
        middle = frequency[(start + stop) // 2 * rate // 1_000_000].item()
        answer = f"{tuned[heard].median().item():5.0f} Hz" if len(heard) else "  silent"
        print(f"{start / 1000:4.0f} ms  {middle:5.0f} Hz  {answer}  {len(heard):6d} {'#' * (len(heard) // 20)}")


if __name__ == "__main__":
    main()
