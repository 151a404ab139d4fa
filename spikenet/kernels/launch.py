"""Launch Triton kernels past Triton's own way, which takes longer than most of them run. Imports no triton."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from spikenet.kernels.triton_device import interpreted

KEPT = 1024  # plans; with ever new shapes they would fill the memory
Made = TypeVar("Made")


class Blocks(NamedTuple):
    """A matrix as the tensor memory accelerator is told of it, from `start` bytes into a tensor on: what is beyond
    `shape` is read as zeros."""

    shape: list[int]
    strides: list[int]
    block: list[int]
    start: int = 0


class Launch:
    """A kernel with all that it takes beside tensors, on one device.

    Args:
        kernel: takes tensors first, then numbers, then compile-time constants.
        grid: number of programs in each dimension.
        numbers: its numbers, in their order.
        constants: its constants, in their order.
        described: `Blocks` of each of its first tensors, if it reads some in blocks.
        options: for the compiler.
    """

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        numbers: tuple[Any, ...],
        constants: tuple[Any, ...],
        *,
        described: Any = (),
        **options: Any,
    ) -> None:
        self._kernel, self.grid, self._options = kernel, (*grid, 1, 1)[:3], options
        self._numbers, self._constants, self._described = numbers, constants, described
        self._compiled: dict[Hashable, Any] = {}  # by what is compiled in: which are None, how addresses are aligned

    def __call__(self, *tensors: Tensor | None, floats: tuple[float, ...] = ()) -> None:
        """Run it on the current device.

        Args:
            tensors: of the same dtypes in every call; None where the kernel takes it.
            floats: numbers that follow its own and change from call to call.
        """
        addresses = [0 if t is None else t.data_ptr() for t in tensors]
        bits = 0
        for address in addresses:
            bits |= address
        kind = _kind(tensors) if bits % 16 or 0 in addresses else ()
        compiled = self._compiled.get(kind)
        if compiled is None:
            self._first(kind, tensors, floats)
            return
        run, handles = compiled
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        run(*self.grid, stream, *handles, *addresses, *self._numbers, *floats, *self._constants)

    def _first(self, kind: Hashable, tensors: tuple[Tensor | None, ...], floats: tuple[float, ...]) -> None:
        """Triton's own way, which compiles."""
        options, number = {} if interpreted() else self._options, len(self._described)
        told = [_checked(t, blocks) for t, blocks in zip(tensors, self._described, strict=False)]  # type: ignore[arg-type]
        given = (*told, *tensors[number:], *self._numbers, *floats, *self._constants)
        made = self._kernel[self.grid](*given, **options)
        if interpreted():
            return
        run = described(made.run, self._described) if self._described else made.run
        handles = made.function, made.packed_metadata, None, None, None  # no launch hooks
        self._compiled[kind] = run, handles


def _kind(tensors: tuple[Tensor | None, ...]) -> Hashable:
    """Where there is None, and how far each address is past a multiple of 16."""
    return tuple([None if t is None else t.data_ptr() % 16 for t in tensors])


def _checked(x: Tensor, blocks: Blocks) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor

    whole = x.view(-1)[blocks.start // x.element_size() :] if blocks.start else x
    return TensorDescriptor(whole, *blocks[:3])


class _Described(NamedTuple):
    """What Triton asks of its own `TensorDescriptor`."""

    base: _Address
    shape: list[int]
    strides: list[int]
    block_shape: list[int]
    padding: str = "zero"
    round_f32_to_tf32: bool = False  # read by Triton from 3.7 on


class _Address(int):
    """A tensor for Triton."""

    def data_ptr(self) -> int:
        return int(self)


def described(run: Any, blocks: tuple[Blocks, ...]) -> Any:
    """Triton's launcher `run`, for addresses of the tensors that are read in blocks.

    To describe them takes it longer than the rest of a launch, so that descriptions are kept, by address, and handed to
    what stands behind the part of it that makes them.
    """
    known = dict(zip(run.launch.__code__.co_freevars, run.launch.__closure__, strict=True))
    launch, about = known["launcher"].cell_contents, known["tensordesc_meta"].cell_contents
    names = run.launch.__globals__
    make, number, before = names["make_tensordesc_arg"], len(blocks), names.get("_BASE_ARGS_FORMAT_LEN")
    kept: dict[tuple[int, ...], list[Any]] = {}

    def told(addresses: tuple[int, ...]) -> list[Any]:
        found = kept.get(addresses)
        if found is None:
            if len(kept) >= KEPT:
                kept.clear()
            found = []
            for address, (*sizes, start), meta in zip(addresses, blocks, about, strict=True):
                found += make(_Described(_Address(address + start), *sizes), meta)  # type: ignore[arg-type]
            kept[addresses] = found  # whole, for other threads
        return found

    def flat(*arguments: Any) -> None:
        launch(*arguments[:before], *told(arguments[before : before + number]), *arguments[before + number :])

    def nested(*arguments: Any) -> None:
        *rest, given = arguments
        launch(*rest, [*told(given[:number]), *given[number:]])

    own = copy.copy(run)
    own.launch = nested if before is None else flat  # nested: before Triton 3.7
    return own


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
