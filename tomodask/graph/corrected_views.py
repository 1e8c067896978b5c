"""The views of a plan corrected for contrast transfer and dose, as bands of lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.graph.aligned_views import AlignedGrid, cut_bands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.graph.ctf_correction import ViewCorrection
    from tomodask.graph.ctf_planes import HeightPlanes

__all__ = ["CorrectedViews"]


@dataclass(frozen=True, kw_only=True)
class CorrectedViews:
    """How an aligned view becomes corrected bands.

    Parameters
    ----------
    correction
        Of the views that take part.
    planes
        Heights for which they are corrected; None for mid-plane alone.
    grid
        Pixels in which a view is corrected: those of the uncropped volume, so that a part of it is
        computed like the whole, and what it and the transfer reach beyond along v.
    """

    correction: ViewCorrection
    planes: HeightPlanes | None
    grid: AlignedGrid

    def count(self, t: int) -> int:
        """Return the number of rows of a view: those of u, or of all its planes."""
        return self.grid.shape[1] if self.planes is None else self.planes.count(t)

    def bands(
        self,
        t: int,
        image: NDArray[np.float32],
        weights: NDArray[np.float32],
        bands: AlignedGrid,
        lanes: int,
    ) -> NDArray[np.float32]:
        """Return the corrected rows (band, row, lane) of a view; weighted where they are of planes.

        Parameters
        ----------
        t
            View.
        image
            (u, v) float32 on :attr:`grid`, changed.
        weights
            Transfer function along u, for planes.
        bands
            Pixels of the result; zero where the grid has none.
        lanes
            Rows of v per band.
        """
        skip = round((bands.first[0] - self.grid.first[0]) / bands.pixel_size)
        out = np.zeros((bands.shape[0] // lanes, self.count(t), lanes), np.float32)
        if self.planes is None:
            corrected = self.correction.corrected(t, np.ascontiguousarray(image.T), self.grid)
            cut_bands(corrected.T, skip, out)
            return out
        at = 0
        for rows in self.planes.planes(t, image, weights):
            cut_bands(rows, skip, out[:, at : at + len(rows)])
            at += len(rows)
        return out

    def bytes_of(self, t: int, bands: AlignedGrid) -> int:
        """Return the bytes that :meth:`bands` holds for a view beside its image."""
        out = 4 * bands.shape[0] * self.count(t)
        if self.planes is not None:
            return out + self.planes.bytes_of(self.grid.shape[0])
        return out + 2 * self.grid.nbytes + self.correction.corrected_bytes(self.grid)
