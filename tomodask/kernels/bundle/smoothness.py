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
#: Correlation lengths along the tilts, in views.
_VIEWS = (4.0, 16.0)


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
        (view,) what grows with the exposures, such as the dose before each; if None, the evidence
        has to tell.
    """
    rank = np.argsort(np.argsort(tilt_angle, kind="stable")).astype(np.float64)
    apart = np.abs(rank[:, None] - rank)
    found = {"each view": _functions(np.eye(len(rank)))}
    for length in _VIEWS:
        found[f"over {length:g} views"] = _functions(np.exp(-apart / length))
    if exposed is not None:
        orders = {"the exposure": exposed}
    else:
        # Not recorded: the usual schemes, dose-symmetric or from one end to the other.
        orders = {
            "the height of the tilt": np.abs(tilt_angle),
            "rising tilt": tilt_angle,
            "falling tilt": -tilt_angle,
        }
    for what, values in orders.items():
        if np.ptp(values) > 0:
            dose = (values - values.min()) / np.ptp(values)
            less, more = np.minimum(dose[:, None], dose), np.maximum(dose[:, None], dose)
            found[f"with {what}, irregularly"] = _functions(less)
            # Even motion, and an integrated random walk of equal strength that bends it.
            found[f"with {what}, smoothly"] = _functions(
                less * more + less**2 * (3 * more - less) / 6
            )
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
