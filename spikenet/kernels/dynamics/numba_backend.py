"""Compile printed programs with Numba, once a machine, and run them on CPU tensors.

The source is a file in the user's cache, named after all that it follows from, so that Numba finds its compiled
form on disk the next time.
"""

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
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikenet.cache import cache_dir, write_atomically
from spikenet.kernels import buffers
from spikenet.kernels.dynamics.numba_text import BLOCK, Variant
from spikenet.kernels.dynamics.reference import CHUNK
from spikenet.kernels.dynamics.trace import ALPHA, Program
from spikenet.kernels.threads import over_lanes

_STORAGE = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_PRINTERS = ("trace.py", "reference.py", "derive.py", "numba_source.py", "numba_text.py", "numba_backend.py")


def why_not(program: Program, inputs: Sequence[Tensor], *_: Any) -> str | None:
    """Numba runs on dense CPU tensors of floating point."""
    x = inputs[0]
    if x.device.type != "cpu":
        return f"the Numba kernels run on the CPU, and the input is on {x.device}"
    if x.dtype not in _STORAGE:
        return f"the Numba kernels take {', '.join(_STORAGE.values())}, and the input is {x.dtype}"
    return None


def forward(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    keep: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """See `ops.dynamics`."""
    steps, lanes = _length(inputs), inputs[0].shape[1]
    x = inputs[0]
    z = buffers.empty((steps, lanes), x.dtype)
    before = _stacked(state, lanes, x)
    after = torch.empty_like(before)
    chunks = -(-steps // CHUNK) if keep else 0
    checkpoints = torch.empty((chunks, *before.shape), dtype=before.dtype)
    sequences = [buffers.empty((steps, lanes), before.dtype) for _ in state] if trace else []
    kernel = _compiled(program, "forward", Variant(_STORAGE[x.dtype], _shared(params), trace))
    arrays = [*map(_rows, inputs), before.numpy(), *map(_flat, params), np.array(spans, np.int64)]
    arrays += [_rows(z), after.numpy(), checkpoints.numpy(), *(q.numpy() for q in sequences)]
    key, step = _seed(rng)
    over_lanes(lambda start, stop: kernel(*arrays, key, step, start, stop), lanes, BLOCK, steps * lanes)
    return z, [torch.from_numpy(s.copy()) for s in after.numpy()], sequences, checkpoints


def backward(
    program: Program,
    inputs: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wants_params: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `ops.dynamics_backward`."""
    steps, lanes = gz.shape
    x = inputs[0]
    g_last = _stacked(g_state, lanes, x)
    gx = [buffers.empty((steps, lanes), x.dtype) for _ in inputs]
    gs = torch.empty_like(g_last)
    wanted = [m for m in program.params if m != ALPHA] if wants_params else []
    gp = torch.empty((len(wanted), lanes), dtype=g_last.dtype)
    kernel = _compiled(
        program, "backward", Variant(_STORAGE[x.dtype], _shared(params), bool(g_sequences), wants_params)
    )
    arrays = [*map(_rows, inputs), *map(_flat, params), np.array(spans, np.int64), checkpoints.numpy(), _uniform(gz)]
    arrays += [g_last.numpy(), *(q.contiguous().numpy() for q in g_sequences), *map(_rows, gx), gs.numpy(), gp.numpy()]
    key, step = _seed(rng)
    over_lanes(lambda start, stop: kernel(*arrays, steps, key, step, start, stop), lanes, BLOCK, steps * lanes)
    return gx, list(gs.unbind()), list(gp.unbind())


def _length(inputs: Sequence[Tensor]) -> int:
    return max(x.shape[0] for x in inputs)


def _stacked(state: Sequence[Tensor], lanes: int, x: Tensor) -> Tensor:
    """States as one [S, N] tensor of the kernel's precision.

    Copied by this thread alone: torch's copy would wake threads that go on spinning on the cores that the kernel needs.
    """
    stacked = buffers.empty((len(state), lanes), torch.float64 if x.dtype == torch.float64 else torch.float32)
    for row, s in zip(stacked.numpy(), state, strict=True):
        row[:] = s.detach().numpy()
    return stacked


def _rows(x: Tensor) -> np.ndarray:
    """[T, N] as contiguous rows; one row if all steps share it."""
    return _array(x[:1] if x.stride(0) == 0 and x.shape[0] > 1 else x)


def _uniform(gz: Tensor) -> np.ndarray:
    """A gradient that was expanded from one number (as `sum().backward()` makes it) is passed as that number."""
    return _array(gz[:1, :1] if gz.stride() == (0, 0) and gz.numel() else gz)


def _array(x: Tensor) -> np.ndarray:
    """Contiguous; half precision as its bits."""
    x = x.detach().contiguous()
    return x.view(torch.uint16).numpy() if x.dtype.itemsize == 2 else x.numpy()


def _flat(param: Tensor) -> np.ndarray:
    return param.detach().contiguous().numpy()


def _seed(rng: Tensor | None) -> tuple[int, int]:
    return (0, 0) if rng is None else (int(rng[0]), int(rng[1]))


def _shared(params: Sequence[Tensor]) -> bool:
    return all(p.numel() == 1 for p in params)


@functools.cache
def _compiled(program: Program, direction: str, variant: Variant) -> Callable[..., None]:
    """The compiled kernel of one variant; its source is printed only if the cache does not hold it yet."""
    flags = f"{variant.shared:d}{variant.trace:d}{variant.params:d}"
    name = f"{program.key}_{direction}_{variant.storage}_{flags}_{_printers_hash()}"
    path = _folder() / f"{name}.py"
    if not path.exists():
        write_atomically(path, _source(program, direction, variant).encode())
    spec = importlib.util.spec_from_file_location(f"spikenet_kernel_{name}", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[module.__name__] = module  # Numba's disk cache finds a function's globals by module name
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return getattr(module, direction)


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


def _source(program: Program, direction: str, variant: Variant) -> str:
    from spikenet.kernels.dynamics.numba_source import backward_source, forward_source  # sympy comes with it

    return (forward_source if direction == "forward" else backward_source)(program, variant)


@functools.cache
def _printers_hash() -> str:
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in _PRINTERS)).hexdigest()[:8]
