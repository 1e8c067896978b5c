"""All views of a series fitted together.

Each view has its own mean defocus; the views share the shape of the contrast, and lend each other
what they have in common: defocus, astigmatism, phase shift and strength follow trends over the
series with scatter of a width that the series itself tells (:mod:`tomodask.kernels.ctf.trend`). The
likelihood over defocus is known at every defocus, so that weak views, whose likelihood has more
than one peak, are combined with what the others say by expectation propagation [1]_: the trend
sees each view as a normal distribution that, times what the others say, has mean and variance of
the true product. A view may also have been refocused and then follows no trend.

References
----------
.. [1] Minka, T. P., Expectation propagation for approximate Bayesian inference, UAI (2001) 362,
   arXiv:1301.2294.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp

from tomodask.kernels.ctf.envelope import envelope
from tomodask.kernels.ctf.focus import FocusTransform, focus_transform
from tomodask.kernels.ctf.likelihood import Evaluation, Focus, evaluate
from tomodask.kernels.ctf.trend import Trend, TrendFit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation, Smooth
    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]

__all__ = ["NINETY", "JointFit", "Problem", "Whole", "evaluated", "fit_jointly", "shared_start"]

#: A between defoci of the search: at 1/6 A a change of 2 chi by 0.17.
STEP = 50.0
#: Search beyond the range for what astigmatism shifts, A.
_MARGIN = 2500.0
#: Contrasts that a search begins with: exp(-fall k^2).
_FALLS = (40.0, 150.0, 500.0)
#: Half of the largest difference of defocus between directions that is looked for, and steps, A.
_ASTIGMATISM, _ASTIGMATISM_STEP = 1500.0, 250.0
#: Width of the distribution of such halves, A.
_USUAL = 500.0
_PHASE_STEP = 10.0
#: Share of views that were refocused, before anything is known.
_REFOCUSED = 0.01
#: To begin with, the views of a series lie within such a width, A, but for this share.
_SERIES, _LONE = 1500.0, 0.1
#: Width over which a view's likelihood is read for the trend, A.
_BROAD = 600.0
#: Views that narrow this by less than such a part tell the trend nothing.
_TOLD = 0.1
_ROUNDS, _PASSES, _SCORING = 5, 5, 2
#: Half-width of the 90 % interval of a normal distribution, in standard deviations.
NINETY = 1.645


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is fitted.

    Parameters
    ----------
    views
        Oscillations, for handedness +1.
    rings, smooth
        The cells, and the background's surfaces.
    order, tilt_angle
        (tilt,) of all views of the series.
    used
        (view,) which of them have oscillations.
    defocus_range
        A.
    phase_shift
        Range, degrees; of a known one both ends are the same.
    astigmatism
        Whether there may be any.
    """

    views: Sequence[Oscillation]
    rings: Rings
    smooth: Smooth
    order: FloatArray
    tilt_angle: FloatArray
    used: NDArray[np.intp]
    defocus_range: tuple[float, float]
    phase_shift: tuple[float, float]
    astigmatism: bool

    @property
    def searches_phase(self) -> bool:
        """Whether the phase shift is looked for."""
        return self.phase_shift[1] > self.phase_shift[0]

    def handed(self, handedness: int) -> Sequence[Oscillation]:
        """Return the oscillations for a handedness."""
        if handedness > 0:
            return self.views
        return [view.mirrored() for view in self.views]

    def grid(self) -> FloatArray:
        """Return the defoci of the search, with a margin around the range."""
        low, high = self.defocus_range
        return np.arange(low - _MARGIN, high + _MARGIN + STEP, STEP)

    def defocus_trend(self) -> Trend:
        """Return how defocus runs over the series."""
        width = self.defocus_range[1] - self.defocus_range[0]
        walk = np.array([0.0, 20.0, 60.0, 200.0, 700.0])
        scatter = np.array([10.0, 30.0, 70.0, 150.0, 300.0, 600.0, 1500.0])
        return Trend(self.order, self.tilt_angle, width, 2000.0, walk, scatter, 250.0)

    def astigmatism_trend(self) -> Trend:
        """Return how a component of the astigmatism runs over the series."""
        walk, scatter = np.array([0.0, 3.0, 10.0, 40.0, 150.0]), np.array([5.0, 15.0, 50.0, 200.0])
        return Trend(self.order, self.tilt_angle, 700.0, 100.0, walk, scatter, 50.0)

    def phase_trend(self) -> Trend:
        """Return how the phase shift runs over the series."""
        walk, scatter = np.array([0.0, 0.3, 1.0, 3.0, 10.0]), np.array([0.1, 1.0, 3.0, 10.0])
        return Trend(self.order, self.tilt_angle, 60.0, 1.0, walk, scatter, 2.0)

    def strength_trend(self, level: float) -> Trend:
        """Return how the amplitude, of about a level, runs over the series."""
        walk, scatter = np.array([0.0, 0.03]), np.array([0.05, 0.15, 0.4, 1.0])
        return Trend(self.order, self.tilt_angle, 3 * level, level, walk * level, scatter * level, 0.2 * level)

    def smoothed(self, trend: Trend, value: FloatArray, precision: FloatArray) -> TrendFit:
        """Fit a trend to values of the views that are used, for all of the series."""
        values, precisions = np.zeros((2, len(self.order)))
        values[self.used], precisions[self.used] = value, precision
        return trend.fit(values, precisions)

    def at_views(self, trend: Trend, value: FloatArray, precision: FloatArray) -> TrendFit:
        """Fit a trend to values of the views that are used, and return it for them."""
        return self.smoothed(trend, value, precision).at(self.used)

    def whole(self, fit: JointFit) -> Whole:
        """Return the results for all of the series, by trend where a view has none."""
        missing = np.ones(len(self.order), bool)
        missing[self.used] = False

        def filled(name: str, trend: Trend, own: FloatArray, variance: FloatArray) -> Any:
            value = np.empty(len(missing))
            spread = np.zeros(len(missing))
            if missing.any() and name in fit.sites:
                smoothed = self.smoothed(trend, *fit.sites[name])
                value[:], spread[:] = smoothed.mean, smoothed.variance
            elif missing.any():
                value[:] = np.mean(own)
            value[self.used], spread[self.used] = own, variance
            return value, spread

        defocus, variance = filled(
            "defocus", self.defocus_trend(), fit.defocus, fit.defocus_variance
        )
        error = NINETY * np.sqrt(variance)
        error[self.used] = fit.defocus_error
        parts = [
            filled(
                f"astigmatism {part}",
                self.astigmatism_trend(),
                fit.astigmatism[:, part],
                fit.astigmatism_variance[:, part],
            )
            for part in range(2)
        ]
        phase, phase_variance = filled(
            "phase shift", self.phase_trend(), fit.phase_shift, fit.phase_variance
        )
        return Whole(
            defocus,
            error,
            np.stack([part[0] for part in parts], axis=1),
            np.stack([part[1] for part in parts], axis=1),
            phase,
            phase_variance,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """Results of all views of a series, of those without spectra too.

    Parameters
    ----------
    defocus, defocus_error
        (tilt,) A.
    astigmatism, astigmatism_variance
        (tilt, 2) A.
    phase_shift, phase_variance
        (tilt,) degrees.
    """

    defocus: FloatArray
    defocus_error: FloatArray
    astigmatism: FloatArray
    astigmatism_variance: FloatArray
    phase_shift: FloatArray
    phase_variance: FloatArray


@dataclass(slots=True, eq=False)
class JointFit:
    """The views of a series as fitted together.

    Parameters
    ----------
    handedness
        For which this was fitted.
    contrast
        (ring,) of a view of amplitude 1.
    amplitude, noise
        (view,): strength of the oscillation; variance of the cells over what it should be.
    defocus, defocus_variance, defocus_error
        (view,) A; half-width of the 90 % interval.
    astigmatism, astigmatism_variance
        (view, 2) A: cosine and sine part.
    phase_shift, phase_variance
        (view,) degrees.
    others_mean, others_variance
        (view,) defocus as the other views tell it.
    regular
        (view,) probability that the view follows the trend.
    evidence
        (view,) logarithm of the probability of a view's data, given the others, over that of no
        oscillation.
    trends
        By name, sites of the trends: value and precision by view.
    """

    handedness: int
    contrast: FloatArray
    amplitude: FloatArray
    noise: FloatArray
    defocus: FloatArray
    defocus_variance: FloatArray
    defocus_error: FloatArray
    astigmatism: FloatArray
    astigmatism_variance: FloatArray
    phase_shift: FloatArray
    phase_variance: FloatArray
    others_mean: FloatArray
    others_variance: FloatArray
    regular: FloatArray
    evidence: FloatArray
    sites: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    def focus(self, view: int) -> Focus:
        """Return the focus of a view."""
        u, v = self.astigmatism[view]
        return Focus(float(self.defocus[view]), (float(u), float(v)), float(self.phase_shift[view]))


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


def noise_level(problem: Problem, rest: Sequence[Oscillation], contrast: FloatArray) -> FloatArray:
    """Return the variance of correlations over what counting samples says, at least 1.

    Parameters
    ----------
    problem
        What is fitted.
    rest
        What is left of the views without the oscillation that was found.
    contrast
        (ring,) that is looked for.

    Returns
    -------
    (view,)
    """
    high = max(problem.defocus_range[1], 30000.0)
    grid = np.arange(-high, high, 150.0)
    grid = grid[np.abs(grid) > 3000.0]
    transform = focus_transform(rest, problem.rings, problem.smooth, contrast, grid)
    none = np.zeros((len(rest), len(problem.rings.direction)))
    matched = transform.matched(none, np.full(len(rest), np.mean(problem.phase_shift)))
    deviate = np.abs(matched) / np.sqrt(transform.energy)
    each = (np.median(deviate, axis=1) / 0.6745) ** 2
    whole = max(1.0, float(np.median(each)))
    # One view's own is uncertain by a quarter or so.
    return np.where(each > 1.7 * whole, each, whole)


def _rest(problem: Problem, fit: JointFit, views: Sequence[Oscillation]) -> list[Oscillation]:
    """Return what is left of the views without their fitted oscillation."""
    rest = []
    for v, view in enumerate(views):
        focus = fit.focus(v)
        contrast = fit.amplitude[v] * fit.contrast * view.seen(problem.rings, focus.defocus)
        model = -contrast * focus.turn(problem.rings)
        rest.append(view.without(model, problem.smooth, problem.rings.samples))
    return rest


def shared_start(problem: Problem, handedness: int) -> JointFit:
    """Search defocus, shared astigmatism and phase shift exhaustively.

    The evidence of a view is the logarithm of the mean over the range of its likelihood ratio.
    """
    views = problem.handed(handedness)
    count = len(views)
    grid = problem.grid()
    best: tuple[float, FloatArray, FloatArray, float, FloatArray] | None = None
    for fall in _FALLS:
        contrast = np.exp(-fall * problem.rings.squared)
        transform = focus_transform(views, problem.rings, problem.smooth, contrast, grid)
        astigmatism, phase = np.zeros(2), float(np.mean(problem.phase_shift))
        phases = np.arange(problem.phase_shift[0], problem.phase_shift[1] + 1e-9, _PHASE_STEP)
        score, evidence = -np.inf, np.zeros(count)
        for _ in range(2 if problem.searches_phase else 1):
            for candidate in phases if problem.searches_phase else ():
                found = _shared_score(problem, transform, astigmatism, candidate)
                if found.sum() > score:
                    score, phase, evidence = float(found.sum()), float(candidate), found
            for vector in _astigmatisms(problem.astigmatism):
                found = _shared_score(problem, transform, vector, phase)
                prior = 0.5 * float(vector @ vector) / _USUAL**2
                if found.sum() - prior > score:
                    score, astigmatism, evidence = float(found.sum()) - prior, vector, found
        if best is None or score > best[0]:
            best = (score, contrast, astigmatism, phase, evidence)
    assert best is not None
    _, contrast, astigmatism, phase, evidence = best
    zeros = np.zeros(count)
    return JointFit(
        handedness,
        contrast,
        zeros.copy(),
        np.ones(count),
        zeros.copy(),
        np.full(count, np.inf),
        zeros.copy(),
        np.tile(astigmatism, (count, 1)),
        np.zeros((count, 2)),
        np.full(count, phase),
        zeros.copy(),
        zeros.copy(),
        np.full(count, np.inf),
        np.ones(count),
        evidence,
    )


def _astigmatisms(allowed: bool) -> list[FloatArray]:
    """Return vectors on a hexagonal grid, from none outwards."""
    if not allowed:
        return [np.zeros(2)]
    reach = int(_ASTIGMATISM / _ASTIGMATISM_STEP) + 2
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    vectors = np.stack([i + j / 2, np.sqrt(0.75) * j], axis=-1).reshape(-1, 2) * _ASTIGMATISM_STEP
    length = np.hypot(*vectors.T)
    inside = np.argsort(length, kind="stable")[: int((length <= _ASTIGMATISM).sum())]
    return list(vectors[inside])


def _shared_score(
    problem: Problem,
    transform: FocusTransform,
    astigmatism: FloatArray,
    phase: float,
) -> FloatArray:
    count = len(transform.energy)
    shift = np.tile(astigmatism @ problem.rings.turns, (count, 1))
    matched = transform.matched(shift, np.full(count, phase))
    inside = _inside(problem, transform.defocus)
    gain = np.maximum(matched[:, inside], 0) ** 2 / (2 * transform.energy[:, inside])
    found: FloatArray = logsumexp(gain, axis=1) - np.log(inside.sum())
    return found


def _inside(problem: Problem, grid: FloatArray) -> NDArray[np.bool_]:
    low, high = problem.defocus_range
    inside: NDArray[np.bool_] = (grid >= low) & (grid <= high)
    return inside


def fit_jointly(problem: Problem, start: JointFit, rounds: int = _ROUNDS) -> JointFit:
    """Fit all views together from a start."""
    fit = start
    views = problem.handed(fit.handedness)
    grid = problem.grid()
    for index in range(rounds):
        transform = focus_transform(views, problem.rings, problem.smooth, fit.contrast, grid)
        if np.isfinite(fit.defocus_variance).all():
            seen, precision = _strengths(problem, fit, evaluated(problem, fit, views))
        else:
            seen, precision = _first_strengths(problem, fit, transform)
        strength, spread = _expected_strengths(problem, seen, precision)
        _focus(problem, fit, transform, strength, spread)
        for _ in range(_SCORING):
            seen, precision = _strengths(problem, fit, evaluated(problem, fit, views))
            amplitude = precision * seen + strength / spread**2
            amplitude /= precision + 1 / spread**2
            fit.amplitude = np.maximum(amplitude, 0.1 * strength)
            _astigmatism_and_phase(problem, fit, evaluated(problem, fit, views))
            _sharpen(problem, fit, evaluated(problem, fit, views))
        _focus(problem, fit, transform, strength, spread)
        _sharpen(problem, fit, evaluated(problem, fit, views))
        fit.noise = noise_level(problem, _rest(problem, fit, views), fit.contrast)
        if index < rounds - 1:
            _reshape(problem, fit, evaluated(problem, fit, views))
    return fit


def evaluated(problem: Problem, fit: JointFit, views: Sequence[Oscillation]) -> list[Evaluation]:
    """Return how the oscillations, of the fit's handedness, fit."""
    return [
        evaluate(
            view, problem.rings, problem.smooth, fit.contrast, fit.focus(v), float(fit.amplitude[v])
        )
        for v, view in enumerate(views)
    ]


def _shifts(problem: Problem, fit: JointFit) -> FloatArray:
    return fit.astigmatism @ problem.rings.turns


def _first_strengths(
    problem: Problem, fit: JointFit, transform: FocusTransform
) -> tuple[FloatArray, FloatArray]:
    """Return the views' amplitudes, and their precision, at the highest peaks."""
    matched = transform.matched(_shifts(problem, fit), fit.phase_shift)
    inside = _inside(problem, transform.defocus)
    deviate = np.where(inside, matched, -np.inf) / np.sqrt(transform.energy)
    highest = np.argmax(deviate, axis=1)[:, None]
    energy = np.take_along_axis(transform.energy, highest, 1)[:, 0]
    seen = np.maximum(np.take_along_axis(matched, highest, 1)[:, 0], 0)
    return seen / energy, energy / fit.noise


def _strengths(
    problem: Problem, fit: JointFit, found: Sequence[Evaluation]
) -> tuple[FloatArray, FloatArray]:
    """Return the views' amplitudes, and their precision, over what foci they may have."""
    sharp = _sharpness(problem, fit)
    correlation = [
        fit.contrast @ (each.ring_correlation * part)
        for each, part in zip(found, sharp, strict=True)
    ]
    energy = np.array([each.energy for each in found])
    return np.maximum(correlation, 0) / energy, energy / fit.noise


def _expected_strengths(
    problem: Problem, seen: FloatArray, precision: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and width of what the others say of each view's amplitude."""
    if len(seen) == 1:
        return seen, np.maximum(seen, 1 / np.sqrt(precision))
    level = float(np.average(seen, weights=precision))
    level = max(level, float(1 / np.sqrt(precision.sum())))
    trend = problem.at_views(problem.strength_trend(level), seen, precision)
    return np.maximum(trend.others_mean, 0.1 * level), np.sqrt(trend.others_variance)


def _sharpness(problem: Problem, fit: JointFit) -> FloatArray:
    """Return how much of the oscillation at the fitted focus is there, (view, ring).

    A focus that is fitted follows noise, most where the phase depends on it most. The mean of the
    correlation over the foci that are possible is free from that: the step of
    expectation-maximization for contrast and amplitude.
    """
    spread = fit.defocus_variance + fit.astigmatism_variance.mean(axis=1)
    radians = problem.rings.rate**2 * spread[:, None]
    radians = radians + (np.pi / 90) ** 2 * fit.phase_variance[:, None]
    found: FloatArray = np.exp(-radians / 2)
    return found


def _reshape(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> None:
    """Estimate the contrast over frequency anew, at a typical amplitude of 1."""
    weight = fit.amplitude / fit.noise
    correlation, energy = np.zeros((2, len(fit.contrast)))
    for each, part, w, a in zip(
        found, _sharpness(problem, fit), weight, fit.amplitude, strict=True
    ):
        correlation += w * part * each.ring_correlation
        energy += w * a * each.ring_energy
    contrast = envelope(problem.rings, correlation, energy)
    if not contrast.max() > 0:
        return
    typical = float(np.average(fit.amplitude, weights=weight))
    fit.contrast = contrast * typical
    fit.amplitude = fit.amplitude / typical


def _focus(
    problem: Problem,
    fit: JointFit,
    transform: FocusTransform,
    strength: FloatArray,
    spread: FloatArray,
) -> None:
    """Find the defocus of every view by expectation propagation."""
    matched = transform.matched(_shifts(problem, fit), fit.phase_shift)
    inside = _inside(problem, transform.defocus)
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
        near = np.abs(grid - grid[np.argmax(each)]) < 2000.0
        centre[v] = each[near] @ grid[near] / each[near].sum()
        variance[v] = each @ (grid - centre[v]) ** 2
        distance = np.abs(grid - centre[v])
        rank = np.argsort(distance)
        held = np.cumsum(each[rank])
        error[v] = distance[rank[min(np.searchsorted(held, 0.9), len(rank) - 1)]] + STEP / 4
    return centre, variance, error


def _astigmatism_and_phase(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> None:
    """Move astigmatism and phase shift by a step of scoring, smoothed over the series."""
    free = [1, 2] if problem.astigmatism else []
    if problem.searches_phase:
        free.append(3)
    if not free:
        return
    chosen = [0, *free]
    step = np.zeros((len(found), 4))
    precision = np.zeros((len(found), 4))
    for v, each in enumerate(found):
        information = each.information[np.ix_(chosen, chosen)] / fit.noise[v]
        information[0, 0] += 1 / fit.others_variance[v]
        scale = np.sqrt(np.diag(information))
        inverse = np.linalg.inv(information / np.outer(scale, scale) + 1e-9 * np.eye(len(chosen)))
        inverse /= np.outer(scale, scale)
        slope = each.slope[chosen] / fit.noise[v]
        slope[0] += (fit.others_mean[v] - fit.defocus[v]) / fit.others_variance[v]
        step[v, chosen] = inverse @ slope
        precision[v, chosen] = 1 / np.diag(inverse)
    # Between two searches over defocus, steps go along the ridge where one makes up for another.
    fit.defocus = fit.defocus + np.clip(step[:, 0], -6 * STEP, 6 * STEP)
    if problem.astigmatism:
        trend = problem.astigmatism_trend()
        for part in range(2):
            limit = np.clip(step[:, 1 + part], -400.0, 400.0)
            value = fit.astigmatism[:, part] + limit
            smoothed = problem.at_views(trend, value, precision[:, 1 + part])
            fit.sites[f"astigmatism {part}"] = (value, precision[:, 1 + part])
            fit.astigmatism[:, part] = smoothed.mean
            fit.astigmatism_variance[:, part] = smoothed.variance
    if problem.searches_phase:
        value = fit.phase_shift + np.clip(step[:, 3], -15.0, 15.0)
        smoothed = problem.at_views(problem.phase_trend(), value, precision[:, 3])
        fit.sites["phase shift"] = (value, precision[:, 3])
        fit.phase_shift = np.clip(smoothed.mean, *problem.phase_shift)
        fit.phase_variance = smoothed.variance


def _sharpen(problem: Problem, fit: JointFit, found: Sequence[Evaluation]) -> None:
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
