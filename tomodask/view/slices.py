"""The few pixels of a lazy array that a picture shows, and the greys they are shown in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from tomodask.errors import ParameterError, SchemaError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = [
    "Orthoslices",
    "contrast_limits",
    "level_for",
    "read_orthoslices",
    "reduced",
    "voxel_size",
]

#: Percentiles that become black and white: gold beads and hot pixels are rarer than this.
_PERCENTILES = (0.5, 99.5)
_SAMPLE = 200_000
AXES = ("z", "y", "x")


def contrast_limits(*images: NDArray[Any]) -> tuple[float, float]:
    """Return the values to show as black and as white.

    They are percentiles of a sample of the finite pixels, so that a few extreme ones do not
    matter; the sample is the same every time.

    Parameters
    ----------
    *images
        Arrays of any shape that share one grey scale.

    Returns
    -------
    (black, white), with black < white.
    """
    pixels = np.concatenate([np.asarray(image, np.float32).ravel() for image in images])
    pixels = pixels[np.isfinite(pixels)]
    if not pixels.size:
        return 0.0, 1.0
    if pixels.size > _SAMPLE:
        # At random places: a regular stride would see the same few columns of every row.
        pixels = pixels[np.random.default_rng(0).integers(pixels.size, size=_SAMPLE)]
    low, high = np.percentile(pixels, _PERCENTILES)
    if low == high:  # a few objects on an empty ground
        low, high = pixels.min(), pixels.max()
    black, white = float(low), float(high)
    return (black, white) if black < white else (black - 1, white + 1)


def reduced(image: xr.DataArray, factor: int) -> xr.DataArray:
    """Return an image `factor` times smaller along every axis, by averaging; lazy if it is."""
    return image.coarsen(dict.fromkeys(image.dims, factor), boundary="pad").mean()


def voxel_size(volume: xr.DataArray) -> float:
    """Return the edge of a volume's voxels, A.

    Parameters
    ----------
    volume
        (z, y, x) with a coordinate in A along each axis; the attribute "voxel_size" is needed
        only for a single voxel.

    Raises
    ------
    SchemaError
        If it is no such volume, or its voxels are not cubes.
    """
    if volume.dims != AXES or not all(axis in volume.coords for axis in AXES):
        raise SchemaError(
            f"a volume of dimensions {volume.dims} with coordinates {list(volume.coords)}; it "
            "needs (z, y, x) with a coordinate in A along each"
        )
    steps = np.concatenate([np.diff(volume[axis].values) for axis in AXES])
    size = float(steps[0]) if len(steps) else float(volume.attrs.get("voxel_size", np.nan))
    if not (size > 0 and np.allclose(steps, size, rtol=1e-4)):
        raise SchemaError(
            f"voxels with steps from {steps.min(initial=size):g} to {steps.max(initial=size):g} A "
            "are no cubes; give coordinates with one even step along z, y and x"
        )
    return size


@dataclass(frozen=True, slots=True, eq=False)
class Orthoslices:
    """Three slices of a volume that cross in one point.

    Parameters
    ----------
    xy, xz, yz
        (y, x), (z, x) and (y, z) float32.
    pixel_size
        A.
    point
        (z, y, x) where the slices cross, A from the volume's centre.
    first
        (z, y, x) of the first pixels' centres, A.
    thickness
        What each slice is the mean of, A.
    """

    xy: NDArray[np.float32]
    xz: NDArray[np.float32]
    yz: NDArray[np.float32]
    pixel_size: float
    point: tuple[float, float, float]
    first: tuple[float, float, float]
    thickness: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) number of pixels."""
        return (self.xz.shape[0], *self.xy.shape)


