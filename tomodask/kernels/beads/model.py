"""What is known so far of a series: its views' poses, and which detection is which landmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.beads.link import assign
from tomodask.kernels.beads.structure import project, triangulate, view_matrices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["Model"]

#: Deviations of a detection from its prediction, pixels, between which it is measured.
_FINEST, _COARSEST = 1.0, 2.5


@dataclass(slots=True, eq=False)
class Model:
    """Poses of views and the landmarks that their detections are.

    Attributes
    ----------
    detected
        Per view (n, 2) positions from the image centre, pixels.
    shape
        (y, x) of the images.
    tilt_angle
        (tilt,) degrees.
    tilt_axis_angle
        Degrees, of the views not aligned yet.
    matrix, shift
        (tilt, 2, 3) and (tilt, 2) of the views.
    aligned
        (tilt,) whether a view's pose is known.
    index
        (landmark, tilt) of detections; -1 where a landmark has none.
    depth
        Prior deviation of z, pixels.
    coarse_shift
        (tilt, 2) of the views, as far as known; zeros otherwise.
    drift
        Scale of the displacement of neighbouring views beyond that, pixels.
    turn
        Deviation of a view's rotation and tilt from the model, radians.
    deviation
        Of a detection from its prediction, but for that, pixels.
    """

    detected: Sequence[FloatArray]
    shape: tuple[int, int]
    tilt_angle: FloatArray
    tilt_axis_angle: float
    matrix: FloatArray
    shift: FloatArray
    aligned: BoolArray
    index: IntArray
    depth: float
    coarse_shift: FloatArray
    drift: float
    turn: float = float(np.radians(0.3))
    deviation: float = 1.0

    @classmethod
    def start(
        cls,
        detected: Sequence[FloatArray],
        shape: tuple[int, int],
        tilt_angle: FloatArray,
        tilt_axis_angle: float,
        view: int,
        *,
        depth: float,
        coarse_shift: FloatArray,
        drift: float,
    ) -> Model:
        """Return the model in which each detection of one view is a landmark."""
        count = len(tilt_angle)
        aligned = np.zeros(count, bool)
        aligned[view] = True
        index = np.full((len(detected[view]), count), -1)
        index[:, view] = np.arange(len(detected[view]))
        return cls(
            detected=detected,
            shape=shape,
            tilt_angle=tilt_angle,
            tilt_axis_angle=tilt_axis_angle,
            matrix=view_matrices(tilt_angle, tilt_axis_angle),
            shift=np.zeros((count, 2)),
            aligned=aligned,
            index=index,
            depth=depth,
            coarse_shift=coarse_shift,
            drift=drift,
        )

    def table(self) -> FloatArray:
        """Return the (landmark, tilt, 2) positions, NaN where there are none."""
        table = np.full((*self.index.shape, 2), np.nan)
        for view in np.flatnonzero(self.aligned).tolist():
            seen = self.index[:, view] >= 0
            table[seen, view] = self.detected[view][self.index[seen, view]]
        return table

    def points(self) -> tuple[FloatArray, FloatArray]:
        """Return the landmarks' points and covariances."""
        return triangulate(
            self.table(), self.matrix, self.shift, deviation=self.deviation, depth=self.depth
        )

    def predict(
        self, view: int, points: FloatArray, covariance: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return where points are seen in a view, (n, 2), and the (n, 2, 2) covariances of that."""
        plane = points @ self.matrix[view].T
        spread = self.matrix[view] @ covariance @ self.matrix[view].T
        radius = np.linalg.norm(plane, axis=1)
        spread += (self.deviation**2 + (self.turn * radius) ** 2)[:, None, None] * np.eye(2)
        return plane + self.shift[view], spread

    def visible(self) -> BoolArray:
        """Return which (landmark, tilt) lie in the images of aligned views."""
        points, _ = self.points()
        half = (np.array(self.shape[::-1]) - 1) / 2
        where = project(self.matrix, self.shift, points)
        return np.asarray((np.abs(where) <= half).all(axis=2) & self.aligned)

    def free(self, view: int) -> IntArray:
        """Return the detections of a view that are no landmark's."""
        taken = self.index[:, view]
        return np.setdiff1d(np.arange(len(self.detected[view])), taken[taken >= 0])

    def measure_deviation(self) -> None:
        """Set the deviation by what the landmarks seen in most views show."""
        points, _ = self.points()
        residual = project(self.matrix, self.shift, points) - self.table()
        often = np.sum(self.index >= 0, axis=1) >= min(5, self.aligned.sum())
        if often.any():
            # Three halves, for the points were fitted to these very residuals.
            spread = 1.5 * 1.4826 * float(np.nanmedian(np.abs(residual[often])))
            self.deviation = float(np.clip(spread, _FINEST, _COARSEST))

    def reassign(self, view: int) -> None:
        """Assign a view's detections anew, each landmark predicted by its other views."""
        old = self.index[:, view].copy()
        self.index[:, view] = -1
        points, covariance = self.points()
        alone = ~np.isfinite(points[:, 0])
        known = np.flatnonzero(~alone)
        predicted, spread = self.predict(view, points[known], covariance[known])
        rows, columns, _ = assign(predicted, spread, self.detected[view])
        self.index[known[rows], view] = columns
        # A landmark of no other view keeps what it has.
        alone &= (old >= 0) & ~np.isin(old, columns)
        self.index[alone, view] = old[alone]

    def add(self, index: IntArray) -> None:
        """Add landmarks by their (n, tilt) detections."""
        self.index = np.concatenate([self.index, index])

    def keep(self, kept: BoolArray) -> None:
        """Keep these landmarks only."""
        self.index = self.index[kept]
