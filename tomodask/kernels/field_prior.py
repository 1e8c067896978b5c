"""What is believed of local motion, before and after the patches of a movie were seen.

The field's spline coefficients have a Gaussian prior: a covariance over the knots in space, smooth
on the scale of a length, times one over the knots in time, a walk from the first frame on or a
smooth drift, times a size. As for the motion of whole frames
(:mod:`tomodask.kernels.drift_prior`), lengths, kinds and sizes are judged by their evidence, and
the field is the mean over all of them. A patch counts by what it knows about its displacement, so
that an empty one is drawn along by its neighbours.

Both covariances and the curvature of the likelihood are products of space and time. In the modes
that are independent in time, each a problem of as many values as there are patches remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.drift_prior import pair_curvature
from tomodask.kernels.motion_field import spline_basis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Field", "FieldPriors"]

#: Root mean square displacements, pixels, and lengths, as fractions of the longer edge.
_SIZES = 2.0 ** np.arange(-5, 4)
_LENGTHS = (0.35, 0.7, 1.4)
#: A share of the variance that is independent between knots keeps matrices well conditioned.
_RIDGE = 1e-4


@dataclass(frozen=True, eq=False, slots=True)
class Field:
    """What is believed of the field after the patches were seen.

    Parameters
    ----------
    coefficients
        (t, y, x, 2) of the splines, pixels; the mean over frames is zero everywhere.
    at_patches
        (patch, frame, 2) displacements, pixels.
    odds
        Log of the odds of local motion against none.
    freedom
        Number of values that the frames, not the priors, decided.
    """

    coefficients: FloatArray
    at_patches: FloatArray
    odds: float
    freedom: float


class FieldPriors:
    """Priors for a field that is seen at patches.

    Parameters
    ----------
    exposure
        (frame,) relative exposures.
    centres
        (patch, 2) (y, x) centres of the patches, pixel indices.
    shape
        (y, x) pixels of a frame.
    knots
        Numbers of coefficients along t, y and x.
    """

    def __init__(
        self,
        exposure: FloatArray,
        centres: FloatArray,
        shape: tuple[int, int],
        knots: tuple[int, int, int],
    ) -> None:
        count = len(exposure)
        self.knots = knots
        in_time = spline_basis(np.arange(count, dtype=np.float64), count, knots[0])
        # Splines sum to one: taking a coefficient-weighted mean off takes it off everywhere.
        self._centred = np.eye(knots[0]) - in_time.mean(axis=0)
        self._in_time = in_time @ self._centred
        self._pair = pair_curvature(exposure)
        in_space = [
            spline_basis(centres[:, axis], shape[axis], knots[1 + axis]) for axis in range(2)
        ]
        self._in_space = np.einsum("py,px->pyx", *in_space).reshape(len(centres), -1)
        edges = np.array(shape) / max(shape)
        at = [(np.arange(n) - 1) / (n - 3) * edge for n, edge in zip(knots[1:], edges, strict=True)]
        grid = np.stack(np.meshgrid(*at, indexing="ij"), axis=-1).reshape(-1, 2)
        squared = ((grid[:, None] - grid) ** 2).sum(axis=-1)
        self._space = []
        for length in _LENGTHS:
            covariance = np.exp(-squared / (2 * length**2)) + _RIDGE * np.eye(len(grid))
            scale = np.einsum("pk,kl,pl->p", self._in_space, covariance, self._in_space).mean()
            self._space.append(covariance / scale)
        self._time = []
        for covariance in _kinds(knots[0]):
            root = self._centred @ np.linalg.cholesky(covariance)
            scale = np.mean(np.sum((in_time @ root) ** 2, axis=1))
            root /= np.sqrt(scale)
            seen = in_time @ root
            values, vectors = np.linalg.eigh(seen.T @ self._pair @ seen)
            known = values > 1e-9 * values.max()
            self._time.append((root @ vectors[:, known], values[known]))

    def posterior(
        self, displacement: FloatArray, gradient: FloatArray, information: FloatArray, gain: float
    ) -> Field:
        """Return the average over all priors, given the log-likelihood near some displacements.

        Parameters
        ----------
        displacement
            (patch, frame, 2) where the log-likelihood was taken, pixels.
        gradient
            (patch, frame, 2) of the log-likelihood there.
        information
            (patch,) its expected curvature for a pair of frames of mean exposure.
        gain
            Log-likelihood there against no displacement.
        """
        bent = information[:, None, None] * np.einsum("ij,pja->pia", self._pair, displacement)
        target = gradient + bent
        constant = gain - float(np.sum(displacement * (gradient + bent / 2)))
        odds, means, freedoms = [], [], []
        identity = np.eye(len(information))
        for (modes, curvature), space in product(self._time, self._space):
            pull = np.einsum("im,pia->mpa", self._in_time @ modes, target)
            seen = space @ self._in_space.T
            covariance = self._in_space @ seen
            for size in _SIZES:
                known = size**2 * curvature[:, None, None] * (information[:, None] * covariance)
                system = identity + known
                solved = np.linalg.solve(system, pull)
                fit = 0.5 * size**2 * float(np.sum(pull * (covariance @ solved)))
                odds.append(constant + fit - float(np.linalg.slogdet(system)[1].sum()))
                means.append(size**2 * np.einsum("tm,mka->tka", modes, seen @ solved))
                left = np.trace(np.linalg.inv(system), axis1=1, axis2=2)
                freedoms.append(2 * float((len(identity) - left).sum()))
        log = np.array(odds) - np.log(len(odds))
        total = float(np.logaddexp.reduce(log))
        weight = np.exp(log - total)
        flat = np.einsum("w,wtka->tka", weight, np.array(means))
        return Field(
            coefficients=flat.reshape(*self.knots, 2),
            at_patches=np.einsum("it,tka,pk->pia", self._in_time, flat, self._in_space),
            odds=total,
            freedom=float(weight @ np.array(freedoms)),
        )


def _kinds(count: int) -> list[FloatArray]:
    """Return (t, t) covariances of the coefficients in time: a walk, and a smooth drift."""
    t = np.arange(1, count + 1, dtype=np.float64)
    low, high = np.minimum(t[:, None], t), np.maximum(t[:, None], t)
    smooth = low**2 * (3 * high - low) / 6 + count / 3 * low * high
    return [low, smooth + 1e-6 * smooth.max() * np.eye(count)]
