"""Projections of a slab that follow the local field from height to height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.backproject import PAD_ROWS, aligned_zeros, pad_projections
from tomodask.kernels.local_offsets import row_offsets
from tomodask.kernels.local_shift import GUARD_ROWS, NODE_LANES, NODE_ROWS, displace_rows
from tomodask.kernels.weighting import OVERSAMPLING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.graph.local_correction import LocalCorrection

__all__ = ["FollowedRows", "guarded_rows"]

#: Heights are whole or half voxels from the specimen's origin: groups of them begin in between.
_BETWEEN = 0.25


def guarded_rows(views: int, size: int, lanes: int) -> NDArray[np.float32]:
    """Return zeroed room for projections of `size` rows: fill ``[:, GUARD_ROWS:-GUARD_ROWS]``."""
    return aligned_zeros((views, size + 2 * GUARD_ROWS, lanes))


class FollowedRows:
    """The rows that a height of a slab is back-projected from.

    Every view is displaced anew whenever its offsets have changed: its heights go in groups that
    begin at the same heights wherever a volume is cut.

    Parameters
    ----------
    projections
        From :func:`guarded_rows`, filled.
    correction
        Of the field.
    first_row
        u of the first row of the aligned images, voxels.
    first_lane
        v of the first lane of `projections`, voxels.
    margin
        Lanes of `projections` before the first that is needed.
    """

    def __init__(
        self,
        projections: NDArray[np.float32],
        correction: LocalCorrection,
        *,
        first_row: float,
        first_lane: float,
        margin: int,
    ) -> None:
        views, rows, lanes = projections.shape
        rows -= 2 * GUARD_ROWS
        self._projections, self._correction = projections, correction
        self._nodes = np.arange((rows - 1) // NODE_ROWS + 2)
        self._u = first_row + self._nodes * (NODE_ROWS / OVERSAMPLING)
        ends = (0, lanes), (margin, lanes - margin)
        self._v = [
            first_lane + np.arange(low, high + 1, NODE_LANES, dtype=np.float64)
            for low, high in ends
        ]
        sheared = abs(correction.lane_shear) * correction.half_thickness
        self._table = correction.table(first_lane - sheared, first_lane + lanes + sheared)
        self._moving = np.flatnonzero(correction.steps)
        self._steps, self._phases = correction.steps[self._moving], correction.phases[self._moving]
        self._group = np.full(len(self._moving), np.iinfo(np.int64).min)
        self._rows = pad_projections(views, rows, lanes - 2 * margin)
        self._data = self._rows[:, PAD_ROWS[0] : PAD_ROWS[0] + rows]
        still = correction.steps == 0
        self._data[still] = projections[still, GUARD_ROWS:-GUARD_ROWS, margin : lanes - margin]

    def runs(self, height: float, count: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield (first, number, rows) of the heights that the same rows serve, voxels.

        Parameters
        ----------
        height, count
            First height and number of heights.
        """
        at = 0
        while at < count:
            whole = int(np.floor(height + at + _BETWEEN))
            group, into = np.divmod(whole + self._phases, self._steps)
            for moving in np.flatnonzero(group != self._group):
                first = group[moving] * self._steps[moving] - self._phases[moving]
                middle = first + (self._steps[moving] - 1) / 2 + (height + at - whole)
                self._displace(int(self._moving[moving]), middle)
            self._group = group
            number = min(int((self._steps - into).min()), count - at)
            yield at, number, self._rows
            at += number

    def _displace(self, t: int, height: float) -> None:
        """Let the rows of view position `t` be those of a height."""
        table = self._table
        # One node more than the volume needs on either side, which the guard rows do not reach.
        needed = np.abs(self._u) <= self._correction.shadow(t) + 2 * NODE_ROWS / OVERSAMPLING
        nodes = self._nodes[needed]
        along_u, along_v = row_offsets(
            table.values[t],
            table.origin,
            table.spacing,
            self._correction.view(t),
            self._u[needed],
            (self._v[0], self._v[1]),
            height,
        )
        rows = self._data[t, nodes[0] * NODE_ROWS : nodes[-1] * NODE_ROWS]
        first = int(nodes[0]) * NODE_ROWS
        source = self._projections[t, first : first + len(rows) + 2 * GUARD_ROWS]
        displace_rows(source, along_u * OVERSAMPLING, along_v, rows)
