"""Groups of neighbouring views that share values or between which values are interpolated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["POWERS", "group_nodes", "group_starts", "interpolated"]


#: Part of a view's share that may reach into the next group. Like the powers in `POWERS`, it
#: was inferred: with it the groups are those in tiltalign's logs of two series.
_REACH = 1 / 16
#: Power of the cosine of the tilt that the sizes of groups go as, by parameter.
POWERS = {
    "rotation": 0.0,
    "tilt": 1.0,
    "magnification": 1.5,
    "compression": 1.5,
    "stretch": 1.5,
    "skew": 0.0,
    "x_tilt": 1.0,
}


def group_starts(tilt_angle: FloatArray, size: int, power: float) -> IntArray:
    """Return the first views of groups of neighbours, smaller at high tilt.

    Parameters
    ----------
    tilt_angle
        (view,) degrees, in order.
    size
        Number of views per group on average, were all sizes alike.
    power
        Of the cosine of the tilt, which sizes go as.

    Returns
    -------
    (group,) int64, increasing, from 0.
    """
    relative = np.maximum(np.cos(np.deg2rad(tilt_angle)), 0.1) ** power
    share = relative.mean() / (size * relative)
    count = max(1, round(float(share.sum())))
    place = np.cumsum(share) - _REACH * share
    group = np.minimum(place / share.sum() * count, count - 1).astype(np.int64)
    starts = np.unique(group, return_index=True)[1]
    return starts.astype(np.int64)


def group_nodes(tilt_angle: FloatArray, size: int, power: float) -> IntArray:
    """Return the views between which values are interpolated: the groups' first, and the last."""
    starts = group_starts(tilt_angle, size, power)
    return np.unique(np.append(starts, len(tilt_angle) - 1))


def interpolated(nodes: FloatArray, at: FloatArray) -> FloatArray:
    """Return the (at, node) weights of linear interpolation; beyond the ends the value stays."""
    order = np.argsort(nodes)
    weights = np.empty((len(at), len(nodes)))
    for column, unit in enumerate(np.eye(len(nodes))):
        weights[:, column] = np.interp(at, nodes[order], unit[order])
    return weights
