"""The aligned stack: every view resampled once by its whole affine map, as a lazy array."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
from dask.base import tokenize

from tomodask.errors import ParameterError, TomodaskWarning
from tomodask.geometry import centred_coordinates
from tomodask.graph.aligned_views import AlignedGrid, ViewSource, align_view, aligned_grid
from tomodask.graph.ctf_correction import known_views, view_correction
from tomodask.graph.inputs import (
    chosen_projection,
    edited_views,
    refuse_applied,
    view_source,
    written_out,
)
from tomodask.kernels.ctf import Correction
from tomodask.kernels.resample import FINE
from tomodask.model import provenance, tilt_series_of, validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.kernels.ctf import CorrectionMethod

    ViewStep = Callable[[NDArray[np.float32]], NDArray[np.float32]]

__all__ = ["align_stack"]

StackCtf = Literal["none", "2d"]


def align_stack(
    series: xr.DataTree,
    *,
    binning: float = 1.0,
    alignment: str | xr.Dataset | None = None,
    ctf: StackCtf = "none",
    ctf_table: xr.Dataset | None = None,
    handedness: int | None = None,
    correction: CorrectionMethod = "phase-flip",
    snr: float = 10.0,
    dose_weighting: bool = False,
) -> xr.DataArray:
    """Return the aligned stack, lazily: each view resampled once by its whole affine map.

    Parameters
    ----------
    series, binning, alignment
        As in :func:`reconstruct`.
    ctf
        "2d": the contrast transfer of every view is undone, each place by the defocus of the
        specimen's plane z = 0 there.
    ctf_table
        Table of contrast transfer in place of the series' own.
    handedness
        +1 or -1, in place of what the table says: the defocus at height w is larger by so many w.
    correction
        How the transfer is undone: "phase-flip", "wiener" or "multiply".
    snr
        Signal to noise power ratio, for "wiener".
    dose_weighting
        Whether each view is weighted by what is left of the signal, at each frequency, after the
        dose that the specimen had received at its end.

    Returns
    -------
    xarray.DataArray
        ``images (tilt, y, x)`` float32 of all views, excluded ones too (where those are not
        finite they get their own mean). Each one's edges are
        tapered to the mean of its border, which fills what lies outside the raw image. The tilt
        axis is vertical, through the centre. The mean of the border, which is no contrast, is
        added after the correction. An excluded view whose defocus or dose is not known is aligned
        alone. The attribute ``applied`` says what was done, its provenance whether the local field
        was left out and which views were aligned alone.

    Warns
    -----
    TomodaskWarning
        If the alignment has a local field, which no one image follows at all heights: the stack
        has the global alignment alone.

    Raises
    ------
    ProductMissingError
        If there is no such alignment, or several and none is named; if there is no CTF.
    ParameterError
        If the handedness, the dose or the voltage that are needed are not known.
    DoubleApplicationError
        If what is asked for has been applied to the images already.
    DataError
        If an included view has no defocus or no dose.
    """
    if ctf not in get_args(StackCtf):
        raise ParameterError(f"ctf {ctf!r}: give one of {', '.join(get_args(StackCtf))}")
    tilt_series = tilt_series_of(series)
    validate(tilt_series, "tilt_series", source=str(series.name))
    refuse_applied(tilt_series["images"], "alignment")
    projection, label = chosen_projection(series, alignment)
    notes: dict[str, Any] = {}
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
    correct = _corrections(
        series,
        projection,
        grid,
        use_ctf=ctf == "2d",
        ctf=ctf_table,
        handedness=handedness,
        correction=Correction(correction, snr),
        dose_weighting=dose_weighting,
    )
    name = f"aligned-{tokenize(projection.digest(), source, grid, views.name, correct)}"
    graph = {
        (name, t, 0, 0): (
            partial(
                _align_image, t, bool(included[t]), source, model.matrix[t], model.shift[t], grid,
                correct.get(t),
            ),
            (views.name, t, 0, 0),
        )
        for t in range(len(projection))
    }  # fmt: skip
    applied = ["alignment"]
    if ctf == "2d":
        applied.append("ctf")
        notes |= {"ctf": ctf, "correction": correction}
        if correction == "wiener":
            notes["snr"] = float(snr)
    if dose_weighting:
        applied.append("dose weighting")
    if correct and len(correct) < len(projection):
        notes["aligned_alone"] = sorted(set(range(len(projection))) - set(correct))
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
            "applied": [*_already_applied(tilt_series, source), *applied],
            "provenance": provenance(
                "align_stack", alignment=label, binning=float(binning), **notes
            ),
        },
    )


def _already_applied(tilt_series: xr.Dataset, source: ViewSource) -> list[str]:
    """Return what the images have had before they are aligned."""
    edits = source.edits.applied if source.edits else []
    return [*tilt_series.attrs.get("applied", []), *edits]


def _corrections(
    series: xr.DataTree,
    projection: Projection,
    grid: AlignedGrid,
    *,
    use_ctf: bool,
    ctf: xr.Dataset | None,
    handedness: int | None,
    correction: Correction,
    dose_weighting: bool,
) -> dict[int, ViewStep]:
    """Return what corrects, and weights, each view: of all that are included or known."""
    if not use_ctf and (ctf is not None or handedness is not None):
        raise ParameterError(
            "a CTF table or a handedness is given, but no correction is asked for: give ctf='2d'"
        )
    if not (use_ctf or dose_weighting):
        return {}
    asked: dict[str, Any] = {"ctf": ctf, "handedness": handedness, "use_ctf": use_ctf}
    known = known_views(series, projection, dose_weighting=dose_weighting, **asked)
    included = tilt_series_of(series)["included"].values
    views = [int(view) for view in np.flatnonzero(included | known)]
    applied = view_correction(
        series, projection, views, correction=correction, dose_weighting=dose_weighting, **asked
    )
    return {view: partial(applied.corrected, t, grid=grid) for t, view in enumerate(views)}


def _align_image(
    view: int,
    included: bool,
    source: ViewSource,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    grid: AlignedGrid,
    correct: ViewStep | None,
    image: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the aligned, and corrected, image (1, y, x) of a raw one (1, y, x)."""
    raw = np.ascontiguousarray(image[0], np.float32)
    if not included:
        finite = np.isfinite(raw)
        raw = np.where(finite, raw, raw[finite].mean() if finite.any() else np.float32(0))
    oversampling = 1.0 if correct is None else FINE
    aligned, level = align_view(raw, view, source, matrix, shift, grid, oversampling=oversampling)
    if correct is not None:
        aligned = correct(aligned[0])[None]
    result: NDArray[np.float32] = aligned + np.float32(level)
    return result
