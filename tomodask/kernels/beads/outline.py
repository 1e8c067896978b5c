"""How far beads reach: the bead itself, and the fringes that defocus puts around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["outline_radius", "radial_profile"]

#: The profile reaches so many diameters; beyond `_BACKGROUND` of them there is background.
_REACH, _BACKGROUND = 2.5, 2.0
#: What differs from the background by less than this part of the bead's depth is left, and what
#: is within so many standard errors of it.
_LEAST, _CERTAIN = 0.03, 4.0
#: Farthest that fringes are followed, diameters.
_FARTHEST = 1.5
#: Fewest views whose profiles show their own scatter.
_FEWEST = 5


def radial_profile(
    image: NDArray[np.generic], position: FloatArray, diameter: float
) -> FloatArray | None:
    """Return the mean profile of the beads of a view that stand alone.

    Parameters
    ----------
    image
        (y, x).
    position
        (bead, 2) centres (y, x), index of row and column.
    diameter
        Pixels.

    Returns
    -------
    (radius,) float64: mean less the background, in rings of one pixel, over the bead's depth: -1
    in the middle of a dark bead. None where no bead stands alone, or none is darker.
    """
    size = int(np.ceil(_REACH * diameter))
    if not len(position):
        return None
    inside = ((position > size) & (position < np.array(image.shape) - 1 - size)).all(axis=1)
    alone = _alone(position, size + diameter)
    sums, profiles = np.zeros(size), 0
    rows, columns = np.mgrid[-size - 1 : size + 2, -size - 1 : size + 2]
    for y, x in position[inside & alone]:
        row, column = round(y), round(x)
        distance = np.hypot(rows + row - y, columns + column - x)
        piece = np.asarray(
            image[row - size - 1 : row + size + 2, column - size - 1 : column + size + 2],
            np.float64,
        )
        if piece.shape != distance.shape:
            continue
        ring = distance.astype(np.int64).ravel()
        count = np.bincount(ring, minlength=size + 2)[:size]
        mean = np.bincount(ring, piece.ravel(), minlength=size + 2)[:size] / np.maximum(count, 1)
        sums += mean - mean[int(_BACKGROUND * diameter) :].mean()
        profiles += 1
    core = max(1, int(0.35 * diameter))
    if not profiles or sums[:core].mean() >= 0:
        return None
    found: FloatArray = sums / -sums[:core].mean()
    return found


def outline_radius(profiles: list[FloatArray], diameter: float) -> float:
    """Return the radius, in pixels, beyond which nothing of the beads is to be seen.

    Parameters
    ----------
    profiles
        One for each view, from :func:`radial_profile`.
    diameter
        Pixels.
    """
    smallest = diameter / 2 + 1.5
    if len(profiles) < _FEWEST:
        return 1.2 * smallest
    values = np.array(profiles)
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    seen = np.abs(mean) > np.maximum(_LEAST, _CERTAIN * error)
    seen[int(_FARTHEST * diameter) :] = False
    last = int(np.flatnonzero(seen)[-1]) + 1 if seen.any() else 0
    return float(max(last + 0.5, smallest))


def _alone(position: FloatArray, distance: float) -> NDArray[np.bool_]:
    neighbours = cKDTree(position).query_ball_point(position, distance, return_length=True)
    alone: NDArray[np.bool_] = np.asarray(neighbours) == 1
    return alone
