"""The event camera of v2e, with the noise of a real one (Hu, Liu, Delbruck, "v2e: from video frames to realistic DVS
events", CVPR workshops 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikenet.errors import ArgumentError
from spikenet.events.camera import SMALLEST, Camera, CameraState

_KNEE = 20  # digital numbers: linear below, logarithmic above
_BRIGHTEST = 255
_QUIET = 0.25  # shot noise in full light against that in the dark


@dataclass(frozen=True)
class V2ECamera(Camera):
    """Turns frames of digital numbers, 0 to 255, into ON and OFF events of pixels that differ, leak and are noisy.

    With ``s = (I + 20) / 275`` and ``dt`` from frame to frame, each pixel follows

        L = I ln(20) / 20 up to I = 20, then ln(I)            rounded to 1e-8
        v <- v + min(1, 2 pi cutoff_hz s dt) (L - v)          a slower pixel in the dark; v = L without a cutoff
        r <- r - dt leak_hz theta_on m (1 - leak_jitter N)    leak of the reference: ON events
        n = floor(|v - r| / theta)                            events at t0 + floor(j dt / n), j = 1 to n
        r <- r + theta or r - theta                           for each event sent

    In each interval at most one noise event is added, ON and OFF each with probability
    ``(shot_hz / 2) dt (1 - 0.75 s)`` times mean threshold over the pixel's threshold, at a time that is uniform over
    the interval; it sets ``r`` to ``v``. A pixel's thresholds, normal around the means and never below 0.01, and its
    leak ``m = 10^(leak_spread N)`` are drawn once, the jitter ``N`` anew for each pixel and frame. A change that is a
    millionth of a threshold short of a whole one counts as whole, so a step of ``k`` thresholds gives ``k`` events
    whatever the rounding.

    v2e spaces the events of all pixels by the busiest one's number, and gives noise events the time of one of its
    events; here pixels know nothing of each other. Video of few frames a second should be interpolated first, as v2e
    does: events can be no finer than frames, and noise comes at most once in an interval.

    Args:
        theta_on: mean threshold of ON events, in units of log intensity.
        theta_off: mean threshold of OFF events.
        sigma: standard deviation of the thresholds from pixel to pixel.
        cutoff_hz: of the low pass at full light; 0 for none.
        leak_hz: leak events of a pixel in a second.
        shot_hz: noise events of a pixel in a second, both signs, in the dark; 1 / 4 of it in full light.
        refractory_us: for this many microseconds after an event a pixel sends none, and its reference stays.
        leak_jitter: relative standard deviation of the leak from frame to frame.
        leak_spread: standard deviation of the leak from pixel to pixel, in decades.

    Errors: ArgumentError for a value that cannot work, frames above 255 and intervals so long that a noise event would
    have a probability above 1.
    """

    theta_on: float = 0.2
    theta_off: float = 0.2
    sigma: float = 0.03
    cutoff_hz: float = 0.0
    leak_hz: float = 0.1
    shot_hz: float = 0.0
    refractory_us: int = 0
    leak_jitter: float = 0.1
    leak_spread: float = 0.1

    def __post_init__(self) -> None:
        rates = (self.sigma, self.cutoff_hz, self.leak_hz, self.shot_hz, self.leak_jitter, self.leak_spread)
        if min(self.theta_on, self.theta_off) < SMALLEST or min(*rates, self.refractory_us) < 0:
            raise ArgumentError(
                f"an event camera wants thresholds of {SMALLEST} or more and all else 0 or more, received {self}"
            )

    def _start(self, frame: np.ndarray, time_us: int, draws: np.random.Generator) -> dict[str, np.ndarray]:
        level = _lin_log(frame)
        mean = np.array([self.theta_off, self.theta_on])[:, None, None]
        theta = np.maximum(mean + self.sigma * draws.standard_normal((2, *level.shape)), SMALLEST)
        return {
            "level": level,
            "reference": level.copy(),
            "last": np.full(level.shape, time_us - self.refractory_us),
            "theta": theta,
            "leak": self.leak_hz * theta[1] * 10 ** (self.leak_spread * draws.standard_normal(level.shape)),
            "shot": self.shot_hz / 2 * mean / theta,
        }

    def _follow(self, frames: np.ndarray, times_us: np.ndarray, state: CameraState) -> np.ndarray:
        steps = [self._step(frame, int(time), state) for frame, time in zip(frames, times_us, strict=True)]
        return np.concatenate([np.empty((0, 4), np.int64), *steps])

    def _step(self, frame: np.ndarray, time_us: int, state: CameraState) -> np.ndarray:
        from spikenet.kernels.events.camera import compare_levels

        pixels, draws = state.pixels, state.draws
        start, span = state.time_us, time_us - state.time_us
        seconds, light = span * 1e-6, (frame.astype(np.float64) + 20) / (_BRIGHTEST + 20)
        pixels["level"] = self._filtered(pixels["level"], _lin_log(frame), light, seconds)
        jitter = 1 - self.leak_jitter * draws.standard_normal(frame.shape)
        pixels["reference"] -= seconds * pixels["leak"] * jitter
        shot = pixels["shot"] * (seconds * (1 - (1 - _QUIET) * light))
        if shot.sum(0).max() > 1:
            raise ArgumentError(f"frames {seconds:g} s apart are too far apart for shot noise of {self.shot_hz:g} Hz")
        change = np.abs(pixels["level"] - pixels["reference"])
        room = np.ceil(change / pixels["theta"].min(0)).sum() + 2 * change.size
        events = np.empty((int(room), 4), np.int64)
        uniform = draws.random(frame.shape)
        rules = (pixels["level"], start, span, pixels["theta"], shot, uniform, self.refractory_us)
        count = compare_levels(*rules, pixels["reference"], pixels["last"], events)
        state.time_us = time_us
        return events[:count]

    def _filtered(self, before: np.ndarray, level: np.ndarray, light: np.ndarray, seconds: float) -> np.ndarray:
        if self.cutoff_hz == 0:
            return level
        return before + np.minimum(1, 2 * math.pi * self.cutoff_hz * light * seconds) * (level - before)


def _lin_log(frame: np.ndarray) -> np.ndarray:
    """Linear in the dark, where a logarithm would blow up noise, and logarithmic above; continuous."""
    intensity = frame.astype(np.float64)
    if intensity.max(initial=0) > _BRIGHTEST:
        raise ArgumentError(f"a v2e camera wants frames of 0 to {_BRIGHTEST}, received {intensity.max():g}")
    level = np.where(intensity <= _KNEE, intensity * math.log(_KNEE) / _KNEE, np.log(np.maximum(intensity, _KNEE)))
    return level.round(8)
