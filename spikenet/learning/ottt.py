"""Online training through time: the gradient of a feed-forward network step by step, at memory constant in T."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError
from spikenet.kernels.scan import linear_scan
from spikenet.neurons import Neuron
from spikenet.neurons.lif import IF, LIF

__all__ = ["OTTT", "OTTTState"]

_STEPS = 16  # worked through at once: no step needs another's gradient, and a call of a layer has its price


class OTTTState(NamedTuple):
    """What goes from step to step: of each block the trace of its input and its neuron's state, if it has one."""

    traces: tuple[Tensor, ...]
    neurons: tuple[Any, ...]


class OTTT(nn.Sequential):
    """A feed-forward network of connections and IF or LIF neurons that learns online.

    The layers up to a neuron are its connection, linear in what they receive, or affine. With z the spikes that come
    in, u a neuron's potential and keep the share of it that a step leaves (1 - dt / tau), the gradient of
    L = sum_t L[t] is taken as

        trace[t] = keep trace[t-1] + z[t]
        g[t] = dL[t]/du[t], through the layers of step t alone, by the surrogates
        dL/dW = sum_t g[t] trace[t]^T

    so that nothing of the past is kept but traces and states: the memory does not grow with T. For one layer of neurons
    this is backpropagation through time with no gradient through the reset by subtraction; for several it leaves out
    how earlier spikes of lower layers act on later potentials of upper ones. A bias gets the sum of g[t]. Layers after
    the last neuron are a readout in each step, whose gradient is exact.

    Called, it is the network, with plain backpropagation through time.

    Args:
        *layers: torch layers without memory and neurons, as of `nn.Sequential`; learned potentials of neurons get the
            gradient of their step alone.

    Shape:
        `[T, B, ...]` -> `[T, B, ...]`.

    Raises:
        ArgumentError: for a neuron that is not IF or LIF, with a learned time constant, or for layers that mix time
            steps or take statistics.

    Source: Xiao et al., "Online training through time for spiking neural networks", NeurIPS 2022, section 4; the bias
    as in its code.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        for name, layer in self.named_modules():
            if _unfit(layer):
                raise ArgumentError(
                    "OTTT takes IF and LIF with fixed time constants, and layers that neither remember, take "
                    "statistics nor draw; "
                    f"{name} is {type(layer).__name__}."
                )

    def learn(
        self, x: Tensor, loss: Callable[[Tensor, int], Tensor], state: OTTTState | None = None
    ) -> tuple[Tensor, OTTTState]:
        """A chunk `[T, B, ...]` from `state`, adding to the weights' `.grad`.

        Args:
            x: the input; it gets no gradient.
            loss: from the output of a step `[B, ...]` and its number in the chunk to L[t], a number.
            state: where the sequence goes on; none begins anew.

        Returns:
            The output of all steps, without gradient, and the state.

        Raises:
            ShapeError: if L[t] is no single number, or for a chunk of no steps.
        """
        if not len(x):
            raise ShapeError(f"OTTT.learn takes chunks [T, B, ...] of one step or more, got {tuple(x.shape)}.")
        blocks, outputs = list(self._blocks()), []
        for first in range(0, len(x), _STEPS):
            output, state = self._forward(blocks, x[first : first + _STEPS].detach(), state)
            shares = [_number(loss(y, t)) for t, y in enumerate(output.unbind(), first)]
            learned = [share for share in shares if share.requires_grad]  # other steps have no part in it
            if learned:
                torch.stack(learned).sum().backward()
            outputs.append(output.detach())
        return torch.cat(outputs), state  # type: ignore[return-value]

    def _blocks(self) -> Iterator[tuple[nn.Sequential, Neuron | None]]:
        """Connections with the neuron that follows; the last has none if layers come after the last neuron."""
        connection: list[nn.Module] = []
        for layer in self:
            if isinstance(layer, Neuron):
                yield nn.Sequential(*connection), layer
                connection = []
            else:
                connection.append(layer)
        if connection:
            yield nn.Sequential(*connection), None

    @torch.enable_grad()
    def _forward(self, blocks: list[Any], z: Tensor, state: OTTTState | None) -> tuple[Tensor, OTTTState]:
        traces: list[Tensor] = []
        neurons: list[Any] = []
        for i, (connection, neuron) in enumerate(blocks):
            if neuron is None:
                traces.append(z[-1].detach().clone())  # of no more than that step
                neurons.append(None)
                z = _on_steps(connection, z)
                continue
            start = torch.zeros_like(z[0]) if state is None else state.traces[i]
            trace, last = linear_scan(z.detach(), _keep(neuron, z), start)
            current = _through(connection, z, trace.to(z.dtype))
            z, after = _each_alone(neuron, current, None if state is None else state.neurons[i])
            traces.append(last)
            neurons.append(after)
        return z, OTTTState(tuple(traces), tuple(neurons))


def _number(share: Tensor) -> Tensor:
    if share.numel() != 1:
        raise ShapeError(f"OTTT: the loss of a step is one number, got {tuple(share.shape)}.")
    return share.sum()


def _on_steps(connection: nn.Module, x: Tensor) -> Tensor:
    """A layer of `[B, ...]` on `[T, B, ...]`."""
    return connection(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class _InPlaceOf(torch.autograd.Function):
    """The value of one tensor, the gradient for another."""

    @staticmethod
    def forward(ctx: Any, shown: Tensor, behind: Tensor) -> Tensor:
        return shown.view_as(shown)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def _through(connection: nn.Module, z: Tensor, trace: Tensor) -> Tensor:
    """The value of `connection(z)`, and its gradient for z; the weights' gradient is that of `connection(trace)`."""
    with torch.no_grad():
        value = _on_steps(connection, z)
    return _InPlaceOf.apply(value, _on_steps(connection, _InPlaceOf.apply(trace, z)))


def _each_alone(neuron: Neuron, current: Tensor, state: Any) -> tuple[Tensor, Any]:
    """A neuron's spikes, whose gradient is that of their step alone, and its state after the last step."""
    start = neuron.initial_state(current[0]) if state is None else state
    with torch.no_grad():
        states = neuron.trace(current, state=start)[1]
    before = (torch.cat([first.unsqueeze(0), later[:-1]]) for first, later in zip(start, states, strict=True))
    z, _ = neuron.step(current.flatten(0, 1), state=type(start)(*(v.flatten(0, 1) for v in before)))
    return z.unflatten(0, current.shape[:2]), type(start)(*(v[-1].clone() for v in states))


def _keep(neuron: Neuron, like: Tensor) -> Tensor:
    """The share of a potential that one step leaves."""
    if isinstance(neuron, IF):
        return like.new_ones(())
    known = {name: value.to(like.dtype) for name, value in neuron._declared().items()}
    return 1.0 - neuron.derive(known)["rate"]


def _unfit(layer: nn.Module) -> bool:
    if type(layer) is LIF:
        return layer.tau.numel() > 1 or layer.tau.requires_grad  # type: ignore[operator, return-value]
    memory = isinstance(layer, Neuron) or hasattr(layer, "run")
    norms = nn.modules.batchnorm._BatchNorm, nn.RNNBase, nn.LayerNorm, nn.GroupNorm
    draws = nn.modules.dropout._DropoutNd  # the value and the gradient would have draws of their own
    return type(layer) is not IF and (memory or isinstance(layer, (*norms, draws)))
