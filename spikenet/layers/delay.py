"""Connections with a delay for every synapse, learned."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DeviceError, DtypeError, ShapeError, StateError, UnknownNameError
from spikenet.events import EventTensor
from spikenet.kernels.delay import (
    CROSSOVER,
    Bump,
    bump,
    delay_bumps,
    delay_kernel,
    delay_taps,
    delay_taps_of_events,
    rounded,
)
from spikenet.neurons.carry import carrier

__all__ = ["DelayLinear", "DelayState"]

PER = ("synapse", "input", "output", "shared")


class DelayState(NamedTuple):
    """What a layer with delays carries: its last `taps - 1` inputs, `[taps - 1, B, *features]`, oldest first."""

    inputs: Tensor


class Delayed(nn.Module):
    """Weights, learned delays and what becomes of them; a subclass says how a sequence goes through.

    `weight` is `[out, in, *offsets, elements]`, and `delay` broadcasts against it.
    """

    State = DelayState
    sigma: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        taps: int,
        *,
        elements: int,
        kernel: Bump | str,
        sigma: float,
        per: str,
        extend: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        for name, size in (("elements", elements), ("taps", taps), *((f"size {k}", n) for k, n in enumerate(shape))):
            if not hasattr(size, "__index__") or size < 1:
                raise ArgumentError(f"{type(self).__name__}: {name} must be a whole number above 0, got {size!r}")
        if extend < 0 or not math.isfinite(sigma):
            raise ArgumentError(
                f"{type(self).__name__}: extend must be 0 or more and sigma finite, got {extend}, {sigma}"
            )
        if per not in PER:
            raise UnknownNameError("kind of delay", per, PER)
        self.taps, self.elements, self.extend, self.per = taps, elements, extend, per
        self.kernel = bump(kernel)
        inner = (1,) * (len(shape) - 2)
        shapes = {
            "synapse": shape,
            "input": (1, shape[1], *inner),
            "output": (shape[0], 1, *inner),
            "shared": (1, 1, *inner),
        }
        self.weight = nn.Parameter(torch.empty(*shape, elements, device=device, dtype=dtype))
        self.delay = nn.Parameter(torch.empty(*shapes[per], elements, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype)) if bias else None
        self.register_buffer("sigma", torch.tensor(float(sigma), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as He et al. (2015) draw them for a rectifier, delays uniform on 0 to `taps - 1`, a bias of 0."""
        fan_in = self.weight[0].numel()
        nn.init.uniform_(self.weight, -math.sqrt(6.0 / fan_in), math.sqrt(6.0 / fan_in))
        nn.init.uniform_(self.delay, 0.0, self.taps - 1.0)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def clamp_(self) -> None:
        """Bring the delays back to 0 to `taps - 1`, as after every optimiser step; a call in training does so itself.

        The values change unseen by autograd: no gradient is affected, and a graph that holds the delays stays valid,
        since delays that a call has used lie within the range already.
        """
        self.delay.data.clamp_(0.0, self.taps - 1.0)

    def synapses(self) -> Tensor:
        """K, `[out, in, *offsets, taps]`: each synapse spread over the taps by its kernel, as in training."""
        return delay_kernel(self.weight, self.delay, self.sigma, self.kernel, self.taps)

    def rounded(self) -> Tensor:
        """Each synapse's tap at inference, int64, of the weight's shape.

        Raises:
            ArgumentError: if a delay is not finite.
        """
        tap = rounded(self.delay.detach(), self.taps, f"{type(self).__name__}.delay")
        return tap.expand(self.weight.shape)

    def sends(self, x: Tensor | EventTensor, output: Tensor) -> tuple[Tensor, nn.Module]:
        """What a count charges for a call: the values that go through synapses, and the torch layer, on "meta", whose
        synapses they would be without delays. A synapse has one tap, as at inference, also in training."""
        return self._dense(x), self._undelayed({"device": "meta", "dtype": self.weight.dtype})

    def _undelayed(self, options: dict[str, Any]) -> nn.Module:
        raise NotImplementedError

    # To and from the reference.

    def dcls_state(self) -> dict[str, Tensor]:
        """Parameters as the DCLS package names them: `weight`, `P` and, where the kernel has a width, `SIG`."""
        half = self.taps - 1 - self.taps // 2
        state = {"weight": self.weight.detach().clone()}
        state["P"] = (half - self.delay.detach()).expand(self.weight.shape)[None].clone()
        if self.kernel.uses_sigma:
            state["SIG"] = self.sigma.expand(self.weight.shape)[None].clone()
        if self.bias is not None:
            state["bias"] = self.bias.detach().clone()
        return state

    def load_dcls_state(self, state: dict[str, Tensor]) -> None:
        """Take `weight`, `P` and `SIG` of a DCLS module with `dilated_kernel_size = taps`: `delay = (taps - 1)/2 - P`.

        (For an even number of taps, `taps/2 - 1 - P`.)

        Raises:
            ShapeError: if a shape is not this layer's.
            ArgumentError: if `SIG` is not the same everywhere.
        """
        half, sigma = self.taps - 1 - self.taps // 2, state.get("SIG", self.sigma)
        wanted = tuple(self.weight.shape), (1, *self.delay.shape)
        if (tuple(state["weight"].shape), tuple(state["P"].shape)) != wanted:
            got = tuple(state["weight"].shape), tuple(state["P"].shape)
            raise ShapeError(f"{type(self).__name__} takes weight and P of shapes {wanted}, got {got}")
        if bool((sigma != sigma.flatten()[0]).any()):
            raise ArgumentError(f"{type(self).__name__} has one sigma; SIG goes from {sigma.min()} to {sigma.max()}")
        with torch.no_grad():
            self.weight.copy_(state["weight"])
            self.delay.copy_(half - state["P"][0])
            self.sigma.copy_(sigma.flatten()[0])
            if self.bias is not None:
                self.bias.copy_(state["bias"])

    # Running it.

    def forward(self, x: Tensor | EventTensor) -> Tensor:
        """A whole sequence from silence, `T + extend` steps of output; or a stream's next part."""
        dense = self._dense(x)
        running = carrier()
        if running is None:
            return self._through(dense, 0, len(dense) + self.extend, CROSSOVER)
        key, state = running.take(self, dense)
        y, state = self.run(dense, state)
        running.put(key, state)
        return y

    def run(self, x: Tensor | EventTensor, state: DelayState | None = None) -> tuple[Tensor, DelayState]:
        """A chunk `[T, B, *features]` from `state`; returns `T` steps of output and the next state.

        Raises:
            StateError: if the layer extends its output, which only a whole sequence can have.
        """
        if self.extend:
            raise StateError(
                f"{type(self).__name__} adds {self.extend} steps after the end of a sequence, and a part has none; "
                "run it with extend = 0 and give it silence at the end"
            )
        x = self._dense(x)
        before = self.initial_state(x[0] if len(x) else x.new_empty(x.shape[1:])) if state is None else state
        known = torch.cat([self._fitting(before, x), x])
        return self._through(known, self.taps - 1, len(x), 1.0), DelayState(known[len(x) :])

    def step(self, x: Tensor, state: DelayState | None = None) -> tuple[Tensor, DelayState]:
        """One step `[B, *features]` from `state`; returns one step of output and the next state."""
        y, state = self.run(x.unsqueeze(0), state)
        return y.squeeze(0), state

    def initial_state(self, like: Tensor) -> DelayState:
        """Silence, for a batch like `like` `[B, *features]`."""
        return DelayState(like.new_zeros(self.taps - 1, *like.shape))

    def _through(self, x: Tensor, first: int, steps: int, most: float) -> Tensor:
        """The outputs at x's step `first` and after."""
        raise NotImplementedError

    def _wanted(self) -> tuple[int | None, ...]:
        """The features that an input must have; None where any size will do."""
        raise NotImplementedError

    def _dense(self, x: Tensor | EventTensor) -> Tensor:
        name, wanted = type(self).__name__, self._wanted()
        if isinstance(x, EventTensor):
            x = x.to_dense(self.weight.dtype)
            x = x.flatten(2) if len(wanted) == 1 else x
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = getattr(x, "dtype", type(x).__name__)
            raise DtypeError(f"{name} takes events or a floating-point tensor, got {got}")
        fits = x.ndim == 2 + len(wanted) and all(w in (None, n) for w, n in zip(wanted, x.shape[2:], strict=True))
        if not fits:
            raise ShapeError(f"{name} takes [T, B, {', '.join(map(str, wanted))}], got {tuple(x.shape)}")
        if x.device != self.weight.device:
            raise DeviceError(f"{name}.weight is on {self.weight.device}, the input on {x.device}; move one of them")
        return x

    def _fitting(self, state: Any, x: Tensor) -> Tensor:
        name, shape = type(self).__name__, (self.taps - 1, *x.shape[1:])
        if not isinstance(state, DelayState):
            raise StateError(f"{name} takes a DelayState of its own run, got {state!r:.80}")
        known = state.inputs
        if tuple(known.shape) != shape or known.dtype != x.dtype or known.device != x.device:
            raise StateError(
                f"{name}: the state is {tuple(known.shape)} {known.dtype} on {known.device}, but the input needs "
                f"{shape} {x.dtype} on {x.device}; start a new state for another batch"
            )
        return known

    def extra_repr(self) -> str:
        sizes = ", ".join(str(n) for n in self.weight.shape[1::-1])
        options = f"elements={self.elements}, kernel={self.kernel}, per={self.per!r}, extend={self.extend}"
        return f"{sizes}, taps={self.taps}, {options}, bias={self.bias is not None}"


