"""A network with delays and recurrence as a NIR graph: written, read again, and read by another library.

    python examples/nir_graph.py [--quick]

The file holds every delay, time constant and threshold, so the network that comes back computes the same to the last
bit. The needs of other libraries differ: SpikingJelly reads the part without delays, and fires alike.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

import spikenet as sn
from spikenet.interop import from_nir, to_nir


def stepped(net: nn.Module, x: Tensor) -> Tensor:
    """Another library's network, whose state is handed on from step to step."""
    outputs, state = [], None
    for now in x:
        z, state = net(now, state)
        outputs.append(z)
    return torch.stack(outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    steps = 50 if parser.parse_args().quick else 500
    try:
        import nir
    except ImportError:
        raise SystemExit("this example writes NIR files: pip install nir") from None
    torch.manual_seed(0)
    net = nn.Sequential(
        sn.layers.DelayLinear(20, 32, taps=16),
        sn.LIF(tau=2 + 6 * torch.rand(32), v_threshold=0.5),
        nn.Linear(32, 24),
        sn.layers.Recurrent(sn.neurons.CubaLIF(4.0, 2.0, 0.2), 24),
        nn.Linear(24, 5),
        sn.LeakyReadout(8.0),
    ).eval()
    x = (torch.rand(steps, 4, 20) < 0.2).float()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "network.nir"
        nir.write(path, to_nir(net, (20,), dt=1e-3))  # one step is a millisecond
        graph = nir.read(path)
        kinds = Counter(type(node).__name__ for node in graph.nodes.values())
        print(f"{path.stat().st_size / 1e3:.0f} kB: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
        back = from_nir(path)
        print(f"spikes in the hidden layers: {net[:2](x).mean():.3f} and {net[:4](x).mean():.3f} a step")
        print(f"the network that came back answers the same to the last bit: {torch.equal(back(x), net(x))}")
        part = nn.Sequential(nn.Linear(20, 32), sn.LIF(4.0, 0.2, decay_input=False))
        try:
            from spikingjelly.activation_based.nir_exchange import import_from_nir
        except ImportError:
            print("SpikingJelly is not installed, so it reads nothing here")
        else:
            theirs = import_from_nir(to_nir(part, (20,), dt=1e-3), dt=1e-3)
            z = part(x)
            print(f"SpikingJelly: {(stepped(theirs, x) == z).double().mean():.4%} of {z.numel()} outputs alike")


if __name__ == "__main__":
    main()
