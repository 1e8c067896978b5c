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

Each line integral can be divided over planes of height, with weights that fall linearly from one
plane to the next: such a hat is a second difference of ramps, and the integral of a profile under
a ramp has a closed form as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from scipy import special

from tomodask.geometry import centred_coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from tomodask.geometry import VolumeGrid

    FloatArray = NDArray[np.float64]

__all__ = ["CONE", "NORMAL", "UNIFORM", "Part", "Plane", "Profile"]


class Profile(NamedTuple):
    """A spherical density and its integrals, as functions of the squared radius."""

    reach: float
    """Radius beyond which there is nothing."""
    density: Callable[[FloatArray], FloatArray]
    line: Callable[[FloatArray], FloatArray]
    """The Abel transform: the integral along a line at that distance from the centre."""
    ramp: Callable[[FloatArray, FloatArray], FloatArray]
    """The same integral of the density times ``max(at - t, 0)``, with t the way along the line."""


def _half_chord(squared: FloatArray) -> FloatArray:
    return np.sqrt(np.maximum(1 - squared, 0))


def _cone_line(squared: FloatArray) -> FloatArray:
    half = _half_chord(squared)
    # r^2 arcsinh(half / r) tends to 0 at the centre, where the quotient does not exist.
    radius = np.sqrt(np.maximum(squared, np.finfo(np.float64).tiny))
    return half - squared * np.arcsinh(half / radius)


def _normal(squared: FloatArray) -> FloatArray:
    return np.exp(-squared / 2)


def _uniform_ramp(squared: FloatArray, at: FloatArray) -> FloatArray:
    half = _half_chord(squared)
    passed = np.clip(at, -half, half) + half
    ramp: FloatArray = passed**2 / 2 + 2 * half * np.maximum(at - half, 0)
    return ramp


def _cone_ramp(squared: FloatArray, at: FloatArray) -> FloatArray:
    half = _half_chord(squared)
    within = np.clip(at, -half, half)
    # The integrals of 1 - r and of t (1 - r) up to `within`, r the distance from the centre.
    radius = np.sqrt(squared + within**2)
    flat = np.sqrt(np.maximum(squared, np.finfo(np.float64).tiny))
    area = within - (within * radius + squared * np.arcsinh(within / flat)) / 2
    line = _cone_line(squared)
    first = (within**2 - half**2) / 2 - (radius**3 - np.sqrt(squared + half**2) ** 3) / 3
    ramp: FloatArray = within * (area + line / 2) - first + line * np.maximum(at - half, 0)
    return ramp


def _normal_ramp(squared: FloatArray, at: FloatArray) -> FloatArray:
    below = np.sqrt(2 * np.pi) * at * special.ndtr(at) + np.exp(-(at**2) / 2)
    ramp: FloatArray = _normal(squared) * below
    return ramp


UNIFORM = Profile(
    1.0,
    lambda squared: (squared <= 1).astype(np.float64),
    lambda squared: 2 * _half_chord(squared),
    _uniform_ramp,
)
"""1 inside the unit sphere."""

CONE = Profile(1.0, lambda squared: np.maximum(1 - np.sqrt(squared), 0), _cone_line, _cone_ramp)
"""``1 - r`` inside the unit sphere; differences of cones make soft edges."""

# At 6 sigma the density is 1.5e-8 of its peak: below the resolution of float32.
NORMAL = Profile(6.0, _normal, lambda squared: np.sqrt(2 * np.pi) * _normal(squared), _normal_ramp)
"""``exp(-r^2 / 2)``."""


