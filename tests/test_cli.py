"""The command line as a person meets it: what it prints, what it refuses, and how it leaves."""

import html
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import yaml

from spikenet.cli import main
from spikenet.cli.options import PRESETS

TINY = "tests.training.tiny."
SHORT = ["--network", "SpikingMLP", "--model.hidden", "[8]", "--trainer.epochs", "1", "--trainer.accelerator", "cpu"]


def tiny(data: str, out: Path, *more: str) -> list[str]:
    return ["train", "--dataset", TINY + data, *SHORT, "--out", str(out), *more]


def refused(capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int, *patterns: str) -> None:
    """The command leaves with `code` and one line on stderr, in which every pattern is found."""
    assert main(words) == code
    error = capsys.readouterr().err
    assert error.startswith("spikenet: ")
    assert len(error.splitlines()) == 1
    for pattern in patterns:
        assert re.search(pattern, error), error


def spikes_file(path: Path, labels: Sequence[int]) -> Path:
    """A small file in the layout of SHD: ten words a class, two classes."""
    with h5py.File(path, "w") as file:
        for name, row in {"times": np.array([0.01, 0.02], np.float32), "units": np.array([3, 600], np.int32)}.items():
            column = file.create_dataset(f"spikes/{name}", len(labels), dtype=h5py.vlen_dtype(row.dtype))
            column[:] = [row] * len(labels)
        file.create_dataset("labels", data=np.array(labels))
        file.create_dataset("extra/keys", data=["yes", "no"], dtype=h5py.string_dtype())
    return path


def shd(train: Path, test: Path, out: Path) -> list[str]:
    files = ["--data.train", str(train), "--data.test", str(test)]
    return ["train", "--dataset", "shd", *files, *SHORT, "--out", str(out)]


# What it does.


def test_training_prints_what_matters_and_leaves_a_run(capsys, tmp_path: Path) -> None:
    more = ["--seeds", "4", "5", "--optim.lr", "0.01", "--trainer.epochs", "4", "--data.augment", "EventDrop: 0.05"]
    assert main(tiny("TinyEvents", tmp_path, *more)) == 0
    printed = capsys.readouterr().out
    assert (
        "data set: three blobs\nclasses (3): left, middle, right\nsamples: 48 training, 24 validation, 30 test"
        in printed
    )
    accuracies = [float(number) for number in re.findall(r"test accuracy: ([\d.]+)% \(\d+ of 30\)", printed)]
    mean = re.search(r"mean test accuracy of 2 seeds: ([\d.]+) ± ([\d.]+) %", printed)
    assert mean is not None
    assert float(mean[1]) == pytest.approx(sum(accuracies) / 2, abs=0.01)
    assert "firing rates" in printed
    assert "dense ANN twin, one frame per sample" in printed
    runs = sorted(tmp_path.iterdir())
    assert [str(run / "report.html") for run in runs] == re.findall(r"report: (.*)", printed)
    left = ["checkpoints", "config.yaml", "environment.json", "metrics.csv", "model.safetensors", "report.html"]
    assert sorted(path.name for path in runs[0].iterdir()) == [*left, "results.json"]
    assert yaml.safe_load((runs[1] / "config.yaml").read_text())["seeds"] == [5]
    assert "EventDrop(probability=0.05)" in (runs[0] / "report.html").read_text()


