"""Weighted back-projection of a tilt series as a lazy volume."""

from __future__ import annotations

from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import xarray as xr
from dask.base import tokenize

from tomodask.errors import (
    DataError,
    ParameterError,
)
from tomodask.geometry import VolumeGrid
from tomodask.graph.aligned_views import aligned_grid
from tomodask.graph.ctf_correction import view_correction
from tomodask.graph.inputs import (
    chosen_projection,
    chosen_thickness,
    edited_views,
    refuse_applied,
    view_source,
    written_out,
)
from tomodask.graph.slab_plan import SlabPlan
from tomodask.kernels.ctf import Correction
from tomodask.kernels.weighting import RowFilter
from tomodask.model import (
    SLAB,
    layer_depth,
    provenance,
    tilt_series_of,
    validate,
    variable_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.graph.ctf_correction import ViewCorrection
    from tomodask.kernels.ctf import CorrectionMethod

__all__ = ["plan_of", "reconstruct"]

#: Largest thickness that is believed, voxels.
_THICKEST = 32768
_CTF = ("none", "2d", "3d")
#: Plans by the name of the dask array they belong to; the graph keeps them alive.
_PLANS: WeakValueDictionary[str, SlabPlan] = WeakValueDictionary()

Range = tuple[int, int] | None


def reconstruct(
    series: xr.DataTree,
    *,
    thickness: int | None = None,
    binning: float = 1.0,
    alignment: str | xr.Dataset | None = None,
    weighting: Literal["ramp", "exact", "none"] = "ramp",
    radial: tuple[float, float] = (0.35, 0.035),
    sirt_like: int = 0,
    view_weights: Sequence[float] | None = None,
    ctf: Literal["none", "2d", "3d"] = "none",
    ctf_table: xr.Dataset | None = None,
    handedness: int | None = None,
    correction: CorrectionMethod = "phase-flip",
    snr: float = 10.0,
    dose_weighting: bool = False,
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
        Height of the tomogram, voxels at the binning given; by default what the alignment knows
        (see ``tomodask.position``).
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
    ctf
        Whether the contrast transfer is undone: "none"; "2d", in each view as the specimen's
        mid-plane lies in it; "3d", at the height of every voxel. "3d" is for specimens so thick
        that the transfer differs between their surfaces: thicker than
        ``Optics.plane_spacing`` of the resolution that is hoped for.
    ctf_table
        In place of the series' own CTF.
    handedness
        +1 or -1, in place of what the CTF says: the sign with which the defocus follows the height.
    correction, snr
        How it is undone, see ``tomodask.kernels.ctf.Correction``.
    dose_weighting
        Whether the views are weighted by what radiation has left of each frequency; also without
        a CTF.
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
        If there is no such alignment, or several and none is named; if there is no CTF.
    ParameterError
        If a size, range, weight or way of correction makes no sense; if the handedness, or for
        weights by dose the dose or the voltage, is not known; for "3d" and an alignment with a
        local field.
    DataError
        If fewer than two views are included, or one of them has no defocus or dose.
    DoubleApplicationError
        If the images are aligned, corrected or weighted already.

    Notes
    -----
    Memory of one task: ``volume.attrs["task_bytes"]``.
    """
    tilt_series = tilt_series_of(series)
    validate(tilt_series, "tilt_series", source=str(series.name))
    images = tilt_series["images"]
    refuse_applied(images, "alignment")
    views = np.flatnonzero(tilt_series["included"].values)
    if len(views) < 2:
        raise DataError(
            f"{series.name} has {len(views)} included views; a reconstruction needs at least two"
        )
    projection, label = chosen_projection(series, alignment)
    source = view_source(tilt_series, gold=True)
    aligned = aligned_grid(projection, source.shape, source.pixel_size, binning)
    if thickness is None:
        chosen = alignment if isinstance(alignment, xr.Dataset) else label
        thickness = chosen_thickness(series, chosen, aligned.pixel_size)
    if not (1 <= thickness <= _THICKEST and int(thickness) == thickness):
        raise ParameterError(
            f"thickness {thickness}: give a whole number of voxels from 1 to {_THICKEST}"
        )
    full = VolumeGrid.centred((int(thickness), *aligned.shape), aligned.pixel_size)
    ranges = {"x": x_range, "y": y_range, "z": z_range}
    volume = full.cropped(
        **{axis: slice(None) if part is None else slice(*part) for axis, part in ranges.items()}
    )
    applied = _correction(
        series,
        projection,
        views,
        ctf=ctf,
        table=ctf_table,
        handedness=handedness,
        correction=Correction(correction, snr),
        dose_weighting=dose_weighting,
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
        correction=applied,
        by_height=ctf == "3d",
    )
    if plan.by_height and plan.followed is not None:
        raise ParameterError(
            f"alignment {label!r} has a local field that moves rows with the height, which a 3-D "
            "correction of the contrast transfer cannot follow: give ctf='2d' (--ctf 2d), or an "
            "alignment without a local field"
        )
    attributes = variable_attributes("tomogram", "tomogram") | {
        "voxel_size": volume.voxel_size,
        "task_bytes": plan.task_bytes(layer_depth(volume.shape[0])),
        "provenance": provenance(
            "reconstruct",
            method="wbp",
            series=str(series.name),
            alignment=label,
            binning=float(binning),
            thickness=int(thickness),
            weighting=weighting,
            radial=list(radial),
            sirt_like=sirt_like,
            excluded_views=sorted(set(range(len(images))) - set(plan.views)),
            geometry=plan.projection.digest(),
            images=tokenize(source.checksums),
            edits=source.edits.applied if source.edits else [],
            **_described(ctf, applied),
        ),
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


def _correction(
    series: xr.DataTree,
    projection: Projection,
    views: NDArray[np.intp],
    *,
    ctf: str,
    table: xr.Dataset | None,
    handedness: int | None,
    correction: Correction,
    dose_weighting: bool,
) -> ViewCorrection | None:
    """Return what the views are corrected by, None for nothing."""
    if ctf not in _CTF:
        raise ParameterError(f"ctf {ctf!r}: give one of {', '.join(map(repr, _CTF))}")
    if ctf == "none":
        if table is not None or handedness is not None:
            raise ParameterError(
                "a CTF table or a handedness is given, but no correction is asked for: give "
                "ctf='2d' or '3d' (--ctf)"
            )
        if not dose_weighting:
            return None
    return view_correction(
        series,
        projection,
        [int(view) for view in views],
        ctf=table,
        handedness=handedness,
        correction=correction,
        dose_weighting=dose_weighting,
        use_ctf=ctf != "none",
    )


def _described(ctf: str, applied: ViewCorrection | None) -> dict[str, Any]:
    """Return what the provenance says of the correction of the views."""
    if applied is None:
        return {}
    described: dict[str, Any] = {"ctf": ctf, "dose_weighting": applied.dose is not None}
    if applied.transfers:
        described |= {
            "correction": applied.correction.method,
            "handedness": applied.handedness,
            "transfers": tokenize(applied.identity()["transfers"]),
        }
        if applied.correction.method == "wiener":
            described["snr"] = applied.correction.snr
    return described


def plan_of(volume: xr.DataArray) -> SlabPlan | None:
    """Return the plan of a lazy reconstruction, None for any other array."""
    return _PLANS.get(getattr(volume.data, "name", ""))


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
    stack = edited_views(images, gold=True)
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
    volume = written_out(slab_name, graph, stack, ((heights,), tuple(rows), (width,)))
    _PLANS[slab_name] = plan
    return volume


def _align_bands(plan: SlabPlan, t: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Align one view (1, y, x) into bands of lanes."""
    return plan.align(t, np.ascontiguousarray(image[0], np.float32))


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
