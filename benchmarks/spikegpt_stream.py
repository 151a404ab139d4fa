"""Generation with a state that does not grow: time per token and size of the state along a text of 64 k tokens.

    python benchmarks/spikegpt_stream.py [--quick] [--tokens N]

A SpikeGPT of 128 features and 3 blocks reads random tokens one at a time, on one thread. Printed are the median and
the 10th and 90th percentile of the last 500 tokens before each mark, and the numbers that the stream holds.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from _compare import machine
from torch import Tensor

from spikenet import Stream
from spikenet.models import SpikeGPT


def size(stream: Stream) -> int:
    states = (held.state for held in stream.states.values())
    return sum(s.numel() if isinstance(s, Tensor) else sum(part.numel() for part in s) for s in states)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 k tokens")
    parser.add_argument("--tokens", type=int, default=65_536)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stream = Stream(SpikeGPT(62, 128, 3).eval())
    last, marks, rows = 4096 if options.quick else options.tokens, [1024, 4096, 16_384, 65_536], []
    seconds = np.zeros(last)
    tokens = torch.randint(62, (last, 1))
    for t in range(last):
        start = time.perf_counter()
        stream.step(tokens[t])
        seconds[t] = time.perf_counter() - start
        if t + 1 in marks:
            low, median, high = 1e3 * np.percentile(seconds[t - 499 : t + 1], [10, 50, 90])
            rows.append([t + 1, median, low, high, size(stream)])
            spread = f"{median:.3f} ms a token ({low:.3f} .. {high:.3f})"
            print(f"{t + 1:6d} tokens: {spread}, {rows[-1][-1]} numbers of state", flush=True)
    print("RESULT " + json.dumps({"machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
