"""Local motion of the specimen, from what a rigid one leaves unexplained.

Every place (x, y, z) of the specimen is displaced in each view by a vector, which is a smooth
function of x and y, linear in z, and related between views: a Gaussian process. The points and the
shifts of the views are free, so that what they explain is not taken for motion; the rest is linear
least squares with a prior. Amplitude, correlation length and pace of the motion are those of the
greatest evidence, the probability of the data with everything else integrated out. The result is
believed only if it predicts observations that were left out.

References
----------
.. [1] Rasmussen, C. E. and Williams, C. K. I., Gaussian Processes for Machine Learning, MIT Press
   2006, chapters 2.7 and 5.4.
.. [2] Fernandez, J.-J., Li, S., Bharat, T. A. M. and Agard, D. A., Cryo-tomography tilt-series
   alignment with consideration of the beam-induced sample motion, J. Struct. Biol. 202 (2018) 200,
   doi:10.1016/j.jsb.2018.02.001 (motion of the specimen from residuals of landmarks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from scipy.optimize import minimize_scalar

from tomodask.kernels.bundle.sighting import PARTS, Sighting, sightings
from tomodask.kernels.bundle.smoothness import Surface, paces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.observations import Observations

    FloatArray = NDArray[np.float64]

__all__ = ["LocalMotion", "MotionPrior", "local_motion"]

#: Landmarks without which nothing local is looked for.
_LANDMARKS = 6
#: Correlation lengths that are tried, as fractions of the landmarks' extent.
_LENGTHS = (2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.12)
#: Least one in units of the distance between landmarks.
_SPACINGS = 1.2
#: How far the surfaces may move against each other, as a fraction of how far the middle moves.
_DEPTHS = (0.0, 0.3, 1.0)
#: Functions of the place and the view at most, and variance of one, relative to the largest, that
#: is left out.
_MOST, _NEGLIGIBLE = 200, 1e-6
#: Gain of what was left out, in its standard errors, and as a part of the variance, below which
#: there is no motion.
_SURE, _WORTH = 2.0, 0.02


@dataclass(frozen=True, slots=True)
class MotionPrior:
    """What is expected of a motion.

    Parameters
    ----------
    pace
        How it goes from view to view, in words.
    length
        Its correlation length along x and y.
    depth
        How far the surfaces may move against each other, as a fraction of how far the middle
        moves.
    """

    pace: str
    length: float
    depth: float


@dataclass(frozen=True, slots=True, eq=False)
class LocalMotion:
    """How the specimen moved; lengths in the unit of the points.

    Parameters
    ----------
    knot_y, knot_x
        (ky,) and (kx,).
    shift, slope
        (view, ky, kx, 2) displacement of the image of the plane z = 0, and what is added per
        height; between the knots natural cubic splines.
    left_out_rigid, left_out
        Root mean square distance of landmarks from their predicted places where they were left
        out of the estimate, without and with the motion.
    prior
        What the data made one expect.
    """

    knot_y: FloatArray
    knot_x: FloatArray
    shift: FloatArray
    slope: FloatArray
    left_out_rigid: float
    left_out: float
    prior: MotionPrior


def local_motion(
    observations: Observations,
    camera: FloatArray,
    points: FloatArray,
    tilt_angle: FloatArray,
    *,
    exposed: FloatArray | None = None,
    prior: MotionPrior | None = None,
) -> LocalMotion | None:
    """Return how the specimen moved locally, None where it did not so that anything could tell.

    Parameters
    ----------
    observations
        Positions in the aligned images (rotated and shifted as the rigid solution has it) and
        weights; those of landmarks without a point are not used.
    camera
        (view, 2, 3) aligned cameras: ``(u, v) = camera (x, y, z)``.
    points
        (landmark, 3) of the rigid solution; NaN where not known.
    tilt_angle
        (view,) degrees.
    exposed
        (view,) what grows with the exposures, such as the dose before each view.
    prior
        Of a motion that was found before; by default that of the greatest evidence.
    """
    data = sightings(observations, camera, points, tilt_angle)
    if len(data) < _LANDMARKS:
        return None
    place = np.array([one.point for one in data])
    ways = paces(tilt_angle, exposed)
    best = _searched(data, place, ways) if prior is None else _Fit.create(data, place, ways, prior)
    if not best.evidence > 0:
        return None
    before, after = best.residuals_left_out(data).T
    gain = before - after
    error = float(np.std(gain, ddof=1) / np.sqrt(len(gain)))
    if not (gain.mean() > _SURE * error and gain.sum() > _WORTH * before.sum()):
        return None
    count = sum(len(one.view) for one in data)
    shift, slope = best.at_knots(camera)
    return LocalMotion(
        best.surface.knot_y,
        best.surface.knot_x,
        shift,
        slope,
        float(np.sqrt(before.sum() / count)),
        float(np.sqrt(after.sum() / count)),
        best.prior,
    )


def _searched(data: list[Sighting], place: FloatArray, ways: dict[str, FloatArray]) -> _Fit:
    """Return the fit of the greatest evidence; one choice is made after the other."""
    extent = float(np.ptp(place[:, :2], axis=0).max())
    spacing = float(np.sqrt(np.prod(np.ptp(place[:, :2], axis=0)) / len(place)))
    lengths = [extent * one for one in _LENGTHS if extent * one > _SPACINGS * spacing] or [extent]
    middle = lengths[len(lengths) // 2]
    tried = [_Fit.create(data, place, ways, MotionPrior(pace, middle, 0.0)) for pace in ways]
    best = max(tried, key=lambda one: one.evidence)
    for vary in ("length", "depth", "length"):
        known = {one.prior for one in tried}
        if vary == "length":
            trials = [replace(best.prior, length=one) for one in lengths]
        else:
            trials = [replace(best.prior, depth=one) for one in _DEPTHS]
        tried += [_Fit.create(data, place, ways, one) for one in trials if one not in known]
        best = max(tried, key=lambda one: one.evidence)
    return best


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """The motion for one choice of the prior.

    Parameters
    ----------
    surface, functions
        Functions of the place: over x and y, and their (landmark, function) values, those that
        are linear in z last.
    prior
        The choice.
    views
        (view, function) functions of the view.
    pairs
        (2, pair) functions of the place and of the view whose products are used.
    height
        By which z is divided where functions are linear in it, times how little they may move.
    strength
        Variance of the motion in units of the noise's.
    evidence
        Logarithm, more than that of no motion.
    amplitudes
        (pair, 3) what was found.
    """

    surface: Surface
    functions: FloatArray
    prior: MotionPrior
    views: FloatArray
    pairs: NDArray[np.int64]
    height: float
    strength: float
    evidence: float
    amplitudes: FloatArray

    @classmethod
    def create(
        cls,
        data: list[Sighting],
        place: FloatArray,
        ways: dict[str, FloatArray],
        prior: MotionPrior,
    ) -> _Fit:
        """Return the fit of the amplitude of the greatest evidence."""
        views = ways[prior.pace]
        surface = Surface.create(place[:, 0], place[:, 1], prior.length)
        functions = surface.at(place[:, 0], place[:, 1])
        height = np.inf
        if prior.depth:
            height = float(np.sqrt(np.mean(place[:, 2] ** 2))) / prior.depth
            functions = np.concatenate([functions, functions * place[:, 2:] / height], axis=1)
        pairs = _pairs(functions, views)
        views = views[:, : pairs[1].max() + 1]  # the first matter most
        square, pull = _normal(data, functions, views, pairs)
        size = 3 * pairs.shape[1]
        # The shifts are free: they are eliminated.
        shifts, rank = _pseudo_inverse(square[size:, size:])
        through = square[:size, size:] @ shifts
        values, vectors = np.linalg.eigh(square[:size, :size] - through @ square[size:, :size])
        projected = vectors.T @ (pull[:size] - through @ pull[size:])
        total = sum(one.total for one in data) - float(pull[size:] @ shifts @ pull[size:])
        freedom = sum(one.freedom for one in data) - rank
        # What no observation tells of, but for rounding.
        known = values > 1e-12 * values[-1]
        values, projected = np.where(known, values, 0), np.where(known, projected, 0)

        def evidence(log_strength: float) -> float:
            strength = np.exp(log_strength)
            left = total - float(np.sum(strength * projected**2 / (1 + strength * values)))
            determinant = float(np.log1p(strength * values).sum())
            return -0.5 * determinant - 0.5 * freedom * float(np.log(left / total))

        coarse = max(np.arange(-8.0, 16.0, 2.0), key=evidence)
        found = minimize_scalar(
            lambda at: -evidence(at), bounds=(coarse - 2, coarse + 2), method="bounded"
        )
        strength = float(np.exp(found.x))
        amplitudes = vectors @ (strength * projected / (1 + strength * values))
        return cls(
            surface,
            functions,
            prior,
            views,
            pairs,
            height,
            strength,
            float(-found.fun),
            amplitudes.reshape(-1, 3),
        )

    def at_knots(self, camera: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (view, ky, kx, 2) shift and slope of the aligned images."""
        flat = self.surface.functions.shape[2]
        shape = (len(self.views), *self.surface.functions.shape[:2], 3)
        moved, bent = np.zeros(shape), np.zeros(shape)
        for (place, view), amplitude in zip(self.pairs.T, self.amplitudes, strict=True):
            surface = self.surface.functions[:, :, place % flat]
            part = self.views[:, view, None, None, None] * surface[:, :, None] * amplitude
            if place < flat:
                moved += part
            else:
                bent += part / self.height
        return tuple(np.einsum("vac,vyxc->vyxa", camera, one) for one in (moved, bent))

    def residuals_left_out(self, data: list[Sighting]) -> FloatArray:
        """Return (landmark, 2) sums of squares left out: without motion, and with it.

        Of each landmark a quarter of its views, neighbours in tilt, is predicted from its other
        views and from the other landmarks.
        """
        size = 3 * self.pairs.shape[1]
        found = np.zeros((len(data), 2))
        prior = np.zeros(size + 2 * len(self.views))
        prior[:size] = 1 / self.strength
        for fold in range(PARTS):
            kept = [one.without(fold + rank) for rank, one in enumerate(data)]
            square, pull = _normal(kept, self.functions, self.views, self.pairs)
            # The origin is free, and a view that nothing is left to tell of stays where it is.
            system = square + np.diag(prior + 1e-9 * np.trace(square) / len(square))
            for column, start in enumerate((size, 0)):
                solved = scipy.linalg.solve(system[start:, start:], pull[start:], assume_a="pos")
                unknowns = np.concatenate([np.zeros(start), solved])
                amplitudes = unknowns[:size].reshape(-1, 3)
                shift = unknowns[size:].reshape(-1, 2)
                for rank, one in enumerate(data):
                    scale = self.functions[rank, self.pairs[0]][:, None]
                    moved = self.views[:, self.pairs[1]] @ (scale * amplitudes)
                    found[rank, column] += one.missed(fold + rank, moved, shift)
        return found


