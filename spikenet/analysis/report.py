"""The report of a run: one HTML file that needs nothing else, neither network nor scripts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np

from spikenet.analysis import energy_plots, plots
from spikenet.analysis.energy_plots import EnergyPictures
from spikenet.cache import write_atomically
from spikenet.events import EventStream

_PAGE = Path(__file__).with_name("page.html")


class Table(NamedTuple):
    """A table: the names of its columns, its rows, and which columns hold numbers (set to the right)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[int]


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
        layers: operations by layer: connections, neurons.
        assumptions: what the energy figures include and leave out.
        pictures: what the energy pictures show, if a spike was sent.
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
    layers: Sequence[Table]
    assumptions: Sequence[str]
    pictures: EnergyPictures | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def write_report(report: Report, path: str | Path) -> None:
    """Write `report` to one self-contained HTML file."""
    write_atomically(Path(path), _page(report).encode())


def write_tables(
    title: str, headline: Mapping[str, str], tables: Mapping[str, Table], notes: Sequence[str], path: str | Path
) -> None:
    """Write tables to one self-contained HTML file.

    Args:
        title: heading of the page.
        headline: the few facts to be seen first, name -> value.
        tables: heading -> table.
        notes: what the numbers mean.
        path: the file.
    """
    sections = [
        *(_section(name, f'<div class="scroll">{_table(table)}</div>') for name, table in tables.items()),
        _section("Notes", _list(notes)),
    ]
    write_atomically(Path(path), _filled(title, headline, sections).encode())


def _page(report: Report) -> str:
    sections = [
        _section("Learning", _learning(report)),
        _section("Input events", _recordings(report)),
        _section("Test part", _test(report)),
        _section("Spikes", _rasters(report)),
        _section("Energy", _energy(report)),
        _section("Run", f'<div class="columns">{_facts(report.facts)}{_facts(report.environment)}</div>'),
    ]
    return _filled(report.title, report.headline, sections)


def _filled(title: str, headline: Mapping[str, str], sections: Sequence[str]) -> str:
    page = Template(_PAGE.read_text(encoding="utf-8"))
    return page.substitute(title=escape(title), headline=_headline(headline), body="\n".join(sections))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _headline(facts: Mapping[str, str]) -> str:
    cards = (
        f'<div class="card"><b>{escape(fact)}</b><span>{escape(name)}</span></div>' for name, fact in facts.items()
    )
    return f'<div class="cards">{"".join(cards)}</div>'


def _learning(report: Report) -> str:
    note = "Training: with the dropout, augmentation and label smoothing of the run. Validation: without."
    return f'<p class="note">{note}</p>{_image(plots.learning_curves(report.history), "learning curves", "wide")}'


def _recordings(report: Report) -> str:
    camera = bool(report.recordings) and report.recordings[0][0].sensor.height > 1
    legend = (
        "ON events red, OFF events blue, first third of each recording."
        if camera
        else "Channel over time, one dot an event."
    )
    figures = [
        _figure(plots.events(stream), true if true == predicted else f"{true}, read as {predicted}", camera)
        for stream, true, predicted in report.recordings
    ]
    return _gallery(f"{legend} Test samples with their class.", figures)


def _test(report: Report) -> str:
    confusion = _figure(plots.confusion(report.confusion, report.classes), "Confusion matrix: samples by class")
    rates = _figure(plots.rates(report.rates), "Firing rate of each layer") if report.rates else ""
    return f'<div class="columns">{confusion}{rates}</div>'


def _rasters(report: Report) -> str:
    figures = [
        _figure(plots.raster(spikes, report.dt_ms), f"{name}, {spikes.shape[1]} neurons")
        for name, spikes in report.rasters.items()
    ]
    return _gallery("What each spiking layer sent for the first recording above.", figures)


def _energy(report: Report) -> str:
    tables = "".join(map(_table, (report.energy, *report.layers)))
    return tables + (_energy_pictures(report.pictures) if report.pictures else "") + _list(report.assumptions)


def _energy_pictures(shown: EnergyPictures) -> str:
    figures = [
        *(_figure(energy_plots.by_layer(layers), f"By layer: {model}") for model, layers in shown.layers.items()),
        _figure(energy_plots.by_cause(shown.causes), "By cause, under each model"),
        _figure(
            energy_plots.break_even(shown.steps, shown.break_even, shown.operating),
            "Below a curve the spiking network wins over its quantised twin, both with 8-bit weights, 16-bit states "
            "(100 %: at any rate, 0 %: at none)",
        ),
        _figure(
            energy_plots.across_hardware(shown.hardware, shown.unconfirmed), "Across hardware, priced by the event"
        ),
    ]
    return f'<div class="columns">{"".join(figures)}</div>'


def _gallery(note: str, figures: Sequence[str]) -> str:
    return f'<p class="note">{note}</p><div class="gallery">{"".join(figures)}</div>'


def _figure(source: str, caption: str, pixels: bool = False) -> str:
    image = _image(source, caption, "pixels" if pixels else "plot")
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _image(source: str, text: str, kind: str) -> str:
    return f'<img class="{kind}" src="{source}" alt="{escape(text)}">'


def _facts(facts: Mapping[str, str]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _table(table: Table) -> str:
    head = "".join(_cell("th", name, column in table.numbers) for column, name in enumerate(table.columns))
    rows = (
        "".join(_cell("td", text, column in table.numbers) for column, text in enumerate(row)) for row in table.rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, text: str, number: bool) -> str:
    return f"<{tag}{' class=number' if number else ''}>{escape(text)}</{tag}>"


def _list(items: Sequence[str]) -> str:
    return f'<ul class="note">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>'
