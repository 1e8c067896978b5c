"""Shifts along lanes by a fraction of a voxel, for x-tilt and z factors.

Reference: Lanczos-windowed sinc interpolation, Duchon, J. Appl. Meteorol. 18 (1979) 1016,
doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["REACH", "shift_lanes", "shift_rows", "shift_weights"]

#: Lanes on either side that one shifted value is made of.
REACH = 4


def shift_weights(shifts: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the whole lanes and the 8 weights that shift by given distances.

    Parameters
    ----------
    shifts
        (n,) lanes.

    Returns
    -------
    whole : (n,) int64
        ``shifted[lane] = sum_k weights[k] value[lane + whole - 3 + k]``.
    weights : (n, 8) float32
        They sum to one.
    """
    whole = np.floor(shifts).astype(np.int64)
    distance = (shifts - whole)[:, None] - (np.arange(2 * REACH) - (REACH - 1))[None, :]
    weights = np.sinc(distance) * np.sinc(distance / REACH) * (np.abs(distance) < REACH)
    return whole, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@njit
def shift_lanes(
    source: NDArray[np.float32],
    whole: NDArray[np.int64],
    weights: NDArray[np.float32],
    margin: int,
    out: NDArray[np.float32],
) -> None:
    """Shift every plane along its lanes.

    Parameters
    ----------
    source
        (plane, lane, column) float32 with `margin` more lanes at each end than `out`.
    whole, weights
        From :func:`shift_weights`, one per plane; ``|whole| + REACH`` at most `margin`.
    margin
        Lanes of `source` before the first of `out`.
    out
        (plane, lane, column) float32, written.
    """
    planes, lanes, columns = out.shape
    taps = weights.shape[1]
    for plane in range(planes):
        start = margin + whole[plane] - (taps // 2 - 1)
        for lane in range(lanes):
            for column in range(columns):
                total = np.float32(0)
                for k in range(taps):
                    total += weights[plane, k] * source[plane, start + lane + k, column]
                out[plane, lane, column] = total


def shift_rows(
    projections: NDArray[np.float32], shifts: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Shift each view along its lanes; lanes too near the ends to be interpolated become zero.

    Parameters
    ----------
    projections
        (tilt, row, lane) float32.
    shifts
        (tilt,) lanes: ``result[t, row, lane] = projections[t, row, lane + shifts[t]]``.

    Returns
    -------
    (tilt, row, lane) float32.
    """
    whole, weights = shift_weights(shifts)
    result = np.zeros_like(projections)
    _shift_rows(projections, whole, weights, result)
    return result


@njit
def _shift_rows(
    source: NDArray[np.float32],
    whole: NDArray[np.int64],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    views, rows, lanes = out.shape
    taps = weights.shape[1]
    for t in range(views):
        start = whole[t] - (taps // 2 - 1)
        low = max(0, -start)
        high = min(lanes, lanes - start - taps + 1)
        for row in range(rows):
            for k in range(taps):
                weight = weights[t, k]
                for lane in range(low, high):
                    out[t, row, lane] += weight * source[t, row, start + lane + k]
