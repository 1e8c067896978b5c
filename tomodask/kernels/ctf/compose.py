"""Rows of a view composed of planes at several heights, each point at a height of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compose_rows"]


@njit
def compose_rows(
    planes: NDArray[np.float32],
    strips: NDArray[np.int64],
    first: int,
    start: float,
    step: float,
    out: NDArray[np.float32],
    lane_step: float = 0.0,
) -> None:
    """Interpolate each point of a row linearly between the two planes that it lies between.

    Parameters
    ----------
    planes
        (row, lane) float32: the rows of each plane, one plane after the other.
    strips
        (plane, 2) first row of each plane and the one after its last.
    first
        Row of the first of `out`.
    start, step
        Where lane 0 of that row lies, in planes from the lowest, and by how much more the next row.
        What lies beyond the outermost planes is taken from them.
    out
        (row, lane) float32, written; zero where a plane that is needed lacks the row.
    lane_step
        By how much more the next lane: with an x-tilt, not zero.
    """
    count = len(strips)
    begin = np.zeros(count, np.int64)
    for k in range(1, count):
        begin[k] = begin[k - 1] + strips[k - 1, 1] - strips[k - 1, 0]
    lanes = out.shape[1]
    if count == 1:
        lane_step = 0.0
    slope = np.float32(lane_step)
    for i in range(len(out)):
        row = first + i
        lane = 0
        while lane < lanes:
            at = start + i * step + lane * lane_step
            inside = min(max(at, 0.0), float(count - 1))
            below = min(int(inside), max(count - 2, 0))
            above = min(below + 1, count - 1)
            stop = lanes  # of the lanes between the same planes
            if lane_step > 0 and above < count - 1:
                stop = min(lanes, max(lane + 1, int(np.ceil(lane + (above - at) / lane_step))))
            elif lane_step < 0 and below > 0:
                stop = min(lanes, max(lane + 1, int(np.ceil(lane + (below - at) / lane_step))))
            if (
                row < strips[below, 0]
                or row >= strips[below, 1]
                or row < strips[above, 0]
                or row >= strips[above, 1]
            ):
                out[i, lane:stop] = 0
                lane = stop
                continue
            low = planes[begin[below] + row - strips[below, 0], lane:stop]
            high = planes[begin[above] + row - strips[above, 0], lane:stop]
            target = out[i, lane:stop]
            # Not `inside`: below the lowest plane the way to it counts.
            at_first = np.float32(inside - below if lane_step == 0 else at - below)
            for j in range(stop - lane):
                share = min(max(at_first + j * slope, np.float32(0)), np.float32(1))
                target[j] = (np.float32(1) - share) * low[j] + share * high[j]
            lane = stop
