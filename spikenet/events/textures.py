"""Moving images for the event cameras: Motion Clouds, and a window that moves over an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError


def motion_cloud(
    shape: tuple[int, int, int],
    *,
    frequency: float = 0.125,
    bandwidth: float = 0.1,
    orientation: float = 0.0,
    spread: float = math.inf,
    velocity: tuple[float, float] = (0.0, 0.0),
    speed_bandwidth: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """A Motion Cloud: Gaussian noise with a drawn-out spectrum, a random texture of known frequency, orientation and
    motion. Its amplitude at the frequencies `f_t`, `f_y`, `f_x`, with `f = sqrt(f_y^2 + f_x^2)`, is the product of

        (1/f) exp(-ln(f / frequency)^2 / (2 ln(1 + bandwidth / frequency)^2))        log-normal, mean frequency
        exp(cos(2 (angle - orientation)) / (4 spread^2))                             von Mises; flat if infinite
        exp(-(f_t + v_y f_y + v_x f_x)^2 / (2 (speed_bandwidth f)^2))                the plane of one velocity

    The texture is periodic in time and space. A single frame (T = 1) is a still texture, whatever the velocity.

    Args:
        shape: frames T, rows and columns.
        frequency: `f` in cycles a pixel, above 0 and up to 0.5.
        bandwidth: above 0, in cycles a pixel.
        orientation: angle of the wave vector, from the x axis towards y, in radians.
        spread: of the orientations, in radians, above 0.
        velocity: rows and columns a frame.
        speed_bandwidth: of the velocities, above 0, in pixels a frame.
        seed: of the noise.

    Returns:
        float32 `[T, H, W]`, of mean 0 and variance 1.

    Errors: ArgumentError for a value that cannot work.

    Source: Sanz Leon, Vanzetta, Masson and Perrinet, "Motion clouds", Journal of Neurophysiology 107, 2012.
    """
    numbers = {"bandwidth": bandwidth, "spread": spread, "speed_bandwidth": speed_bandwidth}
    sizes = len(shape) == 3 and all(hasattr(n, "__index__") and n >= 1 for n in shape) and min(shape[1:]) > 1
    if not sizes or not 0 < frequency <= 0.5 or not all(value > 0 for value in numbers.values()):
        raise ArgumentError(
            "motion_cloud wants frames, rows and columns (2 or more), a frequency above 0 and up to 0.5 and "
            f"{', '.join(numbers)} above 0, received {shape}, {frequency} and {numbers}"
        )
    ft, fy, fx = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in shape), indexing="ij")
    f = (fx.square() + fy.square()).sqrt()
    envelope = (-(f / frequency).log().square() / (2 * math.log1p(bandwidth / frequency) ** 2)).exp() / f
    envelope *= (torch.cos(2 * (torch.atan2(fy, fx) - orientation)) / (4 * spread**2)).exp()
    if shape[0] > 1:
        off_plane = ft + velocity[0] * fy + velocity[1] * fx
        envelope *= (-(off_plane / (speed_bandwidth * f)).square() / 2).exp()
    envelope[f == 0] = 0.0
    noise = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    cloud = torch.fft.ifftn(torch.fft.fftn(noise) * envelope).real
    return (cloud / cloud.std(correction=0)).float()


def moving_window(image: Tensor, path: Tensor, size: tuple[int, int], *, wrap: bool = False) -> Tensor:
    """What is seen through a window that moves over an image; between pixels the image is a cubic spline.

    The image seems to move the other way: a window that moves right shows it moving left.

    Args:
        image: float `[H, W]`.
        path: row and column of the window's first pixel in each frame, any real numbers, `[N, 2]`.
        size: rows and columns of the window.
        wrap: the image repeats itself in both directions; otherwise the window must stay on it.

    Returns:
        float32 `[N, rows, columns]`.

    Errors: ShapeError and DtypeError for an image or path of another kind, ArgumentError for a window off the image.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    if image.ndim != 2 or path.ndim != 2 or path.shape[1] != 2 or min(*image.shape, *size) < 1:
        raise ShapeError(
            f"moving_window wants an image [H, W], a path [N, 2] and a size of 1 or more, "
            f"received {tuple(image.shape)}, {tuple(path.shape)} and {size}"
        )
    if not image.is_floating_point() or not path.is_floating_point():
        raise DtypeError(f"moving_window wants floats, received an image {image.dtype} and a path {path.dtype}")
    last = torch.tensor(image.shape) - torch.tensor(size)
    if not bool(path.isfinite().all()) or not (wrap or bool(((path >= 0) & (path <= last)).all())):
        raise ArgumentError(
            f"moving_window: a window of {size} on an image of {tuple(image.shape)} wants a path within 0 and "
            f"{tuple(last.tolist())}, received {path.amin(0).tolist()} to {path.amax(0).tolist()}"
        )
    mode = "grid-wrap" if wrap else "mirror"
    spline = spline_filter(image.detach().double().numpy(), mode=mode)
    rows, columns = (path.double()[:, k, None] + torch.arange(size[k]) for k in (0, 1))
    shape = len(path), *size
    places = rows[:, :, None].expand(shape).numpy(), columns[:, None, :].expand(shape).numpy()
    return torch.from_numpy(map_coordinates(spline, places, mode=mode, prefilter=False)).float()
