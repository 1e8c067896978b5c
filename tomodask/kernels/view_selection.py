"""Which views of a series to leave out, and why.

Every criterion compares a view with what the other views of its own series lead one to expect.
Each is set such that a good view is left out hardly ever: a view too many does little harm, as
later steps weigh it by how well it fits; a view too few is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ParameterError
from tomodask.kernels.intensity_law import FEWEST, fit_intensity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.view_quality import ViewQuality

    FloatArray = NDArray[np.float64]

__all__ = ["recommend"]

#: A view is dark below this part of the expected mean, and this many robust standard deviations
#: below it on the logarithmic scale. Thick specimens at high tilt follow the law and are not.
_DARK, _DARK_DEVIATIONS = 0.5, 6.0
#: Where the views around are dark too, the specimen is: then only below this part.
_DARK_AMONG_DARK = 0.2
#: Views this close to no tilt, degrees, are the least replaceable, and in a short series no law
#: says what to expect: only below this part.
_UPRIGHT, _BLACK = 3.0, 0.1
#: A view is blank when its contrast is below this part of its neighbours', and within this many
#: standard deviations of that of noise; theirs must be this many above it.
_BLANK, _BLANK_DEVIATIONS, _STRUCTURE_DEVIATIONS = 0.1, 3.0, 10.0
#: A view is blocked when it covers less than this part of what the series' views cover.
_BLOCKED = 0.5
#: Part of a view that may have its highest value: the camera's range ends there.
_SATURATED = 0.02
#: Travel of the specimen during a view, A, beyond which it is blurred within single frames too;
#: and how many times that of the series it must be.
_TRAVEL, _TRAVEL_RATIO = 100.0, 4.0
#: A view disagrees with its neighbours below this part of their own correlations, and this many
#: robust standard deviations below them. Correlations below this say nothing.
_DISAGREEMENT, _DISAGREEMENT_DEVIATIONS, _CORRELATION = 0.4, 5.0, 0.25
#: Views on either side that a view is compared with.
_NEAREST = 3


def recommend(
    quality: Sequence[ViewQuality],
    tilt_angle: ArrayLike,
    *,
    exposure: ArrayLike | None = None,
    motion: ArrayLike | None = None,
    correlation: ArrayLike | None = None,
) -> list[tuple[int, str]]:
    """Return the views that are better left out, each with the reason in words.

    Parameters
    ----------
    quality
        Of every view, from :func:`tomodask.kernels.view_quality.measure_view`.
    tilt_angle
        (tilt,) degrees, in any order.
    exposure
        (tilt,) e/A^2 of each view, where it is known: views of a hybrid scheme differ.
    motion
        (tilt,) length of the specimen's path during each view, A; NaN where it is unknown.
    correlation
        (tilt,) from :func:`tomodask.kernels.neighbour_correlation.neighbour_correlations`.

    Returns
    -------
    (view, reason) by view; several reasons are separated by semicolons.

    Raises
    ------
    ParameterError
        If a number of values is not that of the views.
    """
    angles = np.asarray(tilt_angle, np.float64)
    for name, values in (
        ("tilt angles", angles),
        ("exposures", exposure),
        ("motions", motion),
        ("correlations", correlation),
    ):
        if values is not None and np.shape(values) != (len(quality),):
            raise ParameterError(
                f"{np.size(values)} {name} for {len(quality)} views; give one for each"
            )
    reasons: dict[int, list[str]] = {}
    for found in (
        _dark(quality, angles, exposure),
        _blank(quality, angles),
        _blocked(quality),
        _saturated(quality),
        {} if motion is None else _moved(np.asarray(motion, np.float64)),
        {} if correlation is None else _strange(np.asarray(correlation, np.float64), angles),
    ):
        for view, reason in found.items():
            reasons.setdefault(view, []).append(reason)
    return [(view, "; ".join(reasons[view])) for view in sorted(reasons)]


def _around(values: FloatArray, angles: FloatArray) -> FloatArray:
    """Return (tilt,) medians over the views nearest in tilt on either side, without the view."""
    order = np.argsort(angles, kind="stable")
    result = np.full(len(values), np.nan)
    for place, view in enumerate(order):
        beside = [
            *order[max(place - _NEAREST, 0) : place],
            *order[place + 1 : place + 1 + _NEAREST],
        ]
        known = values[beside][np.isfinite(values[beside])]
        if len(known):
            result[view] = np.median(known)
    return result


def _robust_deviation(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return 1.4826 * float(np.median(np.abs(known - np.median(known)))) if len(known) else 0.0


def _dark(
    quality: Sequence[ViewQuality], angles: FloatArray, exposure: ArrayLike | None
) -> dict[int, str]:
    mean = np.array([view.mean for view in quality])
    law = fit_intensity(mean, angles, exposure) if len(mean) else None
    if law is None:
        return {}
    part = mean / law.expected(angles, exposure)
    around = _around(part, angles)
    found = {}
    for view, value in enumerate(part):
        limit = min(_DARK, float(np.exp(-_DARK_DEVIATIONS * law.spread)))
        if np.isfinite(around[view]):
            limit = min(limit, max(_DARK * around[view], _DARK_AMONG_DARK))
        if abs(angles[view]) < _UPRIGHT or len(mean) < FEWEST:
            limit = min(limit, _BLACK)
        if value < limit:
            found[view] = (
                f"dark: its mean is {100 * max(value, 0):.0f} % of what the series leads one to "
                f"expect at {angles[view]:+.1f} degrees"
            )
    return found


def _blank(quality: Sequence[ViewQuality], angles: FloatArray) -> dict[int, str]:
    contrast = np.array([view.contrast for view in quality])
    around = _around(contrast, angles)
    found = {}
    for view, value in enumerate(contrast):
        if quality[view].deviation == 0:
            found[view] = "blank: all pixels have one value"
        elif around[view] > _STRUCTURE_DEVIATIONS * quality[view].contrast_error and value < min(
            _BLANK * around[view], _BLANK_DEVIATIONS * quality[view].contrast_error
        ):
            found[view] = (
                f"blank: it shows nothing but noise (contrast {max(value, 0):.2f}; the views "
                f"around it have {around[view]:.2f})"
            )
    return found


def _blocked(quality: Sequence[ViewQuality]) -> dict[int, str]:
    coverage = np.array([view.coverage for view in quality])
    if not np.isfinite(coverage).any():
        return {}
    usual = float(np.nanmedian(coverage))
    return {
        view: f"blocked: {100 * value:.0f} % of the field is lit, usually {100 * usual:.0f} %"
        for view, value in enumerate(coverage)
        if value < _BLOCKED * usual
    }


def _saturated(quality: Sequence[ViewQuality]) -> dict[int, str]:
    return {
        view: f"saturated: {100 * value.saturated:.0f} % of the pixels have the highest value"
        for view, value in enumerate(quality)
        if value.saturated > _SATURATED and value.deviation > 0
    }


def _moved(motion: FloatArray) -> dict[int, str]:
    known = motion[np.isfinite(motion)]
    usual = float(np.median(known)) if len(known) else 0.0
    return {
        view: f"moved: by {value:.0f} A during the exposure, usually {usual:.0f} A"
        for view, value in enumerate(motion)
        if value > max(_TRAVEL, _TRAVEL_RATIO * usual)
    }


def _strange(correlation: FloatArray, angles: FloatArray) -> dict[int, str]:
    around = _around(correlation, angles)
    spread = _robust_deviation(correlation - around)
    return {
        view: f"unlike its neighbours: it correlates by {value:.2f} with them, they by "
        f"{around[view]:.2f} with theirs"
        for view, value in enumerate(correlation)
        if around[view] > _CORRELATION
        and value < _DISAGREEMENT * around[view]
        and value < around[view] - _DISAGREEMENT_DEVIATIONS * spread
    }
