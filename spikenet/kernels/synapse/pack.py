"""Spikes at one bit each, as torch operators with fakes and the table of backends.

Entry `8 j + i` of the flattened spikes is bit `i` of word `j` (numpy's `packbits` with `bitorder="little"`); the
bits past the last entry are 0. A value other than 0 or 1 cannot be kept and is never lost in silence: on the CPU
`pack` raises at once, on a CUDA device, where waiting for an answer would stall the queue, a device-side assertion
fails and the next synchronising call raises.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.triton_device import why_not_on

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NOT_BINARY = "pack takes spikes, 0 or 1, and was given another value"


def _reference_pack(spikes: Tensor) -> tuple[Tensor, Tensor]:
    flat = spikes.reshape(-1)
    bits = torch.nn.functional.pad((flat == 1).to(torch.uint8), (0, -flat.numel() % 8)).view(-1, 8)
    words = (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)
    return words, ((flat == 0) | (flat == 1)).all().view(1)


def _reference_unpack(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    bits = (words.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device=words.device)) & 1
    return bits.view(-1)[:count].to(dtype)


# Each `pack` also returns [1], nonzero if every value was 0 or 1, left on the device.
PACK = Operation(
    "pack",
    Implementation("triton", why_not_on, lazily("spikenet.kernels.synapse.triton_pack", "pack")),
    Implementation("numba", on_processor, lazily("spikenet.kernels.synapse.numba_pack", "pack")),
    Implementation("reference", anywhere, _reference_pack),
)
UNPACK = Operation(
    "unpack",
    Implementation("triton", why_not_on, lazily("spikenet.kernels.synapse.triton_pack", "unpack")),
    Implementation("numba", on_processor, lazily("spikenet.kernels.synapse.numba_pack", "unpack")),
    Implementation("reference", anywhere, _reference_unpack),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("pack(Tensor spikes) -> Tensor")
_library.define("unpack(Tensor words, SymInt[] shape, ScalarType dtype) -> Tensor")


def _pack(spikes: Tensor) -> Tensor:
    if spikes.numel() == 0:
        return spikes.new_empty(0, dtype=torch.uint8)
    words, binary = PACK(spikes, size=spikes.numel())
    if spikes.is_cuda:
        torch._assert_async(binary, NOT_BINARY)
    elif not binary:
        _refuse(spikes)
    return words


def _refuse(spikes: Tensor) -> None:
    flat = spikes.reshape(-1)
    at = int(((flat != 0) & (flat != 1)).nonzero()[0])
    where = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), spikes.shape))
    raise ArgumentError(f"{NOT_BINARY}: {flat[at].item():g} at {where}")


def _unpack(words: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    count = torch.Size(shape).numel()
    if count == 0:
        return words.new_empty(shape, dtype=dtype)
    return UNPACK(words.contiguous(), count, dtype, size=count).view(shape)


def _fake_pack(spikes: Tensor) -> Tensor:
    return spikes.new_empty((spikes.numel() + 7) // 8, dtype=torch.uint8)


def _fake_unpack(words: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return words.new_empty(shape, dtype=dtype)


_library.impl("pack", _pack, "CompositeExplicitAutograd")
_library.impl("unpack", _unpack, "CompositeExplicitAutograd")
torch.library.register_fake("spikenet::pack", _fake_pack, lib=_library)
torch.library.register_fake("spikenet::unpack", _fake_unpack, lib=_library)


def pack(spikes: Tensor) -> Tensor:
    """Keep spikes at one bit each.

    Args:
        spikes: any shape and strides, float16, bfloat16, float32 or float64; every value 0 or 1.

    Returns:
        uint8 `[ceil(spikes.numel() / 8)]`, without a gradient.

    Raises:
        DtypeError: if `spikes` is of another dtype.
        ArgumentError: if a value is neither 0 nor 1 (on a CUDA device: a failed device-side assertion, reported as a
            `RuntimeError` by the next call that waits for the device).
    """
    if spikes.dtype not in DTYPES:
        raise DtypeError(f"pack takes floating-point spikes of 16, 32 or 64 bits, got {spikes.dtype}")
    return torch.ops.spikenet.pack(spikes.detach())


def unpack(words: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The spikes that `pack` kept, as a contiguous tensor of that shape and floating dtype.

    Raises:
        DtypeError: if `words` is not uint8, or `dtype` is none that `pack` takes.
        ShapeError: if `words` is not what `pack` gives for `shape`.
    """
    if words.dtype != torch.uint8 or dtype not in DTYPES:
        raise DtypeError(f"unpack takes uint8 words and makes floating-point spikes, got {words.dtype} and {dtype}")
    if words.shape != ((torch.Size(shape).numel() + 7) // 8,):
        raise ShapeError(f"spikes of shape {tuple(shape)} are not kept in words of shape {tuple(words.shape)}")
    return torch.ops.spikenet.unpack(words, shape, dtype)
