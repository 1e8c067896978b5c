"""How strong the oscillation of each view is, over frequency, and how much noise is around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.ctf.envelope import envelope
from tomodask.kernels.ctf.focus import FocusTransform, focus_transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation
    from tomodask.kernels.ctf.likelihood import Evaluation
    from tomodask.kernels.ctf.problem import JointFit, Problem

    FloatArray = NDArray[np.float64]

__all__ = [
    "combined_strengths",
    "expected_strengths",
    "first_strengths",
    "noise_level",
    "reshape",
    "strengths",
]


def first_strengths(
    problem: Problem, fit: JointFit, transform: FocusTransform
) -> tuple[FloatArray, FloatArray]:
    """Return the views' amplitudes, and their precision, at the highest peaks."""
    matched = transform.matched(problem.shifts(fit), fit.phase_shift)
    inside = problem.inside(transform.defocus)
    deviate = np.where(inside, matched, -np.inf) / np.sqrt(transform.energy)
    highest = np.argmax(deviate, axis=1)[:, None]
    energy = np.take_along_axis(transform.energy, highest, 1)[:, 0]
    seen = np.maximum(np.take_along_axis(matched, highest, 1)[:, 0], 0)
    return seen / energy, energy / fit.noise


def strengths(
    problem: Problem, fit: JointFit, found: Sequence[Evaluation]
) -> tuple[FloatArray, FloatArray]:
    """Return the views' amplitudes, and their precision, over what foci they may have."""
    correlation = np.stack([each.ring_correlation for each in found]) * _sharpness(problem, fit)
    energy = np.array([each.energy for each in found])
    return np.maximum(correlation @ fit.contrast, 0) / energy, energy / fit.noise


def expected_strengths(
    problem: Problem, seen: FloatArray, precision: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and width of what the others say of each view's amplitude."""
    if len(seen) == 1:
        return seen, np.maximum(seen, 1 / np.sqrt(precision))
    level = float(np.average(seen, weights=precision))
    level = max(level, float(1 / np.sqrt(precision.sum())))
    trend = problem.at_views(problem.strength_trend(level), seen, precision)
    return np.maximum(trend.others_mean, 0.1 * level), np.sqrt(trend.others_variance)


def combined_strengths(
    seen: tuple[FloatArray, FloatArray], expected: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Return amplitudes (view,) of what views show (with precision) and others expect (width)."""
    (amplitude, precision), (strength, spread) = seen, expected
    both = (precision * amplitude + strength / spread**2) / (precision + 1 / spread**2)
    return np.maximum(both, np.maximum(0.1 * strength, 0.1 / np.sqrt(precision)))


def _sharpness(problem: Problem, fit: JointFit) -> FloatArray:
    """Return how much of the oscillation at the fitted focus is there, (view, ring).

    A focus that is fitted follows noise, most where the phase depends on it most. The mean of the
    correlation over the foci that are possible is free from that: the step of
    expectation-maximization for contrast and amplitude.
    """
    spread = fit.defocus_variance + fit.astigmatism_variance.mean(axis=1)
    along = np.pi / 90 - problem.rings.rate * fit.ridge[:, None]
    radians = problem.rings.rate**2 * spread[:, None] + along**2 * fit.phase_variance[:, None]
    found: FloatArray = np.exp(-radians / 2)
    return found


def reshape(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> None:
    """Estimate the contrast over frequency anew, at a typical amplitude of 1."""
    weight = fit.amplitude / fit.noise
    correlation, energy = np.zeros((2, len(fit.contrast)))
    for each, part, w, a in zip(
        found, _sharpness(problem, fit), weight, fit.amplitude, strict=True
    ):
        correlation += w * part * each.ring_correlation
        energy += w * a * each.ring_energy
    contrast = envelope(problem.rings, correlation, energy)
    if not contrast.max() > 0:
        return
    typical = float(np.average(fit.amplitude, weights=weight))
    fit.contrast = contrast * typical
    fit.amplitude = fit.amplitude / typical


def noise_level(problem: Problem, fit: JointFit) -> FloatArray:
    """Return the variance of correlations over what counting samples says, (view,), at least 1.

    It is measured at all defoci where nothing is expected, on what is left of the views without
    the oscillation that was found: overfocus too.
    """
    rest = _rest(problem, fit)
    high = max(problem.defocus_range[1], 30000.0)
    grid = np.arange(-high, high, 150.0)
    grid = grid[np.abs(grid) > 3000.0]
    transform = focus_transform(rest, problem.rings, problem.smooth, fit.contrast, grid)
    none = np.zeros((len(rest), len(problem.rings.direction)))
    matched = transform.matched(none, np.full(len(rest), np.mean(problem.phase_shift)))
    deviate = np.abs(matched) / np.sqrt(transform.energy)
    each: FloatArray = (np.median(deviate, axis=1) / 0.6745) ** 2
    whole = max(1.0, float(np.median(each)))
    # One view's own is uncertain by a quarter or so.
    return np.where(each > 1.7 * whole, each, whole)


def _rest(problem: Problem, fit: JointFit) -> list[Oscillation]:
    """Return what is left of the views without their fitted oscillation."""
    rest = []
    for v, view in enumerate(problem.handed(fit.handedness)):
        focus = fit.focus(v)
        contrast = fit.amplitude[v] * fit.contrast * view.seen(problem.rings, focus.defocus)
        model = -contrast * focus.turn(problem.rings)
        rest.append(view.without(model, problem.smooth, problem.rings.samples))
    return rest
