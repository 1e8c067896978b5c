"""Amorphous ice: random scatterers in a slab, as one image or spread over planes of height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import fft, ndimage

from tomodask.geometry import centred_coordinates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.geometry import Projection

    FloatArray = NDArray[np.float64]

__all__ = ["Ice", "mid_plane_height", "relative_path", "smooth_field"]


def relative_path(projection: Projection) -> FloatArray:
    """Return the (tilt,) lengths of the beam's path through a slab, in thicknesses of it."""
    view = projection.view_matrix()
    beam = np.cross(view[:, 0], view[:, 1])
    path: FloatArray = np.linalg.norm(beam, axis=1) / np.abs(beam[:, 2])
    return path


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], grain: float, deviation: float
) -> FloatArray:
    """Return a random field of the given grain (pixels) and standard deviation."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), grain, mode="wrap")
    smooth: FloatArray = field * (deviation / field.std())
    return smooth


def mid_plane_height(
    projection: Projection, shape: tuple[int, int], pixel_size: float
) -> FloatArray:
    """Return the (y, x) heights along the beam, A, at which one view shows the plane z = 0."""
    view = projection.view_matrix()[0]
    # Raw x, raw y and z of a specimen point, and the way back.
    seen = np.vstack([projection.image_matrix()[0] @ view[:2], [0.0, 0.0, 1.0]])
    slope = view[2] @ np.linalg.inv(seen)
    y, x = (centred_coordinates(size, pixel_size) for size in shape)
    shift = projection.shift[0]
    heights: FloatArray = slope[0] * (x - shift[0]) + slope[1] * (y - shift[1])[:, None]
    return heights


@dataclass(frozen=True, slots=True)
class Ice:
    """White noise through an envelope: point scatterers, as a microscope shows them.

    Parameters
    ----------
    deviation
        Standard deviation of the white noise in a pixel.
    b_factor
        B of the envelope ``exp(-B k^2 / 4)`` of the amplitudes, A^2.
    """

    deviation: float
    b_factor: float

    @classmethod
    def of_grain(
        cls, grain: float, deviation: float, shape: tuple[int, int], pixel_size: float
    ) -> Self:
        """Return ice smoothed by a Gaussian of `grain` A to the standard deviation `deviation`."""
        white = cls(1.0, 8 * np.pi**2 * grain**2)
        kept = [np.mean(white._decay(fft.fftfreq(size, pixel_size) ** 2) ** 2) for size in shape]
        return cls(float(deviation / np.sqrt(np.prod(kept))), white.b_factor)

    def envelope(self, shape: tuple[int, int], pixel_size: float) -> NDArray[np.float32]:
        """Return the factor of each element of ``rfft2`` of a (y, x) image."""
        along_y = self._decay(fft.fftfreq(shape[0], pixel_size) ** 2)
        along_x = self._decay(fft.rfftfreq(shape[1], pixel_size) ** 2)
        return np.outer(along_y, along_x).astype(np.float32)

    def image(
        self, rng: np.random.Generator, shape: tuple[int, int], pixel_size: float
    ) -> FloatArray:
        """Return the (y, x) contrast of all ice, before any transfer."""
        white = self.deviation * rng.standard_normal(shape)
        field: FloatArray = fft.irfft2(fft.rfft2(white) * self.envelope(shape, pixel_size), s=shape)
        return field

    def planes(
        self, rng: np.random.Generator, height: FloatArray, spacing: float, sheets: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the scatterers, before the envelope, divided over planes of height.

        The slab is so many sheets of scatterers, parallel to its mid-plane and `spacing` apart
        along the beam. Each scatterer is divided between the two planes that its height lies
        between.

        Parameters
        ----------
        rng
            Each pixel of each sheet draws once.
        height
            (y, x) heights of the mid-plane, A.
        spacing
            Of planes and of sheets, A.
        sheets
            One or more; all have the same power, and together that of the ice.

        Yields
        ------
        The plane's index j, for the height ``j spacing``, from the lowest up, and its (y, x) image.
        """
        lowest = height / spacing - (sheets - 1) / 2
        cell = np.floor(lowest).astype(np.int32)
        upper = (lowest - cell).astype(np.float32)
        deviation = np.float32(self.deviation / np.sqrt(sheets))
        carried = np.zeros(height.shape, np.float32)
        first, last = int(cell.min()), int(cell.max()) + sheets
        for plane in range(first, last + 1):
            # Between this plane and the next lies, at a pixel, one sheet or none.
            inside = (cell <= plane) & (cell > plane - sheets)
            drawn = deviation * rng.standard_normal(np.count_nonzero(inside), np.float32)
            share = drawn * upper[inside]
            carried[inside] += drawn - share
            yield plane, carried
            carried = np.zeros(height.shape, np.float32)
            carried[inside] = share

    def _decay(self, squared: FloatArray) -> FloatArray:
        decay: FloatArray = np.exp(-self.b_factor * squared / 4)
        return decay
