"""Pixels that no electron of the specimen explains: X-ray hits, hot and dead pixels, stuck lines.

The two criteria are those of IMOD's ``ccderaser``: a pixel is an artefact when it stands out of an
annulus around it, or differs from its eight neighbours, by so many standard deviations [1]_. Three
things are added, because a raw view has few electrons in a pixel and gold in the field:

* *The tail of counts.* Counts have a longer upper tail than a normal distribution: with 0.3
  electrons per pixel, 8 standard deviations are five electrons, which chance brings to every
  60 000th pixel. What an event adds to a pixel is measured on the image itself, as the ratio of
  the third to the second moment of its noise (which needs neither a gain nor an offset: it holds
  for counts, scaled counts, and images of zero mean), and a pixel must also be too bright for a
  Poisson variable of that step. The measure is the signed root of the deviance, nearly normal.
* *Steepness.* The microscope's optics leave nothing as sharp as a pixel: Fresnel fringes and ice
  rise over several. A hit must fall from one pixel to the next by most of its own height.
* *Size.* A patch grows from its brightest pixel, and what does not end within a few pixels is
  matter. A dead pixel must be alone: the smallest bead darkens its neighbours too.

The noise is measured in cells from differences of neighbours; medians over cells keep the artefacts
out of it, and, unlike medians of pixels, they work on frames where most pixels are zero.

References
----------
.. [1] Kremer, J. R., Mastronarde, D. N. and McIntosh, J. R., Computer visualization of
   three-dimensional image data using IMOD, J. Struct. Biol. 116 (1996) 71,
   doi:10.1006/jsbi.1996.0013.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from tomodask.errors import DataError, ParameterError
from tomodask.kernels._jit import njit
from tomodask.kernels.pixel_hits import CELL, hits
from tomodask.kernels.stuck_lines import stuck_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Image = NDArray[np.float32]

__all__ = ["HotPixels", "find_hot_pixels"]

#: Medians are over 5 x 5 cells.
_CELLS = 5
#: The noise is nowhere below this part of the image's: blank borders have none.
_LEAST_NOISE = 0.25
#: Shortest edge of an image: what lies within an annulus about its middle.
_SHORTEST_EDGE = 12


@dataclass(frozen=True, eq=False, slots=True)
class HotPixels:
    """The pixels of an image that are artefacts, by row, then column.

    Parameters
    ----------
    y, x
        (pixel,) int32 indices.
    dead
        (pixel,) bool: whether it reads too little, not too much.
    strength
        (pixel,) float32: by how many standard deviations it stands out of its surroundings, of
        the annulus about the patch it belongs to or, for a stuck line, of the lines beside it.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    dead: NDArray[np.bool_]
    strength: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of pixels."""
        return len(self.y)


def find_hot_pixels(
    image: NDArray[np.generic], *, peak: float = 8.0, difference: float = 6.0
) -> HotPixels:
    """Find the artefacts of the camera in one image.

    The image may be a sum or a single frame, counts or scaled, with any offset. Find them in the
    sum of all frames and fill the same pixels of the halves, so that they stay comparable.

    Parameters
    ----------
    image
        (y, x), any real dtype, finite; of transmitted electrons, that is, gold is dark.
    peak
        Standard deviations by which a pixel must stand out of the annulus around it, whose own
        spread (noise and texture) counts.
    difference
        Standard deviations of such differences by which a pixel must exceed the mean of its eight
        neighbours. Either criterion is enough.

    Raises
    ------
    DataError
        If a value is not finite, or the image is no (y, x) image of 12 pixels at least.
    ParameterError
        If a criterion is not positive.

    Notes
    -----
    The hits of a movie are best found, and filled, in each frame before the frames are aligned:
    they are sharp there, and stand out of few electrons. Aligning spreads a hit over several
    pixels, with ringing along rows and columns that is too weak to be found and too strong to be
    left: of hits of 200 electrons in a sum of 12 per pixel, cleaning the aligned sum leaves a
    quarter of the power.
    """
    for name, value in (("peak", peak), ("difference", difference)):
        if not value > 0:
            raise ParameterError(f"{name} is {value}; give a positive number, such as 8")
    if image.ndim != 2 or min(image.shape) < _SHORTEST_EDGE:
        raise DataError(
            f"an image of shape {image.shape}; hot pixels are found in (y, x) images of at least "
            f"{_SHORTEST_EDGE} pixels along each axis"
        )
    # With a border of one pixel every pixel has eight neighbours, none of them itself.
    padded = np.pad(np.asarray(image, np.float32), 1, mode="reflect")
    pixels = padded[1:-1, 1:-1]
    ground, event = _sparse_event(pixels)
    padded -= np.float32(ground)  # a large offset would cost digits
    level, square = _cells(padded)
    if not np.isfinite(level).all():
        raise DataError("the image has values that are not finite; replace them first")
    noise = _noise(square, sparse=event > 0)
    level = ndimage.median_filter(level, _CELLS)
    places, second, third = _candidates(padded, level, noise, 0.5 * (peak + 1), difference - 1)
    # Differences from the mean of eight have 9/8 of a pixel's variance and 63/64 of its third
    # cumulant. Where events are rare, the moments of clipped values do not see them whole.
    quantum = max(event, third / second * (9 / 8) / (63 / 64) if second > 0 else 0.0)
    found = np.concatenate(
        [
            hits(pixels, places, noise, quantum, peak, difference),
            _in_deviations(stuck_columns(pixels), noise),
            _in_deviations(stuck_columns(pixels.T)[:, [1, 0, 2]], noise),
        ]
    )
    # Two seeds of one patch, or crossing lines, find the same pixel: the strongest counts.
    found = found[np.lexsort((-np.abs(found[:, 2]), found[:, 1], found[:, 0]))]
    _, first = np.unique(found[:, :2], axis=0, return_index=True)
    found = found[first]
    return HotPixels(
        y=found[:, 0].astype(np.int32),
        x=found[:, 1].astype(np.int32),
        dead=found[:, 2] < 0,
        strength=np.abs(found[:, 2]).astype(np.float32),
    )


def _in_deviations(lines: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the rows (y, x, excess) of stuck lines with the excess in standard deviations."""
    y, x = lines[:, :2].astype(np.int64).T // CELL
    lines[:, 2] /= noise[y, x]
    return lines


