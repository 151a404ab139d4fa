"""The energy pictures: what is written in them, and that they are whole SVG files."""

import base64
from xml.etree import ElementTree

import pytest

from spikenet.analysis import energy_plots


def drawn(uri: str) -> str:
    """The picture's source; texts stand in it as comments, since letters are drawn as paths."""
    source = base64.b64decode(uri.partition("base64,")[2]).decode()
    assert ElementTree.fromstring(source).tag.endswith("svg")
    return source


def test_layers_are_split_by_cause() -> None:
    source = drawn(energy_plots.by_layer({"conv": {"operations": 3.0, "memory": 1.0}, "lif": {"neurons": 2.0}}))
    for text in ("conv", "lif", "operations", "memory", "neurons", "nJ per sample"):
        assert f"<!-- {text} -->" in source
    assert "<!-- routing -->" not in source


def test_one_cause_needs_no_legend() -> None:
    assert "<!-- operations -->" not in drawn(energy_plots.by_layer({"conv": {"operations": 3.0}}))


def test_the_small_ones_of_many_layers_share_a_row() -> None:
    layers = {f"layer{n}": {"operations": 1e4 if n % 2 else 1.0} for n in range(28)} | {"last": {"memory": 2e4}}
    source = drawn(energy_plots.by_layer(layers))
    for text in ("layer1", "layer27", "last", "14 other layers", "µJ per sample"):
        assert f"<!-- {text} -->" in source
    assert "<!-- layer2 -->" not in source


def test_causes_stand_beside_their_total() -> None:
    source = drawn(energy_plots.by_cause({"field": {"operations": 34.1}, "nothing": {}}))
    assert "<!-- 34.1 nJ -->" in source
    assert "<!-- 0 nJ -->" in source


def test_break_even_names_curves_and_those_that_never_win() -> None:
    curves = {"first": [2.0, 0.5, 0.1], "second": [-0.1, -0.2, -float("inf")]}
    source = drawn(energy_plots.break_even([1, 2, 4], curves, (3, 0.02)))
    for text in ("first", "second (never)", "this network", "time steps T"):
        assert f"<!-- {text} -->" in source


def test_hardware_is_in_order_and_doubt_is_marked() -> None:
    chips = {"large": (900.0, 1000.0, 1100.0), "small": (1.0, 1.0, 1.0)}
    source = drawn(energy_plots.across_hardware(chips, ["small"]))
    assert source.index("<!-- small * -->") < source.index("<!-- large -->")
    assert "constants not confirmed" in source


@pytest.mark.parametrize(
    ("nanojoules", "text"),
    [(0.0, "0 nJ"), (0.5, "500 pJ"), (34.12, "34.1 nJ"), (4424.0, "4.42 µJ"), (3.09e7, "30.9 mJ"), (1e13, "1e+04 J")],
)
def test_energies_are_readable(nanojoules: float, text: str) -> None:
    assert energy_plots.readable(nanojoules) == text
