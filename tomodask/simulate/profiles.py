"""Exact line integrals of spherical profiles under affine maps.

A part of an object is a spherical profile f(|s|) carried by ``p = centre + B s``. The line of
sight of an image point q is ``{p : L p + shift = q}``; its direction d is the null vector of the
(2, 3) matrix L, so no separate notion of the beam enters. With ``Q = B B^T`` that line passes the
profile's centre at the distance r (in units of s) of

    r^2 = (q - q_c)^T (L Q L^T)^-1 (q - q_c)

and a step of 1 A along it is ``sqrt(d^T Q^-1 d)`` units of s. The line integral is therefore the
profile's Abel transform at r, divided by that factor: lengths along the beam are in A of the
specimen, whatever the magnification. It follows that the integral over the image is the part's
mass times ``|L_0 x L_1|``, which is the determinant of ``Projection.image_matrix`` where the z
factors vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from tomodask.geometry import centred_coordinates

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomodask.geometry import VolumeGrid

    FloatArray = NDArray[np.float64]

__all__ = ["CONE", "NORMAL", "UNIFORM", "Part", "Profile"]


class Profile(NamedTuple):
    """A spherical density and its Abel transform, both as functions of the squared radius."""

    reach: float
    """Radius beyond which there is nothing."""
    density: Callable[[FloatArray], FloatArray]
    line: Callable[[FloatArray], FloatArray]


def _half_chord(squared: FloatArray) -> FloatArray:
    return np.sqrt(np.maximum(1 - squared, 0))


def _cone_line(squared: FloatArray) -> FloatArray:
    half = _half_chord(squared)
    # r^2 arcsinh(half / r) tends to 0 at the centre, where the quotient does not exist.
    radius = np.sqrt(np.maximum(squared, np.finfo(np.float64).tiny))
    return half - squared * np.arcsinh(half / radius)


def _normal(squared: FloatArray) -> FloatArray:
    return np.exp(-squared / 2)


UNIFORM = Profile(
    1.0, lambda squared: (squared <= 1).astype(np.float64), lambda squared: 2 * _half_chord(squared)
)
"""1 inside the unit sphere."""

CONE = Profile(1.0, lambda squared: np.maximum(1 - np.sqrt(squared), 0), _cone_line)
"""``1 - r`` inside the unit sphere; differences of cones make soft edges."""

# At 6 sigma the density is 1.5e-8 of its peak: below the resolution of float32.
NORMAL = Profile(6.0, _normal, lambda squared: np.sqrt(2 * np.pi) * _normal(squared))
"""``exp(-r^2 / 2)``."""


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A profile under the map ``p = centre + axes s``.

    Parameters
    ----------
    profile
        The spherical density.
    centre
        (3,) specimen (x, y, z), A.
    axes
        (3, 3) map from the unit sphere to the specimen, A.
    amplitude
        Factor of the profile's density, image units per A.
    """

    profile: Profile
    centre: FloatArray
    axes: FloatArray
    amplitude: float

    def add_projection(
        self,
        image: FloatArray,
        linear: FloatArray,
        shift: FloatArray,
        pixel_size: float,
        supersample: int,
    ) -> None:
        """Add the pixel means of the line integrals to a (y, x) image, in place.

        Parameters
        ----------
        image
            (y, x), y up, about its centre.
        linear, shift
            (2, 3) and (2,) map from the specimen to raw (x, y), A.
        pixel_size
            A.
        supersample
            Sample points of a pixel along each axis.
        """
        quadric = self.axes @ self.axes.T
        beam = np.cross(linear[0], linear[1])
        beam /= np.linalg.norm(beam)
        per_angstrom = np.sqrt(beam @ np.linalg.solve(quadric, beam))
        outline = linear @ quadric @ linear.T
        reach = self.profile.reach * np.sqrt(np.diag(outline))
        centre = linear @ self.centre + shift
        columns, rows = (
            _Span.around(
                centred_coordinates(image.shape[1 - axis], pixel_size),
                pixel_size,
                centre[axis],
                reach[axis],
                supersample,
            )
            for axis in (0, 1)
        )
        if not (len(rows) and len(columns)):
            return
        metric = np.linalg.inv(outline)
        x, y = columns.offset[None, :], rows.offset[:, None]
        squared = metric[0, 0] * x**2 + (metric[1, 1] * y + 2 * metric[0, 1] * x) * y
        line = self.profile.line(np.maximum(squared, 0))
        image[rows.pixels, columns.pixels] += (
            self.amplitude / per_angstrom * _pixel_means(line, supersample)
        )

    def add_density(self, volume: NDArray[np.float32], grid: VolumeGrid, supersample: int) -> None:
        """Add the voxel means of the density to a (z, y, x) volume on `grid`, in place."""
        quadric = self.axes @ self.axes.T
        reach = self.profile.reach * np.sqrt(np.diag(quadric))
        coordinates = grid.coordinates()
        columns, rows, planes = (
            _Span.around(
                coordinates[name], grid.voxel_size, self.centre[axis], reach[axis], supersample
            )
            for axis, name in enumerate("xyz")
        )
        if not (len(planes) and len(rows) and len(columns)):
            return
        metric = np.linalg.inv(quadric)
        x, y = columns.offset[None, :], rows.offset[:, None]
        in_plane = metric[0, 0] * x**2 + (metric[1, 1] * y + 2 * metric[0, 1] * x) * y
        slope = 2 * (metric[0, 2] * x + metric[1, 2] * y)
        box = volume[planes.pixels, rows.pixels, columns.pixels]
        # One plane of samples at a time: a whole vesicle, supersampled, takes gigabytes.
        for sample, z in enumerate(planes.offset):
            squared = np.maximum(in_plane + (slope + metric[2, 2] * z) * z, 0)
            means = _pixel_means(self.profile.density(squared), supersample)
            box[sample // supersample] += self.amplitude / supersample * means

    def value(self, points: FloatArray) -> FloatArray:
        """Return the (point,) density at (point, 3) specimen points, A."""
        local = np.linalg.solve(self.axes, (points - self.centre).T)
        squared = np.einsum("ip,ip->p", local, local)
        return self.amplitude * self.profile.density(squared)


@dataclass(frozen=True, eq=False, slots=True)
class _Span:
    """The pixels of one axis that a part touches, and their sample points from its centre."""

    pixels: slice
    offset: FloatArray

    @classmethod
    def around(
        cls, coordinates: FloatArray, step: float, centre: float, reach: float, supersample: int
    ) -> Self:
        touched = np.flatnonzero(np.abs(coordinates - centre) < reach + step / 2)
        if not len(touched):
            return cls(slice(0, 0), np.empty(0))
        pixels = slice(int(touched[0]), int(touched[-1]) + 1)
        within = centred_coordinates(supersample, step / supersample)
        return cls(pixels, (coordinates[pixels, None] - centre + within).ravel())

    def __len__(self) -> int:
        return len(self.offset)


def _pixel_means(samples: FloatArray, supersample: int) -> FloatArray:
    rows, columns = (size // supersample for size in samples.shape)
    means: FloatArray = samples.reshape(rows, supersample, columns, supersample).mean(axis=(1, 3))
    return means
