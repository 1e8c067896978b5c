"""Projections of a slab whose views have shears of their own, from height to height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.shear import shift_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["SHEAR_TOLERANCE", "sheared_runs"]

#: A view whose shear differs from the common one is shifted anew whenever its rows would be off
#: by more than this, pixels.
SHEAR_TOLERANCE = 0.05


def sheared_runs(
    projections: NDArray[np.float32], view_shear: NDArray[np.float64], height: float, count: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (first, number, rows) of the heights that the same rows serve.

    Parameters
    ----------
    projections
        (tilt, row, lane) float32.
    view_shear
        (tilt,) dv/dz by which each view's shear differs from the common one.
    height, count
        First height and number of heights, voxels.
    """
    residual = np.abs(view_shear).max()
    step = count if residual == 0 else max(1, int(2 * SHEAR_TOLERANCE / residual))
    for at in range(0, count, step):
        number = min(step, count - at)
        rows = projections
        if residual:
            rows = shift_rows(projections, -view_shear * (height + at + (number - 1) / 2))
        yield at, number, rows