class Plane(NamedTuple):
    """What a part adds to the image of one plane of height."""

    plane: int
    rows: slice
    columns: slice
    values: FloatArray


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
        shadow = self._shadow(image.shape, linear, shift, pixel_size, supersample)
        if shadow is None:
            return
        line = self.profile.line(shadow.squared)
        image[shadow.rows.pixels, shadow.columns.pixels] += (
            self.amplitude / shadow.per_angstrom * _pixel_means(line, supersample)
        )

    def planes(
        self,
        shape: tuple[int, int],
        linear: FloatArray,
        shift: FloatArray,
        pixel_size: float,
        supersample: int,
        *,
        height: FloatArray,
        spacing: float,
    ) -> Iterator[Plane]:
        """Yield what the part adds to the images of planes of height, from the lowest up.

        Plane j lies at the height ``j spacing``. What lies between two planes is divided between
        them with weights linear in the height, so that the sum of all is the projection.

        Parameters
        ----------
        shape
            (y, x) pixels of an image.
        linear, shift, pixel_size, supersample
            As for :meth:`add_projection`.
        height
            (3,) map from the specimen to the height along the beam.
        spacing
            A.
        """
        shadow = self._shadow(shape, linear, shift, pixel_size, supersample)
        if shadow is None:
            return
        # The height at which the line of sight of an image point passes nearest to the centre.
        slope = (height @ self.axes @ self.axes.T @ linear.T) @ shadow.metric
        x, y = shadow.columns.offset[None, :], shadow.rows.offset[:, None]
        middle = height @ self.centre + slope[0] * x + slope[1] * y
        per_height = shadow.per_angstrom / (height @ shadow.beam)
        first, last = self.plane_range(height, spacing)

        def ramp(plane: int) -> FloatArray:
            return self.profile.ramp(shadow.squared, (plane * spacing - middle) * per_height)

        factor = self.amplitude / shadow.per_angstrom / (spacing * abs(per_height))
        below, at = ramp(first - 1), ramp(first)
        for plane in range(first, last + 1):
            above = ramp(plane + 1)
            hat = factor * _pixel_means(above - 2 * at + below, supersample)
            yield Plane(plane, shadow.rows.pixels, shadow.columns.pixels, hat)
            below, at = at, above

    def plane_range(self, height: FloatArray, spacing: float) -> tuple[int, int]:
        """Return the indices of the lowest and the highest plane that the part adds to."""
        centre = float(height @ self.centre)
        reach = self.profile.reach * float(np.linalg.norm(height @ self.axes))
        return int(np.floor((centre - reach) / spacing)), int(np.ceil((centre + reach) / spacing))

    def _shadow(
        self,
        shape: tuple[int, ...],
        linear: FloatArray,
        shift: FloatArray,
        pixel_size: float,
        supersample: int,
    ) -> _Shadow | None:
        """Return where the part is seen, None if outside the image."""
        quadric = self.axes @ self.axes.T
        beam = np.cross(linear[0], linear[1])
        beam /= np.linalg.norm(beam)
        per_angstrom = np.sqrt(beam @ np.linalg.solve(quadric, beam))
        outline: FloatArray = linear @ quadric @ linear.T
        reach = self.profile.reach * np.sqrt(np.diag(outline))
        centre = linear @ self.centre + shift
        columns, rows = (
            _Span.around(
                centred_coordinates(shape[1 - axis], pixel_size),
                pixel_size,
                centre[axis],
                reach[axis],
                supersample,
            )
            for axis in (0, 1)
        )
        if not (len(rows) and len(columns)):
            return None
        metric = np.linalg.inv(outline)
        x, y = columns.offset[None, :], rows.offset[:, None]
        squared = metric[0, 0] * x**2 + (metric[1, 1] * y + 2 * metric[0, 1] * x) * y
        return _Shadow(
            rows, columns, np.maximum(squared, 0), metric.astype(np.float64), beam, per_angstrom
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
class _Shadow:
    """Where an image shows a part.

    rows, columns
        The pixels and their sample points.
    squared
        (y, x) squared distances of the samples' lines of sight from the centre, in units of s.
    metric
        (2, 2) of these distances.
    beam
        (3,) unit vector.
    per_angstrom
        Units of s per A along the beam.
    """

    rows: _Span
    columns: _Span
    squared: FloatArray
    metric: FloatArray
    beam: FloatArray
    per_angstrom: float


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
