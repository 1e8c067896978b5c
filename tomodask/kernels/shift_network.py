"""The shifts of a tilt series from all pairs of views that overlap, solved jointly.

A chain of views aligned one after the other adds up the errors of its links, and where gold lies
on two surfaces every link may follow another of them. Pairs far apart in tilt hold the chain
together. Their correlations, weighted by the coherence of each pair, are log-likelihoods of the
pair's displacement (:mod:`tomodask.kernels.correlate`): no peak is picked, but their sum over all
pairs is maximised over the shifts of all views at once. What is left of a pair's displacement when
its views move by (u, v), along and across the frame of the tilt axis, is exactly

    (cos h (u_h / cos h - u_l / cos l), v_h - v_l)

for the lower view l and the higher view h. The maximum is found by quasi-Newton steps and, because
a chain may have a wrong link, by trying for every cut of the series to move all views beyond it.

The coherence of matter about height zero weights the pairs, so that the maximum also puts the
matter there; the middle of the heights that fit at least half as well is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Windows = NDArray[np.float32]

__all__ = ["ShiftNetwork", "overlapping_pairs", "window"]

#: Pairs of views up to so far apart in tilt are compared, degrees, and so many for each view.
_SPAN, _PARTNERS = 24.0, 8
#: Step of the trials for what lies beyond a cut, pixels: a correlation's peak is wider.
_STEP = 3
#: Log-likelihood that a jump must gain: some 40 cuts with 1000 trials each gain 10 by chance.
_GAIN = 10.0
#: Most jumps that are tried.
_JUMPS = 6
#: Heights that are tried on either side, and their step, pixels.
_HEIGHTS, _HEIGHT_STEP = 60.0, 1.0


def overlapping_pairs(angles: FloatArray) -> list[tuple[int, int]]:
    """Return the pairs of views to compare, the lower tilt first.

    Each view has partners of larger tilt angle, the nearest always, and others up to 24 degrees
    away, spaced ever wider where there are many.
    """
    order = np.argsort(angles, kind="stable").tolist()
    pairs = []
    for rank, view in enumerate(order[:-1]):
        later = order[rank + 1 :]
        near = [other for other in later if angles[other] - angles[view] <= _SPAN] or later[:1]
        if len(near) > _PARTNERS:
            near = [
                near[k]
                for k in np.unique(np.geomspace(1, len(near), _PARTNERS).round() - 1).astype(int)
            ]
        for other in near:
            low, high = sorted((view, other), key=lambda v: (abs(angles[v]), v))
            pairs.append((low, high))
    return pairs


def window(correlation: NDArray[np.float32], axis: float, reach: int) -> Windows:
    """Return the (v, u) part of a correlation about displacement 0, in the frame of the axis.

    Parameters
    ----------
    correlation
        (y, x), displacement 0 at [0, 0], wrapping around.
    axis
        Tilt-axis angle, degrees.
    reach
        Pixels on either side.
    """
    angle = np.deg2rad(axis)
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    x = u * np.cos(angle) - v * np.sin(angle)
    y = u * np.sin(angle) + v * np.cos(angle)
    result: Windows = ndimage.map_coordinates(correlation, [y, x], order=1, mode="grid-wrap")
    return result


@dataclass(frozen=True, eq=False, slots=True)
class ShiftNetwork:
    """The correlations of pairs of views, and the moves of the views that fit them best.

    Moves are (tilt, 2): u / cos t and v, pixels, in the frame of the tilt axis.

    Parameters
    ----------
    angles
        (tilt,) degrees.
    low, high
        (pair,) int64 the views of each pair.
    coefficients
        (pair, v, u) float32 cubic B-spline coefficients of the log-likelihood of each pair's
        displacement, 0 in the middle.
    """

    angles: FloatArray
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    coefficients: Windows

    @classmethod
    def create(
        cls,
        angles: FloatArray,
        pairs: Sequence[tuple[int, int]],
        likelihood: Callable[[int, int], Windows],
    ) -> ShiftNetwork:
        """Return the network of pairs whose windows `likelihood(low, high)` returns."""
        windows = np.stack([likelihood(low, high) for low, high in pairs])
        for axis in (1, 2):
            windows = ndimage.spline_filter1d(windows, axis=axis, output=np.float32, mode="mirror")
        low, high = np.array(pairs, np.int64).T
        return cls(angles, low, high, windows)

    def solve(self) -> FloatArray:
        """Return the (tilt, 2) moves of greatest likelihood."""
        moves, best = self._climb(np.zeros((len(self.angles), 2)))
        for _ in range(_JUMPS):
            trial, value = self._climb(self._with_jump(moves))
            if value < best + _GAIN:
                break
            moves, best = trial, value
        return self._centred(moves)

    def likelihood(self, moves: FloatArray) -> tuple[float, FloatArray]:
        """Return the log-likelihood of moves, and its (tilt, 2) gradient."""
        u, v = self._displacements(moves)
        value, by_u, by_v = _cubic(self.coefficients, u, v)
        gradient = np.zeros_like(moves)
        by_u *= np.cos(np.deg2rad(self.angles[self.high]))
        for component, slope in enumerate((by_u, by_v)):
            np.add.at(gradient[:, component], self.high, slope)
            np.add.at(gradient[:, component], self.low, -slope)
        return float(value.sum()), gradient

    def _displacements(self, moves: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (pair,) displacements u and v that moves account for."""
        u, v = (moves[self.high] - moves[self.low]).T
        return u * np.cos(np.deg2rad(self.angles[self.high])), v

    def _climb(self, moves: FloatArray) -> tuple[FloatArray, float]:
        """Return the nearest moves of greatest likelihood, and that."""

        def descent(x: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self.likelihood(x.reshape(moves.shape))
            return -value, -gradient.ravel()

        result = optimize.minimize(
            descent, moves.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300}
        )
        return result.x.reshape(moves.shape), -float(result.fun)

    def _with_jump(self, moves: FloatArray) -> FloatArray:
        """Return the moves with the best jump of all views beyond some tilt."""
        reach = self.coefficients.shape[1] // 2
        trials = np.arange(-reach, reach + 1, _STEP)
        u, v = self._displacements(moves)
        cos = np.cos(np.deg2rad(self.angles[self.high]))
        best, jumped = 0.0, moves
        for cut in np.unique(self.angles)[1:]:
            beyond = self.angles >= cut
            sign = beyond[self.high].astype(int) - beyond[self.low].astype(int)
            total = np.zeros((len(trials), len(trials)))
            now = 0.0
            for pair in np.flatnonzero(sign):
                column = np.rint(u[pair] + sign[pair] * cos[pair] * trials).astype(int)
                row = np.rint(v[pair] + sign[pair] * trials).astype(int)
                values = self.coefficients[pair][
                    np.ix_(
                        np.clip(row, -reach, reach) + reach, np.clip(column, -reach, reach) + reach
                    )
                ]
                total += np.where((abs(row) <= reach)[:, None] & (abs(column) <= reach), values, 0)
                here = np.clip(np.rint([v[pair], u[pair]]).astype(int) + reach, 0, 2 * reach)
                now += float(self.coefficients[pair, here[0], here[1]])
            row, column = np.unravel_index(int(np.argmax(total)), total.shape)
            if total[row, column] - now > best:
                best = float(total[row, column] - now)
                jumped = moves + beyond[:, None] * np.array([trials[column], trials[row]])
        return jumped

    def _centred(self, moves: FloatArray) -> FloatArray:
        """Return the moves with the matter's middle at height zero."""
        heights = np.arange(-_HEIGHTS, _HEIGHTS + _HEIGHT_STEP / 2, _HEIGHT_STEP)
        raised = [
            moves + np.outer(np.tan(np.deg2rad(self.angles)), [height, 0.0]) for height in heights
        ]
        values = np.array([self.likelihood(each)[0] for each in raised])
        fits, count = ndimage.label(values > values.max() / 2)
        if not count:
            return moves
        middle = heights[fits == fits[np.argmax(values)]].mean()
        return moves + np.outer(np.tan(np.deg2rad(self.angles)), [middle, 0.0])


