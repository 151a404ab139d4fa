"""The sensors that AEDAT files name."""

from __future__ import annotations

from spikenet.events.stream import Sensor

CHIPS = {
    "DVS128": Sensor(128, 128, 2),
    "DAVIS128": Sensor(128, 128, 2),
    "DAVIS208": Sensor(208, 192, 2),
    "DAVIS240C": Sensor(240, 180, 2),
    "DAVIS346": Sensor(346, 260, 2),
    "DAVIS640": Sensor(640, 480, 2),
}
_STEMS = [(key.rstrip("ABC"), key) for key in CHIPS]


def chip(name: str) -> str | None:
    """The key of `CHIPS` for a name as files have it: ``eu.seebetter.ini.chips.davis.Davis346red`` is a DAVIS346."""
    last = name.rpartition(".")[2].upper()
    for stem, key in _STEMS:
        if last.startswith(stem):
            return key
    return None


def chip_of_size(sensor: Sensor) -> str | None:
    """The first chip of this size."""
    return next((key for key, size in CHIPS.items() if size == sensor), None)


def sizes() -> str:
    """The sizes in words."""
    return ", ".join(f"{size.width} x {size.height} x 2" for size in dict.fromkeys(CHIPS.values()))
