"""Where a specimen ends above and below, seen in a tomogram of it.

Two reconstructions, of half of the views each, share what is there and nothing of the noise. Their
correlation in a small window is high in matter, zero in noise, and negative on the streaks of dense
objects, where the rays of the one lie between those of the other; unlike a local variance it says
the same of gold and of a membrane. What is found so is cut into columns, and of every column the
lowest and the highest matter is kept.

The specimen is the thinnest slab, of any slope, that holds these ends, all but a few: a linear
programme, that of quantile regression [1]_ for two parallel planes. It does not ask for matter
everywhere: some particles, or gold on both sides, are enough. Its uncertainty is that of leaving
out one part of the field after the other (jackknife).

References
----------
.. [1] Koenker, R. and Bassett, G., Regression quantiles, Econometrica 46 (1978) 33,
   doi:10.2307/1913643.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize

from tomodask.errors import DataError
from tomodask.kernels.position import Slab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Volume = NDArray[np.float32]

__all__ = ["MatterEnds", "fit_slab", "matter_ends"]

#: Sizes that are looked at: between these standard deviations of Gaussians, A.
_FINE, _COARSE = 20.0, 120.0
#: Standard deviation of the window of a local correlation, A: along z, and along y and x.
_WINDOW = 36.0, 72.0
#: Matter correlates by so many standard deviations of what noise does, or by as much as this,
_CRITERION, _SURE = 5.0, 0.75
#: and covaries by this part of the most within a window of so many A. A dense object would be seen
#: far beyond its end otherwise.
_END, _NEARBY = 0.25, 480.0
#: Edge of a column, A.
_COLUMN = 240.0
#: Part of the columns that may reach out of the slab, on either side.
_OUTSIDE = 0.01
#: The field is left out in parts for the uncertainty: so many along y and x.
_PARTS = 4
#: Powers below are zero.
_TINY = np.float32(1e-37)
#: Fewest columns with matter that make a slab.
_FEWEST = 12


@dataclass(frozen=True, slots=True, eq=False)
class MatterEnds:
    """The ends of the matter in each column that has any.

    Parameters
    ----------
    bottom, top
        (column, 3) float64 (x, y, z) of the lowest and of the highest matter, A.
    cut
        (column,) bool: whether it reaches the lowest or the highest heights that were looked at.
    """

    bottom: FloatArray
    top: FloatArray
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.bottom)


def matter_ends(
    first: Volume, second: Volume, coordinates: tuple[FloatArray, FloatArray, FloatArray]
) -> MatterEnds:
    """Find matter in two independent reconstructions.

    Parameters
    ----------
    first, second
        (z, y, x) volumes of disjoint sets of views, of equal shape.
    coordinates
        (z, y, x) coordinates of their voxels, which are cubes, A.

    Raises
    ------
    DataError
        If the volumes differ in shape, or are too small to tell matter from noise.
    """
    voxel = float(np.diff(coordinates[0][:2])[0]) if len(coordinates[0]) > 1 else np.nan
    # The filters see the volume's faces: what lies near them is not judged.
    rim = int(np.ceil(_COARSE / voxel)) if voxel > 0 else 0
    if first.shape != second.shape or min(first.shape) < 4 * rim or not rim:
        raise DataError(
            f"volumes of shapes {first.shape} and {second.shape}, voxels of {voxel:g} A; the "
            f"specimen is found in two of one shape, each edge at least {4 * _COARSE:g} A"
        )
    inner = slice(rim, -rim)
    matter = _is_matter(first, second, voxel)[inner, inner, inner]
    z, y, x = (np.asarray(values, np.float64)[inner] for values in coordinates)
    edge = max(1, round(_COLUMN / voxel))
    bottom: list[tuple[float, float, float]] = []
    top: list[tuple[float, float, float]] = []
    cut = []
    for rows in _parts(len(y), edge):
        for columns in _parts(len(x), edge):
            piece = matter[:, rows, columns]
            heights = np.flatnonzero(piece.any(axis=(1, 2)))
            if not len(heights):
                continue
            for height, ends in ((heights[0], bottom), (heights[-1], top)):
                at_y, at_x = np.nonzero(piece[height])
                ends.append((x[columns][at_x].mean(), y[rows][at_y].mean(), z[height]))
            cut.append(heights[0] == 0 or heights[-1] == len(z) - 1)
    return MatterEnds(
        np.array(bottom, np.float64).reshape(-1, 3),
        np.array(top, np.float64).reshape(-1, 3),
        np.array(cut, bool),
    )


def fit_slab(ends: MatterEnds, *, level: tuple[bool, bool] = (False, False)) -> Slab:
    """Return the thinnest slab that holds the matter, all but a few ends.

    Parameters
    ----------
    ends
        From :func:`matter_ends`.
    level
        Whether the slope along x, and along y, is known to be zero.

    Raises
    ------
    DataError
        If too few columns have matter.
    """
    if len(ends) < _FEWEST:
        raise DataError(
            f"only {len(ends)} places have structure that both halves of the views show; at least "
            f"{_FEWEST} are needed to tell where the specimen ends"
        )
    found = _thinnest(ends.bottom, ends.top, level)
    without = np.array(
        [_thinnest(ends.bottom[kept], ends.top[kept], level) for kept in _all_but_a_part(ends)]
    )
    count = len(without)
    error = np.sqrt((count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    return Slab.of(found, error, surfaces=2, count=len(ends))


def _is_matter(first: Volume, second: Volume, voxel: float) -> NDArray[np.bool_]:
    one, other = (
        ndimage.gaussian_filter(half, _FINE / voxel)
        - ndimage.gaussian_filter(half, _COARSE / voxel)
        for half in (first, second)
    )
    window = np.array([_WINDOW[0], _WINDOW[1], _WINDOW[1]]) / voxel

    def local(values: Volume) -> Volume:
        mean: Volume = ndimage.gaussian_filter(values, window)
        return mean

    def correlation(covariance: Volume, power: Volume) -> Volume:
        # Where a half is empty both are zero.
        return np.asarray(covariance / np.sqrt(np.maximum(power, _TINY)), np.float32)

    power, other_power = local(one * one), local(other * other)
    covariance = local(one * other)
    # What is not there at all: the one half with the other from elsewhere.
    away = tuple(min(round(8 * _COARSE / voxel), n // 2) for n in first.shape[1:])
    elsewhere, their_power = (np.roll(half, away, (1, 2)) for half in (other, other_power))
    chance = correlation(local(one * elsewhere), power * their_power)
    noise = 1.4826 * float(np.median(np.abs(chance)))
    nearby = ndimage.maximum_filter(covariance, size=2 * round(_NEARBY / voxel / 2) + 1)
    least = min(_CRITERION * noise, _SURE)
    beyond_chance = correlation(covariance, power * other_power) > least
    found: NDArray[np.bool_] = beyond_chance & (covariance > _END * nearby)
    return found


def _parts(size: int, edge: int) -> Iterator[slice]:
    """Yield slices of about `edge` that cover `size`."""
    bounds = np.linspace(0, size, max(1, round(size / edge)) + 1).round().astype(int)
    for start, stop in pairwise(bounds.tolist()):
        yield slice(start, stop)


def _all_but_a_part(ends: MatterEnds) -> Iterator[NDArray[np.bool_]]:
    """Yield which columns lie outside of one part of the field, for each part that has any."""
    part = np.zeros(len(ends), np.int64)
    for values in ends.bottom.T[:2]:
        extent = np.ptp(values) or 1.0
        index = ((values - values.min()) / extent * _PARTS).astype(np.int64)
        part = part * _PARTS + np.minimum(index, _PARTS - 1)
    for number in np.unique(part):
        kept = part != number
        if np.count_nonzero(kept) >= _FEWEST // 2:
            yield kept


def _thinnest(bottom: FloatArray, top: FloatArray, level: tuple[bool, bool]) -> FloatArray:
    """Return slope_x, slope_y, centre and height of the thinnest slab; see `fit_slab`."""
    count = len(bottom)
    few = _OUTSIDE * count + 0.5
    # Unknowns: two slopes, the lower and the upper face, and by how much each end lies outside.
    bounds_left = np.zeros((2 * count, 4 + 2 * count))
    bounds_left[:count, :2], bounds_left[count:, :2] = bottom[:, :2], -top[:, :2]
    bounds_left[:count, 2], bounds_left[count:, 3] = 1, -1
    outside = np.arange(2 * count)
    bounds_left[outside, 4 + outside] = -1
    solution = optimize.linprog(
        np.concatenate([[0, 0, -few, few], np.ones(2 * count)]),
        A_ub=bounds_left,
        b_ub=np.concatenate([bottom[:, 2], -top[:, 2]]),
        bounds=[
            *((0, 0) if known else (None, None) for known in level),
            *[(None, None)] * 2,
            *[(0, None)] * (2 * count),
        ],
        method="highs",
    )
    slope_x, slope_y, lower, upper = solution.x[:4]
    return np.array([slope_x, slope_y, (lower + upper) / 2, upper - lower])