def read_orthoslices(
    volume: xr.DataArray,
    *,
    z: int | None = None,
    y: int | None = None,
    x: int | None = None,
    thickness: int = 1,
    max_pixels: int = 1600,
) -> Orthoslices:
    """Read three slices of a volume, and nothing else of it.

    Parameters
    ----------
    volume
        (z, y, x) with coordinates in A, lazy or not.
    z, y, x
        Voxel where the slices cross; the central one by default.
    thickness
        Number of slices that are averaged; near an edge they are those within the volume.
    max_pixels
        The slices side by side are averaged down to this many pixels, at most.

    Raises
    ------
    ParameterError
        If the point lies outside the volume, or a number is not positive.
    SchemaError
        If it is not a volume.
    """
    size = voxel_size(volume)
    if thickness < 1 or max_pixels < 1:
        raise ParameterError(
            f"thickness {thickness} and max_pixels {max_pixels}: give whole numbers >= 1"
        )
    given = dict(zip(AXES, (z, y, x), strict=True))
    centres = {
        axis: volume.sizes[axis] // 2 if index is None else index for axis, index in given.items()
    }
    for axis, index in centres.items():
        if not 0 <= index < volume.sizes[axis]:
            raise ParameterError(
                f"{axis} = {index}: the volume has voxels 0 to {volume.sizes[axis] - 1} along it"
            )
    means = [
        volume.isel({axis: _around(index, thickness, volume.sizes[axis])}).mean(axis)
        for axis, index in centres.items()
    ]
    factor = -(-_picture_pixels(volume) // max_pixels)
    xy, xz, zy = (reduced(panel, factor) for panel in _computed(means, volume))
    first = {axis: float(volume[axis].values[:factor].mean()) for axis in AXES}
    point = {axis: float(volume[axis].values[index]) for axis, index in centres.items()}
    return Orthoslices(
        xy=xy.values.astype(np.float32),
        xz=xz.values.astype(np.float32),
        yz=zy.values.astype(np.float32).T,
        pixel_size=size * factor,
        point=(point["z"], point["y"], point["x"]),
        first=(first["z"], first["y"], first["x"]),
        thickness=size * thickness,
    )


def level_for(multiscale: xr.DataTree, max_pixels: int = 1600) -> xr.DataArray:
    """Return the finest level of a tomogram whose picture has at most `max_pixels` pixels.

    Parameters
    ----------
    multiscale
        Node with the levels "0", "1", ..., e.g. ``series["tomograms/wbp/full"]``.
    max_pixels
        Edge of the picture of three slices; the coarsest level is returned where none fits.

    Raises
    ------
    SchemaError
        If the node has no levels.
    """
    names = sorted((name for name in multiscale.children if name.isdigit()), key=int)
    if not names:
        raise SchemaError(
            f"{multiscale.path} holds {list(multiscale.children)}, no levels '0', '1', ...; give "
            "the node of a tomogram, e.g. series['tomograms/wbp/full']"
        )
    levels = [multiscale.children[name].dataset["tomogram"] for name in names]
    return next((level for level in levels if _picture_pixels(level) <= max_pixels), levels[-1])


def _picture_pixels(volume: xr.DataArray) -> int:
    """Return the longer edge of the picture of three slices."""
    return volume.sizes["z"] + max(volume.sizes["x"], volume.sizes["y"])


def _around(index: int, thickness: int, size: int) -> slice:
    """Return the range of `thickness` indices about `index`, cut at the edges."""
    start = index - thickness // 2
    return slice(max(start, 0), min(start + thickness, size))


def _computed(panels: list[xr.DataArray], volume: xr.DataArray) -> list[xr.DataArray]:
    """Compute the three panels with the least reading, or the least computing."""
    layers = getattr(volume.__dask_graph__(), "layers", {})
    # dask.array.from_array calls its source "original-" and the name of the array.
    if f"original-{getattr(volume.data, 'name', '')}" in layers:
        # Dask hands a slice down to the reader only where no other task wants the same block:
        # each panel by itself reads its slices, all together would read the volume.
        return [panel.compute() for panel in panels]
    # A block that must be computed first is computed once for all panels.
    return list(dask.compute(*panels))
