"""The report as a file: complete, self-contained, escaped; the pictures decoded and looked at."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from spikenet.analysis import Report, Table, plots, write_report
from spikenet.events import EventStream, Sensor

CAMERA, COCHLEA = Sensor(8, 6, 2), Sensor(50)
VOID = {"meta", "img"}


def recording(sensor: Sensor) -> EventStream:
    draw = np.random.default_rng(0)
    x, y, p = (draw.integers(0, size, 200) for size in (sensor.width, sensor.height, sensor.polarities))
    return EventStream.from_numpy(np.sort(draw.integers(0, 50_000, 200)), x, y, p, sensor=sensor)


def report(sensor: Sensor = CAMERA, title: str = "digits") -> Report:
    row = {"epoch": 1.0, "train_loss": 2.0, "valid_loss": 2.1, "train_accuracy": 0.2, "valid_accuracy": 0.1}
    return Report(
        title=title,
        headline={"test accuracy": "97.50%"},
        facts={"seed": "0"},
        history=[row, {**row, "epoch": 2.0, "train_loss": 1.0}],
        confusion=np.array([[5, 1], [0, 4]]),
        classes=["a", "b"],
        recordings=[(recording(sensor), "a", "b")],
        rasters={"layer": np.eye(6, 300)},
        dt_ms=10.0,
        rates={"layer": 0.125},
        energy=Table(("network", "nJ"), [("spiking", "1.50")], numbers=(1,)),
        layers=[Table(("layer", "AC"), [("layer", "12")], numbers=(1,))],
        assumptions=["biases are free"],
        environment={"torch": "2.13"},
    )


class Page(HTMLParser):
    """Checks that tags nest, and keeps text and sources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.sources = "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition("base64,")[2])


def pixels(uri: str) -> np.ndarray:
    return imread(io.BytesIO(decoded(uri)))[..., :3]


@pytest.mark.parametrize("sensor", [CAMERA, COCHLEA])
def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path, sensor: Sensor) -> None:
    write_report(report(sensor), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?://|<script|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    for shown in ("97.50%", "a, read as b", "layer, 300 neurons", "1.50", "biases are free", "2.13"):
        assert shown in page.text


def test_names_from_outside_cannot_write_html(tmp_path: Path) -> None:
    write_report(report(title="<script>alert(1)</script> & $body"), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<script>alert(1)</script> & $body" in Page(text).text


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_report(report(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_on_events_are_red_off_events_blue_and_silence_white() -> None:
    """The third event comes too late to be drawn."""
    stream = EventStream.from_numpy([0, 1, 300], [0, 7, 7], [0, 5, 0], [1, 0, 1], sensor=CAMERA)
    picture = pixels(plots.events(stream))
    on, off, silent = picture[2, 2], picture[-3, -3], picture[2, -3]
    assert on[0] > on[2] + 0.3
    assert off[2] > off[0] + 0.3
    assert (silent == 1).all()


def test_a_raster_shows_spikes_where_they_are() -> None:
    early = np.zeros((40, 30))
    early[:8, 20:] = 1
    dark = pixels(plots.raster(early)).mean(-1) < 0.5
    height, width = dark.shape
    inside = dark[: height * 3 // 4, width // 5 :]
    rows, _ = np.nonzero(inside[:, : inside.shape[1] // 4])
    assert len(rows) > 50
    assert np.median(rows) < inside.shape[0] / 2
    assert inside[5:, inside.shape[1] // 2 :].sum() == 0


def test_curves_are_drawings_with_the_values_as_points() -> None:
    root = ElementTree.fromstring(decoded(plots.learning_curves(report().history)))
    lines = [
        e
        for e in root.iter("{http://www.w3.org/2000/svg}path")
        if "stroke: #2f6db5" in (e.get("style") or "") and "L" in e.get("d", "")
    ]
    first = [float(number) for number in re.findall(r"-?[\d.]+", lines[0].get("d", ""))]
    assert first[0] < first[2]
    assert first[1] < first[3]


def test_silent_and_empty_recordings_can_be_drawn() -> None:
    for sensor in (CAMERA, COCHLEA):
        empty = EventStream.from_numpy([], [], [], [], sensor=sensor)
        assert pixels(plots.events(empty)).size
    assert pixels(plots.raster(np.zeros((5, 3)))).size
