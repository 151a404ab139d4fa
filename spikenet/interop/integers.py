"""The integer file of a quantised network, and a simulator that computes it with integers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spikenet import layers
from spikenet.errors import ArgumentError, FormatError, ShapeError
from spikenet.interop.quantize import ShiftLIF

__all__ = ["IntegerNetwork", "save_integers"]

FORMAT, VERSION = "spikenet integers", 1
Array = np.ndarray[Any, Any]


def save_integers(net: nn.Sequential, path: str | Path) -> None:
    """Write a network of `quantized` as integers: `path.json` says what is computed, `path.safetensors` holds numbers.

    The JSON file is `{"format": "spikenet integers", "version": 1, "layers": [...]}`. Each layer takes the integers
    that the one before puts out, `[C, H, W]` or `[N]` in each step:

    | kind | fields, and tensors under `<number>.<name>` | what it computes |
    |---|---|---|
    | `linear` | `weight` [out, in], `bias` [out] | `y = W x + b` |
    | `convolution` | `stride`, `padding`, `dilation`, `groups`; `weight` [out, in / groups, h, w], `bias` | likewise |
    | `neuron` | `shift` or null, `bits`, `reset` hard, soft or none; `threshold`, `start`; hard: `to` | see below |
    | `maximum`, `sum` | `size`, `stride`, `padding` | pooling |
    | `flatten` | | `[C, H, W]` to `[C H W]`, the last axis fastest |
    | `readout` | `unit` [out], float64 | the mean over time of `y unit`: the answer |

    Weights are int8 (int16 if larger), all else int32. A neuron holds a potential v, at first `start`, and computes in
    each step `v = clip(v - (v >> shift) + x, -2^(bits-1), 2^(bits-1) - 1)`, `z = v >= threshold`, and then
    `v = to` where z (hard) or `v = v - threshold z` (soft).

    Args:
        net: what `quantized` made, trained or not; with a `MeanReadout` at its end.
        path: without a suffix.

    Raises:
        ArgumentError: for a network that `quantized` did not make.
    """
    from safetensors.numpy import save_file

    described: list[dict[str, Any]] = []
    tensors: dict[str, Array] = {}
    unit: Array | None = None
    for number, layer in enumerate(net):
        found, arrays, unit = _written(layer, unit)
        described.append(found)
        tensors |= {f"{number}.{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    path = Path(path)
    save_file(tensors, path.with_suffix(".safetensors"))
    text = json.dumps({"format": FORMAT, "version": VERSION, "layers": described}, indent=1)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def _written(layer: nn.Module, unit: Array | None) -> tuple[dict[str, Any], dict[str, Array], Array | None]:
    """What the file says of a layer, its arrays, and the unit of its output."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return _weights(layer)
    if isinstance(layer, ShiftLIF):
        reset = "hard" if layer.hard else "soft" if layer.soft else "none"
        names = {"v_threshold": "threshold", "v_rest": "start"} | ({"v_reset": "to"} if layer.hard else {})
        arrays = {own: _int(getattr(layer, name) / layer.unit, np.int32) for name, own in names.items()}
        return {"kind": "neuron", "shift": layer.shift, "bits": layer.bits, "reset": reset}, arrays, None
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        sizes = (layer.kernel_size, layer.stride, layer.padding)
        kind = "maximum" if isinstance(layer, nn.MaxPool2d) else "sum"
        return {"kind": kind} | dict(zip(("size", "stride", "padding"), map(_pair, sizes), strict=True)), {}, None
    if isinstance(layer, nn.Flatten):
        return {"kind": "flatten"}, {}, None
    if isinstance(layer, layers.MeanReadout) and unit is not None:
        return {"kind": "readout"}, {"unit": unit}, None
    raise ArgumentError(f"{type(layer).__name__} is not what quantized() leaves, or stands where it cannot")


def _weights(layer: nn.Linear | nn.Conv2d) -> tuple[dict[str, Any], dict[str, Array], Array]:
    if not hasattr(layer, "parametrizations"):
        raise ArgumentError(f"{type(layer).__name__} has weights on no grid; quantized() puts them there")
    rules: Any = layer.parametrizations
    whole = rules.weight[0].whole(rules.weight.original)
    dtype = np.int8 if int(whole.abs().max()) < 128 else np.int16
    arrays = {"weight": _int(whole, dtype), "bias": np.zeros(len(whole), np.int32)}
    if layer.bias is not None:
        arrays["bias"] = _int(rules.bias[0].whole(rules.bias.original), np.int32)
    unit = rules.weight[0].unit.flatten().double().cpu().numpy()
    if isinstance(layer, nn.Linear):
        return {"kind": "linear"}, arrays, unit
    sizes = {name: _pair(getattr(layer, name)) for name in ("stride", "padding", "dilation")}
    return {"kind": "convolution", "groups": layer.groups, **sizes}, arrays, unit


