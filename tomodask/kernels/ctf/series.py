"""Estimating the contrast transfer of a series from the power spectra of its tiles.

Whitened power oscillates as ``-cos(2 chi)``, and 2 chi is linear in the defocus at each frequency,
so that all that follows is linear algebra with one transform: the sums over the tiles of a view of
its power, each turned by the phase that its height adds (:mod:`.background`), searched over all
defoci at once (:mod:`.focus`), refined and given errors by their likelihood (:mod:`.likelihood`),
and tied together over the series (:mod:`.joint`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.ctf.background import background, leaning, oscillation, smooth_surfaces
from tomodask.kernels.ctf.confidence import decided_handedness
from tomodask.kernels.ctf.joint import fit_jointly
from tomodask.kernels.ctf.judgement import (
    DOUBTFUL,
    confidence_of,
    named_views,
    notes_of,
    outside_range,
)
from tomodask.kernels.ctf.problem import NINETY, JointFit, Problem
from tomodask.kernels.ctf.profile import profile
from tomodask.kernels.ctf.rings import Rings
from tomodask.kernels.ctf.search import shared_start
from tomodask.kernels.ctf.specimen import (
    estimated_thickness,
    inclined,
    nodes,
    slope_information,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.ctf.spectra import Sectors, TileSpectra
    from tomodask.kernels.ctf.transfer import Optics

    FloatArray = NDArray[np.float64]

__all__ = ["SeriesFit", "fit_series"]

#: Where the evidence of the signs differs by more after the search, the other is not fitted.
_CLEAR = 100.0
#: Half of the interval that holds 90 % where any defocus of the range is as likely.
_MOST_OF = 0.45
#: Astigmatism beyond this part of the defocus is told of.
_EXTREME = 0.3
#: Rings that are followed no further than this part of the coarsest resolution are not followed.
_FOLLOWED = 0.95
#: Steps of scoring for an inclination.
_SCORING = 4


@dataclass(frozen=True, slots=True, eq=False)
class SeriesFit:
    """The contrast transfer of a series, at the centre of every raw image.

    Parameters
    ----------
    defocus_u, defocus_v
        (tilt,) A, underfocus positive, U the larger.
    astigmatism_angle
        (tilt,) degrees in (-90, 90], direction of U, CCW from +x of the y-up image.
    phase_shift
        (tilt,) degrees.
    defocus_error, astigmatism_error, phase_shift_error
        (tilt,) half-widths of 90 % intervals: of the mean defocus, A; of each component of the
        vector of length ``defocus_u - defocus_v`` at twice the angle, A; degrees.
    fit_resolution
        (tilt,) to which the rings are followed, A; NaN where they are not.
    score
        (tilt,) correlation of measured and modelled rings up to there; NaN without spectra.
    confidence
        (tilt,) probability that what was found are rings, not noise.
    fitted
        (tilt,) whether the view itself was looked at; other views' values are what the rest of
        the series says.
    handedness
        +1 where defocus grows with height along the beam, -1 where it falls, 0 where unknown.
    handedness_confidence
        Probability of the likelier sign.
    inclination, inclination_error
        (2,) slopes dz/dx, dz/dy of the specimen's plane, and half-widths of 90 % intervals; None
        where not asked for.
    thickness, thickness_error
        A; None where not asked for or not seen.
    frequency
        (ring,) 1/A.
    profile, profile_model, profile_match
        (tilt, ring) along equal phase, corrected for astigmatism and height: power over background
        less one, the same of the model, and their local correlation; NaN without spectra.
    warnings
        What should be known about the result.
    """

    defocus_u: FloatArray
    defocus_v: FloatArray
    astigmatism_angle: FloatArray
    phase_shift: FloatArray
    defocus_error: FloatArray
    astigmatism_error: FloatArray
    phase_shift_error: FloatArray
    fit_resolution: FloatArray
    score: FloatArray
    confidence: FloatArray
    fitted: NDArray[np.bool_]
    handedness: int
    handedness_confidence: float
    inclination: FloatArray | None
    inclination_error: FloatArray | None
    thickness: float | None
    thickness_error: float | None
    frequency: FloatArray
    profile: FloatArray
    profile_model: FloatArray
    profile_match: FloatArray
    warnings: tuple[str, ...]


def fit_series(
    spectra: Sequence[TileSpectra | None],
    sectors: Sectors,
    optics: Optics,
    *,
    gradient: ArrayLike,
    tilt_angle: ArrayLike,
    order: ArrayLike | None = None,
    defocus_range: tuple[float, float] = (5000.0, 60000.0),
    phase_shift: float | tuple[float, float] = 0.0,
    handedness: int | None = None,
    astigmatism: bool = True,
    inclination: bool = False,
    thickness: bool = False,
    resolution: tuple[float, float] = (30.0, 4.0),
) -> SeriesFit:
    """Estimate the contrast transfer of all views of a series together.

    Parameters
    ----------
    spectra
        Of the tiles of each view; None for views that are left out.
    sectors
        Of the spectra.
    optics
        Of the microscope.
    gradient
        (tilt, 2) A of height along the beam per A of raw x and y.
    tilt_angle
        (tilt,) degrees.
    order
        (tilt,) of acquisition; by default that of the views.
    defocus_range
        Smallest and largest mean defocus, A.
    phase_shift
        Degrees: a known one, or the range in which it is looked for.
    handedness
        +1 or -1 where it is known.
    astigmatism
        Whether defocus may differ with direction.
    inclination
        Whether the specimen's plane may be inclined to the one that the gradient is of.
    thickness
        Whether the specimen's thickness is looked for.
    resolution
        Coarsest and finest that is fitted, A.

    Raises
    ------
    ParameterError
        If a range makes no sense or holds too few rings.
    DataError
        If no view has spectra, or lengths differ.
    """
    slopes = np.asarray(gradient, np.float64)
    tilts = np.asarray(tilt_angle, np.float64)
    _check(len(spectra), slopes, tilts, defocus_range, handedness)
    used = [v for v, each in enumerate(spectra) if each is not None and len(each.power)]
    if not used:
        raise DataError("no view has tiles that can be looked at: include views that show specimen")
    acquired = np.arange(len(tilts)) if order is None else np.asarray(order)
    shown = [each for each in spectra if each is not None and len(each.power)]
    phases = phase_shift if isinstance(phase_shift, tuple) else (phase_shift, phase_shift)

    rings = Rings.between(sectors, optics, resolution)
    smooth = smooth_surfaces(rings)
    means = [background(each, rings, smooth) for each in shown]
    problem = Problem(
        views=[
            oscillation(each, rings, smooth, mean, slopes[v])
            for each, mean, v in zip(shown, means, used, strict=True)
        ],
        rings=rings,
        smooth=smooth,
        order=acquired.astype(np.float64),
        tilt_angle=tilts,
        used=np.array(used),
        defocus_range=(float(min(defocus_range)), float(max(defocus_range))),
        phase_shift=(float(min(phases)), float(max(phases))),
        astigmatism=astigmatism,
    )
    hand, hand_confidence, fit = _fitted(problem, handedness)
    notes: list[str] = []
    if hand == 0 and np.abs(slopes[used]).max() > 0:
        notes.append(
            "the handedness cannot be told from the spectra: give it, or check it on a series "
            "with clearer rings"
        )
    tilted, lean, lean_error = slopes, None, None
    if inclination:
        problem, fit, lean, lean_error = _with_inclination(problem, fit, shown, means, slopes)
        tilted = slopes + inclined(slopes, tilts) @ lean
    thick = None
    if thickness:
        problem, fit, thick = _with_thickness(problem, fit)
        if thick is None:
            notes.append("the specimen's thickness leaves no nodes in the rings that are seen")
    views = problem.handed(fit.handedness)
    found = problem.evaluated(fit)

    count, size = len(tilts), len(rings.frequency)
    confidence = np.zeros(count)
    confidence[used] = confidence_of(problem, fit, found)
    outside = outside_range(problem, fit)
    for v, value in zip(used, outside, strict=True):
        if value is not None:
            confidence[v] = min(confidence[v], 0.05)
    resolutions, scores = np.full(count, np.nan), np.full(count, np.nan)
    curves = np.full((3, count, size), np.nan)
    for i, (v, each, mean) in enumerate(zip(used, shown, means, strict=True)):
        seen = profile(
            each,
            views[i],
            rings,
            mean,
            fit.handedness * np.asarray(each.position, np.float64) @ tilted[v],
            fit.amplitude[i] * fit.contrast,
            fit.focus(i),
            float(fit.noise[i]),
        )
        curves[:, v] = seen.power, seen.model, seen.match
        resolutions[v], scores[v] = seen.resolution, seen.score
    whole = problem.whole(fit)
    notes += notes_of(problem, fit, confidence, outside, tilts)
    vector = 2 * whole.astigmatism
    length = np.hypot(*vector.T)
    angle = np.rad2deg(np.arctan2(vector[:, 1], vector[:, 0])) / 2
    error = whole.defocus_error
    if confidence.max() < DOUBTFUL:
        # Of noise alone the likelihood says too much: the true one may lie anywhere.
        low, high = problem.defocus_range
        error = np.maximum(error, _MOST_OF * (high - low))
    elif extreme := [v for v in used if length[v] > _EXTREME * whole.defocus[v]]:
        notes.append(
            f"{named_views(extreme, tilts)}: an astigmatism of {length[extreme].max():.0f} A is "
            "more than a microscope has that is aligned; look at the spectrum"
        )
    resolutions[resolutions > _FOLLOWED * 1 / rings.frequency[0]] = np.nan
    present = np.zeros(count, bool)
    present[used] = True
    return SeriesFit(
        defocus_u=whole.defocus + length / 2,
        defocus_v=whole.defocus - length / 2,
        astigmatism_angle=np.where(angle <= -90, angle + 180, angle),
        phase_shift=whole.phase_shift,
        defocus_error=error,
        astigmatism_error=2 * NINETY * np.sqrt(whole.astigmatism_variance.mean(axis=1)),
        phase_shift_error=NINETY * np.sqrt(whole.phase_variance),
        fit_resolution=resolutions,
        score=scores,
        confidence=confidence,
        fitted=present,
        handedness=hand,
        handedness_confidence=hand_confidence,
        inclination=lean,
        inclination_error=lean_error,
        thickness=None if thick is None else thick[0],
        thickness_error=None if thick is None else thick[1],
        frequency=rings.frequency,
        profile=curves[0],
        profile_model=curves[1],
        profile_match=curves[2],
        warnings=tuple(notes),
    )


def _check(
    count: int,
    gradient: FloatArray,
    tilt_angle: FloatArray,
    defocus_range: tuple[float, float],
    handedness: int | None,
) -> None:
    if gradient.shape != (count, 2) or tilt_angle.shape != (count,):
        raise DataError(
            f"{count} spectra, {gradient.shape} gradients and {tilt_angle.shape} tilt angles: give "
            "one of each, and gradients of x and y, per view"
        )
    if not 0 <= min(defocus_range) < max(defocus_range):
        raise ParameterError(
            f"defocus range {defocus_range[0]:g} to {defocus_range[1]:g} A: give a smaller and a "
            "larger underfocus"
        )
    if handedness not in (None, 1, -1):
        raise ParameterError(f"handedness {handedness}: give 1 or -1, or leave it to be estimated")


def _fitted(problem: Problem, handedness: int | None) -> tuple[int, float, JointFit]:
    """Return the handedness, its probability, and the fit with the likelier one."""
    if handedness is not None:
        return handedness, 1.0, fit_jointly(problem, shared_start(problem, handedness))
    if all(np.abs(view.first - view.tiles).max() < 1e-6 * view.tiles for view in problem.views):
        return 0, 0.5, fit_jointly(problem, shared_start(problem, 1))
    plus, minus = shared_start(problem, 1), shared_start(problem, -1)
    difference = float((plus.evidence - minus.evidence).sum())
    if abs(difference) < _CLEAR:
        plus, minus = fit_jointly(problem, plus), fit_jointly(problem, minus)
        hand, confidence = decided_handedness(plus.evidence, minus.evidence)
        better = plus if plus.evidence.sum() >= minus.evidence.sum() else minus
        return hand, confidence, better
    hand, confidence = decided_handedness(plus.evidence, minus.evidence)
    return hand, confidence, fit_jointly(problem, plus if difference > 0 else minus)


def _with_inclination(
    problem: Problem,
    fit: JointFit,
    shown: Sequence[TileSpectra],
    means: Sequence[FloatArray],
    gradient: FloatArray,
) -> tuple[Problem, JointFit, FloatArray, FloatArray]:
    """Estimate the slopes of the specimen's plane by scoring, and fit again with them."""
    change = inclined(gradient, problem.tilt_angle)[problem.used]
    slopes, information = np.zeros(2), np.eye(2)
    for _ in range(_SCORING):
        gradients = gradient[problem.used] + change @ slopes
        pull, information = np.zeros(2), 1e-9 * np.eye(2)
        for i, view in enumerate(problem.handed(fit.handedness)):
            handed = fit.handedness * gradients[i]
            position = np.asarray(shown[i].position, np.float64)
            by_gradient, of_gradient = slope_information(
                view,
                leaning(shown[i], problem.rings, means[i], handed),
                position,
                problem.rings,
                fit.amplitude[i] * fit.contrast,
                fit.focus(i),
            )
            jacobian = fit.handedness * change[i]
            pull += jacobian.T @ by_gradient / fit.noise[i]
            information += jacobian.T @ of_gradient @ jacobian / fit.noise[i]
        slopes = slopes + np.clip(np.linalg.solve(information, pull), -0.1, 0.1)
        problem = replace(
            problem,
            views=[
                oscillation(each, problem.rings, problem.smooth, mean, each_gradient)
                for each, mean, each_gradient in zip(
                    shown, means, gradient[problem.used] + change @ slopes, strict=True
                )
            ],
        )
        fit = fit_jointly(problem, fit, 1)
    return problem, fit, slopes, NINETY * np.sqrt(np.diag(np.linalg.inv(information)))


def _with_thickness(
    problem: Problem, fit: JointFit
) -> tuple[Problem, JointFit, tuple[float, float] | None]:
    """Estimate the thickness, and fit again with its nodes."""
    thin, found = problem, None
    for _ in range(2):
        seen = thin.evaluated(fit)
        tilts = problem.tilt_angle[problem.used]
        found = estimated_thickness(problem.rings, seen, fit.amplitude, fit.noise, tilts)
        if found is None:
            return thin, fit, None
        factors = nodes(problem.rings, found[0], tilts)
        problem = replace(
            thin,
            views=[
                replace(view, damping=view.damping * factor)
                for view, factor in zip(thin.views, factors, strict=True)
            ],
        )
        fit = fit_jointly(problem, fit, 2)
    return problem, fit, found
