"""Which way round a gain reference lies on its movies.

The eight ways are those of `tomodask.kernels.gain`.

Where nothing but the camera varies, a pixel of gain g counts L / g
electrons of an illumination L. With c the counts, L their local mean and u the pattern of 1 / g,
relative to its own local mean and less 1, the slope of c - L on L u,

    b = sum((c - L) u) / sum(L u^2),

is 1 for the orientation of a gain that has yet to be applied, 0 for any other and for a movie to
which it has been applied, and -1 where the file holds 1 / g. Each pixel is weighted by its
electrons, which makes b the estimate of least variance for Poisson counts. What the specimen adds
is unrelated to u and enters the error, which is measured over tiles of the image (jackknife), not
assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from tomodask.errors import DataError
from tomodask.kernels.gain import ORIENTATIONS, Orientation, orient

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["GainOrientation", "find_orientation"]

#: Edge of the local mean, pixels: what varies slower may be the specimen's.
_WINDOW = 7
#: Tiles along each axis over which the errors are measured.
_TILES = 8
#: A slope counts when it exceeds this, and so many of its errors, ...
_LEAST_SLOPE, _ERRORS = 0.3, 6.0
#: ... and every other orientation's by this, and as many errors of their difference.
_LEAST_LEAD = 0.01
#: Pixels that differ from their surroundings by so many standard deviations are left out.
_OUTLIER = 8.0

_FAINT = (
    "the counts are too few, or the gain too flat, to see the one in the other; sum more movies, "
    "or say the orientation"
)
_ABSENT = (
    "the counts do not show the gain's pattern in any orientation: the movies have been corrected "
    "already, so leave the gain out, or it is another camera's or much older"
)


@dataclass(frozen=True, eq=False, slots=True)
class GainOrientation:
    """What `find_orientation` found.

    Parameters
    ----------
    orientation
        What is to be done to the gain; None where the counts do not tell.
    reciprocal
        Whether the gain holds 1 / g and is to be inverted; False where the counts do not tell.
    slopes
        (8,) of `ORIENTATIONS`: how much of the gain's pattern is in the counts. 1 where it is to
        be applied, -1 where its reciprocal is, 0 elsewhere. NaN where the shapes do not fit.
    errors
        (8,) standard errors of the slopes.
    reason
        Why the counts do not tell, and what to do; empty where they do.
    """

    orientation: Orientation | None
    reciprocal: bool
    slopes: FloatArray
    errors: FloatArray
    reason: str


def find_orientation(counts: NDArray[Any], gain: NDArray[np.floating[Any]]) -> GainOrientation:
    """Find how a gain reference lies on movies, by the fixed pattern in their counts.

    Parameters
    ----------
    counts
        (y, x) sum or mean of raw frames, not corrected by the gain. The more movies, and the less
        they show the same specimen, the surer. May have 2 or 4 pixels per pixel of the gain.
    gain
        (y, x) or, where it is to be turned, (x, y). Pixels that are not finite or <= 0 are left
        out.

    Returns
    -------
    GainOrientation
        With `GainOrientation.orientation` None, and the reason, where the movies were corrected
        already, the gain is flat, or two orientations fit alike.

    Raises
    ------
    DataError
        The shapes fit in no orientation, or the counts are not positive on average.
    """
    counts = _binned(np.asarray(counts, np.float32), gain.shape)
    if not counts.mean() > 0:
        raise DataError(
            f"the counts are {counts.mean()} on average: the movies are blank or not of counts, "
            "choose others"
        )
    level, excess = _excess(counts)
    pattern = _pattern(gain)
    sums = np.full((8, 2, _TILES * _TILES), np.nan)
    for index, orientation in enumerate(ORIENTATIONS):
        turned = orient(pattern, orientation)
        if turned.shape == counts.shape:
            sums[index, 0] = _tile_sums(excess * turned)
            sums[index, 1] = _tile_sums(level * turned**2)
    return _decide(sums)


def _excess(counts: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the local mean of counts and what they differ from it, 0 at X-rays and hot pixels."""
    level = _local_mean(counts, np.ones_like(counts))
    noise = (counts - level) / np.sqrt(np.maximum(level, level.mean() * 1e-3))
    limit = np.inf
    for _ in range(10):
        # A hot pixel hides others until it is taken out.
        limit = _OUTLIER * float(noise[np.abs(noise) <= limit].std())
    good = np.abs(noise) <= limit
    level = _local_mean(counts, good.astype(np.float32))
    return level, np.where(good, counts - level, np.float32(0))


