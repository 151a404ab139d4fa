"""Launch Triton kernels past Triton's own way, which takes longer than most of them run. Imports no triton."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from spikenet.kernels.triton_device import interpreted

KEPT = 1024  # plans; with ever new shapes they would fill the memory
Made = TypeVar("Made")


def layout(x: Tensor | None) -> Hashable:
    """What a kernel must know of `x` beside its address."""
    return None if x is None else (x.shape, x.stride(), x.dtype, x.data_ptr() % 16)


class Plans(Generic[Made]):
    """What was worked out for tensors of one kind, by that kind."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Made] = {}

    def at(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """The plan of that key, made if there is none."""
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= KEPT:
                self._made.clear()
            found = self._made[key] = make()
        return found


class Launch:
    """A kernel with all that it takes beside tensors.

    Args:
        kernel: takes tensors first, then numbers, then compile-time constants.
        grid: number of programs in each dimension.
        numbers: its numbers, in their order.
        constants: its constants, in their order.
        options: for the compiler.
    """

    def __init__(
        self, kernel: Any, grid: tuple[int, ...], numbers: tuple[Any, ...], constants: tuple[Any, ...], **options: Any
    ) -> None:
        self._kernel, self._grid, self._options = kernel, (*grid, 1, 1)[:3], options
        self._rest = *numbers, *constants
        self._compiled: Any = None

    def __call__(self, *tensors: Tensor | None) -> None:
        """Run it on the current device; all calls' tensors agree in `layout`, but for what the kernel leaves open."""
        compiled = self._compiled
        if compiled is None:
            options = {} if interpreted() else self._options
            made = self._kernel[self._grid](*tensors, *self._rest, **options)
            self._compiled = None if interpreted() else made
            return
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        addresses = [None if t is None else t.data_ptr() for t in tensors]
        # no launch hooks
        compiled.run(
            *self._grid, stream, compiled.function, compiled.packed_metadata, None, None, None, *addresses, *self._rest
        )


def on_its_device(run: Callable[..., Any], x: Tensor, *arguments: Any) -> Any:
    """`run(*arguments)` while the device of `x` is the current one."""
    if x.device.index == (None if interpreted() else torch._C._cuda_getDevice()):
        return run(*arguments)
    with torch.cuda.device(x.device):
        return run(*arguments)
