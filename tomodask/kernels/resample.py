"""One resampling of an image by an affine map.

An image is tapered to the mean of its border, low-passed and Fourier-cropped to the sampling that
the output needs, turned into cubic B-spline coefficients, and evaluated at the mapped points: the
only interpolation between the raw image and the projections.

References
----------
.. [1] Unser, M., Splines: a perfect fit for signal and image processing, IEEE Signal Process. Mag.
   16 (1999) 22, doi:10.1109/79.799930.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels._jit import njit
from tomodask.kernels._vector import spline_sum
from tomodask.kernels.fourier_crop import crop_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "SplineImage",
    "border_level",
    "edge_taper",
    "resample",
    "spline_image",
    "transform_sizes",
]

#: Where an image is binned, the cropped transform keeps this many samples per output pixel, so
#: that the spline's own loss lies beyond the output's Nyquist frequency.
_MARGIN = 1.5
#: The low-pass at the output's Nyquist frequency falls off over this fraction of it.
_SOFTNESS = 0.05
#: Zeros between the image and its periodic copies, pixels: the spline's coefficients fall by 0.27
#: a pixel.
_GAP = 16


@dataclass(frozen=True, slots=True)
class SplineImage:
    """Cubic B-spline coefficients of an image and the map to them from its pixels.

    Parameters
    ----------
    coefficients
        (y, x) float32.
    size
        (y, x) number of samples that the image itself covers.
    scale
        (y, x) samples per pixel of the image: sample = pixel index x scale.
    level
        Level that the edges are tapered to, already subtracted.
    """

    coefficients: NDArray[np.float32]
    size: tuple[int, int]
    scale: tuple[float, float]
    level: float


def border_level(image: NDArray[np.generic], width: int) -> float:
    """Return the mean of an image's border of `width` pixels.

    Where an image ends, a step remains between it and what is assumed beyond. The mean of the
    border keeps it least: in a field full of ice it is the mean of the image, around an isolated
    object it is the background.
    """
    total, count = 0.0, 0
    width = min(width, *image.shape)
    inner = slice(width, max(width, image.shape[0] - width))
    for part in (
        image[:width],
        image[inner.stop :],
        image[inner, :width],
        image[inner, max(width, image.shape[1] - width) :],
    ):
        total += float(part.sum(dtype=np.float64))
        count += part.size
    return total / count


def edge_taper(size: int, width: int) -> NDArray[np.float32]:
    """Return (size,) weights that rise as a cosine from 0 to 1 over `width` pixels at each end."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    rise = np.clip(distance / max(width, 1), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * rise)).astype(np.float32)


