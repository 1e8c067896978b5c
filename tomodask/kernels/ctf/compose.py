"""Rows of a view composed of planes at several heights, each row at a height of its own."""

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
) -> None:
    """Interpolate each row linearly between the two planes that it lies between.

    Parameters
    ----------
    planes
        (row, lane) float32: the rows of each plane, one plane after the other.
    strips
        (plane, 2) first row of each plane and the one after its last.
    first
        Row of the first of `out`.
    start, step
        Where that row lies, in planes from the lowest, and by how much more the next. What lies
        beyond the outermost planes is taken from them.
    out
        (row, lane) float32, written; zero where a plane that is needed lacks the row.
    """
    count = len(strips)
    begin = np.zeros(count, np.int64)
    for k in range(1, count):
        begin[k] = begin[k - 1] + strips[k - 1, 1] - strips[k - 1, 0]
    lanes = out.shape[1]
    for i in range(len(out)):
        at = min(max(start + i * step, 0.0), float(count - 1))
        below = min(int(at), max(count - 2, 0))
        above = min(below + 1, count - 1)
        row = first + i
        if (
            row < strips[below, 0]
            or row >= strips[below, 1]
            or row < strips[above, 0]
            or row >= strips[above, 1]
        ):
            out[i] = 0
            continue
        share = np.float32(at - below)
        rest = np.float32(1) - share
        low = planes[begin[below] + row - strips[below, 0]]
        high = planes[begin[above] + row - strips[above, 0]]
        target = out[i]
        for lane in range(lanes):
            target[lane] = rest * low[lane] + share * high[lane]
