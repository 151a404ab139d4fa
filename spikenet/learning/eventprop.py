"""EventProp: networks of spike times, with exact gradients for weights and delays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.events import EventStream
from spikenet.kernels.eventprop import Constants, eventprop

__all__ = ["EventPropLIF", "first_spike_loss", "spike_times"]

PER = ("synapse", "input", "output", "shared")


class EventPropLIF(nn.Module):
    """LIF neurons with current-based synapses and delays, from spike times to spike times, without a time grid.

        tau_mem V' = -V + I,    tau_syn I' = -I
        a spike of input m at t:    I_n += weight[n, m]  at  t + delay[n, m]
        V_n = v_threshold:          neuron n spikes, and V_n = 0

    Between events V is known in closed form, and a spike's time is its root (to rounding: computed in float64). The
    gradients of spike times for weights, delays and input times are exact, by the adjoint equations that jump at spikes
    (`spikenet.kernels.eventprop`); they say nothing of spikes that are about to appear or to vanish. Where V only just
    reaches the threshold a gradient has no bound: `I - v_threshold` counts as at least `grazing * v_threshold`.

    Layers follow one another in `torch.nn.Sequential`, and a recurrent layer holds any network. A call first brings
    delays that a step of the optimiser made negative back to 0 (`clamp_` does it at once).

    Args:
        in_features, out_features: sizes.
        tau_mem, tau_syn: time constants, in the unit of the spike times and delays.
        v_threshold: where a neuron spikes.
        longest: delays are uniform on 0 to this at first; nothing bounds them from above later.
        per: whose the delays are: "synapse", "input" (axonal), "output" (dendritic) or "shared".
        recurrent: the neurons hear each other and themselves, through `recurrent_weight` and `recurrent_delay`.
        t_end: the simulation's end; no later spike is found. Without one it goes on until no spike is to come.
        most: spikes a neuron, beyond which a call raises.
        grazing: see above.

    Attributes:
        weight: `[out, in]`; uniform at first, such that one spike of each input at once is twice what a spike takes.
        delay: `[out, in]`, or with 1 for the axis that shares it.
        recurrent_weight, recurrent_delay: likewise `[out, out]`, or None; weights are small and of both signs at first.

    Shape:
        spike times `[B, in, K]` -> `[B, out, S]`, each row ascending and filled up with infinity; S is the most that
        any neuron has, and 1 at least, so that `[..., 0]` is the first spike. In the weights' dtype.

    Raises:
        ArgumentError, UnknownNameError: for numbers or a kind of delay that cannot be; on a call for times that are NaN
            or do not ascend, for weights or delays that are not finite, and for a neuron that spikes more often than
            `most`.
        ShapeError, DtypeError, DeviceError: for times that do not go with the weights.
        BackendError: for a second derivative.

    Source: Wunderlich and Pehle, Scientific Reports 11, 12829, 2021; delays as in Mészáros, Knight and Nowotny, arXiv
    2501.07331, and Göltz et al., "DelGrad", arXiv 2404.19165. The initial weights are ours.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        v_threshold: float = 1.0,
        longest: float = 0.0,
        per: str = "synapse",
        recurrent: bool = False,
        t_end: float = math.inf,
        most: int = 1000,
        grazing: float = 1e-3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        numbers = {"tau_mem": tau_mem, "tau_syn": tau_syn, "v_threshold": v_threshold, "grazing": grazing}
        if not all(0 < value < math.inf for value in numbers.values()):
            raise ArgumentError(f"EventPropLIF: {', '.join(numbers)} must be finite and above 0, got {numbers}")
        if min(in_features, out_features, most) < 1 or not 0 <= longest < math.inf or math.isnan(t_end):
            raise ArgumentError(
                "EventPropLIF: in_features, out_features and most must be 1 or more, longest finite and 0 or more, "
                f"t_end a number, got {in_features}, {out_features}, {most}, {longest}, {t_end}"
            )
        if per not in PER:
            raise UnknownNameError("kind of delay", per, PER)
        self.in_features, self.out_features, self.longest, self.per = in_features, out_features, longest, per
        self.constants = Constants(tau_mem, tau_syn, v_threshold, grazing, t_end, most)

        def synapses(sources: int) -> tuple[nn.Parameter, nn.Parameter]:
            delays = (1 if per in ("input", "shared") else out_features, 1 if per in ("output", "shared") else sources)
            weight = torch.empty(out_features, sources, device=device, dtype=dtype)
            return nn.Parameter(weight), nn.Parameter(torch.empty(*delays, device=device, dtype=dtype))

        self.weight, self.delay = synapses(in_features)
        self.recurrent_weight: nn.Parameter | None = None
        self.recurrent_delay: nn.Parameter | None = None
        if recurrent:
            self.recurrent_weight, self.recurrent_delay = synapses(out_features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and delays anew."""
        nn.init.uniform_(self.weight, 0.0, 4.0 * self.least_drive / self.in_features)
        nn.init.uniform_(self.delay, 0.0, self.longest)
        if self.recurrent_weight is not None and self.recurrent_delay is not None:
            bound = self.least_drive / self.out_features
            nn.init.uniform_(self.recurrent_weight, -bound, bound)
            nn.init.uniform_(self.recurrent_delay, 0.0, self.longest)

    @property
    def least_drive(self) -> float:
        """The weight above which a single arrival makes a neuron at rest spike: th (tm/ts)^(tm/(tm - ts))."""
        tau_mem, tau_syn, threshold, *_ = self.constants
        if tau_mem == tau_syn:
            return threshold * math.e
        return threshold * (tau_mem / tau_syn) ** (tau_mem / (tau_mem - tau_syn))

    def clamp_(self) -> None:
        """Bring negative delays back to 0, as after every optimiser step; a call does so itself."""
        for delay in (self.delay, self.recurrent_delay):
            if delay is not None:
                delay.data.clamp_(min=0.0)

    def forward(self, times: Tensor) -> Tensor:
        """From input to output spike times."""
        self.clamp_()
        weight: Tensor = self.weight
        delay = self.delay.expand(weight.shape)
        if self.recurrent_weight is not None and self.recurrent_delay is not None:
            weight = torch.cat([weight, self.recurrent_weight], 1)
            delay = torch.cat([delay, self.recurrent_delay.expand(self.recurrent_weight.shape)], 1)
        return eventprop(times, weight, delay, self.constants)

    def extra_repr(self) -> str:
        c = self.constants
        sizes = f"{self.in_features}, {self.out_features}, tau_mem={c.tau_mem:g}, tau_syn={c.tau_syn:g}"
        return f"{sizes}, v_threshold={c.threshold:g}, per={self.per!r}, recurrent={self.recurrent_weight is not None}"


def spike_times(streams: EventStream | Sequence[EventStream], unit: float = 1e-3) -> Tensor:
    """The events of streams as spike times of their addresses.

    Args:
        streams: recordings of one sensor, or a single one.
        unit: of the times returned, in seconds.

    Returns:
        float64 `[B, sensor.size, K]`, each row ascending and filled up with infinity; K is the most events of an
        address, and 1 at least. The address is that of `EventStream.address`.

    Raises:
        ArgumentError: for no stream, streams of several sensors, or a unit that is not above 0.
    """
    streams = [streams] if isinstance(streams, EventStream) else list(streams)
    sensors = {stream.sensor for stream in streams}
    if len(sensors) != 1 or not 0 < unit < math.inf:
        raise ArgumentError(
            f"spike_times takes streams of one sensor and a unit above 0, got sensors {sorted(sensors)}, unit {unit}"
        )
    size = sensors.pop().size
    counts = [torch.bincount(stream.address(), minlength=size) for stream in streams]
    most = max(1, *(int(count.max()) for count in counts))
    times = torch.full((len(streams), size, most), math.inf, dtype=torch.float64)
    for row, stream, count in zip(times, streams, counts, strict=True):
        address = stream.sorted().address()
        order = address.argsort(stable=True)
        rank = torch.arange(len(stream)) - (count.cumsum(0) - count)[address[order]]
        row[address[order], rank] = stream.sorted().t[order].double() * (1e-6 / unit)
    return times


def first_spike_loss(
    times: Tensor, labels: Tensor, *, late: float, tau0: float = 2.0, tau1: float = 10.0, alpha: float = 0.01
) -> Tensor:
    """The label's neuron is to spike before the others, and soon:

        L = -log( exp(-t_y/tau0) / sum_k exp(-t_k/tau0) ) + alpha (exp(t_y/tau1) - 1)        mean over the batch

    with t the first spike of each neuron. Where there is none before `late`, t is `late`, and no gradient flows.

    Args:
        times: spike times `[B, N, S]`, as `EventPropLIF` gives them.
        labels: int64 `[B]`.
        late: after every spike that should count.
        tau0, tau1, alpha: as above, in the unit of the times; the defaults are those of the authors' code, in ms.

    Raises:
        ShapeError: if the two do not go together.
        ArgumentError: if `late` is not finite or a time constant is not above 0.

    Source: the authors' code of Wunderlich and Pehle (2021); `late` is ours.
    """
    if times.ndim != 3 or times.shape[2] < 1 or labels.shape != times.shape[:1]:
        raise ShapeError(
            f"first_spike_loss takes times [B, N, S] and labels [B], got {tuple(times.shape)}, {tuple(labels.shape)}"
        )
    if not math.isfinite(late) or not (tau0 > 0 and tau1 > 0):
        raise ArgumentError(f"first_spike_loss: late must be finite, tau0 and tau1 above 0, got {late}, {tau0}, {tau1}")
    first = times[..., 0].clamp(max=late)
    soon = (first.gather(1, labels[:, None]) / tau1).expm1().mean()
    return functional.cross_entropy(-first / tau0, labels) + alpha * soon
