"""The power of the specimen and of the noise on each ring of a movie's transforms.

What is common to aligned frames is the specimen: their cross-power on a ring estimates its power
without bias. One ring holds too few frequencies at the dose of a tilt series, and a wide average
would wash out Thon rings. So averages of falling width are taken in turn, each correcting the
wider one where they differ by more than chance.

References
----------
.. [1] Lepski, O., Mammen, E. and Spokoiny, V., Optimal spatial adaptation to inhomogeneous
   smoothness, Ann. Statist. 25 (1997) 929, doi:10.1214/aos/1069362731.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.frame_spectra import FrameSpectra

    FloatArray = NDArray[np.float64]

__all__ = ["RingPowers"]

#: Rings below this are left out: they hold the illumination, not the specimen.
LOWEST_RING = 4
#: Widths of the averages, as fractions of the number of rings up to Nyquist.
_WIDTHS = (1 / 12, 1 / 24, 1 / 48, 1 / 96, 1 / 192)
#: A narrower average corrects a wider one by what exceeds this many standard errors.
_CHANCE = 3.0
#: The specimen has at most this part of a frame's power: the weights have a pole at 1.
_MOST = 0.98


@dataclass(frozen=True, eq=False, slots=True)
class RingPowers:
    """Powers in a frame of mean exposure.

    Parameters
    ----------
    signal, noise
        (ring,) power of the specimen and of the noise.
    exposure
        (ring,) sum of the relative exposures of the frames, as far as the specimen is seen.
    """

    signal: FloatArray
    noise: FloatArray
    exposure: FloatArray

    @classmethod
    def measured(
        cls, spectra: FrameSpectra, own: FloatArray, cross: FloatArray, pairs: float
    ) -> RingPowers:
        """Estimate from sums over rings.

        Parameters
        ----------
        spectra
            Whose rings and exposures they are.
        own
            (ring,) sum of the frames' powers.
        cross
            (ring,) sum of the products of pairs of aligned frames, over the sum of the pairs'
            exposure products.
        pairs
            Number of independent pairs in it.
        """
        members = np.maximum(spectra.members, 1e-6)
        exposure = float(spectra.exposure.sum())
        level = own / (members * exposure)
        nyquist = max(spectra.shape) / 2
        widest = max(2.0, _WIDTHS[0] * nyquist)
        level = _average(level, members, max(1.0, widest / 8))[0]
        valid = np.where(np.arange(len(members)) < LOWEST_RING, 1e-9, members)
        ratio = cross / members / level
        signal = np.zeros_like(ratio)
        error = np.zeros_like(ratio)
        for rank, width in enumerate(_WIDTHS):
            average, spread = _average(ratio, valid, max(1.0, width * nyquist))
            error_here = np.sqrt(spread / (2 * pairs))
            if rank == 0:
                signal, error = average, error_here
                continue
            step = average - signal
            beyond = ndimage.gaussian_filter1d((step / error_here) ** 2, max(1, width * nyquist))
            share = np.clip(1 - _CHANCE**2 / np.maximum(beyond, 1e-9), 0, 1)
            signal = signal + share * step
            error = np.sqrt((1 - share) * error**2 + share * error_here**2)
        # What lies within its error of nothing is shrunk towards it.
        signal = np.maximum(signal, 0)
        signal *= signal**2 / np.maximum(signal**2 + error**2, 1e-30)
        signal[:LOWEST_RING] = 0
        signal = np.minimum(signal, _MOST)
        return cls(
            signal=signal * level,
            noise=(1 - signal) * level,
            exposure=np.full(len(level), exposure),
        )

    def less_fitted(self, spectra: FrameSpectra, freedom: float) -> RingPowers:
        """Return the powers without what fitted shifts have made of noise.

        Each fitted value raises the log-likelihood by half a unit on average even where nothing
        is common, spread over the rings as the information about shifts is.
        """
        squared = 4 * np.pi**2 * spectra.ring_frequency**2
        information = self.information(spectra)
        pairs = self.exposure**2 - float((spectra.exposure**2).sum())
        excess = freedom / 2 * squared / np.maximum(pairs * information, 1e-30)
        signal = self.signal * np.maximum(1 - excess, 0)
        return RingPowers(signal, self.noise + self.signal - signal, self.exposure)

    def scaled(self, amplitude: float) -> RingPowers:
        """Return the powers where the specimen's is `amplitude` times as strong."""
        signal = np.minimum(amplitude * self.signal, _MOST * (self.signal + self.noise))
        return RingPowers(signal, self.signal + self.noise - signal, self.exposure)

    @property
    def weight(self) -> NDArray[np.float32]:
        """(ring,) weight W of the power of the aligned sum in the log-likelihood."""
        total = self.noise + self.signal * self.exposure
        weight: NDArray[np.float32] = (self.signal / (self.noise * total)).astype(np.float32)
        return weight

    @property
    def gain(self) -> FloatArray:
        """(ring,) expected log-likelihood per frequency and unit of exposure product."""
        return self.signal * self.weight

    def information(self, spectra: FrameSpectra) -> float:
        """Return the curvature that a pair of frames of mean exposure is expected to give.

        It is the same along both axes, in 1/pixel^2.
        """
        squared = spectra.ring_frequency**2
        return float(4 * np.pi**2 * np.sum(squared * self.gain * spectra.members))

    def explained(self, total: FloatArray, members: FloatArray, seen: FloatArray) -> float:
        """Return the log-likelihood over that of noise alone.

        Parameters
        ----------
        total
            (ring,) sums of the power of the aligned sum.
        members
            (ring,) numbers of frequencies.
        seen
            (ring,) exposure of the specimen.
        """
        ratio = 1 + self.signal * seen / self.noise
        rings = self.signal * total / (self.noise**2 * ratio) - members * np.log(ratio)
        return float(rings.sum())

    def explained_slope(
        self, total: FloatArray, members: FloatArray, seen: FloatArray
    ) -> FloatArray:
        """Return the (ring,) derivative of :meth:`explained` with respect to `seen`."""
        left = self.signal / (self.noise + self.signal * seen)
        slope: FloatArray = -left * (left * total / self.noise + members)
        return slope

    def until(self, rings: int) -> RingPowers:
        """Return the powers of the first `rings` rings."""
        return RingPowers(self.signal[:rings], self.noise[:rings], self.exposure[:rings])


def _average(
    values: FloatArray, members: FloatArray, width: float
) -> tuple[FloatArray, FloatArray]:
    """Return Gaussian averages over rings, weighted by members, and 1 / (their members)."""
    many = ndimage.gaussian_filter1d(members, width, mode="constant")
    average = ndimage.gaussian_filter1d(members * values, width, mode="constant") / many
    # A Gaussian average of deviation w over independent values has the variance of
    # 2 sqrt(pi) w of them.
    return average, 1 / (many * 2 * np.sqrt(np.pi) * width)
