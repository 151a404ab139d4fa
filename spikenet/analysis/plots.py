"""Pictures as data URIs, ready for an ``<img>``: curves and bars as SVG, events and rasters as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spikenet.events import EventStream

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, BLUE, ORANGE, RED = "#1c2733", "#8a97a5", "#2f6db5", "#e08a1e", "#c8452f"
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "spikenet",
}
_MOST_ROWS = 200
_MOST_NUMBERS = 20


def learning_curves(history: Sequence[Mapping[str, float]]) -> str:
    """Loss and accuracy over epochs, training beside validation.

    Args:
        history: one mapping per epoch with epoch, train_loss, valid_loss, train_accuracy, valid_accuracy.
    """

    def draw(figure: Figure) -> None:
        epochs = [row["epoch"] for row in history]
        for axes, what, factor, unit in zip(
            figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), ("", " (%)"), strict=True
        ):
            for split, colour in (("train", BLUE), ("valid", ORANGE)):
                values = [row[f"{split}_{what}"] * factor for row in history]
                axes.plot(
                    epochs,
                    values,
                    color=colour,
                    marker="o",
                    markersize=3,
                    label={"valid": "validation"}.get(split, split),
                )
            axes.set(xlabel="epoch", ylabel=what + unit)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.25)
            axes.legend(frameon=False)

    return as_svg(draw, 9.6, 3.0)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Confusion matrix ``[true, predicted]``; numbers inside when there are few classes."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
        axes.set_xticklabels(classes, rotation=90 if max(map(len, classes)) > 2 else 0)
        axes.set_yticklabels(classes)
        if len(classes) <= _MOST_NUMBERS:
            _numbers(axes, matrix, shares)

    side = min(8.0, 2.2 + 0.3 * len(classes))
    return as_svg(draw, side, side)


def rates(by_layer: Mapping[str, float]) -> str:
    """Firing rate of each layer, spikes per neuron and step in percent."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        names, values = list(by_layer), [100 * rate for rate in by_layer.values()]
        axes.barh(names, values, color=BLUE, height=0.6)
        axes.invert_yaxis()
        axes.set(xlabel="spikes per neuron and step (%)", xlim=(0, max([*values, 1e-9]) * 1.2))
        for row, value in enumerate(values):
            axes.text(value, row, f"  {value:.1f}", va="center", color=INK)

    return as_svg(draw, 4.8, 0.9 + 0.35 * len(by_layer))


def events(stream: EventStream) -> str:
    """A recording as a picture: ON red, OFF blue, over its first third. A sensor of one row: channel over time."""
    return _address_time(stream) if stream.sensor.height == 1 else _accumulated(stream)


def raster(spikes: np.ndarray, dt_ms: float | None = None) -> str:
    """Spike raster.

    Args:
        spikes: ``[T, N]``, non-zero = a spike; above 200 neurons an even choice of them is drawn.
        dt_ms: length of a step in milliseconds; without it the axis counts steps.
    """
    chosen = np.linspace(0, spikes.shape[1] - 1, min(_MOST_ROWS, spikes.shape[1])).round().astype(int)
    step, neuron = np.nonzero(spikes[:, chosen])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.scatter(step * (dt_ms or 1), chosen[neuron], s=5, marker="|", linewidths=0.8, color=INK)
        axes.set(xlim=(-0.5 * (dt_ms or 1), (len(spikes) - 0.5) * (dt_ms or 1)), ylim=(-1, spikes.shape[1]))
        axes.set(xlabel="time (ms)" if dt_ms else "step", ylabel="neuron")

    return _png(draw, 4.6, 2.3)


def _numbers(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            axes.text(
                column,
                row,
                value,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 0.5 else INK,
            )


def _accumulated(stream: EventStream) -> str:
    """The first third only: later a moving edge comes back and both polarities cover each other."""
    sensor = stream.sensor
    start = int(stream.t.min()) if len(stream) else 0
    stream = stream.slice(start, start + max(stream.duration // 3, 1))
    counts = np.zeros((max(sensor.polarities, 2), sensor.height, sensor.width))
    np.add.at(counts, (stream.p.numpy(), stream.y.numpy(), stream.x.numpy()), 1)
    strength = np.minimum(counts / max(np.quantile(counts[counts > 0], 0.98) if counts.any() else 1, 1), 1)
    off, on = strength[0][..., None], strength[1][..., None]
    picture = 1 - off * (1 - np.array([0.18, 0.43, 0.71])) - on * (1 - np.array([0.78, 0.27, 0.18]))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.imshow(np.clip(picture, 0, 1), interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    scale = 1.5 / max(sensor.height, sensor.width)
    return _png(draw, sensor.width * scale, sensor.height * scale, tight=False)


def _address_time(stream: EventStream) -> str:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.scatter(stream.t.numpy() / 1000, stream.x.numpy(), s=0.6, color=INK, linewidths=0)
        axes.set(xlabel="time (ms)", ylabel="channel", ylim=(0, stream.sensor.width))

    return _png(draw, 2.9, 2.2)


def as_svg(draw: Any, width: float, height: float) -> str:
    """`draw(figure)` on a figure of that many inches, as a data URI."""
    return _render(draw, width, height, "svg", "image/svg+xml", {"metadata": {"Date": None}})


def _png(draw: Any, width: float, height: float, tight: bool = True) -> str:
    return _render(draw, width, height, "png", "image/png", {"dpi": 160}, tight)


def _render(
    draw: Any, width: float, height: float, kind: str, mime: str, options: dict[str, Any], tight: bool = True
) -> str:
    """Draw on a figure of its own (no pyplot, so no global state and no display) and encode it."""
    import matplotlib
    from matplotlib.figure import Figure

    target = io.BytesIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type, unused-ignore]
        figure = Figure(figsize=(width, height), layout="constrained" if tight else None)
        draw(figure)
        figure.savefig(target, format=kind, **options)
    return f"data:{mime};base64,{base64.b64encode(target.getvalue()).decode()}"
