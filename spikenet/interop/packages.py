"""Other libraries, imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from spikenet.errors import PackageError


def package(module: str) -> Any:
    """The module of that name, such as `spikingjelly.activation_based.neuron`.

    Raises:
        PackageError: if its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != name:
            raise  # it is there, and misses something of its own
        raise PackageError(f"this needs the package {name}, which is not installed: pip install {name}") from error
