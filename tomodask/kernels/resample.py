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
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from tomodask.kernels._jit import njit
from tomodask.kernels._spline_filter import spline_coefficients
from tomodask.kernels._vector import spline_sum
from tomodask.kernels.fourier_crop import crop_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "FINE",
    "NODE_SPACING",
    "SplineImage",
    "border_level",
    "edge_taper",
    "resample",
    "spline_image",
    "transform_sizes",
]

#: Points from one node of a displacement to the next.
NODE_SPACING = 16
#: Where an image is binned, the cropped transform keeps this many samples per output pixel, so
#: that the spline's own loss lies beyond the output's Nyquist frequency.
_MARGIN = 1.5
#: Samples per output pixel that an unbinned image needs for the same: a cloud of atoms, shifted and
#: turned, then correlates with what is seen there by 0.9998 at 0.96 of the output's Nyquist
#: frequency. With one sample it is 0.91: the spline loses half the power, and folds as much back.
FINE = 1.5
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
    shape: tuple[int, int], binning: float, oversampling: float = 1.0
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (y, x) sizes of the padded transform and of its cropped, or finer, inverse.

    Parameters
    ----------
    shape
        (y, x) of the image.
    binning
        Output pixel size in pixels of the image.
    oversampling
        Least number of samples per output pixel.
    """
    padded = tuple(int(scipy.fft.next_fast_len(n + _GAP, real=True)) for n in shape)
    binning = max(binning, 1.0)
    samples = max(oversampling, min(binning, _MARGIN))
    if samples == binning:
        return (padded[0], padded[1]), (padded[0], padded[1])
    inverse = tuple(
        int(scipy.fft.next_fast_len(int(np.ceil(samples * n / binning)), real=True)) for n in padded
    )
    return (padded[0], padded[1]), (inverse[0], inverse[1])


def spline_image(
    image: NDArray[np.generic],
    *,
    binning: float = 1.0,
    taper: int = 0,
    oversampling: float = 1.0,
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
    oversampling
        Least number of samples per output pixel, 1 or :data:`FINE`.
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
    padded, inverse = transform_sizes((height, width), binning, oversampling)
    spectral = binning > 1 or transfer is not None or inverse != padded
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
        spline_coefficients(work)
        return SplineImage(work, (height, width), (1.0, 1.0), level)
    spectrum = scipy.fft.rfft2(work, workers=1, overwrite_x=True)
    del work, view
    if inverse != padded:
        spectrum = crop_spectrum(spectrum, padded, inverse)
    fy = scipy.fft.fftfreq(inverse[0], padded[0] / inverse[0]).astype(np.float32)[:, None]
    fx = (np.arange(inverse[1] // 2 + 1) / padded[1]).astype(np.float32)[None, :]
    if binning > 1:
        _low_pass(spectrum, fy, fx, 0.5 / binning)
    if transfer is not None:
        spectrum *= transfer(fy, fx)
    periodic = oversampling > 1
    if periodic:
        # Between its copies the image is zero: mirrored or not, its boundaries are the same.
        spectrum *= _spline_gain(inverse[0], np.arange(inverse[0]))[:, None]
        spectrum *= _spline_gain(inverse[1], np.arange(inverse[1] // 2 + 1))
    coefficients = scipy.fft.irfft2(spectrum, s=inverse, workers=1, overwrite_x=True)
    if not periodic:
        spline_coefficients(coefficients)
    scale = (inverse[0] / padded[0], inverse[1] / padded[1])
    size = (int(np.ceil(height * scale[0])), int(np.ceil(width * scale[1])))
    return SplineImage(coefficients, size, scale, level)


def resample(
    image: SplineImage,
    *,
    first: tuple[float, float],
    step: tuple[float, float],
    lane_step: tuple[float, float],
    out: NDArray[np.float32],
    displacement: NDArray[np.float64] | None = None,
) -> None:
    """Evaluate an image on an affine grid of points, or on one that a smooth field displaces.

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
    displacement
        (lane node, i node, 2) float64: what is added to the (y, x) of the points, in pixels of
        the original image, at every `NODE_SPACING`-th of all lanes and of i, from the first to
        beyond the last; bilinear between.
    """
    scale_y, scale_x = image.scale
    bands, count, lanes = out.shape
    if displacement is None:
        nodes = np.zeros((0, 0, 2), np.int64)
    else:
        nodes = np.rint(displacement * (np.array(image.scale) * 2**32)).astype(np.int64)
        expected = tuple((n - 1) // NODE_SPACING + 2 for n in (bands * lanes, count))
        if nodes.shape != (*expected, 2) or (bands > 1 and lanes % NODE_SPACING):
            raise ValueError(f"displacements {nodes.shape} do not fit {out.shape}")
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
        nodes,
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
    nodes: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    bands, count, lanes = out.shape
    tile = 64  # output tiles that are small in both directions read the source from the cache
    one = 1 << 32
    high = (size_y * one - (one >> 1), size_x * one - (one >> 1))
    displaced = nodes.shape[0] > 0
    run = NODE_SPACING if displaced else tile
    for band in range(bands):
        for i0 in range(0, count, tile):
            for l0 in range(0, lanes, tile):
                for i in range(i0, min(i0 + tile, count)):
                    for lane in range(l0, min(l0 + tile, lanes), run):
                        y = first_y + i * step_y + (band * lanes + lane) * lane_y
                        x = first_x + i * step_x + (band * lanes + lane) * lane_x
                        by_y = lane_y
                        by_x = lane_x
                        if displaced:
                            node = (band * lanes + lane) // NODE_SPACING
                            moved_y = _between(nodes, node, i, 0)
                            moved_x = _between(nodes, node, i, 1)
                            by_y += (_between(nodes, node + 1, i, 0) - moved_y) // NODE_SPACING
                            by_x += (_between(nodes, node + 1, i, 1) - moved_x) // NODE_SPACING
                            y += moved_y
                            x += moved_x
                        end = min(lane + run, l0 + tile, lanes)
                        _resample_run(
                            source, stride, rows, high, (y, x), (by_y, by_x), weights,
                            out[band, i, lane:end],
                        )  # fmt: skip


@njit
def _between(nodes: NDArray[np.int64], node: int, i: int, axis: int) -> Any:
    """Return the displacement of point i between two nodes."""
    at = i // NODE_SPACING
    near = nodes[node, at, axis]
    return near + (nodes[node, at + 1, axis] - near) * (i - at * NODE_SPACING) // NODE_SPACING


@njit
def _resample_run(
    source: NDArray[np.float32],
    stride: int,
    rows: int,
    high: tuple[int, int],
    start: tuple[int, int],
    step: tuple[int, int],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Evaluate an image at points in equal steps along a straight line."""
    one = 1 << 32
    drop = 32 - _FRACTION_BITS
    rounding = 1 << (drop - 1)
    low = -(one >> 1)
    y, x = start
    for lane in range(len(out)):
        if low <= y <= high[0] and low <= x <= high[1]:
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
            out[lane] = value
        else:
            out[lane] = np.float32(0)
        y += step[0]
        x += step[1]


@njit
def _mirror(index: int, size: int) -> int:
    """Return the index that the mirror boundary of the spline puts in place of one outside."""
    if index < 0:
        index = -index
    if index >= size:
        index = 2 * size - 2 - index
    return min(max(index, 0), size - 1)


def _spline_gain(size: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the factor from the spectrum of samples to that of coefficients ([1]_)."""
    gain: NDArray[np.float32] = (3 / (2 + np.cos(2 * np.pi / size * index))).astype(np.float32)
    return gain


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
