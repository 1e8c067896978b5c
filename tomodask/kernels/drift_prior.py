"""What is believed of a drift before the frames are seen, and what is left of it afterwards.

The shifts of n frames have n - 1 free values along each axis: a common offset means nothing. A
prior is a Gaussian covariance of a kind and a size. The kinds are independent jitter, a random
walk, a walk whose steps die away, a smooth drift (the integral of a random walk in velocity), and
a smooth drift with one jump at any of many places. Near the best shifts the log-likelihood is a
parabola, so that each prior's evidence, mean and covariance are those of a linear Gaussian model
(Laplace's method), and the result is their average, weighted by the evidence. No parameter is tuned
to a movie, and where the frames say nothing, "no motion", which is one of the priors, wins.

References
----------
.. [1] MacKay, D., Bayesian interpolation, Neural Comput. 4 (1992) 415,
   doi:10.1162/neco.1992.4.3.415 (evidence as the judge of priors).
.. [2] Zivanov, J., Nakane, T. and Scheres, S., A Bayesian approach to beam-induced motion
   correction in cryo-EM single-particle analysis, IUCrJ 6 (2019) 5,
   doi:10.1107/S205225251801463X (Gaussian priors for trajectories).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Drift", "DriftPriors", "pair_curvature", "prior_bytes"]

#: Root mean square shifts of the priors, pixels.
_SIZES = 2.0 ** np.arange(-4, 6)
#: Frames over which the steps of a dying walk fall by e.
_BURST = 1.5
#: Every kind holds this much independent jitter, as part of its variance.
_JITTER = 1e-4
#: Of each kind's variance in a jump.
_JUMP = 0.9
#: Most places of a jump: in longer movies evenly spread, since each costs a matrix of all frames.
_JUMPS = 32
#: Beliefs beyond this factor below the best are left out.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class Drift:
    """What is believed of the shifts after the frames were seen.

    Parameters
    ----------
    shift
        (frame, 2) mean, pixels; sums to zero.
    error
        (frame, 2) standard deviation, pixels.
    odds
        Log of the odds of motion against no motion.
    freedom
        Number of values that the frames, not the priors, decided: 2 (n - 1) at most.
    """

    shift: FloatArray
    error: FloatArray
    odds: float
    freedom: float


class DriftPriors:
    """Priors for the shifts of frames.

    Parameters
    ----------
    exposure
        (frame,) relative exposures: how much a frame says of its shift.
    """

    def __init__(self, exposure: FloatArray) -> None:
        count = len(exposure)
        self._contrast = np.linalg.svd(np.eye(count) - 1 / count)[0][:, : count - 1]
        self._pair = self._contrast.T @ pair_curvature(exposure) @ self._contrast
        kinds = 1 if count == 2 else 6 + len(_jumps(count))
        # (kind, value, mode): shifts of unit variance in each mode, and their curvature.
        self._modes = np.empty((kinds, count - 1, count - 1))
        self._curvature = np.empty((kinds, count - 1))
        self._log_prior = np.empty(kinds)
        for kind, (shape, probability) in enumerate(_kinds(count)):
            covariance = self._contrast.T @ shape @ self._contrast
            root = np.linalg.cholesky(covariance + _JITTER * np.eye(count - 1))
            values, vectors = np.linalg.eigh(root.T @ self._pair @ root)
            self._modes[kind] = root @ vectors
            self._curvature[kind] = np.maximum(values, 0)
            self._log_prior[kind] = np.log(probability) - np.log(len(_SIZES))

    def posterior(
        self, shift: FloatArray, gradient: FloatArray, information: float, gain: float
    ) -> Drift:
        """Return the average over all priors, given the log-likelihood near some shifts.

        Parameters
        ----------
        shift
            (frame, 2) where the log-likelihood was taken, pixels.
        gradient
            (frame, 2) of the log-likelihood there.
        information
            Its expected curvature for a pair of frames of mean exposure.
        gain
            Log-likelihood there against no shift.
        """
        here = self._contrast.T @ shift
        bent = information * self._pair @ here
        # About no shift the parabola is: constant + target.s - s.curvature.s / 2.
        slope = self._contrast.T @ gradient
        target = slope + bent
        constant = gain - float(np.sum(here * (slope + bent / 2)))
        # (kind, size, mode, axis)
        pull = np.einsum("kvm,va->kma", self._modes, target)[:, None]
        curvature = information * self._curvature[:, None]
        precision = curvature + (_SIZES**-2.0)[:, None]
        mean = pull / precision[..., None]
        evidence = 0.5 * np.sum(pull * mean, axis=(2, 3))
        evidence -= np.sum(np.log(precision * (_SIZES**2)[:, None]), axis=2)
        log = constant + evidence + self._log_prior[:, None]
        odds = float(np.logaddexp.reduce(log, axis=None))
        weight = np.exp(log - odds)
        average = np.zeros_like(here)
        second = np.zeros((2, len(here), len(here)))
        freedom = 0.0
        for kind, size in np.argwhere(weight > _NEGLIGIBLE * weight.max()):
            modes, share = self._modes[kind], weight[kind, size]
            each = modes @ mean[kind, size]
            average += share * each
            second += share * (modes / precision[kind, size]) @ modes.T
            second += share * np.einsum("va,wa->avw", each, each)
            freedom += share * 2 * float(np.sum(curvature[kind, 0] / precision[kind, size]))
        second -= np.einsum("va,wa->avw", average, average)
        variance = np.einsum("fv,avw,fw->fa", self._contrast, second, self._contrast)
        return Drift(
            shift=self._contrast @ average,
            error=np.sqrt(np.maximum(variance, 0)),
            odds=odds,
            freedom=freedom,
        )


def pair_curvature(exposure: FloatArray) -> FloatArray:
    """Return the (frame, frame) curvature of the log-likelihood per unit of information.

    Every pair of frames is tied by the product of its exposures.
    """
    pair: FloatArray = np.diag(exposure * exposure.sum()) - np.outer(exposure, exposure)
    return pair


def prior_bytes(count: int) -> int:
    """Return the most bytes that the priors for so many frames need."""
    # The modes of all kinds, and what is at work on those of one.
    return 8 * count**2 * (6 + len(_jumps(count)) + 28)


def _jumps(count: int) -> NDArray[np.intp]:
    """Return the frames at which a jump may end."""
    return np.rint(np.linspace(1, count - 1, min(count - 1, _JUMPS))).astype(np.intp)


def _kinds(count: int) -> Iterator[tuple[FloatArray, float]]:
    """Yield (frame, frame) covariances of unit mean variance, and their probabilities."""
    t = np.arange(count, dtype=np.float64)
    low, high = np.minimum(t[:, None], t), np.maximum(t[:, None], t)
    jitter = _unit(np.eye(count))
    if count == 2:
        yield jitter, 1.0
        return
    walk = _unit(low)
    burst = _unit(1 - np.exp(-low / _BURST))
    smooth = _unit(low**2 * (3 * high - low) / 6 + count / 3 * low * high)
    for shape in (jitter, walk, burst, smooth, 0.97 * smooth + 0.03 * walk, (smooth + burst) / 2):
        yield shape, 1 / 7
    jumps = _jumps(count)
    for jump in jumps:
        step = _unit(np.outer(t >= jump, t >= jump).astype(np.float64))
        yield _JUMP * step + (1 - _JUMP) * smooth, 1 / 7 / len(jumps)


def _unit(covariance: FloatArray) -> FloatArray:
    """Return a covariance about the mean over frames, scaled to a mean variance of 1."""
    centre = np.eye(len(covariance)) - 1 / len(covariance)
    centred = centre @ covariance @ centre
    scaled: FloatArray = centred / (np.trace(centred) / len(centred))
    return scaled
