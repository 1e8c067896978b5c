"""One resampling of an image by an affine map.

An image is tapered to its mean, low-passed and Fourier-cropped to the sampling that the output
needs, turned into cubic B-spline coefficients in the same transform, and evaluated at the mapped
points: the only interpolation between the raw image and the projections.

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["SplineImage", "edge_taper", "resample", "spline_image", "transform_sizes"]

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
    mean
        Mean of the image, already subtracted.
    """

    coefficients: NDArray[np.float32]
    size: tuple[int, int]
    scale: tuple[float, float]
    mean: float


def edge_taper(size: int, width: int) -> NDArray[np.float32]:
    """Return (size,) weights that rise as a cosine from 0 to 1 over `width` pixels at each end."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    rise = np.clip(distance / max(width, 1), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * rise)).astype(np.float32)


def transform_sizes(shape: tuple[int, int], binning: float) -> tuple[tuple[int, int], tuple[int, int]]:
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
        Width over which the edges fall to the mean, pixels.
    transfer
        Function of the frequencies (y, 1) and (1, x), cycles per pixel, that returns a factor of
        the transform: a CTF or a dose weight takes part in the same pass.

    Returns
    -------
    SplineImage
        With the mean subtracted, zero (the mean) outside.
    """
    height, width = image.shape
    mean = float(image.mean(dtype=np.float64))
    padded, cropped = transform_sizes((height, width), binning)
    work = np.zeros(padded, np.float32)
    view = work[:height, :width]
    np.subtract(image, np.float32(mean), out=view, casting="unsafe")
    if taper:
        view *= edge_taper(height, taper)[:, None]
        view *= edge_taper(width, taper)[None, :]
    spectrum = scipy.fft.rfft2(work, workers=1, overwrite_x=True)
    del work, view
    if cropped != padded:
        spectrum = _crop(spectrum, padded, cropped)
    fy = scipy.fft.fftfreq(cropped[0], 1 / cropped[0]).astype(np.float32)[:, None]
    fx = np.arange(cropped[1] // 2 + 1, dtype=np.float32)[None, :]
    factor_y = _spline_inverse(fy / cropped[0])
    factor_x = _spline_inverse(fx / cropped[1])
    spectrum *= (factor_y * np.float32(cropped[0] * cropped[1] / (padded[0] * padded[1]))).astype(
        np.float32
    )
    spectrum *= factor_x.astype(np.float32)
    fy, fx = fy / np.float32(padded[0]), fx / np.float32(padded[1])
    if binning > 1:
        _low_pass(spectrum, fy, fx, 0.5 / binning)
    if transfer is not None:
        spectrum *= transfer(fy, fx)
    coefficients = scipy.fft.irfft2(spectrum, s=cropped, workers=1, overwrite_x=True)
    scale = (cropped[0] / padded[0], cropped[1] / padded[1])
    size = (int(np.ceil(height * scale[0])), int(np.ceil(width * scale[1])))
    return SplineImage(coefficients, size, scale, mean)


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
        np.ascontiguousarray(image.coefficients).reshape(-1),
        image.coefficients.shape[1],
        image.size[0],
        image.size[1],
        image.coefficients.shape[0],
        first[0] * scale_y,
        first[1] * scale_x,
        step[0] * scale_y,
        step[1] * scale_x,
        lane_step[0] * scale_y,
        lane_step[1] * scale_x,
        out,
    )


@njit
def _resample(
    source: NDArray[np.float32],
    stride: int,
    size_y: int,
    size_x: int,
    rows: int,
    first_y: float,
    first_x: float,
    step_y: float,
    step_x: float,
    lane_y: float,
    lane_x: float,
    out: NDArray[np.float32],
) -> None:
    bands, count, lanes = out.shape
    weights = np.empty(8, np.float32)
    sixth = np.float32(1 / 6)
    one = np.float32(1)
    tile = 64  # output tiles that are small in both directions read the source from the cache
    for band in range(bands):
        for i0 in range(0, count, tile):
            for l0 in range(0, lanes, tile):
                for i in range(i0, min(i0 + tile, count)):
                    for lane in range(l0, min(l0 + tile, lanes)):
                        far = np.float64(band * lanes + lane)
                        y = first_y + i * step_y + far * lane_y
                        x = first_x + i * step_x + far * lane_x
                        if not (-0.5 <= y <= size_y - 0.5 and -0.5 <= x <= size_x - 0.5):
                            out[band, i, lane] = 0
                            continue
                        iy = np.int64(np.floor(y))
                        ix = np.int64(np.floor(x))
                        fx = np.float32(x - ix)
                        fy = np.float32(y - iy)
                        gx = one - fx
                        gy = one - fy
                        weights[0] = gx * gx * gx * sixth
                        weights[3] = fx * fx * fx * sixth
                        weights[1] = np.float32(2 / 3) - fx * fx * (one - np.float32(0.5) * fx)
                        weights[2] = np.float32(2 / 3) - gx * gx * (one - np.float32(0.5) * gx)
                        weights[4] = gy * gy * gy * sixth
                        weights[7] = fy * fy * fy * sixth
                        weights[5] = np.float32(2 / 3) - fy * fy * (one - np.float32(0.5) * fy)
                        weights[6] = np.float32(2 / 3) - gy * gy * (one - np.float32(0.5) * gy)
                        if 1 <= iy and iy + 2 < rows and 1 <= ix and ix + 2 < stride:
                            at = (iy - 1) * stride + ix - 1
                            out[band, i, lane] = spline_sum(source, at, stride, weights, 0, 4)
                        else:
                            total = np.float32(0)
                            for j in range(4):
                                wrapped = (iy - 1 + j) % rows * stride
                                for k in range(4):
                                    total += (
                                        weights[4 + j]
                                        * weights[k]
                                        * source[wrapped + (ix - 1 + k) % stride]
                                    )
                            out[band, i, lane] = total


def _spline_inverse(frequency: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / the transfer function of the cubic B-spline's samples."""
    inverse: NDArray[np.float32] = 3 / (2 + np.cos(2 * np.pi * frequency))
    return inverse


def _crop(
    spectrum: NDArray[np.complex64], padded: tuple[int, int], cropped: tuple[int, int]
) -> NDArray[np.complex64]:
    """Keep the low frequencies of a half spectrum."""
    upper = (cropped[0] + 1) // 2
    lower = cropped[0] - upper
    columns = cropped[1] // 2 + 1
    result = np.empty((cropped[0], columns), np.complex64)
    result[:upper] = spectrum[:upper, :columns]
    result[upper:] = spectrum[padded[0] - lower :, :columns]
    return result


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
