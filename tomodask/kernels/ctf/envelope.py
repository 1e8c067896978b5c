"""The contrast of the oscillation over frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]

__all__ = ["envelope"]

#: Falls, A^2, of which a contrast is made, each as exp(-fall k^2).
_FALLS = (0.0, 12.5, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)


def envelope(rings: Rings, correlation: FloatArray, energy: FloatArray) -> FloatArray:
    """Return a falling contrast (ring,) that explains what was seen in the rings.

    It is the sum of falling exponentials with weights >= 0 that fits best: smooth and never
    negative, it cannot follow noise, and takes any shape that falls.

    Parameters
    ----------
    rings
        The cells.
    correlation, energy
        (ring,) of an oscillation of contrast 1: their ratio is the contrast of a single ring.
    """
    falls = np.exp(-np.outer(rings.squared, _FALLS))
    root = np.sqrt(np.maximum(energy, 1e-12 * energy.max()))
    weights, _ = nnls(root[:, None] * falls, correlation / root)
    found: FloatArray = falls @ weights
    return found
