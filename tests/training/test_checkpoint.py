"""Checkpoint files: exact round trips, refusals, and every kind of damage."""

import contextlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from spikenet.errors import ArgumentError, FormatError
from spikenet.training import load_tree, load_weights, save_tree, save_weights

TREE = {
    "state_dict": OrderedDict(
        weight=torch.arange(6.0).view(2, 3).t(), flag=torch.tensor(True), empty=torch.empty(0, 2)
    ),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "optimizer": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)}, 1: {}},
    "numbers": [1, 0.1, float("inf"), None, "text", True, [], ()],
}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_a_tree_comes_back_as_it_was(tmp_path) -> None:
    save_tree(TREE, tmp_path / "a.safetensors")
    assert same(load_tree(tmp_path / "a.safetensors"), TREE)


def test_tensors_that_share_memory_are_written_each(tmp_path) -> None:
    base = torch.arange(4.0)
    save_tree({"whole": base, "again": base, "part": base[1:3]}, tmp_path / "a")
    assert same(load_tree(tmp_path / "a"), {"whole": base, "again": base, "part": base[1:3]})


def test_other_readers_find_the_tensors_under_their_names(tmp_path) -> None:
    save_tree(TREE, tmp_path / "a")
    with safe_open(tmp_path / "a", framework="np") as file:
        assert np.array_equal(file.get_tensor("/state_dict/weight"), np.arange(6.0).reshape(2, 3).T)


def test_objects_of_other_types_are_refused_by_name(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"optimizer/0/fn is a .*Linear"):
        save_tree({"optimizer": {0: {"fn": nn.Linear(1, 1)}}}, tmp_path / "a")
    with pytest.raises(ArgumentError, match="key of type tuple"):
        save_tree({"x": {(1, 2): 3}}, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_truncation_at_every_byte_is_found(tmp_path) -> None:
    path = tmp_path / "a"
    save_tree({"x": torch.tensor([1.0, 2.0]), "n": 3}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=str(path)):
            load_tree(path)


def test_a_flip_of_any_byte_is_found_or_harmless(tmp_path) -> None:
    path, tree = tmp_path / "a", {"x": torch.tensor([1.0, 2.0]), "n": 3}
    save_tree(tree, path)
    content = path.read_bytes()
    harmless = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with contextlib.suppress(FormatError):
            assert same(load_tree(path), tree)
            harmless += 1
    assert harmless < 10


def test_changed_tensors_fail_the_checksum(tmp_path) -> None:
    path = tmp_path / "a"
    save_tree({"x": torch.tensor([1.0, 2.0])}, path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(FormatError, match="checksum"):
        load_tree(path)


def test_a_missing_or_foreign_file_is_named(tmp_path) -> None:
    with pytest.raises(FormatError, match="nothing-here"):
        load_tree(tmp_path / "nothing-here")
    save_weights(nn.Linear(2, 2), tmp_path / "weights")
    with pytest.raises(FormatError, match="not a spikenet checkpoint"):
        load_tree(tmp_path / "weights")


def test_weights_come_back_and_must_fit(tmp_path) -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(first, tmp_path / "w")
    load_weights(second, tmp_path / "w")
    assert torch.equal(first.weight, second.weight)
    with pytest.raises(FormatError, match="does not fit"):
        load_weights(nn.Linear(4, 2), tmp_path / "w")
    with pytest.raises(FormatError, match="unfinished"):
        load_weights(second, tmp_path / "none")
