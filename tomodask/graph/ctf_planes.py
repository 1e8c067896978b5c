"""Contrast transfer undone at the height of every voxel.

A voxel is seen by a view at a row u' and lies at a height w along the beam, which the defocus
follows: ``w = c_u u' + c_v v' + c_z z``. Correcting the views for every height would cost many
stacks of them (Turonova et al. 2017, https://doi.org/10.1016/j.jsb.2017.07.007). Here a view is
corrected for a few heights, its *planes*, and only in the strip of rows where a voxel of that
height is seen. What a height z of the tomogram is back-projected from is composed of them: each
point is interpolated between the two planes that it lies between, anew every few heights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tomodask.kernels.ctf.planes import plane_bytes, plane_size, weighted_planes
from tomodask.kernels.resample import edge_taper
from tomodask.kernels.shear import REACH
from tomodask.kernels.weighting import OVERSAMPLING
from tomodask.model import SLAB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.geometry import Projection, VolumeGrid
    from tomodask.graph.aligned_views import AlignedGrid
    from tomodask.graph.ctf_correction import ViewCorrection

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["HeightGroups", "HeightPlanes"]

#: By how much chi changes at most from one plane to the next, at the Nyquist frequency: radians.
#: Interpolation then costs no more signal than noise anywhere below it: signal over noise is that
#: of an exact correction within 0.2 %, or better, for every method. What a voxel's signal is
#: multiplied by varies with its height by 4.5 % at the Nyquist frequency, 1 % at 0.7 of it, where
#: it is multiplied by the transfer; by 17 to 19 % and 6 % with flipped phases; by 27 to 29 % and
#: 8 % with a Wiener filter: between planes on either side of a zero, signs cancel.
_PLANE_STEP = np.pi / 3
#: By how much chi is off at most, there, for the heights that share their rows: radians.
_TOLERANCE = 0.1
#: Heights that share their rows at most.
_LONGEST = 1024
#: Heights are whole or half voxels from the specimen's origin: groups of them begin in between.
_BETWEEN = 0.25
#: Planes per row below which all rows of a view count as at one height.
_FLAT = 1e-9


class HeightGroups(NamedTuple):
    """The groups of heights of one view that share their rows.

    Parameters
    ----------
    number
        Of the first group.
    middle
        (group,) height of its middle, A.
    first, stop
        (group,) rows that the voxels of a group are seen in, sampled OVERSAMPLING times per pixel.
    start
        (group,) where row 0 lies at v' = 0 and the middle of a group, in planes from the lowest.
    per_row, per_v
        By how much more the next row, and a lane whose v' is larger by 1 A.
    """

    number: int
    middle: FloatArray
    first: IntArray
    stop: IntArray
    start: FloatArray
    per_row: float
    per_v: float


@dataclass(frozen=True, kw_only=True)
class HeightPlanes:
    """At which heights each view is corrected, and in which rows.

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
        """(tilt, 3) coefficients of the height: of u', v' and z."""
        return np.array(self.correction.heights)

    @cached_property
    def _phase_rate(self) -> float:
        """By how much chi changes per A of height at the Nyquist frequency, radians."""
        resolution = 2 * self.aligned.pixel_size
        return float(np.pi / 2 / self.correction.transfers[0].optics.plane_spacing(resolution))

    @cached_property
    def _reach(self) -> FloatArray:
        """(tilt,) largest height in the uncropped volume, A; as far below it is the lowest."""
        along_u, along_v, along_z = self._heights.T
        along_z = along_z - along_v * self._model.shear  # at a given y
        height, width = (n * self.aligned.pixel_size / 2 for n in self.aligned.shape)
        result: FloatArray = (
            np.abs(along_u * self._model.cos_x) * width
            + np.abs(along_v) * height
            + np.abs(along_u * self._model.sin_z + along_z) * self.full_thickness / 2
        )
        return result

    @cached_property
    def halo(self) -> int:
        """Pixels over which the transfer spreads a point at most."""
        resolution = 2 * self.aligned.pixel_size
        furthest = max(
            transfer.shifted(height).reach(resolution)
            for transfer, reach in zip(self.correction.transfers, self._reach, strict=True)
            for height in (-reach, reach)
        )
        return int(np.ceil(furthest / self.aligned.pixel_size))

    def levels(self, t: int) -> FloatArray:
        """Return the heights of the planes of a view, A.

        They are those of the uncropped volume, so that a part of it is computed like the whole.
        """
        reach = self._reach[t]
        phase = 2 * reach * self._phase_rate
        if phase <= 2 * _TOLERANCE:
            return np.zeros(1)
        return np.linspace(-reach, reach, int(np.ceil(phase / _PLANE_STEP)) + 1)

    @cached_property
    def steps(self) -> IntArray:
        """(tilt,) heights that share their rows, powers of two."""
        change = np.abs(self._heights[:, 2]) * self.aligned.pixel_size * self._phase_rate
        flat = np.array([len(self.levels(t)) == 1 for t in range(len(change))])
        heights = np.where(flat, _LONGEST, 2 * _TOLERANCE / np.maximum(change, 1e-12))
        powers = np.floor(np.log2(np.clip(heights, 1, _LONGEST)))
        return np.asarray(2**powers, np.int64)

    def groups_at(self, height: float) -> tuple[IntArray, IntArray]:
        """Return (tilt,) the number of the group that a height (voxels) is in, and how far into it.

        Groups begin at the same heights wherever a volume is cut.
        """
        number, into = np.divmod(int(np.floor(height + _BETWEEN)), self.steps)
        return number, into

    @cached_property
    def groups(self) -> list[HeightGroups]:
        """Per view the groups of heights of the volume."""
        return [self._groups(t) for t in range(len(self.projection))]

    def _groups(self, t: int) -> HeightGroups:
        voxel, model, step = self.volume.voxel_size, self._model, int(self.steps[t])
        lowest = self.volume.first[0] / voxel
        number, last = (
            int(self.groups_at(lowest + at)[0][t]) for at in (0, self.volume.shape[0] - 1)
        )
        begin = np.arange(number, last + 1) * step + (lowest - np.floor(lowest + _BETWEEN))
        x = self.volume.first[2] / voxel + np.array([0, self.volume.shape[2] - 1])
        along_x = x * model.cos_x[t] - self.aligned.first[1] / voxel
        along_z = (begin[:, None] + np.array([0, step - 1])) * model.sin_z[t]
        low = (along_x.min() + along_z.min(axis=1)) * OVERSAMPLING
        high = (along_x.max() + along_z.max(axis=1)) * OVERSAMPLING
        levels = self.levels(t)
        along = self._heights[t] / (levels[1] - levels[0]) if len(levels) > 1 else np.zeros(3)
        middle = (begin + (step - 1) / 2) * voxel
        lift = levels[0] / (levels[1] - levels[0]) if len(levels) > 1 else 0.0
        return HeightGroups(
            number=number,
            middle=middle,
            # A voxel is interpolated between two rows, whose number is computed in float32.
            first=np.clip(np.floor(low).astype(np.int64) - 1, 0, self._size),
            stop=np.clip(np.ceil(high).astype(np.int64) + 2, 0, self._size),
            start=along[0] * self.aligned.first[1] + along[2] * middle - lift,
            per_row=float(along[0] * voxel / OVERSAMPLING),
            per_v=float(along[1]),
        )

    @cached_property
    def strips(self) -> list[IntArray]:
        """Per view (plane, 2): the first row of each plane that is needed, and that after the last.

        A plane serves rows less than one plane from it; the outermost, all that lie beyond.
        """
        return [self._strips(t) for t in range(len(self.projection))]

    def _strips(self, t: int) -> IntArray:
        groups, planes = self.groups[t], len(self.levels(t))
        length = -(-self.volume.shape[1] // SLAB) * SLAB * self.volume.voxel_size
        ends_y = self.volume.first[1] + np.array([[0], [length]])
        shear = self._model.shear[t]
        # Shifting along y reads lanes beyond these, and v' changes within a group.
        beyond = (REACH + 2 + abs(shear) * self.steps[t] / 2) * self.volume.voxel_size
        ends_v = ends_y - shear * groups.middle + np.array([[-beyond], [beyond]])
        start = groups.start + groups.per_v * ends_v
        per_row = groups.per_row if abs(groups.per_row) > _FLAT else _FLAT
        strips = np.zeros((planes, 2), np.int64)
        for k in range(planes):
            bounds = np.array([-np.inf if k == 0 else k - 1, np.inf if k == planes - 1 else k + 1])
            ends = np.clip((bounds[:, None, None] - start) / per_row, -2, self._size + 2)
            first = np.maximum(groups.first, np.floor(ends.min(axis=(0, 1))).astype(np.int64) - 1)
            stop = np.minimum(groups.stop, np.ceil(ends.max(axis=(0, 1))).astype(np.int64) + 2)
            if (first < stop).any():
                strips[k] = first[first < stop].min(), stop[first < stop].max()
        return strips

    @property
    def _size(self) -> int:
        """Rows of a view."""
        return OVERSAMPLING * self.aligned.shape[1]

    def count(self, t: int) -> int:
        """Return the number of rows of all planes of a view."""
        return int(np.diff(self.strips[t]).sum())

    def size(self, lanes: int) -> tuple[int, int]:
        """Return the (u, v) size of the transform of a view of so many lanes."""
        return plane_size((self.aligned.shape[1], lanes), self.halo)

    def bytes_of(self, lanes: int) -> int:
        """Return the bytes that :meth:`planes` holds beside an image of so many lanes."""
        return plane_bytes((self.aligned.shape[1], lanes), self.size(lanes))

    def planes(
        self, t: int, image: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the weighted rows (row, v) of each plane of a view, in its strip.

        Parameters
        ----------
        t
            View.
        image
            (u, v) float32 with :attr:`halo` lanes more at either end than are wanted; changed.
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
            defocus=[correction.handedness * float(height) for height in self.levels(t)],
            rows=[(int(first), int(stop)) for first, stop in self.strips[t]],
            correction=correction.correction,
            dose_weight=correction.weight(t),
        )
