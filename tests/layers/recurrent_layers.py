"""Recurrent layers of three kinds of neurons, their inputs, and the ways in which they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.kernels import use_backend
from spikenet.kernels.recurrent import numba_backend
from spikenet.layers import Recurrent
from spikenet.neurons import LIF, Neuron, SEAdLIF, detach


class Noisy(Neuron):
    """Two inputs, two states, a draw."""

    inputs = ("shunt", "current")
    state = {"v": 0.1, "w": "w0"}
    params = {"tau": 3.0, "w0": 0.2, "noise": 0.6, "v_threshold": 0.6}
    draws = {"xi": "uniform"}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        drive = x.current / (1.0 + abs(x.shunt)) + p.noise * (d.xi - 0.5)
        return {"v": s.v + (drive - s.w - s.v) / p.tau, "w": 0.9 * s.w}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v - detach(z) * p.v_threshold, "w": h.w + 0.2 * z}


def learned(value: Tensor | float) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(value))


N = 13


LAYERS: dict[str, Callable[[], Recurrent]] = {
    "LIF": lambda: Recurrent(LIF(learned(torch.rand(N) + 1.5), learned(0.8), v_rest=learned(0.1)), N, bias=True),
    "SEAdLIF": lambda: Recurrent(SEAdLIF(6.0, 30.0, q=2.0), N),
    "Noisy": lambda: Recurrent(Noisy(tau=learned(3.0), w0=learned(0.2)), N, into="current", autapses=False),
}


def drive(layer: Recurrent, steps: int = 37, batch: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Inputs as the layer's neuron takes them."""
    shape, generator = (steps, batch, layer.features), torch.Generator().manual_seed(5)
    return [(torch.randn(shape, generator=generator) * 1.5 + 0.8).to(dtype) for _ in layer.neuron.inputs]


def made(name: str) -> Recurrent:
    torch.manual_seed(3)
    layer = LAYERS[name]()
    if layer.bias is not None:
        layer.bias.data.normal_()
    return layer


WAYS = ("reference", "numba", "products")


@contextmanager
def going(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The reference; the Numba kernel that goes through all steps; a product and a Numba kernel each step."""
    if way == "products":
        monkeypatch.setattr(numba_backend, "FEATURES", 0)
    with use_backend("reference" if way == "reference" else "numba"):
        yield way
