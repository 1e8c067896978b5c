"""The fit proper: rounds of least squares, robust weights and widths of priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.bundle.evidence import decided, first_widths, next_widths
from tomodask.kernels.bundle.judgement import check_determined
from tomodask.kernels.bundle.least_squares import minimise
from tomodask.kernels.bundle.robust import BISQUARE_SHRINKAGE, bisquare_weights
from tomodask.kernels.bundle.statistics import covariance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.normal import Normal, Problem, State
    from tomodask.kernels.bundle.table import Table

    FloatArray = NDArray[np.float64]

__all__ = ["Fit", "assessed", "fit"]

_ROUNDS = 40
#: Change of weights and of logarithms of widths at which rounds end.
_SETTLED = 0.01
#: Effect of a width, in units of the noise, below which it no longer matters.
_NEGLIGIBLE = 0.02
#: Total weight of a landmark below which its point is found anew, and rounds of that.
_LOST, _ROUNDS_OF_ONE = 3.0, 12
#: Length, as a fraction of the spread of the positions, that is no error: measurements are never
#: as good, and without noise what has not converged must not be taken for wrong.
FLOOR = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A converged fit.

    Parameters
    ----------
    problem
        What was fitted, without the components whose priors are so narrow that they do nothing.
    state, equations
        The end, and the normal equations there.
    robust_weight, weight
        (view, landmark) robust weights, and those times the given ones.
    known
        (unknown, unknown) covariance of the views' unknowns for noise of variance one.
    widths, decided
        (component,) widths of the priors, and how many values the data decided.
    noise, freedom
        Standard deviation of a coordinate, and degrees of freedom left.
    """

    problem: Problem
    state: State
    equations: Normal
    robust_weight: FloatArray
    weight: FloatArray
    known: FloatArray
    widths: FloatArray
    decided: FloatArray
    noise: float
    freedom: float


def fit(problem: Problem, state: State, weight: FloatArray, *, robust: bool) -> Fit:
    """Return the fit that least squares, robust weights and widths of priors agree on.

    Parameters
    ----------
    problem, state
        What, and where to start.
    weight
        (view, landmark) weights to start with.
    robust
        Whether wrong observations lose their weight.
    """
    table = problem.table
    floor = FLOOR * table.spread
    widths = first_widths(problem.components)
    robust_weight = np.where(table.seen, weight / np.where(table.seen, table.weight, 1), 0.0)
    robust_weight = table.guarded(robust_weight) if robust else table.seen.astype(np.float64)
    weight = table.weight * robust_weight
    noise, _ = _noise(table, problem.residual(state), robust_weight, 0.0, robust=robust)
    settled = False
    for round_ in range(_ROUNDS):
        penalty = _penalty(problem, widths, noise)
        # While weights and widths move a few steps are enough; at the end they must agree with
        # the exact minimum.
        steps, tolerance = (50, 1e-13) if settled else (10 if round_ == 0 else 3, 1e-3)
        state = minimise(problem, state, weight, penalty, steps=steps, tolerance=tolerance)
        change = 0.0
        if robust:
            length = np.linalg.norm(assessed(problem, state, robust_weight), axis=2)
            updated = table.guarded(bisquare_weights(length, table.seen, floor))
            change = float(np.abs(updated - robust_weight).max())
            robust_weight = updated
            weight = table.weight * robust_weight
        if np.isfinite(widths).any():
            equations = problem.normal(state, weight)
            if round_ == 0:
                check_determined(problem, equations, penalty)
            known = covariance(equations, penalty)
            counts = decided(known, penalty, problem.columns)
            residual = problem.residual(state)
            noise, _ = _noise(table, residual, robust_weight, counts.sum(), robust=robust)
            updated = next_widths(
                problem.components, widths, state.unknowns, problem.columns, counts
            )
            matter = ~(updated * table.spread < _NEGLIGIBLE * noise)
            estimated = matter & np.isfinite(widths)
            moved = np.abs(np.log(updated[estimated] / widths[estimated]))
            change = max(change, float(moved.max(initial=0.0)))
            problem, state = problem.reduced(matter.tolist(), state)
            widths = updated[matter]
        if settled and change < _SETTLED:
            break
        settled = change < _SETTLED
    penalty = _penalty(problem, widths, noise)
    state = minimise(problem, state, weight, penalty, tolerance=1e-13)
    equations = problem.normal(state, weight)
    check_determined(problem, equations, penalty)
    known = covariance(equations, penalty)
    counts = decided(known, penalty, problem.columns)
    noise, freedom = _noise(table, equations.residual, robust_weight, counts.sum(), robust=robust)
    return Fit(
        problem, state, equations, robust_weight, weight, known, widths, counts, noise, freedom
    )


def assessed(problem: Problem, state: State, robust_weight: FloatArray) -> FloatArray:
    """Return the (view, landmark, 2) residuals of all observations, also of landmarks left out.

    A landmark whose observations have lost their weight has no point; it gets the one of least
    absolute deviations, so that it can come back when the views are known better.
    """
    table = problem.table
    lost = robust_weight.sum(axis=0) < _LOST
    if not lost.any():
        return problem.residual(state)
    weight = table.weight * robust_weight
    weight[:, lost] = table.weight[:, lost]
    for _ in range(_ROUNDS_OF_ONE):
        trial = problem.with_points(state.unknowns, state.shift, weight)
        residual = problem.residual(trial)
        length = np.linalg.norm(residual[:, lost], axis=2)
        typical = length.sum(axis=0) / table.seen[:, lost].sum(axis=0)
        least = np.maximum(0.01 * typical, FLOOR * table.spread)
        weight[:, lost] = table.weight[:, lost] / np.maximum(length, least)
    residual[:, ~lost] = problem.residual(state)[:, ~lost]
    return residual


def _noise(
    table: Table, residual: FloatArray, robust_weight: FloatArray, decided: float, *, robust: bool
) -> tuple[float, float]:
    """Return the standard deviation of a coordinate, and the degrees of freedom left.

    Parameters
    ----------
    table
        The observations.
    residual
        (view, landmark, 2).
    robust_weight
        (view, landmark).
    decided
        Values behind the views' parameters that the data decided.
    robust
        Whether the weights were found from the residuals, the small of which they favour.
    """
    points = int((robust_weight.sum(axis=0) > 0).sum())
    unknowns = float(decided) + 2 * len(table.views) + 3 * points - 3
    freedom = 2 * float(robust_weight.sum()) - unknowns
    squares = np.einsum("vl,vlc,vlc->", table.weight * robust_weight, residual, residual)
    shrinkage = BISQUARE_SHRINKAGE if robust else 1.0
    return float(np.sqrt(squares / max(freedom, 1.0) / shrinkage)), freedom


def _penalty(problem: Problem, widths: FloatArray, noise: float) -> FloatArray:
    """Return the (unknown,) curvature of the priors in units of the noise's."""
    found = np.zeros(problem.unknowns)
    for width, columns in zip(widths, problem.columns, strict=True):
        if np.isfinite(width):
            found[columns] = (noise / width) ** 2
    return found
