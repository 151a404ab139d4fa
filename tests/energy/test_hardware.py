"""Profiles: the published numbers, and files that are refused with the reason."""

from pathlib import Path

import numpy as np
import pytest

from spikenet.energy import PerEvent, Work, load_profile, profiles
from spikenet.errors import DataError, UnknownNameError

GOOD = """
title = "mine"
source = "a paper"
confidence = "confirmed"
node_nm = 28
[operations.int8]
add = "0.03 pJ"
mul = "0.2..0.4 pJ"
[memory]
bit = "24.96 pJ/byte"
dram = "1300..2600 pJ/64bit"
sram = [["8 KB", "10 pJ/32bit"], ["32 KB", "20 pJ/32bit"]]
[event]
synop = "8.6e-3 uJ"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", profiles())
def test_every_profile_is_whole(name: str) -> None:
    profile = load_profile(name)
    assert profile.source
    assert profile.constants
    assert all((constant >= 0).all() and np.isfinite(constant).all() for constant in profile.constants.values())


@pytest.mark.parametrize(
    ("dtype", "mac", "ac"), [("fp32", 4.6, 0.9), ("fp16", 1.5, 0.4), ("int8", 0.23, 0.03), ("int32", 3.2, 0.1)]
)
def test_horowitz(dtype: str, mac: float, ac: float) -> None:
    """ISSCC 2014, 45 nm."""
    profile = load_profile("horowitz-45nm")
    assert profile.mac(dtype)[1] == pytest.approx(mac)
    assert profile.ac(dtype)[1] == pytest.approx(ac)
    assert profile["memory.dram"] * 64 == pytest.approx([1300, 1950, 2600])


def test_units_ranges_and_bits(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, GOOD))
    assert profile["operations.int8.mul"] == pytest.approx([0.2, 0.3, 0.4])
    assert profile["memory.bit"] == pytest.approx(3.12)
    assert profile["event.synop"] == pytest.approx(8600)
    assert profile.words == "Constants: mine. a paper."


def test_memory_is_linear_between_its_sizes(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, GOOD))
    sizes = [0, 4096, 8192, 20 * 1024, 32 * 1024, 2**30]
    assert [profile.sram_bit(size)[1] * 32 for size in sizes] == pytest.approx([0, 5, 10, 15, 20, 20])


@pytest.mark.parametrize("name", ["truenorth", "xylo", "yan-22nm"])
def test_what_nobody_confirmed_is_said_aloud(name: str) -> None:
    assert "UNCONFIRMED" in load_profile(name).words


def test_single_constants_can_be_unconfirmed(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, 'unconfirmed = ["event.synop"]\n' + GOOD))
    assert "UNCONFIRMED: event.synop" in profile.words
    assert any("UNCONFIRMED: event.synop" in words for words in PerEvent(profile)(Work()).assumptions)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('synop = "8.6e-3 uJ"', 'synops = "1 pJ"', UnknownNameError, "Did you mean 'event.synop'"),
        ('confidence = "confirmed"', 'confidence = "sure"', UnknownNameError, "confidence"),
        ('source = "a paper"', "", DataError, "states its source"),
        ('source = "a paper"', 'source = " "', DataError, "states its source"),
        ('add = "0.03 pJ"', "add = 0.03", DataError, "takes a number"),
        ('add = "0.03 pJ"', 'add = "0.03"', DataError, "Units: J, mJ"),
        ('add = "0.03 pJ"', 'add = "0.03 pJ/bit"', DataError, "'4.6 pJ'"),
        ('bit = "24.96 pJ/byte"', 'bit = "24.96 pJ"', DataError, "energy per bit"),
        ('bit = "24.96 pJ/byte"', 'bit = "24.96 pJ/0bit"', DataError, "0 bits"),
        ('bit = "24.96 pJ/byte"', 'bit = "-1 pJ/bit"', DataError, "takes a number"),
        ("0.2..0.4 pJ", "0.4..0.2 pJ", DataError, "from low to high"),
        ('["8 KB", "10 pJ/32bit"]', '["8", "10 pJ/32bit"]', DataError, "rows such as"),
        ('["8 KB"', '["64 KB"', DataError, "small to large"),
        ("node_nm = 28", "node_nm = 0", DataError, "positive number"),
        ("node_nm = 28", "spiking = 1", DataError, "true or false"),
        (
            'title = "mine"',
            'unconfirmed = ["event.sinop"]\ntitle = "mine"',
            UnknownNameError,
            "Did you mean 'event.synop'",
        ),
        ("[event]", "[event", DataError, "no TOML"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, error: type[Exception], message: str) -> None:
    assert old in GOOD
    with pytest.raises(error) as caught:
        load_profile(written(tmp_path, GOOD.replace(old, new)))
    assert message in str(caught.value)


def test_unknown_profiles_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'loihi'"):
        load_profile("loihy")
    with pytest.raises(DataError, match="cannot be read"):
        load_profile(tmp_path / "gone.toml")
    with pytest.raises(UnknownNameError, match=r"memory\.bit"):
        load_profile("loihi")["memory.bit"]
