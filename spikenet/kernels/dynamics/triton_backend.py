"""Compile printed programs with Triton and run them on CUDA tensors, or on CPU tensors in Triton's interpreter.

The source is a file in the user's cache; Triton keeps what it compiles from it in a cache of its own.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.dynamics.lanes import lane_sum
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.dynamics.triton_text import Variant
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted, why_not_on

STORAGE = (torch.float32, torch.float16, torch.bfloat16)
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def why_not(program: Program, inputs: Sequence[Tensor], *_: Any) -> str | None:
    """Triton runs on CUDA tensors of up to 32 bits."""
    x = inputs[0]
    reason = why_not_on(x)
    if reason is None and x.dtype not in STORAGE:
        reason = f"the Triton kernels take float32, float16 or bfloat16, and the input is {x.dtype}"
    if reason is None and x.numel() >= 2**31 * len(x):
        reason = f"the Triton kernels take fewer than 2^31 lanes, and the input has {x.numel() // len(x)}"
    return reason


class Rows(NamedTuple):
    """A sequence [T, *lanes] as a kernel sees it: lane n of step t lies `time * t + outer * (n // inner) + near *
    (n % inner)` elements from the start. `flat`: the lanes of a step lie one after another."""

    tensor: Tensor
    time: int
    inner: int
    outer: int
    near: int
    flat: bool


def rows(x: Tensor) -> Rows:
    """`x` without a copy, if its lanes lie in at most two dimensions; else a contiguous copy's rows."""
    lanes = math.prod(x.shape[1:])
    groups: list[tuple[int, int]] = []  # (size, stride), the last dimension first, neighbours that run on merged
    for size, stride in zip(reversed(x.shape[1:]), reversed(x.stride()[1:]), strict=True):
        if size == 1:
            continue
        if groups and stride == groups[-1][0] * groups[-1][1]:
            groups[-1] = (groups[-1][0] * size, groups[-1][1])
        else:
            groups.append((size, stride))
    if len(groups) > 2:
        return rows(x.contiguous())
    if len(groups) == 2:
        (inner, near), (_, outer) = groups
        return Rows(x, x.stride(0), inner, outer, near, False)
    near = groups[0][1] if groups else 1
    return Rows(x, x.stride(0), lanes, 0, near, near == 1)


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
    x, real = inputs[0], torch.float32
    plan = _plan(program, "forward", inputs, state, params, spans, (keep, final, trace, False), ())
    z = _like(x)
    after = [x.new_empty(x.shape[1:], dtype=real) for _ in state] if final else []
    traced = [x.new_empty(x.shape, dtype=real) for _ in state] if trace else []
    kept = plan.checkpoints(x) if keep else []
    plan.launch([*plan.sequences(inputs), *plan.states(state), *params, z, *after, *kept, *traced], rng)
    return z, after, traced, kept[0] if kept else None


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
    x, real = inputs[0], torch.float32
    flags = (False, bool(g_state), bool(g_sequences), wants_state)
    plan = _plan(program, "backward", [*inputs, gz], state, params, spans, flags, tuple(wanted))
    gx = [_like(i) for i in inputs]
    gs = [x.new_empty(x.shape[1:], dtype=real) for _ in state] if wants_state else []
    spread = any(plan.variant.spread[m] for m in wanted)
    sums = (len(wanted), plan.lanes) if spread else (plan.blocks, len(wanted))
    gp = [x.new_empty(sums, dtype=real)] if wanted else []
    kept = [] if checkpoints is None else [checkpoints]
    *sequences, gz = plan.sequences([*inputs, gz])
    given = [g.contiguous() for g in (*g_state, *g_sequences)]
    plan.launch([*sequences, *plan.states(state), *params, *kept, gz, *given, *gx, *gs, *gp], rng)
    if not wanted:
        return gx, gs, []
    if spread:
        return gx, gs, [lane_sum(g, params[m], spans[m]) for g, m in zip(gp[0], wanted, strict=True)]
    return gx, gs, [g.view(params[m].shape) for g, m in zip(gp[0].sum(0), wanted, strict=True)]


