"""What a rigid specimen does not explain: residuals that neighbouring landmarks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["shared_offsets"]

#: Widths of the neighbourhoods that are tried, as fractions of the landmarks' extent.
_WIDTHS = (0.05, 0.1, 0.2)
#: Part of the residuals' variance that neighbours must explain to be believed.
_EXPLAINED = 0.25
#: Residuals below which there is nothing to tell.
_FEWEST = 30


def shared_offsets(predicted: FloatArray, residual: FloatArray) -> FloatArray:
    """Return by how much measurements are to be expected beside a rigid specimen's predictions.

    Where the specimen moves locally, landmarks near one another are off together. Each residual
    is predicted by a weighted mean of its neighbours' in the same view, the better the nearer. The
    width of the neighbourhood, and how far the mean is trusted, are what predicts the residuals
    best, each from the others alone; if that explains little, all offsets are zero.

    Parameters
    ----------
    predicted
        (landmark, tilt, 2).
    residual
        (landmark, tilt, 2) prediction less measurement; NaN where not measured.

    Returns
    -------
    (landmark, tilt, 2) to be added to the predictions.
    """
    measured = np.isfinite(residual[..., 0])
    offset = np.zeros(predicted.shape)
    if measured.sum() < _FEWEST:
        return offset
    error = np.where(measured[..., None], -residual, 0)
    total = float(np.sum(error**2))
    extent = float(np.nanmax(np.ptp(np.nanmean(predicted, axis=1), axis=0)))
    apart = np.linalg.norm(predicted[:, None] - predicted[None], axis=3)
    best = _EXPLAINED
    for width in _WIDTHS:
        weight = np.exp(-0.5 * (apart / (width * extent)) ** 2) * measured
        weight[np.arange(len(weight)), np.arange(len(weight))] = 0
        # One more that is off by nothing, as far as one width: far from all others, no offset.
        mean = np.einsum("ijt,jtk->itk", weight, error)
        mean /= (weight.sum(axis=1) + np.exp(-0.5))[..., None]
        power = float(np.sum((mean * measured[..., None]) ** 2))
        product = float(np.sum(mean * error))
        if power > 0 and product > 0 and product**2 / power > best * total:
            best = product**2 / power / total
            offset = mean * (product / power)
    return offset
