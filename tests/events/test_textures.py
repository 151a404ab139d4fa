"""Motion Clouds against the moments of their spectrum, moving windows against sinusoids, an edge against its line."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events import EventCamera, motion_cloud, moving_window


def spectrum(cloud: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Power, normalised, and the frequencies `f_t`, `f_y`, `f_x` of it."""
    power = torch.fft.fftn(cloud.double()).abs().square()
    grid = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in cloud.shape), indexing="ij")
    return power / power.sum(), *grid


def test_frequencies_are_log_normal() -> None:
    """Power exp(-u^2 / s^2) / f^2 with u = ln(f/f0), in rings of 2 pi f^2 du: u is normal, of variance s^2 / 2."""
    frequency, bandwidth = 0.12, 0.03
    power, _, fy, fx = spectrum(motion_cloud((1, 512, 512), frequency=frequency, bandwidth=bandwidth))
    f = (fy.square() + fx.square()).sqrt()
    u = (f.clamp(min=1e-9) / frequency).log()
    mean, s = float((power * u).sum()), math.log1p(bandwidth / frequency)
    assert mean == pytest.approx(0.0, abs=0.01)
    assert float((power * (u - mean).square()).sum()) == pytest.approx(s * s / 2, rel=0.05)


def test_orientations_are_von_mises() -> None:
    """Power exp(cos(2a) / (2 spread^2)): the mean of cos(2a) is I1(k)/I0(k) with k = 1/(2 spread^2)."""
    from scipy.special import i0e, i1e

    orientation, spread = 0.7, 0.5
    power, _, fy, fx = spectrum(motion_cloud((1, 512, 512), orientation=orientation, spread=spread))
    turned = 2 * (torch.atan2(fy, fx) - orientation)
    k = 1 / (2 * spread**2)
    assert float((power * turned.cos()).sum()) == pytest.approx(float(i1e(k) / i0e(k)), abs=0.01)
    assert float((power * turned.sin()).sum()) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("velocity", [(0.0, 2.0), (-1.0, 1.0)])
def test_a_cloud_moves_at_its_velocity(velocity: tuple[float, float]) -> None:
    """The next frame correlates best with this one shifted by the velocity."""
    cloud = motion_cloud((32, 64, 64), velocity=velocity, speed_bandwidth=0.05, seed=3).double()
    spectra = torch.fft.fft2(cloud)
    correlation = torch.fft.ifft2(spectra[1:] * spectra[:-1].conj()).real.sum(0)
    best = divmod(int(correlation.argmax()), 64)
    assert best == (int(velocity[0]) % 64, int(velocity[1]) % 64)


def test_a_cloud_is_normalised_and_follows_its_seed() -> None:
    cloud = motion_cloud((1, 32, 48), seed=1)
    assert cloud.shape == (1, 32, 48)
    assert cloud.dtype == torch.float32
    assert cloud.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert cloud.square().mean().item() == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(cloud, motion_cloud((1, 32, 48), seed=1))
    assert not torch.equal(cloud, motion_cloud((1, 32, 48), seed=2))


def test_a_window_sees_a_sinusoid_between_the_pixels() -> None:
    def wave(rows: Tensor, columns: Tensor) -> Tensor:
        return torch.sin(2 * math.pi * (3 * rows[..., :, None] + 2 * columns[..., None, :]) / 48)

    image = wave(torch.arange(48.0), torch.arange(48.0))
    path = torch.tensor([[5.0, 7.0], [5.25, 7.5], [-3.3, 60.9]])
    rows, columns = path[:, :1] + torch.arange(8), path[:, 1:] + torch.arange(10)
    seen = moving_window(image, path, (8, 10), wrap=True)
    torch.testing.assert_close(seen, wave(rows, columns), atol=2e-3, rtol=0)
    torch.testing.assert_close(seen[0], image[5:13, 7:17], atol=1e-6, rtol=0)
    torch.testing.assert_close(moving_window(image, path[:2], (8, 10))[0], image[5:13, 7:17], atol=1e-6, rtol=0)


def test_an_edge_sends_its_events_along_its_line() -> None:
    """An edge at the column x0 that moves at v: events at x = x0 + v t."""
    speed = 0.5  # pixels a millisecond, to the right
    image = torch.sigmoid((torch.arange(120.0) - 80.0) / 0.7).expand(20, 120).contiguous()
    path = torch.stack([torch.full((60,), 2.0), 70.0 - speed * torch.arange(60.0)], 1)
    stream = EventCamera(0.2, 0.2)((2 * moving_window(image, path, (8, 48))).exp(), torch.arange(60) * 1000)
    inside = (stream.x >= 12) & (stream.x < 36)
    t, x = stream.t[inside].double() / 1000, stream.x[inside].double()
    assert int(inside.sum()) > 500
    slope = float(torch.linalg.lstsq(torch.stack([t, torch.ones_like(t)], 1), x).solution[0])
    assert slope == pytest.approx(speed, abs=0.02)
    assert float((x - 10.0 - speed * t).abs().max()) < 3.0  # the edge's own width
    assert bool((stream.p == 0).all())  # the bright side leaves


def test_refusals() -> None:
    image, path = torch.zeros(20, 30), torch.zeros(2, 2)
    for bad in (
        {"shape": (1, 1, 8)},
        {"shape": (0, 8, 8)},
        {"frequency": 0.0},
        {"frequency": 0.6},
        {"bandwidth": 0.0},
        {"spread": math.nan},
        {"speed_bandwidth": -1.0},
    ):
        with pytest.raises(ArgumentError):
            motion_cloud(**{"shape": (1, 8, 8), **bad})  # type: ignore[arg-type]
    for arguments, error in (
        ((image[0], path, (4, 4)), ShapeError),
        ((image, path[0], (4, 4)), ShapeError),
        ((image, path, (0, 4)), ShapeError),
        ((image.int(), path, (4, 4)), DtypeError),
        ((image, path.int(), (4, 4)), DtypeError),
        ((image, path - 1, (4, 4)), ArgumentError),
        ((image, path + 17, (4, 4)), ArgumentError),
        ((image, path * math.nan, (4, 4)), ArgumentError),
    ):
        with pytest.raises(error):
            moving_window(*arguments)
