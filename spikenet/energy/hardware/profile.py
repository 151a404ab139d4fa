"""Reads a profile and refuses what it does not understand.

A profile is a TOML file::

    title = "my accelerator"
    node_nm = 28
    source = "where the numbers were published"
    confidence = "unconfirmed"          # or "confirmed": read in the source by whoever wrote the file
    unconfirmed = ["event.neuron"]      # optional: single constants of a confirmed profile

    [operations.int8]
    add = "0.03 pJ"
    mul = "0.2..0.25 pJ"                # a range; the middle is the value

    [memory]
    bit = "3.12 pJ/bit"
    sram = [["8 KB", "10 pJ/32bit"], ["32 KB", "20 pJ/32bit"]]      # linear between, 0 at 0, the last one beyond

Constants are kept in pJ (per bit, per hop) as arrays ``[low, value, high]``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import DataError, UnknownNameError

_HERE = Path(__file__).parent
_PICO = {"J": 1e12, "mJ": 1e9, "uJ": 1e6, "nJ": 1e3, "pJ": 1.0, "fJ": 1e-3}
_SIZES = {"B": 1, "KB": 1024, "MB": 1024**2}
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_CONSTANT = re.compile(rf"({_NUMBER})(?:\.\.({_NUMBER}))? ({'|'.join(_PICO)})(?:/(\d*)(bit|byte))?(/hop)?")
_FACTS = ("title", "node_nm", "source", "confidence", "unconfirmed", "spiking")
_CONFIDENCE = ("confirmed", "unconfirmed")

_DTYPES = ("int8", "int32", "fp16", "fp32")
_CROSSBAR = (
    *("tile_buffer", "temporary_buffer", "subtract", "adc", "h_tree", "multiplexer", "fetch", "neuron"),
    *("rram", "sram"),
)
CONSTANTS: dict[str, str] = {
    **{f"operations.{dtype}.{what}": "" for dtype in _DTYPES for what in ("add", "mul")},
    "memory.bit": "/bit",
    "memory.dram": "/bit",
    "memory.sram": "/bit",
    "event.synop": "",
    "event.neuron": "",
    "routing.sparse": "/bit/hop",
    "routing.dense": "/bit/hop",
    **{f"crossbar.{part}": "" for part in _CROSSBAR},
}
"""The constants that a profile may hold, and what each is per."""


@dataclass(frozen=True)
class Profile:
    """Energy constants of one piece of hardware.

    Attributes:
        name: of its file.
        title: what it is.
        source: where the numbers were published.
        confidence: ``confirmed`` or ``unconfirmed``.
        node_nm: process node in nm, if known.
        spiking: whether the hardware works on events; if not, every connection costs at every step.
        constants: dotted name -> pJ (per bit, per hop), ``[low, value, high]``.
        sram: energy of a bit by the size of the memory, ``(bytes, pJ per bit)``, linear between.
        unconfirmed: dotted names of the constants that are not confirmed.
    """

    name: str
    title: str
    source: str
    confidence: str
    node_nm: float | None = None
    spiking: bool = False
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    sram: tuple[tuple[float, float], ...] = ()
    unconfirmed: tuple[str, ...] = ()

    def __getitem__(self, constant: str) -> np.ndarray:
        """pJ, ``[low, value, high]``."""
        if constant not in self.constants:
            raise UnknownNameError(f"constant of the profile {self.name!r}:", constant, self.constants)
        return self.constants[constant]

    def has(self, constant: str) -> bool:
        return constant in self.constants or (constant == "memory.sram" and bool(self.sram))

    def mac(self, dtype: str) -> np.ndarray:
        """One multiply-accumulate: a multiplication and an addition."""
        return self[f"operations.{dtype}.mul"] + self[f"operations.{dtype}.add"]

    def ac(self, dtype: str) -> np.ndarray:
        """One accumulate: an addition."""
        return self[f"operations.{dtype}.add"]

    def sram_bit(self, size: float) -> np.ndarray:
        """One bit read from or written to a memory of `size` bytes; beyond the largest published, the price of that."""
        if not self.sram:
            raise UnknownNameError(f"constant of the profile {self.name!r}:", "memory.sram", self.constants)
        sizes, prices = zip((0.0, 0.0), *self.sram, strict=True)
        return np.full(3, np.interp(size, sizes, prices))

    @property
    def words(self) -> str:
        """Title, source, and aloud what is not confirmed."""
        doubt = ""
        if self.confidence == "unconfirmed":
            doubt = " UNCONFIRMED: nobody has checked these constants against their source."
        elif self.unconfirmed:
            doubt = f" UNCONFIRMED: {', '.join(self.unconfirmed)}."
        return f"Constants: {self.title}. {self.source}.{doubt}"


@cache
def profiles() -> dict[str, Path]:
    """The profiles that come with spikenet: name -> file."""
    return {path.stem: path for path in sorted(_HERE.glob("*.toml"))}


def load_profile(name: str | Path) -> Profile:
    """Read a profile.

    Args:
        name: of a profile that comes with spikenet, or a path to a TOML file.

    Raises:
        UnknownNameError: no such profile, or a key that a profile does not have; names the nearest.
        DataError: a constant without a unit or with a wrong one, a missing source, or a file that is no TOML.
    """
    path = Path(name) if str(name).endswith(".toml") else profiles().get(str(name))
    if path is None:
        raise UnknownNameError("energy profile", str(name), profiles())
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: the profile cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise DataError(f"{path}: this is no TOML file: {error}.") from None
    return _profile(path, found)


def _profile(path: Path, found: dict[str, Any]) -> Profile:
    facts = {key: found.pop(key) for key in _FACTS if key in found}
    _check_facts(path, facts)
    flat = dict(_flat(found))
    for key in flat:
        if key not in CONSTANTS:
            raise UnknownNameError(f"key in {path.name}:", key, [*CONSTANTS, *_FACTS])
    doubtful = tuple(facts.pop("unconfirmed", ()))
    for key in doubtful:
        if key not in flat:
            raise UnknownNameError(f"unconfirmed constant in {path.name}:", key, flat)
    sram = flat.pop("memory.sram", [])
    constants = {key: _constant(path, key, text) for key, text in flat.items()}
    return Profile(path.stem, constants=constants, sram=_sram(path, sram), unconfirmed=doubtful, **facts)


def _check_facts(path: Path, facts: Mapping[str, Any]) -> None:
    for key in ("title", "source", "confidence"):
        if not isinstance(facts.get(key), str) or not facts[key].strip():
            raise DataError(f"{path}: a profile states its {key} in words, this one has none.")
    if facts["confidence"] not in _CONFIDENCE:
        raise UnknownNameError(f"confidence in {path.name}:", facts["confidence"], _CONFIDENCE)
    if not isinstance(facts.get("spiking", False), bool):
        raise DataError(f"{path}: spiking is true or false, {facts['spiking']!r} was given.")
    node = facts.get("node_nm", 1)
    if isinstance(node, bool) or not isinstance(node, int | float) or not node > 0:
        raise DataError(f"{path}: node_nm is a positive number, {node!r} was given.")


def _flat(table: Mapping[str, Any], before: str = "") -> Any:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _constant(path: Path, key: str, text: Any) -> np.ndarray:
    """``"1300..2600 pJ/64bit"`` in pJ a bit, as low, middle, high."""
    per = CONSTANTS[key]
    form = f"a number or a range low..high with its unit, such as '4.6 pJ{per}'"
    match = _CONSTANT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise DataError(f"{path}: {key} takes {form}; {text!r} was given. Units: {', '.join(_PICO)}.")
    low, high, unit, bits, storage, hop = match.groups()
    if ("/bit" if storage else "") + (hop or "") != per:
        raise DataError(f"{path}: {key} is an energy{per.replace('/', ' per ')}: {form}; {text!r} was given.")
    lowest, highest = float(low), float(high or low)
    if lowest > highest:
        raise DataError(f"{path}: {key}: a range goes from low to high, {text!r} does not.")
    divisor = int(bits or 1) * (8 if storage == "byte" else 1)
    if not divisor:
        raise DataError(f"{path}: {key}: an energy for 0 bits means nothing; {text!r} was given.")
    return np.array([lowest, (lowest + highest) / 2, highest]) * _PICO[unit] / divisor


def _sram(path: Path, rows: Any) -> tuple[tuple[float, float], ...]:
    table = []
    for row in rows:
        size, _, unit = str(row[0]).partition(" ") if isinstance(row, list) and len(row) == 2 else ("", "", "")
        if unit not in _SIZES or not re.fullmatch(_NUMBER, size):
            raise DataError(f"{path}: memory.sram has rows such as ['8 KB', '10 pJ/32bit']; {row!r} was given.")
        table.append((float(size) * _SIZES[unit], float(_constant(path, "memory.sram", row[1])[1])))
    if sorted(set(table)) != table:
        raise DataError(f"{path}: memory.sram lists sizes from small to large, each once.")
    return tuple(table)
