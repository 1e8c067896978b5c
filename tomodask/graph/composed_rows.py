"""Projections of a slab composed of planes corrected at several heights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.graph.sheared_rows import sheared_runs
from tomodask.kernels.backproject import PAD_ROWS, pad_projections
from tomodask.kernels.ctf.compose import compose_rows
from tomodask.kernels.weighting import OVERSAMPLING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tomodask.graph.ctf_planes import HeightPlanes

__all__ = ["ComposedRows"]


class ComposedRows:
    """The rows that a height of a slab is back-projected from.

    Parameters
    ----------
    planes
        Of the plan.
    stored
        Per view the rows of its planes (row, lane).
    first_lane
        v' of their first lane, A.
    view_shear
        As for :func:`~tomodask.graph.sheared_rows.sheared_runs`.
    """

    def __init__(
        self,
        planes: HeightPlanes,
        stored: Sequence[NDArray[np.float32]],
        *,
        first_lane: float,
        view_shear: NDArray[np.float64],
    ) -> None:
        self._planes, self._stored = planes, stored
        self._first_lane, self._view_shear = first_lane, view_shear
        size = OVERSAMPLING * planes.aligned.shape[1]
        self._rows = pad_projections(len(stored), size, stored[0].shape[1])
        self._data = self._rows[:, PAD_ROWS[0] : PAD_ROWS[0] + size]
        self._group = np.full(len(stored), np.iinfo(np.int64).min)

    def runs(self, height: float, count: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield (first, number, rows) of the heights that the same rows serve, voxels.

        Parameters
        ----------
        height, count
            First height and number of heights.
        """
        at = 0
        while at < count:
            group, into = self._planes.groups_at(height + at)
            for t in np.flatnonzero(group != self._group):
                self._compose(int(t), int(group[t]))
            self._group = group
            number = min(int((self._planes.steps - into).min()), count - at)
            for first, part, rows in sheared_runs(
                self._rows, self._view_shear, height + at, number
            ):
                yield at + first, part, rows
            at += number

    def _compose(self, t: int, number: int) -> None:
        """Let the rows of view position `t` be those of a group of heights."""
        groups = self._planes.groups[t]
        # The last layer of a volume goes beyond it, where nothing is kept.
        group = min(number - groups.number, len(groups.first) - 1)
        first, stop = int(groups.first[group]), int(groups.stop[group])
        start = groups.start[group] + groups.per_v * self._first_lane + groups.per_row * first
        compose_rows(
            self._stored[t],
            self._planes.strips[t],
            first,
            float(start),
            groups.per_row,
            self._data[t, first:stop],
            groups.per_v * self._planes.volume.voxel_size,
        )
