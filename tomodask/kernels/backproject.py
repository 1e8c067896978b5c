"""Back-projection with lanes along the tilt axis.

For one height z and one x, every voxel of a row along y (the tilt axis) is seen at the same u, so
index, interpolation weight and address are computed once for a whole row of lanes, and the inner
loop is loads and multiply-adds only. Projections lie as (tilt, u, lane) with the lane contiguous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels._vector import WIDTH, accumulate_16, accumulate_64, transpose_16

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CHUNK_X",
    "LANE_GROUP",
    "PAD_ROWS",
    "aligned_zeros",
    "backproject",
    "pad_projections",
]

#: Lanes come in groups of this size; the number of lanes is a multiple of it.
LANE_GROUP = WIDTH
#: Voxels of one output block along x.
CHUNK_X = 64
#: Rows of zeros that a view of projections carries before (1) and after (2) its data, so that a
#: voxel outside the view reads zeros and the loop needs no test.
PAD_ROWS = (1, 2)
#: Bytes of a cache line.
_LINE = 64
#: Columns of x for which the addresses are computed at once; a divisor of CHUNK_X.
_TILE_X = 32
#: Heights over which a column block is kept, so that the rows it reads stay in the L2 cache.
_TILE_Z = 64


def pad_projections(views: int, size: int, lanes: int) -> NDArray[np.float32]:
    """Return zeroed room for `views` projections of `size` rows, with the rows of padding.

    Fill ``result[:, 1:1 + size]``. The number of rows is kept odd: a power of two would put the
    same row of every view into one set of the cache. Lanes begin on cache lines: a vector that
    straddles two costs two loads, and the kernel a third of its speed.

    Returns
    -------
    (tilt, rows, lane) float32.
    """
    rows = size + sum(PAD_ROWS)
    return aligned_zeros((views, rows + 1 - rows % 2, lanes))


def aligned_zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return float32 zeros that begin on a cache line."""
    size = int(np.prod(shape))
    room = np.zeros(size + _LINE // 4, np.float32)
    skip = -room.ctypes.data % _LINE // 4
    return room[skip : skip + size].reshape(shape)


def backproject(
    projections: NDArray[np.float32],
    cos_x: NDArray[np.float64],
    sin_z: NDArray[np.float64],
    *,
    origin: float,
    x: tuple[float, int],
    z: tuple[float, int],
    out: NDArray[np.float32] | None = None,
    out_z: int = 0,
) -> NDArray[np.float32]:
    """Sum over the views the projection values that each voxel is seen at.

    A voxel at (x, z) is seen by view t at row ``origin + x cos_x[t] + z sin_z[t]`` of its data,
    between two rows linearly interpolated; outside the rows a view adds nothing.

    Parameters
    ----------
    projections
        (tilt, row, lane) float32, C-contiguous, from :func:`pad_projections`; lanes a multiple
        of 16.
    cos_x, sin_z
        (tilt,) float64, rows per voxel along x and along z.
    origin
        Row of the data (without padding) at x = z = 0.
    x, z
        (first coordinate, number) of the voxels, in voxels from the specimen's origin.
    out
        Where to write; allocated when absent. It may hold more heights than `z` has.
    out_z
        Height of `out` at which to begin.

    Returns
    -------
    (x block, z, lane, 64) float32: blocks of 64 columns, so that each is one chunk of a stored
    volume; columns beyond the number of x in the last block hold what lies there.
    """
    views, _, lanes = projections.shape
    blocks = -(-x[1] // CHUNK_X)
    if out is None:
        out = aligned_zeros((blocks, z[1], lanes, CHUNK_X))
    if lanes % LANE_GROUP or not projections.flags.c_contiguous or not out.flags.c_contiguous:
        raise ValueError(f"projections need C order and a multiple of {LANE_GROUP} lanes")
    depth = out.shape[1]
    if (
        out.shape != (blocks, depth, lanes, CHUNK_X)
        or not 0 <= out_z <= depth - z[1]
        or not len(cos_x) == len(sin_z) == views
    ):
        raise ValueError(f"shapes do not fit: {projections.shape}, {len(cos_x)}, {out.shape}")
    _backproject(
        projections.reshape(-1),
        projections.shape[1],
        lanes,
        np.asarray(cos_x, np.float64),
        np.asarray(sin_z, np.float64),
        float(origin + PAD_ROWS[0]),
        float(x[0]),
        float(z[0]),
        out.reshape(-1),
        blocks,
        depth,
        out_z,
        z[1],
        aligned_zeros((WIDTH * 64,)),
    )
    return out


@njit
def _backproject(
    source: NDArray[np.float32],
    rows: int,
    lanes: int,
    cos_x: NDArray[np.float64],
    sin_z: NDArray[np.float64],
    origin: float,
    x_first: float,
    z_first: float,
    out: NDArray[np.float32],
    blocks: int,
    depth: int,
    out_z: int,
    heights: int,
    sums: NDArray[np.float32],
) -> None:
    views = cos_x.shape[0]
    index = np.empty(views * _TILE_X, np.int32)
    fraction = np.empty(views * _TILE_X, np.float32)
    top = np.float32(rows - 2)
    for tile in range(0, blocks * CHUNK_X, _TILE_X):
        block, first_column = divmod(tile, CHUNK_X)
        for z_tile in range(0, heights, _TILE_Z):
            lane = 0
            while lane < lanes:
                group = 64 if lanes - lane >= 64 else 16
                part = source[lane:]
                for iz in range(z_tile, min(z_tile + _TILE_Z, heights)):
                    height = z_first + iz
                    for t in range(views):
                        begin = np.float32(origin + height * sin_z[t] + (x_first + tile) * cos_x[t])
                        step = np.float32(cos_x[t])
                        base = np.int32(t * rows)
                        for i in range(_TILE_X):
                            u = begin + np.float32(i) * step
                            u = min(max(u, np.float32(0)), top)
                            row = np.int32(u)
                            index[t * _TILE_X + i] = base + row
                            fraction[t * _TILE_X + i] = u - np.float32(row)
                    for column in range(0, _TILE_X, WIDTH):
                        for i in range(WIDTH):
                            if group == 64:
                                accumulate_64(
                                    part,
                                    index,
                                    fraction,
                                    column + i,
                                    _TILE_X,
                                    views,
                                    lanes,
                                    sums,
                                    i * 64,
                                )
                            else:
                                accumulate_16(
                                    part,
                                    index,
                                    fraction,
                                    column + i,
                                    _TILE_X,
                                    views,
                                    lanes,
                                    sums,
                                    i * 64,
                                )
                        target = ((block * depth + out_z + iz) * lanes + lane) * CHUNK_X
                        target += first_column + column
                        for j in range(0, group, WIDTH):
                            transpose_16(sums, j, 64, out, target + j * CHUNK_X, CHUNK_X)
                lane += group
