"""How a specimen lies: planes through landmarks, and the turn that makes a plane level.

Landmarks on both faces of the ice give two parallel planes; on one face, or anywhere in between,
one plane, whose slopes are those of the specimen as far as the landmarks' heights allow, but no
thickness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Slab", "fit_surfaces", "level_angles"]

#: Fewest landmarks of one plane, and of each of two.
_FEWEST, _FEWEST_EACH = 4, 3
#: Two surfaces are believed where their distance is this many times the spread about them, and more
#: where few landmarks are left beside the four unknowns, which chance can bring close to two
#: planes: ``_DISTINCT (1 + _CHANCE / (landmarks - 4))``.
_DISTINCT, _CHANCE = 10.0, 8.0
#: Fewest landmarks that can show two surfaces.
_FEWEST_OF_TWO = 8
#: Slopes from which the search for two surfaces begins: so many up to the steepest, both ways.
_STARTS, _STEEPEST = 9, 0.35
#: Residuals beyond so many robust standard deviations do not count (Tukey's bisquare).
_BISQUARE = 4.685


@dataclass(frozen=True, slots=True)
class Slab:
    """A plate whose middle is the plane ``z = centre + slope_x x + slope_y y``.

    Parameters
    ----------
    slope_x, slope_y
        Dimensionless.
    centre
        Height of its middle at x = y = 0, A; of the one surface where only one is known.
    height
        Distance of its faces along z, A; NaN where it is not known.
    slope_x_error, slope_y_error, centre_error, height_error
        Standard errors.
    surfaces
        1 or 2: how many are known.
    count
        Landmarks, or places, that it was found from.
    """

    slope_x: float
    slope_y: float
    centre: float
    height: float
    slope_x_error: float
    slope_y_error: float
    centre_error: float
    height_error: float
    surfaces: int
    count: int

    @classmethod
    def of(cls, value: FloatArray, error: FloatArray, *, surfaces: int, count: int) -> Slab:
        """Return a slab from (slope_x, slope_y, centre, height) and their standard errors."""
        a, b, c, d = (float(number) for number in value)
        ea, eb, ec, ed = (float(number) for number in error)
        return cls(a, b, c, d, ea, eb, ec, ed, surfaces, count)


def fit_surfaces(points: ArrayLike) -> Slab:
    """Fit the one or two planes, parallel, that landmarks lie on.

    Robust: a landmark that lies elsewhere does not count.

    Parameters
    ----------
    points
        (landmark, 3) solved (x, y, z), A; those with NaN are left out.

    Raises
    ------
    DataError
        If there are fewer than four landmarks, or they lie on a line.
    """
    known = np.atleast_2d(np.asarray(points, np.float64))
    known = known[np.isfinite(known).all(axis=1)]
    if len(known) < _FEWEST or np.linalg.matrix_rank(known[:, :2] - known[:, :2].mean(0)) < 2:
        raise DataError(
            f"{len(known)} solved landmarks, or landmarks on one line, do not make a plane; at "
            f"least {_FEWEST} are needed, well spread"
        )
    if len(known) >= _FEWEST_OF_TWO:
        two = _two_planes(known)
        if two is not None:
            return two
    plane = np.column_stack([known[:, :2], np.ones(len(known))])
    value, error, _, _ = _robust_fit(plane, known[:, 2])
    return Slab.of(np.append(value, np.nan), np.append(error, np.nan), surfaces=1, count=len(known))


def level_angles(slope_x: float, slope_y: float, x_tilt: float = 0.0) -> tuple[float, float]:
    """Return the changes of tilt angle and x-tilt that make a sloping plane level.

    The specimen is turned by ``R = Rx(-a) Ry(d) Rx(a + b)``, with `a` the x-tilt so far, `d` added
    to every tilt angle and `b` to every x-tilt; points in the new frame are ``R^T`` of those in
    the old, and R takes the new z axis to the plane's normal. As ``Ry(t) Rx(a) R =
    Ry(t + d) Rx(a + b)``, the change is exact for any tilt where the x-tilt is the same in all
    views; where it is not, adding `b` to each is exact as long as `d` is zero.

    Parameters
    ----------
    slope_x, slope_y
        Of the plane ``z = slope_x x + slope_y y``.
    x_tilt
        Of the views so far, degrees.

    Returns
    -------
    tilt_offset, x_tilt : float
        To be added, degrees.
    """
    angle = np.deg2rad(x_tilt)
    x, y, z = np.array([-slope_x, -slope_y, 1.0]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    # The normal after the x-tilt so far.
    y, z = y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)
    return float(np.rad2deg(np.arctan2(x, z))), float(np.rad2deg(-np.arcsin(y))) - x_tilt


def _two_planes(points: FloatArray) -> Slab | None:
    """Return the two parallel planes that points lie on, None where they do not."""
    best, spread = None, np.inf
    starts = np.linspace(-_STEEPEST, _STEEPEST, _STARTS)
    for slopes in np.stack(np.meshgrid(starts, starts), axis=-1).reshape(-1, 2):
        side = _assigned(points, slopes)
        if side is None:
            continue
        residual = _design(points, side) @ _coefficients(points, side) - points[:, 2]
        size = float(np.abs(residual).mean())
        if size < spread:
            best, spread = side, size
    if best is None:
        return None
    value, error, scale, weight = _robust_fit(_design(points, best), points[:, 2])
    half = float(value[3])
    inside = [int(np.count_nonzero((weight > 0) & (best == side))) for side in (-1, 1)]
    distinct = _DISTINCT * (1 + _CHANCE / (len(points) - 4))
    if min(inside) < _FEWEST_EACH or 2 * half < distinct * scale:
        return None
    twice = np.array([1.0, 1.0, 1.0, 2.0])
    return Slab.of(value * twice, error * twice, surfaces=2, count=len(points))


def _assigned(points: FloatArray, slopes: NDArray[np.floating]) -> FloatArray | None:
    """Return the surface (-1 or 1) of each point, from slopes that are improved in turn."""
    side = None
    for _ in range(20):
        height = points[:, 2] - points[:, :2] @ slopes
        new = _split(height)
        if side is not None and np.array_equal(new, side):
            break
        side = new
        if min(np.count_nonzero(side < 0), np.count_nonzero(side > 0)) < _FEWEST_EACH:
            return None
        slopes = _coefficients(points, side)[:2]
    return side


def _split(height: FloatArray) -> FloatArray:
    """Return -1 and 1 for the two groups of heights that lie closest about their medians."""
    ordered = np.sort(height)
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    cut = np.arange(1, len(ordered))

    def spread(start: NDArray[np.int64], stop: NDArray[np.int64]) -> FloatArray:
        """Sum of distances from the median: the upper half less the lower half."""
        half = (stop - start) // 2
        return np.asarray(
            total[stop] - total[stop - half] - total[start + half] + total[start], np.float64
        )

    cost = spread(np.zeros_like(cut), cut) + spread(cut, np.full_like(cut, len(ordered)))
    at = int(np.argmin(cost)) + 1
    return np.where(height < (ordered[at - 1] + ordered[at]) / 2, -1.0, 1.0)


def _design(points: FloatArray, side: FloatArray) -> FloatArray:
    return np.column_stack([points[:, :2], np.ones(len(points)), side])


def _coefficients(points: FloatArray, side: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.lstsq(_design(points, side), points[:, 2])[0], np.float64)


def _robust_fit(
    design: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """Return coefficients, their standard errors, the spread, and the weights of the values."""
    weight = np.ones(len(values))
    found: FloatArray = np.zeros(design.shape[1])
    few = min(design.shape[1], len(values) - 1)
    for _ in range(30):
        root = np.sqrt(weight)
        found = np.asarray(np.linalg.lstsq(design * root[:, None], values * root)[0], np.float64)
        residual = np.abs(values - design @ found)
        # As many residuals as there are unknowns can be made to vanish.
        scale = 1.4826 * float(np.median(np.sort(residual)[few:]))
        if scale <= 1e-9 * max(1.0, float(np.abs(values).max())):
            break
        new = np.maximum(1 - (residual / (_BISQUARE * scale)) ** 2, 0) ** 2
        if np.allclose(new, weight, atol=1e-6):
            break
        weight = new
    freedom = max(float(weight.sum()) - design.shape[1], 1.0)
    variance = float((weight * (values - design @ found) ** 2).sum()) / freedom
    inverse = np.linalg.pinv(design.T @ (design * weight[:, None]))
    return found, np.sqrt(variance * np.diag(inverse)), float(np.sqrt(variance)), weight
