"""Levenberg-Marquardt minimisation of the weighted residuals, for given weights and priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.normal import Problem, State

    FloatArray = NDArray[np.float64]

__all__ = ["minimise"]

_FIRST_DAMPING = 1e-6
_LARGEST_DAMPING = 1e6


def minimise(
    problem: Problem,
    state: State,
    weight: FloatArray,
    penalty: FloatArray,
    *,
    steps: int = 50,
    tolerance: float = 1e-9,
) -> State:
    """Return the state of least weighted squares.

    Each trial step re-solves the points exactly, so that only the views' unknowns are damped.

    Parameters
    ----------
    problem, state
        What, and where to start.
    weight
        (view, landmark).
    penalty
        (unknown,) curvature of the priors, in units of the weighted squares.
    steps
        Most steps.
    tolerance
        Relative decrease of the cost below which the search ends.
    """

    def cost(at: State) -> float:
        squares = float(np.einsum("vl,vlc,vlc->", weight, *2 * (problem.residual(at),)))
        return squares + float(penalty @ at.unknowns**2)

    count = problem.unknowns
    damping = _FIRST_DAMPING
    state = problem.with_points(state.unknowns, state.shift, weight)
    current = cost(state)
    full = np.concatenate([penalty, np.zeros(state.shift.size)])
    for _ in range(steps):
        system, gradient = problem.normal(state, weight).reduced(penalty)
        gradient = gradient + full * np.concatenate([state.unknowns, np.zeros(state.shift.size)])
        diagonal = np.diag(system).copy()
        diagonal += 1e-12 * diagonal.max()
        while damping < _LARGEST_DAMPING:
            damped = system.copy()
            damped[np.diag_indices_from(damped)] += damping * diagonal
            try:
                factor = scipy.linalg.cho_factor(damped, lower=True, check_finite=False)
            except np.linalg.LinAlgError:  # undetermined variables: only damping holds them
                damping = max(10 * damping, _FIRST_DAMPING)
                continue
            step = -scipy.linalg.cho_solve(factor, gradient, check_finite=False)
            trial = problem.with_points(
                state.unknowns + step[:count],
                state.shift + step[count:].reshape(-1, 2),
                weight,
            )
            after = cost(trial)
            if after <= current * (1 + 1e-14):
                break
            damping = max(10 * damping, _FIRST_DAMPING)
        else:
            return state
        gained = current - after
        state, current = trial, after
        damping = max(damping / 10, 1e-14)
        if gained <= tolerance * current:
            break
    return state