class Bound:
    """Both kernels with values that stay as they are, for the output and the gradients of the inputs alone.

    Args:
        program: draws nothing.
        inputs: all that follow have their shape, dtype and device; the layout in memory may differ.
        state, params, spans: as `ops.scan` takes them.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[Tensor],
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        spans: Sequence[int],
    ) -> None:
        self._given = state, params, spans
        self._program = program
        self._plans: dict[tuple[Any, ...], tuple[_Plan, list[Tensor]]] = {}

    def _at(self, direction: str, keep: bool, sequences: Sequence[Tensor]) -> tuple[_Plan, list[Tensor]]:
        key = (direction, keep, *[(q.stride(), q.data_ptr() % 16) for q in sequences])
        found = self._plans.get(key)
        if found is None:
            plan = _plan(self._program, direction, sequences, *self._given, (keep, False, False, False), ())
            found = self._plans[key] = plan, [*plan.states(self._given[0]), *self._given[1]]
        return found

    def forward(self, inputs: Sequence[Tensor], keep: bool) -> tuple[Tensor, Tensor | None]:
        """The output, and the checkpoints if `keep` and there are any."""
        plan, values = self._at("forward", keep, inputs)
        z = _like(inputs[0])
        kept = plan.checkpoints(inputs[0]) if keep else []
        plan.launch([*plan.sequences(inputs), *values, z, *kept], None)
        return z, kept[0] if kept else None

    def backward(self, inputs: Sequence[Tensor], checkpoints: Tensor | None, gz: Tensor) -> list[Tensor]:
        """The gradients of the inputs."""
        plan, values = self._at("backward", False, (*inputs, gz))
        gx = [_like(x) for x in inputs]
        *sequences, gz = plan.sequences((*inputs, gz))
        kept = () if checkpoints is None else (checkpoints,)
        plan.launch([*sequences, *values, *kept, gz, *gx], None)
        return gx


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x) if x.is_contiguous() else torch.empty(x.shape, dtype=x.dtype, device=x.device)


Flags = tuple[bool, bool, bool, bool]  # keep, final, trace, wants_state
_plans: dict[tuple[Any, ...], _Plan] = {}
PLANS = 1024  # kept; with ever new shapes they would fill the memory


def _plan(
    program: Program,
    direction: str,
    sequences: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    flags: Flags,
    wanted: tuple[int, ...],
) -> _Plan:
    """How to launch a kernel on tensors like these: worked out once, since it takes longer than the launch."""
    x = sequences[0]
    layouts = tuple((q.is_contiguous() or q.stride(), q.data_ptr() % 16) for q in sequences)
    states = tuple((s.stride(), s.data_ptr() % 16) for s in state)
    key = (
        program,
        direction,
        x.shape,
        x.dtype,
        x.device,
        layouts,
        states,
        flags,
        wanted,
        *spans,
        *(p.numel() for p in params),
    )
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= PLANS:
            _plans.clear()
        plan = _plans[key] = _Plan(program, direction, sequences, state, params, spans, flags, wanted)
    return plan


class _Plan:
    """The variant that fits some tensors, its grid, its integer arguments, and its compiled kernel."""

    def __init__(
        self,
        program: Program,
        direction: str,
        sequences: Sequence[Tensor],
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        spans: Sequence[int],
        flags: Flags,
        wanted: tuple[int, ...],
    ) -> None:
        x, laid = sequences[0], [rows(q) for q in sequences]
        steps, lanes = len(x), x.numel() // len(x)
        span = program.chunk if steps >= program.chunk else min(1 << (steps - 1).bit_length(), program.chunk)
        strided = not all(q.flat for q in laid)
        self.uniform = all(s.numel() == 1 or not any(s.stride()) for s in state)
        tensors = [*(q.tensor for q in laid), *(() if self.uniform else state)]
        rowed = not strided and lanes % 16 == 0 and all(q.time % 16 == 0 for q in laid)
        aligned = rowed and not any(t.data_ptr() % 16 for t in tensors)
        self.lanes, self.chunks, self.n_states = lanes, -(-steps // span), len(state)
        spread = tuple(p.numel() > 1 for p in params)
        loop, full = self.chunks > 1, steps % span == 0
        self.block, warps, ahead = shape(direction, span, loop, lanes)
        self.variant = Variant(
            span, loop, full, ahead, spread, strided, aligned, self.uniform, wanted, *flags, interpreted()
        )
        self.blocks = -(-lanes // self.block)
        unit = 16 if aligned else 1
        values = [n for p, k in zip(params, spans, strict=True) if p.numel() > 1 for n in (k, p.numel())]
        strides = [n for q in laid for n in ((q.time, q.inner, q.outer, q.near) if strided else (q.time // unit,))]
        self.numbers = [lanes // unit, steps, *values, *strides]
        self.copied = [q.tensor is not given for q, given in zip(laid, sequences, strict=True)]
        self.copies = any(self.copied)
        self.draws, self.device = bool(program.draws), x.device
        self.kernel, self.options = (
            _kernel(program, direction, self.variant),
            {"num_warps": warps, "enable_fp_fusion": False},
        )
        self.compiled: Any = None

    def sequences(self, given: Sequence[Tensor]) -> list[Tensor]:
        if not self.copies:
            return list(given)
        return [q.contiguous() if copied else q for q, copied in zip(given, self.copied, strict=True)]

    def states(self, given: Sequence[Tensor]) -> Sequence[Tensor]:
        return given if self.uniform else [s.contiguous() for s in given]

    def checkpoints(self, x: Tensor) -> list[Tensor]:
        """Room for the states between chunks, if there are any."""
        shape = (self.chunks - 1, self.n_states, self.lanes)
        return [x.new_empty(shape, dtype=torch.float32)] if self.variant.loop else []

    def launch(self, tensors: list[Tensor], rng: Tensor | None) -> None:
        if self.draws:
            tensors.append(rng)  # type: ignore[arg-type]
        if self.device.index == (None if self.variant.interpreted else torch._C._cuda_getDevice()):
            self._launch(tensors)
        else:
            with torch.cuda.device(self.device):
                self._launch(tensors)

    def _launch(self, tensors: list[Tensor]) -> None:
        """Straight to the compiled kernel, with plain addresses: Triton's own way takes several times as long."""
        compiled = self.compiled
        if compiled is None:
            options = {} if self.variant.interpreted else self.options
            compiled = self.kernel[(self.blocks,)](*tensors, *self.numbers, BLOCK=self.block, **options)
            self.compiled = None if self.variant.interpreted else compiled
            return
        stream = torch._C._cuda_getCurrentRawStream(self.device.index)
        addresses = [t.data_ptr() for t in tensors]
        handles = (compiled.function, compiled.packed_metadata, None, None, None)  # no launch hooks
        compiled.run(self.blocks, 1, 1, stream, *handles, *addresses, *self.numbers, self.block)


def shape(direction: str, span: int, loop: bool, lanes: int) -> tuple[int, int, bool]:
    """Lanes a block, warps, and whether loads run ahead.

    Few lanes: small blocks, so that all multiprocessors have work, and loads ahead, since nobody else hides their
    latency. Many lanes: other blocks hide it, and the registers are better spent on them.
    """
    if interpreted():
        return 64, 1, lanes % 2 == 0
    if not loop:
        return (512, 4, False) if direction == "forward" or span <= 4 else (128, 2, False)
    if lanes < 1 << 15:
        return 32, 1, True
    if lanes < 1 << 17:
        return 64, 1, True
    return (128, 1, False) if direction == "forward" else (128, 2, False)


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
