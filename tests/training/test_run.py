"""The run folder: never overwritten, refused if it is none."""

import json

import pytest

from spikenet.errors import RunError
from spikenet.training import RunFolder


def test_a_new_run_never_touches_an_old_one(tmp_path) -> None:
    folders = [RunFolder.create(tmp_path / "runs", "digits-seed0", f"number: {i}\n") for i in range(3)]
    assert [folder.path.name for folder in folders] == ["digits-seed0-001", "digits-seed0-002", "digits-seed0-003"]
    assert [folder.config.read_text() for folder in folders] == ["number: 0\n", "number: 1\n", "number: 2\n"]


def test_the_environment_names_versions_and_no_machine(tmp_path) -> None:
    import platform

    folder = RunFolder.create(tmp_path, "a", "")
    text = (folder.path / "environment.json").read_text()
    assert json.loads(text)["versions"]["torch"]
    assert platform.node() not in text


def test_checkpoints_are_found_by_epoch_in_order(tmp_path) -> None:
    folder = RunFolder.create(tmp_path, "a", "")
    for epoch in (12, 3, 10_000):
        folder.checkpoint(epoch).touch()
    (folder.path / "checkpoints" / ".epoch-0013.safetensors.x1").touch()
    assert list(folder.checkpoints()) == [3, 12, 10_000]


def test_what_is_not_a_run_is_refused(tmp_path) -> None:
    with pytest.raises(RunError, match="not a folder"):
        RunFolder.open(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"config\.yaml"):
        RunFolder.open(tmp_path)
