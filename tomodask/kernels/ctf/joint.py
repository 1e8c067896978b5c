"""All views of a series fitted together.

Each view has its own mean defocus; the views share the shape of the contrast, and lend each other
what they have in common: defocus, astigmatism, phase shift and strength follow trends over the
series with scatter of a width that the series itself tells (:mod:`tomodask.kernels.ctf.trend`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.ctf.defocus import find_defocus, sharpen_defocus
from tomodask.kernels.ctf.focus import focus_transform
from tomodask.kernels.ctf.problem import STEP, JointFit, Problem
from tomodask.kernels.ctf.strength import (
    combined_strengths,
    expected_strengths,
    first_strengths,
    noise_level,
    reshape,
    strengths,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomodask.kernels.ctf.likelihood import Evaluation

__all__ = ["fit_jointly"]

_ROUNDS, _SCORING = 4, 2
#: What keeps a step finite where a view says nothing: widths of mean defocus and the parts of the
#: astigmatism, A, and of the phase shift, degrees.
_LOOSE = (1e5, 1e4, 1e4, 360.0)


def fit_jointly(problem: Problem, start: JointFit, rounds: int = _ROUNDS) -> JointFit:
    """Fit all views together from a start."""
    fit = start
    views = problem.handed(fit.handedness)
    grid = problem.grid()
    strong = None
    if np.isfinite(fit.defocus_variance).all():
        strong = strengths(problem, fit, problem.evaluated(fit))
    for index in range(rounds):
        transform = focus_transform(views, problem.rings, problem.smooth, fit.contrast, grid)
        if strong is None:
            strong = first_strengths(problem, fit, transform)
            fit.amplitude = strong[0]
        expected = expected_strengths(problem, *strong)
        find_defocus(problem, fit, transform, *expected)
        for _ in range(_SCORING):
            found = problem.evaluated(fit)
            strong = strengths(problem, fit, found)
            fit.amplitude = combined_strengths(strong, expected)
            _astigmatism_and_phase(problem, fit, found)
            sharpen_defocus(problem, fit, problem.evaluated(fit))
        find_defocus(problem, fit, transform, *expected)
        sharpen_defocus(problem, fit, problem.evaluated(fit))
        fit.noise = noise_level(problem, fit)
        if index < rounds - 1:
            reshape(problem, fit, problem.evaluated(fit))
            strong = strengths(problem, fit, problem.evaluated(fit))
    return fit


def _astigmatism_and_phase(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> None:
    """Move astigmatism and phase shift by a step of scoring, smoothed over the series."""
    free = [1, 2] if problem.astigmatism else []
    if problem.searches_phase:
        free.append(3)
    if not free:
        return
    chosen = [0, *free]
    step = np.zeros((len(found), 4))
    precision = np.zeros((len(found), 4))
    for v, each in enumerate(found):
        information = each.information[np.ix_(chosen, chosen)] / fit.noise[v]
        information += np.diag(1 / np.array(_LOOSE)[chosen] ** 2)
        information[0, 0] += 1 / fit.others_variance[v]
        scale = np.sqrt(np.diag(information))
        inverse = np.linalg.inv(information / np.outer(scale, scale) + 1e-9 * np.eye(len(chosen)))
        inverse /= np.outer(scale, scale)
        slope = each.slope[chosen] / fit.noise[v]
        slope[0] += (fit.others_mean[v] - fit.defocus[v]) / fit.others_variance[v]
        step[v, chosen] = inverse @ slope
        precision[v, chosen] = 1 / np.diag(inverse)
    # Between two searches over defocus, steps go along the ridge where one makes up for another.
    fit.defocus = fit.defocus + np.clip(step[:, 0], -6 * STEP, 6 * STEP)
    if problem.astigmatism:
        trend = problem.astigmatism_trend()
        for part in range(2):
            limit = np.clip(step[:, 1 + part], -400.0, 400.0)
            value = fit.astigmatism[:, part] + limit
            smoothed = problem.at_views(trend, value, precision[:, 1 + part])
            fit.sites[f"astigmatism {part}"] = (value, precision[:, 1 + part])
            fit.astigmatism[:, part] = smoothed.mean
            fit.astigmatism_variance[:, part] = smoothed.variance
    if problem.searches_phase:
        fit.ridge = np.array([each.information[0, 3] / each.information[0, 0] for each in found])
        value = fit.phase_shift + np.clip(step[:, 3], -15.0, 15.0)
        smoothed = problem.at_views(problem.phase_trend(), value, precision[:, 3])
        fit.sites["phase shift"] = (value, precision[:, 3])
        fit.phase_shift = np.clip(smoothed.mean, *problem.phase_shift)
        fit.phase_variance = smoothed.variance
