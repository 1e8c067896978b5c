"""The defocus of every view of a series, from its own rings and from the other views.

The likelihood is known at every defocus, so that weak views, whose likelihood has more than one
peak, are combined with what the others say by expectation propagation [1]_: the trend sees each
view as a normal distribution that, times what the others say, has mean and variance of the true
product. A view may also have been refocused and then follows no trend.

References
----------
.. [1] Minka, T. P., Expectation propagation for approximate Bayesian inference, UAI (2001) 362,
   arXiv:1301.2294.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp

from tomodask.kernels.ctf.problem import NINETY, STEP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.focus import FocusTransform
    from tomodask.kernels.ctf.likelihood import Evaluation
    from tomodask.kernels.ctf.problem import JointFit, Problem

    FloatArray = NDArray[np.float64]

__all__ = ["find_defocus", "sharpen_defocus"]

#: Share of views that were refocused, before anything is known.
_REFOCUSED = 0.01
#: To begin with, the views of a series lie within such a width, A, but for this share.
_SERIES, _LONE = 1500.0, 0.1
#: Width over which a view's likelihood is read for the trend, A.
_BROAD = 600.0
#: Views that narrow this by less than such a part tell the trend nothing.
_TOLD = 0.1
#: The likelihood has more than one peak over this distance, A.
_LOBE = 2000.0
#: Rounds of propagation; more change nothing.
_PASSES = 5


def find_defocus(
    problem: Problem,
    fit: JointFit,
    transform: FocusTransform,
    strength: FloatArray,
    spread: FloatArray,
) -> None:
    """Find the defocus of every view by expectation propagation."""
    matched = transform.matched(problem.shifts(fit), fit.phase_shift)
    inside = problem.inside(transform.defocus)
    grid = transform.defocus[inside]
    likelihood = log_likelihood(
        matched[:, inside], transform.energy[:, inside], fit.noise, strength, spread
    )
    site = fit.sites.get("defocus")
    if site is None:
        site = _first_sites(grid, likelihood)
    for _ in range(_PASSES):
        others = problem.at_views(problem.defocus_trend(), *site)
        mean, variance = others.others_mean, others.others_variance
        followed = likelihood + _normal(grid, mean, variance) + np.log1p(-_REFOCUSED)
        astray = likelihood - np.log(len(grid)) + np.log(_REFOCUSED)
        evidence = logsumexp(np.logaddexp(followed, astray), axis=1)
        regular = np.exp(logsumexp(followed, axis=1) - evidence)
        # What a view says for itself is read over some width, or a narrow trend would hear of
        # each view only what it expects, and take itself for still narrower.
        broad = np.maximum(variance, _BROAD**2)
        density = _normalized(likelihood + _normal(grid, mean, broad))
        middle, around = _moments(grid, density)
        own = 1 / around - 1 / broad
        told = own > _TOLD / broad
        own = np.where(told, own, 1.0)
        site = (middle / around - mean / broad) / own, np.where(told, own * regular, 0.0)
    fit.sites["defocus"] = site
    fit.regular, fit.evidence = regular, evidence
    fit.others_mean, fit.others_variance = mean, variance
    fit.defocus, fit.defocus_variance, fit.defocus_error = _intervals(
        grid, _normalized(np.logaddexp(followed, astray))
    )


def _first_sites(grid: FloatArray, likelihood: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where the views lie, and how precisely, around the defocus where most of them agree.

    Views that are clear by themselves lie where they want, others near that defocus.
    """
    top = likelihood.max(axis=1, keepdims=True)
    ratio = np.exp(likelihood - top)
    near = gaussian_filter1d(ratio, _SERIES / STEP, axis=1, mode="constant")
    anywhere = ratio.mean(axis=1, keepdims=True)
    agreed = np.log((1 - _LONE) * near + _LONE * anywhere).sum(axis=0)
    centre = np.full(len(likelihood), grid[np.argmax(agreed)])
    around = _normal(grid, centre, np.full(len(centre), _SERIES**2))
    prior = np.logaddexp(around + np.log1p(-_LONE), np.log(_LONE / len(grid)))
    mean, variance = _moments(grid, _normalized(likelihood + prior))
    return mean, np.where(variance < (2 * _SERIES) ** 2, 1 / variance, 0.0)


def _normalized(logarithm: FloatArray) -> FloatArray:
    """Return probabilities (view, focus) that sum to one over foci."""
    found: FloatArray = np.exp(logarithm - logsumexp(logarithm, axis=1, keepdims=True))
    return found


def _normal(grid: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the logarithm of the probability (view, focus) of a step of the grid."""
    deviation = (grid - mean[:, None]) ** 2 / variance[:, None]
    found: FloatArray = -0.5 * (deviation + np.log(2 * np.pi * variance[:, None])) + np.log(STEP)
    return found


def _moments(grid: FloatArray, density: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = density @ grid
    variance = np.einsum("vg,vg->v", density, (grid - mean[:, None]) ** 2)
    return mean, variance + STEP**2 / 12


def _intervals(grid: FloatArray, density: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the mean of the foremost peak, its variance, and what of either side holds 90 %."""
    centre, variance, error = (np.empty(len(density)) for _ in range(3))
    for v, each in enumerate(density):
        near = np.abs(grid - grid[np.argmax(each)]) < _LOBE
        centre[v] = each[near] @ grid[near] / each[near].sum()
        variance[v] = each @ (grid - centre[v]) ** 2
        distance = np.abs(grid - centre[v])
        rank = np.argsort(distance)
        held = np.cumsum(each[rank])
        error[v] = distance[rank[min(int(np.searchsorted(held, 0.9)), len(rank) - 1)]] + STEP / 4
    return centre, variance, error


def log_likelihood(
    matched: FloatArray,
    energy: FloatArray,
    noise: FloatArray,
    strength: FloatArray,
    spread: FloatArray,
) -> FloatArray:
    """Return the log likelihood ratio to no oscillation, over amplitudes N(strength, spread^2).

    Parameters
    ----------
    matched, energy
        (view, focus) at amplitude 1.
    noise, strength, spread
        (view,).
    """
    precision = 1 / spread[:, None] ** 2
    prior = strength[:, None] * precision
    scale = noise[:, None]
    pull = np.maximum(matched / scale + prior, 0)
    weight = energy / scale + precision
    found: FloatArray = 0.5 * (pull**2 / weight - np.log(weight / precision) - prior**2 / precision)
    return found


def sharpen_defocus(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> None:
    """Place views with a single narrow peak between the steps of the search."""
    value, precision = (each.copy() for each in fit.sites["defocus"])
    narrow = (precision > 1 / (4 * STEP) ** 2) & (fit.defocus_error < 8 * STEP)
    narrow &= fit.regular > 0.5
    slope = np.array([each.slope[0] for each in found]) / fit.noise
    information = np.array([each.information[0, 0] for each in found]) / fit.noise
    narrow &= information > 0
    moved = np.clip(slope[narrow] / information[narrow], -STEP * 4, STEP * 4)
    value[narrow] = fit.defocus[narrow] + moved
    precision[narrow] = information[narrow]
    smoothed = problem.at_views(problem.defocus_trend(), value, precision)
    fit.sites["defocus"] = (value, precision)
    fit.defocus = np.where(narrow, smoothed.mean, fit.defocus)
    fit.defocus_variance = np.where(narrow, smoothed.variance, fit.defocus_variance)
    fit.defocus_error = np.where(narrow, NINETY * np.sqrt(smoothed.variance), fit.defocus_error)
