"""Weighted back-projection of a tilt series as a lazy volume."""

from __future__ import annotations

from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from tomodask.engine.shards import stored_grid
from tomodask.errors import (
    DataError,
    DoubleApplicationError,
    ParameterError,
    ProductMissingError,
)
from tomodask.geometry import VolumeGrid, centred_coordinates
from tomodask.graph.align_stack import AlignedGrid, ViewSource, align_view, aligned_grid
from tomodask.graph.slab_plan import SlabPlan
from tomodask.kernels.weighting import RowFilter
from tomodask.model import (
    SLAB,
    layer_depth,
    nominal_projection,
    projection_of,
    stored_folder,
    validate,
    variable_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.geometry import Projection

__all__ = ["align_stack", "chosen_projection", "plan_of", "reconstruct"]

#: Plans by the name of the dask array they belong to; the graph keeps them alive.
_PLANS: WeakValueDictionary[str, SlabPlan] = WeakValueDictionary()

Range = tuple[int, int] | None


def reconstruct(
    series: xr.DataTree,
    *,
    thickness: int,
    binning: float = 1.0,
    alignment: str | xr.Dataset | None = None,
    weighting: Literal["ramp", "exact", "none"] = "ramp",
    radial: tuple[float, float] = (0.35, 0.035),
    sirt_like: int = 0,
    view_weights: Sequence[float] | None = None,
    x_range: Range = None,
    y_range: Range = None,
    z_range: Range = None,
) -> xr.DataArray:
    """Reconstruct a tomogram by weighted back-projection, lazily.

    Nothing is computed here. ``tomodask.store`` runs it from disk to disk, slab by slab;
    ``.compute()`` makes the volume, or any part of it, in memory, with the same values.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    thickness
        Height of the tomogram, voxels at the binning given.
    binning
        Voxel size over pixel size, >= 1; need not be whole. Images are binned by cropping their
        Fourier transform.
    alignment
        Name of an alignment of the series, "none" for the angles as recorded without shifts, or
        a dataset; by default the only alignment that the series has.
    weighting
        "ramp", "exact" (Harauz and van Heel, for uneven tilts) or "none".
    radial
        Cutoff and Gaussian fall-off of the low-pass, cycles per voxel.
    sirt_like
        Number of SIRT iterations that the ramp is shaped to resemble; 0 for none.
    view_weights
        Extra weight of each view of the series; 1 by default.
    x_range, y_range, z_range
        (start, stop) voxels of the full tomogram to make; all by default.

    Returns
    -------
    xarray.DataArray
        ``tomogram (z, y, x)`` float32 with coordinates in A from the centre of the full tomogram.
        Its unit is that of the images per A: summed along the beam and multiplied by the voxel
        size it is the image less the mean of its border, as far as the tilt range allows.
        Dense stays dark where the images are dark.

    Raises
    ------
    ProductMissingError
        If there is no such alignment, or several and none is named.
    ParameterError
        If a size, range or weight makes no sense.
    DataError
        If fewer than two views are included.

    Notes
    -----
    Memory of one task: ``volume.attrs["task_bytes"]``.
    """
    tilt_series = series["tilt_series"].to_dataset()
    validate(tilt_series, "tilt_series", source=str(series.name))
    images = tilt_series["images"]
    refuse_applied(images, "alignment")
    views = np.flatnonzero(tilt_series["included"].values)
    if len(views) < 2:
        raise DataError(
            f"{series.name} has {len(views)} included views; a reconstruction needs at least two"
        )
    projection, label = chosen_projection(series, alignment)
    source = view_source(tilt_series)
    aligned = aligned_grid(projection, source.shape, source.pixel_size, binning)
    if int(thickness) != thickness or thickness < 1:
        raise ParameterError(f"thickness {thickness}: give a whole number of voxels >= 1")
    full = VolumeGrid.centred((int(thickness), *aligned.shape), aligned.pixel_size)
    ranges = {"x": x_range, "y": y_range, "z": z_range}
    volume = full.cropped(
        **{axis: slice(None) if part is None else slice(*part) for axis, part in ranges.items()}
    )
    plan = SlabPlan(
        source=source,
        views=tuple(int(view) for view in views),
        projection=projection[views],
        aligned=aligned,
        volume=volume,
        full_thickness=full.shape[0] * full.voxel_size,
        row_filter=RowFilter(
            kind=weighting, cutoff=radial[0], falloff=radial[1], sirt_like=sirt_like
        ),
        view_weights=_weights(view_weights, views, len(images)),
    )
    attributes = variable_attributes("tomogram", "tomogram") | {
        "voxel_size": volume.voxel_size,
        "task_bytes": plan.task_bytes(layer_depth(volume.shape[0])),
        "provenance": {
            "step": "reconstruct",
            "method": "wbp",
            "series": str(series.name),
            "alignment": label,
            "binning": float(binning),
            "thickness": int(thickness),
            "weighting": weighting,
            "radial": list(radial),
            "sirt_like": sirt_like,
            "excluded_views": sorted(set(range(len(images))) - set(plan.views)),
        },
    }
    return xr.DataArray(
        _lazy_volume(plan, images),
        dims=("z", "y", "x"),
        coords={
            axis: (axis, values, variable_attributes("tomogram", axis))
            for axis, values in volume.coordinates().items()
        },
        name="tomogram",
        attrs=attributes,
    )


def align_stack(
    series: xr.DataTree,
    *,
    binning: float = 1.0,
    alignment: str | xr.Dataset | None = None,
) -> xr.DataArray:
    """Return the aligned stack, lazily: each view resampled once by its whole affine map.

    Parameters
    ----------
    series, binning, alignment
        As in :func:`reconstruct`.

    Returns
    -------
    xarray.DataArray
        ``images (tilt, y, x)`` float32 of all views, excluded ones too. Each one's edges are
        tapered to the mean of its border, which fills what lies outside the raw image. The tilt
        axis is vertical, through the centre. The attribute ``applied`` says that the alignment
        is.

    Raises
    ------
    ProductMissingError
        If there is no such alignment, or several and none is named.
    """
    tilt_series = series["tilt_series"].to_dataset()
    validate(tilt_series, "tilt_series", source=str(series.name))
    refuse_applied(tilt_series["images"], "alignment")
    projection, label = chosen_projection(series, alignment)
    source = view_source(tilt_series)
    grid = aligned_grid(projection, source.shape, source.pixel_size, binning)
    model = projection.slab_model()
    images = tilt_series["images"]
    views = one_view_a_chunk(images)
    name = f"aligned-{tokenize(projection.digest(), source, grid, views.name)}"
    graph = {
        (name, t, 0, 0): (
            partial(_align_image, t, source, model.matrix[t], model.shift[t], grid),
            (views.name, t, 0, 0),
        )
        for t in range(len(projection))
    }
    stack = da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=[views]),
        name,
        ((1,) * len(projection), (grid.shape[0],), (grid.shape[1],)),
        np.float32,
    )
    return xr.DataArray(
        stack,
        dims=("tilt", "y", "x"),
        coords={
            "tilt_angle": ("tilt", projection.tilt_angle, {"units": "degree"}),
            "included": tilt_series["included"],
            "y": ("y", centred_coordinates(grid.shape[0], grid.pixel_size)),
            "x": ("x", centred_coordinates(grid.shape[1], grid.pixel_size)),
        },
        name="images",
        attrs={
            "pixel_size": grid.pixel_size,
            "applied": ["alignment"],
            "provenance": {"step": "align_stack", "alignment": label, "binning": float(binning)},
        },
    )


