"""How bright the views of a series ought to be.

A slab of thickness T dims the beam by ``exp(-T / (L cos t))`` at the tilt t to the slab, L being
the mean free path; the slab itself may lie at an angle, as a lamella does (its pre-tilt). The
logarithm of the intensity is thus a straight line over ``1 / cos t``, fitted here such that a third
of the views may be anything: behind a grid bar, blank, or of a hybrid scheme's high dose.

References
----------
.. [1] Rice, W. J. et al., Routine determination of ice thickness for cryo-EM grids, J. Struct.
   Biol. 204 (2018) 38, doi:10.1016/j.jsb.2018.06.007 (the attenuation of ice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["FEWEST", "IntensityLaw", "fit_intensity"]

#: Pre-tilts tried, degrees: lamellae are milled at 5 to 20.
_PRE_TILTS = np.arange(-24.0, 24.1, 2.0)
#: Beyond this angle to the slab the law is not followed, degrees: it has a pole at 90.
_STEEPEST = 80.0
#: Thickest slab, mean free paths: little more than 1 micrometre, where nothing is left to see.
_THICKEST = 3.0
#: Part of the views that decides a fit.
_TRUSTED = 0.65
#: Fewest views with which a law is fitted; below, the median is all that can be said.
FEWEST = 7
#: Lines tried for one pre-tilt.
_LINES = 400
#: A pre-tilt must improve the fit by this factor: a few dark views are no reason for one.
_BETTER = 0.7
#: The views scatter by this much at least, as a natural logarithm: exposures do.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True, eq=False, slots=True)
class IntensityLaw:
    """The intensity that a slab leaves of the beam, by tilt.

    Parameters
    ----------
    untilted
        Intensity without a slab, in units of the means (per unit of exposure where given).
    thickness
        Of the slab, in mean free paths.
    pre_tilt
        Angle of the slab to the stage, degrees: the beam meets the slab at the tilt plus this.
    spread
        Robust standard deviation of the views about the law, as a natural logarithm.
    """

    untilted: float
    thickness: float
    pre_tilt: float
    spread: float

    def expected(self, tilt_angle: ArrayLike, exposure: ArrayLike | None = None) -> FloatArray:
        """Return the (tilt,) means expected at tilt angles in degrees, for the exposures."""
        level = self.untilted * np.exp(-self.thickness * _path(tilt_angle, self.pre_tilt))
        return level if exposure is None else level * np.asarray(exposure, np.float64)


def fit_intensity(
    mean: ArrayLike, tilt_angle: ArrayLike, exposure: ArrayLike | None = None
) -> IntensityLaw | None:
    """Fit the law to the mean intensities of a series.

    Parameters
    ----------
    mean
        (tilt,) mean of each view, zero without a beam.
    tilt_angle
        (tilt,) degrees.
    exposure
        (tilt,) of each view, in any unit; the same for all when absent, so that a single view of
        a high dose stands out above the law.

    Returns
    -------
    None where more than a third of the means are not positive: they do not count electrons.

    Raises
    ------
    ParameterError
        If the numbers of values differ, or an exposure is not positive.
    """
    means, angles = np.asarray(mean, np.float64), np.asarray(tilt_angle, np.float64)
    exposures = np.ones_like(means) if exposure is None else np.asarray(exposure, np.float64)
    if not means.shape == angles.shape == exposures.shape:
        raise ParameterError(
            f"{len(means)} means, {len(angles)} tilt angles and {len(exposures)} exposures; give "
            "one of each for every view"
        )
    if not (exposures > 0).all():
        raise ParameterError("an exposure is not positive; leave all out where one is unknown")
    positive = means > 0
    if np.count_nonzero(positive) <= len(means) * _TRUSTED:
        return None
    # A view of nothing at all would be at minus infinity; it is as dark as anything can be.
    level = np.log(np.where(positive, means, means[positive].min() * 1e-3) / exposures)
    if len(level) < FEWEST:
        return _law(level, np.ones_like(level), 0.0, 0.0)
    trusted = int(np.ceil(_TRUSTED * len(level)))
    best, slope, pre_tilt = np.inf, 0.0, 0.0
    for offset in _PRE_TILTS[np.argsort(np.abs(_PRE_TILTS), kind="stable")]:
        misfit, tried = _best_line(_path(angles, offset), level, trusted)
        if misfit < (_BETTER if offset != 0 and pre_tilt == 0 else 1) * best:
            best, slope, pre_tilt = misfit, tried, float(offset)
    return _law(level, _path(angles, pre_tilt), slope, pre_tilt)


def _path(tilt_angle: ArrayLike, pre_tilt: float) -> FloatArray:
    """Return the length of the beam's path through a slab, in thicknesses of it."""
    angle = np.clip(np.asarray(tilt_angle, np.float64) + pre_tilt, -_STEEPEST, _STEEPEST)
    path: FloatArray = 1 / np.cos(np.deg2rad(angle))
    return path


def _best_line(path: FloatArray, level: FloatArray, trusted: int) -> tuple[float, float]:
    """Return the mean deviation of the trusted views, and the thickness, of the best line.

    All lines through two views are tried, and the horizontal ones through one.
    """
    first, second = np.triu_indices(len(path), 1)
    apart = np.abs(path[first] - path[second]) > 0.05
    first, second = first[apart], second[apart]
    slopes = (level[first] - level[second]) / (path[second] - path[first])
    slopes = np.append(0.0, slopes[(slopes > 0) & (slopes < _THICKEST)])
    if len(slopes) > _LINES:
        slopes = np.quantile(slopes, np.linspace(0, 1, _LINES))
    untilted = level + slopes[:, None] * path
    untilted.sort(axis=1)
    # The shortest interval that holds the trusted views.
    width = untilted[:, trusted - 1 :] - untilted[:, : len(path) - trusted + 1]
    widths = width.min(axis=1)
    line = int(np.argmin(widths))
    return max(float(widths[line]), 1e-9), float(slopes[line])


def _law(level: FloatArray, path: FloatArray, slope: float, pre_tilt: float) -> IntensityLaw:
    """Return the law of a slope whose height the views about its middle agree on."""
    untilted = level + slope * path
    for _ in range(3):  # the views that follow the law decide on it
        middle = float(np.median(untilted))
        spread = max(1.4826 * float(np.median(np.abs(untilted - middle))), _LEAST_SPREAD)
        near = np.abs(level + slope * path - middle) <= 4 * spread
        untilted = (level + slope * path)[near]
    return IntensityLaw(float(np.exp(middle)), slope, pre_tilt, spread)
