"""Series in memory and a bead finder, shared by the tests of the graph."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr

from tomodask.geometry import Projection, VolumeGrid, aligned_shape
from tomodask.model import alignment_dataset
from tomodask.simulate import Ball, Phantom


def tree_of(
    images: np.ndarray, pixel_size: float, projection: Projection, included: object = None
) -> xr.DataTree:
    """A series in memory with its true alignment."""
    views = len(images)
    series = xr.Dataset(
        {"images": (("tilt", "y", "x"), da.from_array(images, chunks=(1, -1, -1)))},
        coords={
            "tilt_angle": ("tilt", projection.tilt_angle),
            "included": ("tilt", np.ones(views, bool) if included is None else included),
            "section": ("tilt", np.arange(views)),
        },
        attrs={"pixel_size": pixel_size, "tilt_axis_angle": float(projection.tilt_axis_angle[0])},
    )
    nodes = {
        "tilt_series": series,
        "alignments/true": alignment_dataset(projection, method="true"),
    }
    return xr.DataTree.from_dict(nodes, name="simulated")


def unharmed(tree: xr.DataTree) -> xr.DataTree:
    """The same of a dose of 0: weighted by 1, views are resampled as where they are corrected."""
    none = ("tilt", np.zeros(tree["tilt_series"].sizes["tilt"]))
    series = tree["tilt_series"].to_dataset().assign_coords(dose=none, exposure=none)
    tree["tilt_series"] = xr.DataTree(series.assign_attrs(voltage=300.0))
    return tree


def scattered_beads(
    shape: tuple[int, int], pixel_size: float, voxel: float, thickness: int,
    projection: Projection, *, seed: int = 1, count: int = 14,
) -> Phantom:  # fmt: skip
    """Beads of 3 voxels radius, well apart, inside the field at all tilts."""
    rng = np.random.default_rng(seed)
    height, width = aligned_shape(shape, float(projection.tilt_axis_angle[0]))
    extent = np.array(
        [0.3 * width * pixel_size, 0.3 * height * pixel_size, 0.35 * thickness * voxel]
    )
    centres: list[np.ndarray] = []
    while len(centres) < count:
        candidate = rng.uniform(-extent, extent)
        if all(np.linalg.norm(candidate - other) > 12 * voxel for other in centres):
            centres.append(candidate)
    return Phantom(tuple(Ball(tuple(map(float, c)), 3.0 * voxel, -1.0) for c in centres))


def bead_errors(volume: xr.DataArray, beads: np.ndarray) -> np.ndarray:
    """(bead, zyx) distance, in voxels, of each bead's windowed centroid from its true place."""
    voxel = volume.attrs["voxel_size"]
    first = np.array([float(volume[axis].values[0]) for axis in "zyx"])
    errors = []
    for bead in beads:
        truth = (bead[::-1] - first) / voxel
        centre = truth.copy()
        for _ in range(30):
            low = np.round(centre).astype(int) - 5
            part = -volume.values[tuple(slice(n, n + 11) for n in low)]
            at = np.indices(part.shape) + low[:, None, None, None]
            distance = ((at - centre[:, None, None, None]) ** 2).sum(axis=0)
            weight = np.clip(part, 0, None) * np.exp(-distance / (2 * 2.2**2))
            moved = (at * weight).sum(axis=(1, 2, 3)) / weight.sum()
            done = np.abs(moved - centre).max() < 1e-3
            centre = moved
            if done:
                break
        errors.append(centre - truth)
    return np.array(errors)


def volume_grid(volume: xr.DataArray) -> VolumeGrid:
    """The grid a volume lies on."""
    first = tuple(float(volume[axis].values[0]) for axis in "zyx")
    shape = tuple(volume.sizes[axis] for axis in "zyx")
    return VolumeGrid(shape, volume.attrs["voxel_size"], first)
