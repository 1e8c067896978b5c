"""Where the projections show a voxel of a specimen that moves by itself.

The images that are back-projected were displaced by what the field is at mid-plane,
``shift(u / cos t, v)``. A voxel (x, y, z) is displaced by ``shift(x, y) + z slope(x, y)``, so it is
seen a little off the (u, v) of a rigid specimen: that offset solves an equation whose iteration
converges wherever the field does not fold the image.

All lengths are voxels; u, v and displacements are those of the resampled images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ViewGeometry", "offset_bounds", "row_offsets"]

#: Iterations; each gains as many digits as the field's gradient has zeros.
_ITERATIONS = 3


class ViewGeometry(NamedTuple):
    """How one view sees a voxel: at ``u = x cos_x + z sin_z`` and ``v = y - shear z``.

    Parameters
    ----------
    cos_x, sin_z, shear
        Coefficients of the view.
    x_per_u
        x over u at mid-plane: 1 / cos_x, less where a view is too steep for that.
    lane_shear
        A lane of the slab holds the voxels ``y = v + lane_shear z``.
    """

    cos_x: float
    sin_z: float
    shear: float
    x_per_u: float
    lane_shear: float


def row_offsets(
    table: NDArray[np.float64],
    origin: tuple[float, float],
    spacing: float,
    view: ViewGeometry,
    u: NDArray[np.float64],
    v: tuple[NDArray[np.float64], NDArray[np.float64]],
    z: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return by how much rows and lanes of a projection are off for the voxels of one height.

    Parameters
    ----------
    table
        (y, x, 4) float64: the field on a grid, (u, v) of shift and of slope; between the grid's
        points it is linear, beyond the outermost it stays.
    origin, spacing
        (y, x) of the grid's first point, and its spacing.
    view
        How the view sees.
    u
        (row,) where to.
    v
        (lane,) where to, for the offsets along u and for those along v.
    z
        Height.

    Returns
    -------
    along_u : (row, lane) float32
        For the voxels whose own lane the offset along v takes to `v`: it is applied first.
    along_v : (row, lane) float32
        For the voxels of the lane `v`.
    """
    along_u, along_v = (np.empty((len(u), len(lanes)), np.float32) for lanes in v)
    _row_offsets(table, origin[0], origin[1], 1 / spacing, view, u, *v, float(z), along_u, along_v)
    return along_u, along_v


def offset_bounds(
    table: NDArray[np.float64],
    origin: tuple[float, float],
    spacing: float,
    view: ViewGeometry,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the largest offset in a volume and the largest change of one with the height.

    Parameters
    ----------
    table, origin, spacing, view
        As for :func:`row_offsets`.
    x, y, z
        (n,) coordinates of a grid of voxels over the volume, z in equal steps.

    Returns
    -------
    largest : voxels
    change : voxels per voxel, for a row and a lane of the projection
    """
    largest, change = _offset_bounds(table, origin[0], origin[1], 1 / spacing, view, x, y, z)
    return float(largest), float(change)


@njit
def _row_offsets(
    table: NDArray[np.float64],
    y_first: float,
    x_first: float,
    density: float,
    view: ViewGeometry,
    u: NDArray[np.float64],
    v_first: NDArray[np.float64],
    v_then: NDArray[np.float64],
    z: float,
    along_u: NDArray[np.float32],
    along_v: NDArray[np.float32],
) -> None:
    for i in range(len(u)):
        for j in range(len(v_first)):
            _, moved = _offset(table, y_first, x_first, density, view, u[i], v_first[j], z)
            own = v_first[j] - moved
            found, _ = _offset(table, y_first, x_first, density, view, u[i], own, z)
            along_u[i, j] = found
        for j in range(len(v_then)):
            _, found = _offset(table, y_first, x_first, density, view, u[i], v_then[j], z)
            along_v[i, j] = found


@njit
def _offset_bounds(
    table: NDArray[np.float64],
    y_first: float,
    x_first: float,
    density: float,
    view: ViewGeometry,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
) -> tuple[float, float]:
    largest = change = 0.0
    for k in range(len(z) - 1):
        step = z[k + 1] - z[k]
        middle = z[k] + step / 2
        for i in range(len(x)):
            u = x[i] * view.cos_x + middle * view.sin_z
            for j in range(len(y)):
                v = y[j] - view.lane_shear * middle
                u0, v0 = _offset(table, y_first, x_first, density, view, u, v, z[k])
                u1, v1 = _offset(table, y_first, x_first, density, view, u, v, z[k + 1])
                largest = max(largest, abs(u0), abs(v0), abs(u1), abs(v1))
                change = max(change, abs(u1 - u0) / step, abs(v1 - v0) / step)
    return largest, change


@njit
def _offset(
    table: NDArray[np.float64],
    y_first: float,
    x_first: float,
    density: float,
    view: ViewGeometry,
    u: float,
    v: float,
    z: float,
) -> tuple[float, float]:
    """Return the offset of the voxel of height z that a rigid specimen shows at (u, v)."""
    x = (u - z * view.sin_z) * view.x_per_u
    y = v + view.lane_shear * z
    moved_u, moved_v = _field(table, 0, y_first, x_first, density, y, x)
    tilted_u, tilted_v = _field(table, 2, y_first, x_first, density, y, x)
    target_u = u + moved_u + z * tilted_u
    target_v = y - view.shear * z + moved_v + z * tilted_v
    at_u, at_v = u, v
    for _ in range(_ITERATIONS):
        there_u, there_v = _field(table, 0, y_first, x_first, density, at_v, at_u * view.x_per_u)
        at_u, at_v = target_u - there_u, target_v - there_v
    return at_u - u, at_v - v


@njit
def _field(
    table: NDArray[np.float64],
    first: int,
    y_first: float,
    x_first: float,
    density: float,
    y: float,
    x: float,
) -> tuple[float, float]:
    """Return the values `first` and `first` + 1 of the table at (y, x)."""
    rows, columns, _ = table.shape
    row = min(max((y - y_first) * density, 0.0), rows - 1.0)
    column = min(max((x - x_first) * density, 0.0), columns - 1.0)
    i, j = min(int(row), rows - 2), min(int(column), columns - 2)
    fy, fx = row - i, column - j
    w00, w01, w10, w11 = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
    a, b = first, first + 1
    return (
        w00 * table[i, j, a] + w01 * table[i, j + 1, a]
        + w10 * table[i + 1, j, a] + w11 * table[i + 1, j + 1, a],
        w00 * table[i, j, b] + w01 * table[i, j + 1, b]
        + w10 * table[i + 1, j, b] + w11 * table[i + 1, j + 1, b],
    )  # fmt: skip
