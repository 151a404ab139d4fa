"""A torch dispatch mode that sees every operation of a network's call, and the module that it belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from spikenet.energy.neurons import NeuronCost
from spikenet.energy.parts import Part
from spikenet.energy.work import Bits, Geometry
from spikenet.events import EventTensor
from spikenet.kernels.backends import use_backend
from spikenet.kernels.count import tally, tally_events

Rule = Callable[["Watch", tuple[Any, ...], dict[str, Any], Any], None]


class Frame(NamedTuple):
    """A module that is running: whether it was called for one time step alone, its cost if it is a neuron, and whether
    it says itself what it `sends`, so that of its operations neurons alone are of interest."""

    name: str
    kind: str
    module: nn.Module
    single: bool
    neuron: NeuronCost | None
    whole: bool


@dataclass
class Storages:
    """A set of tensors' memories, whatever their views; what is freed leaves no address behind to be mistaken."""

    held: dict[int, StorageWeakRef] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> None:
        storage = _memory(tensor)
        self.held.setdefault(storage._cdata, StorageWeakRef(storage))

    def discard(self, tensor: Tensor) -> None:
        self.held.pop(_memory(tensor)._cdata, None)

    def __contains__(self, tensor: Tensor) -> bool:
        return _memory(tensor)._cdata in self.held


def _memory(tensor: Tensor) -> torch.UntypedStorage:
    values = {torch.strided: lambda: tensor, torch.sparse_coo: tensor._values}.get(tensor.layout, tensor.values)
    return values().untyped_storage()


