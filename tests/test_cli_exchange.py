"""Runs to files of other formats and back: the same answers, and what cannot be is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikenet import use_backend
from spikenet.cli import main
from spikenet.cli.runs import Run, stored
from spikenet.interop import IntegerNetwork, from_nir

TINY = "tests.training.tiny."


def trained(out: Path, network: str, *words: str, data: str = "TinyEvents") -> Run:
    rest = ["--trainer.epochs", "2", "--trainer.accelerator", "cpu", "--optim.lr", "0.02", "--out", str(out), *words]
    with use_backend("reference"):
        assert main(["train", "--dataset", TINY + data, "--network", network, *rest]) == 0
    (folder,) = out.glob("*seed0*")
    run = stored(folder)
    run.load()
    run.model.eval()
    return run


@pytest.fixture(autouse=True)
def plain_backend():
    """No kernel is compiled for what runs a few batches."""
    with use_backend("reference"):
        yield


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("conv"), "SpikingConvNet", "--model.channels", "[4]", "--model.hidden", "8")


def first(run: Run) -> torch.Tensor:
    x, _ = next(iter(run.data.test_dataloader()))
    return x.to_dense()


def said(printed: str, pattern: str) -> float:
    found = re.search(pattern, printed)
    assert found is not None, printed
    return float(found[1].replace(",", ""))


def test_a_run_as_a_nir_graph(conv: Run, tmp_path: Path, capsys) -> None:
    pytest.importorskip("nir")
    file = tmp_path / "net.nir"
    assert main(["export", str(conv.folder.path), str(file)]) == 0
    printed = capsys.readouterr().out
    assert "left out, as NIR has no node for it: MeanReadout" in printed
    assert "steps of 0.01 s" in printed
    with torch.no_grad():
        answer = conv.model.readout(from_nir(file)(first(conv)))
        torch.testing.assert_close(answer, conv.model(first(conv)), atol=1e-4, rtol=1e-4)
    assert main(["import", str(file)]) == 0
    assert re.search(r"Conv2d +76 ", capsys.readouterr().out)  # 2 x 4 x 9 weights, and the biases of the norm


def test_a_run_as_an_integer_file(conv: Run, tmp_path: Path, capsys) -> None:
    file = tmp_path / "net.json"
    assert main(["export", str(conv.folder.path), str(file), "--bits", "16", "--state_bits", "24"]) == 0
    printed = capsys.readouterr().out
    percent = said(printed, r"in few bits: ([\d.]+)% of the test part")
    nanojoules = [said(printed, rf"{which}: .* part, ([\d.,]+) nJ") for which in ("in float", "in few bits")]
    assert 0 < nanojoules[1] < 0.8 * nanojoules[0]  # weights of 16 bits and potentials of 24 in the place of 32
    integers, right = IntegerNetwork(file), 0
    for x, labels in conv.data.test_dataloader():
        right += int((integers(x.to_dense()).argmax(1) == labels.numpy()).sum())
    assert percent == pytest.approx(100 * right / 30, abs=0.01)
    with torch.no_grad():
        np.testing.assert_allclose(integers(first(conv)), conv.model(first(conv)).numpy(), atol=0.2)
    assert main(["import", str(file)]) == 0
    assert re.search(r"1 +neuron +\d+ .*bits=24", capsys.readouterr().out)


def test_an_ann_becomes_a_spiking_network(tmp_path: Path, capsys) -> None:
    run = trained(tmp_path / "runs", TINY + "FrameANN")
    capsys.readouterr()
    folder = str(run.folder.path)
    assert main(["convert", folder, str(tmp_path / "net.json"), "--steps", "64"]) == 0
    printed = capsys.readouterr().out
    dense, spiking = (said(printed, rf"{which}: ([\d.]+)% of") for which in ("as an ANN", "spiking, in 64 steps"))
    with torch.no_grad():
        right = sum(int((run.model(x).argmax(1) == y).sum()) for x, y in run.data.test_dataloader())
    assert dense == pytest.approx(100 * right / 30, abs=0.01)
    assert abs(spiking - dense) <= 7
    assert [layer["kind"] for layer in IntegerNetwork(tmp_path / "net").layers] == [
        "linear",
        "neuron",
        "linear",
        "readout",
    ]


def refused(capsys: pytest.CaptureFixture[str], words: list[str], pattern: str) -> None:
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert re.search(pattern, error), error


def test_what_cannot_be(conv: Run, tmp_path: Path, capsys) -> None:
    run = str(conv.folder.path)
    refused(capsys, ["export", run, str(tmp_path / "net.onnx")], r"kind of file '\.onnx'.*\.json, \.nir")
    refused(capsys, ["export", run, str(tmp_path / "n.json"), "--grid", "ternay"], "Did you mean 'ternary'")
    refused(capsys, ["export", run, str(tmp_path / "n.json"), "--bits", "1"], "bits must be 2 to 16")
    refused(capsys, ["convert", run], "SpikingConvNet is no nn.Sequential")
    refused(capsys, ["convert", run, str(tmp_path / "net.nir")], "NIR only resets")
    refused(capsys, ["export", str(tmp_path), str(tmp_path / "net.nir")], "not a run folder")
    refused(capsys, ["export", run, str(tmp_path / "no" / "n.json")], "no/n.json cannot be written: there is no folder")
    for name in ("gone.json", "gone.nir"):
        refused(capsys, ["import", str(tmp_path / name)], f"{name} does not exist")
    assert not isinstance(conv.model, nn.Sequential)
    assert list(tmp_path.iterdir()) == []
