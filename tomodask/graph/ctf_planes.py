"""Contrast transfer undone at every height of a tomogram.

A voxel is seen by a view at a row u' and lies at a height w along the beam, which the defocus
follows: ``w = c_u u' + c_v v' + c_z z``. Correcting every view for each height would cost a volume
of corrected stacks (Turonova et al. 2017, https://doi.org/10.1016/j.jsb.2017.07.007). Here a view is
corrected for a few heights, its *planes*, and only in the strip of rows where a voxel of that height
can be seen. What a height z of the tomogram is back-projected from is composed of them: each row
is interpolated between the two planes that it lies between, anew every few heights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.kernels.ctf.planes import plane_bytes, plane_size, weighted_planes
from tomodask.kernels.resample import edge_taper
from tomodask.kernels.weighting import OVERSAMPLING
from tomodask.model import SLAB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.geometry import Projection, VolumeGrid
    from tomodask.graph.aligned_views import AlignedGrid
    from tomodask.graph.ctf_correction import ViewCorrection

    FloatArray = NDArray[np.float64]
    GroupOrGroups = int | NDArray[np.int64]

__all__ = ["HeightPlanes"]

#: By how much chi changes at most from one plane to the next, at the Nyquist frequency: radians.
_PLANE_STEP = np.pi / 4
#: By how much chi is off at most, there, within the heights that share their rows: radians.
_TOLERANCE = 0.1
#: Heights that share their rows at most.
_LONGEST = 1024
#: Planes per row below which all rows of a view lie at one height.
_FLAT = 1e-9
#: Heights are whole or half voxels from the specimen's origin: groups of them begin in between.
_BETWEEN = 0.25


@dataclass(frozen=True, kw_only=True)
class HeightPlanes:
    """At which heights each view is corrected, and where.

    Parameters
    ----------
    correction
        Of the views that take part.
    projection
        The same views.
    aligned
        Pixels of the aligned images, which are as large as voxels.
    volume
        Voxels to make.
    full_thickness
        Height of the uncropped volume, A.
    """

    correction: ViewCorrection
    projection: Projection
    aligned: AlignedGrid
    volume: VolumeGrid
    full_thickness: float

    @cached_property
    def _model(self) -> Any:
        return self.projection.slab_model()

    @cached_property
    def _heights(self) -> FloatArray:
        """(tilt, 3) coefficients of the height: of u', and of a voxel's y and z at a given u'."""
        along_u, along_v, along_z = np.array(self.correction.heights).T
        return np.stack([along_u, along_v, along_z - along_v * self._model.shear], axis=1)

    @cached_property
    def _phase_rate(self) -> float:
        """By how much chi changes per A of height at the Nyquist frequency, radians."""
        resolution = 2 * self.aligned.pixel_size
        return float(np.pi / 2 / self.correction.transfers[0].optics.plane_spacing(resolution))

    @cached_property
    def reach(self) -> FloatArray:
        """(tilt,) largest height in the uncropped volume, A; as far below it is the lowest."""
        along_u, along_y, along_z = self._heights.T
        height, width = (n * self.aligned.pixel_size / 2 for n in self.aligned.shape)
        result: FloatArray = (
            np.abs(along_u * self._model.cos_x) * width
            + np.abs(along_y) * height
            + np.abs(along_u * self._model.sin_z + along_z) * self.full_thickness / 2
        )
        return result

    @cached_property
    def halo(self) -> int:
        """Pixels over which the transfer spreads a point at most."""
        resolution = 2 * self.aligned.pixel_size
        furthest = max(
            transfer.shifted(height).reach(resolution)
            for transfer, reach in zip(self.correction.transfers, self.reach, strict=True)
            for height in (-reach, reach)
        )
        return int(np.ceil(furthest / self.aligned.pixel_size))

    def levels(self, t: int) -> FloatArray:
        """Return the heights of the planes of a view, A.

        They are those of the uncropped volume, so that a part of it is computed like the whole.
        """
        phase = 2 * self.reach[t] * self._phase_rate
        if phase <= 2 * _TOLERANCE:
            return np.zeros(1)
        steps = int(np.ceil(phase / _PLANE_STEP))
        return np.linspace(-self.reach[t], self.reach[t], steps + 1)

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """(tilt,) heights that share their rows, powers of two."""
        change = np.abs(self._heights[:, 2]) * self.aligned.pixel_size * self._phase_rate
        count = np.array([len(self.levels(t)) for t in range(len(self.projection))])
        heights = np.minimum(2 * _TOLERANCE / np.maximum(change, 1e-12), _LONGEST)
        steps = 2 ** np.floor(np.log2(np.maximum(heights, 1))).astype(np.int64)
        return np.where(count == 1, _LONGEST, steps)

    def rows(self, t: int, group: GroupOrGroups) -> tuple[Any, Any]:
        """Return (first, stop) of the rows that the voxels of groups of heights are seen in.

        Rows are sampled OVERSAMPLING times per pixel.
        """
        voxel, model = self.aligned.pixel_size, self._model
        x = self.volume.first[2] / voxel + np.array([0, self.volume.shape[2] - 1])
        z = self._first_height(t, group)[..., None] + np.array([0, self.steps[t] - 1])
        along_x, along_z = x * model.cos_x[t], z * model.sin_z[t]
        origin = self.aligned.first[1] / voxel
        low = (along_x.min() + along_z.min(axis=-1) - origin) * OVERSAMPLING
        high = (along_x.max() + along_z.max(axis=-1) - origin) * OVERSAMPLING
        # The kernel reads the row beyond, and computes in float32.
        return (
            np.clip(np.floor(low).astype(np.int64) - 1, 0, self._size),
            np.clip(np.ceil(high).astype(np.int64) + 2, 0, self._size),
        )

    def place(self, t: int, y: float, group: GroupOrGroups) -> tuple[Any, float]:
        """Return where row 0 lies, in planes from the lowest, and by how much more the next row.

        Parameters
        ----------
        t
            View.
        y
            Of the voxels, A.
        group
            Their heights, for whose middle it holds.
        """
        levels = self.levels(t)
        if len(levels) == 1:
            return np.zeros(np.shape(group)), 0.0
        along_u, along_y, along_z = self._heights[t]
        middle = (self._first_height(t, group) + (self.steps[t] - 1) / 2) * self.volume.voxel_size
        height = along_u * self.aligned.first[1] + along_y * y + along_z * middle
        spacing = levels[1] - levels[0]
        step = along_u * self.aligned.pixel_size / OVERSAMPLING / spacing
        return (height - levels[0]) / spacing, float(step)

    def groups(self, height: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (tilt,) the group that a height (voxels) is in, and how far into it."""
        group, into = np.divmod(int(np.floor(height + _BETWEEN)), self.steps)
        return group, into

    def _first_height(self, t: int, group: GroupOrGroups) -> FloatArray:
        """Return the first height of groups of heights of a view, voxels."""
        first = self.volume.first[0] / self.volume.voxel_size
        fraction = first - np.floor(first + _BETWEEN)
        return np.asarray(group) * self.steps[t] + fraction

    @property
    def _size(self) -> int:
        """Rows of a view."""
        return OVERSAMPLING * self.aligned.shape[1]

    @cached_property
    def strips(self) -> list[NDArray[np.int64]]:
        """Per view (plane, 2): first row of each plane that is needed, and the one after the last."""
        return [self._strips(t) for t in range(len(self.projection))]

    def _strips(self, t: int) -> NDArray[np.int64]:
        voxel = self.volume.voxel_size
        lowest = self.volume.first[0] / voxel
        ends = [int(self.groups(lowest + at)[0][t]) for at in (0, self.volume.shape[0] - 1)]
        groups = np.arange(ends[0], ends[1] + 1)
        first, stop = self.rows(t, groups)
        count = len(self.levels(t))
        if count == 1:
            return np.array([[first.min(), max(first.min(), stop.max())]])
        edges = self.volume.first[1] + voxel * SLAB * np.array([0, -(-self.volume.shape[1] // SLAB)])
        start = np.array([self.place(t, float(y), groups)[0] for y in edges])
        step = self.place(t, 0.0, 0)[1]
        strips = np.zeros((count, 2), np.int64)
        for k in range(count):
            # A plane serves rows less than one plane from it; the outermost, all that lie beyond.
            bounds = np.array([-np.inf if k == 0 else k - 1, np.inf if k == count - 1 else k + 1])
            ends = (bounds - start[..., None]) / (step if abs(step) > _FLAT else _FLAT)
            near, far = (
                np.clip(end, -1, self._size + 1).astype(np.int64)
                for end in (np.floor(ends.min(axis=(0, 2))), np.ceil(ends.max(axis=(0, 2))))
            )
            low, high = np.maximum(first, near - 1), np.minimum(stop, far + 2)
            if (low < high).any():
                strips[k] = low[low < high].min(), high[low < high].max()
        return strips

    def count(self, t: int) -> int:
        """Return the number of rows of all planes of a view."""
        return int(np.diff(self.strips[t]).sum())

    def size(self, lanes: int) -> tuple[int, int]:
        """Return the (u, v) size of a view's transform that has so many lanes, its halo included."""
        return plane_size((self.aligned.shape[1], lanes), self.halo)

    def planes(
        self, t: int, image: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the weighted rows (row, v) of each plane of a view, in its strip.

        Parameters
        ----------
        t
            View.
        image
            (u, v) float32, changed.
        weights
            Transfer function along u for :meth:`size`.
        """
        width = image.shape[0]
        image *= edge_taper(width, max(4, width // 64))[:, None]
        correction = self.correction
        yield from weighted_planes(
            image,
            pixel_size=self.aligned.pixel_size,
            size=self.size(image.shape[1]),
            weights=weights,
            transfer=correction.transfers[t],
            matrix=correction.matrices[t],
            defocus=list(correction.handedness * self.levels(t)),
            rows=[(int(first), int(stop)) for first, stop in self.strips[t]],
            correction=correction.correction,
            dose_weight=correction.weight(t),
        )

    def bytes_of(self, lanes: int) -> int:
        """Return the bytes that :meth:`planes` holds beside an image of so many lanes."""
        return plane_bytes((self.aligned.shape[1], lanes), self.size(lanes))
