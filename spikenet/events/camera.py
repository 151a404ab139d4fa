"""Event cameras: video in, events out. What they share, and ESIM (Rebecq, Gehrig, Scaramuzza, CoRL 2018)."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError, StateError
from spikenet.events.stream import EventStream, Sensor

_UNITS = 1_000_000  # a log intensity of 1 in whole units
_SLACK = 10  # units by which a level may be missed: intensities and thresholds are rounded numbers
SMALLEST = 0.01  # a drawn threshold is never below this (ESIM, v2e)
LARGEST = 1e6  # far above every log intensity, and a whole number of units


@dataclass(eq=False)
class CameraState:
    """Where a camera stands after a chunk of a video.

    Attributes:
        time_us: the time of the last frame.
        pixels: what each pixel keeps, by name, ``[H, W]`` or ``[2, H, W]``.
        draws: the source of the draws to come.
    """

    time_us: int
    pixels: dict[str, np.ndarray]
    draws: np.random.Generator


class Camera(ABC):
    """What all event cameras do: whole videos, chunks of them with the state carried, and endless ones."""

    def __call__(self, frames: Tensor, times_us: Tensor, seed: int = 0) -> EventStream:
        """Record a video.

        Args:
            frames: intensities, finite and 0 or more, ``[N, H, W]`` with ``N >= 1``.
            times_us: the time of each frame in microseconds, an integer tensor ``[N]``, strictly ascending.
            seed: all draws follow from it (numpy's Philox).

        Returns:
            The events in ascending time on ``Sensor(W, H, 2)``.

        Errors: ShapeError and ArgumentError for frames or times that break these rules.
        """
        return self.run(frames, times_us, seed=seed)[0]

    def run(
        self, frames: Tensor, times_us: Tensor, state: CameraState | None = None, seed: int = 0
    ) -> tuple[EventStream, CameraState]:
        """Record a chunk of a video; chunks one after the other give the events of the whole.

        Args:
            frames: as for a call.
            times_us: as for a call; the first is later than the last of the chunk before.
            state: what the chunk before returned, which stays as it is; none starts a video.
            seed: of a new video; later draws are in the state.

        Returns:
            The chunk's events and the state after it.

        Errors: as for a call; StateError for frames that do not follow on the state.
        """
        if frames.device.type != "cpu" or frames.dtype == torch.bfloat16:
            raise DtypeError(
                f"an event camera wants frames on the CPU, known to numpy, got {frames.dtype} on {frames.device}; "
                "frames.float().cpu() would work"
            )
        intensity, time = frames.detach().numpy(), times_us.numpy()
        _check_video(intensity, time)
        if state is None:
            draws = np.random.Generator(np.random.Philox(seed))
            state = CameraState(int(time[0]), self._start(intensity[0], int(time[0]), draws), draws)
            intensity, time = intensity[1:], time[1:]
        else:
            state = copy.deepcopy(state)
            _check_follows(intensity, time, state)
        events = self._follow(intensity, time.astype(np.int64), state)
        t, x, y, p = events[np.argsort(events[:, 0], kind="stable")].T
        return EventStream.from_numpy(t, x, y, p, sensor=Sensor(frames.shape[2], frames.shape[1], 2)), state

    def record(self, chunks: Iterable[tuple[Tensor, Tensor]], seed: int = 0) -> Iterator[EventStream]:
        """Record frames and times that come in chunks, such as those of `open_video`, one stream a chunk."""
        state = None
        for frames, times_us in chunks:
            stream, state = self.run(frames, times_us, state, seed)
            yield stream

    @abstractmethod
    def _start(self, frame: np.ndarray, time_us: int, draws: np.random.Generator) -> dict[str, np.ndarray]:
        """What the pixels keep after the first frame."""

    @abstractmethod
    def _follow(self, frames: np.ndarray, times_us: np.ndarray, state: CameraState) -> np.ndarray:
        """The events of further frames as rows t, x, y, p, frame after frame; the state is advanced in place."""


@dataclass(frozen=True)
class EventCamera(Camera):
    """ESIM: turns frames into ON and OFF events where the log intensity has changed enough.

    Each pixel holds a reference ``r``, at first its log intensity ``L = log(eps + I)``. Between two frames ``L`` runs
    in a straight line from ``L0`` at ``t0`` to ``L1`` at ``t1``. While ``r + C`` (rising; ``r - C`` falling) does not
    lie beyond ``L1``, the reference moves there and an event is sent at

        t = t0 + floor((r - L0) / (L1 - L0) * (t1 - t0)).

    Log intensities and thresholds are whole millionths, and time is whole microseconds, so one seed gives the same
    events on every machine. A level counts as reached within 1e-5, so a step of ``k * C`` gives ``k`` events whatever
    the rounding.

    Where a redrawn threshold is so small that ``r + C`` has been passed before ``t0``, the event is sent at ``t0``.
    (ESIM sends events only for levels between ``L0`` and ``L1``: such a pixel would stay silent while ``L`` goes on.)

    Args:
        theta_on: mean threshold of ON events, in units of log intensity.
        theta_off: mean threshold of OFF events.
        sigma: standard deviation of the thresholds, drawn anew for each pixel and frame and never below 0.01.
        refractory_us: after an event a pixel sends none for this many microseconds; its reference still moves.
        eps: added to the intensity, so that black has a logarithm.

    Errors: ArgumentError for a value that cannot work.
    """

    theta_on: float = 0.2
    theta_off: float = 0.2
    sigma: float = 0.0
    refractory_us: int = 0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        thresholds = all(SMALLEST <= theta <= LARGEST for theta in (self.theta_on, self.theta_off))
        spread = all(0 <= value < np.inf for value in (self.sigma, self.refractory_us))
        if not (thresholds and spread and 0 < self.eps < np.inf):
            raise ArgumentError(
                f"an event camera wants thresholds of {SMALLEST} to {LARGEST:g}, sigma and refractory_us of 0 or more "
                f"and eps above 0, all finite, received {self}"
            )

    def _start(self, frame: np.ndarray, time_us: int, draws: np.random.Generator) -> dict[str, np.ndarray]:
        level = self._level(frame)
        return {"level": level, "reference": level.copy(), "last": np.full(level.shape, time_us - self.refractory_us)}

    def _follow(self, frames: np.ndarray, times_us: np.ndarray, state: CameraState) -> np.ndarray:
        from spikenet.kernels.events.camera import cross_levels

        pixels = state.pixels
        level = np.concatenate([pixels["level"][None], self._level(frames)])
        time = np.concatenate([[state.time_us], times_us])
        rules = (level, time, *self._thresholds(frames.shape, state.draws), _SLACK, self.refractory_us)
        reference, last = pixels["reference"], pixels["last"]
        count = cross_levels(*rules, reference.copy(), last.copy(), np.empty((0, 4), np.int64))
        events = np.empty((count, 4), np.int64)
        cross_levels(*rules, reference, last, events)
        state.time_us, pixels["level"] = int(time[-1]), level[-1]
        return events

    def _level(self, intensity: np.ndarray) -> np.ndarray:
        return _whole(np.log(intensity.astype(np.float64) + self.eps))

    def _thresholds(self, shape: tuple[int, ...], draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """ON and OFF thresholds of each pixel and interval; one draw serves both, for a pixel only uses one of them."""
        noise = self.sigma * draws.standard_normal(shape) if self.sigma else np.zeros(())
        rise, fall = (_whole(np.clip(c + noise, SMALLEST, LARGEST)) for c in (self.theta_on, self.theta_off))
        return np.broadcast_to(rise, shape), np.broadcast_to(fall, shape)


def _whole(log_intensity: np.ndarray) -> np.ndarray:
    return np.rint(log_intensity * _UNITS).astype(np.int64)


def _check_video(frames: np.ndarray, times_us: np.ndarray) -> None:
    if frames.ndim != 3 or times_us.shape != frames.shape[:1] or not frames.size:
        raise ShapeError(
            f"an event camera wants frames [N, H, W] and times [N] with N, H and W of 1 or more, "
            f"received {frames.shape} and {times_us.shape}"
        )
    if not (np.isfinite(frames) & (frames >= 0)).all():
        raise ArgumentError("frames want finite intensities of 0 or more, received a negative, infinite or NaN value")
    if times_us.dtype.kind != "i" or (np.diff(times_us) <= 0).any():
        raise ArgumentError("times_us wants whole microseconds that ascend strictly")


def _check_follows(frames: np.ndarray, times_us: np.ndarray, state: CameraState) -> None:
    size = state.pixels["last"].shape
    if frames.shape[1:] != size or times_us[0] <= state.time_us:
        raise StateError(
            f"the state wants frames of {size} after {state.time_us} us, "
            f"received {frames.shape[1:]} from {times_us[0]} us; a new video starts without a state"
        )
