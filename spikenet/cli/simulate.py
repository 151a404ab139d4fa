"""``spikenet simulate``: the reference networks, with rates, statistics and a raster."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

import torch

from spikenet.cli.options import parser_for
from spikenet.cli.screen import described, say, show_table
from spikenet.errors import UnknownNameError

_SETTLING = 0.2  # of the duration, left out of the statistics


def simulate(words: Sequence[str]) -> int:
    """Run a reference network: ``spikenet simulate microcircuit --scale 0.1``.

    Networks: microcircuit, brunel, cuba, coba, izhikevich; ``--help`` behind a name shows its options. Prints rate,
    variation of intervals and synchrony of every population; ``--raster FILE`` writes a picture, ``--snapshot FILE``
    saves the network while it runs, and ``--resume FILE`` goes on from there.
    """
    from spikenet.simulate import networks

    if not words or words[0] in ("-h", "--help"):
        say(described(simulate))
        return 0 if words else 2
    if words[0] not in networks.NETWORKS:
        raise UnknownNameError("network", words[0], networks.NETWORKS)
    function = networks.NETWORKS[words[0]]
    options = _options(words[0], function, words[1:])
    start = time.perf_counter()
    network = function(**options.network.as_dict()).to(options.device)
    built = time.perf_counter() - start
    neurons = sum(p.n for p in network.populations)
    say(f"{words[0]}: {neurons:,} neurons, {network.synapse_count:,} synapses, made in {built:.1f} s")
    if options.resume:
        network.load(options.resume)
        say(f"goes on at {network.time:g} ms")
    _run(network, options)
    return 0


def _options(name: str, function: Any, words: Sequence[str]) -> Any:
    from jsonargparse.typing import PositiveFloat

    about = described(function)
    parser = parser_for(f"spikenet simulate {name}", about)
    parser.add_argument("--duration", type=PositiveFloat, default=1000.0, help="ms")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, or cuda for a GPU")
    parser.add_argument("--raster", type=str | None, metavar="FILE", help="write a picture of the last 200 ms (PNG)")
    parser.add_argument(
        "--snapshot", type=str | None, metavar="FILE", help="save the network every second it has lived"
    )
    parser.add_argument("--resume", type=str | None, metavar="FILE", help="go on from a snapshot of the same network")
    for option, parameter in inspect.signature(function).parameters.items():
        if option in _PLAIN:
            parser.add_argument(f"--{option}", dest=f"network.{option}", type=_PLAIN[option], default=parameter.default)
    return parser.parse_args(list(words))


# Of a network's arguments those that can be written on a command line.
_PLAIN: dict[str, Any] = {
    "scale": float,
    "poisson": bool,
    "thalamus": float,
    "regime": str,
    "n": int,
    "p": float,
    "excitatory": int,
    "seed": int,
    "threads": int | None,
}


def _run(network: Any, options: Any) -> None:
    from spikenet.simulate import activity, draw_raster

    network.prepare()
    first, start = network.time, time.perf_counter()
    network.run(options.duration, progress=True, snapshot=options.snapshot)
    wall = time.perf_counter() - start
    factor = f"real-time factor {1000 * wall / options.duration:.3g}"
    where = f"{network.threads} thread(s)" if network.device.type == "cpu" else torch.cuda.get_device_name()
    say(f"{options.duration:g} ms in {wall:.2f} s, {where}: {factor}")
    if options.raster:  # first: a run may be too short for statistics
        draw_raster(network, options.raster)
        say(f"written: {options.raster}")
    found = activity(network, since=first + _SETTLING * options.duration)
    rows = [(name, f"{a.rate:.3f}", f"{a.cv:.2f}", f"{a.synchrony:.2f}") for name, a in found.items()]
    say(f"from {first + _SETTLING * options.duration:g} ms on:")
    show_table(("population", "rate (Hz)", "CV of intervals", "synchrony"), rows, numbers=range(1, 4))
