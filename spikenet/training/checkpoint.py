"""Checkpoints as one safetensors file: every tensor as a tensor, the rest of the tree as JSON in the file's metadata.
No pickle.

A file is written beside its target, synced and renamed, so that a kill at any moment leaves the old file or the new
one, never half of one. A SHA-256 over the tree and the tensors is stored with it and checked on load.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor, nn

from spikenet.cache import write_atomically
from spikenet.errors import ArgumentError, FormatError

_FORMAT = "spikenet-tree-1"
_DICTS = (dict, OrderedDict, defaultdict)
_PLAIN = (bool, int, float, str, type(None))


def save_tree(tree: dict[str, Any], path: str | Path) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings and tensors to one safetensors file, atomically.

    Args:
        tree: what to write; anything else in it is refused by name.
        path: the file.

    Raises:
        ArgumentError: the tree holds an object of another type.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    encoded = _encode(tree, "", tensors)
    header = {"format": _FORMAT, "sha256": _digest(encoded, tensors), "tree": encoded}
    # One entry only: safetensors writes several in any order, and equal trees are to make equal files.
    write_atomically(Path(path), save(tensors, metadata={"spikenet": json.dumps(header)}))


def load_tree(path: str | Path) -> dict[str, Any]:
    """Read what `save_tree` wrote, tensors on the CPU.

    Raises:
        FormatError: the file is missing, truncated, changed or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FormatError(path, None, f"cannot be read as a safetensors file ({error})") from error
    try:
        header = json.loads(metadata["spikenet"])
        form, digest, tree = header["format"], header["sha256"], header["tree"]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(path, None, "is a safetensors file, but not a spikenet checkpoint") from error
    if form != _FORMAT:
        raise FormatError(path, None, f"is a checkpoint of the format {form!r}; {_FORMAT!r} can be read")
    if digest != _digest(tree, tensors):
        raise FormatError(
            path, None, "the checksum does not match its content; the file was changed after it was written"
        )
    return _decode(tree, tensors)


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write a module's state dict as a plain safetensors file, atomically."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    write_atomically(Path(path), save(tensors, metadata={"format": "pt"}))


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Read a module's state dict from a safetensors file.

    Raises:
        FormatError: the file is missing, damaged or does not fit the module.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise FormatError(path, None, f"cannot be read as weights ({error}); an unfinished run has none yet") from error
    except RuntimeError as error:
        raise FormatError(path, None, f"does not fit the network: {error}") from error


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints in the format of `save_tree`: pass it to ``Trainer(plugins=[SafetensorsIO()])``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save_tree(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_tree(path)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _encode(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """JSON of a value; tensors are moved to `tensors` under their path in the tree."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": place}
    if type(value) in _PLAIN:
        return value
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encode(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]}
    if type(value) in _DICTS:
        return {"dict": [[_key(key, place), _encode(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
    raise ArgumentError(
        f"checkpoint: {place.strip('/') or 'the tree'} is a {type(value).__module__}.{type(value).__qualname__}; "
        "only dicts, lists, tuples, numbers, strings, None and tensors can be written."
    )


def _key(key: Any, place: str) -> Any:
    if type(key) in (str, int):
        return key
    kind = type(key).__qualname__
    raise ArgumentError(
        f"checkpoint: {place.strip('/') or 'the tree'} has a key of type {kind}; use strings or integers."
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _digest(encoded: Any, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(encoded).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data if tensors[name].numel() else b"")
    return digest.hexdigest()
