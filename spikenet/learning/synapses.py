"""What lies between two layers of neurons, as the matrix that a local rule changes."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.kernels.plasticity import Change, update, update_sparse

__all__ = ["Factors", "Synapses", "synapses"]


class Factors(NamedTuple):
    """What `spikenet.kernels.plasticity.update` takes of some steps: `[T, N, O]`, `[T, N, I]`, `[T, N, O]`,
    `[T, N, I]`."""

    gain: Tensor
    x: Tensor
    y: Tensor
    loss: Tensor


class Synapses(Protocol):
    """Weights as `[O, I]`, and what each of them has on its two sides in every step."""

    weight: Tensor  # what changes: [O, I], or [E] if sparse; a view, so that the layer changes with it

    @property
    def shape(self) -> torch.Size:
        """O and I."""

    def check(self, pre: Tensor, post: Tensor) -> None:
        """Raise a ShapeError unless `pre` [T, B, ...] and `post` [T, B, ...] go with the weights."""

    def columns(self, x: Tensor) -> Tensor:
        """Of what is heard, [T, B, ...] -> [T, N, I]: N entries of a step, one after the other for each of B."""

    def rows(self, y: Tensor) -> Tensor:
        """Of who hears, [T, B, ...] -> [T, N, O]."""

    def update(
        self, factors: Factors, change: Change, eligibility: Tensor | None = None, modulator: Tensor | None = None
    ) -> None:
        """Change the weights, see `spikenet.kernels.plasticity`; an eligibility is [B, *weight.shape]."""


class _Matrix:
    """Weights that the kernels take as they are."""

    weight: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.weight.shape

    def update(
        self, factors: Factors, change: Change, eligibility: Tensor | None = None, modulator: Tensor | None = None
    ) -> None:
        update(self.weight, *factors, change, eligibility, modulator)


class Dense(_Matrix):
    """A matrix `[O, I]`."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()

    def check(self, pre: Tensor, post: Tensor) -> None:
        _check_rows(self.weight.shape, pre, post)

    def columns(self, x: Tensor) -> Tensor:
        return x

    def rows(self, y: Tensor) -> Tensor:
        return y


class Convolution(_Matrix):
    """A convolution's kernel: every place of its output is an entry of the batch, with the patch that it sees."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d) -> None:
        if layer.groups != 1 or layer.padding_mode != "zeros":
            raise ArgumentError(
                f"a local rule takes a convolution with groups=1 and zero padding, got groups={layer.groups}, "
                f"padding_mode={layer.padding_mode!r}"
            )
        self.layer = layer
        self.weight = layer.weight.detach().flatten(1)

    def check(self, pre: Tensor, post: Tensor) -> None:
        layer = self.layer
        if pre.ndim == post.ndim == layer.weight.ndim + 1 and pre.shape[:2] == post.shape[:2]:
            along = zip(pre.shape[3:], layer.kernel_size, layer.stride, layer.dilation, self._margins(), strict=True)
            sizes = [(n + sum(m) - d * (k - 1) - 1) // s + 1 for n, k, s, d, m in along]
            if (pre.shape[2], *post.shape[2:]) == (layer.in_channels, layer.out_channels, *sizes):
                return
        raise ShapeError(
            f"{type(layer).__name__} needs pre [T, B, {layer.in_channels}, ...] and post [T, B, {layer.out_channels}, "
            f"...] of its output's size, got {tuple(pre.shape)} and {tuple(post.shape)}"
        )

    def columns(self, x: Tensor) -> Tensor:
        layer, (steps, batch) = self.layer, x.shape[:2]
        padded = functional.pad(x.flatten(0, 1), [side for margin in reversed(self._margins()) for side in margin])
        flat = (1,) * (4 - padded.ndim)  # one dimension is two, one of them of size 1
        kernel, dilation, stride = ((*flat, *v) for v in (layer.kernel_size, layer.dilation, layer.stride))
        images = padded.view(*padded.shape[:2], *flat, *padded.shape[2:])
        patches = functional.unfold(images, kernel, dilation, 0, stride)
        return patches.view(steps, batch, len(self.weight[0]), -1).transpose(2, 3).flatten(1, 2)

    def rows(self, y: Tensor) -> Tensor:
        return y.flatten(3).transpose(2, 3).flatten(1, 2)

    def _margins(self) -> list[tuple[int, int]]:
        """Zeros before and behind each dimension."""
        sides = self.layer._reversed_padding_repeated_twice
        return [(sides[i], sides[i + 1]) for i in range(len(sides) - 2, -1, -2)]


class Sparse:
    """A matrix `[O, I]` of compressed rows (CSR), of which only the weights that it holds change."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.weight = matrix, matrix.detach().values()
        self.indptr, self.indices = matrix.crow_indices().long(), matrix.col_indices().long()

    @property
    def shape(self) -> torch.Size:
        return self.matrix.shape

    def check(self, pre: Tensor, post: Tensor) -> None:
        _check_rows(self.shape, pre, post)

    def columns(self, x: Tensor) -> Tensor:
        return x

    def rows(self, y: Tensor) -> Tensor:
        return y

    def update(
        self, factors: Factors, change: Change, eligibility: Tensor | None = None, modulator: Tensor | None = None
    ) -> None:
        update_sparse(self.weight, self.indptr, self.indices, *factors, change, eligibility, modulator)


def _check_rows(shape: torch.Size, pre: Tensor, post: Tensor) -> None:
    outs, ins = shape
    wanted = (*pre.shape[:2], ins), (*pre.shape[:2], outs)
    if pre.ndim != 3 or post.ndim != 3 or (tuple(pre.shape), tuple(post.shape)) != wanted:
        raise ShapeError(
            f"weights [{outs}, {ins}] need pre [T, B, {ins}] and post [T, B, {outs}], got "
            f"{tuple(pre.shape)} and {tuple(post.shape)}"
        )


def synapses(connection: Tensor | nn.Module) -> Synapses:
    """What a rule changes: a matrix `[O, I]`, dense or of compressed rows (`torch.sparse_csr`), the weight of
    `torch.nn.Linear`, or that of a convolution.

    Raises:
        ArgumentError: for anything else.
        DtypeError: for weights that are neither float32 nor float64.
    """
    found = _known(connection)
    if found is None:
        raise ArgumentError(
            "a local rule changes a weight [O, I], a Linear, Conv1d or Conv2d, got "
            + (f"a tensor {tuple(connection.shape)}" if isinstance(connection, Tensor) else type(connection).__name__)
        )
    if found.weight.dtype not in (torch.float32, torch.float64):
        raise DtypeError(f"a local rule changes weights of float32 or float64, got {found.weight.dtype}")
    return found


def _known(connection: Tensor | nn.Module) -> Synapses | None:
    if isinstance(connection, nn.Conv1d | nn.Conv2d):
        return Convolution(connection)
    matrix = connection.weight if isinstance(connection, nn.Linear) else connection
    if not isinstance(matrix, Tensor) or matrix.ndim != 2:
        return None
    if matrix.layout == torch.sparse_csr:
        return Sparse(matrix)
    return Dense(matrix) if matrix.layout == torch.strided else None
