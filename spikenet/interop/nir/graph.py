"""`Graph`: modules along the edges of a graph, loops included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError
from spikenet.neurons.carry import carrier

__all__ = ["END", "START", "Edges", "Graph", "predecessors"]

START, END = "input", "output"
Edges = Sequence[tuple[str, str]]


def predecessors(edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """For each node those that it hears, in the order of the edges."""
    heard: dict[str, list[str]] = {}
    for source, target in edges:
        heard.setdefault(target, []).append(source)
    return heard


class Graph(nn.Module):
    """Modules along edges; one that several edges lead to hears their sum.

        x_n[t] = sum of y_m[t] over the edges m -> n          y_n = module n of x_n

    An edge that closes a loop carries y_m[t-1], from 0 before the first step; the loop is closed behind a module with
    a state. Without loops whole sequences go from module to module, with one all of them go step by step.

    Args:
        modules: by name; names without dots.
        edges: pairs of names, "input" and "output" for the ends.
        features: the shape of the output of each module in a loop, without time and batch.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`.

    Raises:
        ArgumentError: for an edge without its node, or a loop in which no module has a state.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], edges: Edges, features: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        super().__init__()
        missing = {name for edge in edges for name in edge} - set(modules) - {START, END}
        if missing:
            raise ArgumentError(f"Graph: the edges name {', '.join(sorted(missing))}, of which there is no module")
        self.nodes, self.edges = nn.ModuleDict(modules), [(source, target) for source, target in edges]
        self.late = _late(self.edges, {name for name, module in modules.items() if hasattr(module, "step")})
        now = predecessors(edge for edge in self.edges if edge not in self.late)
        self.features = {source: (features or {})[source] for source, _ in self.late}
        self.order = [n for n in TopologicalSorter(now).static_order() if n in self.nodes]
        self._heard = predecessors(self.edges)

    def forward(self, x: Tensor) -> Tensor:
        """Whole sequences from the initial states, or a stream's next part."""
        if not self.late:
            return self._whole(x)
        running = carrier()
        if running is None:
            return self.run(x)[0]
        key, state = running.take(self, x)
        y, state = self.run(x, state)
        running.put(key, state)
        return y

    def _whole(self, x: Tensor) -> Tensor:
        known = {START: x}
        for name in self.order:
            known[name] = self.nodes[name](self._sum(name, known, {}))
        return self._sum(END, known, {})

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """A chunk from `state`, step by step; returns its output and the next state: what was sent, and the states."""
        last, kept = self._silence(x) if state is None else (dict(zip(self.features, state[0], strict=True)), state[1])
        kept, outputs = list(kept), []
        for now in x:
            known = {START: now}
            for n, name in enumerate(self.order):
                known[name], kept[n] = _stepped(self.nodes[name], self._sum(name, known, last), kept[n])
            outputs.append(self._sum(END, known, last))
            last = {name: known[name] for name in self.features}
        return torch.stack(outputs) if outputs else x, (tuple(last.values()), tuple(kept))

    def _silence(self, x: Tensor) -> tuple[dict[str, Tensor], list[Any]]:
        return {n: x.new_zeros(x.shape[1], *shape) for n, shape in self.features.items()}, [None] * len(self.order)

    def _sum(self, name: str, known: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> Tensor:
        parts = [last[m] if (m, name) in self.late else known[m] for m in self._heard[name]]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def _stepped(module: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    if hasattr(module, "step"):
        return module.step(x, state)
    return module(x.unsqueeze(0)).squeeze(0), None


def _late(edges: Edges, remember: set[str]) -> set[tuple[str, str]]:
    """The edges to hear one step later, so that the others have no loop."""
    late: set[tuple[str, str]] = set()
    while True:
        left = [edge for edge in edges if edge not in late]
        try:
            TopologicalSorter(predecessors(left)).prepare()
            return late
        except CycleError as error:
            loop = error.args[1]  # each is a predecessor of the next, the first is the last
        entries = [n for n in loop[:-1] if any(t == n and s not in loop for s, t in left)]
        late.add(_closing(loop[:-1], entries, remember))


def _closing(loop: list[str], entries: list[str], remember: set[str]) -> tuple[str, str]:
    """The edge of a loop that is late: out of the last module with a state before it comes back to its entry."""
    start = loop.index(entries[0]) if entries else 0
    around = loop[start:] + loop[:start]
    for n in reversed(range(len(around))):
        if around[n] in remember:
            return around[n], around[(n + 1) % len(around)]
    raise ArgumentError(f"a loop in which no node has a state: {' -> '.join(loop)}; NIR does not say when it is heard")
