"""The contrast of the oscillation over frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import BSpline
from scipy.optimize import nnls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]

__all__ = ["envelope"]

#: Pieces of the spline that is the contrast.
_PIECES = 10


def envelope(rings: Rings, correlation: FloatArray, energy: FloatArray) -> FloatArray:
    """Return a falling contrast (ring,) that explains what was seen in the rings.

    It is a spline that nowhere rises and nowhere is negative (a sum of falling I-splines with
    weights >= 0, Ramsay 1988, doi:10.1214/ss/1177012761), so that it cannot follow noise.

    Parameters
    ----------
    rings
        The cells.
    correlation, energy
        (ring,) of an oscillation of contrast 1: their ratio is the contrast of a single ring.
    """
    k = rings.frequency
    knots = np.concatenate([[k[0]] * 3, np.linspace(k[0], k[-1], _PIECES + 1), [k[-1]] * 3])
    falling = np.cumsum(BSpline.design_matrix(k, knots, 3).toarray(), axis=1)
    root = np.sqrt(np.maximum(energy, 1e-12 * energy.max()))
    weights, _ = nnls(root[:, None] * falling, correlation / root)
    found: FloatArray = falling @ weights
    return found