class Watch(TorchDispatchMode):
    """Keeps a `Part` of each operation while a network is open; outside of it, and backwards, it looks away.

    Attributes:
        call: time steps and batch size of the call under way.
        parts: what was seen in it.
        unknown: operations without a rule, with their modules.
        stack: modules that run, the innermost last; empty while no call is under way.
        fixed: memories of what depends on weights alone.
        whole: of these, the weights of layers that say themselves what they send.
        connected: memories of what a connection just put out.
        known: tallies of tensors that nothing was written into since.
    """

    def __init__(self, products: Mapping[str, Rule], others: Mapping[str, Rule | None], network: nn.Module) -> None:
        super().__init__()
        self.products, self.rules, self.network = products, {**others, **products}, network
        self.begin(1, 1)
        self.stack: list[Frame] = []
        self.unknown: dict[str, None] = {}

    def begin(self, steps: int, batch: int) -> None:
        """A call of `steps` time steps begins."""
        self.call, self.parts = (steps, batch), list[Part]()
        self.fixed, self.whole, self.connected = Storages(), Storages(), Storages()
        self.known = dict[int, tuple[StorageWeakRef, dict[Any, Any]]]()
        for module in self.network.modules():
            for weight in (*module.parameters(recurse=hasattr(module, "sends")), *module.buffers(recurse=False)):
                self.fixed.add(weight)
                if hasattr(module, "sends"):
                    self.whole.add(weight)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and saying so to dynamo would import it

    def enter(self, name: str, module: nn.Module, neuron: NeuronCost | None, x: Tensor | EventTensor | None) -> None:
        """A module begins."""
        above = self.stack[-1] if self.stack else None
        single = above.single if above else False
        if above and not single and x is not None:
            single = self._one_step(tuple(x.shape))
        neuron = neuron or (above.neuron if above else None)
        whole = hasattr(module, "sends") or (above is not None and above.whole)
        self.stack.append(Frame(name, type(module).__name__, module, single, neuron, whole))

    def _one_step(self, shape: tuple[int, ...]) -> bool:
        steps, batch = self.call
        return steps > 1 and shape[:1] == (batch,) and not self._time_first(shape)

    def _time_first(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > 2 and shape[:2] == self.call

    def steps_of(self, x: Tensor, *, folded: bool = False) -> int:
        """Time steps that an operand covers, its time first, or `folded` into the first axis: all, or one."""
        steps, batch = self.call
        shape = tuple(x.shape)
        if steps == 1 or not shape or self.stack[-1].single:
            return 1
        if (not folded and self._time_first(shape)) or (shape[0] != batch and shape[0] % (steps * batch) == 0):
            return steps
        return 1

    def tally(self, x: Tensor, steps: int, reach: Tensor | None = None) -> Tensor:
        """The tally of `x`, by any backend: one that is forced is meant for the network. A tensor that several layers
        read is read once."""
        if not x.is_contiguous():
            return self._tally(x, steps, reach)
        storage = x.untyped_storage()
        known = self.known.setdefault(storage._cdata, (StorageWeakRef(storage), {}))[1]
        key = (x.storage_offset(), x.numel(), x.dtype, steps, id(reach))
        if key not in known:
            known[key] = self._tally(x, steps, reach), reach  # held, so that no other takes its id
        return known[key][0]

    def _tally(self, x: Tensor, steps: int, reach: Tensor | None) -> Tensor:
        with use_backend(None):
            return tally(x, steps, reach)

    def tally_events(self, values: Tensor, indices: Tensor, starts: Tensor, reach: Tensor | None = None) -> Tensor:
        """The same of events."""
        with use_backend(None):
            return tally_events(values, indices, starts, reach)

    def add(
        self,
        operation: str,
        steps: int,
        fixed: Mapping[str, float],
        *,
        bits: Bits,
        tallies: tuple[Tensor, ...] = (),
        pairs: Tensor | None = None,
        fanouts: tuple[float, ...] = (1.0,),
        geometry: Geometry | None = None,
        resets: bool = False,
    ) -> None:
        """Keep what the innermost module did."""
        at = self.stack[-1]
        geometry = geometry or Geometry(parameters=sum(p.numel() for p in at.module.parameters(recurse=False)))
        part = Part(at.name, at.kind, operation, steps, fixed, tallies, pairs, fanouts, bits, geometry, resets)
        self.parts.append(part)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.stack or torch._C._current_graph_task_id() != -1:
            return func(*args, **kwargs)
        if _composite(func):
            with self:  # in inference mode such operations come whole
                return func._op_dk(DispatchKey.CompositeImplicitAutograd, *args, **kwargs)
        out = func(*args, **kwargs)
        if func._schema.is_mutable:
            for written in tensors(args):
                self.known.pop(written.untyped_storage()._cdata, None)
        self._see(func, args, kwargs, out)
        return out

    def bits(self, of: str, x: Tensor) -> int:
        """Storage bits of the running module's numbers: what it says by `weight_bits` or `state_bits`, or the dtype's.
        A layer speaks for the kernels inside of it."""
        said = getattr(self.stack[-1].module, f"{of}_bits", None)
        return bits_in(x) if said is None else int(said)

    def see(self, name: str, args: tuple[Any, ...], out: Any) -> None:
        """Count what `name` stands for; the caller hides the operations that it is made of."""
        if self.stack and not self.stack[-1].whole and torch._C._current_graph_task_id() == -1:
            rule = self.rules[name]
            assert rule is not None
            with _disable_current_modes():  # as within an operation: a rule opens its eyes itself
                rule(self, args, {}, out)

    def _see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        operands, results = list(tensors(args)), list(tensors(out))
        operands += tensors(tuple(kwargs.values()))
        name, at = name_of(func), self.stack[-1]
        if at.whole and name != "spikenet::dynamics":
            return
        if name == "scalar_tensor":  # a number written in the code
            self.fixed.add(out)
        if not operands or not results or not (name in self.products or _real(operands + results)):
            return
        taken = not at.whole and any(t in self.whole for t in operands)
        if all(t in self.fixed for t in operands):
            for result in results:
                self.fixed.add(result)
                if taken:
                    self.whole.add(result)
        elif func.is_view:
            return
        elif taken or name not in self.rules or any(t.is_complex() or t.layout is not torch.strided for t in operands):
            self.unknown[f"{at.name} ({at.kind}): {name}"] = None
        elif rule := self.rules.get(name):
            rule(self, args, kwargs, out)


def _real(found: list[Tensor]) -> bool:
    """Whether numbers are among them: arithmetic of whole numbers, other than products, is of places and labels."""
    return any(t.is_floating_point() or t.is_complex() for t in found)


@functools.cache
def _composite(func: Any) -> bool:
    """Whether an operation is made of others by its own C++ code (not by a decomposition that Python offers)."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


@functools.cache
def name_of(func: Any) -> str:
    """An operation's name without its overload; what is done in place has the name of what is done elsewhere."""
    space, _, base = func._schema.name.partition("::")
    return (base.rstrip("_") if space == "aten" else f"{space}::{base}") or base


def tensors(found: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, lists looked into."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for each in found:
            yield from tensors(each)


def bits_in(x: Tensor) -> int:
    """Storage bits of the dtype."""
    return 8 * x.element_size()
