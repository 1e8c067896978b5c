"""Replace pixels by what their surroundings lead one to expect, with noise of the right strength.

A pixel is filled with the polynomial that fits the good pixels of the 5 x 5 around it (of second
order, as in IMOD's ``ccderaser`` [1]_), plus the residual of one of them, drawn by a seed and
scaled such that the filled pixel varies as much as its neighbours do. A smooth filling would leave
holes in the noise: visible, and a loss of power at high frequencies.

Both parts are *linear* in the image, with weights that depend on the places and the seed alone.
With equal places and seed, therefore, the filled sum of two halves is the sum of the filled halves,
and the noise of the fillings is as independent as that of the halves: it is borrowed from each
half's own pixels.

References
----------
.. [1] Kremer, J. R., Mastronarde, D. N. and McIntosh, J. R., Computer visualization of
   three-dimensional image data using IMOD, J. Struct. Biol. 116 (1996) 71,
   doi:10.1006/jsbi.1996.0013.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["fill_pixels"]

#: Half the window of pixels that a filling is made of, and how far it may grow to hold this many
#: good ones, as within a wide patch.
_REACH, _FARTHEST, _FEWEST = 2, 32, 12
#: The variance that the fit may bring to a filled pixel, in variances of a pixel. Beyond it, as
#: where all good pixels lie on one side, a polynomial of lower order is closer to the truth.
_LEVERAGE = 0.5


def fill_pixels(
    image: NDArray[np.generic], y: ArrayLike, x: ArrayLike, *, seed: int = 0
) -> NDArray[np.float32]:
    """Return an image in which some pixels are replaced by their surroundings and noise.

    Parameters
    ----------
    image
        (y, x), any real dtype.
    y, x
        (pixel,) integer indices of the pixels to replace, in any order.
    seed
        Equal seeds and places give equal weights, whatever the image: use one for a sum and its
        halves.

    Returns
    -------
    (y, x) float32, a copy; the other pixels are as they were.

    Raises
    ------
    ParameterError
        If a place lies outside of the image.
    DataError
        If a pixel has too few good ones near it.
    """
    filled = np.array(image, np.float32)
    places = np.stack([np.asarray(y, np.int64), np.asarray(x, np.int64)], axis=-1).reshape(-1, 2)
    if not len(places):
        return filled
    if (places < 0).any() or (places >= filled.shape).any():
        raise ParameterError(
            f"pixels to fill lie outside of the image of shape {filled.shape}; give indices from 0"
        )
    places = np.unique(places, axis=0)
    bad = np.zeros(filled.shape, bool)
    bad[places[:, 0], places[:, 1]] = True
    draws = np.random.default_rng(seed).random(len(places))
    for (row, column), draw in zip(places.tolist(), draws.tolist(), strict=True):
        reach, around, good = _surroundings(bad, row, column)
        weights = _weights(reach, good.tobytes())
        values = filled[around][~bad[around]].astype(np.float64)
        # About the level, so that a large offset costs no digits.
        level = values.mean()
        filled[row, column] = level + weights[int(draw * len(weights))] @ (values - level)
    return filled


def _surroundings(
    bad: NDArray[np.bool_], row: int, column: int
) -> tuple[int, tuple[slice, slice], NDArray[np.bool_]]:
    """Return half the window about a pixel, its part in the image, and its good pixels."""
    for reach in range(_REACH, _FARTHEST + 1):
        bottom, left = max(row - reach, 0), max(column - reach, 0)
        around = slice(bottom, row + reach + 1), slice(left, column + reach + 1)
        inside = ~bad[around]
        if np.count_nonzero(inside) >= _FEWEST:
            good = np.zeros((2 * reach + 1, 2 * reach + 1), bool)
            first_y, first_x = bottom - row + reach, left - column + reach
            good[first_y : first_y + inside.shape[0], first_x : first_x + inside.shape[1]] = inside
            return reach, around, good
    raise DataError(
        f"the pixel at row {row}, column {column} has fewer than {_FEWEST} good ones within "
        f"{_FARTHEST} pixels; what is missing is too large to be filled"
    )


@lru_cache(maxsize=1024)
def _weights(reach: int, good: bytes) -> FloatArray:
    """Return (donor, pixel) weights of the good pixels, for each that may lend its residual.

    Parameters
    ----------
    reach
        Half the window.
    good
        Of the (y, x) bool window about the pixel to fill.
    """
    window = np.frombuffer(good, bool).reshape(2 * reach + 1, 2 * reach + 1)
    y, x = (np.argwhere(window).T - reach) / reach
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    for number in (6, 3, 1):
        inverse = np.linalg.pinv(terms[:, :number])
        smooth = inverse[0]  # the other terms vanish at the middle
        leverage = float(smooth @ smooth)
        if number == 1 or (
            leverage <= _LEVERAGE and np.linalg.matrix_rank(terms[:, :number]) == number
        ):
            break
    residual = np.eye(len(terms)) - terms[:, :number] @ inverse
    # The fit and the residuals are uncorrelated, so that their variances add up to that of a pixel.
    own = np.maximum(np.diag(residual), 1e-6)
    lent = np.where(own > 1e-3, np.sqrt((1 - leverage) / own), 0)
    weights: FloatArray = smooth + lent[:, None] * residual
    return weights