def transform_sizes(
    shape: tuple[int, int], binning: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (y, x) sizes of the padded transform and of its cropped inverse."""
    padded = tuple(int(scipy.fft.next_fast_len(n + _GAP, real=True)) for n in shape)
    if binning <= 1:
        return (padded[0], padded[1]), (padded[0], padded[1])
    cropped = tuple(
        min(n, int(scipy.fft.next_fast_len(int(np.ceil(_MARGIN * n / binning)), real=True)))
        for n in padded
    )
    return (padded[0], padded[1]), (cropped[0], cropped[1])


def spline_image(
    image: NDArray[np.generic],
    *,
    binning: float = 1.0,
    taper: int = 0,
    transfer: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.generic]]
    | None = None,
) -> SplineImage:
    """Return the spline coefficients of an image, low-passed for an output of larger pixels.

    Parameters
    ----------
    image
        (y, x), any real dtype.
    binning
        Output pixel size in pixels of the image, >= 1; frequencies beyond the output's Nyquist
        are removed.
    taper
        Width over which the edges fall to the mean of that border, pixels.
    transfer
        Function of the frequencies (y, 1) and (1, x), cycles per pixel, that returns a factor of
        the transform: a CTF or a dose weight takes part in the same pass.

    Returns
    -------
    SplineImage
        With the level of its border subtracted, zero outside.
    """
    height, width = image.shape
    level = border_level(image, max(1, taper))
    spectral = binning > 1 or transfer is not None
    padded, cropped = transform_sizes((height, width), binning)
    work = np.zeros(padded, np.float32) if spectral else np.empty(image.shape, np.float32)
    view = work[:height, :width]
    np.subtract(image, np.float32(level), out=view, casting="unsafe")
    if taper:
        # Only the border changes: no pass over the whole image.
        rise_y, rise_x = edge_taper(height, taper), edge_taper(width, taper)
        view[:taper] *= rise_y[:taper, None]
        view[-taper:] *= rise_y[-taper:, None]
        view[:, :taper] *= rise_x[None, :taper]
        view[:, -taper:] *= rise_x[None, -taper:]
    if not spectral:
        _spline_coefficients(work)
        return SplineImage(work, (height, width), (1.0, 1.0), level)
    spectrum = scipy.fft.rfft2(work, workers=1, overwrite_x=True)
    del work, view
    if cropped != padded:
        spectrum = crop_spectrum(spectrum, padded, cropped)
    fy = scipy.fft.fftfreq(cropped[0], padded[0] / cropped[0]).astype(np.float32)[:, None]
    fx = (np.arange(cropped[1] // 2 + 1) / padded[1]).astype(np.float32)[None, :]
    if binning > 1:
        _low_pass(spectrum, fy, fx, 0.5 / binning)
    if transfer is not None:
        spectrum *= transfer(fy, fx)
    coefficients = scipy.fft.irfft2(spectrum, s=cropped, workers=1, overwrite_x=True)
    _spline_coefficients(coefficients)
    scale = (cropped[0] / padded[0], cropped[1] / padded[1])
    size = (int(np.ceil(height * scale[0])), int(np.ceil(width * scale[1])))
    return SplineImage(coefficients, size, scale, level)


def resample(
    image: SplineImage,
    *,
    first: tuple[float, float],
    step: tuple[float, float],
    lane_step: tuple[float, float],
    out: NDArray[np.float32],
) -> None:
    """Evaluate an image on an affine grid of points.

    Output ``out[band, i, lane]`` is the image at pixel index
    ``first + i step + (band lanes + lane) lane_step``, each pair being (y, x); zero outside.

    Parameters
    ----------
    image
        From :func:`spline_image`.
    first, step, lane_step
        (y, x) in pixels of the original image.
    out
        (band, i, lane) float32, written.
    """
    scale_y, scale_x = image.scale
    _resample(
        image.coefficients.reshape(-1),
        image.coefficients.shape[1],
        image.coefficients.shape[0],
        image.size[0],
        image.size[1],
        _fixed(first[0] * scale_y),
        _fixed(first[1] * scale_x),
        _fixed(step[0] * scale_y),
        _fixed(step[1] * scale_x),
        _fixed(lane_step[0] * scale_y),
        _fixed(lane_step[1] * scale_x),
        _WEIGHTS,
        out,
    )


def _fixed(position: float) -> int:
    """Return a position as an integer with 32 bits after the point."""
    return round(position * 2**32)


def _spline_weights() -> NDArray[np.float32]:
    """Return the 4 weights of the cubic B-spline for each fraction of a pixel."""
    t = np.linspace(0, 1, 2**_FRACTION_BITS + 1)
    s = 1 - t
    weights = np.stack(
        [s**3 / 6, 2 / 3 - t**2 * (1 - t / 2), 2 / 3 - s**2 * (1 - s / 2), t**3 / 6], axis=1
    )
    return weights.astype(np.float32).reshape(-1)


#: Positions are rounded to 1/1024 of a pixel, so that weights come from a table that stays in the
#: first-level cache.
_FRACTION_BITS = 10
_WEIGHTS = _spline_weights()


@njit
def _resample(
    source: NDArray[np.float32],
    stride: int,
    rows: int,
    size_y: int,
    size_x: int,
    first_y: int,
    first_x: int,
    step_y: int,
    step_x: int,
    lane_y: int,
    lane_x: int,
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    bands, count, lanes = out.shape
    tile = 64  # output tiles that are small in both directions read the source from the cache
    one = 1 << 32
    drop = 32 - _FRACTION_BITS
    rounding = 1 << (drop - 1)
    low = -(one >> 1)
    high_y = size_y * one - (one >> 1)
    high_x = size_x * one - (one >> 1)
    for band in range(bands):
        for i0 in range(0, count, tile):
            for l0 in range(0, lanes, tile):
                for i in range(i0, min(i0 + tile, count)):
                    y = first_y + i * step_y + (band * lanes + l0) * lane_y
                    x = first_x + i * step_x + (band * lanes + l0) * lane_x
                    for lane in range(l0, min(l0 + tile, lanes)):
                        if low <= y <= high_y and low <= x <= high_x:
                            iy = y >> 32
                            ix = x >> 32
                            wy = (((y & (one - 1)) + rounding) >> drop) * 4
                            wx = (((x & (one - 1)) + rounding) >> drop) * 4
                            if 1 <= iy < rows - 2 and 1 <= ix < stride - 2:
                                at = (iy - 1) * stride + ix - 1
                                value = spline_sum(source, at, stride, weights, wx, wy)
                            else:
                                value = np.float32(0)
                                for j in range(4):
                                    row = _mirror(iy - 1 + j, rows) * stride
                                    for k in range(4):
                                        value += (
                                            weights[wy + j]
                                            * weights[wx + k]
                                            * source[row + _mirror(ix - 1 + k, stride)]
                                        )
                            out[band, i, lane] = value
                        else:
                            out[band, i, lane] = np.float32(0)
                        y += lane_y
                        x += lane_x


@njit
def _mirror(index: int, size: int) -> int:
    """Return the index that the mirror boundary of the spline puts in place of one outside."""
    if index < 0:
        index = -index
    if index >= size:
        index = 2 * size - 2 - index
    return min(max(index, 0), size - 1)


@njit
def _spline_coefficients(image: NDArray[np.float32]) -> None:
    """Turn samples into cubic B-spline coefficients in place, with mirror boundaries.

    The inverse of the spline's sampling filter is a causal and an anticausal recursion along each
    axis, with the pole sqrt(3) - 2 ([1]_).
    """
    rows, columns = image.shape
    pole = np.float32(np.sqrt(3.0) - 2.0)
    gain = np.float32(6.0)
    tail = pole / (pole * pole - np.float32(1))
    reach = 16  # the pole to this power is below the precision of float32
    if rows > 1:
        start = np.zeros(columns, np.float32)
        factor = np.float32(1)
        for k in range(min(reach, rows)):
            for x in range(columns):
                start[x] += factor * image[k, x]
            factor *= pole
        for x in range(columns):
            image[0, x] = start[x]
        for y in range(1, rows):
            for x in range(columns):
                image[y, x] += pole * image[y - 1, x]
        for x in range(columns):
            image[rows - 1, x] = tail * (image[rows - 1, x] + pole * image[rows - 2, x])
        for y in range(rows - 2, -1, -1):
            for x in range(columns):
                image[y, x] = pole * (image[y + 1, x] - image[y, x])
    else:
        gain = np.float32(1.0)
    if columns > 1:
        # Eight rows at once: one recursion alone waits for its own result at every step, and more
        # rows, a power of two apart, would not fit the ways of the cache.
        for y0 in range(0, rows, 8):
            y1 = min(y0 + 8, rows)
            for y in range(y0, y1):
                total = np.float32(0)
                factor = np.float32(1)
                for k in range(min(reach, columns)):
                    total += factor * image[y, k]
                    factor *= pole
                image[y, 0] = total
            for x in range(1, columns):
                for y in range(y0, y1):
                    image[y, x] += pole * image[y, x - 1]
            for y in range(y0, y1):
                last = tail * (image[y, columns - 1] + pole * image[y, columns - 2])
                image[y, columns - 1] = last
            for x in range(columns - 2, -1, -1):
                for y in range(y0, y1):
                    image[y, x] = pole * (image[y, x + 1] - image[y, x])
        gain *= np.float32(6.0)
    for y in range(rows):
        for x in range(columns):
            image[y, x] *= gain


def _low_pass(
    spectrum: NDArray[np.complex64],
    fy: NDArray[np.float32],
    fx: NDArray[np.float32],
    nyquist: float,
) -> None:
    """Remove, in place, what the output's square Nyquist zone cannot hold."""
    for frequency in (fy, fx):
        beyond = (np.abs(frequency) / nyquist - (1 - _SOFTNESS)) / _SOFTNESS
        spectrum *= (0.5 + 0.5 * np.cos(np.pi * np.clip(beyond, 0, 1))).astype(np.float32)
