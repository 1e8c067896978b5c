"""Which lanes and bands the slabs of a volume are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tomodask.graph.aligned_views import AlignedGrid
from tomodask.graph.local_correction import LocalCorrection
from tomodask.graph.sheared_rows import SHEAR_TOLERANCE
from tomodask.kernels.backproject import LANE_GROUP
from tomodask.kernels.shear import REACH
from tomodask.model import SLAB, layer_depth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.geometry import Projection, VolumeGrid
    from tomodask.geometry.projection import SlabModel

__all__ = ["SlabGeometry"]


@dataclass(frozen=True, kw_only=True)
class SlabGeometry:
    """A volume cut into slabs along y, and the aligned pixels that each of them needs.

    Parameters
    ----------
    projection
        Of the views that take part.
    aligned
        Pixels of the aligned images.
    volume
        Voxels to make; its voxel size is the aligned pixel size, its y on the aligned rows.
    full_thickness
        Height of the uncropped volume, A.
    """

    projection: Projection
    aligned: AlignedGrid
    volume: VolumeGrid
    full_thickness: float

    @cached_property
    def model(self) -> SlabModel:
        """The projection in the form that the two stages use."""
        return self.projection.slab_model()

    @cached_property
    def shear(self) -> float:
        """Shear dy/dz common to the views."""
        return float(np.mean(self.model.shear))

    @cached_property
    def view_shear(self) -> NDArray[np.float64]:
        """(tilt,) what each view's shear differs by; zeros where it cannot be seen."""
        residual = self.model.shear - self.shear
        # Of the full volume, so that a part of it is computed like the whole.
        height = self.full_thickness / self.volume.voxel_size / 2
        negligible = np.abs(residual).max() * height < SHEAR_TOLERANCE
        result: NDArray[np.float64] = np.zeros_like(residual) if negligible else residual
        return result

    @cached_property
    def local(self) -> LocalCorrection | None:
        """What a local field asks for, None where the specimen is rigid."""
        if self.projection.local is None:
            return None
        return LocalCorrection(
            field=self.projection.local,
            projection=self.projection,
            aligned=self.aligned,
            lane_shear=self.shear,
            half_thickness=self.full_thickness / self.volume.voxel_size / 2,
        )

    @property
    def followed(self) -> LocalCorrection | None:
        """The same, None where mid-plane is all that it asks for."""
        return None if self.local is None or self.local.negligible else self.local

    @cached_property
    def sheared_margin(self) -> int:
        """Lanes that are back-projected beyond a slab's own on either side."""
        first = self.volume.first[0] / self.volume.voxel_size
        depth = layer_depth(self.volume.shape[0])
        # The last layer goes beyond the volume to be complete.
        last = first + -(-self.volume.shape[0] // depth) * depth - 1
        height = max(abs(first), abs(last))
        reach = 0.0
        if self.shear:
            reach += abs(self.shear) * height + REACH + 1
        if self.followed is None and self.view_shear.any():
            reach += np.abs(self.view_shear).max() * height + REACH + 1
        half = LANE_GROUP // 2
        return int(np.ceil(reach / half)) * half

    @cached_property
    def local_margin(self) -> int:
        """Lanes that a local field needs beyond those, on either side."""
        if self.followed is None:
            return 0
        half = LANE_GROUP // 2
        return int(np.ceil((self.followed.reach + REACH + 1) / half)) * half

    @property
    def margin(self) -> int:
        """Lanes that a slab reads beyond its own on either side."""
        return self.sheared_margin + self.local_margin

    @cached_property
    def bands(self) -> AlignedGrid:
        """The aligned pixels in whole bands: slab s is band s + `lead`."""
        lead = self.lead
        rows = (self.slabs + 2 * lead) * SLAB
        first = self.volume.first[1] - lead * SLAB * self.volume.voxel_size
        return AlignedGrid(
            (rows, self.aligned.shape[1]), self.aligned.pixel_size, (first, self.aligned.first[1])
        )

    @property
    def lead(self) -> int:
        """Bands before the first slab."""
        return -(-self.margin // SLAB)

    @property
    def slabs(self) -> int:
        """Number of slabs."""
        return -(-self.volume.shape[1] // SLAB)

    @property
    def size(self) -> int:
        """Pixels of an aligned image along u."""
        return self.aligned.shape[1]

    def lanes(self, slab: int) -> int:
        """Return the lanes that a slab's projections have, margins included."""
        rows = min(SLAB, self.volume.shape[1] - slab * SLAB)
        return -(-rows // LANE_GROUP) * LANE_GROUP + 2 * self.margin

    def band_range(self, slab: int) -> tuple[int, int]:
        """Return the first and the last band that a slab reads."""
        first = (slab + self.lead) * SLAB - self.margin
        return first // SLAB, (first + self.lanes(slab) - 1) // SLAB
