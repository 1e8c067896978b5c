"""The voxels of a tomogram and the pixels of an aligned image: how many, how large and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["VolumeGrid", "aligned_shape", "centred_coordinates"]


def centred_coordinates(size: int, spacing: float) -> FloatArray:
    """Return the coordinates of `size` pixel centres about their common centre.

    Parameters
    ----------
    size
        Number of pixels.
    spacing
        Pixel size, A.

    Returns
    -------
    (size,) float64, A.
    """
    coordinates: FloatArray = (np.arange(size, dtype=np.float64) - (size - 1) / 2) * spacing
    return coordinates


def aligned_shape(shape: tuple[int, int], tilt_axis_angle: float) -> tuple[int, int]:
    """Return the (y, x) size of the aligned image of a raw image of (y, x) size `shape`.

    The axes change places where the tilt axis lies closer to the raw x axis than to y, as on
    most microscopes (angles near 85 degrees).
    """
    angle = np.deg2rad(tilt_axis_angle)
    swapped = abs(np.sin(angle)) > abs(np.cos(angle))
    return (shape[1], shape[0]) if swapped else shape


@dataclass(frozen=True, slots=True)
class VolumeGrid:
    """The voxels of a tomogram: how many, how large and where.

    Parameters
    ----------
    shape
        (z, y, x) number of voxels.
    voxel_size
        Edge of a voxel, A.
    first
        (z, y, x) coordinates of the first voxel's centre in the specimen frame, A.
    """

    shape: tuple[int, int, int]
    voxel_size: float
    first: tuple[float, float, float]

    @classmethod
    def centred(cls, shape: tuple[int, int, int], voxel_size: float) -> Self:
        """Return the grid of `shape` voxels whose centre is the specimen's origin."""
        if min(shape) < 1:
            raise ParameterError(f"a tomogram of shape {shape} has no voxels; give sizes >= 1")
        if not (np.isfinite(voxel_size) and voxel_size > 0):
            raise ParameterError(f"voxel size {voxel_size} A: give a positive number")
        first = tuple(-(n - 1) / 2 * voxel_size for n in shape)
        return cls(shape, float(voxel_size), (first[0], first[1], first[2]))

    def cropped(self, z: slice, y: slice, x: slice) -> Self:
        """Return the sub-grid of index ranges, at its place in the specimen frame.

        Raises
        ------
        ParameterError
            If a range is empty, has a step, or reaches outside the grid.
        """
        shape, first = [], []
        for axis, part, size, start in zip("zyx", (z, y, x), self.shape, self.first, strict=True):
            begin = 0 if part.start is None else part.start
            end = size if part.stop is None else part.stop
            if part.step not in (None, 1) or not 0 <= begin < end <= size:
                raise ParameterError(
                    f"{axis} range {part.start}:{part.stop} does not lie in 0:{size}; "
                    "give START:STOP in voxels, STOP excluded"
                )
            shape.append(end - begin)
            first.append(start + begin * self.voxel_size)
        return type(self)(
            (shape[0], shape[1], shape[2]), self.voxel_size, (first[0], first[1], first[2])
        )

    def coordinates(self) -> dict[str, FloatArray]:
        """Return the 1-D coordinates of the voxel centres, A, by axis name."""
        return {
            axis: start + np.arange(size, dtype=np.float64) * self.voxel_size
            for axis, size, start in zip("zyx", self.shape, self.first, strict=True)
        }
