"""``spikenet export``, ``convert`` and ``import``: trained networks to NIR and integer files, ANNs to SNNs, and a look
at what came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikenet.cli.options import parser_for
from spikenet.cli.runs import Run, stored
from spikenet.cli.screen import described, say, show_table
from spikenet.errors import ArgumentError, DataError, UnknownNameError

_FORMATS = {".nir": "a NIR graph", ".json": "an integer file (and .safetensors beside it)"}
_GRIDS = ("integers", "ternary", "powers-of-two")


def export(words: Sequence[str]) -> int:
    """Write the network of a finished run as a NIR graph or an integer file: ``spikenet export RUN_FOLDER FILE``.

    ``FILE.nir`` holds everything but the readout over time, which NIR has no node for; ``--dt`` is the length of a step
    in seconds, by default that of the data. ``FILE.json`` holds weights of few bits (``--grid``, ``--bits``), with
    FILE.safetensors beside it; how well it does on the test part, and at what energy, is said.
    """
    options = _parsed("export", words, export, file=True)
    run = _finished(options.run)
    if _suffix(options.file) == ".nir":
        return _write_nir(run, options)
    net = _sequence(run.model)
    say(f"in float: {_told(run.test())}")
    return _write_integers(run, net, 0, options)


def convert(words: Sequence[str]) -> int:
    """Turn the trained ANN of a run into a spiking network: ``spikenet convert RUN_FOLDER [FILE.json] --steps 8``.

    The run's network is an ``nn.Sequential``: first, if need be, what makes one frame ``[1, B, ...]`` of the events,
    then the layers that ``spikenet.interop.to_spiking`` knows. Thresholds are calibrated on the training part
    (``--percentile``). Accuracies on the test part and energies are said, and with a FILE the spiking network is
    written with weights of few bits, as ``spikenet export`` does it.
    """
    options = _parsed("convert", words, convert, file=False)
    if options.file and _suffix(options.file) == ".nir":
        raise ArgumentError(
            "a converted network subtracts its threshold after a spike, and NIR only resets: FILE.json."
        )
    run = _finished(options.run)
    front, spiking = _converted(run, options.percentile)
    say(f"as an ANN: {_told(run.test())}")
    say(f"spiking, in {options.steps} steps: {_told(_tested(run, front, spiking, options.steps))}")
    return _write_integers(run, spiking, options.steps, options, front) if options.file else 0


def import_(words: Sequence[str]) -> int:
    """Read a NIR graph or an integer file and say what it is: ``spikenet import FILE.nir`` or ``FILE.json``.

    ``--dt`` is the length of a step in seconds, where the graph does not say it. In Python it is
    ``spikenet.interop.from_nir(FILE, dt=...)``, or ``IntegerNetwork(FILE)``.
    """
    from spikenet.interop import IntegerNetwork, from_nir

    parser = parser_for("spikenet import", described(import_))
    parser.add_argument("file", type=str, help=", ".join(_FORMATS))
    parser.add_argument("--dt", type=float | None, help="seconds a step")
    options = parser.parse_args(list(words))
    suffix = _suffix(options.file)
    if not Path(options.file).is_file():
        raise DataError(f"{options.file} does not exist.")
    if suffix == ".json":
        found = IntegerNetwork(options.file).layers
        rows = [(str(n), layer["kind"], _sizes(layer), _settings(layer)) for n, layer in enumerate(found)]
    else:
        net = from_nir(options.file, dt=options.dt)
        modules = [
            (name, m) for name, m in net.named_modules() if name and (not list(m.children()) or hasattr(m, "run"))
        ]
        rows = [(name, type(m).__name__, f"{_numbers(m):,}", m.extra_repr()) for name, m in modules]
        edges: Any = getattr(net, "edges", ())
        if edges:
            say("edges: " + ", ".join(f"{a} -> {b}" for a, b in edges))
    show_table(("layer", "kind", "numbers", "settings"), rows, (2,))
    return 0


def _parsed(name: str, words: Sequence[str], command: Any, file: bool) -> Any:
    from jsonargparse.typing import PositiveInt

    parser = parser_for(f"spikenet {name}", described(command))
    parser.add_argument("run", type=str, help="the folder of a finished run")
    parser.add_argument("file", type=str, nargs=None if file else "?", help=", ".join(_FORMATS))
    parser.add_argument("--grid", type=str, default="integers", help=f"of the weights: {', '.join(_GRIDS)}")
    parser.add_argument("--bits", type=PositiveInt, default=8, help="of a weight; ternary ones have no choice")
    parser.add_argument("--state_bits", type=PositiveInt, default=16, help="of a potential")
    if file:
        parser.add_argument("--dt", type=float | None, help="seconds a step, for NIR")
    else:
        parser.add_argument("--steps", type=PositiveInt, default=8, help="time steps of the spiking network")
        parser.add_argument("--percentile", type=float, default=100.0, help="of the activations, for the thresholds")
    options = parser.parse_args(list(words))
    if options.file and not (folder := Path(options.file).parent).is_dir():
        raise ArgumentError(f"{options.file} cannot be written: there is no folder {folder}.")
    return options


def _suffix(file: str) -> str:
    suffix = Path(file).suffix
    if suffix not in _FORMATS:
        raise UnknownNameError("kind of file", suffix, _FORMATS)
    return suffix


def _finished(folder: str) -> Run:
    run = stored(folder)
    run.load()
    run.model.eval()
    return run


def _write_nir(run: Run, options: Any) -> int:
    from torch import nn

    from spikenet.interop import fold_batch_norm, to_nir
    from spikenet.interop.packages import package

    body: Any = getattr(run.model, "body", run.model)
    body = fold_batch_norm(body) if isinstance(body, nn.Sequential) else body
    dt = options.dt or getattr(run.data, "dt_us", 0) / 1e6 or None
    graph = to_nir(body, run.data.feature_shape, dt=dt)
    package("nir").write(options.file, graph)
    if hasattr(run.model, "readout"):
        say(f"left out, as NIR has no node for it: {type(run.model.readout).__name__}")
    step = graph.metadata["spikenet"]["dt"]
    say(f"written: {options.file}, {len(graph.nodes)} nodes, {len(graph.edges)} edges, steps of {step:g} s")
    return 0


def _sequence(model: Any) -> Any:
    """Body and readout as one sequence, from dense input on."""
    from torch import nn

    from spikenet.layers import ToDense

    body = getattr(model, "body", model)
    if not isinstance(body, nn.Sequential):
        raise ArgumentError(f"{type(model).__name__} is no sequence of layers, which alone can be written as integers.")
    layers = [layer for layer in body if not isinstance(layer, ToDense)]
    return nn.Sequential(*layers, *([model.readout] if hasattr(model, "readout") else []))


def _write_integers(run: Run, net: Any, steps: int, options: Any, front: Any = None) -> int:
    from spikenet.interop import save_integers

    if getattr(run.data, "steps", 1) is None:
        raise ArgumentError("the readout of an integer file knows no lengths: train with --data.steps.")
    few = _quantized(net, options)
    save_integers(few, options.file)
    say(f"in few bits: {_told(_tested(run, front, few, steps))}")
    say(f"written: {options.file}, {Path(options.file).with_suffix('.safetensors')}")
    return 0


def _quantized(net: Any, options: Any) -> Any:
    from spikenet.interop import Integers, PowersOfTwo, Ternary, quantized

    makes: dict[str, Any] = {"integers": Integers, "ternary": lambda bits: Ternary(), "powers-of-two": PowersOfTwo}
    if options.grid not in makes:
        raise UnknownNameError("grid", options.grid, makes)
    return quantized(net, makes[options.grid](options.bits), state_bits=options.state_bits).eval()


def _converted(run: Run, percentile: float) -> tuple[Any, Any]:
    """What makes frames of events, and the spiking network behind it."""
    import torch
    from torch import nn

    from spikenet.interop import to_spiking
    from spikenet.layers import MeanReadout

    net = list(run.model) if isinstance(run.model, nn.Sequential) else []
    weighted = [n for n, layer in enumerate(net) if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    if not weighted:
        raise ArgumentError(f"{type(run.model).__name__} is no nn.Sequential of an ANN's layers, such as nn.ReLU.")
    front = nn.Sequential(*net[: weighted[0]])
    ann = [layer for layer in net[weighted[0] :] if not isinstance(layer, MeanReadout)]
    with torch.inference_mode():
        frames = torch.cat([front(x) for x, _ in run.data.train_dataloader()], 1)
    return front, to_spiking(nn.Sequential(*ann), frames.clone(), percentile=percentile)


def _told(result: Any) -> str:
    """How good a network is on the test part, and what it costs."""
    from spikenet.energy import StepStyle

    spent = StepStyle()(result.work).total / 1e3
    return f"{result.accuracy:.2%} of the test part, {spent:,.1f} nJ a sample (step-style)"


def _tested(run: Run, front: Any, net: Any, steps: int) -> Any:
    """The evaluation on the test part; behind a front each frame is shown for so many steps."""
    from torch import nn

    from spikenet.training import evaluate

    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            if front is None:
                return self.net(x.to_dense())
            frame = front(x)
            return self.net(frame.expand(steps, *frame.shape[1:]))

    return evaluate(Shown().eval(), run.data.test_dataloader(), len(run.data.classes))


def _numbers(module: Any) -> int:
    return sum(each.numel() for each in (*module.parameters(), *module.buffers()))


def _sizes(layer: Any) -> str:
    return f"{sum(each.size for each in layer.values() if hasattr(each, 'size')):,}"


def _settings(layer: Any) -> str:
    told = {
        name: f"{each.dtype} {list(each.shape)}" if hasattr(each, "dtype") else each for name, each in layer.items()
    }
    return ", ".join(f"{name}={value}" for name, value in told.items() if name != "kind")
