"""Events on a time grid: the one sparse type that layers, energy counts and learning rules read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DataError, DtypeError, ShapeError

_FIELDS = {"indptr": torch.int64, "indices": torch.int32, "values": torch.float32, "lengths": torch.int64}
_LARGEST = torch.iinfo(torch.int32).max


class EventTensor:
    """A batch of event sequences, stored as compressed rows; row ``t * B + b`` holds step ``t`` of batch entry ``b``.

    Rows run through the batch first, so a slice of time is one contiguous piece.

    Args:
        indptr: where each row begins, int64 ``[T * B + 1]``; row ``r`` is ``indptr[r]:indptr[r + 1]``.
        indices: flat feature index of each entry, int32 ``[nnz]``, strictly ascending within a row.
        values: the number of events (or any other weight) of each entry, float32 ``[nnz]``.
        shape: ``(T, B, *features)``, with at least one feature dimension.
        lengths: steps that belong to each batch entry, int64 ``[B]``; none means ``T`` for all.
            Steps from an entry's length on are empty.

    Errors: DtypeError, ShapeError, and DataError where the content breaks one of these rules.
    """

    __slots__ = ("indices", "indptr", "lengths", "shape", "values")

    def __init__(
        self, indptr: Tensor, indices: Tensor, values: Tensor, shape: Sequence[int], lengths: Tensor | None = None
    ) -> None:
        self._set(indptr, indices, values, shape, lengths)
        _check_layout(self)
        _check_content(self)

    def _set(
        self, indptr: Tensor, indices: Tensor, values: Tensor, shape: Sequence[int], lengths: Tensor | None
    ) -> None:
        if len(shape) < 3 or min(shape) < 0:
            raise ShapeError(f"shape wants (T, B, *features) with at least one feature dimension, received {shape}")
        self.indptr, self.indices, self.values = indptr, indices, values
        self.shape = tuple(int(size) for size in shape)
        self.lengths = torch.full((self.batch,), self.T, device=indptr.device) if lengths is None else lengths

    @classmethod
    def _trusted(
        cls, indptr: Tensor, indices: Tensor, values: Tensor, shape: Sequence[int], lengths: Tensor | None = None
    ) -> EventTensor:
        """Build from parts that are valid by construction, without reading them."""
        made = cls.__new__(cls)
        made._set(indptr, indices, values, shape, lengths)
        return made

    @classmethod
    def from_dense(cls, dense: Tensor, lengths: Tensor | None = None) -> EventTensor:
        """Keep the non-zero entries of a dense tensor ``[T, B, *features]`` of any real dtype, as float32.

        Errors: ShapeError below three dimensions, DataError for an entry beyond its length.
        """
        if dense.ndim < 3 or dense.is_complex():
            raise ShapeError(f"from_dense wants a real [T, B, *features], received {dense.dtype} {tuple(dense.shape)}")
        rows = dense.shape[0] * dense.shape[1]
        flat = dense.reshape(rows, prod(dense.shape[2:]))
        row, column = flat.nonzero(as_tuple=True)
        indptr = _starts(torch.bincount(row, minlength=rows))
        return cls(indptr, column.int(), flat[row, column].float(), dense.shape, lengths)

    @classmethod
    def stack(cls, parts: Sequence[EventTensor]) -> EventTensor:
        """Batch sequences one beside the other: ``B`` adds up, ``T`` is the longest, shorter ones end in empty steps.

        Errors: ArgumentError for no parts, ShapeError for different features.
        """
        if not parts:
            raise ArgumentError("stack wants at least one EventTensor, received none")
        if len({part.features for part in parts}) > 1:
            raise ShapeError(f"stack wants equal features, received shapes {[part.shape for part in parts]}")
        steps, batch = max(part.T for part in parts), sum(part.batch for part in parts)
        counts = torch.zeros(steps, batch, dtype=torch.int64, device=parts[0].device)
        for part, column in zip(parts, _columns(parts), strict=True):
            counts[: part.T, column] = part._counts()
        indptr = _starts(counts.flatten())
        place = _places(parts, indptr[:-1].view(steps, batch))
        indices = torch.empty_like(place, dtype=torch.int32)
        values = torch.empty_like(place, dtype=torch.float32)
        indices[place] = torch.cat([part.indices for part in parts])
        values[place] = torch.cat([part.values for part in parts])
        lengths = torch.cat([part.lengths for part in parts])
        return cls._trusted(indptr, indices, values, (steps, batch, *parts[0].features), lengths)

    @property
    def T(self) -> int:
        """The number of time steps."""
        return self.shape[0]

    @property
    def batch(self) -> int:
        """The number of batch entries."""
        return self.shape[1]

    @property
    def features(self) -> tuple[int, ...]:
        """The feature dimensions, ``shape[2:]``."""
        return self.shape[2:]

    @property
    def nnz(self) -> int:
        """The number of stored entries."""
        return len(self.indices)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.indptr.device

    def __repr__(self) -> str:
        lengths = "" if not self.batch else f", lengths {int(self.lengths.min())}..{int(self.lengths.max())}"
        return f"EventTensor(shape={self.shape}, nnz={self.nnz}{lengths}, device={str(self.device)!r})"

    def to_dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The same content as a dense tensor ``[T, B, *features]``."""
        dense = torch.zeros(prod(self.shape), dtype=dtype, device=self.device)
        row = torch.arange(self.T * self.batch, device=self.device)
        row = row.repeat_interleave(self.indptr.diff(), output_size=self.nnz)
        dense[row * prod(self.features) + self.indices] = self.values.to(dtype)
        return dense.view(self.shape)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> EventTensor:
        """The same events on another device, sharing memory where nothing moves."""
        return self._each(lambda field: field.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> EventTensor:
        """The same events in page-locked memory, which a GPU reads without waiting (torch's DataLoader calls this)."""
        return self._each(Tensor.pin_memory)

    def is_pinned(self) -> bool:
        """Whether the events lie in page-locked memory."""
        return self.indptr.is_pinned()

    def narrow(self, start: int, length: int) -> EventTensor:
        """The steps ``start`` to ``start + length - 1``, sharing this tensor's memory; lengths shrink accordingly."""
        if start < 0 or length < 0 or start + length > self.T:
            raise ArgumentError(f"narrow({start}, {length}) does not fit a sequence of {self.T} steps")
        indptr = self.indptr[start * self.batch : (start + length) * self.batch + 1]
        first, last = int(indptr[0]), int(indptr[-1])
        lengths = (self.lengths - start).clamp(0, length)
        shape = (length, *self.shape[1:])
        return self._trusted(indptr - first, self.indices[first:last], self.values[first:last], shape, lengths)

    def __getitem__(self, steps: slice) -> EventTensor:
        """A slice of time, ``events[3:10]``. Errors: ArgumentError for anything but a slice with step 1."""
        if not isinstance(steps, slice) or steps.step not in (None, 1):
            raise ArgumentError(f"an EventTensor is indexed by a slice of time such as [3:10], received {steps!r}")
        start, stop, _ = steps.indices(self.T)
        return self.narrow(start, max(stop - start, 0))

    def entry(self, b: int) -> EventTensor:
        """Batch entry ``b`` alone, with its own length: what ``stack`` was given."""
        if not 0 <= b < self.batch:
            raise ArgumentError(f"entry({b}) does not fit a batch of {self.batch}")
        steps = int(self.lengths[b])
        counts = self._counts()[:steps, b]
        indptr = _starts(counts)
        offset = self.indptr[:-1].view(self.T, self.batch)[:steps, b] - indptr[:-1]
        source = offset.repeat_interleave(counts) + torch.arange(int(indptr[-1]), device=self.device)
        return self._trusted(indptr, self.indices[source], self.values[source], (steps, 1, *self.features))

    def _counts(self) -> Tensor:
        """Stored entries per step and batch entry, int64 ``[T, B]``."""
        return self.indptr.diff().view(self.T, self.batch)

    def _each(self, change: Callable[[Tensor], Tensor]) -> EventTensor:
        indptr, indices, values, lengths = (change(getattr(self, name)) for name in _FIELDS)
        return self._trusted(indptr, indices, values, self.shape, lengths)


def _starts(counts: Tensor) -> Tensor:
    """Row starts ``[R + 1]`` from row counts ``[R]``."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _columns(parts: Sequence[EventTensor]) -> list[slice]:
    """The batch entries that each part fills."""
    stops = torch.tensor([part.batch for part in parts]).cumsum(0).tolist()
    return [slice(stop - part.batch, stop) for part, stop in zip(parts, stops, strict=True)]


def _places(parts: Sequence[EventTensor], starts: Tensor) -> Tensor:
    """Where each entry of the parts, one part after the other, lands in the stack whose rows begin at ``starts``."""
    shifts, taken = [], 0
    for part, column in zip(parts, _columns(parts), strict=True):
        shifts.append(starts[: part.T, column].flatten() - part.indptr[:-1] - taken)
        taken += part.nnz
    counts = torch.cat([part.indptr.diff() for part in parts])
    shift = torch.cat(shifts).repeat_interleave(counts, output_size=taken)
    return shift + torch.arange(taken, device=starts.device)


def _check_layout(events: EventTensor) -> None:
    """Dtypes, devices and sizes: everything that can be seen without reading the data."""
    sizes = {
        "indptr": events.T * events.batch + 1,
        "indices": events.nnz,
        "values": events.nnz,
        "lengths": events.batch,
    }
    for name, dtype in _FIELDS.items():
        field = getattr(events, name)
        if field.dtype != dtype or field.device != events.device:
            raise DtypeError(f"{name} wants {dtype} on {events.device}, received {field.dtype} on {field.device}")
        if field.shape != (sizes[name],):
            raise ShapeError(f"{name} wants shape ({sizes[name]},) for {events.shape}, received {tuple(field.shape)}")
    if prod(events.features) > _LARGEST:
        raise ShapeError(f"features want at most {_LARGEST} in all, received {events.features}")


def _check_content(events: EventTensor) -> None:
    """The rules that the data itself must keep."""
    indptr, indices = events.indptr, events.indices
    if int(indptr[0]) != 0 or int(indptr[-1]) != events.nnz or bool((indptr.diff() < 0).any()):
        raise DataError(f"indptr wants to rise from 0 to the number of entries, {events.nnz}, and never fall")
    if bool(((indices < 0) | (indices >= prod(events.features))).any()):
        raise DataError(f"indices want 0 to {prod(events.features) - 1} for features {events.features}")
    falls = indices.diff() <= 0
    begins = indptr[1:-1]
    falls[begins[(begins > 0) & (begins < events.nnz)] - 1] = False
    if bool(falls.any()):
        raise DataError("indices want to ascend strictly within a row; merge equal ones by adding their values")
    if bool(((events.lengths < 0) | (events.lengths > events.T)).any()):
        raise DataError(f"lengths want 0 to {events.T}, received {events.lengths.tolist()}")
    step = torch.arange(events.T, device=events.device)[:, None]
    if bool(((step >= events.lengths) & (events._counts() > 0)).any()):
        raise DataError("an entry has events at or after its length")
