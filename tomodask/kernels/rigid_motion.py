"""The shifts of whole frames, by maximum marginal likelihood over a fixed pattern.

See :mod:`tomodask.kernels.motion` for the likelihood. Shifts and powers are found in turn: a search
at low frequencies (:mod:`tomodask.kernels.shift_search`), then Fisher scoring, the gradient of the
likelihood against its expected curvature, together with the priors
(:mod:`tomodask.kernels.drift_prior`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.aligned_frames import align, neighbour_powers
from tomodask.kernels.drift_prior import Drift, DriftPriors
from tomodask.kernels.fixed_pattern import FixedPattern, pattern_power
from tomodask.kernels.ring_powers import LOWEST_RING, RingPowers
from tomodask.kernels.shift_search import WIDELY, search_shifts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.kernels.frame_spectra import FrameSpectra

    FloatArray = NDArray[np.float64]

__all__ = ["ShiftEstimate", "estimate_shifts"]

#: The search takes the frequencies up to where a frame's log-likelihood has reached _ENOUGH, within
#: these bounds, cycles per pixel.
_LOWEST_BAND, _SEARCH_BAND = 0.03, 0.125
_ENOUGH = 50.0
#: Rounds of search and of measuring powers; they end when no shift changes by more pixels.
_SEARCH_ROUNDS = 3
_NEAR = 0.5
#: A log-likelihood per frame, over nothing in common, from which on a shift cannot be mistaken.
_PLENTY = 15.0
#: Widths of the first guesses of the specimen's power, cycles per pixel, and the log-likelihood
#: that a frame has in them.
_GUESSES = (0.02, 0.06, 0.15)
_TELLING = 12.0
#: Bands, cycles per pixel, and how far shifts are thought to be from none, pixels, in the search
#: for a signal that is spread over many frequencies.
_SPREAD = ((0.25, 1.5), (0.5, 0.8))
#: Fisher scoring uses the frequencies with this share of the information.
_MOST_INFORMATION = 0.995
#: It ends when no shift changes by more than this, pixels or errors, nor the log-likelihood by this
#: much and share.
_SCORING_STEPS = 15
_TOLERANCE, _NEAR_ENOUGH = 0.003, 0.1
_SAME = 0.5
#: A pattern is measured again as the specimen becomes known, at most so often, and must explain the
#: frames better by this log-likelihood.
_PATTERN_ROUNDS = 3
_BETTER = 5.0
#: A pattern stronger than this part of the sum's noise would take the specimen along.
_WEAK_PATTERN = 1.0


def estimate_shifts(spectra: FrameSpectra, max_shift: float) -> tuple[ShiftEstimate, FrameSpectra]:
    """Return the most probable shifts, and the frames less the camera's pattern if it has one.

    Parameters
    ----------
    spectra
        Of two frames or more.
    max_shift
        Largest shift against the sum that is searched for, pixels.
    """
    priors = DriftPriors(spectra.exposure)
    plain = _Estimator(spectra, max_shift, FixedPattern(0.0, spectra.exposure), priors)
    best, frames = plain.best(), spectra
    moving = np.zeros(spectra.rings)
    evidence = None
    for _ in range(_PATTERN_ROUNDS):
        power = pattern_power(spectra, plain.own, plain.still, moving)
        if not 0 < power * float(spectra.exposure.sum()) < _WEAK_PATTERN:
            break
        if evidence is None:
            evidence = plain.log_likelihood(best, plain)
        pattern = FixedPattern(power, spectra.exposure)
        estimator = _Estimator(pattern.removed(spectra), max_shift, pattern, priors)
        found = estimator.best()
        here = estimator.log_likelihood(found, plain)
        if here < evidence + _BETTER:
            break
        best, frames, evidence = found, estimator.spectra, here
        moving = estimator.at_rest(found)
    return best, frames


@dataclass(frozen=True, eq=False, slots=True)
class ShiftEstimate:
    """Shifts and how they were found.

    Parameters
    ----------
    drift
        The shifts, with their errors and odds.
    rings
        Number of rings that took part.
    gain
        Log-likelihood gained over no shift.
    strength
        Log-likelihood gained over frames with nothing in common, or nearly so.
    iterations
        Steps of Fisher scoring.
    """

    drift: Drift
    rings: int
    gain: float
    strength: float
    iterations: int


class _Estimator:
    """Finds the shifts of the frames of one movie."""

    def __init__(
        self, spectra: FrameSpectra, max_shift: float, pattern: FixedPattern, priors: DriftPriors
    ) -> None:
        self.spectra = spectra
        self.pattern = pattern
        self.max_shift = max_shift
        self.priors = priors
        self.own, self.still, self.neighbours = neighbour_powers(spectra, pattern.share)

    def best(self) -> ShiftEstimate:
        """Return the estimate of most evidence among those from several first guesses."""
        best = self.refined(*self.searched(self.neighbours))
        if best.strength < _PLENTY * len(self.spectra):
            for start in self.starts():
                other = self.refined(*self.searched(*start))
                if other.drift.odds > best.drift.odds:
                    best = other
        return best

    def starts(self) -> Iterator[tuple[RingPowers, float | None, float]]:
        """Yield powers, bands and deviations to search with for weak signals.

        The powers fall from low frequencies, or are the same at all of them. A signal that is
        spread over many frequencies is found only where shifts are small beside its wavelengths.
        """
        frequency = self.spectra.ring_frequency
        for width in _GUESSES:
            yield self.guess(np.exp(-0.5 * (frequency / width) ** 2)), None, WIDELY
        for band, deviation in _SPREAD:
            yield self.guess(np.ones_like(frequency)), band, deviation

    def guess(self, shape: FloatArray) -> RingPowers:
        """Return powers of a (ring,) shape, as strong as would just tell a frame's shift."""
        spectra = self.spectra
        exposure = float(spectra.exposure.sum())
        level = self.own / np.maximum(spectra.members * exposure, 1e-6)
        shape[:LOWEST_RING] = 0
        telling = len(spectra) * spectra.members @ shape**2
        signal = np.minimum(shape * np.sqrt(_TELLING / telling), 0.5)
        return RingPowers(signal * level, (1 - signal) * level, np.full(spectra.rings, exposure))

    def searched(
        self, powers: RingPowers, band: float | None = None, deviation: float = WIDELY
    ) -> tuple[FloatArray, RingPowers]:
        """Return shifts from a search up to a frequency, and the powers they reveal."""
        low = self.spectra.within(self.search_band(powers) if band is None else band)
        own, _, _ = neighbour_powers(low)
        powers = powers.until(low.rings)
        search = partial(search_shifts, max_shift=self.max_shift, deviation=deviation)
        shift = search(low, powers.weight)
        for _ in range(_SEARCH_ROUNDS - 1):
            before = shift
            total, _ = align(low, shift, powers.weight)
            powers = self.measured(low, own, total, shift)
            shift = search(low, powers.weight, start=before)
            if np.abs(shift - before).max() < _NEAR:
                break
        total, _ = align(self.spectra, shift, self.neighbours.weight)
        return shift, self.measured(self.spectra, self.own, total, shift)

    def search_band(self, powers: RingPowers) -> float:
        """Return the frequency below which there is signal enough to find the shifts."""
        told = np.cumsum(powers.gain * self.spectra.members) * len(self.spectra)
        enough = int(np.searchsorted(told, _ENOUGH))
        frequency = self.spectra.ring_frequency[min(enough, len(told) - 1)]
        return float(np.clip(frequency, _LOWEST_BAND, _SEARCH_BAND))

    def refined(self, shift: FloatArray, powers: RingPowers) -> ShiftEstimate:
        """Return the estimate from shifts near it, by Fisher scoring."""
        spectra = self.spectra.within(self.band(powers))
        powers = powers.until(spectra.rings)
        own, still = self.own, self.still
        if spectra is not self.spectra:
            own, still, _ = neighbour_powers(spectra)
        gain, steps, settled = np.inf, 0, False
        while not settled and steps < _SCORING_STEPS:
            steps += 1
            before = gain
            total, gradient = align(spectra, shift, powers.weight)
            gain = self.gain(spectra, powers, shift, total, still)
            gradient += self.pattern.slope(
                spectra,
                shift,
                powers.explained_slope(total, spectra.members, self.pattern.seen(spectra, shift)),
            )
            drift = self.priors.posterior(shift, gradient, powers.information(spectra), gain)
            change = float(np.abs(drift.shift - shift).max())
            at, shift = shift, drift.shift
            settled = change < max(_TOLERANCE, _NEAR_ENOUGH * float(drift.error.max()))
            settled &= abs(gain - before) < _SAME + _NEAR_ENOUGH * abs(gain)
            strength = float(powers.weight @ (total - own))
            if not settled:
                powers = self.measured(spectra, own, total, at).less_fitted(spectra, drift.freedom)
        return ShiftEstimate(drift, spectra.rings, gain, strength, steps)

    def band(self, powers: RingPowers) -> float:
        """Return the frequency beyond which little is said about shifts."""
        spectra = self.spectra
        # Each frame against the sum of the others.
        if float(np.sum(powers.gain * spectra.members)) * len(spectra) < _PLENTY:
            return 0.5
        told = np.cumsum(powers.gain * spectra.members * spectra.ring_frequency**2)
        last = int(np.searchsorted(told, _MOST_INFORMATION * told[-1]))
        return float(spectra.ring_frequency[min(last + 2, len(told) - 1)])

    def gain(
        self,
        spectra: FrameSpectra,
        powers: RingPowers,
        shift: FloatArray,
        total: FloatArray,
        still: FloatArray,
    ) -> float:
        """Return the log-likelihood of shifts against none."""
        members = spectra.members
        moved = powers.explained(total, members, self.pattern.seen(spectra, shift))
        none = self.pattern.seen(spectra, np.zeros_like(shift))
        return moved - powers.explained(still, members, none)

    def measured(
        self, spectra: FrameSpectra, own: FloatArray, total: FloatArray, shift: FloatArray
    ) -> RingPowers:
        """Return powers from ring sums of the frames' powers and of the aligned sum's.

        Per frequency they are ``N noise + P signal`` and ``N seen + P seen^2``.
        """
        g = spectra.exposure
        share = self.pattern.share
        count, squares = g.sum(), (g**2).sum()
        seen = self.pattern.seen(spectra, shift)
        noise = count - share * squares
        rest = (count - seen) / share if share > 0 else 0.0
        signal = squares - 2 * share * rest + share**2 * squares * rest
        cross = (total - own * seen / noise) / (seen**2 - signal * seen / noise)
        pairs = len(g) * (len(g) - 1) / 2
        powers = RingPowers.measured(spectra, own * count / noise, cross, pairs)
        return RingPowers(powers.signal, powers.noise, seen)

    def log_likelihood(self, found: ShiftEstimate, frames: _Estimator) -> float:
        """Return that of an estimate for frames as they are, before a pattern was taken off."""
        spectra, members = self.spectra, self.spectra.members
        shift = found.drift.shift
        total, _ = align(spectra, shift, self.neighbours.weight)
        powers = self.measured(spectra, self.own, total, shift)
        exposure = float(spectra.exposure.sum())
        rings = (self.pattern.share * frames.still - frames.own) / powers.noise
        rings -= len(spectra) * members * np.log(powers.noise)
        rings -= members * np.log1p(self.pattern.power * exposure)
        seen = self.pattern.seen(spectra, shift)
        return float(rings.sum()) + powers.explained(total, members, seen)

    def at_rest(self, found: ShiftEstimate) -> FloatArray:
        """Return the (ring,) power that a specimen adds to the plain sum over single frames."""
        spectra, shift = self.spectra, found.drift.shift
        total, _ = align(spectra, shift, self.neighbours.weight)
        powers = self.measured(spectra, self.own, total, shift)
        rest = self.pattern.at_rest(spectra, shift) - float((spectra.exposure**2).sum())
        return powers.signal * rest * spectra.members