def _sparse_event(pixels: Image) -> tuple[float, float]:
    """Return the usual value, and what an event adds to it where most pixels have none; else 0."""
    sample = pixels[:: max(1, pixels.shape[0] // 512)]
    ground = float(np.median(sample))
    events = sample[sample > ground]
    if np.count_nonzero(sample == ground) <= sample.size / 2 or not events.size:
        return ground, 0.0
    return ground, float(np.median(events)) - ground


def _noise(square: FloatArray, *, sparse: bool) -> FloatArray:
    """Return (y, x) standard deviations of the noise around the cells.

    They are zero only where no cell has any. The mean of eight neighbours adds an eighth to the
    variance of the difference from it.
    """
    variance = square * (8 / 9)
    positive = variance[variance > 0]
    if not positive.size:
        return np.zeros_like(variance)
    if sparse:
        # A cell holds few events or none: means are needed, of all but the fullest cells.
        reach = _CELLS // 2
        windows = sliding_window_view(
            np.pad(variance, reach, mode="symmetric"), (_CELLS, _CELLS)
        ).reshape(*variance.shape, -1)
        around = np.sort(windows, axis=-1)[..., : 4 * _CELLS**2 // 5].mean(axis=-1)
    else:
        around = ndimage.median_filter(variance, _CELLS)
    typical, least = float(np.median(around)), _LEAST_NOISE**2
    if typical == 0:
        typical, least = float(np.median(positive)), 1.0
    deviation: FloatArray = np.sqrt(np.maximum(around, least * typical))
    return deviation


@njit
def _cells(padded: Image) -> tuple[FloatArray, FloatArray]:
    """Return the (y, x) means of cells, and mean squares of differences from eight neighbours."""
    rows, columns = padded.shape[0] - 2, padded.shape[1] - 2
    down, across = (rows + CELL - 1) // CELL, (columns + CELL - 1) // CELL
    mean, square = np.zeros((down, across)), np.zeros((down, across))
    for cell_y in range(down):
        bottom, top = cell_y * CELL, min(rows, (cell_y + 1) * CELL)
        for cell_x in range(across):
            left, right = cell_x * CELL, min(columns, (cell_x + 1) * CELL)
            total, squares = np.float64(0), np.float64(0)
            for y in range(bottom, top):
                part = part_square = np.float32(0)
                for x in range(left, right):
                    value = padded[y + 1, x + 1]
                    step = value - _mean_of_eight(padded, y, x)
                    part += value
                    part_square += step * step
                total += part
                squares += part_square
            count = (top - bottom) * (right - left)
            mean[cell_y, cell_x], square[cell_y, cell_x] = total / count, squares / count
    return mean, square


@njit
def _mean_of_eight(padded: Image, y: int, x: int) -> np.float32:
    below = padded[y, x] + padded[y, x + 1] + padded[y, x + 2]
    above = padded[y + 2, x] + padded[y + 2, x + 1] + padded[y + 2, x + 2]
    mean: np.float32 = (below + above + padded[y + 1, x] + padded[y + 1, x + 2]) * np.float32(0.125)
    return mean


@njit
def _candidates(
    padded: Image, level: FloatArray, noise: FloatArray, peak: float, difference: float
) -> tuple[NDArray[np.int64], float, float]:
    """Return local extrema that might be artefacts, and moments of the clipped differences.

    Rows (y, x) of brightest and darkest of nine pixels; the second and third moment, in units of
    the image, of differences of at most six standard deviations, where the noise is not far above
    the usual.
    """
    rows, columns = padded.shape[0] - 2, padded.shape[1] - 2
    # No two extrema of a kind touch.
    places = np.empty((rows * columns // 2 + rows + columns, 2), np.int32)
    number = counted = 0
    second, third = np.float64(0), np.float64(0)
    quiet = 1.5 * np.median(noise)
    for y in range(rows):
        for x0 in range(0, columns, CELL):
            deviation = np.float32(noise[y // CELL, x0 // CELL])
            middle = np.float32(level[y // CELL, x0 // CELL])
            if deviation == 0:
                continue
            spread = deviation * np.float32(1.0607)
            bright = np.float32(middle + peak * deviation)
            limit = np.float32(6) * spread
            low, high = np.float32(difference) * spread, np.float32(peak) * spread
            stop = min(columns, x0 + CELL)
            squares = cubes = np.float32(0)
            suspicious = False
            for x in range(x0, stop):
                step = padded[y + 1, x + 1] - _mean_of_eight(padded, y, x)
                clipped = min(max(step, -limit), limit) / spread
                squares += clipped * clipped
                cubes += clipped * clipped * clipped
                suspicious |= (padded[y + 1, x + 1] > bright) | (step > low) | (step < -high)
            if deviation <= quiet:
                second += squares * spread**2
                third += cubes * spread**3
                counted += stop - x0
            if suspicious:
                for x in range(x0, stop):
                    value = padded[y + 1, x + 1]
                    step = value - _mean_of_eight(padded, y, x)
                    highest = (value > bright or step > low) and _is_extreme(padded, y, x, 1)
                    if highest or (step < -high and _is_extreme(padded, y, x, -1)):
                        places[number, 0], places[number, 1] = y, x
                        number += 1
    counted = max(counted, 1)
    return places[:number].astype(np.int64), second / counted, third / counted


@njit
def _is_extreme(padded: Image, y: int, x: int, sign: int) -> bool:
    """Whether no neighbour is higher (or lower) and none that comes later is equal."""
    value = sign * padded[y + 1, x + 1]
    for dy in range(3):
        for dx in range(3):
            other = sign * padded[y + dy, x + dx]
            if other > value or (other == value and 3 * dy + dx > 4):
                return False
    return True
