"""What a solution knows of its own errors: noise, covariance, leverage and leave-out residuals.

An observation pulls the model towards itself, so that residuals are smaller than errors. Its
leverage, a block of the hat matrix, tells by how much, and with it what the residual would be had
the observation been left out, to first order without solving again.

What this cannot see: errors that a landmark's observations share, such as a track that drifts
along with the view or a point of another bead, and whatever moves where no landmark is.

References
----------
.. [1] Cook, R. D. and Weisberg, S., Residuals and Influence in Regression, Chapman and Hall 1982.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from tomodask.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.normal import Normal, Problem

    FloatArray = NDArray[np.float64]

__all__ = ["Leverage", "covariance", "leverage"]


@dataclass(frozen=True, slots=True, eq=False)
class Leverage:
    """What the observations know, in units of the noise's variance where it is one.

    Parameters
    ----------
    left_out
        (view, landmark, 2) residuals had the observation been left out; NaN where the others do
        not predict it.
    camera_variance
        (view, landmark) variance of where a known point is seen, summed over both axes, due to
        the views' errors alone and beyond what moving the point could undo: free of the gauge.
    """

    left_out: FloatArray
    camera_variance: FloatArray


def covariance(equations: Normal, penalty: FloatArray) -> FloatArray:
    """Return the (unknown, unknown) covariance of the views' unknowns for noise of variance one.

    The origin is fixed: of all ways to move it, the one that moves the shifts least.

    Raises
    ------
    DataError
        If the equations are singular.
    """
    system, _ = equations.reduced(penalty)
    scale = 1 / np.sqrt(np.diag(system))
    try:
        factor = scipy.linalg.cholesky(system * scale * scale[:, None], lower=True)
    except np.linalg.LinAlgError as error:
        raise DataError(
            "the observations that are left do not determine the variables: free less, or track "
            "more landmarks"
        ) from error
    half = scipy.linalg.solve_triangular(factor, np.diag(scale), lower=True)
    found: FloatArray = half.T @ half
    return found


def leverage(
    problem: Problem, equations: Normal, known: FloatArray, weight: FloatArray
) -> Leverage:
    """Return the leverage of all observations.

    Parameters
    ----------
    problem, equations
        The problem and its normal equations at the solution.
    known
        (unknown, unknown) covariance for noise of variance one.
    weight
        (view, landmark) weights with which it was solved.
    """
    count, active = problem.unknowns, len(problem.parameters)
    views, landmarks, _ = problem.position.shape
    inverse = np.linalg.inv(equations.blocks)
    # (landmark, 3, unknown): how each point follows the views' unknowns.
    follow = np.matmul(inverse, equations.coupling.reshape(-1, landmarks, 3).transpose(1, 2, 0))
    left_out = np.full((views, landmarks, 2), np.nan)
    variance = np.full((views, landmarks), np.nan)
    for view in range(views):
        chosen = np.flatnonzero(weight[view] > 0)
        camera = equations.matrix[view]
        effect = -np.matmul(camera, follow[chosen])  # (landmark, 2, unknown)
        slopes = equations.jacobian[view, :active, chosen]  # (landmark, parameter, 2)
        if active:
            effect[:, :, :count] += slopes.transpose(0, 2, 1) @ problem.effect[view]
        effect[:, :, count + 2 * view : count + 2 * view + 2] += np.eye(2)
        carried = (effect.reshape(-1, len(known)) @ known).reshape(effect.shape)
        cameras = carried @ effect.transpose(0, 2, 1)
        variance[view, chosen] = np.trace(cameras, axis1=1, axis2=2)
        hat = cameras + camera @ inverse[chosen] @ camera.T
        free = np.eye(2) - weight[view, chosen, None, None] * hat
        known_well = np.linalg.eigvalsh((free + free.transpose(0, 2, 1)) / 2)[:, 0] > 1e-6
        chosen, free = chosen[known_well], free[known_well]
        left_out[view, chosen] = np.linalg.solve(
            free, equations.residual[view, chosen][:, :, None]
        )[:, :, 0]
    return Leverage(left_out, variance)