class DelayLinear(Delayed):
    """A linear layer whose every synapse has a delay of its own, learned with its weight.

    In training each synapse spreads over `taps` steps by a kernel `g` around its delay, wide at first (`sigma`), so
    that a gradient reaches the delay:

        y[t, b, i] = bias[i] + sum_j sum_k weight[i, j, k] sum_d g(d; delay[i, j, k], sigma) x[t - d, b, j]

    with `d = 0 .. taps - 1` and `g` normalised over the taps: "gauss", `exp(-u^2 / 2 s^2)` of `u = d - delay` with
    `s = |sigma| + 0.27`; "max", the triangle `max(s - |u|, 0)` with `s = |sigma| + 1`; "v1", the triangle of `s = 1`;
    "v0", linear interpolation between the two steps next to the delay, not normalised. `sigma` is a buffer, which
    `SigmaSchedule` makes smaller from epoch to epoch.

    In evaluation (`.eval()`) delays are rounded, and each synapse has exactly one tap, of its weight:

        y[t, b, i] = bias[i] + sum_j sum_k weight[i, j, k] x[t - round(delay[i, j, k]), b, j]

    Causal: an output hears its own and earlier steps. After every optimiser step delays belong back into 0 to
    `taps - 1`; each call in training first clamps them in place, which is the reference's `clamp_parameters` after the
    step, since nothing reads them in between (`clamp_` does it at once). Chunks, steps and streams give the bits of the
    whole sequence, as long as the whole goes by events (see below) or the sums are exact.

    On the CPU products go by the events while these are less than about a sixth of the input, and otherwise by one
    matrix product a tap, which adds up in another order; a chunk or a stream always goes by events. In evaluation each
    synapse is read once, in one order, fastest for single spikes in float32, dense or as events. On a CUDA device
    they are one product over all taps on half-precision tensor cores, for float32 too: with errors of float32's size,
    or of TF32's, in a quarter of the time, where `torch.backends.cuda.matmul.allow_tf32` allows these.
    Where half precision or TF32 will do, long sequences and many taps are trained by their spectra, whose rounding
    errors, of the same size, are spread over some steps before and after.

    Args:
        in_features, out_features: sizes.
        taps: D, the number of steps that a synapse can reach; the longest delay is D - 1 steps.
        elements: synapses between each pair, each with its weight and delay.
        kernel: the name of g, or a `Bump`.
        sigma: to start from, in steps.
        per: whose the delays are: "synapse", "input" (axonal), "output" (dendritic) or "shared"; `delay` then is
            `[out, in, elements]`, `[1, in, elements]`, `[out, 1, elements]` or `[1, 1, elements]`.
        extend: steps of output beyond the input's, so that late spikes are still heard; the reference adds
            `(taps - 1) // 2`.
        bias: learn an additive bias.
        device: where the weights are made.
        dtype: of the weights; they are converted to the input's.

    Attributes:
        weight: `[out, in, elements]`, uniform on `+-sqrt(6 / (in elements))` at first.
        delay: in steps, uniform on 0 to `taps - 1` at first. The reference's position is `P = (taps - 1)/2 - delay`;
            `dcls_state` and `load_dcls_state` convert.
        bias: `[out]`, or None.
        sigma: a buffer, one number.

    Shape:
        `[T, B, in]` (dense, or an `EventTensor` of as many features in all) -> `[T + extend, B, out]`, in the input's
        dtype (for events, the weights'); state `inputs` `[taps - 1, B, in]`.

    Raises:
        ArgumentError, UnknownNameError: for sizes, a kernel or a kind of delay that cannot be.
        ShapeError, DtypeError, DeviceError, StateError: on a call, if an input or state does not go with the weights.
        BackendError: for a second derivative.

    Source: Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning delays in spiking neural networks using dilated
    convolutions with learnable spacings", ICLR 2024, arXiv 2306.17670, and its code.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        taps: int,
        *,
        elements: int = 1,
        kernel: Bump | str = "gauss",
        sigma: float = 0.23,
        per: str = "synapse",
        extend: int = 0,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        rest: dict[str, Any] = {"extend": extend, "bias": bias, "device": device, "dtype": dtype}
        super().__init__(
            (out_features, in_features), taps, elements=elements, kernel=kernel, sigma=sigma, per=per, **rest
        )
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor | EventTensor) -> Tensor:
        """See `Delayed.forward`; spikes in evaluation stay events where they can."""
        y = self._of_events(x) if isinstance(x, EventTensor) and not self.training else None
        if y is None:
            return super().forward(x)
        return y if self.bias is None else y + self.bias

    def _of_events(self, x: EventTensor) -> Tensor | None:
        size = math.prod(x.features)
        if size != self.in_features or x.device != self.weight.device or carrier() is not None:
            return None
        rows, steps, name = (x.indptr, x.indices, x.values), x.T + self.extend, f"{type(self).__name__}.delay"
        sizes = x.T, x.batch, size
        return delay_taps_of_events(rows, sizes, self.weight, self.delay, self.taps, 0, steps, name)

    def _wanted(self) -> tuple[int | None, ...]:
        return (self.in_features,)

    def _undelayed(self, options: dict[str, Any]) -> nn.Linear:
        return nn.Linear(self.in_features, self.out_features * self.elements, self.bias is not None, **options)

    def _through(self, x: Tensor, first: int, steps: int, most: float) -> Tensor:
        if self.training:
            self.clamp_()
            own = self.weight, self.delay, self.sigma, self.kernel, self.taps
            y = delay_bumps(x, *own, first, steps, most)
        else:
            y = delay_taps(x, self.weight, self.delay, self.taps, first, steps, f"{type(self).__name__}.delay")
        return y if self.bias is None else y + self.bias.to(y.dtype)
