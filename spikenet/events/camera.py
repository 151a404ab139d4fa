"""An event camera: video in, events out (ESIM: Rebecq, Gehrig, Scaramuzza, CoRL 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events.stream import EventStream, Sensor

_UNITS = 1_000_000  # a log intensity of 1 in whole units
_SLACK = 10  # units by which a level may be missed: intensities and thresholds are rounded numbers
_SMALLEST = 0.01  # a drawn threshold is never below this (ESIM)


@dataclass(frozen=True)
class EventCamera:
    """Turns frames into ON and OFF events where the log intensity has changed enough.

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
        if min(self.theta_on, self.theta_off) < _SMALLEST or self.sigma < 0 or self.refractory_us < 0 or self.eps <= 0:
            raise ArgumentError(
                f"an event camera wants thresholds of {_SMALLEST} or more, sigma and refractory_us of 0 or more "
                f"and eps above 0, received {self}"
            )

    def __call__(self, frames: Tensor, times_us: Tensor, seed: int = 0) -> EventStream:
        """Record a video.

        Args:
            frames: linear intensities, finite and 0 or more, ``[N, H, W]`` with ``N >= 1``.
            times_us: the time of each frame in microseconds, an integer tensor ``[N]``, strictly ascending.
            seed: the threshold draws follow from it (numpy's Philox); unused while sigma is 0.

        Returns:
            The events in ascending time on ``Sensor(W, H, 2)``.

        Errors: ShapeError and ArgumentError for frames or times that break these rules.
        """
        intensity, time = frames.numpy(), times_us.numpy()
        _check_video(intensity, time)
        level = _whole(np.log(intensity.astype(np.float64) + self.eps))
        rise, fall = self._thresholds((len(level) - 1, *level.shape[1:]), seed)
        events = _run(level, time.astype(np.int64), rise, fall, self.refractory_us)
        t, x, y, p = events[np.argsort(events[:, 0], kind="stable")].T
        return EventStream.from_numpy(t, x, y, p, sensor=Sensor(level.shape[2], level.shape[1], 2))

    def _thresholds(self, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """ON and OFF thresholds of each pixel and interval; one draw serves both, for a pixel only uses one of them."""
        if self.sigma == 0:
            noise = np.zeros(shape)
        else:
            noise = self.sigma * np.random.Generator(np.random.Philox(seed)).standard_normal(shape)
        rise, fall = (_whole(np.maximum(c + noise, _SMALLEST)) for c in (self.theta_on, self.theta_off))
        return rise, fall


def _run(level: np.ndarray, time: np.ndarray, rise: np.ndarray, fall: np.ndarray, refractory_us: int) -> np.ndarray:
    """All events as rows t, x, y, p: the first pass counts them, the second writes them."""
    from spikenet.kernels.events.camera import cross_levels

    events = np.empty((0, 4), np.int64)
    while (count := cross_levels(level, time, rise, fall, _SLACK, refractory_us, events)) > len(events):
        events = np.empty((count, 4), np.int64)
    return events


def _whole(log_intensity: np.ndarray) -> np.ndarray:
    return np.rint(log_intensity * _UNITS).astype(np.int64)


def _check_video(frames: np.ndarray, times_us: np.ndarray) -> None:
    if frames.ndim != 3 or times_us.shape != frames.shape[:1] or not len(frames):
        raise ShapeError(
            f"an event camera wants frames [N, H, W] and times [N] with N of 1 or more, "
            f"received {frames.shape} and {times_us.shape}"
        )
    if not (np.isfinite(frames) & (frames >= 0)).all():
        raise ArgumentError("frames want finite intensities of 0 or more, received a negative, infinite or NaN value")
    if times_us.dtype.kind != "i" or (np.diff(times_us) <= 0).any():
        raise ArgumentError("times_us wants whole microseconds that ascend strictly")
