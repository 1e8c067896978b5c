"""How good a view is, in a few numbers that can be compared along a series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tomodask.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["ViewQuality", "measure_view"]

#: Edge, in pixels, of the blocks whose checkered differences measure the noise. They see
#: frequencies about an eighth of a cycle per pixel, which neither the interpolation of
#: a motion-corrected sum nor the camera damps much, and where the specimen shows little.
_BLOCK = 4
#: The view is averaged down to this many cells along its longer edge, or to cells of this many
#: pixels; structure is what varies between cells within windows of so many of them.
_CELLS, _SMALLEST_CELL, _WINDOW = 96, 8, 9
#: A cell is behind a grid bar when it is darker than this part of the view's bright level (this
#: percentile of the cells). Bars and thick contamination let 0 to 5 % through; 300 nm of ice
#: at 60 degrees beside a hole, 22 % of what the hole does.
_BLOCKED, _BRIGHT = 0.12, 90.0
#: Cells are clipped at so many robust standard deviations: one X-ray hit is no structure.
_CLIP = 10.0
#: Part of the squared differences that measures the noise, without beads and edges; the mean of
#: that part of a normal variable's squares, and the relative variance of what it yields, times the
#: number of values. A median would be as robust, but counts are few and have few values.
_TRUSTED, _TRUSTED_SQUARE, _TRUSTED_VARIANCE = 0.9, 0.6231, 2.7
#: The coverage is known where the noise of a cell is below this part of the bright level.
_CLEAR = 0.2


@dataclass(frozen=True, slots=True)
class ViewQuality:
    """What one view shows, whatever the other views do.

    Parameters
    ----------
    mean, deviation
        Mean and standard deviation of the pixels.
    robust_deviation
        1.4826 times the median absolute deviation of the pixels.
    noise
        Standard deviation of a pixel that the noise makes by itself: for counts about the square
        root of the mean.
    contrast
        Power of the structure at low frequencies relative to that of the noise there: 0 is a view
        of nothing but noise.
    contrast_error
        Standard deviation of the contrast of a view that shows nothing.
    coverage
        Part of the field, 0 to 1, that no grid bar and no black edge covers; NaN where the
        image's level does not count electrons, or counts too few.
    saturated
        Part of the pixels that have the highest value.
    """

    mean: float
    deviation: float
    robust_deviation: float
    noise: float
    contrast: float
    contrast_error: float
    coverage: float
    saturated: float


def measure_view(image: NDArray[np.generic]) -> ViewQuality:
    """Measure one view.

    Parameters
    ----------
    image
        (y, x), any real dtype, finite; best with its hot pixels filled.

    Raises
    ------
    DataError
        If a value is not finite, or the image is smaller than 32 pixels along an axis.
    """
    if image.ndim != 2 or min(image.shape) < 4 * _SMALLEST_CELL:
        raise DataError(
            f"an image of shape {image.shape}; views are measured on (y, x) images of at least "
            f"{4 * _SMALLEST_CELL} pixels along each axis"
        )
    pixels = np.asarray(image, np.float32)
    mean = float(pixels.mean(dtype=np.float64))
    if not np.isfinite(mean):
        raise DataError("the view has values that are not finite; replace them first")
    # A median of a million pixels is as good as one of all.
    sample = pixels.ravel()[:: max(1, pixels.size // 1_000_003)]
    noise = _noise(pixels)
    contrast, error = _contrast(pixels, noise)
    return ViewQuality(
        mean=mean,
        deviation=float(np.sqrt(np.mean((sample - mean) ** 2, dtype=np.float64))),
        robust_deviation=_robust_deviation(sample),
        noise=noise,
        contrast=contrast,
        contrast_error=error,
        coverage=_coverage(pixels, noise),
        saturated=float(np.count_nonzero(pixels == pixels.max()) / pixels.size),
    )


def _robust_deviation(values: NDArray[np.floating]) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _cells(pixels: NDArray[np.float32], edge: int) -> FloatArray:
    """Return the means of square cells of so many pixels; what is left over is left out."""
    rows, columns = pixels.shape[0] // edge, pixels.shape[1] // edge
    whole = pixels[: rows * edge, : columns * edge]
    along_x = np.add.reduceat(whole, np.arange(0, columns * edge, edge), axis=1)
    sums = np.add.reduceat(along_x, np.arange(0, rows * edge, edge), axis=0, dtype=np.float64)
    return sums / edge**2


def _noise(pixels: NDArray[np.float32]) -> float:
    """Return the standard deviation of a pixel's noise, from 2 x 2 checkered blocks."""
    blocks = _cells(pixels, _BLOCK)
    blocks = blocks[: len(blocks) // 2 * 2, : blocks.shape[1] // 2 * 2]
    checkered = (blocks[::2, ::2] - blocks[1::2, ::2] - blocks[::2, 1::2] + blocks[1::2, 1::2]) / 2
    squares = np.sort(checkered.ravel() ** 2)[: int(np.ceil(_TRUSTED * checkered.size))]
    return float(np.sqrt(squares.mean() / _TRUSTED_SQUARE)) * _BLOCK


def _contrast(pixels: NDArray[np.float32], noise: float) -> tuple[float, float]:
    """Return the power of structure relative to the noise, and what it would scatter by alone."""
    edge = max(_SMALLEST_CELL, max(pixels.shape) // _CELLS)
    cells = _cells(pixels, edge)
    error = float(np.sqrt(2 / cells.size + _TRUSTED_VARIANCE * (2 * _BLOCK) ** 2 / pixels.size))
    if noise == 0:
        return (0.0 if cells.std() == 0 else np.inf), error
    level, limit = np.median(cells), _CLIP * _robust_deviation(cells)
    if limit > 0:
        cells = np.clip(cells, level - limit, level + limit)
    structure = cells - ndimage.uniform_filter(cells, _WINDOW, mode="reflect")
    # The cell itself is part of the window's mean.
    expected = noise**2 / edge**2 * (1 - 1 / _WINDOW**2)
    return float(np.mean(structure**2) / expected - 1), error


def _coverage(pixels: NDArray[np.float32], noise: float) -> float:
    edge = max(_SMALLEST_CELL, max(pixels.shape) // _CELLS)
    cells = ndimage.median_filter(_cells(pixels, edge), 3, mode="nearest")
    bright = float(np.percentile(cells, _BRIGHT))
    if not _CLEAR * bright > noise / edge:
        return float("nan")
    return float(np.count_nonzero(cells > _BLOCKED * bright) / cells.size)
