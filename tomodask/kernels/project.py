"""Projection of a volume along the planes across the tilt axis, and its exact adjoint.

For one height z and one x, all voxels of a row along y (the tilt axis) are seen at the same u, so
that index and weight are computed once for a row of lanes and the inner loops are multiply-adds
that the compiler turns into vectors. Volumes lie as (z, x, lane), projections as (tilt, u, lane).
Each voxel falls between two rows of a view, linearly weighted; :func:`backproject_rows` reads with
the weights with which :func:`project_rows` writes, as least-squares solvers need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["backproject_rows", "project_rows"]

#: Lanes that are worked on at once, so that the rows of all views stay in the cache.
_LANES = 64


def project_rows(
    volume: NDArray[np.float32], cos_x: FloatArray, sin_z: FloatArray, size: int
) -> NDArray[np.float32]:
    """Sum the voxels of a volume along the beams of several views.

    Parameters
    ----------
    volume
        (z, x, lane) float32; voxels are one row apart, the origin is the centre.
    cos_x, sin_z
        (tilt,): a voxel at (x, z) from the centre falls on row ``x cos_x + z sin_z`` from a view's
        centre; what falls outside of its rows is lost.
    size
        Rows of a view.

    Returns
    -------
    (tilt, size, lane) float32.
    """
    out = np.zeros((len(cos_x), size, volume.shape[2]), np.float32)
    _project(np.ascontiguousarray(volume, np.float32), cos_x, sin_z, out, _LANES)
    return out


def backproject_rows(
    views: NDArray[np.float32], cos_x: FloatArray, sin_z: FloatArray, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the adjoint of :func:`project_rows`: each voxel's sum of what the views hold there.

    Parameters
    ----------
    views
        (tilt, u, lane) float32.
    cos_x, sin_z
        As for :func:`project_rows`.
    shape
        (z, x) voxels of the volume.

    Returns
    -------
    (z, x, lane) float32.
    """
    out = np.zeros((*shape, views.shape[2]), np.float32)
    _backproject(np.ascontiguousarray(views, np.float32), cos_x, sin_z, out, _LANES)
    return out


@njit
def _project(
    volume: NDArray[np.float32],
    cos_x: FloatArray,
    sin_z: FloatArray,
    out: NDArray[np.float32],
    group: int,
) -> None:
    depth, width, lanes = volume.shape
    views, size, _ = out.shape
    for first in range(0, lanes, group):
        last = min(first + group, lanes)
        for z in range(depth):
            height = z - 0.5 * (depth - 1)
            for x in range(width):
                source = volume[z, x, first:last]
                for t in range(views):
                    u = (x - 0.5 * (width - 1)) * cos_x[t] + height * sin_z[t] + 0.5 * (size - 1)
                    row = int(np.floor(u))
                    if 0 <= row < size - 1:
                        upper = np.float32(u - row)
                        lower = np.float32(1) - upper
                        a = out[t, row, first:last]
                        b = out[t, row + 1, first:last]
                        for lane in range(last - first):
                            a[lane] += lower * source[lane]
                            b[lane] += upper * source[lane]


@njit
def _backproject(
    views: NDArray[np.float32],
    cos_x: FloatArray,
    sin_z: FloatArray,
    out: NDArray[np.float32],
    group: int,
) -> None:
    depth, width, lanes = out.shape
    count, size, _ = views.shape
    for first in range(0, lanes, group):
        last = min(first + group, lanes)
        for z in range(depth):
            height = z - 0.5 * (depth - 1)
            for x in range(width):
                target = out[z, x, first:last]
                for t in range(count):
                    u = (x - 0.5 * (width - 1)) * cos_x[t] + height * sin_z[t] + 0.5 * (size - 1)
                    row = int(np.floor(u))
                    if 0 <= row < size - 1:
                        upper = np.float32(u - row)
                        lower = np.float32(1) - upper
                        a = views[t, row, first:last]
                        b = views[t, row + 1, first:last]
                        for lane in range(last - first):
                            target[lane] += lower * a[lane] + upper * b[lane]
