"""Groups of neighbouring views that share values or between which values are interpolated."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["group_nodes", "interpolated"]


def group_nodes(tilt_angle: FloatArray, size: int, fixed: int | None = None) -> IntArray:
    """Return the views at which interpolated values have nodes.

    Intervals are shorter at high tilt, where a given change does more: their lengths go as the
    cosine of the tilt, with a mean of `size` views.

    Parameters
    ----------
    tilt_angle
        (view,) degrees, in order.
    size
        Mean number of views per interval.
    fixed
        A view that must be a node.

    Returns
    -------
    (node,) int64, increasing, the first and the last view among them.
    """
    count = len(tilt_angle)
    if count < 3:
        return np.arange(count)
    cosine = np.maximum(np.cos(np.deg2rad(tilt_angle)), 0.1)
    length = np.maximum(size * cosine * count / cosine.sum(), 1.0)
    # Position in units of intervals: the trapezoid rule along the views.
    rate = 1 / length
    place = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    corners = [0, count - 1] if fixed is None else sorted({0, fixed, count - 1})
    nodes: list[int] = [0]
    for start, end in pairwise(corners):
        intervals = max(1, round(place[end] - place[start]))
        wanted = np.linspace(place[start], place[end], intervals + 1)[1:]
        nodes += [int(np.argmin(np.abs(place - one))) for one in wanted]
    return np.unique(np.array(nodes, np.int64))


def interpolated(nodes: FloatArray, at: FloatArray) -> FloatArray:
    """Return the (at, node) weights of linear interpolation; beyond the ends the value stays."""
    order = np.argsort(nodes)
    weights = np.empty((len(at), len(nodes)))
    for column, unit in enumerate(np.eye(len(nodes))):
        weights[:, column] = np.interp(at, nodes[order], unit[order])
    return weights
