"""What a fit of a series is worth: which views show rings, and what should be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.ctf.confidence import ring_confidence
from tomodask.kernels.ctf.focus import focus_transform
from tomodask.kernels.ctf.problem import NINETY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.likelihood import Evaluation
    from tomodask.kernels.ctf.problem import JointFit, Problem

    FloatArray = NDArray[np.float64]

__all__ = ["DOUBTFUL", "confidence_of", "named_views", "notes_of", "outside_range"]

#: Width over which defocus is looked for outside the range, A.
_WIDE = (1000.0, 150000.0, 100.0)
#: A peak outside the range is told of where its log likelihood is so much larger.
_STRONGER = 10.0
#: Views below this confidence are told of.
DOUBTFUL = 0.5
#: Beyond this distance from the range, A, a peak is outside it.
_EDGE = 1000.0
#: Oscillations of less of the energy of most say nothing.
_SLOW = 0.3
#: A contrast in general, exp(-fall k^2), to look for rings that may lie anywhere.
_FALL = 150.0
#: From so many views on astigmatism and phase shift are the series', not searched by view; else
#: so many independent fields are searched.
_SERIES, _FIELDS = 5, 10.0


def confidence_of(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> FloatArray:
    """Return the probability (view,) that a view shows rings."""
    energy = np.array([each.energy for each in found])
    deviate = np.array([each.correlation for each in found]) / np.sqrt(energy * fit.noise)
    information = np.array([each.information[0, 0] for each in found])
    curvature = information / (fit.amplitude**2 * energy)
    full = problem.defocus_range[1] - problem.defocus_range[0]
    expected = np.minimum(2 * NINETY * np.sqrt(fit.others_variance), full)
    alone = len(problem.views) < _SERIES
    tries = _FIELDS if alone and problem.astigmatism else 1.0
    tries *= _FIELDS if alone and problem.searches_phase else 1.0
    following = ring_confidence(deviate, curvature, expected, tries)
    astray = ring_confidence(deviate, curvature, np.full(len(found), full), tries)
    return np.where(fit.regular > 0.5, np.maximum(following, astray), astray)


def outside_range(problem: Problem, fit: JointFit) -> list[float | None]:
    """Return for each view a defocus outside the range that fits far better, or None."""
    low, high = problem.defocus_range
    views = problem.handed(fit.handedness)
    contrast = np.exp(-_FALL * problem.rings.squared)
    defocus = np.arange(*_WIDE)
    transform = focus_transform(views, problem.rings, problem.smooth, contrast, defocus)
    matched = transform.matched(problem.shifts(fit), fit.phase_shift)
    # Oscillations so slow that the background takes them say nothing.
    seen = transform.energy > _SLOW * np.median(transform.energy, axis=1, keepdims=True)
    gain = seen * np.maximum(matched, 0) ** 2 / (2 * transform.energy)
    within = (defocus >= low) & (defocus <= high)
    beyond = (defocus < low - _EDGE) | (defocus > high + _EDGE)
    found: list[float | None] = []
    for each in gain:
        best = int(np.argmax(np.where(beyond, each, -1.0)))
        inside = float(each[within].max(initial=0.0))
        found.append(float(defocus[best]) if each[best] > 1.5 * inside + _STRONGER else None)
    return found


def notes_of(
    problem: Problem,
    fit: JointFit,
    confidence: FloatArray,
    outside: Sequence[float | None],
    tilt_angle: FloatArray,
) -> list[str]:
    """Return what should be known about the views."""
    notes = []
    used = problem.used
    low, high = problem.defocus_range
    far = [(v, value) for v, value in zip(used, outside, strict=True) if value is not None]
    if far:
        middle = np.median([value for _, value in far])
        notes.append(
            f"{named_views([v for v, _ in far], tilt_angle)}: a defocus of about {middle:.0f} A "
            f"fits far better than any in the range of {low:g} to {high:g} A; widen the range"
        )
    doubtful = [v for v in used if confidence[v] < DOUBTFUL]
    if doubtful:
        notes.append(
            f"{named_views(doubtful, tilt_angle)}: no rings are seen beyond doubt; what is given "
            f"there follows from {'noise' if len(used) == 1 else 'the other views, or from noise'}"
        )
    for i, v in enumerate(used):
        if fit.regular[i] < 0.5 and confidence[v] >= DOUBTFUL:
            notes.append(
                f"{named_views([v], tilt_angle)}: its rings say {fit.defocus[i]:.0f} A, the other "
                f"views {fit.others_mean[i]:.0f} +- "
                f"{NINETY * np.sqrt(fit.others_variance[i]):.0f} A: refocused, or another object "
                "such as carbon"
            )
    return notes


def named_views(views: Sequence[int], tilt_angle: FloatArray) -> str:
    """Return the views by number and tilt, the first eight of them."""
    names = ", ".join(f"{v} ({tilt_angle[v]:.0f} deg)" for v in views[:8])
    more = f" and {len(views) - 8} more" if len(views) > 8 else ""
    return f"{'view' if len(views) == 1 else 'views'} {names}{more}"
