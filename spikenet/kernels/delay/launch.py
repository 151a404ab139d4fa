"""Launch Triton kernels past Triton's own way, which takes longer than most of them run. Imports no triton."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.triton_device import interpreted

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
    kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], constants: tuple[Any, ...], **options: Any
) -> None:
    """Run `kernel` on tensors, described matrices, numbers and None, followed by its compile-time constants, all in
    their order."""
    if interpreted():
        kernel[grid](*map(_checked, arguments), *constants)
        return
    device = next(a.device for a in arguments if isinstance(a, Tensor))
    if device.index == torch._C._cuda_getDevice():
        _run(kernel, grid, arguments, constants, options, device)
    else:
        with torch.cuda.device(device):
            _run(kernel, grid, arguments, constants, options, device)


def _run(
    kernel: Any,
    grid: tuple[int, ...],
    arguments: tuple[Any, ...],
    constants: tuple[Any, ...],
    options: dict[str, Any],
    device: torch.device,
) -> None:
    passed: list[Any] = []
    key: list[Any] = [id(kernel), device.index, *constants, *options.values()]
    for a in arguments:
        if isinstance(a, Tensor):
            address = a.data_ptr()
            passed.append(address)
            key += (a.dtype, address % 16)
        elif isinstance(a, Described):
            passed.append(a)
            key += (a.base.dtype, *a.block_shape)
        else:
            passed.append(a)
            key.append(a)
    compiled = _compiled.get(tuple(key))
    if compiled is None:
        if len(_compiled) >= KEPT:
            _compiled.clear()
        _compiled[tuple(key)] = kernel[grid](*map(_checked, arguments), *constants, **options)
        return
    stream = torch._C._cuda_getCurrentRawStream(device.index)
    handles = (compiled.function, compiled.packed_metadata, None, None, None)  # no launch hooks
    compiled.run(*grid, *(1,) * (3 - len(grid)), stream, *handles, *passed, *constants)


def _checked(argument: Any) -> Any:
    if not isinstance(argument, Described):
        return argument
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(*argument[:4])
