"""Whether an extreme pixel is a hit of the camera, and which pixels around it belong to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Image = NDArray[np.float32]

__all__ = ["CELL", "hits"]

#: Edge of the cells in which the noise is given, pixels.
CELL = 16
#: Annuli around a pixel, (inner, outer) radius in pixels: for hits of a few pixels and for giants.
_NEAR, _WIDE = (3.6, 5.6), (8.0, 10.0)
#: A patch is followed to this distance from its brightest pixel, which may lie at its rim.
_WINDOW = 16
#: Standard deviations by which a patch too large for the near annulus must stand out of the wide.
_GIANT = 12.0
#: Standard deviations above which a neighbour of a hit belongs to its patch.
_GROW = 4.0
#: A bright pixel's probability under Poisson counts must be below that of this many standard
#: deviations of a normal distribution, 6e-8: one pixel of a 4k x 4k image by chance.
_TAIL = 5.3
#: Part of its height by which a hit falls between two neighbours: a Gaussian of one pixel's
#: standard deviation falls by 0.47, a pixel that shares some charge with its neighbours by 0.7.
_STEEP = 0.65
#: Neighbours of a dead pixel may be darkened by this part of its own depth; those of a bead of two
#: pixels, by 0.16 at least.
_ALONE = 0.1


def _annulus(inner: float, outer: float) -> NDArray[np.int64]:
    """Return (pixel, 2) offsets (y, x) at distances above `inner` up to `outer`."""
    reach = int(outer)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    places: NDArray[np.int64] = np.argwhere((distance > inner) & (distance <= outer)) - reach
    return places


_NEAR_PLACES, _WIDE_PLACES = _annulus(*_NEAR), _annulus(*_WIDE)


@njit
def hits(
    pixels: Image,
    places: NDArray[np.int64],
    noise: FloatArray,
    quantum: float,
    peak: float,
    difference: float,
) -> FloatArray:
    """Return the patches of those candidates that are hits.

    Parameters
    ----------
    pixels
        (y, x).
    places
        (candidate, 2) rows (y, x) of local extrema.
    noise
        (cell, cell) standard deviation of the noise around cells of :data:`CELL` pixels; positive.
    quantum
        What an event adds to a pixel; without a positive one the noise is normal.
    peak, difference
        As in :func:`tomodask.kernels.hot_pixels.find_hot_pixels`.

    Returns
    -------
    (pixel, 3) float64 rows (y, x, strength); the strength, in standard deviations of the annulus,
    is negative where a pixel is dead. A patch with several extrema appears as often.
    """
    rows, columns = pixels.shape
    found = np.empty((256, 3))
    number = 0
    around = np.empty(max(len(_NEAR_PLACES), len(_WIDE_PLACES)))
    for candidate in range(len(places)):
        y, x = places[candidate]
        deviation = noise[y // CELL, x // CELL]
        median, spread = _median_and_spread(pixels, y, x, _NEAR_PLACES, around, deviation)
        excess = pixels[y, x] - median
        beside, number_of = 0.0, 0
        for v in range(max(y - 1, 0), min(y + 2, rows)):
            for u in range(max(x - 1, 0), min(x + 2, columns)):
                if v != y or u != x:
                    beside += pixels[v, u]
                    number_of += 1
        beside /= number_of
        if excess < 0:
            if excess > -peak * spread or abs(beside - median) > -_ALONE * excess:
                continue
            patch = np.full((1, 2), 0, np.int64)
            patch[0] = y, x
        else:
            steep = pixels[y, x] - beside >= difference * spread * np.sqrt(1 + 1 / number_of)
            if not (steep or excess >= peak * spread) or excess <= 0:
                continue
            rise = max(_GROW * spread, _excess_of(_GROW, deviation, quantum))
            patch = _patch(pixels, y, x, median + rise)
            if _extent(patch) > _NEAR[0] - 1:
                # The annulus may have met the patch itself; the next one is wider, and about it.
                median, spread = _median_and_spread(
                    pixels,
                    int(np.rint(patch[:, 0].mean())),
                    int(np.rint(patch[:, 1].mean())),
                    _WIDE_PLACES,
                    around,
                    deviation,
                )
                excess = pixels[y, x] - median
                patch = _patch(pixels, y, x, median + max(rise, _GROW * spread))
                if excess < _GIANT * spread or _extent(patch) > _WIDE[0]:
                    continue
            if excess < _excess_of(_TAIL, deviation, quantum):
                continue
            if _steepest(pixels, patch) < _STEEP * excess:
                continue
        while number + len(patch) > len(found):
            found = np.concatenate((found, np.empty_like(found)))
        for member in range(len(patch)):
            found[number, 0], found[number, 1] = patch[member]
            found[number, 2] = (pixels[patch[member, 0], patch[member, 1]] - median) / spread
            number += 1
    return found[:number]


@njit
def _median_and_spread(
    pixels: Image,
    y: int,
    x: int,
    annulus: NDArray[np.int64],
    around: FloatArray,
    least: float,
) -> tuple[float, float]:
    """Return the median and the robust standard deviation, at least `least`, of an annulus."""
    rows, columns = pixels.shape
    count = 0
    for place in range(len(annulus)):
        v, u = y + annulus[place, 0], x + annulus[place, 1]
        if 0 <= v < rows and 0 <= u < columns:
            around[count] = pixels[v, u]
            count += 1
    median = np.median(around[:count])
    around[:count] = np.abs(around[:count] - median)
    return float(median), max(least, 1.4826 * float(np.median(around[:count])))


@njit
def _patch(pixels: Image, y: int, x: int, level: float) -> NDArray[np.int64]:
    """Return (pixel, 2) rows (y, x) joined to a pixel above a level, within a window about it."""
    rows, columns = pixels.shape
    seen = np.zeros((2 * _WINDOW + 1, 2 * _WINDOW + 1), np.bool_)
    patch = np.empty(((2 * _WINDOW + 1) ** 2, 2), np.int64)
    patch[0] = y, x
    seen[_WINDOW, _WINDOW] = True
    number, done = 1, 0
    bottom, top = max(y - _WINDOW, 0), min(y + _WINDOW + 1, rows)
    left, right = max(x - _WINDOW, 0), min(x + _WINDOW + 1, columns)
    while done < number:
        near_y, near_x = patch[done]
        done += 1
        for v in range(max(near_y - 1, bottom), min(near_y + 2, top)):
            for u in range(max(near_x - 1, left), min(near_x + 2, right)):
                if not seen[v - y + _WINDOW, u - x + _WINDOW] and pixels[v, u] > level:
                    seen[v - y + _WINDOW, u - x + _WINDOW] = True
                    patch[number] = v, u
                    number += 1
    return patch[:number]


@njit
def _extent(patch: NDArray[np.int64]) -> float:
    """Return how far a patch reaches from its middle."""
    y, x = patch[:, 0] - patch[:, 0].mean(), patch[:, 1] - patch[:, 1].mean()
    return float(np.sqrt((y * y + x * x).max()))


@njit
def _excess_of(score: float, deviation: float, quantum: float) -> float:
    """Return the excess of a pixel of Poisson events whose root of the deviance is `score`.

    The signed root of the deviance of counts is about normal. Events are `quantum` each and have
    a standard deviation of `deviation` in all; without a quantum the noise is normal.
    """
    expected = (deviation / quantum) ** 2 if quantum > 0 else np.inf
    if expected > 1e6:
        return score * deviation
    low, high = expected, expected + score * np.sqrt(expected) + score**2
    for _ in range(30):
        middle = (low + high) / 2
        deviance = 2 * (middle * np.log(middle / expected) - (middle - expected))
        if deviance < score**2:
            low = middle
        else:
            high = middle
    return float((high - expected) * quantum)


@njit
def _steepest(pixels: Image, patch: NDArray[np.int64]) -> float:
    """Return by how much a pixel of a patch exceeds one beside, above or below it, at most."""
    rows, columns = pixels.shape
    steepest = 0.0
    for member in range(len(patch)):
        y, x = patch[member]
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < rows and 0 <= u < columns:
                steepest = max(steepest, float(pixels[y, x] - pixels[v, u]))
    return steepest
