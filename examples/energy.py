"""What a network costs: operations counted once on real spikes, then priced, beside the same network as a dense ANN.

    python examples/energy.py [--quick]

The network is not trained here: the count depends on the spikes that the input causes, and the input is real data
(handwritten digits seen by the simulated event camera).
"""

import argparse

import torch
from torch import nn

import spikenet as sn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one batch only")
    batches = 1 if parser.parse_args().quick else 5
    torch.manual_seed(0)
    net = nn.Sequential(
        sn.layers.ToDense(),
        sn.layers.Conv2d(2, 8, 5, padding=2),
        sn.LIF(tau=2.0, v_threshold=0.5),
        sn.layers.AvgPool2d(2),
        nn.Flatten(2),
        nn.Linear(8 * 12 * 12, 10),
        sn.LeakyReadout(tau=2.0),
        sn.layers.MeanReadout(),
    )
    loader = iter(sn.data.DigitsDVS().val_dataloader())
    with torch.no_grad(), sn.energy.count(net) as work:
        for _ in range(batches):
            events, _ = next(loader)
            net(events)
    for layer in (layer for layer in work.layers if layer.dense_macs):  # average pooling makes spikes graded: MACs
        print(f"{layer.name:4} {layer.kind:14} {layer.values:7} ACs {layer.acs:12,.0f} MACs {layer.macs:12,.0f}")
    for name in sn.energy.MODELS:
        energy = sn.energy.compare(work, sn.energy.energy_model(name))
        print(
            f"{name:14} {energy.snn.total / 1e6:8.2f} uJ a recording, dense twin {energy.ann_frame.total / 1e6:8.2f} uJ"
        )
    print(*sn.energy.compare(work).assumptions, sep="\n")


if __name__ == "__main__":
    main()
