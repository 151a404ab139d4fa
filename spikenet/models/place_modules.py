"""Place recognition by many small spiking networks, each of which knows a stretch of the way and hears everything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError, ShapeError
from spikenet.models.diehl_cook import DiehlCook, assign_neurons, class_scores

__all__ = ["PlaceModules", "patch_normalize", "recall_at"]


class PlaceModules(nn.Module):
    """Modules of competing neurons for consecutive places; a query goes to all of them, and the best place wins.

    A module learns its own places alone (with a local rule of `spikenet.learning`), so it never hears what belongs to
    others and may answer it all the same. Neurons that answer too many of the references are hyperactive and are
    silenced: `silence`.

        scores = modules.scores(modules.counts(spikes))          # [B, places]

    Args:
        in_shape: feature dimensions of one step.
        places: how many in all.
        per_module: places of a module; divides `places`.
        neurons: of a module.
        theta: threshold to start from, see `DiehlCook`.
        seed: module k takes `1000 seed + k`.

    Attributes:
        parts: the modules, `DiehlCook` each.
        assigned: the place of every neuron, int64 `[modules x neurons]`, -1 for none.
        active: which neurons take part, bool.

    Raises:
        ArgumentError: if the places do not fill whole modules.

    Source: Hussaini, Milford and Fischer, "Ensembles of compact, region-specific and regularized spiking neural
    networks for scalable place recognition", ICRA 2023, arXiv 2209.08723.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        places: int,
        per_module: int = 25,
        neurons: int = 100,
        theta: float = 20.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if places < 1 or places % per_module:
            raise ArgumentError(f"PlaceModules: {places} places do not fill modules of {per_module}")
        self.places, self.per_module, self.neurons = places, per_module, neurons
        numbers = range(places // per_module)
        self.parts = nn.ModuleList(DiehlCook(in_shape, neurons, theta=theta, seed=1000 * seed + k) for k in numbers)
        self.register_buffer("assigned", torch.full((len(numbers) * neurons,), -1))
        self.register_buffer("active", torch.ones(len(numbers) * neurons, dtype=torch.bool))
        self.assigned: Tensor
        self.active: Tensor

    def own(self, k: int, labels: Tensor) -> Tensor:
        """Which of the recordings, by their places `[B]`, belong to module k."""
        return labels // self.per_module == k

    def counts(self, x: Tensor) -> Tensor:
        """Spikes of all neurons of all modules for spikes `[T, B, *in_shape]`, `[B, modules x neurons]`."""
        return torch.cat([part(x).sum(0) for part in self.parts], 1)

    def assign(self, counts: Tensor, labels: Tensor) -> None:
        """Give every neuron a place: of its module's references, the one that it spiked most at."""
        for k in range(len(self.parts)):
            some, mine = slice(k * self.neurons, (k + 1) * self.neurons), self.own(k, labels)
            self.assigned[some] = assign_neurons(counts[mine, some], labels[mine], self.places)

    def silence(self, counts: Tensor, threshold: int) -> None:
        """Leave out the hyperactive neurons: those that spike at `threshold` or more of the references, of all places.
        0 leaves out none.

        Args:
            counts: of all references, `[B, modules x neurons]`.
            threshold: number of references.
        """
        answered = (counts > 0).sum(0)
        self.active.copy_((answered < threshold) | (threshold == 0))

    def scores(self, counts: Tensor) -> Tensor:
        """How much speaks for each place, `[B, places]`: spikes of its neurons by their number."""
        return class_scores(counts * self.active, self.assigned, self.places)


def recall_at(scores: Tensor, places: Tensor, n: int = 1) -> float:
    """Share of queries whose place is among the `n` best, without tolerance; a tie counts against it.

    Args:
        scores: `[B, places]`.
        places: the true ones, int64 `[B]`.
        n: 1 or more.
    """
    rank = (scores >= scores.gather(1, places[:, None])).sum(1)
    return (rank <= n).double().mean().item()


def patch_normalize(images: Tensor, patch: int = 7) -> Tensor:
    """Each pixel less the mean of its neighbourhood, by that one's standard deviation, clipped to -1 to 1; 0 in a
    neighbourhood of one grey. At the border the neighbourhood is smaller.

    Args:
        images: `[B, H, W]`.
        patch: side of the neighbourhood, odd.

    Raises:
        ShapeError: for other dimensions. ArgumentError: for an even side.
    """
    if images.ndim != 3:
        raise ShapeError(f"patch_normalize takes images [B, H, W], got {tuple(images.shape)}")
    if patch < 1 or patch % 2 == 0:
        raise ArgumentError(f"patch_normalize: the patch has an odd side, got {patch}")
    x = images.double()[:, None]
    total, square, count = (
        functional.avg_pool2d(v, patch, 1, patch // 2, divisor_override=1) for v in (x, x * x, torch.ones_like(x))
    )
    mean = total / count
    deviation = (square / count - mean**2).clamp(min=0).sqrt()
    flat = deviation < 1e-6 * x.abs().amax().clamp(min=1e-12)
    normal = torch.where(flat, 0.0, (x - mean) / deviation.clamp(min=1e-12))
    return normal.clamp(-1, 1)[:, 0].to(images.dtype)
