"""The aligned stack: every view resampled once by its whole affine map, as a lazy array."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from dask.base import tokenize

from tomodask.errors import TomodaskWarning
from tomodask.geometry import centred_coordinates
from tomodask.graph.aligned_views import AlignedGrid, ViewSource, align_view, aligned_grid
from tomodask.graph.inputs import (
    chosen_projection,
    edited_views,
    refuse_applied,
    view_source,
    written_out,
)
from tomodask.model import provenance, tilt_series_of, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["align_stack"]


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
        ``images (tilt, y, x)`` float32 of all views, excluded ones too (where those are not
        finite they get their own mean). Each one's edges are
        tapered to the mean of its border, which fills what lies outside the raw image. The tilt
        axis is vertical, through the centre. The attribute ``applied`` says that the alignment
        is, its provenance whether the local field was left out.

    Warns
    -----
    TomodaskWarning
        If the alignment has a local field, which no one image follows at all heights: the stack
        has the global alignment alone.

    Raises
    ------
    ProductMissingError
        If there is no such alignment, or several and none is named.
    """
    tilt_series = tilt_series_of(series)
    validate(tilt_series, "tilt_series", source=str(series.name))
    refuse_applied(tilt_series["images"], "alignment")
    projection, label = chosen_projection(series, alignment)
    notes = {}
    if projection.local is not None:
        notes["local_field"] = "left out"
        warnings.warn(
            f"alignment {label!r} has a local field, which an aligned stack cannot hold: the stack "
            "has the global alignment alone; reconstruct from the series itself to apply the field",
            TomodaskWarning,
            stacklevel=2,
        )
    source = view_source(tilt_series, gold=True)
    grid = aligned_grid(projection, source.shape, source.pixel_size, binning)
    model = projection.slab_model()
    images = tilt_series["images"]
    views = edited_views(images, gold=True)
    included = tilt_series["included"].values
    name = f"aligned-{tokenize(projection.digest(), source, grid, views.name)}"
    graph = {
        (name, t, 0, 0): (
            partial(
                _align_image, t, bool(included[t]), source, model.matrix[t], model.shift[t], grid
            ),
            (views.name, t, 0, 0),
        )
        for t in range(len(projection))
    }
    chunks = ((1,) * len(projection), (grid.shape[0],), (grid.shape[1],))
    stack = written_out(name, graph, views, chunks)
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
            "applied": [*(source.edits.applied if source.edits else []), "alignment"],
            "provenance": provenance(
                "align_stack", alignment=label, binning=float(binning), **notes
            ),
        },
    )


def _align_image(
    view: int,
    included: bool,
    source: ViewSource,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    grid: AlignedGrid,
    image: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the aligned image (1, y, x) of a raw one (1, y, x)."""
    raw = np.ascontiguousarray(image[0], np.float32)
    if not included:
        finite = np.isfinite(raw)
        raw = np.where(finite, raw, raw[finite].mean() if finite.any() else np.float32(0))
    aligned, level = align_view(raw, view, source, matrix, shift, grid)
    result: NDArray[np.float32] = aligned + np.float32(level)
    return result
