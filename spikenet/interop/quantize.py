"""Quantisation-aware training: weights of few bits, potentials in whole units, so that integers compute the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikenet import layers
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop.convert import fold_batch_norm
from spikenet.kernels.dynamics.words import detach, floor, maximum, minimum
from spikenet.neurons import IF, LIF, Neuron, Param
from spikenet.neurons.reset import NoReset, ResetNeuron, VReset

__all__ = ["Grid", "Integers", "PowersOfTwo", "ShiftLIF", "Ternary", "quantized"]

_WEIGHTED = (nn.Linear, nn.Conv2d)
_PASSED = (nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, layers.MeanReadout)


class Grid(Protocol):
    """The whole numbers that weights may take, in units."""

    @property
    def bits(self) -> int:
        """What one of them takes in memory."""

    @property
    def largest(self) -> int:
        """The highest of them."""

    def nearest(self, w: Tensor) -> Tensor:
        """For each number one of them."""


@dataclass(frozen=True)
class Integers:
    """Two's complement: `-2^(bits-1)` to `2^(bits-1) - 1`.

    Args:
        bits: of a weight, 2 to 16.
    """

    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ArgumentError(f"Integers.bits must be 2 to 16, got {self.bits}; Ternary() is between 1 and 2")

    @property
    def largest(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def nearest(self, w: Tensor) -> Tensor:
        return w.round().clamp(-self.largest - 1, self.largest)


@dataclass(frozen=True)
class Ternary:
    """-1, 0 and 1."""

    @property
    def bits(self) -> int:
        return 2

    @property
    def largest(self) -> int:
        return 1

    def nearest(self, w: Tensor) -> Tensor:
        return w.round().clamp(-1, 1)


@dataclass(frozen=True)
class PowersOfTwo:
    """0 and `+-2^k` for `k = 0 .. 2^(bits-1) - 2`: a sign and an exponent; a product is a shift.

    Args:
        bits: of a weight, 2 to 5.
    """

    bits: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 5:
            raise ArgumentError(f"PowersOfTwo.bits must be 2 to 5, got {self.bits}")

    @property
    def largest(self) -> int:
        return 1 << (2 ** (self.bits - 1) - 2)

    def nearest(self, w: Tensor) -> Tensor:
        size = w.abs().clamp(max=float(self.largest))
        below = torch.exp2(torch.floor(torch.log2(size.clamp(min=1.0))))
        power = torch.where(size >= 1.5 * below, 2 * below, below).clamp(max=float(self.largest))
        return torch.where(size < 0.5, 0.0, power) * w.sign()


class _OnGrid(nn.Module):
    """Weights at numbers of a grid; the gradient passes as if they were not moved."""

    unit: Tensor

    def __init__(self, grid: Grid | None, unit: Tensor) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("unit", unit)

    def whole(self, w: Tensor) -> Tensor:
        """In units; a bias has no grid and may be any whole number."""
        units = w / self.unit
        return units.round() if self.grid is None else self.grid.nearest(units)

    def forward(self, w: Tensor) -> Tensor:
        return w + (self.whole(w) * self.unit - w).detach()


class ShiftLIF(ResetNeuron):
    """LIF neuron whose potential is a whole number of units, of so many bits: what an integer processor computes.

        h[t] = v[t-1] - unit floor(v[t-1] / (unit 2^shift)) + x[t],  held between -+unit 2^(bits-1)

    and fires and resets as `IF` does. Without a shift nothing leaks. For inputs, thresholds and resets of whole units
    every step is exact in float32 up to 24 bits. Gradients see the leak without the floor.

    Args:
        shift: `log2(tau / dt)`, or None for no leak.
        unit: of the potential, a power of two; per channel `[C, 1, 1]` or per neuron.
        bits: of the potential with its sign, 2 to 24.
        v_threshold, v_reset, detach_reset, surrogate, v_rest: as for `IF`.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `bits` is not 2 to 24 or `shift` below 0.

    Source: the update of digital neuromorphic processors, as in Davies et al., "Loihi", IEEE Micro 38, 2018, with a
    shift in the place of a multiplication.
    """

    state = {"v": "v_rest"}
    params = {"unit": Param(1.0, above=0.0), "v_threshold": 1.0, "v_reset": 0.0, "v_rest": 0.0}

    def __init__(
        self,
        shift: int | None = 1,
        unit: float | Tensor = 1.0,
        bits: int = 16,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = 0.0,
        *,
        detach_reset: bool = False,
        **rest: Any,
    ) -> None:
        if not 2 <= bits <= 24 or (shift is not None and shift < 0):
            raise ArgumentError(f"ShiftLIF: bits must be 2 to 24 and shift 0 or more, got {bits} and {shift}")
        self.shift, self.bits = shift, bits
        super().__init__(v_reset, detach_reset, unit=unit, v_threshold=v_threshold, **rest)

    @property
    def state_bits(self) -> int:
        """What a potential takes in memory, for `spikenet.energy`."""
        return self.bits

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        most = p["unit"] * 2.0 ** (self.bits - 1)
        rate = 0.0 if self.shift is None else 2.0**-self.shift
        return {**p, "rate": torch.full_like(p["unit"], rate), "least": -most, "most": most - p["unit"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        leak = s.v * p.rate / p.unit
        left = s.v - s.v * p.rate - detach(floor(leak) - leak) * p.unit
        return {"v": maximum(minimum(left + x.x, p.most), p.least)}


def quantized(net: nn.Sequential, grid: Grid, *, state_bits: int = 16) -> nn.Sequential:
    """A copy of a network with weights on a grid and potentials in whole units, to be trained on.

    The unit of an output channel is the power of two with the least squared error of its weights; biases, thresholds
    and resets are rounded to it. `IF` and `LIF`, with a `tau` of a power of two steps, become `ShiftLIF`; where a LIF
    scales its input (`decay_input=True`), the weights before it do that. Batch norms are folded first, and the units
    are found once, so train in float before. The weights themselves stay beside those on the grid
    (`torch.nn.utils.parametrize`), with gradients straight through.

    Args:
        net: `Conv2d`, `nn.Linear`, neurons, `MaxPool2d`, `AvgPool2d` (with `divisor_override=1`, a sum), `nn.Flatten`
            and, at the end, perhaps a `MeanReadout`, one after the other; its input whole numbers.
        grid: `Integers(bits)`, `Ternary()`, `PowersOfTwo(bits)`, or one of your own.
        state_bits: of a potential, with its sign.

    Returns:
        the copy; `save_integers` writes it.

    Raises:
        UnknownNameError: for a layer that integers cannot compute.
        ArgumentError: for one of its options.

    Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference", CVPR 2018 (fake quantisation); Bengio et al., arXiv 1308.3432 (straight-through).
    """
    flat = _unscaled(list(fold_batch_norm(net)))
    ready: list[nn.Module] = []
    unit: Tensor | None = None
    for layer in flat:
        if isinstance(layer, _WEIGHTED):
            unit = _on_grid(layer, grid)
            ready.append(layer)
        elif isinstance(layer, IF | LIF) and type(layer) in (IF, LIF):
            ready.append(_shifted(layer, unit, state_bits))
        elif isinstance(layer, _PASSED):
            if isinstance(layer, nn.AvgPool2d) and layer.divisor_override != 1:
                raise ArgumentError(
                    "integers have no mean: AvgPool2d(..., divisor_override=1), and smaller weights after"
                )
            ready.append(layer)
        else:
            known = [kind.__name__ for kind in (*_WEIGHTED, IF, LIF, *_PASSED)]
            raise UnknownNameError("layer to quantise", type(layer).__name__, known)
    return nn.Sequential(*ready).train(net.training)


def _unscaled(flat: list[nn.Module]) -> list[nn.Module]:
    """The same layers, changed in place: the factor by which a LIF neuron scales its input goes into the weights before
    it. It is a power of two, so nothing is rounded."""
    weighted: Any = None
    for layer in flat:
        if isinstance(layer, _WEIGHTED):
            weighted = layer
        elif isinstance(layer, Neuron):
            if type(layer) is LIF and weighted is not None and layer.decay_input and not layer.exact_decay:
                layer.decay_input = False
                with torch.no_grad():
                    for own in (weighted.weight, weighted.bias):
                        if own is not None:
                            own.mul_(2.0 ** -_shift(layer))
            weighted = None
    return flat


def _on_grid(layer: nn.Linear | nn.Conv2d, grid: Grid) -> Tensor:
    """Parametrise a layer; returns the unit of each channel of its output."""
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise ArgumentError(f"integers pad zeros, by numbers; got {layer.padding!r}, {layer.padding_mode}")
    weight, layer.weight_bits = layer.weight.detach(), grid.bits  # type: ignore[assignment] # for `spikenet.energy`
    unit = _best_unit(weight.flatten(1), grid)
    parametrize.register_parametrization(layer, "weight", _OnGrid(grid, unit.view(-1, *(1,) * (weight.ndim - 1))))
    if layer.bias is not None:
        parametrize.register_parametrization(layer, "bias", _OnGrid(None, unit.clone()))
    return unit.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else unit


def _best_unit(rows: Tensor, grid: Grid) -> Tensor:
    """For each row the power of two with the least squared error: that which holds its largest weight, or a smaller."""
    most = rows.abs().amax(1).clamp(min=1e-6)
    holds = torch.ceil(torch.log2(most / grid.largest))
    units = torch.exp2(holds[:, None] - torch.arange(4))
    errors = torch.stack([((grid.nearest(rows / u[:, None]) * u[:, None] - rows) ** 2).sum(1) for u in units.T], 1)
    return units.gather(1, errors.argmin(1, keepdim=True)).squeeze(1)


def _shifted(neuron: Any, own: Tensor | None, bits: int) -> Neuron:
    if own is None:
        raise ArgumentError("a neuron needs a layer with weights before it, whose unit its potential has")
    if isinstance(neuron, LIF) and (neuron.decay_input or neuron.exact_decay):
        raise ArgumentError("integers leak by shifts: LIF(tau, decay_input=False) with a tau of 2, 4, 8 .. steps")
    if isinstance(neuron, LIF) and torch.as_tensor(neuron.v_rest).count_nonzero():
        raise ArgumentError("integers leak towards 0: LIF(v_rest=0)")
    shift = _shift(neuron) if isinstance(neuron, LIF) else None
    whole = {k: (getattr(neuron, k).detach() / own).round() * own for k in ("v_threshold", "v_rest")}
    whole["v_threshold"] = torch.maximum(whole["v_threshold"], own)
    v_reset: Any = (neuron.v_reset.detach() / own).round() * own if neuron.hard else None
    if not neuron.hard and not neuron.soft:
        v_reset = NoReset.NO_RESET
    options = {"detach_reset": neuron.detach_reset, "surrogate": neuron.emit.surrogate}
    return ShiftLIF(shift, own.clone(), bits, v_reset=v_reset, **whole, **options)


def _shift(neuron: LIF) -> int:
    tau: Any = neuron.tau
    steps = tau / neuron.dt
    shift = math.log2(float(steps)) if steps.numel() == 1 else math.nan
    if not shift.is_integer() or shift < 0:
        raise ArgumentError(f"integers leak by shifts: tau must be one power of two in steps, got {steps.tolist()}")
    return round(shift)
