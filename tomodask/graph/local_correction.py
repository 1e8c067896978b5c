"""What the local field of an alignment asks of the two stages of a reconstruction.

Resampling displaces each image by the field at mid-plane (:class:`MidPlane`). What a voxel above
or below needs beyond that, the local tilts and that a ray passes another part of the field, is
done to the weighted projections, anew every few heights (:class:`LocalCorrection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.kernels.local_offsets import ViewGeometry, offset_bounds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry import LocalField, Projection
    from tomodask.graph.aligned_views import AlignedGrid

    FloatArray = NDArray[np.float64]

__all__ = ["FieldTable", "LocalCorrection", "MidPlane"]

#: Where all offsets of a view are smaller they are not followed, voxels.
_NEGLIGIBLE = 0.05
#: Where they change most, rows are renewed before they are off by more, voxels. Views are renewed
#: at different heights, so that this averages out.
_TOLERANCE = 0.15
#: Spacing of the grid on which the field is tabulated, voxels; between its points it is linear.
_SPACING = 16.0
#: Steeper views have no mid-plane to speak of: x cannot be told from u there. cos 80 degrees.
_FLATTEST = 0.17
#: Points along each edge of the volume at which the offsets' bounds are looked for.
_PROBES = 17
#: Parts of the shortest group of heights at which the groups of a view may begin.
_PARTS = 2
#: Multiples of it are spread evenly over a period, however many there are.
_GOLDEN = (5**0.5 - 1) / 2
#: Heights that one displacement may serve at most.
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class MidPlane:
    """The displacement of one view's image by the field at mid-plane.

    Parameters
    ----------
    field
        Of this view alone.
    to_slab
        (2, 2) from the (u, v) of aligned images to the (u', v') of resampled ones.
    x_per_u
        x over u' at mid-plane.
    """

    field: LocalField
    to_slab: FloatArray
    x_per_u: float

    def at(self, v: ArrayLike, u: ArrayLike) -> FloatArray:
        """Return the displacements (v, u, 2) along u' and v' on a grid (v,), (u,), all in A."""
        shift, _ = self.field.on_grid(0, v, np.multiply(u, self.x_per_u))
        moved: FloatArray = shift @ self.to_slab.T
        return moved


@dataclass(frozen=True, slots=True)
class FieldTable:
    """The field of all views on a grid of voxels, as the kernels look it up.

    Parameters
    ----------
    values
        (tilt, y, x, 4) float64: shift along u' and v', voxels, and slope.
    origin
        (y, x) of the first point, voxels.
    spacing
        Voxels.
    """

    values: FloatArray
    origin: tuple[float, float]
    spacing: float


@dataclass(frozen=True, kw_only=True)
class LocalCorrection:
    """The part of a local field that depends on the height.

    Parameters
    ----------
    field
        Of the views that take part.
    projection
        The same views.
    aligned
        Pixels of the aligned images, which are as large as voxels.
    lane_shear
        Shear that is applied to finished heights.
    half_thickness
        Of the uncropped volume, voxels.
    """

    field: LocalField
    projection: Projection
    aligned: AlignedGrid
    lane_shear: float
    half_thickness: float

    @cached_property
    def _model(self) -> Any:
        return self.projection.slab_model()

    @cached_property
    def _to_slab(self) -> FloatArray:
        return np.linalg.inv(self._model.matrix) @ self.projection.image_matrix()

    @cached_property
    def _x_per_u(self) -> FloatArray:
        cosine = self._model.cos_x
        result: FloatArray = cosine / np.maximum(cosine**2, _FLATTEST**2)
        return result

    def mid_plane(self, t: int) -> MidPlane:
        """Return what resampling does to the view of position `t`."""
        return MidPlane(self.field[t : t + 1], self._to_slab[t], float(self._x_per_u[t]))

    def view(self, t: int) -> ViewGeometry:
        """Return how the view of position `t` sees voxels."""
        model = self._model
        return ViewGeometry(
            cos_x=float(model.cos_x[t]),
            sin_z=float(model.sin_z[t]),
            shear=float(model.shear[t]),
            x_per_u=float(self._x_per_u[t]),
            lane_shear=self.lane_shear,
        )

    def shadow(self, t: int) -> float:
        """Return how far from the axis the view of position `t` sees the volume, voxels."""
        half = self.aligned.shape[1] / 2
        model = self._model
        return float(half * abs(model.cos_x[t]) + self.half_thickness * abs(model.sin_z[t]))

    def table(self, low: float, high: float, spacing: float = _SPACING) -> FieldTable:
        """Return the field from y = `low` to `high` voxels, for all x that are asked for.

        Its points are multiples of the spacing, so that neighbours share theirs.
        """
        columns = int(np.ceil(self._half_width / spacing))
        x = np.arange(-columns, columns + 1) * spacing
        y = np.arange(np.floor(low / spacing), np.ceil(high / spacing) + 2) * spacing
        pixel = self.aligned.pixel_size
        at = np.meshgrid(x * pixel, y * pixel)
        shift, slope = (
            (of @ self._to_slab.transpose(0, 2, 1)).reshape(len(of), len(y), len(x), 2)
            for of in self.field.at(at[0].ravel(), at[1].ravel())
        )
        values = np.concatenate([shift / pixel, slope], axis=3)
        return FieldTable(values, (float(y[0]), float(x[0])), spacing)

    @cached_property
    def _half_width(self) -> float:
        """Distance from the axis at which rays that meet the volume meet mid-plane at most."""
        lean = float(np.abs(self._x_per_u * self._model.sin_z).max())
        return self.aligned.shape[1] / 2 + self.half_thickness * lean

    def table_bytes(self, lanes: int) -> int:
        """Return the bytes of a slab's :meth:`table`, and of what it is made from."""
        rows = (lanes + 2 * abs(self.lane_shear) * self.half_thickness) / _SPACING + 3
        columns = 2 * self._half_width / _SPACING + 3
        return int(3 * 4 * 8 * len(self.field) * rows * columns)

    @cached_property
    def _bounds(self) -> FloatArray:
        """(tilt, 2) largest offset of each view by the field alone, and its change per height."""
        half_y, half_x = (n / 2 for n in self.aligned.shape)
        reach = half_y + abs(self.lane_shear) * self.half_thickness
        table = self.table(-reach, reach, max(_SPACING, 2 * reach / (4 * _PROBES)))
        y, x, z = (
            np.linspace(-half, half, _PROBES) for half in (half_y, half_x, self.half_thickness)
        )
        return np.array(
            [
                offset_bounds(
                    values,
                    table.origin,
                    table.spacing,
                    self.view(t)._replace(shear=self.lane_shear),
                    x,
                    y,
                    z,
                )
                for t, values in enumerate(table.values)
            ]
        )

    @cached_property
    def _own_shear(self) -> FloatArray:
        """(tilt,) by how much each view's shear differs from that of the lanes."""
        result: FloatArray = np.abs(self._model.shear - self.lane_shear)
        return result

    @property
    def negligible(self) -> bool:
        """Whether mid-plane is all that the field asks for."""
        return bool((self._bounds[:, 0] < _NEGLIGIBLE).all())

    @property
    def reach(self) -> float:
        """Lanes that an offset, of the field and of a view's own shear, reaches over at most."""
        # A tenth and a lane more for what lies between the probes.
        largest = 1.1 * self._bounds[:, 0] + self._own_shear * self.half_thickness
        return float(largest.max()) + 1

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """(tilt,) heights that one displacement serves, powers of two; 0 for those without any.

        They are those of the whole field, so that every part of it is computed alike.
        """
        largest, change = self._bounds.T
        largest = largest + self._own_shear * self.half_thickness
        change = change + self._own_shear
        heights = 2 * _TOLERANCE / np.maximum(change, 2 * _TOLERANCE / _LONGEST)
        steps = 2 ** np.floor(np.log2(np.maximum(heights, 1))).astype(np.int64)
        return np.where(largest < _NEGLIGIBLE, 0, steps)

    @cached_property
    def phases(self) -> NDArray[np.int64]:
        """(tilt,) heights by which each view's groups of `steps` heights are moved."""
        steps = self.steps
        # Few different borders, so that many heights are back-projected at once.
        common = max(1, int(steps[steps > 0].min(initial=_LONGEST)) // _PARTS)
        spread = np.arange(len(steps)) * _GOLDEN % 1
        return (spread * steps / common).astype(np.int64) * common
