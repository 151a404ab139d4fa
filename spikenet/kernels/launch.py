"""Launch Triton kernels past Triton's own way, which takes longer than most of them run. Imports no triton."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from spikenet.kernels.triton_device import interpreted

KEPT = 1024  # plans; with ever new shapes they would fill the memory
Made = TypeVar("Made")


class Blocks(NamedTuple):
    """A matrix as the tensor memory accelerator is told of it: what is beyond `shape` is read as zeros."""

    shape: list[int]
    strides: list[int]
    block: list[int]


class _Described(NamedTuple):
    """What Triton asks of its own `TensorDescriptor`, which takes its time to check it."""

    base: Tensor
    shape: list[int]
    strides: list[int]
    block_shape: list[int]
    padding: str = "zero"
    round_f32_to_tf32: bool = False  # read by Triton from 3.7 on


class Launch:
    """A kernel with all that it takes beside tensors, on one device.

    Args:
        kernel: takes tensors first, then numbers, then compile-time constants.
        grid: number of programs in each dimension.
        numbers: its numbers, in their order.
        constants: its constants, in their order.
        described: how its first tensors are read in blocks, if they are.
        options: for the compiler.
    """

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        numbers: tuple[Any, ...],
        constants: tuple[Any, ...],
        described: tuple[Blocks, ...] = (),
        **options: Any,
    ) -> None:
        self._kernel, self.grid, self._options = kernel, (*grid, 1, 1)[:3], options
        self._numbers, self._constants, self._described = numbers, constants, described
        self._compiled: dict[int, Any] = {}  # by which addresses are multiples of 16, on which what is compiled relies

    def __call__(self, *tensors: Tensor | None, floats: tuple[float, ...] = ()) -> None:
        """Run it on the current device.

        Args:
            tensors: of the same dtypes in every call, and None in every call where one may be.
            floats: numbers that follow its own and change from call to call.
        """
        passed: list[Any] = []
        aligned = 1
        for t in tensors:
            if t is None:
                passed.append(None)
            else:
                address = t.data_ptr()
                passed.append(address)
                aligned = 2 * aligned + (address % 16 == 0)
        compiled = self._compiled.get(aligned)
        if compiled is None:
            self._first(aligned, tensors, floats)
            return
        for i, blocks in enumerate(self._described):
            passed[i] = _Described(tensors[i], *blocks)  # type: ignore[arg-type]
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        handles = (compiled.function, compiled.packed_metadata, None, None, None)  # no launch hooks
        compiled.run(*self.grid, stream, *handles, *passed, *self._numbers, *floats, *self._constants)

    def _first(self, aligned: int, tensors: tuple[Tensor | None, ...], floats: tuple[float, ...]) -> None:
        """Triton's own way, which compiles."""
        options, number = {} if interpreted() else self._options, len(self._described)
        told = [_checked(t, blocks) for t, blocks in zip(tensors, self._described, strict=False)]
        given = (*told, *tensors[number:], *self._numbers, *floats, *self._constants)
        made = self._kernel[self.grid](*given, **options)
        if not interpreted():
            self._compiled[aligned] = made


def _checked(x: Tensor | None, blocks: Blocks) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(x, *blocks)


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


def layout(x: Tensor | None) -> Hashable:
    """What a plan must know of `x`; a `Launch` sees to its address."""
    return None if x is None else (x.shape, x.stride(), x.dtype)


def on_its_device(run: Callable[..., Any], x: Tensor, *arguments: Any) -> Any:
    """`run(*arguments)` while the device of `x` is the current one."""
    if not x.is_cuda or x.device.index == torch._C._cuda_getDevice():
        return run(*arguments)
    with torch.cuda.device(x.device):
        return run(*arguments)
