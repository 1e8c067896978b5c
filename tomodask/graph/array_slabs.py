"""Any lazy volume, slab by slab, where no plan of our own stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.engine.shards import StoredArray
from tomodask.errors import SchemaError
from tomodask.geometry import VolumeGrid
from tomodask.kernels.backproject import CHUNK_X
from tomodask.model import SLAB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dask.array as da
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.engine.run import Stage

__all__ = ["ArraySlabs"]


@dataclass(frozen=True, kw_only=True)
class ArraySlabs:
    """A dask array (z, y, x) that is computed slab by slab where it is stored.

    Parameters
    ----------
    array
        Any real dtype; stored as float32.
    volume
        Its voxels.
    graph_bytes
        What computing one slab holds beside the slab, as far as its maker said.
    """

    array: da.Array
    volume: VolumeGrid
    graph_bytes: int = 0

    @classmethod
    def of(cls, volume: xr.DataArray) -> ArraySlabs:
        """Return the slabs of a volume with coordinates in A.

        Raises
        ------
        SchemaError
            If its dimensions are not (z, y, x) or its coordinates not evenly spaced and equal
            along all axes.
        """
        if volume.dims != ("z", "y", "x") or not all(axis in volume.coords for axis in "zyx"):
            raise SchemaError(
                f"a volume of dimensions {volume.dims} with coordinates {list(volume.coords)}; it "
                "needs (z, y, x) with a coordinate in A along each"
            )
        steps = np.concatenate([np.diff(volume[axis].values) for axis in "zyx"])
        voxel = float(volume.attrs.get("voxel_size", steps[0] if len(steps) else np.nan))
        if not np.allclose(steps, voxel, rtol=1e-4) or not voxel > 0:
            raise SchemaError(
                "the voxels of a stored volume must be cubes; give evenly spaced coordinates with "
                "the same step along z, y and x, and the attribute 'voxel_size' for a single voxel"
            )
        first = tuple(float(volume[axis].values[0]) for axis in "zyx")
        shape = tuple(volume.sizes[axis] for axis in "zyx")
        grid = VolumeGrid((shape[0], shape[1], shape[2]), voxel, (first[0], first[1], first[2]))
        return cls(
            array=volume.chunk({"z": -1, "y": SLAB, "x": -1}).data,
            volume=grid,
            graph_bytes=int(volume.attrs.get("task_bytes", 0)),
        )

    def reads_from(self, folder: Path) -> bool:
        """Whether the array is derived from one that is stored in `folder`."""
        return any(path.is_relative_to(folder) for path in self._stored())

    def series(self) -> Path | None:
        """Return the store whose tomograms it is derived from; None unless it is one store's."""
        found = {path.parents[4] for path in self._stored() if path.parents[3].name == "tomograms"}
        return found.pop() if len(found) == 1 else None

    def _stored(self) -> list[Path]:
        values = dict(self.array.dask).values()
        return [value.path for value in values if isinstance(value, StoredArray)]

    @property
    def slabs(self) -> int:
        """Number of slabs."""
        return -(-self.volume.shape[1] // SLAB)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch: none."""
        return 0

    def prepare(self, scratch: Path) -> list[Stage]:
        """Return the stages before the slabs: none."""
        del scratch
        return []

    def task_bytes(self, depth: int) -> int:
        """Return the bytes of one slab, one layer, and what the graph is said to need."""
        heights, _, width = self.volume.shape
        blocks = -(-width // CHUNK_X)
        return self.graph_bytes + 4 * SLAB * (2 * heights * width + blocks * CHUNK_X * depth)

    def bytes_read(self, slab: int) -> int:
        """Return the bytes read from files, which are not known."""
        del slab
        return 0

    def stored_layers(self, slab: int, scratch: Path, depth: int) -> Iterator[NDArray[np.float32]]:
        """Compute a slab and yield its layers (x block, depth, SLAB, 64) float32."""
        del scratch
        block = np.asarray(
            self.array[:, slab * SLAB : (slab + 1) * SLAB].compute(scheduler="synchronous"),
            np.float32,
        )
        heights, rows, width = block.shape
        out = np.zeros((-(-width // CHUNK_X), depth, SLAB, CHUNK_X), np.float32)
        for start in range(0, heights, depth):
            part = block[start : start + depth]
            out[...] = 0
            for index, columns in enumerate(out):
                piece = part[:, :, index * CHUNK_X : (index + 1) * CHUNK_X]
                columns[: len(part), :rows, : piece.shape[2]] = piece
            yield out

    def identity(self) -> dict[str, Any]:
        """Return what determines the values: the name of the graph, a hash of all it does."""
        return {
            "step": "store array",
            "array": self.array.name,
            "shape": list(self.volume.shape),
            "voxel_size": self.volume.voxel_size,
            "first": list(self.volume.first),
        }
