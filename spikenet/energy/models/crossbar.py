"""In-memory computing on crossbars in the style of SpikeSim (Moitra et al., IEEE TCAD 2023).

A site of a convolution's output costs one cycle for each pair of tiles of 64 input and 64 output channels. With
``b = 64 / 8`` converters in a row, and k taps of the kernel,

    E_cycle = h_tree + fetch + tile_buffer + 16 b subtract + b temporary_buffer + b^2 (adc + multiplexer)
            + neuron + b k crossbar
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spikenet.energy.hardware import Profile
from spikenet.energy.models.base import EnergyModel, Parts, spend, steps
from spikenet.energy.work import LayerWork, Work
from spikenet.errors import UnknownNameError

_SIZE = 64
_ROW = _SIZE / 8
_PERIPHERY = ("tile_buffer", "temporary_buffer", "subtract", "adc", "h_tree", "multiplexer", "fetch", "neuron")
_DEVICES = ("rram", "sram")


class Crossbar(EnergyModel):
    """Cycles of analogue crossbars with their converters, buffers and tree.

    Args:
        device: what a cell is, ``rram`` or ``sram``.
        gated: whether only rows that a spike drives cost; otherwise, as SpikeSim's released code has it, all of them.
        profile: constants of every component.
    """

    name = "crossbar"
    default = "spikesim-65nm"

    def __init__(self, device: str = "rram", gated: bool = False, profile: Profile | str | Path | None = None) -> None:
        if device not in _DEVICES:
            raise UnknownNameError("crossbar device", device, _DEVICES)
        self.needs = tuple(f"crossbar.{part}" for part in (*_PERIPHERY, device))
        super().__init__(profile)
        self.device, self.gated = device, gated
        rows = "only rows that a spike drives cost" if gated else "every row costs, whatever arrives"
        self.assumptions = (
            f"SpikeSim-style crossbars of {_SIZE} x {_SIZE} {device} cells: {rows}; the control costs at every site.",
            "A linear layer is a convolution of one tap with one site a step, ours. Neurons are charged where a layer "
            "ends, by the cycle.",
        )

    def price(self, layer: LayerWork, work: Work) -> Parts:
        if layer.operation != "connection" or not layer.geometry.outputs:
            return {}
        shape, of = layer.geometry, self._constant
        tiles_out = math.ceil(shape.outputs / _SIZE)
        channels = shape.inputs // shape.groups
        cycles = steps(layer, "outputs", work) / shape.outputs * math.ceil(channels / _SIZE) * tiles_out
        converters = _ROW * 16 * of("subtract") + _ROW**2 * of("adc")
        buffers = of("tile_buffer") + _ROW * of("temporary_buffer") + of("fetch")
        return {
            "operations": spend(converters, cycles) + self._cells(layer, work, cycles, channels, tiles_out),
            "memory": spend(buffers, cycles),
            "routing": spend(of("h_tree") + _ROW**2 * of("multiplexer"), cycles),
            "neurons": spend(of("neuron"), cycles),
        }

    def _cells(self, layer: LayerWork, work: Work, cycles: np.ndarray, channels: int, tiles_out: int) -> np.ndarray:
        cells = self._constant(self.device)
        if not self.gated or layer.values == "graded":
            return spend(_ROW * layer.geometry.kernel * cells, cycles)
        driven = steps(layer, "acs", work) / (layer.geometry.outputs / layer.geometry.groups) * tiles_out
        filled = math.ceil(channels / _SIZE) * _SIZE / channels  # a row of a tile that is not full costs as a full one
        return spend(cells / 8 * filled, driven)

    def _constant(self, part: str) -> np.ndarray:
        return self.profile[f"crossbar.{part}"]