def refuse_applied(images: xr.DataArray, step: str) -> None:
    """Raise if a step has already been applied to images.

    Raises
    ------
    DoubleApplicationError
        Naming the step.
    """
    if step in images.attrs.get("applied", []):
        raise DoubleApplicationError(
            f"the {step} has already been applied to these images; start from the stored series"
        )


def plan_of(volume: xr.DataArray) -> SlabPlan | None:
    """Return the plan of a lazy reconstruction, None for any other array."""
    return _PLANS.get(getattr(volume.data, "name", ""))


def view_source(tilt_series: xr.Dataset) -> ViewSource:
    """Return where the images of a tilt series are read from."""
    images = tilt_series["images"]
    folder = stored_folder(images)
    checksums = tilt_series["checksum"].values if folder and "checksum" in tilt_series else ()
    return ViewSource(
        images=folder,
        shape=(images.sizes["y"], images.sizes["x"]),
        pixel_size=float(tilt_series.attrs["pixel_size"]),
        checksums=tuple(int(value) for value in checksums),
        layout=stored_grid(folder) if folder else None,
    )


def chosen_projection(
    series: xr.DataTree, alignment: str | xr.Dataset | None
) -> tuple[Projection, str]:
    """Return the projection of the alignment asked for, and its name.

    Raises
    ------
    ProductMissingError
        If it is not there, or must be named because there are several.
    DataError
        If it has another number of views than the series.
    """
    if isinstance(alignment, xr.Dataset):
        projection, label = projection_of(alignment), str(alignment.attrs.get("method", "given"))
    elif alignment == "none":
        projection, label = nominal_projection(series["tilt_series"].to_dataset()), "none"
    else:
        there = list(series["alignments"].children) if "alignments" in series.children else []
        if alignment is None and len(there) != 1:
            raise ProductMissingError(
                f"{series.name} has {len(there)} alignments ({', '.join(there) or 'none'}): "
                + (
                    "name one with alignment= (--alignment)"
                    if there
                    else "make one with 'tomodask align', or give alignment='none'"
                )
            )
        label = there[0] if alignment is None else alignment
        if label not in there:
            raise ProductMissingError(
                f"{series.name} has no alignment {label!r} (there: {', '.join(there) or 'none'}); "
                "give one of these, or 'none'"
            )
        projection = projection_of(series[f"alignments/{label}"].to_dataset())
    count = series["tilt_series"].sizes["tilt"]
    if len(projection) != count:
        raise DataError(
            f"alignment {label!r} has {len(projection)} views, {series.name} has {count}"
        )
    return projection, label


