"""Weights that keep wrong observations from deciding.

Residuals are compared with those of their own neighbourhood, as in IMOD's tiltalign: their lengths
are divided by the median of their view, smoothed over views; in rings of neighbouring views that
hold about a hundred observations, what exceeds the median by many median absolute deviations gets
less weight, or none (Tukey's bisquare).

References
----------
.. [1] Beaton, A. E. and Tukey, J. W., The fitting of power series, meaning polynomials,
   illustrated on band-spectroscopic data, Technometrics 16 (1974) 147, doi:10.2307/1267936.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import median_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["BISQUARE_SHRINKAGE", "annealed_weights", "bisquare_weights"]

#: Deviations beyond which a residual has no weight.
_CUTOFF = 4.685
#: Median absolute deviation of a Gaussian of unit standard deviation.
_TO_SIGMA = 0.6745
#: Weighted mean square of Gaussian residuals under these weights, relative to that without.
BISQUARE_SHRINKAGE = 0.8807
#: Least deviation of lengths in units of the views' medians (for Gaussian residuals it is 0.56):
#: a few alike residuals, or none, must not make the next one suspect.
_LEAST_SPREAD = 0.25
#: Observations in a ring of views.
_RING = 100
#: Views over which the medians are smoothed.
_SMOOTHED = 5


def bisquare_weights(length: FloatArray, seen: BoolArray, floor: float) -> FloatArray:
    """Return the weights of residuals.

    Parameters
    ----------
    length
        (view, landmark) lengths of the residuals, views in the order of tilt.
    seen
        (view, landmark) where there is an observation.
    floor
        Length below which no residual is suspect, for data without noise.

    Returns
    -------
    (view, landmark) from 0 to 1; 0 where nothing is seen.
    """
    overall = float(np.median(length[seen]))
    median = np.array(
        [
            float(np.median(row[here])) if here.any() else overall
            for row, here in zip(length, seen, strict=True)
        ]
    )
    # The smoothing is itself a median, so that one bad view does not excuse itself.
    level = np.maximum(median_filter(median, _SMOOTHED, mode="nearest"), floor)
    relative = length / level[:, None]
    weight = np.zeros_like(length)
    cumulative = np.cumsum(seen.sum(axis=1))
    rings = max(1, round(int(cumulative[-1]) / _RING))
    ring = np.minimum(((cumulative - 1) * rings) // cumulative[-1], rings - 1)
    for one in np.unique(ring):
        rows = ring == one
        values = relative[rows][seen[rows]]
        middle = float(np.median(values))
        spread = float(np.median(np.abs(values - middle))) / _TO_SIGMA
        spread = max(spread, _LEAST_SPREAD)
        x = np.maximum(relative[rows] - middle, 0.0) / (_CUTOFF * spread)
        weight[rows] = np.where(x < 1, (1 - x**2) ** 2, 0.0)
    return np.where(seen, weight, 0.0)


def annealed_weights(
    length: FloatArray, seen: BoolArray, floor: float, *, hard: bool
) -> FloatArray:
    """Return weights for the search from a bad start.

    Soft weights go as one over the length (least absolute deviations); hard ones as those of
    Geman and McClure, whose scale, the median length, falls by itself as the fit improves.
    """
    scale = max(float(np.median(length[seen])), floor)
    if hard:
        weight = 1 / (1 + (length / (2 * scale)) ** 2) ** 2
    else:
        weight = scale / np.maximum(length, 0.3 * scale)
    return np.where(seen, weight, 0.0)
