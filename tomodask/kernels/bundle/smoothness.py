"""What is expected of a specimen's motion before any is seen: how smooth, along and across.

Each covariance is given by functions that with independent unit amplitudes have it; the smooth
ones need few. All have a mean variance of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Surface", "paces"]

#: Variance, relative to the largest, of functions that are left out.
_NEGLIGIBLE = 1e-6
#: Knots per correlation length, and least and most along an axis.
_KNOTS_PER_LENGTH, _FEWEST, _MOST = 1.6, 4, 16
#: Correlation lengths along the tilts, in views: of irregular motion, and of smooth motion.
_VIEWS, _SMOOTH = (4.0, 16.0), 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Smooth functions of x and y: natural cubic splines between knots.

    Parameters
    ----------
    knot_y, knot_x
        (ky,) and (kx,), increasing.
    functions
        (ky, kx, function) values at the knots.
    """

    knot_y: FloatArray
    knot_x: FloatArray
    functions: FloatArray

    @classmethod
    def create(cls, x: FloatArray, y: FloatArray, length: float) -> Self:
        """Return functions over the points whose covariance is a Gaussian of this width."""
        knot_x, knot_y = _knots(x, length), _knots(y, length)
        along_x, along_y = (
            np.exp(-0.5 * ((knots[:, None] - knots) / length) ** 2) for knots in (knot_x, knot_y)
        )
        both = np.einsum("ij,kl->ikjl", along_y, along_x)
        functions = _functions(both.reshape(len(knot_y) * len(knot_x), -1))
        return cls(knot_y, knot_x, functions.reshape(len(knot_y), len(knot_x), -1))

    def at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the (point, function) values."""
        along_y, along_x = _spline(self.knot_y, y), _spline(self.knot_x, x)
        values: FloatArray = np.einsum(
            "pi,pj,ijf->pf", along_y, along_x, self.functions, optimize=True
        )
        return values


def paces(tilt_angle: FloatArray, exposed: FloatArray | None) -> dict[str, FloatArray]:
    """Return (view, function) functions of the view for each way to move that is thinkable.

    Either as the tilts follow each other, or as the exposures do. In the second case nothing has
    moved at the first exposure, so that places of the specimen are those of before.

    Parameters
    ----------
    tilt_angle
        (view,) degrees.
    exposed
        (view,) what grows with the exposures, such as the dose before each; the height of the tilt
        if None.
    """
    rank = np.argsort(np.argsort(tilt_angle, kind="stable")).astype(np.float64)
    apart = np.abs(rank[:, None] - rank)
    found = {"each view": _functions(np.eye(len(rank)))}
    for length in _VIEWS:
        found[f"over {length:g} views"] = _functions(np.exp(-apart / length))
    found["smoothly over the views"] = _functions(np.exp(-0.5 * (apart / _SMOOTH) ** 2))
    # Where it was not recorded: from the lowest tilt outwards, as most series are.
    dose = np.abs(tilt_angle) if exposed is None else exposed
    if np.ptp(dose) > 0:
        dose = (dose - dose.min()) / np.ptp(dose)
        less, more = np.minimum(dose[:, None], dose), np.maximum(dose[:, None], dose)
        found["with the exposure, irregularly"] = _functions(less)
        # Even motion, and an integrated random walk of equal strength that bends it.
        smooth = less * more + less**2 * (3 * more - less) / 6
        found["with the exposure, smoothly"] = _functions(smooth)
    return found


def _functions(covariance: FloatArray) -> FloatArray:
    """Return (place, function) functions whose sum of squares has this covariance."""
    values, vectors = np.linalg.eigh(covariance / np.mean(np.diag(covariance)))
    large = np.flatnonzero(values > _NEGLIGIBLE * values[-1])[::-1]
    functions: FloatArray = vectors[:, large] * np.sqrt(values[large])
    return functions


def _knots(values: FloatArray, length: float) -> FloatArray:
    size = float(np.ptp(values))
    count = int(np.clip(np.ceil(_KNOTS_PER_LENGTH * size / length) + 1, _FEWEST, _MOST))
    return np.linspace(values.min(), values.max(), count)


def _spline(knots: FloatArray, at: FloatArray) -> FloatArray:
    """Return the (point, knot) weights of a natural cubic spline; beyond the knots it is flat."""
    inside = np.clip(at, knots[0], knots[-1])
    weights: FloatArray = CubicSpline(knots, np.eye(len(knots)), bc_type="natural")(inside)
    return weights
