"""Landmarks among the detections that are none yet, once the views' poses are known.

A detection leaves only its point's height open. Each height predicts where all other views show
the point; the one that meets most detections there is that of a landmark, if it meets so many that
chance would hardly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtrc

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.beads.model import Model

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["discover"]

#: Heights that are tried reach so many prior deviations.
_REACH = 2.5
#: Landmarks that chance may make in all.
_CHANCE = 0.01
#: Part of the views that should show a landmark in which it must be found.
_FOUND = 0.25


def discover(model: Model, *, tolerance: float) -> IntArray:
    """Return the (n, tilt) detections of landmarks that the model does not have.

    Parameters
    ----------
    model
        With poses of several views.
    tolerance
        Distance of a detection from its prediction, pixels.
    """
    views = np.flatnonzero(model.aligned)
    views = views[np.argsort(np.abs(model.tilt_angle[views]), kind="stable")]
    free = [model.free(int(v)) for v in views]
    position = np.concatenate(
        [model.detected[v][f] for v, f in zip(views.tolist(), free, strict=True)]
    )
    of_view = np.repeat(np.arange(len(views)), [len(f) for f in free])
    first = np.searchsorted(of_view, np.arange(len(views) + 1))
    sines = np.abs(np.sin(np.radians(model.tilt_angle[views])))
    reach = _REACH * model.depth
    heights = np.arange(-reach, reach + 1, max(tolerance / max(sines.max(), 0.1), reach / 200))

    by_chance = np.pi * tolerance**2 * len(position) / len(views) / np.prod(model.shape)
    trials = max(len(position) * len(heights), 1)
    # One view has the detection itself; the others must have this many.
    # The least number of other views that chance gives in fewer than so many trials.
    exceeded = bdtrc(np.arange(len(views)), len(views) - 1, min(by_chance, 1.0))
    others = int(np.argmax(exceeded <= _CHANCE / trials)) + 1
    enough = max(3, 1 + int(others))
    half = (np.array(model.shape[::-1], np.float64) - 1) / 2
    matrix, shift = np.ascontiguousarray(model.matrix[views]), model.shift[views]
    used = np.zeros(len(position), np.bool_)
    found = []
    for seed in range(len(position)):
        if used[seed] or len(views) - of_view[seed] < enough:
            continue
        here = of_view[seed]
        ahead = position[seed] - shift[here]
        plane = np.linalg.solve(matrix[here, :, :2], ahead[:, None] - matrix[here, :, 2:] * heights)
        points = np.concatenate([plane.T, heights[:, None]], axis=1)
        hits = _best_hits(points, matrix, shift, position, first, used, half, tolerance, _FOUND)
        hit = hits[hits >= 0]
        if len(hit) < enough:
            continue
        used[hit] = True
        track = np.full(len(model.tilt_angle), -1)
        for one in hit:
            rank = of_view[one]
            track[views[rank]] = free[rank][one - first[rank]]
        found.append(track)
    return np.array(found, np.int64).reshape(-1, len(model.tilt_angle))


@njit
def _best_hits(
    points: FloatArray,
    matrix: FloatArray,
    shift: FloatArray,
    position: FloatArray,
    first: IntArray,
    used: BoolArray,
    half: FloatArray,
    tolerance: float,
    part: float,
) -> IntArray:
    """Return each view's nearest detection, -1 for none, to the point that has most of them."""
    views = len(matrix)
    best = np.full(views, -1)
    most = 0
    hits = np.empty(views, np.int64)
    for point in range(len(points)):
        count, visible = 0, 0
        for view in range(views):
            hits[view] = -1
            x, y = shift[view, 0], shift[view, 1]
            for k in range(3):
                x += matrix[view, 0, k] * points[point, k]
                y += matrix[view, 1, k] * points[point, k]
            if abs(x) > half[0] or abs(y) > half[1]:
                continue
            visible += 1
            least = tolerance**2
            for one in range(first[view], first[view + 1]):
                apart = (x - position[one, 0]) ** 2 + (y - position[one, 1]) ** 2
                if not used[one] and apart < least:
                    least = apart
                    hits[view] = one
            if hits[view] >= 0:
                count += 1
        if count > most and count >= part * visible:
            most = count
            best[:] = hits
    return best
