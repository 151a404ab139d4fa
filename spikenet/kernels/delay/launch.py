"""Launch Triton kernels past Triton's own way, which takes longer than most of them run. Imports no triton."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

KEPT = 1024  # compiled kernels by arguments; with ever new shapes they would fill the memory

_compiled: dict[tuple[Any, ...], Any] = {}


class Described(NamedTuple):
    """A matrix as the tensor memory accelerator is told of it, with the names of Triton's own `TensorDescriptor`, which
    takes its time to check them; beyond `shape` zeros are read."""

    base: Tensor
    shape: list[int]
    strides: list[int]
    block_shape: list[int]
    padding: str = "zero"
    round_f32_to_tf32: bool = False  # read by Triton from 3.7 on


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    arrays: tuple[Tensor | Described | None, ...],
    numbers: tuple[float, ...],
    constants: tuple[Any, ...],
    **options: int,
) -> None:
    """Run `kernel` on arrays and numbers, followed by its compile-time constants, all in their order."""
    device = next(a for a in arrays if type(a) is not Described and a is not None).device  # type: ignore[union-attr]
    if device.type != "cuda":  # in Triton's interpreter
        kernel[grid](*map(_checked, arrays), *numbers, *constants)
    elif device.index == torch._C._cuda_getDevice():
        _run(kernel, grid, arrays, numbers, constants, options, device)
    else:
        with torch.cuda.device(device):
            _run(kernel, grid, arrays, numbers, constants, options, device)


def _run(
    kernel: Any,
    grid: tuple[int, ...],
    arrays: tuple[Tensor | Described | None, ...],
    numbers: tuple[float, ...],
    constants: tuple[Any, ...],
    options: dict[str, int],
    device: torch.device,
) -> None:
    passed: list[Any] = []
    kinds: list[Any] = []
    for a in arrays:
        if type(a) is Described:
            passed.append(a)
            kinds += (a.base.dtype, *a.block_shape)
        elif a is None:
            passed.append(a)
            kinds.append(a)
        else:
            address = a.data_ptr()  # type: ignore[union-attr]
            passed.append(address)
            kinds += (a.dtype, address % 16)  # type: ignore[union-attr]
    key = id(kernel), device.index, numbers, constants, *kinds
    compiled = _compiled.get(key)
    if compiled is None:
        if len(_compiled) >= KEPT:
            _compiled.clear()
        _compiled[key] = kernel[grid](*map(_checked, arrays), *numbers, *constants, **options)
        return
    stream = torch._C._cuda_getCurrentRawStream(device.index)
    x, y, z = (*grid, 1, 1)[:3]
    handles = (compiled.function, compiled.packed_metadata, None, None, None)  # no launch hooks
    compiled.run(x, y, z, stream, *handles, *passed, *numbers, *constants)


def _checked(argument: Any) -> Any:
    if type(argument) is not Described:
        return argument
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(*argument[:4])