def _cubic(
    coefficients: Windows, u: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the (pair,) values of cubic splines and their slopes along u and v; 0 outside."""
    size = coefficients.shape[1]
    taps, weights, slopes = [], [], []
    for place in (v + size // 2, u + size // 2):
        first = np.clip(np.floor(place).astype(int), 1, size - 3)
        t = np.clip(place - first, 0, 1)
        s = 1 - t
        taps.append(first[:, None] + np.arange(-1, 3))
        weights.append(
            np.stack([s**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * s**2 + 3 * s**3, t**3], axis=1) / 6
        )
        slopes.append(np.stack([-(s**2), 3 * t**2 - 4 * t, 4 * s - 3 * s**2, t**2], axis=1) / 2)
    inside = (np.abs(u) <= size // 2 - 1) & (np.abs(v) <= size // 2 - 1)
    pair = np.arange(len(u))
    near = coefficients[pair[:, None, None], taps[0][:, :, None], taps[1][:, None, :]]
    near = np.where(inside[:, None, None], near, 0).astype(np.float64)
    value, by_u, by_v = (
        np.einsum("pyx,py,px->p", near, along_v, along_u)
        for along_v, along_u in (
            (weights[0], weights[1]),
            (weights[0], slopes[1]),
            (slopes[0], weights[1]),
        )
    )
    return value, by_u, by_v
