r"""The slow modes of an alignment: smooth drifts of all views, with which the specimen drifts too.

Were the specimen known, few pixels would tell a shift of 0.1 pixels that varies slowly with the
tilt. But it is not: drawn from the views, it follows them, and what is left of the likelihood's
slope is small. The equations of :mod:`joint`, linear in the specimen, do not know how easily it
follows (a specimen that is moved costs no more prior than before) and take steps that are ten to
hundred times too short. Here the slope of the likelihood, for a specimen made anew in each trial,
is measured at displacements along each of these modes, and Newton's steps are made of that.

How well the modes are known is taken from how much strips of the field disagree on the slope:
with H the curvature and V the slope's variance, their covariance is ``H^-1 V H^-1`` [1]_. It holds
whatever is wrong with the model, but for what all strips share.

References
----------
.. [1] White, H., Maximum likelihood estimation of misspecified models, Econometrica 50 (1982) 1,
   doi:10.2307/1912526.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.polynomial import legendre

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.level import Level
    from tomodask.kernels.patches.views import Geometry

    FloatArray = NDArray[np.float64]

__all__ = ["SlowModes", "solve_slow_modes"]

#: Displacement of the trials, root mean square over the views, A (for the axis: at half an edge).
_TRIAL = 24.0
#: Newton's steps, and their largest, A.
_STEPS, _LARGEST = 3, 60.0
#: Times that the curvature is measured.
_ROUNDS = 2
#: Curvatures are taken to be at least this fraction of those of a known specimen.
_LEAST = 0.003
#: Polynomials of the tilt beside those that move the specimen, along u and v.
_ORDERS = 2
#: Usual standard deviation of a recorded tilt axis, degrees: the views' own word on it is weighed
#: with this, for their likelihood hardly depends on it.
_RECORDED = 0.7
#: Part of the explained power by which drifts are clearly wrong: the noise is measured anew in each
#: geometry, so that smaller differences mean nothing.
_WORSE = 1e-3
#: Strips of the field that are compared.
_STRIPS = 12


@dataclass(frozen=True, eq=False, slots=True)
class SlowModes:
    """The slow modes and how well they are known.

    Parameters
    ----------
    modes
        (mode, view, 3) displacements along u, along v, and at half an edge by a rotation, of unit
        root mean square over the views.
    covariance
        (mode, mode) of their amplitudes, A^2.
    half_edge
        A.
    """

    modes: FloatArray
    covariance: FloatArray
    half_edge: float

    def kept(self, views: NDArray[np.bool_]) -> Self:
        """Return the same of some of the views."""
        return replace(self, modes=self.modes[:, views])

    def drawn(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return a draw of their errors: (view, 2) along u and v, A, and (view,) radians."""
        values, vectors = np.linalg.eigh(self.covariance)
        amplitude = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(values)))
        moved = np.einsum("m,mvk->vk", amplitude, self.modes)
        return moved[:, :2], moved[:, 2] / self.half_edge


def solve_slow_modes(
    level: Level, geometry: Geometry, used: NDArray[np.int64]
) -> tuple[Geometry, SlowModes]:
    """Return the geometry where the likelihood does not rise along a slow mode, and these.

    Parameters
    ----------
    level
        Of a coarse frame: slow modes need no fine one.
    geometry, used
        Where to start, and the views that take part; all must hold signal.
    """
    pixel = level.frame.pixel_size
    modes = _modes(geometry.tilt[used])
    half_edge = level.frame.longest / 2 * pixel

    def moved(amplitude: FloatArray) -> Geometry:
        step = np.einsum("m,mvk->vk", amplitude, modes)
        return geometry.moved(used, step[:, :2], step[:, 2] / half_edge)

    def slope(at: Geometry) -> FloatArray:
        """Return the (strip, mode) slopes of the log-likelihood, per A."""
        found: FloatArray = np.einsum("svk,mvk->sm", level.slopes(at, used, _STRIPS), modes) / pixel
        return found

    total = np.zeros(len(modes))
    for _ in range(_ROUNDS):
        # Far from the summit the curvature is not that of the summit: it is measured twice.
        strips = slope(geometry)
        here = strips.sum(axis=0)
        curvature = np.empty((len(modes), len(modes)))
        for mode, rising in enumerate(here):
            ahead = np.zeros(len(modes))
            ahead[mode] = np.copysign(_TRIAL, rising)
            curvature[mode] = (here - slope(moved(ahead)).sum(axis=0)) / ahead[mode]
        known = np.einsum("mvk,vkl,mvl->m", modes, level.information, modes) / pixel**2
        inverse = _inverse(curvature, np.sqrt(known))
        for number in range(_STEPS):
            if number:
                strips = slope(geometry)
            step = inverse @ strips.sum(axis=0)
            step *= min(1.0, _LARGEST / max(float(np.abs(step).max()), 1e-9))
            geometry, total = moved(step), total + step
    # Where the curvature misled, the views explain each other clearly worse with the drifts.
    slope(geometry)
    drifting = level.explained
    drifts = np.append(total[:-1], 0.0)
    still = moved(-drifts)
    slope(still)
    if level.explained > (1 + _WORSE) * drifting:
        geometry = still
    centred = strips - strips.mean(axis=0)
    variance = centred.T @ centred * len(strips) / (len(strips) - 1)
    covariance = inverse @ variance @ inverse
    # The common rotation is the last mode; all that is correlated with it moves along.
    # A recorded axis is near the true one or plainly wrong: where the views contradict it, its
    # width is what explains by how much (the likeliest, given that it is not below the usual).
    usual = (np.deg2rad(_RECORDED) * half_edge) ** 2
    prior = max(usual, float(total[-1] ** 2 - covariance[-1, -1]))
    gain = covariance[:, -1] / (covariance[-1, -1] + prior)
    geometry = moved(-gain * total[-1])
    covariance = covariance - np.outer(gain, covariance[-1])
    return geometry, SlowModes(modes, covariance, half_edge)


def _inverse(curvature: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the inverse of a measured curvature, made symmetric and positive."""
    relative = (curvature + curvature.T) / 2 / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(relative)
    inverse: FloatArray = (vectors / np.maximum(values, _LEAST)) @ vectors.T
    return inverse / np.outer(scale, scale)


def _modes(tilt: FloatArray) -> FloatArray:
    """Return the (mode, view, 3) modes of unit root mean square.

    Along u, what a displacement of the specimen along x and z does not explain; along v, likewise;
    and the common rotation. The others' rotations are held by their prior.
    """
    reach = max(float(np.abs(tilt).max()), 1e-9)
    powers = legendre.legvander(tilt / reach, _ORDERS + 1)
    free = (np.column_stack([np.cos(tilt), np.sin(tilt)]), np.ones((len(tilt), 1)))
    first = (2, 1)
    modes = []
    for axis in (0, 1):
        known = np.linalg.qr(free[axis])[0]
        for power in powers[:, first[axis] : first[axis] + _ORDERS].T:
            rest = power - known @ (known.T @ power)
            size = float(np.linalg.norm(rest))
            if size > 1e-6:
                known = np.column_stack([known, rest / size])
                mode = np.zeros((len(tilt), 3))
                mode[:, axis] = rest / size * np.sqrt(len(tilt))
                modes.append(mode)
    common = np.zeros((len(tilt), 3))
    common[:, 2] = 1.0
    return np.stack([*modes, common])