def _decide(sums: FloatArray) -> GainOrientation:
    """Judge the (8, 2, tile) numerators and denominators of the slopes."""
    total = sums.sum(axis=2)
    fits = np.isfinite(total).all(axis=1)
    if not (total[fits, 1] > 0).all():
        slopes, errors = np.where(fits, 0.0, np.nan), np.where(fits, np.inf, np.nan)
        return GainOrientation(None, False, slopes, errors, _FAINT)
    slopes = total[:, 0] / total[:, 1]
    left_out = (total[:, :1] - sums[:, 0]) / (total[:, 1:] - sums[:, 1])
    errors = _jackknife(left_out)
    # A reciprocal gain's slope is as good as any.
    sign = np.sign(slopes)
    strength, left_out = sign * slopes, sign[:, None] * left_out
    best = int(np.nanargmax(strength))
    least_lead = np.maximum(_LEAST_LEAD, _ERRORS * _jackknife(left_out[best] - left_out))
    rivals = np.flatnonzero(strength[best] - strength < least_lead)
    rivals = rivals[rivals != best]
    noise = _ERRORS * errors[best]
    reason = ""
    if strength[best] < max(_LEAST_SLOPE, noise):
        reason = _FAINT if noise > _LEAST_SLOPE else _ABSENT
    elif len(rivals):
        reason = (
            f"{ORIENTATIONS[best]} and {ORIENTATIONS[rivals[0]]} fit alike; sum more movies, or "
            "say the orientation"
        )
    if reason:
        return GainOrientation(None, False, slopes, errors, reason)
    return GainOrientation(ORIENTATIONS[best], bool(sign[best] < 0), slopes, errors, "")


def _jackknife(left_out: FloatArray) -> FloatArray:
    """Return the standard errors of estimates, from those (..., tile) that lack a tile each."""
    n_tiles = left_out.shape[-1]
    deviation = left_out - left_out.mean(axis=-1, keepdims=True)
    errors: FloatArray = np.sqrt((n_tiles - 1) / n_tiles * (deviation**2).sum(axis=-1))
    return errors


def _binned(counts: NDArray[np.float32], gain_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Sum counts of super-resolution onto the pixels of the gain, whichever way round."""
    for factor in (1, 2, 4):
        ny, nx = counts.shape[0] // factor, counts.shape[1] // factor
        if gain_shape in {(ny, nx), (nx, ny)} and counts.shape == (ny * factor, nx * factor):
            total: NDArray[np.float32] = counts.reshape(ny, factor, nx, factor).sum(axis=(1, 3))
            return total
    raise DataError(
        f"a gain of {gain_shape} pixels (y, x) fits frames of {counts.shape} in no orientation, "
        "nor 2 or 4 times enlarged; check that it is of the same camera and mode"
    )


def _local_mean(image: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weighted mean around each pixel; 1 where there is no weight."""
    mean: NDArray[np.float32] = ndimage.uniform_filter(image * weight, _WINDOW, mode="reflect")
    total = ndimage.uniform_filter(weight, _WINDOW, mode="reflect")
    np.divide(mean, total, out=mean, where=total > 1e-6)
    mean[total <= 1e-6] = 1
    return mean


def _pattern(gain: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return 1 / gain over its local mean, less 1; 0 where the gain says nothing."""
    good = np.isfinite(gain) & (gain > 0)
    if not good.any():
        raise DataError("the gain has no positive pixel; it is not a gain reference")
    typical = np.median(gain[good])
    # What is far off the rest is a defect that the camera's software left in.
    good &= (gain > typical / 4) & (gain < typical * 4)
    sensitivity = np.divide(
        typical, gain, out=np.ones(gain.shape, np.float32), where=good, casting="unsafe"
    )
    pattern: NDArray[np.float32] = (
        sensitivity / _local_mean(sensitivity, good.astype(np.float32)) - 1
    )
    pattern[~good] = 0
    return pattern


def _tile_sums(image: NDArray[np.float32]) -> FloatArray:
    """Sum over tiles: (tile,)."""
    rows = np.linspace(0, image.shape[0], _TILES + 1).astype(int)[:-1]
    columns = np.linspace(0, image.shape[1], _TILES + 1).astype(int)[:-1]
    sums: FloatArray = np.add.reduceat(
        np.add.reduceat(image, rows, axis=0, dtype=np.float64), columns, axis=1
    )
    return sums.ravel()
