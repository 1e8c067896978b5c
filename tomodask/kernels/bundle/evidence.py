"""Widths of the priors and size of the noise, both from the data.

The values behind an estimated parameter are drawn from a Gaussian whose width maximises the
evidence, the probability of the data with everything but the widths integrated out. A width that
the data do not need goes to zero and takes its unknowns with it, one that they need grows until
the prior is without effect: no thresholds, and no choice between models.

References
----------
.. [1] MacKay, D. J. C., Bayesian interpolation, Neural Computation 4 (1992) 415,
   doi:10.1162/neco.1992.4.3.415 (the fixed-point rule).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.bundle.variables import Component

    FloatArray = NDArray[np.float64]

__all__ = ["FIRST_WIDTH", "decided", "next_widths"]

#: Widths to start from, radians or without dimension.
FIRST_WIDTH = {
    "rotation": 0.005,
    "tilt": 0.005,
    "magnification": 0.003,
    "compression": 0.01,
    "stretch": 0.003,
    "skew": 0.003,
    "x_tilt": 0.005,
}
#: Smallest width, and largest in units of the first. No stage is worse; wider ones would make any
#: tracks, such as those of wrong angles, look like a specimen.
_SMALLEST, _LARGEST = 1e-7, 8.0


def decided(known: FloatArray, penalty: FloatArray, columns: Sequence[slice]) -> FloatArray:
    """Return how many values of each component the data, not the priors, decided.

    Parameters
    ----------
    known
        (unknown, unknown) covariance for noise of variance one.
    penalty
        (unknown,) curvature of the priors, in units of the noise's.
    columns
        The unknowns of each component.
    """
    variance = np.diag(known)[: len(penalty)]
    return np.array([c.stop - c.start - float(penalty[c] @ variance[c]) for c in columns])


def next_widths(
    components: Sequence[Component],
    widths: FloatArray,
    unknowns: FloatArray,
    columns: Sequence[slice],
    counts: FloatArray,
) -> FloatArray:
    """Return the widths of the next round; infinite ones, of components without prior, stay."""
    found = widths.copy()
    for place, component in enumerate(components):
        if component.estimated:
            square = float(np.sum(unknowns[columns[place]] ** 2))
            largest = _LARGEST * FIRST_WIDTH[component.parameter]
            width = np.sqrt(square / max(float(counts[place]), 1e-6))
            found[place] = np.clip(width, _SMALLEST, largest)
    return found


def first_widths(components: Sequence[Component]) -> FloatArray:
    """Return the widths to start from, infinite for components without prior."""
    return np.array([FIRST_WIDTH[c.parameter] if c.estimated else np.inf for c in components])
