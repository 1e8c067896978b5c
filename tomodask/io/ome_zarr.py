"""Tomograms as OME-Zarr 0.5 multiscale groups that xarray opens level by level.

A level is a group ``{0,1,2,...}`` with the array ``tomogram`` and its ``z``, ``y``, ``x``
coordinates beside it; the OME attributes point at ``0/tomogram`` and so on. Shards are one slab
of y, whole in z and x, so that the task that computes a slab owns its shards on the levels whose
slabs stay whole; inner chunks stay near a cube of 64.

References
----------
.. [1] Next-generation file formats (NGFF) specification 0.5, doi:10.1038/s41592-021-01326-w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from tomodask.engine.files import explained
from tomodask.engine.shards import ShardGrid, create_array
from tomodask.geometry import VolumeGrid
from tomodask.model import SLAB, layer_depth, variable_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "OWNED_LEVELS",
    "Level",
    "MultiscaleLayout",
    "array_folder",
    "create_multiscale",
    "origin_of",
]

#: Levels whose slabs are written with level 0: a slab halves to 32 and 16 rows.
OWNED_LEVELS = 3
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution: its voxels and how they are stored."""

    volume: VolumeGrid
    grid: ShardGrid


@dataclass(frozen=True, slots=True)
class MultiscaleLayout:
    """The levels of a tomogram of a given shape; determined by the shape alone."""

    levels: tuple[Level, ...]

    @classmethod
    def of(cls, volume: VolumeGrid, count: int | None = None) -> MultiscaleLayout:
        """Return the layout of a volume.

        Parameters
        ----------
        volume
            Level 0.
        count
            Number of levels; by default until every edge is at most 128 voxels.
        """
        depth = layer_depth(volume.shape[0])
        levels: list[Level] = []
        level = volume
        while True:
            factor = 2 ** len(levels)
            if len(levels) < OWNED_LEVELS:
                chunk = (depth // factor, SLAB // factor, _CHUNK * factor)
            else:
                chunk = (_CHUNK, _CHUNK, _CHUNK)
            whole = [-(-n // c) * c for n, c in zip(level.shape, chunk, strict=True)]
            grid = ShardGrid(level.shape, (whole[0], chunk[1], whole[2]), chunk)
            levels.append(Level(level, grid))
            if len(levels) == count or (count is None and max(level.shape) <= 128):
                return cls(tuple(levels))
            level = halved(level)

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(
            4 * int(np.prod(level.grid.shard)) * int(np.prod(level.grid.counts))
            for level in self.levels
        )


def halved(volume: VolumeGrid) -> VolumeGrid:
    """Return the grid of the next level: means of 2 x 2 x 2 voxels, a single one at an odd end."""
    shape = tuple(-(-n // 2) for n in volume.shape)
    first = tuple(start + volume.voxel_size / 2 for start in volume.first)
    return VolumeGrid(
        (shape[0], shape[1], shape[2]), volume.voxel_size * 2, (first[0], first[1], first[2])
    )


def array_folder(group: Path, level: int) -> Path:
    """Return the folder of a level's array."""
    return group / str(level) / "tomogram"


def create_multiscale(
    path: Path, name: str, layout: MultiscaleLayout, attributes: Mapping[str, Any]
) -> list[Path]:
    """Create the groups, arrays and coordinates of a tomogram, without its voxels.

    Parameters
    ----------
    path
        Folder of the multiscale group; it holds nothing yet but, at most, a ledger's lock.
    name
        Name shown by viewers.
    layout
        Levels.
    attributes
        Written under the key "tomodask".

    Returns
    -------
    Folders of the arrays, level by level.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(path, mode="a", zarr_format=3)
        folders = []
        for index, level in enumerate(layout.levels):
            part = group.create_group(str(index))
            folders.append(
                create_array(
                    part,
                    "tomogram",
                    level.grid,
                    ("z", "y", "x"),
                    variable_attributes("tomogram", "tomogram"),
                )
            )
            for axis, values in level.volume.coordinates().items():
                part.create_array(
                    axis,
                    data=values,
                    dimension_names=(axis,),
                    compressors=None,
                    attributes=variable_attributes("tomogram", axis),
                )
        group.attrs.update({"ome": _ome_attributes(name, layout), "tomodask": dict(attributes)})
    return folders


def origin_of(folder: Path, level: int) -> dict[str, Any]:
    """Return what a multiscale group says of one level: ``voxel_size``, A, and ``provenance``."""
    attributes: Any = zarr.open_group(folder, mode="r").attrs.asdict()
    dataset = attributes["ome"]["multiscales"][0]["datasets"][level]
    return {
        "voxel_size": float(dataset["coordinateTransformations"][0]["scale"][0]),
        "provenance": attributes.get("tomodask", {}).get("provenance", {}),
    }


def _ome_attributes(name: str, layout: MultiscaleLayout) -> dict[str, Any]:
    datasets = []
    base = layout.levels[0].volume
    for index, level in enumerate(layout.levels):
        volume = level.volume
        # Positions from the first voxel of level 0, as viewers expect; the coordinate arrays
        # beside hold those of the specimen frame.
        shift = [a - b for a, b in zip(volume.first, base.first, strict=True)]
        datasets.append(
            {
                "path": f"{index}/tomogram",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [volume.voxel_size] * 3},
                    {"type": "translation", "translation": shift},
                ],
            }
        )
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
    }
