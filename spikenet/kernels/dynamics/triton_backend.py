"""Compile printed programs with Triton and run them on CUDA tensors, or on CPU tensors in Triton's interpreter.

The source is a file in the user's cache; Triton keeps what it compiles from it in a cache of its own.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.backends import forced
from spikenet.kernels.dynamics.lanes import lane_sum
from spikenet.kernels.dynamics.trace import ALPHA, Program
from spikenet.kernels.dynamics.triton_text import Variant
from spikenet.kernels.sources import load

STORAGE = (torch.float32, torch.float16, torch.bfloat16)
_PRINTERS = ("trace.py", "derive.py", "triton_source.py", "triton_text.py")


def why_not(program: Program, inputs: Sequence[Tensor], *_: Any) -> str | None:
    """Triton runs on CUDA tensors; on CPU tensors only in its interpreter, and only if it is forced."""
    x = inputs[0]
    if x.device.type != "cuda" and not (interpreted() and forced() == "triton"):
        return f"the Triton kernels run on CUDA devices, and the input is on {x.device}"
    if x.dtype not in STORAGE:
        return f"the Triton kernels take float32, float16 or bfloat16, and the input is {x.dtype}"
    if x.numel() >= 2**31 * max(len(x), 1):
        return f"the Triton kernels take fewer than 2^31 lanes, and the input has {x.numel() // len(x)}"
    return None if _installed() else "Triton is not installed"


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


class Rows(NamedTuple):
    """A sequence [T, *lanes] as a kernel sees it: lane n of step t lies `time * t + outer * (n // inner) + near *
    (n % inner)` elements from the start."""

    tensor: Tensor
    time: int
    inner: int
    outer: int
    near: int

    @property
    def flat(self) -> bool:
        """Whether the lanes of a step lie one after another."""
        return self.near == 1 and (self.outer == self.inner or self.outer == 0)


def rows(x: Tensor) -> Rows:
    """`x` without a copy, if its lanes lie in at most two dimensions; else a contiguous copy's rows."""
    lanes = math.prod(x.shape[1:])
    if x.is_contiguous():
        return Rows(x, lanes, lanes, 0, 1)
    groups: list[tuple[int, int]] = []  # (size, stride), the last dimension first, neighbours that run on merged
    for size, stride in zip(reversed(x.shape[1:]), reversed(x.stride()[1:]), strict=True):
        if size == 1:
            continue
        if groups and stride == groups[-1][0] * groups[-1][1]:
            groups[-1] = (groups[-1][0] * size, groups[-1][1])
        else:
            groups.append((size, stride))
    if len(groups) > 2:
        return Rows(x.contiguous(), lanes, lanes, 0, 1)
    (inner, near), (_, outer) = (*groups, *[(lanes, 1 if not groups else 0)] * 2)[:2]
    return Rows(x, x.stride(0), inner, outer, near)


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
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """See `ops.dynamics`."""
    x = inputs[0]
    sequences = [rows(i) for i in inputs]
    call = _Call(program, "forward", x, sequences, state, params, spans, keep=keep, final=final, trace=trace)
    z = torch.empty_like(x, memory_format=torch.contiguous_format)
    shape, real = x.shape, torch.float32
    after = [x.new_empty(shape[1:], dtype=real) for _ in state] if final else []
    checkpoints = x.new_empty((call.chunks - 1 if keep else 0, len(state), call.lanes), dtype=real)
    traced = [x.new_empty(shape, dtype=real) for _ in state] if trace else []
    kept = [checkpoints] if keep and call.variant.loop else []
    drawn = [rng] if program.draws else []
    call.launch([*call.given, z, *after, *kept, *traced, *drawn, *call.numbers])
    return z, after, traced, checkpoints