def test_a_finished_run_can_be_reported_and_priced_again(capsys, tmp_path: Path) -> None:
    main(tiny("TinyEvents", tmp_path))
    (run,) = tmp_path.iterdir()
    results = json.loads((run / "results.json").read_text())
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").exists()
    assert json.loads((run / "results.json").read_text()) == results
    capsys.readouterr()
    assert main(["energy", str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"{results['energy']['snn_pj'] / 1e3:,.2f}" in printed
    page = html.unescape((run / "report.html").read_text()).partition("<h2>Energy</h2>")[2].partition("</section>")[0]
    rows = [" ".join(re.findall(r"<td[^>]*>(.*?)</td>", row)).split() for row in re.findall(r"<tr>(.*?)</tr>", page)]
    lines = [line.split() for line in printed.splitlines()]
    assert len([row for row in rows if row]) >= 7  # two connections, a neuron layer, the readout, three networks
    assert all(row in lines for row in rows if row)
    assumptions = re.findall(r"<li>(.*?)</li>", page)
    assert assumptions
    assert all(f"- {words}" in printed for words in assumptions)


def test_command_line_beats_file_beats_preset(tmp_path: Path, capsys) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("optim: {lr: 0.5, warmup: 0.25}\ntrainer: {epochs: 7}\n")
    words = ["--preset", "digits-dvs", "--config", str(mine), "--optim.lr", "0.125"]
    with pytest.raises(SystemExit):
        main(["train", *words, "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    preset = yaml.safe_load((PRESETS / "digits-dvs.yaml").read_text())
    assert shown["optim"]["lr"] == 0.125
    assert (shown["optim"]["warmup"], shown["trainer"]["epochs"]) == (0.25, 7)
    assert shown["model"]["channels"] == preset["model"]["channels"]


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_help_behind_a_preset_shows_its_options(preset: str, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", "--preset", preset, "--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for option in ("--data.batch_size", "--model.tau", "--optim.lr", "--trainer.epochs", "--resume"):
        assert option in shown
    values = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    for option in ("optim.lr", "trainer.epochs"):
        group, name = option.split(".")
        assert re.search(rf"--{option} [A-Z]+ [^-]*default: {values[group][name]}\)", shown), option


def test_the_published_recipe_for_delays_trains_on_any_data_in_the_layout(tmp_path: Path, capsys) -> None:
    file = spikes_file(tmp_path / "words.h5", [0, 1] * 20)
    words = ["train", "--preset", "shd-delays", "--data.train", str(file), "--data.test", str(file)]
    small = ["--model.hidden", "[8]", "--trainer.epochs", "4", "--trainer.accelerator", "cpu", "--out", str(tmp_path)]
    assert main([*words, *small]) == 0
    assert re.search(r"test accuracy: [\d.]+% \(\d+ of 40\)", capsys.readouterr().out)
    (run,) = tmp_path.glob("shd-delays-*")
    options = yaml.safe_load((run / "config.yaml").read_text())
    assert (options["network"], options["optim"]["schedule"], options["model"]["taps"]) == ("DelayNet", "one-cycle", 25)


def test_the_commands_are_listed(capsys) -> None:
    assert main(["--help"]) == 0
    assert re.findall(r"^  (\w+) ", capsys.readouterr().out, re.M) == [
        "train",
        "report",
        "energy",
        "generate",
        "simulate",
        "data",
        "bench",
        "export",
        "convert",
        "import",
        "info",
    ]
    assert main([]) == 2
    assert main(["report", "--help"]) == 0
    assert main(["info"]) == 0
    assert "torch  " in capsys.readouterr().out


def recordings(root: Path, part: str, count: int) -> Path:
    """Small N-MNIST recordings, one event each."""
    for number in range(count):
        path = root / part / str(number % 10) / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([3, 4, 0x80, 0, number]))
    return root


def test_data_sets_are_listed_and_described(capsys, tmp_path: Path) -> None:
    assert main(["data"]) == 2
    assert main(["data", "--help"]) == 0
    assert "spikenet data check NAME" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    listed = re.findall(r"^([\w-]+)  ", capsys.readouterr().out, re.M)
    assert len(listed) == 13
    assert {"nmnist", "shd", "dvs-gesture", "fsdd"} <= set(listed)
    assert main(["data", "info", "digits-dvs"]) == 0
    assert "1077 training, 360 validation, 360 test" in capsys.readouterr().out
    assert main(["data", "info", "nmnist"]) == 0
    described = capsys.readouterr().out
    assert "60,000 train, 10,000 test" in described
    assert "CC BY-SA 4.0" in described
    assert "samples:" not in described
    assert main(["data", "info", "nmnist", "--data.root", str(recordings(tmp_path, "Train", 60))]) == 0
    assert "samples: 43 training, 5 validation, 12 test" in capsys.readouterr().out


def test_a_data_set_is_checked(capsys, tmp_path: Path) -> None:
    recordings(recordings(tmp_path, "Train", 40), "Test", 10)
    refused(
        capsys,
        ["data", "check", "nmnist", "--data.root", str(tmp_path)],
        1,
        "N-MNIST is not whole: 0 damaged recordings, 2 differences",
    )
    (tmp_path / "Test/3/00003.bin").write_bytes(b"\0\0")
    assert main(["data", "check", "nmnist", "--data.root", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"damaged: .*Test/3/00003\.bin at offset 0", printed)
    assert "differs: train: 40 recordings, 60000 are published" in printed
    assert main(["data", "check", "digits-dvs"]) == 0
    assert "every recording can be read, and nothing differs" in capsys.readouterr().out


def test_a_data_set_is_prepared(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tonic's place is taken by an object that writes what Tonic would."""

    def download(save_to: str, train: bool) -> None:
        recordings(Path(save_to) / "NMNIST", "Train" if train else "Test", 40 if train else 10)

    monkeypatch.setitem(sys.modules, "tonic", SimpleNamespace(datasets=SimpleNamespace(NMNIST=download)))
    words = ["data", "prepare", "nmnist", "--data.root", str(tmp_path)]
    assert main(words) == 0
    assert "samples: 36 training, 4 validation, 10 test" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "tonic", None)
    assert main(words) == 0
    refused(capsys, [*words[:-1], str(tmp_path / "other")], 1, r"no N-MNIST .*other.*pip install 'spikenet\[data\]'")
    refused(capsys, ["data", "prepare", "hardvs", *words[3:]], 1, "no HARDVS recordings .*label.txt.*github")
    refused(capsys, ["data", "prepare", "nmnist"], 1, r"N-MNIST wants a root folder \(--data\.root\)")
    assert main(["data", "prepare", "digits-dvs"]) == 0


def test_a_download_that_fails(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(save_to: str, train: bool) -> None:
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setitem(sys.modules, "tonic", SimpleNamespace(datasets=SimpleNamespace(NMNIST=download)))
    words = ["data", "prepare", "nmnist", "--data.root", str(tmp_path)]
    refused(capsys, words, 1, "Tonic could not download it: File not found or corrupted.*By hand: .*garrickorchard")


# What it refuses.


def test_unknown_names(capsys) -> None:
    refused(capsys, ["train", "--preset", "digit-dvs"], 2, "preset 'digit-dvs'", "Did you mean 'digits-dvs'")
    refused(capsys, ["trian"], 2, "command 'trian'", "Did you mean 'train'")
    refused(capsys, ["train", "--dataset", "nmist"], 2, "data set 'nmist'", "Did you mean 'nmnist'")
    refused(capsys, ["train", "--network", "SpikingMPL"], 2, "network 'SpikingMPL'", "Did you mean 'SpikingMLP'")
    refused(capsys, ["train", "--network", "generate"], 2, "unknown network 'generate'")  # a function of the room
    refused(capsys, ["train", "--network", "torch.nn.Nothing"], 1, "'torch.nn.Nothing' cannot be imported", "Nothing")
    refused(capsys, ["train", "--dataset", "not_there.Data"], 1, "'not_there.Data' cannot be imported", "not_there")
    refused(capsys, ["data", "lst"], 2, "action of spikenet data 'lst'", "Did you mean 'list'")
    refused(capsys, ["data", "nmnist"], 2, "action of spikenet data 'nmnist'", "check, info, list, prepare")
    refused(capsys, ["data", "info", "nmist"], 2, "data set 'nmist'", "Did you mean 'nmnist'")
    refused(capsys, ["data", "check"], 1, "spikenet data check NAME")
    refused(capsys, ["data", "list", "nmnist"], 1, "takes no options, received nmnist")
    refused(capsys, ["train", "--preset", "digits-dvs", "--optim.lrr", "1"], 2, "optim.lrr")
    refused(capsys, ["train", "--preset", "digits-dvs", "--model.hiden", "1"], 2, "model.hiden")


def test_values_that_cannot_work(capsys, tmp_path: Path) -> None:
    refused(capsys, tiny("TinyEvents", tmp_path, "--optim.lr", "fast"), 2, r"optim\.lr", "fast")
    refused(capsys, tiny("TinyEvents", tmp_path, "--optim.lr", "-1"), 1, r"optim\.lr", "-1")
    refused(capsys, tiny("TinyEvents", tmp_path, "--trainer.epochs", "0"), 1, r"trainer\.epochs")
    refused(capsys, tiny("TinyEvents", tmp_path, "--seeds", "-1"), 2, "seeds")
    refused(capsys, tiny("TinyEvents", tmp_path, "--data.augment", "[FlipZ: 1]"), 2, "'FlipZ'. Did you mean 'Flip")
    refused(capsys, tiny("TinyEvents", tmp_path, "--data.mix", "[EventMix: two]"), 1, "EventMix wants a whole number")
    refused(capsys, tiny("TinyEvents", tmp_path, "--threads", "0"), 2, "threads")
    assert list(tmp_path.iterdir()) == []


def test_option_files_that_cannot_be_read(capsys, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    refused(capsys, ["train", "--config", str(file)], 1, "mine.yaml does not exist")
    file.write_text("optim: {lr: 1")
    refused(capsys, ["train", "--config", str(file)], 1, "mine.yaml is not YAML")
    file.write_text("- 1")
    refused(capsys, ["train", "--config", str(file)], 1, "mine.yaml holds a list")
    file.write_text("trainer: {epoch: 3}")
    refused(capsys, ["train", "--config", str(file)], 2, "epoch")
    file.write_text("preset: digits-dsv")
    refused(capsys, ["train", "--config", str(file)], 2, "Did you mean 'digits-dvs'")


def test_missing_data(capsys, tmp_path: Path) -> None:
    refused(capsys, ["train", "--preset", "nmnist", "--data.root", str(tmp_path / "gone")], 1, "gone")
    refused(capsys, ["train", "--preset", "nmnist"], 1, "root")
    refused(capsys, shd(tmp_path / "a.h5", tmp_path / "b.h5", tmp_path), 1, r"a\.h5")


def test_truncated_hdf5(capsys, tmp_path: Path) -> None:
    whole = spikes_file(tmp_path / "whole.h5", [0, 1] * 10)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:-700])
    refused(capsys, shd(cut, whole, tmp_path / "runs"), 1, r"cut\.h5")


def test_labels_out_of_range(capsys, tmp_path: Path) -> None:
    good, bad = spikes_file(tmp_path / "good.h5", [0, 1] * 10), spikes_file(tmp_path / "bad.h5", [0, 2] * 10)
    refused(capsys, shd(bad, good, tmp_path / "runs"), 1, r"bad\.h5", "label")
    refused(capsys, tiny("FourthLabel", tmp_path / "runs"), 1, "labels 1 to 3", "0 to 2")


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        ("NanEvents", "train batch 0 of epoch 1 holds values that are not finite"),
        ("IntegerEvents", "train batch 0 of epoch 1 is torch.int64.*float"),
        ("FlatEvents", r"SpikingMLP takes \[T, B, 2, 6, 12\], it was given \(6, 8, 2, 6\)"),
    ],
)
def test_batches_that_do_not_fit(capsys, tmp_path: Path, data: str, pattern: str) -> None:
    refused(capsys, tiny(data, tmp_path), 1, pattern)


def test_resume_wants_a_run_and_nothing_else(capsys, tmp_path: Path) -> None:
    refused(capsys, ["train", "--resume", str(tmp_path / "gone")], 1, "gone is not a folder")
    refused(capsys, ["train", "--resume", str(tmp_path)], 1, "not a run folder")
    refused(capsys, ["train", "--resume", str(tmp_path), "--optim.lr", "1"], 1, "nothing else")
    refused(capsys, ["energy"], 1, "spikenet energy RUN_FOLDER")
    refused(capsys, ["report", str(tmp_path)], 1, "not a run folder")


def test_a_damaged_checkpoint_is_named(capsys, tmp_path: Path) -> None:
    main(tiny("TinyEvents", tmp_path))
    (run,) = tmp_path.iterdir()
    checkpoint = run / "checkpoints" / "epoch-0001.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    capsys.readouterr()
    refused(capsys, ["train", "--resume", str(run)], 1, "epoch-0001.safetensors", "cannot be read")


def test_python_m_spikenet_is_the_same_command() -> None:
    import subprocess

    done = subprocess.run([sys.executable, "-m", "spikenet", "info"], capture_output=True, text=True, check=True)
    assert "torch" in done.stdout
