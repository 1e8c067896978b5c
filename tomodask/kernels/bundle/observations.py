"""Where landmarks were seen: the measurements of a bundle adjustment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from tomodask.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Observations", "weights_of_errors"]


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Positions of landmarks in the raw images; build it with :meth:`create`.

    Parameters
    ----------
    landmark, view
        (n,) int64 indices, from 0; a pair occurs once at most.
    position
        (n, 2) float64 raw (x, y) from the image centre, y up, in the caller's unit of length.
    weight
        (n,) float64 prior weights: inverse variances relative to that of a plain observation.
    """

    landmark: IntArray
    view: IntArray
    position: FloatArray
    weight: FloatArray

    @classmethod
    def create(
        cls,
        landmark: ArrayLike,
        view: ArrayLike,
        position: ArrayLike,
        weight: ArrayLike = 1.0,
    ) -> Self:
        """Return checked observations; `weight` is broadcast.

        Raises
        ------
        DataError
            If shapes do not fit, a value is not finite, an index or weight is negative, or a
            landmark has two positions in one view.
        """
        landmarks = np.atleast_1d(np.asarray(landmark)).astype(np.int64)
        views = np.atleast_1d(np.asarray(view)).astype(np.int64)
        positions = np.asarray(position, np.float64).reshape(-1, 2)
        count = len(landmarks)
        if views.shape != (count,) or len(positions) != count:
            raise DataError(
                f"{count} landmark indices, {len(views)} view indices and {len(positions)} "
                "positions: observations need as many of each"
            )
        weights = np.array(np.broadcast_to(np.asarray(weight, np.float64), (count,)))
        bad = np.flatnonzero(
            ~np.isfinite(positions).all(axis=1)
            | ~np.isfinite(weights)
            | (weights < 0)
            | (landmarks < 0)
            | (views < 0)
        )
        if len(bad):
            one = bad[0]
            raise DataError(
                f"observation {one} (landmark {landmarks[one]}, view {views[one]}) has position "
                f"{positions[one]} and weight {weights[one]}: leave it out"
            )
        if count:
            key = landmarks * (views.max() + 1) + views
            _, first, times = np.unique(key, return_index=True, return_counts=True)
            if times.max() > 1:
                one = first[int(np.argmax(times))]
                raise DataError(
                    f"landmark {landmarks[one]} has {times.max()} positions in view {views[one]}; "
                    "keep one"
                )
        return cls(landmarks, views, positions, weights)

    def __len__(self) -> int:
        return len(self.landmark)

    def __getitem__(self, chosen: slice | NDArray[np.generic]) -> Self:
        """Return some of the observations; indices keep their meaning."""
        return type(self)(
            self.landmark[chosen], self.view[chosen], self.position[chosen], self.weight[chosen]
        )


def weights_of_errors(error: FloatArray) -> FloatArray:
    """Return prior weights for standard errors of measurements.

    To each variance the typical one is added for what else is wrong, so that no single measurement
    outweighs the others. What has no error (NaN) counts as a typical one.
    """
    variance = error**2
    typical = float(np.nanmedian(variance)) if np.isfinite(variance).any() else 1.0
    if not typical > 0:
        return np.ones_like(variance)
    relative: FloatArray = 2 / (1 + np.where(np.isfinite(variance), variance, typical) / typical)
    return relative
