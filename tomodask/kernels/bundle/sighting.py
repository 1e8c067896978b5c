"""What single landmarks say of a motion: the data of its estimate, one landmark at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.observations import Observations

    FloatArray = NDArray[np.float64]

__all__ = ["PARTS", "Sighting", "sightings"]

#: Parts of the views of a landmark that are left out in turn.
PARTS = 4
#: Observations of a landmark without which it says nothing.
_VIEWS = 8


def sightings(
    observations: Observations, camera: FloatArray, points: FloatArray, tilt_angle: FloatArray
) -> list[Sighting]:
    """Return what each landmark says that has a point and was seen often enough.

    Parameters
    ----------
    observations
        Positions in the aligned images, and weights.
    camera
        (view, 2, 3) aligned cameras.
    points
        (landmark, 3), NaN where not known.
    tilt_angle
        (view,) degrees.
    """
    located = np.isfinite(points.sum(axis=1))
    known = located[observations.landmark] & (observations.weight > 0)
    found = []
    for landmark in np.unique(observations.landmark[known]):
        rows = np.flatnonzero(known & (observations.landmark == landmark))
        if len(rows) < _VIEWS:
            continue
        rows = rows[np.argsort(tilt_angle[observations.view[rows]], kind="stable")]
        view, root = observations.view[rows], np.sqrt(observations.weight[rows])
        point = points[landmark]
        residual = (observations.position[rows] - camera[view] @ point) * root[:, None]
        cameras = camera[view] * root[:, None, None]
        found.append(Sighting.create(point, view, cameras, residual, root, len(camera)))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What a landmark says of the displacements of its views, its own place being free.

    Parameters
    ----------
    point
        (3,) where the rigid solution has it.
    view
        (n,) in the order of tilt.
    camera, residual
        (n, 2, 3) and (n, 2), measurement less prediction, times the roots of the weights.
    root
        (n,) of the weights.
    square
        (unknown, unknown) normal matrix: of the displacement vectors (view, 3) of its place, and
        of the shifts (view, 2).
    pull
        (unknown,) right-hand side.
    total
        Sum of squares of the residuals that are left.
    """

    point: FloatArray
    view: NDArray[np.int64]
    camera: FloatArray
    residual: FloatArray
    root: FloatArray
    square: FloatArray
    pull: FloatArray
    total: float

    @classmethod
    def create(
        cls,
        point: FloatArray,
        view: NDArray[np.int64],
        camera: FloatArray,
        residual: FloatArray,
        root: FloatArray,
        count: int,
    ) -> Sighting:
        """Return what the observations of a landmark say; `count` is the number of all views."""
        seen = np.arange(len(view))
        design = np.zeros((len(view), 2, 5 * count))
        for axis in range(3):
            design[seen, :, 3 * view + axis] = camera[:, :, axis]
        for axis in range(2):
            design[seen, axis, 3 * count + 2 * view + axis] = root
        own = np.linalg.svd(camera.reshape(-1, 3), full_matrices=False)[0]
        free = design.reshape(2 * len(view), -1)
        free = free - own @ (own.T @ free)
        left = residual.reshape(-1) - own @ (own.T @ residual.reshape(-1))
        total = float(left @ left)
        return cls(point, view, camera, residual, root, free.T @ free, free.T @ left, total)

    @property
    def freedom(self) -> int:
        """Coordinates less the place's three."""
        return 2 * len(self.view) - 3

    def _part(self, fold: int) -> NDArray[np.bool_]:
        part = np.arange(len(self.view)) * PARTS // len(self.view)
        chosen: NDArray[np.bool_] = np.equal(part, fold % PARTS)
        return chosen

    def without(self, fold: int) -> Sighting:
        """Return the landmark as if it had not been seen in one part of the views."""
        kept = ~self._part(fold)
        return Sighting.create(
            self.point,
            self.view[kept],
            self.camera[kept],
            self.residual[kept],
            self.root[kept],
            self.square.shape[0] // 5,
        )

    def missed(self, fold: int, moved: FloatArray, shift: FloatArray) -> float:
        """Return the sum of squares in that part, predicted from the others.

        Parameters
        ----------
        fold
            Which part.
        moved, shift
            (view, 3) displacements of its place and (view, 2) shifts of the images.
        """
        left = self.residual - np.einsum("vij,vj->vi", self.camera, moved[self.view])
        left -= self.root[:, None] * shift[self.view]
        out = self._part(fold)
        known = self.camera[~out].reshape(-1, 3)
        point = np.linalg.lstsq(known, left[~out].reshape(-1), rcond=None)[0]
        return float(np.sum((left[out] - self.camera[out] @ point) ** 2))
