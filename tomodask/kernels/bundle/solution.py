"""What a bundle adjustment found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["Solution", "predict"]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Cameras, points, and how good they are; lengths in the unit of the observations.

    Parameters
    ----------
    matrix, shift
        (view, 2, 3) and (view, 2): ``raw = matrix (x, y, z) + shift``. The origin is the mean
        of the determined points.
    rotation, tilt_angle, skew, x_tilt
        (view,) degrees, in the order of operations of :mod:`tomodask.kernels.bundle.cameras`.
    magnification, compression, stretch
        (view,) dimensionless.
    points
        (landmark, 3); NaN where not determined, or where all observations were found wrong.
    residual
        (n, 2) predictions less measurements; NaN where there is no prediction.
    left_out
        (n, 2) the same had the observation been left out, to first order.
    robust_weight
        (n,) from 0, an observation found wrong, to 1.
    solved
        (view,) whether the view's own observations decided its place; if not, its values lie
        between those of its neighbours.
    noise
        Standard deviation of a measured coordinate, with the count of unknowns allowed for.
    freedom
        Measured coordinates less unknowns that they decided.
    unknowns
        Number of values that the data decided, of views and points together.
    error
        (view,) expected root mean square distance between where points like the landmarks are
        and where the solution puts them, beyond what moving the points could undo. NaN where not
        solved.
    parameter_error
        Expected standard deviations by parameter, (view,) each, in the parameter's unit; of the
        shift under "shift", for the origin at the mean point.
    prior_width
        Estimated standard deviation over the views of each parameter of the kind "estimated" that
        moved at all, in the parameter's unit.
    warnings
        Sentences for the user; they count landmarks from 1, and views from 0.
    """

    matrix: FloatArray
    shift: FloatArray
    rotation: FloatArray
    tilt_angle: FloatArray
    magnification: FloatArray
    compression: FloatArray
    stretch: FloatArray
    skew: FloatArray
    x_tilt: FloatArray
    points: FloatArray
    residual: FloatArray
    left_out: FloatArray
    robust_weight: FloatArray
    solved: BoolArray
    noise: float
    freedom: float
    unknowns: float
    error: FloatArray
    parameter_error: dict[str, FloatArray]
    prior_width: dict[str, float]
    warnings: tuple[str, ...]

    @property
    def residual_length(self) -> FloatArray:
        """The (n,) lengths of the residuals."""
        length: FloatArray = np.linalg.norm(self.residual, axis=1)
        return length

    def points_of(self, landmark: NDArray[np.int64]) -> FloatArray:
        """Return the (n, 3) points of landmarks, NaN for those that took no part."""
        found = np.full((len(landmark), 3), np.nan)
        inside = landmark < len(self.points)
        found[inside] = self.points[landmark[inside]]
        return found

    @property
    def mean_residual(self) -> float:
        """Mean length of the residuals, by their robust weights."""
        return _mean_length(self.residual, self.robust_weight)

    @property
    def residual_deviation(self) -> float:
        """Standard deviation of the lengths of the residuals, by their robust weights."""
        length = self.residual_length
        used = np.isfinite(length) & (self.robust_weight > 0)
        weight = self.robust_weight[used]
        squares = weight @ (length[used] - self.mean_residual) ** 2
        return float(np.sqrt(squares / max(weight.sum() - 1, 1)))

    @property
    def leave_out_error(self) -> float:
        """Mean length of the leave-out residuals, by their robust weights."""
        return _mean_length(self.left_out, self.robust_weight)


def _mean_length(residual: FloatArray, weight: FloatArray) -> float:
    length = np.linalg.norm(residual, axis=1)
    used = np.isfinite(length) & (weight > 0)
    if not used.any():
        return float("nan")
    return float(np.average(length[used], weights=weight[used]))


def predict(solution: Solution, landmark: int, view: int) -> FloatArray:
    """Return the (2,) raw position at which a landmark should be seen; NaN if not determined."""
    found: FloatArray = solution.matrix[view] @ solution.points[landmark] + solution.shift[view]
    return found
