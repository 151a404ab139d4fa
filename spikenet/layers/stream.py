"""`Stream`: a network run chunk by chunk or step by step, with its states in the open."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ShapeError, StateError
from spikenet.layers.fold import Folded
from spikenet.neurons import PSN
from spikenet.neurons.carry import carrying

__all__ = ["Stream"]


class Key(NamedTuple):
    """Whose state: the module's name in the network, and which of its calls within one pass."""

    module: str
    call: int


class _Held(NamedTuple):
    state: Any
    batch_shape: torch.Size
    dtype: torch.dtype | None  # None for events
    device: torch.device


# Torch modules that mix time steps of `[T, B, ...]` or take the first axis for the batch.
_MIXES_TIME = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.modules.conv._ConvNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
)


class Stream:
    """Runs `net` on one part of a sequence after another, carrying the states of its neurons and readouts.

    The parts together give what the whole sequence gives at once. States are held in `states`, keyed by module name
    and call number; `reset` drops them. `net` calls its neurons as modules (`self.lif(x)`) and mixes no time steps of
    its own; no activation checkpointing inside, which would run it again without its states (`CheckpointedTime` is for
    that). `collapsed` says whether the last answer had no time axis.

    Args:
        net: a module that takes `[T, B, ...]`.

    Raises:
        StateError: if `net` holds a module that cannot be run in parts (named in the message), or, on a call, if
            the batch size, features, device or dtype is not that of the calls before.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.states: dict[Key, _Held] = {}
        self._input: _Held | None = None
        self._names: dict[nn.Module, str] = {}
        self._calls: dict[nn.Module, int] = {}
        self.collapsed = False

    def __call__(self, x: Any) -> Any:
        """The next chunk `[T, B, ...]`; a readout answers for all steps so far."""
        self._refuse()
        held = self._input or _Held(None, x.shape[1:], getattr(x, "dtype", None), x.device)
        _check("its input", held, x)
        self._calls, self.collapsed = {}, False
        before = dict(self.states)
        try:
            with carrying(self):
                out = self.net(x)
        except BaseException:
            self.states = before  # a chunk that failed leaves the stream as it was
            raise
        self._input = held
        return out

    def step(self, x: Tensor) -> Any:
        """The next step `[B, ...]`; returns one step of output `[B, ...]`."""
        if not isinstance(x, Tensor) or x.ndim < 1:
            raise ShapeError(f"Stream.step takes one step [B, ...] as a tensor, got {type(x).__name__}")
        out = self(x.unsqueeze(0))
        return out if self.collapsed else out.squeeze(0)

    def reset(self) -> None:
        """Start anew: the next call begins from the initial states."""
        self.states, self._input = {}, None

    def detach(self) -> None:
        """Cut the graph between what has been and what comes: truncated backpropagation through time."""
        self.states = {key: held._replace(state=_detached(held.state)) for key, held in self.states.items()}

    # What the modules ask for while they run (see `spikenet.neurons.carry`).

    def take(self, module: nn.Module, like: Tensor) -> tuple[Any, Any]:
        call = self._calls.get(module, 0)
        self._calls[module] = call + 1
        key = Key(self._names[module], call)
        held = self.states.get(key)
        if held is not None:
            _check(repr(key.module), held, like)
        return (key, like), None if held is None else held.state

    def put(self, key: Any, state: Any) -> None:
        name, like = key
        self.states[name] = _Held(state, like.shape[1:], like.dtype, like.device)

    def collapse(self) -> None:
        self.collapsed = True

    def _refuse(self) -> None:
        for name, module in self.net.named_modules():
            where = f"{name or 'the network'} ({type(module).__name__})"
            self._names[module] = name or type(module).__name__
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
                raise StateError(
                    f"{where} in training takes statistics over time and cannot be streamed; call .eval() first"
                )
            if isinstance(module, PSN):
                raise StateError(
                    f"{where} sees all of its {module.steps} steps at once and cannot be streamed; SlidingPSN can"
                )
            if isinstance(module, _MIXES_TIME) and not isinstance(module, Folded):
                raise StateError(
                    f"{where} mixes time steps and cannot be streamed; "
                    "use spikenet's layer of that name, if there is one"
                )


def _detached(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple):
        parts = [_detached(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def _check(where: str, held: _Held, like: Any) -> None:
    for what, before, now in (
        ("shape [B, ...]", tuple(held.batch_shape), tuple(like.shape[1:])),
        ("dtype", held.dtype, getattr(like, "dtype", None)),
        ("device", held.device, like.device),
    ):
        if before != now:
            raise StateError(
                f"the stream changed at {where}: {what} was {before} and is now {now}. "
                "Call reset() to start a new stream, or keep the input as it was."
            )
