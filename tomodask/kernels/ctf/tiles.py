"""The tiles of an image, tapered and transformed.

Tiles overlap by half. The taper is power complementary [1]_: the squares of overlapping tapers sum
to one, so that every pixel counts alike, and all of the image's information is used; its ends are
as smooth as those of Hann's, so that as little leaks from one frequency to others. Of what is
sharp (hot pixels, beads) a tile sees no more than a few standard deviations of its noise, and tiles
of which a part is dark or missing are left out.

References
----------
.. [1] Princen, J. and Bradley, A., Analysis/synthesis filter bank design based on time domain
   aliasing cancellation, IEEE Trans. Acoust. Speech Signal Process. 34 (1986) 1153,
   doi:10.1109/TASSP.1986.1164954.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Places = NDArray[np.int64]

__all__ = ["TileGrid", "squared_taper", "tile_transforms"]

#: A tile is surveyed in so many parts along each edge.
_PARTS = 8
#: A part is dark where it varies by less than this share of what this quantile of the parts does:
#: up to three quarters of a view may be blocked, and a quarter of it burnt.
_DARK, _BRIGHT = 0.05, 0.75
#: A tile is left out where dark parts hold more than this share of its squared taper: an edge of
#: the film has rings of its own.
_BLOCKED = 0.03
#: What differs from a tile's middle by so many times of what is usual there is cut down to that.
_SHARP = 8.0
#: Rows that are transformed at once: new memory for all would cost as much as the transform.
_BATCH = 32


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where an image is cut into tiles: evenly, from edge to edge.

    Parameters
    ----------
    shape
        (y, x) of the image.
    tile
        Pixels along an edge of a tile, even.
    """

    shape: tuple[int, int]
    tile: int

    def __len__(self) -> int:
        return len(self.starts(0)) * len(self.starts(1))

    def starts(self, axis: int) -> Places:
        """Return the first pixels of the rows (axis 0) or columns (1) of tiles."""
        room = self.shape[axis] - self.tile
        count = int(np.ceil(2 * room / self.tile)) + 1
        return np.rint(np.linspace(0, room, count)).astype(np.int64)

    def centres(self, pixel_size: float) -> FloatArray:
        """Return the (tile, 2) x and y of the tiles' centres, A from the image centre."""
        y, x = (
            (self.starts(axis) + (self.tile - self.shape[axis]) / 2) * pixel_size for axis in (0, 1)
        )
        return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1).reshape(-1, 2)

    def freedom(self) -> float:
        """Return how many independent pixels the powers of the tiles of white noise hold.

        Where the squared tapers sum to S over the image it is (sum S)^2 / sum S^2.
        """
        squared, freedom = squared_taper(self.tile), 1.0
        for axis in (0, 1):
            total = np.zeros(self.shape[axis])
            for start in self.starts(axis):
                total[start : start + self.tile] += squared
            freedom *= float(total.sum() ** 2 / (total @ total))
        return freedom


def squared_taper(tile: int) -> FloatArray:
    """Return the (tile,) square of the taper along one axis; its sum is tile / 2."""
    at = np.pi * (np.arange(tile) + 0.5) / tile
    squared: FloatArray = np.sin(np.pi / 2 * np.sin(at) ** 2) ** 2
    return squared


def tile_transforms(
    image: NDArray[np.float32], grid: TileGrid, columns: int
) -> Iterator[tuple[int, NDArray[np.complex64], float]]:
    """Transform the tiles of an image, one after the other.

    Parameters
    ----------
    image
        (y, x) float32.
    grid
        Where its tiles are.
    columns
        How many columns of the half spectrum are needed.

    Yields
    ------
    tile : index in the grid; tiles of which a part is dark, constant or not finite do not come
    spectrum : (tile, columns) complex64, half spectrum, rows in the order of the FFT; the next
        tile is written over it
    variance : of a frequency of the spectrum, of white noise of variance 1
    """
    rows, lines = grid.starts(0), grid.starts(1)
    mean = np.empty((len(rows), len(lines), _PARTS, _PARTS))
    variance = np.empty_like(mean)
    _survey(image, rows, lines, grid.tile, mean, variance)
    dark = variance <= _DARK * np.quantile(variance, _BRIGHT)
    parts = np.array_split(squared_taper(grid.tile) * (2 / grid.tile), _PARTS)
    share = np.array([part.sum() for part in parts])
    blocked = np.einsum("yxij,i,j->yx", dark, share, share)
    taper = np.sqrt(squared_taper(grid.tile)).astype(np.float32)
    work = np.empty((grid.tile, grid.tile), np.float32)
    across = np.empty((grid.tile, columns), np.complex64)
    for row, line in np.argwhere(blocked <= _BLOCKED):
        # Medians over parts: a hot pixel moves neither.
        middle = np.median(mean[row, line])
        typical = np.median(variance[row, line] + (mean[row, line] - middle) ** 2)
        limit = np.float32(_SHARP * np.sqrt(typical))
        top, left = int(rows[row]), int(lines[line])
        seen = _cut_out(image, top, left, np.float32(middle), limit, taper, work)
        for first in range(0, grid.tile, _BATCH):
            batch = slice(first, first + _BATCH)
            across[batch] = scipy.fft.rfft(work[batch], axis=1, workers=1)[:, :columns]
        spectrum = scipy.fft.fft(across, axis=0, workers=1, overwrite_x=True)
        yield int(row * len(lines) + line), spectrum, seen


@njit
def _survey(
    image: NDArray[np.float32],
    rows: Places,
    columns: Places,
    tile: int,
    mean: FloatArray,
    variance: FloatArray,
) -> None:
    """Measure the parts of tiles on every second row; one that is half missing does not vary."""
    parts = variance.shape[2]
    for r in range(len(rows)):
        for c in range(len(columns)):
            for i in range(parts):
                for j in range(parts):
                    left, right = j * tile // parts, (j + 1) * tile // parts
                    total, squares, count, asked = 0.0, 0.0, 0, 0
                    # Sums about a value from there: large counts do not hide a small variance.
                    origin = image[rows[r] + i * tile // parts, columns[c] + left]
                    if not np.isfinite(origin):
                        origin = np.float32(0)
                    for y in range(i * tile // parts, (i + 1) * tile // parts, 2):
                        for x in range(left, right):
                            value = image[rows[r] + y, columns[c] + x] - origin
                            asked += 1
                            if np.isfinite(value):
                                total += value
                                squares += value * value
                                count += 1
                    mean[r, c, i, j] = origin + total / max(count, 1)
                    variance[r, c, i, j] = 0
                    if 2 * count > asked:
                        variance[r, c, i, j] = max(squares / count - (total / count) ** 2, 0)


@njit
def _cut_out(
    image: NDArray[np.float32],
    top: int,
    left: int,
    mean: np.float32,
    limit: np.float32,
    taper: NDArray[np.float32],
    out: NDArray[np.float32],
) -> float:
    """Write a tapered tile of mean 0; return the sum of the squared taper where it is finite."""
    size, nothing, infinite = len(taper), np.float32(0), np.float32(np.inf)
    weight = 0.0
    for y in range(size):
        row, result = image[top + y, left : left + size], out[y]
        missing = 0
        for x in range(size):
            value = row[x] - mean
            finite = abs(value) < infinite
            missing += not finite
            value = min(max(value, -limit), limit) if finite else nothing
            result[x] = value * (taper[y] * taper[x])
        seen = size / 2
        if missing:
            for x in range(size):
                seen -= 0.0 if np.isfinite(row[x]) else taper[x] * taper[x]
        weight += taper[y] * taper[y] * seen
    return weight
