"""Means of 2 x 2 x 2 voxels, for the coarser levels of a stored tomogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["block_means", "halve"]


@njit
def halve(
    source: NDArray[np.float32],
    out: NDArray[np.float32],
    extent: tuple[int, int, int],
) -> None:
    """Write the means of 2 x 2 x 2 voxels of one block of chunks into another.

    Parameters
    ----------
    source
        (x block, z, y, x) float32: a row of chunks along x.
    out
        (x block, z / 2, y / 2, x') float32; its blocks may hold more x than those of `source`.
    extent
        (z, y, x) voxels of `source` that belong to the array; beyond them nothing is averaged,
        and an odd last voxel stands alone.
    """
    out_blocks, out_z, out_y, out_x = out.shape
    width = source.shape[3]
    for block in range(out_blocks):
        for z in range(out_z):
            for y in range(out_y):
                for x in range(out_x):
                    column = 2 * (block * out_x + x)
                    total = np.float32(0)
                    count = 0
                    for dz in range(min(2, extent[0] - 2 * z)):
                        for dy in range(min(2, extent[1] - 2 * y)):
                            for dx in range(min(2, extent[2] - column)):
                                at = column + dx
                                total += source[at // width, 2 * z + dz, 2 * y + dy, at % width]
                                count += 1
                    out[block, z, y, x] = total / np.float32(count) if count else np.float32(0)


def block_means(image: NDArray[np.generic], edge: int) -> NDArray[np.float64]:
    """Return the means of square blocks of an image; what does not fill one is left out.

    Parameters
    ----------
    image
        (y, x), any real dtype.
    edge
        Of a block, pixels; what is below 1 counts as 1.
    """
    edge = max(1, edge)
    height, width = image.shape[0] // edge, image.shape[1] // edge
    blocks = image[: height * edge, : width * edge].reshape(height, edge, width, edge)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means
