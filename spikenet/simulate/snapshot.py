"""A network between two steps as one safetensors file."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spikenet.cache import write_atomically
from spikenet.errors import FormatError
from spikenet.kernels.simulate.engine import Engine

if TYPE_CHECKING:
    from spikenet.simulate.network import Network

FORMAT = "spikenet-network-1"


def save_snapshot(network: Network, engine: Engine, path: str | Path) -> None:
    """Write the step, states, spikes in flight, counts, and the monitors' content."""
    from safetensors.torch import save

    steps, rows = engine.in_flight()
    tensors = {"in_flight.steps": torch.from_numpy(steps), "in_flight.rows": torch.from_numpy(rows)}
    tensors["tally"] = torch.from_numpy(engine.tally.copy())
    for g, states in enumerate(engine.state()):
        tensors |= {f"state.{g}.{j}": torch.from_numpy(v) for j, v in enumerate(states)}
    for m, monitor in enumerate(network.monitors):
        tensors |= {f"monitor.{m}.{name}": t.contiguous().clone() for name, t in monitor.content().items()}
    if engine.plan.learning is not None:
        tensors |= {f"plastic.{k}": torch.from_numpy(v) for k, v in engine.plan.learning.state().items()}
    header = {"format": FORMAT, "network": fingerprint(network, engine), "step": engine.step}
    header["sha256"] = _digest(tensors)
    write_atomically(path, save(tensors, metadata={"spikenet": json.dumps(header)}))


def load_snapshot(network: Network, engine: Engine, path: str | Path) -> None:
    """Set the network to what `save_snapshot` wrote; nothing changes if the file does not fit."""
    header, tensors = _read(path)
    if header.get("format") != FORMAT or header.get("sha256") != _digest(tensors):
        raise FormatError(path, None, f"is not a whole snapshot of the format {FORMAT!r}")
    if header["network"] != fingerprint(network, engine):
        raise FormatError(path, None, "was written by another network: its parts, seed or dtype differ from this one's")
    states = [
        [tensors[f"state.{g}.{j}"].numpy() for j in range(len(group.state))]
        for g, group in enumerate(engine.plan.groups)
    ]
    engine.load_state(states)
    engine.resume(int(header["step"]), tensors["in_flight.steps"].numpy(), tensors["in_flight.rows"].numpy())
    engine.tally = tensors["tally"].numpy().copy()
    if engine.plan.learning is not None:
        engine.plan.learning.load({k: v.numpy() for k, v in _prefixed(tensors, "plastic.").items()})
    for m, monitor in enumerate(network.monitors):
        monitor.load(_prefixed(tensors, f"monitor.{m}."))


def fingerprint(network: Network, engine: Engine) -> str:
    """What has to be the same for a run to go on: equations, parameters, drives, connections, monitors."""
    plan, told = engine.plan, hashlib.sha256()
    told.update(repr((network.seed, np.dtype(plan.real).name, plan.scaled, plan.drives, plan.sources)).encode())
    told.update(_told([(p.name, p.rule, p.weight, p.delay, p.input, p.plasticity) for p in network.projections]))
    told.update(_told([source.content(network.dt) for source in network.sources]))
    cells = [*network.populations, *network.sources]
    told.update(_told([(type(m).__name__, cells.index(m.cells)) for m in network.monitors]))
    for group in plan.groups:
        told.update(f"{group.program.key} {group.lanes} {group.scales}".encode())
        for param in group.params:
            told.update(np.ascontiguousarray(param).tobytes())
    told.update(str(network.synapse_count).encode())
    return told.hexdigest()


def _prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _told(value: Any) -> bytes:
    """All of a value, arrays to the last number; of a function only that there is one."""
    if isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(value)
        return f"{array.dtype} {array.shape} ".encode() + array.tobytes()
    if dataclasses.is_dataclass(value):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return type(value).__name__.encode() + _told(fields)
    if isinstance(value, list | tuple):
        return b"(" + b",".join(map(_told, value)) + b")"
    return b"function" if inspect.isfunction(value) else repr(value).encode()


def _read(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(metadata["spikenet"]), tensors
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FormatError(path, None, f"cannot be read as a network's snapshot ({error})") from error


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
