"""The run folder: everything that a training run leaves behind, and all that a resume needs.

runs/digits-dvs-seed0-001/
  config.yaml         every option of the run, resolved
  environment.json    versions, threads, CPU count
  metrics.csv         one row per epoch
  checkpoints/        epoch-0012.safetensors: the last two epochs and the best one by validation accuracy
  model.safetensors   final weights: those of the last epoch, no selection
  results.json        test accuracy, confusion, firing rates, energy
  report.html         all of it as one page
"""

from __future__ import annotations

import json
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from spikenet.cache import write_atomically
from spikenet.errors import RunError

WEIGHTS_RULE = "weights of the last epoch (no epoch is selected)"
_PACKAGES = (
    "spikenet",
    "torch",
    "numpy",
    "numba",
    "lightning",
    "torchmetrics",
    "jsonargparse",
    "safetensors",
    "h5py",
    "scikit-learn",
)


class RunFolder:
    """Paths of one run.

    Args:
        path: the folder. Use `create` for a new run, `open` for one that exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.csv"
        self.weights = path / "model.safetensors"
        self.results = path / "results.json"
        self.report = path / "report.html"

    @classmethod
    def create(cls, out: str | Path, name: str, config: str) -> RunFolder:
        """Make the next free folder ``out/name-NNN``; an existing run is never touched.

        Args:
            out: folder that holds the runs.
            name: name of this run.
            config: resolved options, YAML.
        """
        return cls(_next_free(Path(out), name))._begun(config)

    @classmethod
    def at(cls, path: str | Path, config: str) -> RunFolder:
        """The run in this very folder: begun with these options, unless it was before.

        Args:
            path: the folder.
            config: resolved options, YAML, of a run that is new.
        """
        folder = cls(Path(path))
        return folder if folder.config.is_file() else folder._begun(config)

    def _begun(self, config: str) -> RunFolder:
        """What stands in the folder before the first epoch; the options come last and say that the rest is there."""
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "environment.json", (json.dumps(environment(), indent=2) + "\n").encode())
        write_atomically(self.config, config.encode())
        return self

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """A run that exists.

        Raises:
            RunError: the folder is missing or not a run.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise RunError(f"{path} is not a folder; give the run folder that `spikenet train` printed.")
        if not folder.config.is_file() or not (folder.path / "checkpoints").is_dir():
            raise RunError(f"{path} is not a run folder: config.yaml and checkpoints/ are needed.")
        return folder

    def checkpoint(self, epoch: int) -> Path:
        """Where the checkpoint after `epoch` complete epochs belongs."""
        return self.path / "checkpoints" / f"epoch-{epoch:04d}.safetensors"

    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints at hand, by the number of complete epochs, ascending."""
        found = [
            path
            for path in (self.path / "checkpoints").iterdir()
            if re.fullmatch(r"epoch-\d{4,}\.safetensors", path.name)
        ]
        return dict(sorted((int(path.stem.split("-")[1]), path) for path in found))

    def environment(self) -> dict[str, Any]:
        """What ``environment.json`` says."""
        return json.loads((self.path / "environment.json").read_text())


def environment() -> dict[str, Any]:
    """Versions, threads and processors of this process; nothing that names the machine or its user."""
    import torch

    versions = {name: _version(name) for name in _PACKAGES}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": devices,
        "versions": {name: version for name, version in versions.items() if version},
    }


def _next_free(out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        path = out / f"{name}-{number:03d}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise RunError(f"{out} holds 9999 runs named {name}; remove some or choose another --out.")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
