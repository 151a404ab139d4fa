"""Events from a file to a spiking layer, never as dense frames: write, read a slice, filter, bin, compute.

    python examples/event_file.py [--quick]

A simulated camera films a bar that sweeps over its sensor. The recording is written as Prophesee EVT3 and read back;
`read` knows a format by the file's content. A slice of time is filtered and put on a grid as an `EventTensor`, which
the first layer takes as it is, at the price of its events.
"""

import argparse
import tempfile
from pathlib import Path

import torch

import spikenet as sn
from spikenet import events


def film(frames: int, size: int = 64) -> events.EventStream:
    """A bright bar that moves a pixel a millisecond."""
    column = torch.arange(size)
    bar = torch.stack([((column - t) % size < 4).float() for t in range(frames)])
    video = 0.1 + 0.9 * bar[:, None, :].expand(frames, size, size)
    return events.EventCamera()(video, 1000 * torch.arange(frames))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter film")
    milliseconds = 40 if parser.parse_args().quick else 400
    torch.manual_seed(0)
    recorded = film(milliseconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bar.raw"
        events.write(recorded, path, format="evt3")
        found = events.read(path)
        print(f"{path.stat().st_size} bytes: {found}, the same: {torch.equal(found.t, recorded.t)}")
        half = events.open_recording(path).slice(0, 500 * milliseconds)
    calm = events.refractory_filter(half, 2000)
    print(f"first half: {len(half)} events, {len(calm)} without those of pixels that had just sent one")
    x = events.bin_by_time(calm, dt_us=1000)
    x = events.pool(x, (2, 2))
    net = torch.nn.Sequential(sn.layers.EventLinear(2 * 32 * 32, 64), sn.LIF(tau=4.0, v_threshold=0.1))
    spikes = net(x)
    print(f"{x}: {x.nnz / x.to_dense().numel():.2%} of the addresses hold events")
    print(f"spikes {tuple(spikes.shape)}, {spikes.mean():.1%} of the neurons in each step")


if __name__ == "__main__":
    main()
