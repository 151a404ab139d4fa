"""The report of a run: one HTML file that needs nothing else, neither network nor scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikenet.analysis import plots
from spikenet.cache import write_atomically
from spikenet.events import EventStream


class Table(NamedTuple):
    """A table: the names of its columns, and its rows; cells that look like numbers are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """What a report shows, as plain data.

    Attributes:
        title: heading of the page.
        headline: the few facts to be seen first, name -> value.
        facts: further facts about data, model and run, name -> value.
        history: one mapping per epoch, as in metrics.csv.
        confusion: int ``[true, predicted]`` on the test part.
        classes: names of the classes.
        recordings: ``(stream, true class, predicted class)`` of a few test samples.
        rasters: layer -> spikes ``[T, N]`` of the first recording.
        dt_ms: length of a step in milliseconds, or none if a step has no fixed length.
        rates: layer -> spikes per neuron and step.
        energy: the priced comparison.
        layers: operations by layer.
        assumptions: what the energy figures include and leave out.
        environment: versions and machine, name -> value.
    """

    title: str
    headline: Mapping[str, str]
    facts: Mapping[str, str]
    history: Sequence[Mapping[str, float]]
    confusion: np.ndarray
    classes: Sequence[str]
    recordings: Sequence[tuple[EventStream, str, str]]
    rasters: Mapping[str, np.ndarray]
    dt_ms: float | None
    rates: Mapping[str, float]
    energy: Table
    layers: Table
    assumptions: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def write_report(report: Report, path: str | Path) -> None:
    """Write `report` to one self-contained HTML file."""
    write_atomically(Path(path), _page(report).encode())


def _page(report: Report) -> str:
    sections = [
        _section("Learning", _image(plots.learning_curves(report.history), "learning curves")),
        _section("Input events", _recordings(report)),
        _section("Test part", _test(report)),
        _section("Spikes", _rasters(report)),
        _section("Energy", _table(report.energy) + _table(report.layers) + _list(report.assumptions)),
        _section("Run", f'<div class="columns">{_facts(report.facts)}{_facts(report.environment)}</div>'),
    ]
    return _PAGE.format(title=escape(report.title), style=_CSS, headline=_headline(report.headline), body="\n".join(sections))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _headline(facts: Mapping[str, str]) -> str:
    cards = (f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in facts.items())
    return f'<div class="cards">{"".join(cards)}</div>'


def _recordings(report: Report) -> str:
    flat = bool(report.recordings) and report.recordings[0][0].sensor.height > 1
    legend = "ON events red, OFF events blue, accumulated over the recording." if flat else "Channel over time, one dot an event."
    figures = (
        _figure(plots.events(stream), f"{true}" if true == predicted else f"{true}, read as {predicted}", "pixels" if flat else "plot")
        for stream, true, predicted in report.recordings
    )
    return f'<p class="note">{legend} Test samples with their class.</p><div class="gallery">{"".join(figures)}</div>'


def _test(report: Report) -> str:
    confusion = _figure(plots.confusion(report.confusion, report.classes), "Confusion matrix: samples by true and predicted class", "plot")
    rates = _figure(plots.rates(report.rates), "Firing rate of each layer over the test part", "plot") if report.rates else ""
    return f'<div class="columns">{confusion}{rates}</div>'


def _rasters(report: Report) -> str:
    figures = (_figure(plots.raster(spikes, report.dt_ms), f"{name}, {spikes.shape[1]} neurons", "plot") for name, spikes in report.rasters.items())
    return f'<p class="note">What each spiking layer sent for the first recording above.</p><div class="gallery">{"".join(figures)}</div>'


def _image(source: str, text: str, kind: str = "plot") -> str:
    return f'<img class="{kind}" src="{source}" alt="{escape(text)}">'


def _figure(source: str, caption: str, kind: str) -> str:
    return f"<figure>{_image(source, caption, kind)}<figcaption>{escape(caption)}</figcaption></figure>"


def _facts(facts: Mapping[str, str]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(text: str) -> str:
    kind = ' class="number"' if text[:1].isdigit() else ""
    return f"<td{kind}>{escape(text)}</td>"


def _list(items: Sequence[str]) -> str:
    return f'<ul class="note">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>'


_CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f6f8; color: #1c2733; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { margin: 0 0 16px; font-size: 26px; }
h2 { margin: 0 0 12px; font-size: 18px; }
section { background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; padding: 20px 24px; margin-top: 20px; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; }
.card { flex: 1 1 150px; background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; padding: 12px 16px; }
.card b { display: block; font-size: 20px; line-height: 1.3; }
.card span, .note, figcaption { color: #5b6875; font-size: 13px; }
.note { margin: 0 0 12px; }
ul.note { padding-left: 18px; margin: 12px 0 0; }
.columns { display: flex; flex-wrap: wrap; gap: 32px; align-items: flex-start; }
.columns > * { flex: 1 1 380px; min-width: 0; }
.gallery { display: flex; flex-wrap: wrap; gap: 14px; }
figure { margin: 0; }
img { display: block; max-width: 100%; }
img.pixels { width: 148px; border: 1px solid #e1e6eb; border-radius: 4px; image-rendering: pixelated; }
.gallery img.plot { width: 326px; }
table { border-collapse: collapse; width: 100%; margin-bottom: 16px; font-size: 14px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid #e9edf1; }
th { color: #5b6875; font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; font-size: 14px; }
dt { color: #5b6875; }
dd { margin: 0; overflow-wrap: anywhere; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>{headline}
{body}
</main></body>
</html>
"""
