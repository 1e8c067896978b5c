"""How sure it is that a view shows rings at all, and which handedness a series has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["decided_handedness", "ring_confidence"]

#: How much rarer than a view of noise with such a peak must be what is believed: that one view in
#: two has rings, and that a peak of rings may have any height, weighs against this.
_RARE = 1000.0
#: Odds of the handedness without the view that speaks for it loudest.
_ODDS = 1000.0


def ring_confidence(
    deviate: FloatArray, curvature: FloatArray, width: FloatArray, tries: float
) -> FloatArray:
    """Return the probability (view,) that a peak of the correlation is not one of noise.

    Parameters
    ----------
    deviate
        Height of the peak, standard deviations of noise.
    curvature
        Of the normalized correlation at its top, 1/A^2.
    width
        Range of defocus in which the peak was looked for, A.
    tries
        Independent fields that were searched so.

    Notes
    -----
    The expected number of peaks of noise above a height is Rice's (Bell Syst. Tech. J. 24 (1945)
    46, doi:10.1002/j.1538-7305.1945.tb00453.x).
    """
    height = np.maximum(deviate, 0)
    rate = np.sqrt(np.maximum(curvature, 0)) / (2 * np.pi)
    number = tries * (ndtr(-height) + width * rate * np.exp(-(height**2) / 2))
    found: FloatArray = 1 / (1 + _RARE * number)
    return found


def decided_handedness(plus: FloatArray, minus: FloatArray) -> tuple[int, float]:
    """Return the handedness, 0 where it is open, and the probability of the likelier sign.

    Parameters
    ----------
    plus, minus
        (view,) logarithms of the evidence for either.
    """
    difference = plus - minus
    total = float(difference.sum())
    sign = 1 if total >= 0 else -1
    loudest = float((sign * difference).max(initial=0.0))
    decided = abs(total) - loudest > np.log(_ODDS)
    return (sign if decided else 0), float(expit(abs(total)))