def _int(values: torch.Tensor, dtype: Any) -> Array:
    numbers = values.detach().cpu().double().numpy()
    whole: Array = np.rint(numbers).astype(dtype)
    if not np.array_equal(whole, numbers):
        raise ArgumentError("a threshold or potential that is no whole number of units; quantized() rounds them")
    return whole


def _pair(value: Any) -> list[int]:
    return [int(n) for n in (value if isinstance(value, tuple | list) else (value, value))]


class IntegerNetwork:
    """The network of an integer file, computed with NumPy's integers: what a processor for it must give.

    Called on whole numbers `[T, B, *features]`; returns the mean over time of the last layer's output, in float64,
    `[B, classes]`. `trace` returns each layer's integers.

    Args:
        path: of the file, without a suffix.

    Raises:
        FormatError: for files that are no such network.
    """

    def __init__(self, path: str | Path) -> None:
        from safetensors.numpy import load_file

        path = Path(path)
        described = path.with_suffix(".json")
        try:
            said = json.loads(described.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(described, None, f"no description of an integer network: {error}") from error
        if not isinstance(said, dict) or (said.get("format"), said.get("version")) != (FORMAT, VERSION):
            raise FormatError(described, None, f"expected {FORMAT!r}, version {VERSION}")
        self.layers: list[dict[str, Any]] = said["layers"]
        numbers = load_file(path.with_suffix(".safetensors"))
        for number, layer in enumerate(self.layers):
            layer |= {k.split(".")[1]: v for k, v in numbers.items() if k.split(".")[0] == str(number)}

    def __call__(self, x: Array | torch.Tensor) -> Array:
        """The answer for whole numbers `[T, B, *features]`."""
        return self.trace(x)[-1]

    def trace(self, x: Array | torch.Tensor) -> list[Array]:
        """The output of each layer, `[T, B, *features]`, and at the end the answer."""
        values = np.asarray(x)
        whole = values.astype(np.int64)
        if not np.array_equal(whole, values) or values.ndim < 3:
            raise ShapeError(f"IntegerNetwork takes whole numbers [T, B, *features], got {values.dtype} {values.shape}")
        outputs: list[Array] = []
        for layer in self.layers:
            whole = getattr(self, f"_{layer['kind']}")(layer, whole)
            outputs.append(whole)
        return outputs

    @staticmethod
    def _linear(layer: dict[str, Any], x: Array) -> Array:
        y: Array = x @ layer["weight"].astype(np.int64).T + layer["bias"]
        return y

    @staticmethod
    def _convolution(layer: dict[str, Any], x: Array) -> Array:
        weight, groups = layer["weight"].astype(np.int64), layer["groups"]
        windows = _windows(x, weight.shape[2:], layer, 0, layer["dilation"])
        parts = zip(np.split(windows, groups, 2), np.split(weight, groups), strict=True)
        y = [np.einsum("tbcyxij,ocij->tboyx", part, own, optimize=True) for part, own in parts]
        return np.concatenate(y, 2) + layer["bias"][:, None, None]

    @staticmethod
    def _neuron(layer: dict[str, Any], x: Array) -> Array:
        most = 1 << (layer["bits"] - 1)
        v = np.broadcast_to(layer["start"].astype(np.int64), x.shape[1:]).copy()
        z = np.empty_like(x)
        for t, now in enumerate(x):
            leak = 0 if layer["shift"] is None else v >> layer["shift"]
            v = np.clip(v - leak + now, -most, most - 1)
            z[t] = v >= layer["threshold"]
            if layer["reset"] == "hard":
                v = np.where(z[t] > 0, layer["to"], v)
            elif layer["reset"] == "soft":
                v = v - z[t] * layer["threshold"]
        return z

    @staticmethod
    def _maximum(layer: dict[str, Any], x: Array) -> Array:
        y: Array = _windows(x, layer["size"], layer, np.iinfo(np.int64).min, [1, 1]).max((-2, -1))
        return y

    @staticmethod
    def _sum(layer: dict[str, Any], x: Array) -> Array:
        y: Array = _windows(x, layer["size"], layer, 0, [1, 1]).sum((-2, -1))
        return y

    @staticmethod
    def _flatten(layer: dict[str, Any], x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1)

    @staticmethod
    def _readout(layer: dict[str, Any], x: Array) -> Array:
        answer: Array = x.sum(0) * layer["unit"] / len(x)
        return answer


def _windows(x: Array, size: Any, layer: dict[str, Any], fill: int, dilation: Any) -> Array:
    """`[T, B, C, H', W', kh, kw]`: what each place of the output sees."""
    up, left = layer["padding"]
    padded = np.pad(x, [(0, 0)] * 3 + [(up, up), (left, left)], constant_values=fill)
    spans = tuple(d * (n - 1) + 1 for d, n in zip(dilation, size, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, (3, 4))
    down, across = layer["stride"]
    return seen[:, :, :, ::down, ::across, :: dilation[0], :: dilation[1]]
