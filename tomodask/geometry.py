"""The one projection model: where a point of the specimen lies in each image.

Frames, all right-handed, lengths in A, angles in degrees at the API:

* **specimen** ``(x, y, z)``, origin at the centre of the full tomogram, y along the tilt axis;
* **aligned image** ``(u, v)``: the image after rotation and shift, v along the tilt axis;
* **raw image** ``(x, y)``, origin at the image centre, y up.

For tilt angle t, x-tilt a and z factors f, with ``Z = z cos a + y sin a``::

    u = x cos t + Z (sin t + f_u)
    v = y cos a - z sin a + Z f_v
    w = -x sin t + Z cos t                                  height along the beam
    raw = m R(rot) [[1 + e, k], [k, 1 - e]] (u, v) + shift
    R(rot) = [[cos rot, -sin rot], [sin rot, cos rot]]

rot is the tilt-axis angle, counter-clockwise from +y; m the magnification, e the stretch and k the
skew. The centre of n pixels is index ``(n - 1) / 2``. IMOD's ``.xf`` is the inverse of the raw
map in units of pixels; its ``.tlt`` and ``.xtilt`` are t and a as they stand here, and its z
factors are f.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from tomodask.errors import GeometryError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Projection", "SlabModel", "VolumeGrid", "aligned_shape", "centred_coordinates"]


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


@dataclass(frozen=True, slots=True)
class SlabModel:
    """The projection in the form that the two stages of a reconstruction use.

    The raw image is resampled once, at ``raw = matrix (u', v') + shift``; there a voxel (x, y, z)
    lies at ``u' = cos_x x + sin_z z`` and ``v' = y - shear z``: for a fixed height z every row of
    y shares u', whatever the x-tilt and the z factors.

    Parameters
    ----------
    matrix
        (tilt, 2, 2) map from (u', v') to raw (x, y).
    shift
        (tilt, 2) raw (x, y) of the origin, A.
    cos_x, sin_z, shear
        (tilt,) coefficients.
    """

    matrix: FloatArray
    shift: FloatArray
    cos_x: FloatArray
    sin_z: FloatArray
    shear: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class Projection:
    """The projection of a whole tilt series; immutable, one value per view.

    Build it with :meth:`create`, which fills defaults and checks.

    Parameters
    ----------
    tilt_angle, tilt_axis_angle, x_tilt
        (tilt,) float64, degrees.
    magnification, stretch, skew
        (tilt,) float64, dimensionless (1, 0 and 0 when absent).
    shift
        (tilt, 2) float64: raw (x, y) of the specimen's origin, A.
    z_factor
        (tilt, 2) float64: (u, v) displacement per unit of height, dimensionless.
    """

    tilt_angle: FloatArray
    tilt_axis_angle: FloatArray
    shift: FloatArray
    magnification: FloatArray
    stretch: FloatArray
    skew: FloatArray
    x_tilt: FloatArray
    z_factor: FloatArray

    @classmethod
    def create(
        cls,
        tilt_angle: ArrayLike,
        *,
        tilt_axis_angle: ArrayLike = 0.0,
        shift: ArrayLike = (0.0, 0.0),
        magnification: ArrayLike = 1.0,
        stretch: ArrayLike = 0.0,
        skew: ArrayLike = 0.0,
        x_tilt: ArrayLike = 0.0,
        z_factor: ArrayLike = (0.0, 0.0),
    ) -> Self:
        """Return a projection; each value is broadcast over the views.

        Raises
        ------
        GeometryError
            If a value is not finite, or a view's map is singular or mirrored.
        """
        angles = np.atleast_1d(np.asarray(tilt_angle, np.float64))
        views = angles.shape

        def per_view(name: str, value: ArrayLike, tail: tuple[int, ...] = ()) -> FloatArray:
            try:
                array = np.array(np.broadcast_to(np.asarray(value, np.float64), views + tail))
            except ValueError as error:
                raise GeometryError(
                    f"{name} has shape {np.shape(value)}; {views[0]} views need {views + tail}"
                ) from error
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                raise GeometryError(f"{name} of view {bad[0][0]} is not a finite number")
            array.flags.writeable = False
            return array

        result = cls(
            tilt_angle=per_view("tilt angle", angles),
            tilt_axis_angle=per_view("tilt axis angle", tilt_axis_angle),
            shift=per_view("shift", shift, (2,)),
            magnification=per_view("magnification", magnification),
            stretch=per_view("stretch", stretch),
            skew=per_view("skew", skew),
            x_tilt=per_view("x-tilt", x_tilt),
            z_factor=per_view("z factor", z_factor, (2,)),
        )
        determinant = 1 - result.stretch**2 - result.skew**2
        bad = np.flatnonzero((result.magnification <= 0) | (determinant <= 0))
        if len(bad):
            raise GeometryError(
                f"view {bad[0]}: magnification {result.magnification[bad[0]]:.6g}, stretch "
                f"{result.stretch[bad[0]]:.6g} and skew {result.skew[bad[0]]:.6g} make a "
                "singular or mirrored image"
            )
        return result

    @classmethod
    def from_transforms(
        cls,
        transforms: ArrayLike,
        pixel_size: float,
        tilt_angle: ArrayLike,
        *,
        x_tilt: ArrayLike = 0.0,
        z_factor: ArrayLike = (0.0, 0.0),
    ) -> Self:
        """Return the projection of IMOD transforms (``.xf``) and angles (``.tlt``, ``.xtilt``).

        Parameters
        ----------
        transforms
            (tilt, 2, 3): ``aligned = A raw + d``, centre-relative, pixels.
        pixel_size
            A per pixel.
        tilt_angle, x_tilt
            (tilt,) degrees.
        z_factor
            (tilt, 2), IMOD's ``.zfac``.

        Raises
        ------
        GeometryError
            If a transform is singular or a mirror image, which no view of a specimen is.
        """
        lines = np.asarray(transforms, np.float64)
        linear = lines[:, :, :2]
        determinant = np.linalg.det(linear)
        bad = np.flatnonzero(~(determinant > 1e-9))
        if len(bad):
            raise GeometryError(
                f"transform {bad[0]} has determinant {determinant[bad[0]]:.6g}: it is singular "
                "or mirrors the image; a mirrored stack must be flipped before it is imported"
            )
        raw = np.linalg.inv(linear)
        # Polar decomposition raw = R P with P symmetric: for 2 x 2 the rotation has this closed
        # form, exact for any matrix of positive determinant.
        angle = np.arctan2(raw[:, 1, 0] - raw[:, 0, 1], raw[:, 0, 0] + raw[:, 1, 1])
        symmetric = np.swapaxes(_rotation(angle), 1, 2) @ raw
        magnification = (symmetric[:, 0, 0] + symmetric[:, 1, 1]) / 2
        return cls.create(
            tilt_angle,
            tilt_axis_angle=np.rad2deg(angle),
            shift=-np.einsum("tij,tj->ti", raw, lines[:, :, 2]) * pixel_size,
            magnification=magnification,
            stretch=(symmetric[:, 0, 0] - symmetric[:, 1, 1]) / (2 * magnification),
            skew=(symmetric[:, 0, 1] + symmetric[:, 1, 0]) / (2 * magnification),
            x_tilt=x_tilt,
            z_factor=z_factor,
        )

    def to_transforms(self, pixel_size: float) -> FloatArray:
        """Return IMOD transforms (tilt, 2, 3), centre-relative, pixels."""
        linear = np.linalg.inv(self.image_matrix())
        shift = -np.einsum("tij,tj->ti", linear, self.shift) / pixel_size
        return np.concatenate([linear, shift[:, :, None]], axis=2)

    def __len__(self) -> int:
        return len(self.tilt_angle)

    def __getitem__(self, views: slice | Sequence[int] | NDArray[np.generic]) -> Self:
        """Return the projection of some of the views."""
        return type(self).create(
            self.tilt_angle[views],
            **{name: getattr(self, name)[views] for name in self.__slots__ if name != "tilt_angle"},
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Projection) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # arrays: use digest()

    def digest(self) -> str:
        """Return a hash of all values, the identity that a plan records."""
        state = hashlib.sha256()
        for name in self.__slots__:
            state.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return state.hexdigest()

    def image_matrix(self) -> FloatArray:
        """Return the (tilt, 2, 2) map from aligned (u, v) to raw (x, y)."""
        symmetric = np.empty((len(self), 2, 2))
        symmetric[:, 0, 0] = 1 + self.stretch
        symmetric[:, 1, 1] = 1 - self.stretch
        symmetric[:, 0, 1] = symmetric[:, 1, 0] = self.skew
        rotation = _rotation(np.deg2rad(self.tilt_axis_angle))
        return self.magnification[:, None, None] * (rotation @ symmetric)

    def view_matrix(self) -> FloatArray:
        """Return the (tilt, 3, 3) map from specimen (x, y, z) to (u, v, w)."""
        tilt, pitch = np.deg2rad(self.tilt_angle), np.deg2rad(self.x_tilt)
        sin_t, cos_t = np.sin(tilt), np.cos(tilt)
        sin_a, cos_a = np.sin(pitch), np.cos(pitch)
        zero = np.zeros_like(tilt)
        depth = np.stack([zero, sin_a, cos_a], axis=1)
        rows = np.zeros((len(self), 3, 3))
        rows[:, 0] = np.stack([cos_t, zero, zero], axis=1)
        rows[:, 0] += (sin_t + self.z_factor[:, 0])[:, None] * depth
        rows[:, 1] = np.stack([zero, cos_a, -sin_a], axis=1)
        rows[:, 1] += self.z_factor[:, 1, None] * depth
        rows[:, 2] = np.stack([-sin_t, zero, zero], axis=1) + cos_t[:, None] * depth
        return rows

    def project(self, points: ArrayLike) -> FloatArray:
        """Return where specimen points lie in every raw image.

        Parameters
        ----------
        points
            (point, 3) specimen (x, y, z), A.

        Returns
        -------
        (tilt, point, 2) raw (x, y) from the image centre, A.
        """
        linear = self.image_matrix() @ self.view_matrix()[:, :2]
        found: FloatArray = np.einsum("tij,pj->tpi", linear, _points(points, 3))
        return found + self.shift[:, None]

    def height(self, points: ArrayLike) -> FloatArray:
        """Return the (tilt, point) heights w along the beam of specimen points, A."""
        found: FloatArray = np.einsum("tj,pj->tp", self.view_matrix()[:, 2], _points(points, 3))
        return found

    def to_aligned(self, positions: ArrayLike) -> FloatArray:
        """Return the aligned (u, v) of raw positions: the inverse on the tilt-axis plane.

        The plane is the one through the tilt axis and perpendicular to the beam, where u and v
        are lengths in the specimen.

        Parameters
        ----------
        positions
            (tilt, point, 2) or (point, 2) raw (x, y), A.

        Returns
        -------
        (tilt, point, 2) aligned (u, v), A.
        """
        raw = np.asarray(positions, np.float64) - self.shift[:, None]
        found: FloatArray = np.einsum("tij,tpj->tpi", np.linalg.inv(self.image_matrix()), raw)
        return found

    def unproject(self, positions: ArrayLike, z: float = 0.0) -> FloatArray:
        """Return the specimen points of height z that are seen at raw positions.

        Parameters
        ----------
        positions
            (tilt, point, 2) or (point, 2) raw (x, y), A.
        z
            Height of the specimen plane, A; 0 is the plane of the tilt axis.

        Returns
        -------
        (tilt, point, 3) specimen (x, y, z), A.

        Raises
        ------
        GeometryError
            Where a view sees the plane edge-on.
        """
        view = self.view_matrix()
        plane = view[:, :2, :2]
        edge_on = np.flatnonzero(np.abs(np.linalg.det(plane)) < 1e-9)
        if len(edge_on):
            raise GeometryError(
                f"view {edge_on[0]} (tilt {self.tilt_angle[edge_on[0]]:g} deg) sees the specimen "
                "plane edge-on: a position in it has no single point there"
            )
        aligned = self.to_aligned(positions) - z * view[:, None, :2, 2]
        found = np.einsum("tij,tpj->tpi", np.linalg.inv(plane), aligned)
        return np.concatenate([found, np.full((*found.shape[:2], 1), float(z))], axis=2)

    def moved_origin(self, point: ArrayLike) -> Self:
        """Return the same projection with the specimen's origin at `point` (x, y, z), A."""
        return replace(self, shift=self.project(np.asarray(point)[None])[:, 0])

    def slab_model(self) -> SlabModel:
        """Return the form that resampling and back-projection use.

        With ``v' = v / (cos a + f_v sin a)`` and ``u' = u - v' sin a (sin t + f_u)`` the depth
        enters u' through z alone, and v' through a shear ``y - z tan(a - atan f_v)``.

        Raises
        ------
        GeometryError
            If the x-tilt reaches 90 degrees.
        """
        tilt, pitch = np.deg2rad(self.tilt_angle), np.deg2rad(self.x_tilt)
        sin_a, cos_a = np.sin(pitch), np.cos(pitch)
        sine = np.sin(tilt) + self.z_factor[:, 0]
        scale = cos_a + self.z_factor[:, 1] * sin_a
        bad = np.flatnonzero(scale < 1e-3)
        if len(bad):
            raise GeometryError(
                f"view {bad[0]}: x-tilt {self.x_tilt[bad[0]]:g} deg sees the tilt axis end-on; "
                "give angles well below 90"
            )
        shear = (sin_a - self.z_factor[:, 1] * cos_a) / scale
        unshear = np.zeros((len(self), 2, 2))
        unshear[:, 0, 0] = 1
        unshear[:, 0, 1] = sin_a * sine
        unshear[:, 1, 1] = scale
        return SlabModel(
            matrix=self.image_matrix() @ unshear,
            shift=self.shift,
            cos_x=np.cos(tilt),
            sin_z=(cos_a + shear * sin_a) * sine,
            shear=shear,
        )


def _rotation(angle: FloatArray) -> FloatArray:
    """Return (n, 2, 2) rotations counter-clockwise by (n,) angles in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)


def _points(points: ArrayLike, width: int) -> FloatArray:
    array = np.atleast_2d(np.asarray(points, np.float64))
    if array.ndim != 2 or array.shape[1] != width:
        raise GeometryError(f"points of shape {array.shape}; give (point, {width})")
    return array
