"""Compile printed programs with Numba, once a machine, and run them on CPU tensors.

The source is a file in the user's cache, named after all that it follows from, so that Numba finds its compiled
form on disk the next time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.dynamics.lanes import lane_sum
from spikenet.kernels.dynamics.numba_text import BLOCK, Variant
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.sources import load
from spikenet.kernels.threads import over_lanes

_STORAGE = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_PRINTERS = ("trace.py", "derive.py", "printer.py", "numba_source.py", "numba_text.py")


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
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
    """See `ops.dynamics`."""
    x = inputs[0]
    steps, lanes, real = len(x), x[0].numel(), params[0].dtype
    z = buffers.empty(x.shape, x.dtype)
    after = [buffers.empty(x.shape[1:], real) for _ in state] if final else []
    chunks = -(-steps // program.chunk) if keep else 1
    checkpoints = buffers.empty((chunks - 1, len(state), lanes), real)
    sequences = [buffers.empty(x.shape, real) for _ in state] if trace else []
    kernel = _compiled(program, "forward", Variant(_STORAGE[x.dtype], shared(params), trace))
    arrays = [*map(rows, inputs), *constants(state, params, spans), rows(z)]
    arrays += [*or_nothing(after, state, real), checkpoints.numpy(), *map(rows, sequences)]
    key, step = seed(rng)
    over_lanes(lambda start, stop: kernel(*arrays, key, step, start, stop), lanes, BLOCK, steps * lanes)
    return z, after, sequences, checkpoints if chunks > 1 else None


def backward(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor | None,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wanted: Sequence[int],
    wants_state: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `ops.dynamics_backward`."""
    x = inputs[0]
    steps, lanes, real = len(x), x[0].numel(), params[0].dtype
    gx = [buffers.empty(x.shape, x.dtype) for _ in inputs]
    gs = [buffers.empty(x.shape[1:], real) for _ in state] if wants_state else []
    gp = torch.empty((len(params) - 1 if wanted else 0, lanes), dtype=real)  # of all but the sharpness, if of any
    kernel = _compiled(program, "backward", Variant(_STORAGE[x.dtype], shared(params), bool(g_sequences), bool(wanted)))
    arrays = [*map(rows, inputs), *constants(state, params, spans)]
    arrays += gradients(state, checkpoints, gz, g_state, g_sequences, gx, gs, gp)
    key, step = seed(rng)
    over_lanes(lambda start, stop: kernel(*arrays, steps, key, step, start, stop), lanes, BLOCK, steps * lanes)
    return gx, gs, [lane_sum(gp[m], params[m], spans[m]) for m in wanted]


def constants(state: Sequence[Tensor], params: Sequence[Tensor], spans: Sequence[int]) -> list[np.ndarray]:
    """The arrays that stay as they are from step to step."""
    return [*map(_lanes, state), *map(_flat, params), np.array(spans, np.int64)]


def gradients(
    state: Sequence[Tensor],
    checkpoints: Tensor | None,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    gx: Sequence[Tensor],
    gs: Sequence[Tensor],
    gp: Tensor,
) -> list[np.ndarray]:
    """The arrays that the backward kernel takes besides those of the forward one."""
    saved = gp.new_empty((0, len(state), gp.shape[1])) if checkpoints is None else checkpoints
    given = [saved.numpy(), _uniform(gz), *or_nothing(g_state, state, gp.dtype)]
    given += [_array(q).reshape(len(gz), -1) for q in g_sequences]  # all rows are read, of a missing one too
    return [*given, *map(rows, gx), *or_nothing(gs, state, gp.dtype), gp.numpy()]


def rows(x: Tensor) -> np.ndarray:
    """[T, N] as contiguous rows; one row if all steps share it."""
    x = x[:1] if x.stride(0) == 0 and len(x) > 1 else x
    return _array(x).reshape(len(x), -1)


def _lanes(state: Tensor) -> np.ndarray:
    """[N], or one number that all lanes share."""
    state = state.detach()
    return state.as_strided((1,), (1,)).numpy() if not any(state.stride()) else state.contiguous().numpy().reshape(-1)


def or_nothing(tensors: Sequence[Tensor], state: Sequence[Tensor], real: torch.dtype) -> list[np.ndarray]:
    """One [N] for each state, or one empty array for each if there are no tensors."""
    return [t.detach().contiguous().view(-1).numpy() for t in tensors or [torch.empty(0, dtype=real)] * len(state)]


def _uniform(gz: Tensor) -> np.ndarray:
    """A gradient that was expanded from one number (as `sum().backward()` makes it) is passed as that number."""
    return _array(gz.as_strided((1, 1), (1, 1)) if not any(gz.stride()) and gz.numel() else gz.reshape(len(gz), -1))


def _array(x: Tensor) -> np.ndarray:
    """Contiguous; half precision as its bits."""
    x = x.detach().contiguous()
    return x.view(torch.uint16).numpy() if x.dtype.itemsize == 2 else x.numpy()


def _flat(param: Tensor) -> np.ndarray:
    return param.detach().contiguous().numpy()


def seed(rng: Tensor | None) -> tuple[int, int]:
    return (0, 0) if rng is None else (int(rng[0]), int(rng[1]))


def shared(params: Sequence[Tensor]) -> bool:
    return all(p.numel() == 1 for p in params)


@functools.cache
def _compiled(program: Program, direction: str, variant: Variant) -> Callable[..., None]:
    """The compiled kernel of one variant."""
    flags = f"{variant.shared:d}{variant.trace:d}{variant.params:d}"
    name = f"{program.key}_{direction}_{variant.storage}_{flags}"
    here = Path(__file__).parent
    module = load(name, functools.partial(_source, program, direction, variant), [here / p for p in _PRINTERS])
    return getattr(module, direction)


def _source(program: Program, direction: str, variant: Variant) -> str:
    from spikenet.kernels.dynamics.numba_source import backward_source, forward_source  # sympy comes with it

    return (forward_source if direction == "forward" else backward_source)(program, variant)
