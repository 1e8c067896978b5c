"""Tracks of beads: made of detections, adjusted, mended and merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.beads.grow import complete
from tomodask.kernels.beads.local import shared_offsets
from tomodask.kernels.beads.structure import project
from tomodask.kernels.bundle.adjust import solve
from tomodask.kernels.bundle.automatic import automatic_variables
from tomodask.kernels.bundle.observations import Observations, weights_of_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.beads.detect import Detections
    from tomodask.kernels.beads.model import Model
    from tomodask.kernels.bundle.solution import Solution
    from tomodask.kernels.bundle.variables import Variables

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["Adjusted", "Tracks", "adjusted", "assigned"]

#: Squared studentised residual, in units of the noise, of a wrong measurement: chance has one such
#: in twenty thousand. And rounds of rejecting at most.
_WRONG, _REJECTIONS = 20.0, 8


@dataclass(slots=True, eq=False)
class Tracks:
    """Where landmarks were measured.

    Attributes
    ----------
    position
        (landmark, tilt, 2) pixels from the image centre; NaN where not measured.
    error
        (landmark, tilt) standard error of one coordinate, pixels.
    elongation
        (landmark,) of the beads' images, the median.
    """

    position: FloatArray
    error: FloatArray
    elongation: FloatArray

    @property
    def measured(self) -> BoolArray:
        """The (landmark, tilt) that have a position."""
        measured: BoolArray = np.isfinite(self.position[..., 0])
        return measured

    def __getitem__(self, chosen: IntArray | BoolArray) -> Tracks:
        """Return some of the landmarks."""
        return Tracks(self.position[chosen], self.error[chosen], self.elongation[chosen])

    def drop(self, wrong: BoolArray) -> None:
        """Drop (landmark, tilt) measurements."""
        self.position[wrong], self.error[wrong] = np.nan, np.nan

    def fill(self, position: FloatArray, error: FloatArray) -> None:
        """Add measurements where there are any."""
        new = np.isfinite(error)
        self.position[new], self.error[new] = position[new], error[new]

    def merge(self, points: FloatArray, distance: float) -> Tracks:
        """Return the tracks, those of points nearer than this as one: they are the same bead's."""
        kept = np.ones(len(points), bool)
        order = np.argsort(-self.measured.sum(axis=1), kind="stable")
        for rank, first in enumerate(order):
            for second in order[rank + 1 :]:
                near = np.linalg.norm(points[first] - points[second]) < distance
                if kept[first] and kept[second] and near:
                    missing = ~self.measured[first]
                    self.position[first, missing] = self.position[second, missing]
                    self.error[first, missing] = self.error[second, missing]
                    kept[second] = False
        return self[kept]


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """A solution for tracks, with tables like theirs.

    Attributes
    ----------
    solution
        Of :func:`tomodask.kernels.bundle.solve`, for the measurements that are not wrong.
    variables
        What could vary.
    residual
        (landmark, tilt, 2) prediction less measurement; NaN where not measured, or wrong.
    wrong
        (landmark, tilt) measurements that contradict the others.
    """

    solution: Solution
    variables: Variables
    residual: FloatArray
    wrong: BoolArray


def assigned(
    model: Model, detections: Sequence[Detections | None], variables: Variables | None
) -> Tracks:
    """Return the tracks of a model's detections, once nothing more changes."""
    complete(model, variables)
    error = np.full(model.index.shape, np.nan)
    elongation = np.full(model.index.shape, np.nan)
    for view, found in enumerate(detections):
        if found is not None and model.aligned[view]:
            seen = model.index[:, view] >= 0
            error[seen, view] = found.error[model.index[seen, view]]
            elongation[seen, view] = found.centres.elongation[model.index[seen, view]]
    return Tracks(model.table(), error, np.nanmedian(elongation, axis=1))


def adjusted(
    tracks: Tracks, tilt_angle: FloatArray, tilt_axis_angle: float, variables: Variables | None
) -> Adjusted:
    """Solve for tracks, without the measurements that contradict the others.

    Measurements are weighted by their errors, to which the typical one is added for what else is
    wrong, so that no single one outweighs the others. One is wrong if its studentised residual
    says so: what the others predict is far from it, by what they can know. The worst of each view
    goes first, and then all are solved for again. (Weights that fall with the residuals, as the
    solver can give, need more landmarks than there often are: of four in a view, two may lose
    their say because the other two agree.)

    Raises
    ------
    DataError
        If the tracks do not hold a solution.
    """
    wrong = np.zeros(tracks.error.shape, bool)
    weight = weights_of_errors(tracks.error)
    for _ in range(_REJECTIONS):
        landmark, view = np.nonzero(tracks.measured & ~wrong)
        observations = Observations.create(
            landmark, view, tracks.position[landmark, view], weight[landmark, view]
        )
        vary = automatic_variables(observations) if variables is None else variables
        solution = solve(
            observations,
            tilt_angle,
            tilt_axis_angle=tilt_axis_angle,
            variables=vary,
            robust=False,
        )
        residual = np.full(tracks.position.shape, np.nan)
        residual[landmark, view] = solution.residual
        predicted = project(solution.matrix, solution.shift, solution.points)
        # What neighbours share is the specimen's motion, and no mistake.
        shared = shared_offsets(predicted, residual)[landmark, view]
        product = np.sum((solution.residual + shared) * (solution.left_out + shared), axis=1)
        squared = np.zeros(wrong.shape)
        squared[landmark, view] = observations.weight * np.nan_to_num(product)
        # The median of chi-squared with two degrees of freedom is 1.386.
        limit = _WRONG * float(np.median(squared[landmark, view])) / 1.386
        new = (squared >= squared.max(axis=0)) & (squared > limit)
        if not new.any():
            break
        wrong |= new
    return Adjusted(solution, vary, residual, wrong)
