"""Values of the views of a series that follow a smooth trend and scatter around it.

A value is a constant, what changes with the sine and cosine of the tilt (an axis beside the
specimen's origin), a random walk over the order of acquisition, and scatter of each view. The
widths of walk and scatter are not known: the result is averaged over them by how well each pair
explains the series (empirical Bayes would take the best pair).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Trend", "TrendFit"]

#: Logarithm of the factor by which scatter differs from the usual.
_FACTOR = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class TrendFit:
    """Values as all views tell them, and as the other views alone do.

    Parameters
    ----------
    mean, variance
        (view,) given all.
    others_mean, others_variance
        (view,) given the others.
    """

    mean: FloatArray
    variance: FloatArray
    others_mean: FloatArray
    others_variance: FloatArray

    def at(self, views: NDArray[np.intp]) -> TrendFit:
        """Return the values of some views."""
        return TrendFit(
            self.mean[views],
            self.variance[views],
            self.others_mean[views],
            self.others_variance[views],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """A model of values over a series.

    Parameters
    ----------
    order
        (view,) of acquisition.
    tilt_angle
        (view,) degrees.
    constant, tilting
        Widths of the constant and of what changes with tilt.
    walk, scatter
        Widths that are tried: of a step of the walk, and of a view's scatter.
    usual
        Scatter that is usual. A few weak views may by chance agree better than views ever do, and
        would then seem to be known better than they are.
    """

    order: FloatArray
    tilt_angle: FloatArray
    constant: float
    tilting: float
    walk: FloatArray
    scatter: FloatArray
    usual: float

    def fit(self, value: FloatArray, precision: FloatArray) -> TrendFit:
        """Fit values (view,) of a precision (view,), 1 / variance; 0 where nothing is known."""
        known = precision > 0
        used = np.flatnonzero(known)
        centre = np.average(value[used], weights=precision[used]) if len(used) else 0.0
        data = value[used] - centre
        noise = np.diag(1 / precision[used])
        tilt = np.deg2rad(self.tilt_angle)
        fixed = np.full((len(value), len(value)), self.constant**2)
        for shape in (np.sin(tilt), np.cos(tilt) - 1):
            fixed += self.tilting**2 * np.outer(shape, shape)
        steps = self.order - self.order.min()
        walked = np.minimum(steps[:, None], steps[None, :])
        found = []
        for walk in self.walk:
            for scatter in self.scatter:
                prior = fixed + walk**2 * walked + scatter**2 * np.eye(len(value))
                factor = cho_factor(prior[np.ix_(used, used)] + noise, lower=True)
                solved = cho_solve(factor, data)
                evidence = -0.5 * data @ solved - np.log(np.diag(factor[0])).sum()
                evidence -= 0.5 * (np.log(scatter / self.usual) / _FACTOR) ** 2
                gain = cho_solve(factor, prior[used])
                mean = prior[:, used] @ solved
                variance = np.diag(prior) - np.einsum("iu,ui->i", prior[:, used], gain)
                found.append((evidence, mean, np.maximum(variance, 1e-9 * np.diag(prior))))
        evidence = np.array([each[0] for each in found])
        weight = np.exp(evidence - evidence.max())
        weight /= weight.sum()
        means = np.stack([each[1] for each in found])
        variances = np.stack([each[2] for each in found])
        mean, variance = _mixed(weight, means, variances)
        # A view's own observation is taken out again.
        other = np.maximum(1 / variances - precision, 1e-6 / variances)
        others = (means / variances - precision * np.where(known, value - centre, 0)) / other
        others_mean, others_variance = _mixed(weight, others, 1 / other)
        return TrendFit(mean + centre, variance, others_mean + centre, others_variance)


def _mixed(
    weight: FloatArray, mean: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance (view,) of mixtures of normal distributions (part, view)."""
    whole = weight @ mean
    return whole, weight @ (variance + (mean - whole) ** 2)
