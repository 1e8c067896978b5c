"""Local motion of the specimen and the geometry of the views, solved in turn until both agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.geometry import LocalField, Projection
from tomodask.kernels.bundle import Freedom, local_motion, solve

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.kernels.bundle import (
        LocalMotion,
        MotionPrior,
        Observations,
        Solution,
        Variables,
    )

    FloatArray = NDArray[np.float64]

__all__ = ["LocalSolution", "exposed", "solve_local"]

#: Whether the kind of motion is chosen anew, for each round: what the first ones take for wrong
#: the later ones understand.
_ROUNDS = (True, False, True, False)


@dataclass(frozen=True, slots=True, eq=False)
class LocalSolution:
    """A specimen that is not rigid; lengths in the unit of the observations.

    Parameters
    ----------
    solution
        Of what would have been seen without the motion; its residuals are those that are left.
    motion
        Beside the solution.
    """

    solution: Solution
    motion: LocalMotion

    def field(self, scale: float = 1.0) -> LocalField:
        """Return the motion as a field, its lengths multiplied by `scale`."""
        motion = self.motion
        return LocalField.create(
            motion.knot_y * scale, motion.knot_x * scale, motion.shift * scale, motion.slope
        )

    def unmoved(self, observations: Observations, points: FloatArray) -> Observations:
        """Return where landmarks at these (landmark, 3) points would be seen without motion."""
        return _unmoved(observations, self.solution, self.field(), points)


def exposed(views: xr.Dataset) -> FloatArray | None:
    """Return what grows with the exposures of a tilt series, None if it was not recorded."""
    for name in ("dose", "order"):
        if name in views and np.isfinite(views[name].values).all():
            return np.asarray(views[name].values, np.float64)
    return None


def solve_local(
    observations: Observations,
    solution: Solution,
    tilt_angle: FloatArray,
    *,
    variables: Variables,
    exposed: FloatArray | None,
) -> LocalSolution | None:
    """Return a solution with local motion, None where the landmarks do not tell of any.

    Parameters
    ----------
    observations
        Where landmarks were seen.
    solution
        Of a rigid specimen.
    tilt_angle
        (tilt,) nominal angles, degrees.
    variables
        What the views may vary. A stretch or skew that only a prior holds is left to the motion,
        which knows where it started.
    exposed
        (tilt,) what grows with the exposures.
    """
    try:
        return _alternated(observations, solution, tilt_angle, _undistorted(variables), exposed)
    except DataError:
        # The rigid solution stands: what the landmarks hold is not enough for more.
        return None


def _alternated(
    observations: Observations,
    solution: Solution,
    tilt_angle: FloatArray,
    variables: Variables,
    exposed: FloatArray | None,
) -> LocalSolution | None:
    """Return the solution with local motion that solving for one and the other in turn gives."""
    axis = float(np.median(solution.rotation))
    solution = solve(observations, tilt_angle, tilt_axis_angle=axis, variables=variables)
    prior: MotionPrior | None = None
    found: LocalSolution | None = None
    for anew in _ROUNDS:
        projection = _rigid(solution)
        position = np.zeros((len(projection), len(observations), 2))
        rows = np.arange(len(observations))
        position[observations.view, rows] = observations.position
        aligned = projection.to_aligned(position)[observations.view, rows]
        weight = observations.weight * np.nan_to_num(solution.robust_weight)
        motion = local_motion(
            replace(observations, position=aligned, weight=weight),
            projection.view_matrix()[:, :2],
            solution.points,
            solution.tilt_angle,
            exposed=exposed,
            prior=None if anew else prior,
        )
        if motion is None:
            return None
        prior = motion.prior
        field = LocalSolution(solution, motion).field()
        unmoved = _unmoved(observations, solution, field, solution.points)
        solution = solve(unmoved, tilt_angle, tilt_axis_angle=axis, variables=variables)
        found = LocalSolution(solution, motion)
    return found


def _undistorted(variables: Variables) -> Variables:
    """Return variables without an estimated stretch and skew."""
    estimated = {
        name: Freedom("fixed")
        for name in ("stretch", "skew")
        if getattr(variables, name) == Freedom("estimated")
    }
    return replace(variables, **estimated)


def _rigid(solution: Solution) -> Projection:
    return Projection.from_cameras(
        solution.matrix, solution.shift, solution.tilt_angle, x_tilt=solution.x_tilt
    )


def _unmoved(
    observations: Observations, solution: Solution, field: LocalField, points: FloatArray
) -> Observations:
    rigid = _rigid(solution)
    known = np.nan_to_num(points)
    moved = replace(rigid, local=field).project(known) - rigid.project(known)
    return replace(
        observations,
        position=observations.position - moved[observations.view, observations.landmark],
    )
