"""Objects whose projections have closed forms, and the phantom that holds them.

Heavy matter is dark in the images, so it has a negative amplitude relative to the ice around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from tomodask.errors import ParameterError
from tomodask.simulate.profiles import CONE, NORMAL, UNIFORM, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry import Projection, VolumeGrid
    from tomodask.simulate.profiles import Plane, Profile

    FloatArray = NDArray[np.float64]
    Vector = tuple[float, float, float]

__all__ = ["Ball", "Ellipsoid", "Gaussian", "Phantom", "Shell", "SpecimenObject"]


class SpecimenObject(Protocol):
    """Anything that is a sum of parts with exact line integrals."""

    @property
    def centre(self) -> Vector:
        """Specimen (x, y, z), A."""

    def parts(self) -> tuple[Part, ...]:
        """Return the parts whose sum the object is."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """An isotropic Gaussian blob.

    Parameters
    ----------
    centre
        Specimen (x, y, z), A.
    sigma
        Standard deviation, A.
    amplitude
        Density at the centre, image units per A.
    """

    centre: Vector
    sigma: float
    amplitude: float

    def __post_init__(self) -> None:
        _require_positive("sigma of a Gaussian", self.sigma)

    def parts(self) -> tuple[Part, ...]:
        """Return the parts whose sum the object is."""
        return (_part(NORMAL, self.centre, np.eye(3) * self.sigma, self.amplitude),)


@dataclass(frozen=True, slots=True)
class Ball:
    """A ball such as a gold bead.

    Parameters
    ----------
    centre
        Specimen (x, y, z), A.
    radius
        A; where the density is half of the amplitude.
    amplitude
        Density inside, image units per A.
    edge
        Width over which the density falls linearly to zero, A; 0 is a sharp edge. At most twice
        the radius, where the ball is a cone.
    """

    centre: Vector
    radius: float
    amplitude: float
    edge: float = 0.0

    def __post_init__(self) -> None:
        _require_positive("radius of a ball", self.radius)
        if not 0 <= self.edge <= 2 * self.radius:
            raise ParameterError(
                f"edge of a ball is {self.edge} A; give 0 to {2 * self.radius} A, twice its radius"
            )

    def parts(self) -> tuple[Part, ...]:
        """Return the parts whose sum the object is."""
        if self.edge == 0:
            return (_part(UNIFORM, self.centre, np.eye(3) * self.radius, self.amplitude),)
        # A linear ramp is a difference of two cones of equal slope, and each has a closed form.
        slope = self.amplitude / self.edge
        outer, inner = self.radius + self.edge / 2, self.radius - self.edge / 2
        cones = [_part(CONE, self.centre, np.eye(3) * outer, slope * outer)]
        if inner > 0:
            cones.append(_part(CONE, self.centre, np.eye(3) * inner, -slope * inner))
        return tuple(cones)


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """A uniform ellipsoid.

    Parameters
    ----------
    centre
        Specimen (x, y, z), A.
    semi_axes
        Semi-axes along x, y and z before the rotation, A.
    amplitude
        Density inside, image units per A.
    rotation
        Rotation vector (x, y, z), degrees: its direction is the axis, its length the angle
        (right-handed) by which the ellipsoid is turned about its centre.
    """

    centre: Vector
    semi_axes: Vector
    amplitude: float
    rotation: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _require_positive("semi-axis of an ellipsoid", min(self.semi_axes))

    def parts(self) -> tuple[Part, ...]:
        """Return the parts whose sum the object is."""
        return (_ellipsoid(self.centre, self.semi_axes, self.rotation, self.amplitude),)


@dataclass(frozen=True, slots=True)
class Shell:
    """The membrane of a vesicle: what lies between two ellipsoids.

    Parameters
    ----------
    centre
        Specimen (x, y, z), A.
    semi_axes
        Outer semi-axes along x, y and z before the rotation, A.
    thickness
        By how much the inner semi-axes are shorter, A.
    amplitude
        Density of the membrane, image units per A.
    rotation
        Rotation vector (x, y, z), degrees, as for :class:`Ellipsoid`.
    """

    centre: Vector
    semi_axes: Vector
    thickness: float
    amplitude: float
    rotation: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 < self.thickness < min(self.semi_axes):
            raise ParameterError(
                f"thickness of a shell is {self.thickness} A; give more than 0 and less than its "
                f"shortest semi-axis, {min(self.semi_axes)} A"
            )

    def parts(self) -> tuple[Part, ...]:
        """Return the parts whose sum the object is."""
        x, y, z = self.semi_axes
        inner = (x - self.thickness, y - self.thickness, z - self.thickness)
        return (
            _ellipsoid(self.centre, self.semi_axes, self.rotation, self.amplitude),
            _ellipsoid(self.centre, inner, self.rotation, -self.amplitude),
        )


@dataclass(frozen=True, slots=True)
class Phantom:
    """A specimen: the sum of its objects.

    Parameters
    ----------
    objects
        What it is made of; where objects overlap, their densities add.
    """

    objects: tuple[SpecimenObject, ...]

    @property
    def bead_centres(self) -> FloatArray:
        """(bead, 3) specimen (x, y, z) of the centres of its balls, A."""
        centres = [item.centre for item in self.objects if isinstance(item, Ball)]
        return np.array(centres, np.float64).reshape(-1, 3)

    def project(
        self,
        projection: Projection,
        shape: tuple[int, int],
        *,
        pixel_size: float,
        supersample: int = 2,
    ) -> NDArray[np.float32]:
        """Return the exact projections of the specimen.

        A value is the line integral of the density along the beam, image units, averaged over
        the pixel.

        Parameters
        ----------
        projection
            Where the specimen lies in each view. A local field displaces each object as a whole,
            by its value at the object's centre.
        shape
            (y, x) pixels of an image.
        pixel_size
            A.
        supersample
            Sample points of a pixel along each axis, by which the average is taken. The line
            integrals are exact at any value; raise it where objects are only a pixel or two wide.

        Returns
        -------
        (tilt, y, x) float32, y up.

        Raises
        ------
        ParameterError
            If a size is not positive.
        """
        _require_positive("image size", min(shape))
        _require_positive("pixel size", pixel_size)
        _require_positive("supersample", supersample)
        parts = self._parts()
        linear, shift = _maps(parts, projection)
        images = np.empty((len(projection), *shape), np.float32)
        image = np.empty(shape)
        for view in range(len(projection)):
            image[:] = 0
            for part, at in zip(parts, shift[view], strict=True):
                part.add_projection(image, linear[view], at, pixel_size, supersample)
            images[view] = image
        return images

    def planes(
        self,
        projection: Projection,
        shape: tuple[int, int],
        *,
        pixel_size: float,
        spacing: float,
        supersample: int = 2,
    ) -> Iterator[tuple[int, FloatArray]]:
        """Yield the exact projection of one view, divided by height along the beam.

        What lies between two planes of height is divided between them with weights linear in the
        height: whatever is a linear function of the height is kept, and the sum of all planes is
        the projection.

        Parameters
        ----------
        projection
            Of one view.
        shape, pixel_size, supersample
            As for :meth:`project`.
        spacing
            Of the planes, A.

        Yields
        ------
        The plane's index j, for the height ``j spacing`` above the specimen's origin, from the
        lowest up; and its (y, x) float64 image, which the next step overwrites. Planes without
        anything are left out.

        Raises
        ------
        ParameterError
            If a size is not positive, or the projection is not of one view.
        """
        _require_positive("image size", min(shape))
        _require_positive("pixel size", pixel_size)
        _require_positive("spacing of planes", spacing)
        _require_positive("supersample", supersample)
        if len(projection) != 1:
            raise ParameterError(f"planes are of one view, the projection has {len(projection)}")
        parts = self._parts()
        linear, shift = _maps(parts, projection)
        height = projection.view_matrix()[0, 2]
        waiting = sorted(
            zip(parts, shift[0], strict=True),
            key=lambda one: one[0].plane_range(height, spacing)[0],
            reverse=True,
        )
        at_work: list[Iterator[Plane]] = []
        image = np.empty(shape)
        plane = 0
        while waiting or at_work:
            if not at_work:
                plane = waiting[-1][0].plane_range(height, spacing)[0]
            while waiting and waiting[-1][0].plane_range(height, spacing)[0] == plane:
                part, at = waiting.pop()
                at_work.append(
                    part.planes(
                        shape,
                        linear[0],
                        at,
                        pixel_size,
                        supersample,
                        height=height,
                        spacing=spacing,
                    )
                )
            image[:] = 0
            kept = []
            for one in at_work:
                share = next(one, None)
                if share is not None:
                    image[share.rows, share.columns] += share.values
                    kept.append(one)
            at_work = kept
            if at_work:
                yield plane, image
            plane += 1

    def density(self, grid: VolumeGrid, *, supersample: int = 2) -> NDArray[np.float32]:
        """Return the true tomogram.

        Parameters
        ----------
        grid
            The voxels.
        supersample
            Sample points of a voxel along each axis.

        Returns
        -------
        (z, y, x) float32: the density averaged over each voxel, image units per A.

        Raises
        ------
        ParameterError
            If `supersample` is not positive.
        """
        _require_positive("supersample", supersample)
        volume = np.zeros(grid.shape, np.float32)
        for part in self._parts():
            part.add_density(volume, grid, supersample)
        return volume

    def value(self, points: ArrayLike) -> FloatArray:
        """Return the density at points.

        Parameters
        ----------
        points
            (point, 3) specimen (x, y, z), A.

        Returns
        -------
        (point,) float64, image units per A.
        """
        array = np.asarray(points, np.float64)
        density = np.zeros(len(array))
        for part in self._parts():
            density += part.value(array)
        return density

    def _parts(self) -> list[Part]:
        return [part for item in self.objects for part in item.parts()]


def _maps(parts: list[Part], projection: Projection) -> tuple[FloatArray, FloatArray]:
    """Return the (tilt, 2, 3) maps from the specimen to raw (x, y), and each part's (tilt, 2)."""
    linear = projection.image_matrix() @ projection.view_matrix()[:, :2]
    centres = np.array([part.centre for part in parts]).reshape(-1, 3)
    # A local field moves every part as a whole, by what it is at the part's centre.
    shift = projection.project(centres) - np.einsum("tij,pj->tpi", linear, centres)
    return linear, shift


def _part(profile: Profile, centre: Vector, axes: FloatArray, amplitude: float) -> Part:
    return Part(profile, np.array(centre, np.float64), axes, amplitude)


def _ellipsoid(centre: Vector, semi_axes: Vector, rotation: Vector, amplitude: float) -> Part:
    turn = Rotation.from_rotvec(rotation, degrees=True).as_matrix()
    return _part(UNIFORM, centre, turn * np.asarray(semi_axes), amplitude)


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise ParameterError(f"{name} is {value}; give a positive number")
