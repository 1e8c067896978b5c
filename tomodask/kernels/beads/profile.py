"""How a bead looks: its intensity as a function of the distance from its centre.

A ball is round in every view, and so are the fringes that the contrast transfer puts around it (an
astigmatic transfer is still point-symmetric). A centre found with a round profile is therefore
unbiased whatever the profile; a profile near the truth makes it precise as well. It is measured on
the beads of the images themselves, so that neither the defocus nor the blur must be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.interpolate import BSpline, CubicSpline

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["SAMPLES_PER_PIXEL", "BeadProfile", "ball_profile", "measured_profile"]

#: Sampling of the tables, and how far they reach, in diameters.
SAMPLES_PER_PIXEL = 16
REACH = 1.0
#: Knots of a measured profile are this far apart: fractions of a diameter, but not below a pixel.
_KNOTS, _FINEST = 1 / 12, 0.75
#: Weight of the ball that a measured profile deviates from, in pixels of a bead per knot.
_PRIOR_PIXELS = 8.0
#: The blur of a pixel's square and of the optics, pixels, of a ball nobody has measured yet.
_BLUR = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class BeadProfile:
    """The darkness of a bead about its centre.

    Parameters
    ----------
    diameter
        Pixels.
    value, slope
        (sample,) float64 darkness, 1 in the middle, and its derivative per pixel, at radii of
        ``i / SAMPLES_PER_PIXEL`` pixels.
    variance_drop
        By which fraction the variance of the noise is lower in the middle of a bead than beside
        it: electrons that the gold scatters make no noise.
    """

    diameter: float
    value: FloatArray
    slope: FloatArray
    variance_drop: float = 0.0

    @property
    def reach(self) -> float:
        """Largest radius of the profile, pixels."""
        return (len(self.value) - 2) / SAMPLES_PER_PIXEL


def sample_radii(diameter: float) -> FloatArray:
    """Return the radii at which the profile of a bead is tabulated, pixels."""
    # One pixel more than half a diameter beside the bead: the plane under small ones needs it.
    reach = REACH * diameter + 1.5
    return np.arange(int(np.ceil(reach * SAMPLES_PER_PIXEL)) + 2) / SAMPLES_PER_PIXEL


@lru_cache(maxsize=64)
def ball_profile(diameter: float) -> BeadProfile:
    """Return the profile of a ball seen through a pixel.

    Parameters
    ----------
    diameter
        Pixels, at least 2.

    Raises
    ------
    ParameterError
        If the diameter is no number of at least 2 pixels.
    """
    if not (np.isfinite(diameter) and diameter >= 2):
        raise ParameterError(f"bead diameter {diameter} pixels: give at least 2, or bin less")
    radii = sample_radii(diameter)
    step = 1 / 4
    edge = radii[-1] + 4 * _BLUR
    axis = np.arange(0, edge + step, step)
    axis = np.concatenate([-axis[:0:-1], axis])
    squared = axis[:, None] ** 2 + axis[None, :] ** 2
    chord = np.sqrt(np.maximum(diameter**2 / 4 - squared, 0))
    blurred = ndimage.gaussian_filter(chord, _BLUR / step)
    middle = len(axis) // 2
    line = CubicSpline(axis[middle:], blurred[middle, middle:], bc_type=((1, 0.0), "not-a-knot"))
    value = line(radii) / blurred[middle, middle]
    return BeadProfile(diameter, value, line(radii, 1) / blurred[middle, middle])


def measured_profile(
    start: BeadProfile, radius: FloatArray, darkness: FloatArray, weight: FloatArray
) -> BeadProfile:
    """Return the profile that pixels around beads have.

    Parameters
    ----------
    start
        The profile to deviate from, where there are few pixels.
    radius
        (pixel,) distances from the centre of the pixel's bead, pixels.
    darkness
        (pixel,) how far the pixel is below the bead's background, in units of the bead's own depth.
    weight
        (pixel,) inverse variances of the darkness.
    """
    radii = np.arange(len(start.value)) / SAMPLES_PER_PIXEL
    inside = (radius < radii[-2]) & (weight > 0)
    radius, darkness, weight = radius[inside], darkness[inside], weight[inside]
    if not len(radius):
        return start
    basis = _basis(start.diameter, float(radii[-1]))
    # A ring of a quarter of a pixel is one observation: the profile is straight within it.
    ring = (4 * radius).astype(np.int64)
    count = int(4 * radii[-1]) + 1
    share = np.bincount(ring, weight, count)
    seen = share > 0
    mean_radius = np.bincount(ring, weight * radius, count)[seen] / share[seen]
    mean_value = np.bincount(ring, weight * darkness, count)[seen] / share[seen]
    design = basis.evaluate(mean_radius)
    excess = mean_value - np.interp(mean_radius, radii, start.value)
    prior = _PRIOR_PIXELS * float(np.median(weight))
    normal = (design * share[seen, None]).T @ design + prior * np.eye(design.shape[1])
    change = np.linalg.solve(normal, design.T @ (share[seen] * excess))
    value = start.value + basis.evaluate(radii) @ change
    slope = start.slope + basis.evaluate(radii, 1) @ change
    top = float(value[: SAMPLES_PER_PIXEL // 2].mean())
    if not top > 0:
        return start
    error = darkness - np.interp(radius, radii, value)
    drop = _variance_drop(error**2 * weight, np.interp(radius, radii, value))
    return BeadProfile(start.diameter, value / top, slope / top, drop)


def _variance_drop(squared: FloatArray, level: FloatArray) -> float:
    """Return by how much the variance falls from the background to the middle of a bead."""
    typical = float(np.median(squared))
    # Clipped: a few pixels of another bead must not make the background look noisy.
    squared = np.minimum(squared, 25 * typical)
    slope, constant = np.polyfit(np.clip(level, 0, 1), squared, 1)
    return float(np.clip(-slope / constant, 0, 0.8)) if constant > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """Cubic B-splines of the radius, flat at its origin."""

    knots: FloatArray
    size: int

    def evaluate(self, radius: FloatArray, derivative: int = 0) -> FloatArray:
        """Return the (radius, spline) values or derivatives."""
        columns = []
        for index in range(self.size):
            spline = BSpline(self.knots, np.eye(self.size)[index], 3, extrapolate=False)
            even = spline(radius, nu=derivative) + (-1) ** derivative * spline(
                -radius, nu=derivative
            )
            columns.append(np.nan_to_num(even))
        # Splines left of the origin are mirror images of those on its right.
        return np.stack(columns[self.size // 2 :], axis=1)


def _basis(diameter: float, reach: float) -> _Basis:
    step = max(_KNOTS * diameter, _FINEST)
    half = int(np.ceil(reach / step)) + 3
    knots = step * np.arange(-half, half + 1, dtype=np.float64)
    return _Basis(knots, len(knots) - 4)
