"""The recurrent scan on the CPU: one Numba kernel for all steps, or a product and the neuron's kernel each step.

The first wins while `W` stays in the second-level cache: it has no cost a step but the work, and forward its work is in
proportion to the spikes. Which of the two runs depends on the dtype and the features alone, so that chunks agree.
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
from spikenet.kernels.dynamics import numba_backend as dynamics
from spikenet.kernels.dynamics.lanes import lane_sum
from spikenet.kernels.dynamics.numba_backend import rows
from spikenet.kernels.dynamics.numba_text import BLOCK, Variant
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.recurrent import steps as by_steps
from spikenet.kernels.sources import load
from spikenet.kernels.threads import over_lanes

FEATURES = BLOCK // 2  # up to which one kernel goes through all steps
_STORAGE = {torch.float32: "float32", torch.float64: "float64"}
_PRINTERS = ("trace.py", "derive.py", "printer.py", "numba_source.py", "numba_text.py", "../recurrent/numba_source.py")


def _fused(weight: Tensor) -> bool:
    return weight.dtype in _STORAGE and len(weight) <= FEATURES


def forward(
    program: Program,
    inputs: Sequence[Tensor],
    into: int,
    weight: Tensor,
    z: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    keep: bool,
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """See `ops.recurrent`."""
    if not _fused(weight):
        return by_steps.forward(
            dynamics.forward, program, inputs, into, weight, z, state, params, spans, rng, keep, final, trace
        )
    x, real = inputs[into], params[0].dtype
    out = buffers.empty(x.shape, x.dtype)
    total = buffers.empty(x.shape if keep else (1, *x.shape[1:]), x.dtype)
    after = [buffers.empty(x.shape[1:], real) for _ in state] if final else []
    sequences = [buffers.empty(x.shape, real) for _ in state] if trace else []
    seen = [total if k == into else i for k, i in enumerate(inputs)]
    arrays = [*map(rows, seen), *dynamics.constants(state, params, spans), rows(out)]
    arrays += [*dynamics.or_nothing(after, state, real), np.empty((0, len(state), 1), _STORAGE[real])]
    arrays += [*map(rows, sequences), rows(x), weight.detach().T.contiguous().numpy(), z.detach().reshape(-1).numpy()]
    kernel = _compiled(program, "forward", Variant(_STORAGE[x.dtype], dynamics.shared(params), trace), into)
    _over_entries(kernel, arrays, rng, x)
    return out, after, sequences, total if keep else x.new_empty(0)


def backward(
    program: Program,
    inputs: Sequence[Tensor],
    into: int,
    weight: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor | None,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wanted: Sequence[int],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `ops.recurrent_backward`."""
    rest = (program, inputs, into, weight, state, params, spans, rng, checkpoints, gz, g_state, g_sequences)
    if not _fused(weight):
        return by_steps.backward(dynamics.forward, dynamics.backward, *rest, wanted)
    x, real = inputs[into], params[0].dtype
    gx = [buffers.empty(x.shape, x.dtype) for _ in inputs]
    gs = [buffers.empty(x.shape[1:], real) for _ in state]
    gp = torch.empty((len(params) - 1 if wanted else 0, x[0].numel()), dtype=real)
    variant = Variant(_STORAGE[x.dtype], dynamics.shared(params), bool(g_sequences), bool(wanted))
    arrays: list[Any] = [*map(rows, inputs), *dynamics.constants(state, params, spans)]
    arrays += dynamics.gradients(state, checkpoints, gz, g_state, g_sequences, gx, gs, gp)
    arrays += [len(x), weight.detach().contiguous().numpy()]
    _over_entries(_compiled(program, "backward", variant, into), arrays, rng, x)
    return gx, gs, [lane_sum(gp[m], params[m], spans[m]) for m in wanted]


def _over_entries(kernel: Callable[..., None], arrays: list[Any], rng: Tensor | None, x: Tensor) -> None:
    """Whole batch entries, as many at once as a block holds."""
    features, lanes = x.shape[-1], x[0].numel()
    width = BLOCK // features * features
    key, step = dynamics.seed(rng)
    over_lanes(
        lambda start, stop: kernel(*arrays, features, width, key, step, start, stop), lanes, width, x.numel() * features
    )


@functools.cache
def _compiled(program: Program, direction: str, variant: Variant, into: int) -> Callable[..., None]:
    flags = f"{variant.shared:d}{variant.trace:d}{variant.params:d}{into}"
    name = f"{program.key}_recurrent_{direction}_{variant.storage}_{flags}"
    here = Path(dynamics.__file__).parent
    module = load(name, functools.partial(_source, program, direction, variant, into), [here / p for p in _PRINTERS])
    return getattr(module, direction)


def _source(program: Program, direction: str, variant: Variant, into: int) -> str:
    from spikenet.kernels.recurrent.numba_source import backward_source, forward_source  # sympy comes with it

    return (forward_source if direction == "forward" else backward_source)(program, variant, into)
