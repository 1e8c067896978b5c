"""On which surface of the specimen landmarks lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["surfaces_of"]

#: Landmarks that a surface needs to be one.
_FEWEST = 3
#: Least distance of two surfaces, in deviations of the landmarks from them. Points spread evenly
#: through a slab give 3.5, whichever way they are split.
_APART = 6.0


def surfaces_of(points: FloatArray) -> IntArray:
    """Return each landmark's surface: 1 the lower and 2 the upper one, or 1 for all.

    Two parallel planes are fitted, for every way to cut the heights above the common plane in two;
    they are taken to be surfaces where their distance is much larger than the deviations from
    them, which for points throughout the specimen it is not.

    Parameters
    ----------
    points
        (landmark, 3); NaN for landmarks without a point, which are on surface 0.
    """
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    surface = np.zeros(len(points), np.int64)
    surface[known] = 1
    if len(known) < 2 * _FEWEST + 1:
        return surface
    x, y, z = points[known].T
    upper = z > np.median(z)
    best, ratio = None, _APART
    # The common tilt and the two heights are fitted in turn with who belongs where; the starts
    # are all cuts of the heights, with and without the common plane's tilt.
    flat = np.stack([x, y, np.ones(len(x))], axis=1)
    for height in (z, z - flat @ np.linalg.lstsq(flat, z)[0]):
        order = np.argsort(height)
        for cut in range(_FEWEST, len(known) - _FEWEST + 1):
            upper = np.zeros(len(known), bool)
            upper[order[cut:]] = True
            found = _two_planes(x, y, z, upper)
            if found is not None and found[0] > ratio:
                ratio, best = found
    if best is not None:
        surface[known[best]] = 2
    return surface


def _two_planes(
    x: FloatArray, y: FloatArray, z: FloatArray, upper: NDArray[np.bool_]
) -> tuple[float, NDArray[np.bool_]] | None:
    """Return the distance in deviations of two parallel planes, and who is on the upper one."""
    for _ in range(10):
        design = np.stack([x, y, np.ones(len(x)), upper], axis=1)
        slope_x, slope_y, low, apart = np.linalg.lstsq(design, z)[0]
        height = z - slope_x * x - slope_y * y - low
        new = height > apart / 2
        if not _FEWEST <= new.sum() <= len(x) - _FEWEST:
            return None
        if (new == upper).all():
            break
        upper = new
    # Four numbers were fitted.
    deviation = np.sqrt(np.sum((height - apart * upper) ** 2) / max(len(x) - 4, 1))
    return float(abs(apart) / max(deviation, 1e-9)), upper