def backward(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wants_params: bool,
    wants_state: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `ops.dynamics_backward`."""
    x = inputs[0]
    sequences = [*(rows(i) for i in inputs), rows(gz)]
    flags = {"final": bool(g_state), "trace": bool(g_sequences), "params": wants_params, "initial": wants_state}
    call = _Call(program, "backward", x, sequences, state, params, spans, **flags)
    gx = [torch.empty_like(i, memory_format=torch.contiguous_format) for i in inputs]
    gs = [x.new_empty(x.shape[1:], dtype=torch.float32) for _ in state] if wants_state else []
    wanted = [m for m in program.params if m != ALPHA] if wants_params else []
    spread = any(call.variant.spread)
    sums = (len(wanted), call.lanes) if spread else (call.blocks, len(wanted))
    gp = [x.new_empty(sums, dtype=torch.float32)] if wanted else []
    kept = [checkpoints] if call.variant.loop else []
    after, traced = ([g.contiguous() for g in gs_] for gs_ in (g_state, g_sequences))
    drawn = [rng] if program.draws else []
    call.launch([*call.given, *kept, sequences[-1].tensor, *after, *traced, *gx, *gs, *gp, *drawn, *call.numbers])
    if not wanted:
        return gx, gs, []
    if not spread:
        return gx, gs, list(gp[0].sum(0).view(-1, 1).unbind())
    return gx, gs, [lane_sum(g, p, span) for g, p, span in zip(gp[0], params, spans, strict=False)]


class _Call:
    """One launch: the variant that fits the tensors, and the arguments that both directions share."""

    def __init__(
        self,
        program: Program,
        direction: str,
        x: Tensor,
        sequences: Sequence[Rows],
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        spans: Sequence[int],
        **flags: bool,
    ) -> None:
        steps, lanes = len(x), x.numel() // len(x)
        span = program.chunk if steps >= program.chunk else min(1 << (steps - 1).bit_length(), program.chunk)
        strided = not all(q.flat for q in sequences)
        uniform = all(s.numel() == 1 or not any(s.stride()) for s in state)
        state = state if uniform else [s.contiguous() for s in state]
        aligned = not strided and lanes % 16 == 0 and all(q.time % 16 == 0 for q in sequences)
        aligned = aligned and not any(q.tensor.data_ptr() % 16 for q in sequences)
        aligned = aligned and (uniform or not any(s.data_ptr() % 16 for s in state))
        self.steps, self.lanes, self.chunks = steps, lanes, -(-steps // span)
        self.variant = Variant(
            span=span,
            loop=self.chunks > 1,
            full=steps % span == 0,
            spread=tuple(p.numel() > 1 for p in params),
            strided=strided,
            aligned=aligned,
            uniform=uniform,
            interpreted=interpreted(),
            **flags,
        )
        self.block, self.warps = shape(direction, span, steps, lanes, x.element_size())
        self.blocks = -(-lanes // self.block)
        self.given = [*(q.tensor for q in sequences[: len(program.inputs)]), *state, *params]
        unit = 16 if aligned else 1
        spread = [n for p, span in zip(params, spans, strict=True) if p.numel() > 1 for n in (span, p.numel())]
        strides = [n for q in sequences for n in ((q.time, q.inner, q.outer, q.near) if strided else (q.time // unit,))]
        self.numbers = [lanes // unit, steps, *spread, *strides]
        self.program, self.direction, self.device = program, direction, x.device
        self.dtype = x.dtype

    def launch(self, arguments: list[Any]) -> None:
        if self.variant.interpreted:
            kernel = _kernel(self.program, self.direction, self.variant)
            kernel[(self.blocks,)](*arguments, BLOCK=self.block)
            return
        if self.device.index != torch.cuda.current_device():
            with torch.cuda.device(self.device):
                self._launch(arguments)
        else:
            self._launch(arguments)

    def _launch(self, arguments: list[Any]) -> None:
        """Straight to the compiled kernel: Triton's own way there costs several times as much host time."""
        key = (self.program, self.direction, self.variant, self.dtype, self.block, self.warps, self.device.index)
        compiled = _compiled.get(key)
        if compiled is None:
            kernel = _kernel(self.program, self.direction, self.variant)
            _compiled[key] = kernel[(self.blocks,)](
                *arguments, BLOCK=self.block, num_warps=self.warps, enable_fp_fusion=False
            )
            return
        stream = torch._C._cuda_getCurrentRawStream(self.device.index)
        compiled[(self.blocks, 1, 1)](*arguments, self.block, stream=stream)


_compiled: dict[tuple[Any, ...], Any] = {}


def shape(direction: str, span: int, steps: int, lanes: int, itemsize: int) -> tuple[int, int]:
    """Lanes a block, and warps: small blocks while lanes are few, so that all multiprocessors have work."""
    if interpreted():
        return 64, 1
    return 128, 1


@functools.cache
def _kernel(program: Program, direction: str, variant: Variant) -> Any:
    flags = hashlib.sha256(repr(variant).encode()).hexdigest()[:8]
    name = f"{program.key}_triton_{direction}_{flags}"
    here = Path(__file__).parent
    module = load(name, functools.partial(_source, program, direction, variant), [here / p for p in _PRINTERS])
    return getattr(module, direction)


def _source(program: Program, direction: str, variant: Variant) -> str:
    from spikenet.kernels.dynamics.triton_source import source  # sympy comes with it

    return source(program, direction, variant)
