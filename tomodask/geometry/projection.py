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
factors are f. A :class:`~tomodask.geometry.LocalField` adds to (u, v) what the specimen moved by
itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tomodask.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry.local_field import LocalField

    FloatArray = NDArray[np.float64]

__all__ = ["Projection", "SlabModel"]


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
    local
        What the specimen moved by itself, None where it is rigid.
    """

    tilt_angle: FloatArray
    tilt_axis_angle: FloatArray
    shift: FloatArray
    magnification: FloatArray
    stretch: FloatArray
    skew: FloatArray
    x_tilt: FloatArray
    z_factor: FloatArray
    local: LocalField | None = None

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
        local: LocalField | None = None,
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
            local=local,
        )
        if local is not None and len(local) != len(result):
            raise GeometryError(
                f"the local field has {len(local)} views, the projection {len(result)}"
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
        return cls.create(
            tilt_angle,
            shift=-np.einsum("tij,tj->ti", raw, lines[:, :, 2]) * pixel_size,
            x_tilt=x_tilt,
            z_factor=z_factor,
            **_polar(raw),
        )

    @classmethod
    def from_cameras(
        cls,
        matrix: ArrayLike,
        shift: ArrayLike,
        tilt_angle: ArrayLike,
        *,
        x_tilt: ArrayLike = 0.0,
        local: LocalField | None = None,
    ) -> Self:
        """Return the projection of affine cameras; every one that mirrors nothing is one exactly.

        Parameters
        ----------
        matrix, shift
            (tilt, 2, 3) and (tilt, 2): ``raw = matrix (x, y, z) + shift``, A.
        tilt_angle, x_tilt
            (tilt,) degrees; what the cameras hold beyond them becomes rotation, magnification,
            stretch, skew and z factors.
        local
            What the specimen moved by itself.

        Raises
        ------
        GeometryError
            If a camera sees the tilt axis end-on, the specimen edge-on, or mirrors it.
        """
        tilt = np.deg2rad(np.atleast_1d(np.asarray(tilt_angle, np.float64)))
        pitch = np.deg2rad(np.broadcast_to(np.asarray(x_tilt, np.float64), tilt.shape))
        camera = np.asarray(matrix, np.float64)
        # In the frame turned by the x-tilt the aligned image is [[cos t, 0, sin t + f_u],
        # [0, 1, f_v]]: its first two columns give the image's matrix, the third the z factors.
        sin_a, cos_a = np.sin(pitch)[:, None], np.cos(pitch)[:, None]
        along = camera[:, :, 1] * cos_a - camera[:, :, 2] * sin_a
        depth = camera[:, :, 1] * sin_a + camera[:, :, 2] * cos_a
        image = np.stack([camera[:, :, 0] / np.cos(tilt)[:, None], along], axis=2)
        bad = np.flatnonzero(~(np.linalg.det(image) > 1e-9))
        if len(bad):
            raise GeometryError(
                f"the camera of view {bad[0]} mirrors the specimen, or sees it edge-on: no tilt "
                f"of {np.rad2deg(tilt[bad[0]]):g} degrees has it"
            )
        z_factor = np.linalg.solve(image, depth[:, :, None])[:, :, 0]
        z_factor[:, 0] -= np.sin(tilt)
        return cls.create(
            np.rad2deg(tilt),
            shift=shift,
            x_tilt=x_tilt,
            z_factor=z_factor,
            local=local,
            **_polar(image),
        )

    def to_transforms(self, pixel_size: float) -> FloatArray:
        """Return IMOD transforms (tilt, 2, 3), centre-relative, pixels, without the local field."""
        linear = np.linalg.inv(self.image_matrix())
        shift = -np.einsum("tij,tj->ti", linear, self.shift) / pixel_size
        return np.concatenate([linear, shift[:, :, None]], axis=2)

    def __len__(self) -> int:
        return len(self.tilt_angle)

    def __getitem__(self, views: slice | Sequence[int] | NDArray[np.generic]) -> Self:
        """Return the projection of some of the views."""
        return type(self).create(
            self.tilt_angle[views],
            local=None if self.local is None else self.local[views],
            **{name: values[views] for name, values in self._arrays() if name != "tilt_angle"},
        )

    def _arrays(self) -> list[tuple[str, FloatArray]]:
        """Return the values per view, the local field apart."""
        return [(name, getattr(self, name)) for name in self.__slots__ if name != "local"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Projection) and self.digest() == other.digest()

    __hash__ = None  # type: ignore[assignment]  # arrays: use digest()

    def digest(self) -> str:
        """Return a hash of all values, the identity that a plan records."""
        arrays = [values for _, values in self._arrays()]
        if self.local is not None:
            arrays += [getattr(self.local, name) for name in self.local.__slots__]
        state = hashlib.sha256()
        for values in arrays:
            state.update(np.ascontiguousarray(values + 0.0).tobytes())
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
        place = _points(points, 3)
        aligned: FloatArray = np.einsum("tij,pj->tpi", self.view_matrix()[:, :2], place)
        if self.local is not None:
            moved, slope = self.local.at(place[:, 0], place[:, 1])
            aligned += moved + place[None, :, 2, None] * slope
        found: FloatArray = np.einsum("tij,tpj->tpi", self.image_matrix(), aligned)
        return found + self.shift[:, None]

    def height(self, points: ArrayLike) -> FloatArray:
        """Return the (tilt, point) heights w along the beam of specimen points, A."""
        found: FloatArray = np.einsum("tj,pj->tp", self.view_matrix()[:, 2], _points(points, 3))
        return found

    def to_aligned(self, positions: ArrayLike) -> FloatArray:
        """Return the aligned (u, v) of raw positions: the inverse on the tilt-axis plane.

        The plane is the one through the tilt axis and perpendicular to the beam, where u and v
        are lengths in the specimen. A local field is not undone.

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
            Where a view sees the plane edge-on, and for a local field, which has no closed inverse.
        """
        if self.local is not None:
            raise GeometryError(
                "a local field cannot be inverted in closed form; drop it with "
                "dataclasses.replace(projection, local=None)"
            )
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
        linear = self.image_matrix() @ self.view_matrix()[:, :2]
        return replace(
            self,
            shift=self.shift + linear @ np.asarray(point, np.float64),
            local=None if self.local is None else self.local.moved_origin(point),
        )

    def slab_model(self) -> SlabModel:
        """Return the form that resampling and back-projection use.

        With ``v' = v / (cos a + f_v sin a)`` and ``u' = u - v' sin a (sin t + f_u)`` the depth
        enters u' through z alone, and v' through a shear ``y - z tan(a - atan f_v)``. A local field
        comes on top.

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


