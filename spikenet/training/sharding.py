"""Training with weights, gradients and optimiser states in shards, one on each device (FSDP)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint import state_dict as gathered
from torch.distributed.fsdp import fully_shard

from spikenet.errors import ArgumentError
from spikenet.training.checkpoint import load_tree

__all__ = ["FullySharded", "shard"]


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for torch's `fully_shard`, with checkpoints that are whole, as those of a run on one device.

    Args:
        devices: over how many the network is sharded.

    Source: Zhao et al., "PyTorch FSDP", VLDB 2023; the second version of torch's implementation.
    """

    def __init__(self, devices: int) -> None:
        super().__init__(data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The whole state, by the names of the parameters."""
        inner = getattr(optimizer, "_optimizer", optimizer)
        return gathered.get_optimizer_state_dict(self._network(), inner, options=_whole(cpu_offload=True))

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Weights and optimiser states go to their shards; the rest is returned."""
        found = load_tree(checkpoint_path)
        gathered.set_model_state_dict(self._network(), found["state_dict"], options=_whole())
        for optimizer, state in zip(self.optimizers, found["optimizer_states"], strict=True):
            gathered.set_optimizer_state_dict(self._network(), optimizer, state, options=_whole())
        return found

    def _network(self) -> nn.Module:
        assert self.model is not None
        return self.model


def _whole(**options: Any) -> gathered.StateDictOptions:
    return gathered.StateDictOptions(full_state_dict=True, **options)


def shard(network: nn.Module, mesh: Any) -> None:
    """Shard a network in place, over a mesh of one dimension, a block at a time: the elements of its outermost
    `nn.Sequential` and `nn.ModuleList` that hold matrices, then what is left. On CPUs it takes neurons that learn no
    parameters: Numba holds on to memory that torch would free.

    Raises:
        ArgumentError: if a learned parameter is a single number, which has no shards.
    """
    numbers = [name for name, p in network.named_parameters() if p.ndim == 0]
    if numbers:
        raise ArgumentError(
            f"strategy 'fsdp' cuts parameters along their first axis; {', '.join(numbers)} has none. "
            "Make it [1] or one a neuron, or use 'ddp'."
        )
    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if not isinstance(module, nn.Sequential | nn.ModuleList):
            yield from _blocks(child)
        elif any(p.ndim > 1 for p in child.parameters()):
            yield child
