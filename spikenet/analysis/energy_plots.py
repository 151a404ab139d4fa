"""Pictures of energy: by layer, by cause, break-even rates over time steps, and across hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spikenet.analysis.plots import BLUE, GREY, INK, ORANGE, RED, as_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAUSES = {"operations": BLUE, "memory": ORANGE, "neurons": RED, "addressing": GREY, "routing": "#4f9d69"}
_LINES = (BLUE, ORANGE, RED, "#4f9d69", GREY)
_ROWS = 16  # bars by layer; more are drawn as one


@dataclass
class EnergyPictures:
    """What the pictures show, as plain data; energies in nJ a sample.

    Attributes:
        layers: model -> layer -> cause -> energy.
        causes: model -> cause -> energy.
        steps: numbers of time steps at which the break-even curves are given.
        break_even: curve -> firing rate at each of `steps` below which the spiking network wins.
        operating: time steps and firing rate of the network itself.
        hardware: chip -> lowest, middle and highest energy.
        unconfirmed: the chips whose constants are not confirmed.
    """

    layers: Mapping[str, Mapping[str, Mapping[str, float]]]
    causes: Mapping[str, Mapping[str, float]]
    steps: Sequence[int]
    break_even: Mapping[str, Sequence[float]]
    operating: tuple[int, float]
    hardware: Mapping[str, tuple[float, float, float]]
    unconfirmed: Sequence[str] = ()


def by_layer(layers: Mapping[str, Mapping[str, float]]) -> str:
    """Energy of each layer, split by cause, given in nJ a sample; of many layers the small ones in one row."""
    shown = _largest(layers)
    most = max((sum(causes.values()) for causes in shown.values()), default=0.0)
    factor, unit = _unit(most)
    scaled = {name: {cause: factor * spent for cause, spent in causes.items()} for name, causes in shown.items()}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _stack(axes, scaled)
        axes.set(xlabel=f"{unit} per sample", xlim=(0, 1.05 * factor * most or 1))

    return as_svg(draw, 5.2, 1.1 + 0.32 * len(shown))


def _largest(layers: Mapping[str, Mapping[str, float]]) -> Mapping[str, Mapping[str, float]]:
    """The layers in their order, all but the largest added up where there are more than `_ROWS`."""
    if len(layers) <= _ROWS:
        return layers
    kept = sorted(layers, key=lambda name: sum(layers[name].values()), reverse=True)[: _ROWS - 1]
    small = [causes for name, causes in layers.items() if name not in kept]
    rest = {cause: sum(causes.get(cause, 0.0) for causes in small) for cause in _CAUSES}
    return {name: layers[name] for name in layers if name in kept} | {f"{len(small)} other layers": rest}


def by_cause(models: Mapping[str, Mapping[str, float]]) -> str:
    """Share of each cause under each model, with the total in nJ a sample beside it."""
    totals = {model: sum(causes.values()) for model, causes in models.items()}
    shares = {
        model: {cause: 100 * energy / max(totals[model], 1e-30) for cause, energy in causes.items()}
        for model, causes in models.items()
    }

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _stack(axes, shares)
        axes.set(xlabel="share of the energy (%), total at the right", xlim=(0, 120))
        axes.set_xticks(range(0, 101, 20))
        for row, total in enumerate(totals.values()):
            axes.text(102, row, readable(total), va="center", color=INK)

    return as_svg(draw, 5.2, 1.1 + 0.32 * len(models))


def break_even(steps: Sequence[int], curves: Mapping[str, Sequence[float]], operating: tuple[int, float]) -> str:
    """Firing rates below which the spiking network wins over its quantised twin; the network itself is the star."""
    own_steps, own_rate = operating

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for colour, (name, rates) in zip(_LINES, curves.items(), strict=False):
            shown = 100 * np.clip(np.asarray(rates, float), 0, 1)
            never = " (never)" if not (shown > 0).any() else ""
            axes.plot(steps, shown, color=colour, marker="o", markersize=3, label=name + never, clip_on=False)
        axes.plot([own_steps], [100 * own_rate], "*", color=INK, markersize=11, label="this network", clip_on=False)
        axes.set(xlabel="time steps T", ylabel="break-even rate (%)", ylim=(0, 100))
        axes.set_xlim(min(*steps, own_steps) - 0.5, max(*steps, own_steps) + 0.5)
        axes.set_xticks([step for step in steps if step == 1 or step % 4 == 0])
        axes.grid(alpha=0.25)
        figure.legend(loc="outside upper left", frameon=False, ncols=2)

    return as_svg(draw, 5.2, 3.6)


def across_hardware(chips: Mapping[str, tuple[float, float, float]], unconfirmed: Sequence[str] = ()) -> str:
    """Energy on each chip, nJ a sample, on a logarithmic axis; hatched where the constants are not confirmed."""
    ordered = sorted(chips, key=lambda chip: chips[chip][1])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, chip in enumerate(ordered):
            low, value, high = chips[chip]
            doubtful = chip in unconfirmed
            axes.barh(
                row,
                value,
                height=0.6,
                color="white" if doubtful else BLUE,
                edgecolor=BLUE,
                hatch="///" if doubtful else "",
            )
            if high > low:
                axes.plot([low, high], [row, row], color=INK, linewidth=1)
            axes.text(value, row, f"  {readable(value)}", va="center", color=INK)
        axes.set_yticks(range(len(ordered)), [f"{chip} *" if chip in unconfirmed else chip for chip in ordered])
        axes.set_ylim(len(ordered) - 0.5, -0.5)
        values = [chips[chip][1] for chip in ordered if chips[chip][1] > 0] or [1.0]
        axes.set(xscale="log", xlabel="per sample" + (";  * constants not confirmed" if unconfirmed else ""))
        axes.set_xlim(min(values) / 3, max(values) * 30)
        axes.xaxis.set_major_formatter(lambda nanojoules, _: readable(nanojoules))

    return as_svg(draw, 5.2, 1.0 + 0.32 * len(chips))


def readable(nanojoules: float) -> str:
    """Three digits and the unit that suits them, from pJ to J."""
    factor, unit = _unit(nanojoules)
    return f"{nanojoules * factor:.3g} {unit}"


def _unit(nanojoules: float) -> tuple[float, str]:
    """The unit that suits so many nJ, and how many of it a nJ is."""
    units = ("pJ", "nJ", "µJ", "mJ", "J")
    order = int(np.floor(np.log10(nanojoules) / 3 + 1e-9)) if nanojoules > 0 else 0
    chosen = min(max(order + 1, 0), len(units) - 1)
    return 1e3 / 1000.0**chosen, units[chosen]


def _stack(axes: Axes, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Bars laid end to end, one row a name, one colour a cause, a legend where there is more than one."""
    names, start = list(rows), np.zeros(len(rows))
    causes = [cause for cause in _CAUSES if any(row.get(cause) for row in rows.values())]
    for cause in causes:
        values = np.array([row.get(cause, 0.0) for row in rows.values()])
        axes.barh(names, values, left=start, color=_CAUSES[cause], height=0.6, label=cause)
        start += values
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if len(causes) > 1:
        axes.legend(
            frameon=False, ncols=len(causes), loc="lower left", bbox_to_anchor=(-0.02, 1.0), handlelength=1, fontsize=8
        )
