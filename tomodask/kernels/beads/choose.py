"""Which landmarks carry an alignment: the good ones, evenly spread over the specimen.

The score is that of the field's seed selection (IMOD's ``autofidseed``): the mean residual and
how a track deviates from the others, the part of the views where it is missing, and what makes a
bead hard to centre. It is zero for a perfect landmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["LandmarkScore", "choose", "score_landmarks"]

#: What being clustered, and being wholly elongated, adds to a score.
_CLUSTERED, _ELONGATED = 1.0, 1.0
#: Distance, diameters, within which beads disturb one another.
_NEAR = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class LandmarkScore:
    """How good landmarks are; arrays of (landmark,), small is good.

    Attributes
    ----------
    residual
        Mean length of the residuals, in units of the median over landmarks.
    deviation
        Scatter of the residuals' length along the track, in the same unit.
    missing
        Part of the views that should show the landmark in which it was not measured.
    clustered
        Part of the views in which another landmark is near.
    elongated
        Elongation beyond the median one, 0 to 1.
    total
        The sum: 0 for a perfect one.
    """

    residual: FloatArray
    deviation: FloatArray
    missing: FloatArray
    clustered: FloatArray
    elongated: FloatArray
    total: FloatArray


def score_landmarks(
    residual: FloatArray,
    predicted: FloatArray,
    visible: BoolArray,
    *,
    diameter: float,
    elongation: FloatArray,
) -> LandmarkScore:
    """Score landmarks.

    Parameters
    ----------
    residual
        (landmark, tilt, 2) prediction less measurement, pixels; NaN where not measured.
    predicted
        (landmark, tilt, 2) positions, pixels.
    visible
        (landmark, tilt) whether the landmark lies in a view that is used.
    diameter
        Of the beads, pixels.
    elongation
        (landmark,) relative difference of the diameters of the beads' images.
    """
    length = np.linalg.norm(residual, axis=2)
    measured = np.isfinite(length)
    count = np.maximum(measured.sum(axis=1), 1)
    mean = np.where(measured, length, 0).sum(axis=1) / count
    scatter = np.sqrt(np.where(measured, (length - mean[:, None]) ** 2, 0).sum(axis=1) / count)
    unit = max(float(np.median(mean)) if len(mean) else 0.0, 1e-3)
    shown = np.maximum(visible.sum(axis=1), 1)
    missing = (visible & ~measured).sum(axis=1) / shown
    apart = np.linalg.norm(predicted[:, None] - predicted[None], axis=3)
    apart[np.arange(len(apart)), np.arange(len(apart))] = np.inf
    near = (apart < _NEAR * diameter).any(axis=1) & visible
    clustered = near.sum(axis=1) / shown
    # Noise elongates all alike.
    shape = np.clip(np.nan_to_num(elongation - np.nanmedian(elongation)), 0, 1)
    total = mean / unit + scatter / unit + missing + _CLUSTERED * clustered + _ELONGATED * shape
    return LandmarkScore(mean / unit, scatter / unit, missing, clustered, shape, total)


def choose(points: FloatArray, score: FloatArray, surface: IntArray, count: int) -> IntArray:
    """Return the landmarks of a well-spread set, the most important first.

    One after the other is taken: the one that is farthest from those taken, in units of the
    distance that an even spread would have, less what its score is worse than the best. Where
    there are two surfaces, each has its own spread and they take turns as long as both have some.

    Parameters
    ----------
    points
        (landmark, 3).
    score
        (landmark,), not finite where it cannot be chosen.
    surface
        (landmark,) 1 or 2.
    count
        How many to choose.
    """
    usable = np.isfinite(score) & np.isfinite(points).all(axis=1)
    names = np.unique(surface[usable])
    chosen: list[int] = []
    area = np.prod(np.ptp(points[usable, :2], axis=0)) if usable.sum() > 1 else 1.0
    spacing = np.sqrt(max(area, 1.0) * len(names) / max(count, 1))
    while usable.any() and len(chosen) < count:
        left = [name for name in names if (usable & (surface == name)).any()]
        turn = min(left, key=lambda name: (np.sum(surface[chosen] == name), name))
        among = np.flatnonzero(usable & (surface == turn))
        own = [c for c in chosen if surface[c] == turn]
        reference = points[own, :2] if own else points[among, :2].mean(axis=0, keepdims=True)
        apart = np.linalg.norm(points[among, None, :2] - reference[None], axis=2).min(axis=1)
        gain = np.minimum(apart / spacing, 2.0) - score[among]
        if not own:
            gain = -score[among]
        best = int(among[np.argmax(gain)])
        chosen.append(best)
        usable[best] = False
    return np.array(chosen, np.int64)
