"""Operation counts of a network on real input, from the operations that torch really ran.

A connection is charged by what its input holds, decided per call:

- spikes (every value 0 or 1) and ternary values (-1, 0, 1): one accumulate (AC) per spike and synapse that it reaches;
- counts (whole numbers): one AC per unit and synapse, so a value of 3 is charged three times;
- graded (anything else, the average of spikes too): all multiply-accumulates (MAC) of the layer, at every step.

"Synapses reached" is exact: a spike at a border reaches fewer outputs of a convolution than one in the middle, and
stride, dilation and groups count. A product of two activations (attention) is charged one AC for each pair of spikes
that meet, one AC for each value that a spike selects where only one side spikes, and MACs where neither does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikenet.energy import connections, elements
from spikenet.energy.neurons import NeuronCost, cost_of
from spikenet.energy.parts import charge, gather
from spikenet.energy.watch import Watch, bits_in, tensors
from spikenet.energy.work import LayerWork, Work
from spikenet.errors import ArgumentError, EnergyError, ShapeError
from spikenet.events import EventTensor
from spikenet.layers import Stream
from spikenet.neurons.carry import carrier


@contextmanager
def count(
    network: nn.Module | Stream,
    *,
    steps: int | None = None,
    calls: int | None = None,
    strict: bool = False,
    neurons: Mapping[type[nn.Module], NeuronCost] | None = None,
) -> Iterator[Work]:
    """Count the operations of every call of `network` inside the ``with`` block.

    Every layer of torch or spikenet, and every product, sum, norm or pooling that a module does by itself, is charged
    to the innermost module that was called. Layers may see ``[T, B, ...]``, time folded into the batch
    ``[T * B, ...]``, or one step a call ``[B, ...]`` in a loop over time (told apart by shape: not where T, B and the
    first feature axis are all equal). Batch norm directly behind a connection costs
    nothing (it folds into the weights); what depends on weights alone costs nothing. Backward passes are not counted,
    and training is not changed. The neurons of SpikingJelly, Norse and snnTorch are known by class. A layer that does
    more than its operations say, such as one with delays, brings its own rule: its method ``sends(x, output)`` returns
    the values that go through its synapses, and a layer of torch that has as many of them.

    Args:
        network: any module called on ``[T, B, ...]``, a tensor or an `EventTensor`; or a `Stream`, whose chunks
            continue each other until it is reset.
        steps: for a network that makes its own T steps of an input ``[B, ...]``: T.
        calls: for a network without time, called on one step ``[B, ...]`` after another: the calls of a sequence.
        strict: raise at an operation that has no rule; else it is named in `Work.uncounted`.
        neurons: other neuron classes, with the operations of an update. What such a module computes by itself is
            replaced by that; the products with weights inside it are counted.

    Yields:
        `Work`, filled at the end of each call of `network`.

    Raises:
        ShapeError: if the network is called on less than ``[T, B]``, or without a tensor.
        EnergyError: for an operation without a rule, if `strict`.
        ArgumentError: for both `steps` and `calls`, or less than 1 of them.
    """
    counting = _Counting(network, steps, calls, strict, neurons or {})
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code would hide its operations
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # so would whole layers of torch's transformers
        for handle in counting.hooks():
            stack.callback(handle.remove)
        stack.enter_context(counting.watch)
        yield counting.work


class _Counting:
    """Follows the calls of a network and its modules."""

    def __init__(
        self,
        network: nn.Module | Stream,
        steps: int | None,
        calls: int | None,
        strict: bool,
        neurons: Mapping[type[nn.Module], NeuronCost],
    ) -> None:
        if (steps is not None and calls is not None) or min(steps or 1, calls or 1) < 1:
            raise ArgumentError(f"count takes steps or calls, one of them and at least 1; got {steps=}, {calls=}")
        self.network = network.net if isinstance(network, Stream) else network
        self.steps, self.calls, self.strict, self.neurons = steps, calls, strict, neurons
        self.watch = Watch(connections.RULES, elements.RULES, self.network)
        self.work, self.records = Work(), dict[tuple[str, str], LayerWork]()
        self.offset, self.done = 0, 0

    def hooks(self) -> Iterator[Any]:
        """Put hooks on the network and its modules; yields their handles."""
        for name, module in self.network.named_modules():
            cost = cost_of(module, self.neurons)
            begin, end = self._hooks(name or "network", cost, module is self.network)
            yield module.register_forward_pre_hook(begin, prepend=True, with_kwargs=True)
            yield module.register_forward_hook(end, with_kwargs=True, always_call=True)

    def _hooks(self, name: str, cost: NeuronCost | None, root: bool) -> tuple[Any, Any]:
        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            if torch._C._current_graph_task_id() != -1:
                return  # run again for a backward pass
            x = _first(args, kwargs)
            if root and not self.watch.stack:
                self._open(x)
            if root or self.watch.stack:
                self.watch.enter(name, module, cost, x)

        def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not self.watch.stack or torch._C._current_graph_task_id() != -1:
                return
            if cost is not None and output is not None:
                self._spiked(_first(args, kwargs), output, cost)
            if hasattr(module, "sends") and output is not None:
                connections.sent(self.watch, module, _first(args, kwargs), output)
            self.watch.stack.pop()
            if not self.watch.stack and output is not None:
                self._close()

        return begin, end

    def _open(self, x: Any) -> None:
        if x is None or len(x.shape) < (2 if self.steps is self.calls is None else 1):
            found = "no tensor" if x is None else f"shape {tuple(x.shape)}"
            raise ShapeError(f"count: a network takes [T, B, ...]; it was called on {found}.")
        T, batch = (self.steps or 1, int(x.shape[0])) if self.steps or self.calls else map(int, x.shape[:2])
        self.offset = self._before()
        self.watch.begin(T, batch)

    def _before(self) -> int:
        """Steps of this sequence that came in earlier calls."""
        if self.calls:
            return self.done % self.calls
        running = carrier()
        return self.done if isinstance(running, Stream) and running.states else 0

    def _spiked(self, x: Any, output: Any, cost: NeuronCost) -> None:
        sent = next(tensors(output), None)
        if sent is not None:
            x = x if isinstance(x, Tensor) else sent
            elements.neuron(self.watch, x, sent.detach(), cost, bits_in(sent))

    def _close(self) -> None:
        """The call went well: charge what was seen."""
        (steps, batch), parts = self.watch.call, self.watch.parts
        self.work.uncounted = list(self.watch.unknown)
        if self.strict and self.work.uncounted:
            raise EnergyError(
                f"count has no rule for {', '.join(self.work.uncounted)}; strict=False lists them in Work.uncounted"
            )
        groups: dict[tuple[str, str], list[Any]] = {}
        for part in parts:
            groups.setdefault((part.layer, part.operation), []).append(part)
        for key, group in groups.items():
            record = self._record(key, group[0].kind)
            for laid, once in gather(group, steps):
                charge(record, laid, self.offset)
                if not self.offset and "dense_macs" in laid.series:
                    record.dense_macs_frame += float(laid.series["dense_macs"].sum()) / (1 if once else steps)
        self.done = self.offset + steps
        self.work.samples += 0 if self.offset else batch
        self.work.T = max(self.work.T, self.done)
        self.watch.parts = []

    def _record(self, key: tuple[str, str], kind: str) -> LayerWork:
        if key not in self.records:
            self.records[key] = LayerWork(key[0], kind, key[1])
            self.work.layers.append(self.records[key])
        return self.records[key]


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | EventTensor | None:
    return next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor | EventTensor)), None)
