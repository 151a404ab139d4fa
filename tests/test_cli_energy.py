"""``spikenet energy``: what it prints and writes, and what it refuses."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from spikenet.cli import main
from spikenet.neurons import LIF


def made() -> tuple[nn.Module, torch.Tensor]:
    """10 spikes on one step of four; all of them reach 5 neurons."""
    x = torch.zeros(4, 2, 20)
    x[1, :, :10] = 1.0
    return nn.Sequential(nn.Linear(20, 5), LIF(), nn.Linear(5, 3)), x


def alone() -> nn.Module:
    return made()[0]


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    source = Path(__file__).read_text(encoding="utf-8").partition("@pytest.fixture")[0]
    (tmp_path / "mynetwork.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return "mynetwork:made"


def test_a_module_and_callable_are_counted(capsys: pytest.CaptureFixture[str], subject: str, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv")}
    assert main(["energy", subject, "--json", str(files["json"]), "--csv", str(files["csv"])]) == 0
    printed = capsys.readouterr().out
    assert "dense ANN twin, one frame per sample" in printed
    assert "- Constants: 45 nm CMOS" in printed
    found = json.loads(files["json"].read_text())
    assert (found["samples"], found["steps"]) == (2, 4)
    assert found["snn"]["total_pj"] == pytest.approx(0.9 * sum(row["acs"] for row in found["layers"]))
    assert found["ann_frame"]["total_pj"] == pytest.approx(4.6 * (100 + 15))
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [row["layer"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["acs"]) == 50
    assert float(rows[0]["operations_pj"]) == pytest.approx(45)


def test_model_and_profile_are_chosen(capsys: pytest.CaptureFixture[str], subject: str, tmp_path: Path) -> None:
    assert main(["energy", subject, "--model", "lemaire"]) == 0
    assert "addressing" in capsys.readouterr().out
    assert main(["energy", subject, "--profile", "truenorth"]) == 0
    assert "UNCONFIRMED" in capsys.readouterr().out
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'title = "mine"\nsource = "me"\nconfidence = "unconfirmed"\nspiking = true\n[event]\nsynop = "1 nJ"\n'
    )
    assert main(["energy", subject, "--profile", str(mine), "--json", str(tmp_path / "j")]) == 0
    assert json.loads((tmp_path / "j").read_text())["snn"]["profile"] == "mine"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--model", "lemair"], 2, "Did you mean 'lemaire'"),
        (["--profile", "loihy"], 2, "Did you mean 'loihi'"),
        (["--model", "lemaire", "--profile", "loihi"], 1, "needs operations.int32.add"),
        (["--what", "x"], 2, "--what"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], subject: str, words: list[str], code: int, message: str) -> None:
    assert main(["energy", subject, *words]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("mynetwork:gone", "cannot be called"), ("nowhere:made", "cannot be called"), ("mynetwork:alone", "tuple")],
)
def test_callables_that_do_not_work(capsys: pytest.CaptureFixture[str], subject: str, name: str, message: str) -> None:
    assert main(["energy", name]) == 1
    assert message in capsys.readouterr().err
