"""Launch Triton kernels past Triton's own way, which takes longer than most of them run. Imports no triton."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from spikenet.kernels.triton_device import interpreted

KEPT = 1024  # plans; with ever new shapes they would fill the memory
Made = TypeVar("Made")


class Described(NamedTuple):
    """A matrix as the tensor memory accelerator is told of it, with the names of Triton's own `TensorDescriptor`, which
    takes its time to check them; beyond `shape` zeros are read."""

    base: Tensor
    shape: list[int]
    strides: list[int]
    block_shape: list[int]
    padding: str = "zero"
    round_f32_to_tf32: bool = False  # read by Triton from 3.7 on


Argument = Tensor | Described | None


class Launch:
    """A kernel with all that it takes beside tensors, on one device.

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
        self._kernel, self.grid, self._options = kernel, (*grid, 1, 1)[:3], options
        self._numbers, self._constants = numbers, constants
        # By which arguments are addresses that are multiples of 16, on which what is compiled relies.
        self._compiled: dict[tuple[bool | None, ...], Any] = {}

    def __call__(self, *tensors: Argument, floats: tuple[float, ...] = ()) -> None:
        """Run it on the current device.

        Args:
            tensors: of the same dtypes and, where they are described, blocks in every call.
            floats: numbers that follow its own and change from call to call.
        """
        passed = [t if t is None or type(t) is Described else t.data_ptr() for t in tensors]  # type: ignore[union-attr]
        aligned = tuple([a % 16 == 0 if type(a) is int else None for a in passed])
        compiled = self._compiled.get(aligned)
        if compiled is None:
            self._first(aligned, tensors, floats)
            return
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        handles = (compiled.function, compiled.packed_metadata, None, None, None)  # no launch hooks
        compiled.run(*self.grid, stream, *handles, *passed, *self._numbers, *floats, *self._constants)

    def _first(
        self, aligned: tuple[bool | None, ...], tensors: tuple[Argument, ...], floats: tuple[float, ...]
    ) -> None:
        """Triton's own way, which compiles."""
        options = {} if interpreted() else self._options
        given = (*map(_checked, tensors), *self._numbers, *floats, *self._constants)
        made = self._kernel[self.grid](*given, **options)
        if not interpreted():
            self._compiled[aligned] = made


def _checked(argument: Argument) -> Any:
    if type(argument) is not Described:
        return argument
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(*argument[:4])


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
