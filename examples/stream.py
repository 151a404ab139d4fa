"""A network on a live stream: one step at a time, its states in the open, the same answer as on the whole sequence.

    python examples/stream.py [--quick]

Stands in for a sensor that delivers a frame of events every few milliseconds. `Stream` carries the states of all
neurons and readouts from step to step, and refuses an input that changes its batch size, device or dtype.
"""

import argparse

import torch
from torch import nn

import spikenet as sn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    steps = 20 if parser.parse_args().quick else 200
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(2),
        nn.Linear(2 * 16 * 16, 64),
        sn.LIF(tau=4.0),
        nn.Linear(64, 10),
        sn.LeakyReadout(tau=10.0),
        sn.layers.MeanReadout(),
    ).double()  # in float64 the answer is the same to the last bit
    frames = (torch.rand(steps, 1, 2, 16, 16) < 0.05).double()  # [T, B, polarity, height, width]
    with torch.no_grad():
        whole = net(frames)
        stream = sn.Stream(net)
        for t, frame in enumerate(frames):
            answer = stream.step(frame)  # the answer so far
            if t % (steps // 4) == 0:
                print(f"step {t:3d}: class {answer.argmax().item()}, {len(stream.states)} states carried")
    print("the same as the whole sequence at once:", torch.equal(answer, whole))
    try:
        stream.step(frame.repeat(2, 1, 1, 1))
    except sn.SpikenetError as error:
        print("two recordings instead of one:", error)


if __name__ == "__main__":
    main()
