"""Mixing the entries of a batch and their labels: CutMix and EventMix on an `EventTensor`, without dense frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events.entries import collect, coordinates, rows
from spikenet.events.tensor import EventTensor

_POINTS = 1024


class BatchAugmentation(Protocol):
    """Anything called as ``augmentation(events, labels, generator)``; every draw comes from the generator.

    Labels are weights of the classes that add up to 1, float32 ``[B, classes]``: at first those that
    ``torch.nn.functional.one_hot(labels, classes).float()`` makes. Losses such as
    ``torch.nn.functional.cross_entropy`` take them as they are, and so do further augmentations.
    """

    def __call__(
        self, events: EventTensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[EventTensor, Tensor]: ...


@dataclass(frozen=True)
class CutMix:
    """Replace a box of each entry, through all time steps, by the same box of another (Yun et al., ICCV 2019).

    With ``lam`` uniform in 0 to 1 (the paper's Beta(1, 1)), the box has ``sqrt(1 - lam)`` of the height and width, lies
    around a uniform centre and is cut off at the edges. With one feature axis it is a band of ``1 - lam`` of the
    channels. An entry's labels weigh as much as the share of addresses that it fills.
    """

    def __call__(self, events: EventTensor, labels: Tensor, generator: torch.Generator) -> tuple[EventTensor, Tensor]:
        """Mix every entry with one of a random permutation of the batch; a mixed length is the longer of the two.

        Args:
            events: shape ``(T, B, *features)``.
            labels: weights of the classes, float32 ``[B, classes]``, on the device of ``events``.
            generator: source of the draws, on the CPU.

        Returns:
            The mixed events and their labels.

        Errors: ShapeError and DtypeError for labels that do not fit.
        """
        _check(events, labels)
        partner = _partners(events, generator)
        sizes = events.features[-2:]
        begin, end = self._boxes(events.batch, sizes, generator)
        begin, end = begin.to(events.device), end.to(events.device)
        place = torch.stack(coordinates(events)[-2:], dim=1)
        b = _entry(events)

        def inside(target: Tensor) -> Tensor:
            return ((place >= begin[target]) & (place < end[target])).all(1)

        mixed = _exchange(events, partner, inside(b), inside(partner.argsort()[b]))
        area = ((end - begin) / torch.tensor(sizes, device=events.device)).prod(1)
        return mixed, _blended(labels, partner, 1 - area)

    @staticmethod
    def _boxes(batch: int, sizes: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The first place and the one past the last of each entry's box, int64 ``[B, axes]``."""
        cut = torch.rand(batch, 1, generator=generator) ** (1 / len(sizes))
        size = torch.tensor(sizes)
        side = (cut * size).long()
        begin = (torch.rand(batch, len(sizes), generator=generator) * size).long() - side // 2
        return begin.clamp(min=0), torch.minimum(begin + side, size)  # a box may reach over the edge


@dataclass(frozen=True)
class EventMix:
    """Replace a cloud of each entry's space and time by the same cloud of another (Shen et al., Information Sciences
    644, 2023).

    The cloud is where a mixture of ``components`` Gaussians over ``(t, y, x)`` is high:

        g = sum_n pi_n exp(-sum_axes (c - mu_n)^2 / (2 sigma_n^2)),    g > its (lam)-quantile over the grid,

    with ``lam``, ``pi_n`` and ``mu_n`` uniform (``mu_n`` on the grid) and ``sigma_n = max(U, 0.1) / 2`` of an axis, as
    the authors' program draws them (with 2 to 4 components). The quantile is that of 1024 random grid points; the
    labels do not depend on it. A label weighs as much as the share of its entry's events that are in the mix (the
    paper's weight by event count): with ``k`` the share of its own events that an entry keeps and ``m`` the share of
    the other's that it gets, they weigh ``k / (k + m)`` and ``m / (k + m)``. Where nothing is left of either, the label
    stays.

    Args:
        components: Gaussians in a mixture.

    Errors: ArgumentError for no components.
    """

    components: int = 3

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ArgumentError(f"EventMix wants 1 component or more, received {self.components}")

    def __call__(self, events: EventTensor, labels: Tensor, generator: torch.Generator) -> tuple[EventTensor, Tensor]:
        """Mix every entry with one of a random permutation of the batch, as `CutMix` does, with the same arguments."""
        _check(events, labels)
        partner = _partners(events, generator)
        b = _entry(events)
        place = torch.stack(
            [rows(events).div(max(events.batch, 1), rounding_mode="floor"), *coordinates(events)[-2:]], 1
        )
        mixture = [part.to(events.device) for part in self._mixtures(events, generator)]

        def inside(target: Tensor) -> Tensor:
            weight, centre, width, level = (part[target] for part in mixture)
            return _height(place, weight, centre, width) > level

        leaves, comes = inside(b), inside(partner.argsort()[b])
        mixed = _exchange(events, partner, leaves, comes)
        kept, came = _share(events, b, ~leaves), _share(events, b, comes)[partner]
        total = kept + came
        return mixed, _blended(labels, partner, torch.where(total > 0, kept / total.clamp(min=1e-30), 1.0))

    def _mixtures(self, events: EventTensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights ``[B, N]``, centres and widths ``[B, N, axes]`` and the level ``[B]`` of each entry's mixture."""
        size = torch.tensor([events.T, *events.features[-2:]])
        shape = (events.batch, self.components, len(size))
        weight = torch.rand(shape[:2], generator=generator)
        centre = (torch.rand(shape, generator=generator) * size).floor()
        width = torch.rand(shape, generator=generator).clamp(min=0.1) * size / 2
        points = (torch.rand(_POINTS, 1, len(size), generator=generator) * size).floor()
        heights = _height(points, weight, centre, width).sort(0).values
        rank = (torch.rand(1, events.batch, generator=generator) * _POINTS).long()
        return weight, centre, width, heights.gather(0, rank)[0]


def _height(place: Tensor, weight: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    """The mixture of Gaussians at places ``[..., axes]``."""
    square = weight.new_zeros(())
    for axis in range(place.shape[-1]):  # several times faster than a sum over a last axis of three
        square = square + ((place[..., axis, None] - centre[..., axis]) / width[..., axis]).square()
    return (weight * (-square / 2).exp()).sum(-1)


def _entry(events: EventTensor) -> Tensor:
    """The batch entry that each stored entry belongs to, int64 ``[nnz]``."""
    return rows(events).remainder(max(events.batch, 1))


def _partners(events: EventTensor, generator: torch.Generator) -> Tensor:
    """A permutation of the batch: the other entry that each one is mixed with."""
    return torch.randperm(events.batch, generator=generator).to(events.device)


def _exchange(events: EventTensor, partner: Tensor, leaves: Tensor, comes: Tensor) -> EventTensor:
    """What does not leave its entry, and what comes from the partner; masks ``[nnz]``."""
    row, b = rows(events), _entry(events)
    moved = row - b + partner.argsort()[b]
    row = torch.cat([row[~leaves], moved[comes]])
    index, values = (torch.cat([column[~leaves], column[comes]]) for column in (events.indices, events.values))
    return collect(row, index, values, events.shape, torch.maximum(events.lengths, events.lengths[partner]))


def _share(events: EventTensor, b: Tensor, chosen: Tensor) -> Tensor:
    """The share of each batch entry's events that the mask names, float32 ``[B]``; 0 where there are none."""
    counts = events.values.abs()
    total, part = (
        counts.new_zeros(events.batch).index_add_(0, b, weight) for weight in (counts, torch.where(chosen, counts, 0.0))
    )
    return part / total.clamp(min=1e-30)


def _blended(labels: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Each entry's labels at ``weight`` plus its partner's at the rest."""
    return weight.float()[:, None] * labels + (1 - weight.float())[:, None] * labels[partner]


def _check(events: EventTensor, labels: Tensor) -> None:
    if labels.ndim != 2 or len(labels) != events.batch:
        raise ShapeError(
            f"a batch of {events.batch} wants labels [{events.batch}, classes], received {tuple(labels.shape)}; "
            "torch.nn.functional.one_hot(labels, classes).float() would work"
        )
    if labels.dtype != torch.float32:
        raise DtypeError(f"labels want weights in float32, received {labels.dtype}; labels.float() would work")
