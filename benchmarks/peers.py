"""Other programs that do the same work, one slice at a time, on one core.

Slices are (z, x); sinograms are (tilt, u), or (y, tilt, u) for several slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import astra  # type: ignore[import-untyped]
import numba
import numpy as np
from skimage.transform import iradon

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AstraSlice", "gather_loop", "scikit_image_slice"]


class AstraSlice:
    """One slice of ASTRA's back-projection on the processor, with the linear projector.

    Geometry, projector and memory are made here, so that :meth:`run` is the algorithm alone.

    Parameters
    ----------
    tilt_angle
        (tilt,) degrees.
    width, heights
        Of the slice; the rows of the sinogram have its width.
    algorithm
        "BP", or "FBP" with its default filter (Ram-Lak).
    """

    def __init__(
        self,
        tilt_angle: NDArray[np.float64],
        *,
        width: int,
        heights: int,
        algorithm: Literal["BP", "FBP"],
    ) -> None:
        volume = astra.create_vol_geom(heights, width)
        rays = astra.create_proj_geom("parallel", 1.0, width, np.deg2rad(tilt_angle))
        self._projector = astra.create_projector("linear", rays, volume)
        self._sinogram = astra.data2d.create("-sino", rays)
        self._slice = astra.data2d.create("-vol", volume)
        self._algorithm = astra.algorithm.create(
            astra.astra_dict(algorithm)
            | {
                "ProjectorId": self._projector,
                "ProjectionDataId": self._sinogram,
                "ReconstructionDataId": self._slice,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        astra.algorithm.delete(self._algorithm)
        astra.data2d.delete([self._sinogram, self._slice])
        astra.projector.delete(self._projector)

    def load(self, sinogram: NDArray[np.float32]) -> None:
        """Give the sinogram of the next slice."""
        astra.data2d.store(self._sinogram, np.ascontiguousarray(sinogram))

    def run(self) -> None:
        """Run the algorithm."""
        astra.algorithm.run(self._algorithm)

    def slice(self) -> NDArray[np.float32]:
        """Return the slice, z up."""
        result: NDArray[np.float32] = astra.data2d.get(self._slice)[::-1]
        return result


def scikit_image_slice(
    sinogram: NDArray[np.float32], tilt_angle: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return scikit-image's unfiltered back-projection: a square as wide as the sinogram."""
    result: Any = iradon(  # type: ignore[no-untyped-call]
        sinogram.T,
        theta=tilt_angle,
        filter_name=None,
        circle=False,
        output_size=sinogram.shape[1],
    )
    return np.asarray(result)


@numba.njit(nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def gather_loop(
    sinograms: NDArray[np.float32],
    cos_x: NDArray[np.float32],
    sin_z: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Back-project by the usual loop: along x, two reads at a computed place, interpolated.

    Parameters
    ----------
    sinograms
        (y, tilt, u).
    cos_x, sin_z
        (tilt,) pixels per voxel along x and z.
    out
        (y, z, x), written.
    """
    size = sinograms.shape[2]
    rows, heights, width = out.shape
    centre = np.float32((size - 1) / 2)
    top = np.float32(size - 1)
    for y in range(rows):
        for z in range(heights):
            line = out[y, z]
            line[:] = 0
            for t in range(cos_x.shape[0]):
                row = sinograms[y, t]
                begin = centre + np.float32(z - (heights - 1) / 2) * sin_z[t]
                begin -= np.float32((width - 1) / 2) * cos_x[t]
                for x in range(width):
                    u = begin + np.float32(x) * cos_x[t]
                    if 0 <= u < top:
                        i = int(u)
                        f = u - np.float32(i)
                        line[x] += row[i] + f * (row[i + 1] - row[i])
