"""Weighted back-projection, slab by slab along the tilt axis.

Two stages. First every view is resampled once into bands of lanes (:mod:`.aligned_views`). Then
each slab of the volume reads its band of all views, weights it along u, and back-projects it;
slabs share nothing, so they run anywhere in any order with the same result. A local field takes
part in both (:mod:`.local_correction`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.engine.run import Stage, Task
from tomodask.graph.aligned_views import (
    AlignedGrid,
    ViewSource,
    align_view,
    band_file,
    read_band,
    view_bytes,
    write_bands,
)
from tomodask.graph.composed_rows import ComposedRows
from tomodask.graph.corrected_views import CorrectedViews
from tomodask.graph.ctf_planes import HeightPlanes
from tomodask.graph.followed_rows import FollowedRows, guarded_rows
from tomodask.graph.sheared_rows import sheared_runs
from tomodask.graph.slab_geometry import SlabGeometry
from tomodask.kernels.backproject import (
    CHUNK_X,
    PAD_ROWS,
    aligned_zeros,
    backproject,
    pad_projections,
)
from tomodask.kernels.local_shift import GUARD_ROWS
from tomodask.kernels.resample import FINE, edge_taper
from tomodask.kernels.shear import REACH, shift_lanes, shift_weights
from tomodask.kernels.weighting import (
    OVERSAMPLING,
    RowFilter,
    filter_length,
    filter_rows,
    radial_weights,
)
from tomodask.model import SLAB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tomodask.graph.ctf_correction import ViewCorrection

    Runs = Callable[[float, int], Iterator[tuple[int, int, NDArray[np.float32]]]]

__all__ = ["NUMERICS", "SlabPlan"]

#: Raised by hand whenever the same inputs and parameters give other values.
NUMERICS = 1


@dataclass(frozen=True, kw_only=True)
class SlabPlan(SlabGeometry):
    """All that determines a weighted back-projection; small and picklable.

    What is not named here is that of :class:`SlabGeometry`.

    Parameters
    ----------
    source
        The raw images.
    views
        Those that take part.
    row_filter, view_weights
        Weights.
    correction
        Of the contrast transfer, and weights by dose; None for neither.
    by_height
        Whether the contrast transfer is undone at the height of each voxel, not of mid-plane.
    """

    source: ViewSource
    views: tuple[int, ...]
    row_filter: RowFilter
    view_weights: tuple[float, ...]
    correction: ViewCorrection | None = None
    by_height: bool = False

    @cached_property
    def planes(self) -> HeightPlanes | None:
        """Heights for which the contrast transfer is undone, None where mid-plane is enough."""
        if self.correction is None or not self.by_height:
            return None
        return HeightPlanes(
            correction=self.correction,
            projection=self.projection,
            aligned=self.aligned,
            volume=self.volume,
            full_thickness=self.full_thickness,
        )

    @cached_property
    def corrected(self) -> CorrectedViews | None:
        """How views are corrected, None where they are not."""
        if self.correction is None:
            return None
        beyond = self.local_margin + (0 if self.planes is None else self.planes.halo)
        shear = float(np.abs(self.model.shear).max())
        if shear:
            height = self.full_thickness / self.volume.voxel_size / 2 + SLAB
            beyond += int(np.ceil(shear * height)) + 2 * (REACH + 1)
        (rows, size), pixel = self.aligned.shape, self.aligned.pixel_size
        first = self.aligned.first[0] - beyond * pixel
        grid = AlignedGrid((rows + 2 * beyond, size), pixel, (first, self.aligned.first[1]))
        return CorrectedViews(correction=self.correction, planes=self.planes, grid=grid)

    @cached_property
    def _transfer(self) -> NDArray[np.float32]:
        """(tilt, frequency) weights of the rows."""
        length = filter_length(self.size)
        if self.planes is not None and self.corrected is not None:
            length = self.planes.size(self.corrected.grid.shape[0])[0]
        return radial_weights(
            self.row_filter,
            self.projection.tilt_angle,
            length=length,
            spacing=self.aligned.pixel_size,
            thickness=self.full_thickness,
            view_weights=self.view_weights,
        )

    def task_bytes(self, depth: int) -> int:
        """Return the bytes of the arrays of one slab's task that computes `depth` heights at once.

        Parameters
        ----------
        depth
            Heights of a layer.
        """
        lanes = self.lanes(0)
        rows = OVERSAMPLING * self.size + sum(PAD_ROWS) + 1
        copies = 2 if self.followed or self.view_shear.any() else 1
        projections = len(self.views) * rows * lanes * 4 * copies
        if self.planes is not None:
            projections += self._all_rows * lanes * 4
        length = filter_length(self.size)
        most = max(self._row_count(t) for t in range(len(self.views)))
        rows_bytes = SLAB * most * 4 * (3 if self.margin else 2)
        filtering = lanes * (length * 4 * 2 + OVERSAMPLING * length * 4 * 2)
        blocks = -(-self.volume.shape[2] // CHUNK_X)
        layer = blocks * CHUNK_X * depth * lanes * 4
        if self.sheared_margin:
            layer += blocks * CHUNK_X * depth * SLAB * 4
        table = self.followed.table_bytes(lanes) if self.followed else 0
        return projections + rows_bytes + filtering + layer + table

    def layers(
        self, slab: int, read: Callable[[int, int], NDArray[np.float32]], depth: int
    ) -> Iterator[NDArray[np.float32]]:
        """Yield a slab of the volume, layer after layer of z.

        Parameters
        ----------
        slab
            Which.
        read
            Function of (view position, band) that returns aligned rows (u, lane).
        depth
            Heights of a layer; the last one goes beyond the volume to be complete.

        Yields
        ------
        (x block, depth, SLAB, 64) float32, overwritten by the next. Beyond the volume's own
        voxels it holds zeros along y and what back-projection gives along x and z.
        """
        rows = self._rows(slab, read)
        voxel = self.volume.voxel_size
        heights = self.volume.coordinates()["z"] / voxel
        blocks = -(-self.volume.shape[2] // CHUNK_X)
        lanes = self.lanes(slab) - 2 * self.local_margin
        wide = aligned_zeros((blocks, depth, lanes, CHUNK_X))
        plain = not self.sheared_margin and lanes == SLAB
        layer = wide if plain else np.zeros((blocks, depth, SLAB, CHUNK_X), np.float32)
        for start in range(0, self.volume.shape[0], depth):
            self._fill(rows, heights[0] + start, wide)
            if self.sheared_margin:
                self._unshear(wide, heights[0] + start, layer)
            elif not plain:
                layer[:, :, :lanes] = wide
            yield layer

    def _gathered(
        self, slab: int, read: Callable[[int, int], NDArray[np.float32]], t: int
    ) -> NDArray[np.float32]:
        """Return the rows (row, lane) of a view that a slab needs, as they were prepared."""
        first_row = (slab + self.lead) * SLAB - self.margin
        stop = first_row + self.lanes(slab)
        first, last = self.band_range(slab)
        parts = []
        for band in range(first, last + 1):
            low = max(first_row - band * SLAB, 0)
            high = min(stop - band * SLAB, SLAB)
            parts.append(read(t, band)[:, low:high])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _weighted(
        self, slab: int, read: Callable[[int, int], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return the weighted projections that a slab needs (tilt, row, lane)."""
        size = self.size
        length = filter_length(size)
        taper = edge_taper(size, max(4, size // 64))[:, None]
        make, begin = (
            (guarded_rows, GUARD_ROWS) if self.followed else (pad_projections, PAD_ROWS[0])
        )
        projections = make(len(self.views), OVERSAMPLING * size, self.lanes(slab))
        for t in range(len(self.views)):
            filter_rows(
                self._gathered(slab, read, t) * taper,
                self._transfer[t],
                length,
                projections[t, begin : begin + OVERSAMPLING * size],
            )
        return projections

    def _rows(self, slab: int, read: Callable[[int, int], NDArray[np.float32]]) -> Runs:
        """Return the function of (first height, number) that yields what they are made from."""
        voxel = self.volume.voxel_size
        if self.planes is not None:
            stored = [
                np.ascontiguousarray(self._gathered(slab, read, t)) for t in range(len(self.views))
            ]
            lane = self.volume.first[1] + (slab * SLAB - self.margin) * voxel
            return ComposedRows(
                self.planes, stored, first_lane=lane, view_shear=self.view_shear
            ).runs
        projections = self._weighted(slab, read)
        if self.followed is None:
            return partial(sheared_runs, projections, self.view_shear)
        followed = FollowedRows(
            projections,
            self.followed,
            first_row=self.aligned.first[1] / voxel,
            first_lane=self.volume.first[1] / voxel + slab * SLAB - self.margin,
            margin=self.local_margin,
        )
        return followed.runs

    def _fill(self, rows: Runs, height: float, out: NDArray[np.float32]) -> None:
        """Back-project one layer whose first height is `height` voxels."""
        model, voxel = self.model, self.volume.voxel_size
        for at, count, projections in rows(height, out.shape[1]):
            backproject(
                projections,
                model.cos_x * OVERSAMPLING,
                model.sin_z * OVERSAMPLING,
                origin=-self.aligned.first[1] / voxel * OVERSAMPLING,
                x=(self.volume.first[2] / voxel, self.volume.shape[2]),
                z=(height + at, count),
                out=out,
                out_z=at,
            )

    def _unshear(self, wide: NDArray[np.float32], height: float, out: NDArray[np.float32]) -> None:
        """Shift every height along y by the common shear."""
        heights = height + np.arange(wide.shape[1], dtype=np.float64)
        whole, weights = shift_weights(-heights * self.shear)
        margin = self.sheared_margin
        rows = min(SLAB, wide.shape[2] - 2 * margin)
        for block in range(wide.shape[0]):
            shift_lanes(wide[block], whole, weights, margin, out[block, :, :rows])

    def prepare(self, scratch: Path) -> list[Stage]:
        """Return the stage that fills the scratch with aligned bands."""
        tasks = [
            Task(
                f"view/{view}",
                _write_view,
                (self, t, band_file(scratch, view)),
                scratch=band_file(scratch, view),
            )
            for t, view in enumerate(self.views)
        ]
        return [Stage("align views", tasks, self.view_bytes)]

    @property
    def view_bytes(self) -> int:
        """Bytes of the arrays of one view's task."""
        if self.corrected is None:
            return view_bytes(self.source, self.bands, SLAB)
        grid = self.corrected.grid
        correcting = max(self.corrected.bytes_of(t, self.bands) for t in range(len(self.views)))
        return max(view_bytes(self.source, grid, None, FINE), grid.nbytes + correcting)

    def stored_layers(self, slab: int, scratch: Path, depth: int) -> Iterator[NDArray[np.float32]]:
        """Yield :meth:`layers` of a slab from the bands in the scratch."""

        def read(t: int, band: int) -> NDArray[np.float32]:
            path = band_file(scratch, self.views[t])
            return read_band(path, self._row_count(t), SLAB, band)

        return self.layers(slab, read, depth)

    def align(self, t: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the aligned bands (band, row, lane) of the raw image of view position `t`.

        Rows are those of u, or of all planes of the view, weighted.
        """
        return self.correct(t, self.resample(t, image))

    def resample(self, t: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the aligned (band, u, lane) of a raw image: in one band where it is corrected."""
        model = self.model
        if self.corrected is None:
            grid, lanes, oversampling = self.bands, SLAB, 1.0
        else:
            # What is corrected is wanted up to the Nyquist frequency.
            grid, oversampling = self.corrected.grid, FINE
            lanes = grid.shape[0]
        mid_plane = None if self.local is None else self.local.mid_plane(t)
        bands, _ = align_view(
            image,
            self.views[t],
            self.source,
            model.matrix[t],
            model.shift[t],
            grid,
            lanes,
            mid_plane,
            oversampling,
        )
        return bands

    def correct(self, t: int, aligned: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the corrected bands of what :meth:`resample` returns, which is changed."""
        if self.corrected is None:
            return aligned
        return self.corrected.bands(t, aligned[0], self._transfer[t], self.bands, SLAB)

    def _row_count(self, t: int) -> int:
        """Return the number of rows of a view in the scratch."""
        return self.size if self.corrected is None else self.corrected.count(t)

    @property
    def _all_rows(self) -> int:
        return sum(self._row_count(t) for t in range(len(self.views)))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch."""
        return 4 * self.bands.shape[0] * self._all_rows

    def bytes_read(self, slab: int) -> int:
        """Return the bytes that a slab reads from the scratch."""
        first, last = self.band_range(slab)
        return 4 * (last - first + 1) * SLAB * self._all_rows

    def identity(self) -> dict[str, Any]:
        """Return what determines the values, for the ledger's plan."""
        corrected = {}
        if self.correction is not None:
            corrected["ctf"] = self.correction.identity() | {"by_height": self.by_height}
        return {
            "step": "reconstruct wbp",
            "numerics": NUMERICS,
            "images": list(self.source.checksums),
            "edits": None if self.source.edits is None else self.source.edits.digest,
            "views": list(self.views),
            "geometry": self.projection.digest(),
            "pixel_size": self.source.pixel_size,
            "voxel_size": self.volume.voxel_size,
            "shape": list(self.volume.shape),
            "first": list(self.volume.first),
            "aligned_shape": list(self.aligned.shape),
            "full_thickness": self.full_thickness,
            "filter": {
                name: getattr(self.row_filter, name)
                for name in ("kind", "cutoff", "falloff", "sirt_like")
            },
            "view_weights": list(self.view_weights),
        } | corrected


def _write_view(plan: SlabPlan, t: int, path: Path) -> tuple[int, int]:
    """Align one stored view into its scratch file; return the bytes read and written."""
    # The raw image goes before what it became is corrected.
    aligned = plan.resample(t, plan.source.read(plan.views[t]))
    bands = plan.correct(t, aligned)
    write_bands(bands, path)
    return 4 * math.prod(plan.source.shape), bands.nbytes