def _pairs(functions: FloatArray, views: FloatArray) -> NDArray[np.int64]:
    """Return the (2, pair) functions of the place and of the view whose product matters."""
    variance = np.outer(np.mean(functions**2, axis=0), np.mean(views**2, axis=0))
    order = np.argsort(-variance, axis=None, kind="stable")[:_MOST]
    order = order[variance.ravel()[order] > _NEGLIGIBLE * variance.max()]
    return np.stack(np.unravel_index(order, variance.shape))


def _normal(
    data: list[Sighting],
    functions: FloatArray,
    views: FloatArray,
    pairs: NDArray[np.int64],
) -> tuple[FloatArray, FloatArray]:
    """Return the normal matrix and the right-hand side of the amplitudes and the shifts."""
    size, edge = 3 * pairs.shape[1], 3 * len(views)
    basis = np.kron(views, np.eye(3))
    squares = np.array([one.square for one in data])
    pulls = np.array([one.pull for one in data])
    through = np.matmul(basis.T, squares[:, :edge])
    inner = np.matmul(through[:, :, :edge], basis).reshape(len(data), -1, 3, views.shape[1], 3)
    mixed = through[:, :, edge:].reshape(len(data), -1, 3, 2 * len(views))
    pulled = (pulls[:, :edge] @ basis).reshape(len(data), -1, 3)

    square = np.zeros((size + 2 * len(views), size + 2 * len(views)))
    pull = np.zeros(len(square))
    square[size:, size:] = squares[:, edge:, edge:].sum(axis=0)
    pull[size:] = pulls[:, edge:].sum(axis=0)
    members = [np.flatnonzero(pairs[1] == view) for view in range(views.shape[1])]
    unknowns = [(3 * one[:, None] + np.arange(3)).ravel() for one in members]
    place = [functions[:, pairs[0, one]] for one in members]
    for view, rows in enumerate(unknowns):
        pull[rows] = np.einsum("lp,la->pa", place[view], pulled[:, view]).ravel()
        block = np.einsum("lp,laj->paj", place[view], mixed[:, view], optimize=True)
        square[rows, size:] = block.reshape(len(rows), -1)
        for other in range(view, len(members)):
            # The product of one side first, then one matrix product over the landmarks.
            carried = place[view][:, :, None, None] * inner[:, None, view, :, other]
            carried = carried.reshape(len(data), -1).T @ place[other]
            block = carried.reshape(len(members[view]), 3, 3, -1).transpose(0, 1, 3, 2)
            block = block.reshape(len(rows), -1)
            square[np.ix_(rows, unknowns[other])] = block
            square[np.ix_(unknowns[other], rows)] = block.T
    square[size:, :size] = square[:size, size:].T
    return square, pull


def _pseudo_inverse(square: FloatArray) -> tuple[FloatArray, int]:
    """Return the pseudo-inverse of a symmetric matrix, and its rank."""
    values, vectors = np.linalg.eigh(square)
    known = values > 1e-9 * values[-1]
    inverse = (vectors[:, known] / values[known]) @ vectors[:, known].T
    return inverse, int(known.sum())
