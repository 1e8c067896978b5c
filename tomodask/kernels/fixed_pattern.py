"""What stands still in a movie: the camera's own pattern, left by an imperfect gain reference.

It is common to all frames, as the specimen is, but does not move, so that it pulls every shift to
zero. It is taken as white: its power Q is that of the plain sum of the frames at the highest
frequencies. With noise of power ``g_i N`` in frame i, the covariance of what is not the specimen is
``N diag(g) + Q g g^T``, and the specimen's log-likelihood is that without a pattern, of the frames
``F_i - g_i Q / (N + Q sum g) sum_j F_j``.

A specimen that hardly moved looks like a pattern there. Which of the two it is, the likelihoods of
both explanations decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.frame_spectra import FrameSpectra

    FloatArray = NDArray[np.float64]

__all__ = ["FixedPattern", "pattern_power"]

#: The pattern is measured on the highest rings, this part of all.
_OUTER = 0.3
#: A pattern below this many standard errors is none.
_SIGNIFICANT = 5.0


@dataclass(frozen=True, eq=False, slots=True)
class FixedPattern:
    """A pattern that stands still.

    Parameters
    ----------
    power
        Its power Q over the noise N of a frame.
    exposure
        (frame,) relative exposures.
    """

    power: float
    exposure: FloatArray

    @property
    def share(self) -> float:
        """Part of the frames' sum that is taken off each frame, per unit of its exposure."""
        return self.power / (1 + self.power * float(self.exposure.sum()))

    def removed(self, spectra: FrameSpectra) -> FrameSpectra:
        """Return frames without what they have in common at rest as far as it is pattern."""
        parts = []
        for part in (spectra.real, spectra.imaginary):
            total, rest = part.sum(axis=0), part.copy()
            for i, exposure in enumerate(self.exposure):
                rest[i] -= total * np.float32(exposure * self.share)
            parts.append(rest)
        return replace(spectra, real=parts[0], imaginary=parts[1])

    def at_rest(self, spectra: FrameSpectra, shift: FloatArray) -> FloatArray:
        """Return how much of a (ring,) specimen is left in the plain sum of frames, squared."""
        distance = np.linalg.norm(shift[:, None] - shift, axis=-1)
        phase = 2 * np.pi * spectra.ring_frequency[:, None, None] * distance
        g = self.exposure
        rest: FloatArray = np.einsum("i,rij,j->r", g, special.j0(phase), g)
        return rest

    def seen(self, spectra: FrameSpectra, shift: FloatArray) -> FloatArray:
        """Return the (ring,) exposure that is left to the specimen of the frames' sum."""
        total = float(self.exposure.sum())
        if self.power == 0:
            return np.full(spectra.rings, total)
        return total - self.share * self.at_rest(spectra, shift)

    def slope(self, spectra: FrameSpectra, shift: FloatArray, rings: FloatArray) -> FloatArray:
        """Return the (frame, 2) derivative of ``rings @ seen`` with respect to the shifts."""
        if self.power == 0:
            return np.zeros_like(shift)
        apart = shift[:, None] - shift
        distance = np.linalg.norm(apart, axis=-1)
        k = 2 * np.pi * spectra.ring_frequency[:, None, None]
        falls = np.einsum("r,rij->ij", rings, k * special.j1(k * distance))
        falls *= np.outer(self.exposure, self.exposure) / np.maximum(distance, 1e-9)
        slope: FloatArray = 2 * self.share * np.einsum("ij,ija->ia", falls, apart)
        return slope


def pattern_power(
    spectra: FrameSpectra, own: FloatArray, plain: FloatArray, moving: FloatArray
) -> float:
    """Return the power Q of a pattern relative to the noise N of a frame; 0 where there is none.

    Parameters
    ----------
    spectra
        Of the frames.
    own, plain
        (ring,) sums of the frames' powers, and of the power of their plain sum.
    moving
        (ring,) what of `plain - own` is the specimen's.
    """
    g = spectra.exposure
    outer = slice(int((1 - _OUTER) * spectra.rings), None)
    members = float(spectra.members[outer].sum())
    noise = float(own[outer].sum()) / (members * g.sum())
    pairs = g.sum() ** 2 - float((g**2).sum())
    common = float((plain - own - moving)[outer].sum()) / (members * pairs)
    error = noise / np.sqrt(members * pairs)
    # The pattern is part of what was taken for noise.
    return common / (noise - common) if _SIGNIFICANT * error < common < 0.9 * noise else 0.0
