"""A cochlea: sound in, spikes of 700 channels out.

After Cramer, Stradmann, Schemmel, Zenke, "The Heidelberg spiking data sets for the systematic evaluation of spiking
neural networks" (IEEE TNNLS 33, 2022), which made the data sets SHD and SSC with such a model, and its sources: the
basilar membrane of Sieroka, Dosch, Rupp (JASA 120, 2006), the hair cell of Meddis (JASA 79, 1986; 83, 1988) and bushy
cells that each gather 40 nerve fibres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events.stream import EventStream, Sensor

_FINE = 24_000  # Hz: of membrane and hair cells; SHD's, made from recordings of 48 kHz, ran at half of that
_LOWEST = 1000  # Hz
_AT_ONCE = 2**23  # samples of the membrane in memory


@dataclass(frozen=True)
class BasilarMembrane:
    """The membrane's velocity in the long-wave approximation; units are centimetre, gram and second.

    At the place ``c`` (0 is the base, at the stapes) the membrane answers an angular frequency ``w`` with

        xi = C e^(-alpha c) - a - m w^2 - i w R e^(-alpha c / 2),      R = delta sqrt(C m)
        k  = w sqrt(rho / (h xi)),      G(c) = (2 / alpha) k(0) + integral of k from 0 to c
        P  = sqrt(G / k) H0(G),         W(c) = (2 w / xi) P(c) / P(0)
        Z  = i sqrt(2 C / h) H0'(z) / H1'(z),      z = (2 / alpha) w sqrt(2 / (h C))

    (``H`` are Hankel functions of the first kind, ``H'`` of the second; the integral has a closed form). ``W`` is
    written for waves ``e^(-iwt)``, so the response to a Fourier transform, which sums ``e^(iwt)``, is ``i conj(W) Z``.
    The program that made SHD takes ``W Z``: its membrane is as strong everywhere but moves before the sound comes, up
    to 25 ms at the apex. ``causal=False`` does the same, for spikes like those of SHD.

    Args:
        length: from the base to the last channel.
        stiffness: ``C``.
        slack: ``a``, taken from the stiffness everywhere.
        alpha: how fast the stiffness falls along the membrane.
        damping: ``delta``.
        mass: ``m``, of an area.
        height: ``h``, of the canal.
        density: ``rho``, of the fluid.
        causal: whether the membrane waits for the sound.
    """

    length: float = 3.5
    stiffness: float = 1e9
    slack: float = 3500.0
    alpha: float = 3.0
    damping: float = 0.15
    mass: float = 0.05
    height: float = 0.1
    density: float = 1.0
    causal: bool = True

    def __post_init__(self) -> None:
        positive = (self.length, self.stiffness, self.slack, self.alpha, self.damping, self.mass, self.height)
        if min(*positive, self.density) <= 0 or self.resonance(np.array(self.length)).item() <= 0:
            raise ArgumentError(f"a basilar membrane wants constants above 0 and a stiff apex, received {self}")

    def resonance(self, place: np.ndarray) -> np.ndarray:
        """The frequency in Hz at which stiffness and mass cancel at each place, ``sqrt((C e^(-alpha c) - a) / m)``."""
        stiff = self.stiffness * np.exp(-self.alpha * place) - self.slack
        return np.sqrt(np.maximum(stiff, 0.0) / self.mass) / (2 * np.pi)

    def response(self, frequency: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The transfer function, complex128 ``[F, C]``, of frequencies above 0 in Hz ``[F]`` at places ``[C]``."""
        from scipy.special import hankel1, hankel2

        w = 2 * np.pi * np.asarray(frequency, np.float64)[:, None]
        c = np.asarray(place, np.float64)[None, :]
        k, k0, phase = self._wave(w, c), self._wave(w, np.zeros((1, 1))), self._phase(w, c)
        base = 2 / self.alpha * k0
        pressure = np.sqrt(phase / k) * hankel1(0, phase) / (np.sqrt(base / k0) * hankel1(0, base))
        z = 2 / self.alpha * w * np.sqrt(2 / (self.height * self.stiffness))
        stapes = 1j * np.sqrt(2 * self.stiffness / self.height) * hankel2(0, z) / hankel2(1, z)
        velocity = 2 * w / self._impedance(w, c) * pressure
        return (1j * velocity.conj() if self.causal else velocity) * stapes

    def _impedance(self, w: np.ndarray, c: np.ndarray) -> np.ndarray:
        fall = np.exp(-self.alpha * c / 2)
        resistance = self.damping * np.sqrt(self.stiffness * self.mass) * fall
        return self.stiffness * fall**2 - self.slack - self.mass * w**2 - 1j * w * resistance

    def _wave(self, w: np.ndarray, c: np.ndarray) -> np.ndarray:
        return w * np.sqrt(self.density / (self.height * self._impedance(w, c)))

    def _phase(self, w: np.ndarray, c: np.ndarray) -> np.ndarray:
        """``G``: with ``u = e^(-alpha c / 2)`` the integrand is ``1 / (u sqrt(quadratic in u))``, a logarithm."""
        s = np.sqrt(self.slack + self.mass * w**2)
        resistance = self.damping * np.sqrt(self.stiffness * self.mass)

        def primitive(c: np.ndarray) -> np.ndarray:
            u = np.exp(-self.alpha * c / 2)
            return (1j * s - np.sqrt(self._impedance(w, c)) - w * resistance * u / (2 * s)) / u

        start = np.zeros((1, 1))
        factor = 2j * w / (self.alpha * s) * np.sqrt(self.density / self.height)
        return 2 / self.alpha * self._wave(w, start) + factor * np.log(primitive(c) / primitive(start))


@dataclass(frozen=True)
class HairCell:
    """Transmitter between pool ``q``, cleft ``c`` and reprocessing store ``w`` (Meddis 1986), rates in 1/s.

        k  = g (v + A) / (v + A + B), 0 where v < -A        the membrane's velocity v opens the pool
        dq = (y max(M - q, 0) - k q + x w) dt,      dc = (k q - (l + r) c) dt,      dw = (r c - x w) dt

    A nerve fibre at the cell fires with probability ``h c dt`` in each step; steps are Euler's, quantities never
    below 0.

    Args:
        a: ``A``, the velocity's offset.
        b: ``B``, the velocity at half opening.
        release: ``g``.
        replenish: ``y``.
        loss: ``l``.
        recover: ``r``.
        reprocess: ``x``.
        firing: ``h``.
        capacity: ``M``.
    """

    a: float = 5.0
    b: float = 300.0
    release: float = 2000.0
    replenish: float = 5.05
    loss: float = 2500.0
    recover: float = 6580.0
    reprocess: float = 66.3
    firing: float = 50_000.0
    capacity: float = 1.0

    def __post_init__(self) -> None:
        if min(astuple(self)) <= 0:
            raise ArgumentError(f"a hair cell wants constants above 0, received {self}")

    def rest(self) -> tuple[float, float, float]:
        """Pool, cleft and store in silence, where all three stand still."""
        k = self.release * self.a / (self.a + self.b)
        lost = self.loss + self.recover
        cleft = self.capacity * self.replenish * k / (self.loss * k + self.replenish * lost)
        return cleft * lost / k, cleft, cleft * self.recover / self.reprocess


@dataclass(frozen=True)
class BushyCell:
    """A leaky integrate-and-fire neuron with threshold 1 on the fibres of one hair cell; times in seconds.

    Its current jumps by 1 with each input spike and decays with ``tau_syn``; ``dv = (-v / tau + w i) dt`` with
    ``w = weight / fibres``. After a spike ``v`` stays 0 for the refractory time; a fibre, too, is silent after its own.

    Args:
        fibres: nerve fibres it gathers, 1 to 255.
        tau: of the membrane.
        tau_syn: of the synaptic current.
        refractory: silence after a spike, of the fibres as of the cell.
        weight: of all fibres together, 1/s.
    """

    fibres: int = 40
    tau: float = 1e-3
    tau_syn: float = 0.5e-3
    refractory: float = 1e-3
    weight: float = 13e3

    def __post_init__(self) -> None:
        if not 1 <= self.fibres <= 255 or min(self.tau, self.tau_syn, self.weight) <= 0 or self.refractory < 0:
            raise ArgumentError(
                f"a bushy cell wants 1 to 255 fibres, time constants and weight above 0 and a refractory time of 0 or "
                f"more, received {self}"
            )


@dataclass(frozen=True)
class Cochlea:
    """Turns a recording into the spikes of one bushy cell for each channel.

    The recording is scaled to one root mean square and faded in and out by a Hann window over its whole length.
    Channels lie at even distances along the basilar membrane, high frequencies first. Membrane and hair cells run at
    24 kHz whatever the recording's rate, as they did for SHD: the coarse steps are a part of the model, and finer ones
    give fewer spikes. What lies above 12 kHz folds.

    Args:
        channels: places along the membrane.
        level: root mean square of the recording before the window. Silence is not scaled; in it fibres, and now and
            then a cell, fire at their own rate.
        membrane: the basilar membrane.
        hair_cell: the hair cell at each place.
        bushy_cell: nerve fibres and bushy cell at each place.

    Errors: ArgumentError for values that cannot work.
    """

    channels: int = 700
    level: float = 0.3
    membrane: BasilarMembrane = field(default_factory=BasilarMembrane)
    hair_cell: HairCell = field(default_factory=HairCell)
    bushy_cell: BushyCell = field(default_factory=BushyCell)

    def __post_init__(self) -> None:
        if self.channels < 1 or not 0 < self.level < np.inf:
            raise ArgumentError(f"a cochlea wants 1 channel or more and a level above 0, received {self}")

    def __call__(self, waveform: Tensor, rate: int, seed: int = 0) -> EventStream:
        """Listen to a recording.

        Args:
            waveform: the sound, of any scale, ``[samples]``: a float tensor, or int16 or int32 as audio files hold.
            rate: samples a second, 1000 or more; it shares a factor of 8 or more with 24000.
            seed: the fibres' draws follow from it (numpy's Philox).

        Returns:
            The spikes in ascending time, whole microseconds from the first sample, on ``Sensor(channels)``.

        Errors: ShapeError, DtypeError and ArgumentError for a waveform or a rate that breaks these rules.
        """
        sound = _check_sound(waveform, rate)
        power = np.sqrt(np.mean(sound**2))
        sound = sound * (self.level / power if power > 0 else 1.0) * np.hanning(len(sound))
        draw = np.random.Generator(np.random.Philox(seed))
        spikes = [self._listen(velocity, draw) for velocity in self._move(sound, rate)]
        samples = [found for block in spikes for found in block]
        t = np.concatenate(samples) * 1_000_000 // _FINE
        x = np.repeat(np.arange(self.channels), [len(found) for found in samples])
        order = np.argsort(t, kind="stable")
        return EventStream.from_numpy(t[order], x[order], sensor=Sensor(self.channels))

    def _move(self, sound: np.ndarray, rate: int) -> Iterator[np.ndarray]:
        """The membrane's velocity at 24 kHz, float32 ``[T, some channels]``, channels in their order.

        Overlap-add: half a second of sound at a time, with room for the response an eighth of a second around it.
        """
        from scipy.fft import irfft, rfft

        table, grid = _responses(self.membrane, self.channels, rate)
        pieces = np.zeros((-(-len(sound) // grid.hop), grid.size))
        for number, piece in enumerate(pieces):
            some = sound[number * grid.hop : (number + 1) * grid.hop]
            piece[grid.reach : grid.reach + len(some)] = some
        spectra = rfft(pieces).astype(np.complex64) * np.float32(grid.fine(grid.size) / grid.size)
        length = grid.fine(grid.hop * len(pieces) + 2 * grid.reach)
        begin, end = grid.fine(grid.reach), grid.fine(grid.reach + len(sound))
        width = max(1, _AT_ONCE // length)
        for first in range(0, self.channels, width):
            some = table[:, first : first + width]
            velocity = np.zeros((length, some.shape[1]), np.float32)
            for number, spectrum in enumerate(spectra):
                start = grid.fine(number * grid.hop)
                whole = irfft(spectrum[:, None] * some, grid.skip * grid.fine(grid.size), axis=0)
                velocity[start : start + grid.fine(grid.size)] += grid.skip * whole[:: grid.skip]
            yield velocity[begin:end]

    def _listen(self, velocity: np.ndarray, draw: np.random.Generator) -> list[np.ndarray]:
        """The samples in which each channel's bushy cell spikes."""
        from spikenet.kernels.events.cochlea import bushy_cell, hair_cells, nerve

        hair, cell = self.hair_cell, self.bushy_cell
        rates = (hair.release, hair.replenish, hair.loss, hair.recover, hair.reprocess, hair.firing, hair.capacity)
        state = np.repeat(np.array(hair.rest())[:, None], velocity.shape[1], axis=1)
        hair_cells(velocity, state, (hair.a, hair.b, *rates), 1 / _FINE)
        dead = max(1, round(cell.refractory * _FINE))
        decays = (np.exp(-1 / (_FINE * tau)) for tau in (cell.tau, cell.tau_syn))
        decay, decay_syn = (float(each) for each in decays)
        weight = cell.weight / (cell.fibres * _FINE)
        spikes = []
        for probability in velocity.T:
            counts = nerve(probability, draw.random(len(probability)), cell.fibres, dead)
            spikes.append(bushy_cell(counts, decay, decay_syn, weight, dead))
        return spikes


class _Grid(NamedTuple):
    """Overlap-add in samples of a recording; all numbers are whole in samples at 24 kHz, too."""

    rate: int
    reach: int  # what a response may last, and come early: an eighth of a second
    hop: int  # from one piece to the next: half a second

    @property
    def size(self) -> int:
        return self.hop + 2 * self.reach

    @property
    def skip(self) -> int:
        """Every how many samples of a transform that holds the whole band lie at 24 kHz."""
        return -(-self.rate // _FINE)

    def fine(self, samples: int) -> int:
        """The samples at 24 kHz in so many samples."""
        return -(-samples * _FINE // self.rate)


@lru_cache(maxsize=2)
def _responses(membrane: BasilarMembrane, channels: int, rate: int) -> tuple[np.ndarray, _Grid]:
    """The transfer function at the frequencies of a piece, complex64 ``[F, C]``; 0 at the lowest and the highest."""
    unit = rate // math.gcd(rate, _FINE)
    reach = unit * math.ceil(rate / 8 / unit)
    grid = _Grid(rate, reach, 4 * reach)
    table = np.zeros((grid.size // 2 + 1, channels), np.complex64)
    frequency = np.arange(1, grid.size // 2) * rate / grid.size
    table[1:-1] = membrane.response(frequency, np.linspace(0, membrane.length, channels))
    return table, grid


def _check_sound(waveform: Tensor, rate: int) -> np.ndarray:
    if not isinstance(rate, int) or isinstance(rate, bool) or rate < _LOWEST:
        raise ArgumentError(f"a cochlea wants a rate of {_LOWEST} Hz or more, a whole number, received {rate!r}")
    if math.gcd(rate, _FINE) < 8:  # its tables would grow with the rate
        raise ArgumentError(
            f"a cochlea wants a rate that shares a factor of 8 or more with {_FINE} Hz, received {rate} Hz; "
            f"a recording resampled to {round(rate / 8) * 8} Hz would work"
        )
    if waveform.ndim != 1 or not len(waveform):
        raise ShapeError(f"a cochlea wants a waveform [samples] of one or more, received {tuple(waveform.shape)}")
    if not (waveform.is_floating_point() or waveform.dtype in (torch.int16, torch.int32)):
        raise DtypeError(f"a cochlea wants a float, int16 or int32 waveform, received {waveform.dtype}")
    sound = waveform.double().numpy(force=True)
    if not np.isfinite(sound).all():
        raise ArgumentError("a waveform wants finite values, received an infinite or NaN value")
    return sound
