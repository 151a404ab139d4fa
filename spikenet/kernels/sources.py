"""Generated source as files in the user's cache, so that what is compiled from them can be kept too."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from spikenet.cache import cache_dir, write_atomically


def load(name: str, print_source: Callable[[], str], printers: Sequence[Path]) -> ModuleType:
    """The generated module `name`, printed only if the cache does not hold it yet.

    Args:
        name: what the source follows from, as a file name.
        print_source: makes the source.
        printers: the files that printing depends on; a change of theirs makes another module.
    """
    name = f"{name}_{_digest(tuple(printers))}"
    path = _folder() / f"{name}.py"
    if not path.exists():
        write_atomically(path, print_source().encode())
    spec = importlib.util.spec_from_file_location(f"spikenet_kernel_{name}", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[module.__name__] = module  # Numba's disk cache finds a function's globals by module name
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


@functools.cache
def _digest(printers: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in printers)).hexdigest()[:8]


@functools.cache
def _folder() -> Path:
    """Where sources and compiled kernels are kept: the user's cache, or a temporary folder where that cannot be."""
    folder = cache_dir() / "kernels"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return folder
    warnings.warn(
        f"compiled kernels cannot be kept in {folder}: every process compiles its own. "
        "Set SPIKENET_CACHE to a folder that can be written.",
        stacklevel=2,
    )
    temporary = tempfile.mkdtemp(prefix="spikenet-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)