def _weights(
    weights: Sequence[float] | None, views: NDArray[np.intp], count: int
) -> tuple[float, ...]:
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all() or (values < 0).any():
        raise ParameterError(
            f"view weights of shape {values.shape}: give {count} finite numbers >= 0, one a view"
        )
    return tuple(float(value) for value in values[views])


def _lazy_volume(plan: SlabPlan, images: xr.DataArray) -> da.Array:
    """Return the volume as a dask array of one chunk per slab.

    The graph is written out: a view is aligned once, cut into bands, and a slab takes the bands
    it needs.
    """
    stack = one_view_a_chunk(images)
    token = tokenize(plan.identity(), stack.name)
    aligned, band, slab_name = (f"{name}-{token}" for name in ("align", "band", "backproject"))
    align, backproject = partial(_align_bands, plan), partial(_slab_volume, plan)
    graph: dict[Any, Any] = {
        (aligned, t): (align, t, (stack.name, view, 0, 0)) for t, view in enumerate(plan.views)
    }
    rows = []
    for slab in range(plan.slabs):
        first, last = plan.band_range(slab)
        parts = []
        for t in range(len(plan.views)):
            graph[band, slab, t] = (getitem, (aligned, t), slice(first, last + 1))
            parts.append((band, slab, t))
        graph[slab_name, 0, slab, 0] = (backproject, slab, first, parts)
        rows.append(min(SLAB, plan.volume.shape[1] - slab * SLAB))
    heights, _, width = plan.volume.shape
    layers = HighLevelGraph.from_collections(slab_name, graph, dependencies=[stack])
    volume = da.Array(layers, slab_name, ((heights,), tuple(rows), (width,)), np.float32)
    _PLANS[slab_name] = plan
    return volume


def one_view_a_chunk(images: xr.DataArray) -> da.Array:
    """Return images (tilt, y, x) as a dask array of one whole image per chunk."""
    stack = images.data
    if not isinstance(stack, da.Array):
        return da.from_array(stack, chunks=(1, -1, -1))
    result: da.Array = stack.rechunk((1, -1, -1))
    return result


def _align_bands(plan: SlabPlan, t: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Align one view (1, y, x) into bands of lanes."""
    return plan.align(t, np.ascontiguousarray(image[0], np.float32))


def _align_image(
    view: int,
    source: ViewSource,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    grid: AlignedGrid,
    image: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the aligned image (1, y, x) of a raw one (1, y, x)."""
    raw = np.ascontiguousarray(image[0], np.float32)
    aligned, level = align_view(raw, view, source, matrix, shift, grid)
    result: NDArray[np.float32] = aligned + np.float32(level)
    return result


def _slab_volume(
    plan: SlabPlan, slab: int, first: int, bands: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return one slab (z, y, x) from each view's bands, beginning with band `first`."""
    depth = layer_depth(plan.volume.shape[0])
    heights, _, width = plan.volume.shape
    rows = min(SLAB, plan.volume.shape[1] - slab * SLAB)
    out = np.empty((heights, rows, width), np.float32)
    for index, layer in enumerate(plan.layers(slab, lambda t, band: bands[t][band - first], depth)):
        part = out[index * depth : (index + 1) * depth]
        for block, columns in enumerate(layer):
            at = block * columns.shape[2]
            target = part[:, :, at : at + columns.shape[2]]
            target[...] = columns[: len(part), :rows, : target.shape[2]]
    return out