def _polar(matrix: NDArray[np.floating]) -> dict[str, Any]:
    """Return rotation, magnification, stretch and skew of (tilt, 2, 2) image matrices.

    ``matrix = R P`` with P symmetric: for 2 x 2 the rotation has this closed form, exact for any
    matrix of positive determinant.
    """
    angle = np.arctan2(matrix[:, 1, 0] - matrix[:, 0, 1], matrix[:, 0, 0] + matrix[:, 1, 1])
    symmetric = np.swapaxes(_rotation(angle), 1, 2) @ matrix
    magnification = (symmetric[:, 0, 0] + symmetric[:, 1, 1]) / 2
    return {
        "tilt_axis_angle": np.rad2deg(angle),
        "magnification": magnification,
        "stretch": (symmetric[:, 0, 0] - symmetric[:, 1, 1]) / (2 * magnification),
        "skew": (symmetric[:, 0, 1] + symmetric[:, 1, 0]) / (2 * magnification),
    }


def _rotation(angle: FloatArray) -> FloatArray:
    """Return (n, 2, 2) rotations counter-clockwise by (n,) angles in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)


def _points(points: ArrayLike, width: int) -> FloatArray:
    array = np.atleast_2d(np.asarray(points, np.float64))
    if array.ndim != 2 or array.shape[1] != width:
        raise GeometryError(f"points of shape {array.shape}; give (point, {width})")
    return array
