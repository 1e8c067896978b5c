"""Observations as a dense (view, landmark) table of those views and landmarks that can be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tomodask.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.observations import Observations

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["Table"]

#: Fewest landmarks, views of a landmark, and range of tilts, degrees, without which nothing is
#: determined.
_LANDMARKS, _VIEWS, _TILT_RANGE = 3, 3, 10.0
#: Least total weight of a view's observations; below it the view rides along without a say.
_LEAST = 1.0
_RIDES = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Build it with :meth:`create`.

    Parameters
    ----------
    views, landmarks
        Indices of the rows and the columns; views in the order of tilt.
    observed
        All views with observations, of those too that cannot be used.
    rows, columns
        (n,) place of each observation in the table, -1 where it has none.
    position
        (view, landmark, 2).
    weight
        (view, landmark) prior weights, zero where there is no observation.
    spread
        Root mean square distance of observations from the mean of their view.
    """

    views: IntArray
    landmarks: IntArray
    observed: IntArray
    rows: IntArray
    columns: IntArray
    position: FloatArray
    weight: FloatArray
    spread: float

    @classmethod
    def create(cls, observations: Observations, tilt_angle: FloatArray) -> Self:
        """Return the table.

        Raises
        ------
        DataError
            If too little is left of the observations, or they fall into unconnected pieces.
        """
        if not np.isfinite(tilt_angle).all():
            raise DataError("a tilt angle is not a finite number; give all of them in degrees")
        if len(observations) and observations.view.max() >= len(tilt_angle):
            raise DataError(
                f"an observation is of view {observations.view.max()}, but there are "
                f"{len(tilt_angle)} tilt angles"
            )
        usable = observations.weight > 0
        for _ in range(2):  # a landmark left out may take its view with it
            times = np.bincount(observations.landmark[usable], minlength=1)
            usable &= times[np.minimum(observations.landmark, len(times) - 1)] >= _VIEWS
        views = np.unique(observations.view[usable])
        landmarks = np.unique(observations.landmark[usable])
        tilts = tilt_angle[views]
        if len(landmarks) < _LANDMARKS or len(views) < _VIEWS or np.ptp(tilts) < _TILT_RANGE:
            span = np.ptp(tilts) if len(tilts) else 0.0
            raise DataError(
                f"{len(landmarks)} landmarks seen in {_VIEWS} views or more, {len(views)} views "
                f"with such landmarks, over {span:.1f} degrees of tilt: an alignment needs at "
                f"least {_LANDMARKS}, {_VIEWS} and {_TILT_RANGE:g} degrees; track more landmarks"
            )
        views = views[np.argsort(tilts, kind="stable")]
        to_row = np.full(len(tilt_angle), -1)
        to_row[views] = np.arange(len(views))
        to_column = np.full(int(observations.landmark.max()) + 1, -1)
        to_column[landmarks] = np.arange(len(landmarks))
        rows = np.where(usable, to_row[observations.view], -1)
        columns = np.where(usable, to_column[observations.landmark], -1)
        place = rows[usable], columns[usable]
        _check_connected(*place, views, len(landmarks))
        position = np.zeros((len(views), len(landmarks), 2))
        weight = np.zeros((len(views), len(landmarks)))
        position[place] = observations.position[usable]
        weight[place] = observations.weight[usable]
        seen = weight > 0
        middle = position.sum(axis=1) / seen.sum(axis=1)[:, None]
        apart = (position - middle[:, None])[seen]
        spread = float(np.sqrt((apart**2).sum(axis=1).mean()))
        if not spread > 0:
            raise DataError("all landmarks lie at one place; track landmarks apart")
        observed = np.unique(observations.view)
        return cls(views, landmarks, observed, rows, columns, position, weight, spread)

    @property
    def seen(self) -> BoolArray:
        """(view, landmark) where there is an observation."""
        return self.weight > 0

    def per_observation(self, values: FloatArray) -> FloatArray:
        """Return (n, ...) values of the observations; NaN for those outside the table."""
        found = np.full((len(self.rows), *values.shape[2:]), np.nan)
        inside = self.rows >= 0
        found[inside] = values[self.rows[inside], self.columns[inside]]
        return found

    def enough(self, count: int, of: int) -> BoolArray:
        """Return (of,) which of all views hold at least `count` landmarks."""
        found = np.zeros(of, bool)
        found[self.views] = self.seen.sum(axis=1) >= count
        return found

    def guarded(self, robust: FloatArray) -> FloatArray:
        """Return robust weights such that no view is without any.

        A view of which all is found wrong keeps so little weight that it has no influence, and
        none of its observations decides alone.
        """
        lost = robust.sum(axis=1) < _LEAST
        if lost.any():
            robust = robust.copy()
            robust[lost] = np.where(self.seen[lost], _RIDES, 0.0)
        return robust


def _check_connected(rows: IntArray, columns: IntArray, views: IntArray, landmarks: int) -> None:
    """Refuse views that no chain of landmarks connects."""
    size = len(views) + landmarks
    links = coo_array((np.ones(len(rows)), (rows, columns + len(views))), shape=(size, size))
    pieces, label = connected_components(links, directed=False)
    if pieces > 1:
        parts = [np.sort(views[label[: len(views)] == one]) for one in range(pieces)]
        text = "; ".join(f"{part.min()} to {part.max()} ({len(part)})" for part in parts)
        raise DataError(
            f"the views fall into {pieces} groups that share no landmark: {text}; track landmarks "
            "across the gap, or align the groups apart"
        )
