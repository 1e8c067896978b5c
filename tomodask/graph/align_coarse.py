"""Coarse alignment of a tilt series: its shifts by cross-correlation, and its tilt axis.

A view is read once, in a task of its own, and kept as spline coefficients of at most 768 x 768
pixels (2.4 MB); one more task holds them all, with a spectrum of 1 MB each, and aligns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dask
import dask.array
import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.geometry import Projection
from tomodask.graph.inputs import edited_views
from tomodask.kernels.coarse_shifts import CoarseShifts
from tomodask.kernels.correlate import Plane, without_hot_pixels
from tomodask.kernels.tilt_axis import search_tilt_axis
from tomodask.model import alignment_dataset, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr
    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.resample import SplineImage

    FloatArray = NDArray[np.float64]

__all__ = ["CoarseResult", "Reference", "coarse_alignment", "coarse_alignment_dataset"]

Reference = Literal["neighbour", "running"]

#: Views are binned until their longer edge has this many pixels: at 4096 pixels of 1.35 A that is
#: 11 A, below which views of 2 e/A^2 do not correlate.
_LONGEST_EDGE = 512
#: Aligned views that make up a running reference, the nearest in tilt.
_REFERENCES = 8
#: Largest thickness that is used, as a fraction of the shorter edge.
_THICKEST = 0.5
#: Steepest tilt, degrees, whose image can be stretched to another tilt's.
_STEEPEST = 85.0


@dataclass(frozen=True, eq=False, slots=True)
class CoarseResult:
    """What coarse alignment found.

    Parameters
    ----------
    shift
        (tilt, 2) raw (x, y) of the specimen's origin from the image centre, A. The origin is free:
        it is the point at the image centre of the lowest view that correlates with others, at
        the height (but for the reference "neighbour") where the matter's middle lies.
    tilt_axis_angle
        Degrees, counter-clockwise from +y. A searched one lies in (-90, 90]: turned by 180
        degrees it fits as well, and gives the specimen of the other hand.
    axis_searched
        Whether the axis was searched.
    axis_error
        Degrees: standard error of a searched axis by the curvature of its likelihood, which holds
        where the right maximum was found; NaN where the axis was given.
    score
        (tilt,) correlation coefficient with an aligned view, where the two overlap, in the band
        where the two can agree (measured, and limited by the thickness): the better one of the
        two nearest in tilt, 0 where there is none; NaN where excluded.
    error
        (tilt, 2) standard error, raw (x, y), A, that noise leaves in the shift relative to the
        view's references. It does not hold what adds up along the series, nor the depth of the
        matter that is correlated. NaN where `found` is false, 0 for the first view.
    found
        (tilt,) bool: false where no significant correlation was found, or the view is excluded:
        its shift is interpolated between its neighbours in tilt.
    evidence
        (tilt,) log-likelihood ratio of the shift against no correlation: found is what exceeds 8.
        0 for the first view and where excluded.
    """

    shift: FloatArray
    tilt_axis_angle: float
    axis_searched: bool
    axis_error: float
    score: FloatArray
    error: FloatArray
    found: NDArray[np.bool_]
    evidence: FloatArray


def coarse_alignment(
    read: Callable[[int], NDArray[np.generic]],
    tilt_angle: ArrayLike,
    included: ArrayLike,
    *,
    pixel_size: float,
    tilt_axis_angle: float | None = None,
    axis_range: float | None = None,
    reference: Reference = "running",
    thickness: float = 2000.0,
    progress: Callable[[int, int], None] | None = None,
) -> CoarseResult:
    """Align the views of a tilt series by cross-correlation.

    Parameters
    ----------
    read
        Returns the (y, x) image of a view; called once for each included one, outwards from the
        lowest tilt.
    tilt_angle
        (tilt,) degrees, in any order; several views may share an angle.
    included
        (tilt,) bool. Excluded views are not read and do not change the others' results.
    pixel_size
        A.
    tilt_axis_angle
        Degrees, counter-clockwise from +y; searched when None, else kept.
    axis_range
        Where `tilt_axis_angle` is given: search so many degrees on either side of it, modulo 180,
        so that 85 given as -85 is found by 10. None keeps it.
    reference
        What a view is correlated with on the way outwards: "running", the sum of the up to 8
        nearest aligned views, each stretched to its tilt, and then all pairs of views that
        overlap are solved together; "neighbour", the nearest alone.
    thickness
        Of the specimen, A: how far views of different tilts are expected to agree, and no less
        than gold on its surfaces is apart. Values beyond half of the images' shorter edge count as
        that.
    progress
        Told how many views of how many are read.

    Returns
    -------
    CoarseResult

    Raises
    ------
    DataError
        If fewer than two views are included, an image is constant or holds values that are not
        finite, or shapes differ.
    ParameterError
        If a parameter makes no sense.
    """
    angles, views = _outwards(tilt_angle, included)
    prepared: dict[int, SplineImage] = {}
    shape: tuple[int, ...] | None = None
    for done, view in enumerate(views, 1):
        image = read(view)
        shape = image.shape if shape is None else shape
        prepared[view] = _prepare(view, image, (shape[0], shape[1]), pixel_size)
        if progress is not None:
            progress(done, len(views))
    assert shape is not None
    return _solve(
        prepared,
        (shape[0], shape[1]),
        angles,
        views,
        pixel_size=pixel_size,
        tilt_axis_angle=tilt_axis_angle,
        axis_range=axis_range,
        reference=reference,
        thickness=thickness,
    )


def coarse_alignment_dataset(
    tilt_series: xr.Dataset,
    *,
    tilt_axis_angle: float | None = None,
    reference: Reference = "running",
    thickness: float = 2000.0,
    search_axis: bool | None = None,
    axis_range: float | None = None,
) -> xr.Dataset:
    """Return the coarse alignment of a tilt series, not yet computed.

    Each included view is one task that reads and bins it, and one more task aligns them all.

    Parameters
    ----------
    tilt_series
        With ``images`` (tilt, y, x) and ``tilt_angle``, ``included``.
    tilt_axis_angle
        Degrees, counter-clockwise from +y; by default the series' attribute of that name, and
        searched where there is none.
    reference, thickness
        See :func:`coarse_alignment`.
    search_axis
        Whether to search the axis: by default only where none is known. Of the two directions
        that fit equally the one nearer to the known axis is taken.
    axis_range
        Search only so many degrees on either side of the known axis, modulo 180.

    Returns
    -------
    xarray.Dataset
        An alignment whose ``tilt_axis_angle``, ``shift_y``, ``shift_x`` and ``score`` are Dask
        arrays.

    Raises
    ------
    SchemaError
        If the series lacks a variable.
    DataError, ParameterError
        See :func:`coarse_alignment`; those about pixels are raised when it is computed.
    """
    validate(tilt_series, "tilt_series", source="tilt series")
    known = tilt_series.attrs.get("tilt_axis_angle") if tilt_axis_angle is None else tilt_axis_angle
    wanted = known is None or axis_range is not None
    search = wanted if search_axis is None else search_axis
    if search and known is not None and axis_range is None:
        axis_range = 90.0
    if known is None and not search:
        raise ParameterError("the tilt axis is unknown; give tilt_axis_angle or search_axis=True")
    if known is not None and not np.isfinite(known):
        raise ParameterError(f"tilt axis {known}: give an angle in degrees")
    _check(reference, thickness, axis_range)
    angles, views = _outwards(tilt_series["tilt_angle"].values, tilt_series["included"].values)
    pixel_size = float(tilt_series.attrs["pixel_size"])
    images = edited_views(tilt_series["images"])
    shape = (int(images.shape[1]), int(images.shape[2]))

    prepare = dask.delayed(_prepare, pure=False)
    prepared = {
        view: prepare(view, images[view].rechunk(-1).to_delayed()[0, 0], shape, pixel_size)
        for view in views
    }
    table = dask.array.from_delayed(
        dask.delayed(_alignment_table, pure=False)(
            prepared,
            shape,
            angles,
            views,
            pixel_size=pixel_size,
            tilt_axis_angle=None if known is None else float(known),
            axis_range=axis_range if search else None,
            reference=reference,
            thickness=thickness,
        ),
        shape=(len(angles), 5),
        dtype=np.float64,
    )
    alignment = alignment_dataset(
        Projection.create(angles),
        method="coarse",
        attributes={
            "reference": reference,
            "thickness": thickness,
            "tilt_axis": "searched" if search else "given",
        },
        score=np.zeros(len(angles)),
        found=np.zeros(len(angles), bool),
    )
    alignment["found"] = alignment["found"].copy(data=table[:, 4] > 0)
    for column, name in enumerate(("tilt_axis_angle", "shift_x", "shift_y", "score")):
        alignment[name] = alignment[name].copy(data=table[:, column])
    return alignment


def _alignment_table(*args: Any, **options: Any) -> FloatArray:
    """Return (tilt, 5): tilt-axis angle, shift x and y, score, whether found; see `_solve`."""
    result = _solve(*args, **options)
    axes = np.full(len(result.found), result.tilt_axis_angle)
    return np.column_stack([axes, result.shift, result.score, result.found])


def _check(reference: str, thickness: float, axis_range: float | None) -> None:
    if reference not in ("neighbour", "running"):
        raise ParameterError(f"reference {reference!r}: give 'neighbour' or 'running'")
    if not thickness > 0:
        raise ParameterError(f"thickness {thickness} A: give a positive number")
    if axis_range is not None and not 0 < axis_range <= 90:
        raise ParameterError(f"axis range {axis_range} deg: give more than 0, at most 90")


def _outwards(tilt_angle: ArrayLike, included: ArrayLike) -> tuple[FloatArray, list[int]]:
    """Return the tilt angles and the included views, from the lowest tilt outwards."""
    angles = np.asarray(tilt_angle, np.float64)
    chosen = np.broadcast_to(np.asarray(included, bool), angles.shape)
    if np.count_nonzero(chosen) < 2:
        raise DataError(
            f"{np.count_nonzero(chosen)} of {len(angles)} views are included; "
            "an alignment needs two or more: include them"
        )
    steep = np.flatnonzero(chosen & ~(np.abs(angles) < _STEEPEST))
    if len(steep):
        raise DataError(
            f"view {steep[0]} has tilt angle {angles[steep[0]]:g} deg, which cannot be stretched "
            f"to another tilt; exclude views beyond {_STEEPEST:g} degrees"
        )
    return angles, [int(v) for v in np.argsort(np.abs(angles), kind="stable") if chosen[v]]


def _prepare(
    view: int, image: NDArray[np.generic], shape: tuple[int, int], pixel_size: float
) -> SplineImage:
    """Return a view cleaned of hot pixels, tapered and binned for correlation."""
    if image.shape != shape:
        raise DataError(f"view {view} has {image.shape} (y, x) pixels, the first one {shape}")
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if bad:
        raise DataError(f"view {view} has {bad} pixels that are not finite numbers; exclude it")
    clean = without_hot_pixels(image)
    if np.ptp(clean) == 0:
        raise DataError(f"view {view} is constant and cannot be correlated; exclude it")
    return Plane.create(shape, pixel_size, _LONGEST_EDGE).view(clean)


def _solve(
    prepared: Mapping[int, SplineImage],
    shape: tuple[int, int],
    angles: FloatArray,
    views: list[int],
    *,
    pixel_size: float,
    tilt_axis_angle: float | None,
    axis_range: float | None,
    reference: Reference,
    thickness: float,
) -> CoarseResult:
    _check(reference, thickness, axis_range)
    plane = Plane.create(shape, pixel_size, _LONGEST_EDGE)
    thickness = min(thickness, min(plane.shape) * plane.pixel_size * _THICKEST)
    searched, axis_error = tilt_axis_angle is None or axis_range is not None, np.nan
    if tilt_axis_angle is None or axis_range is not None:
        axis = search_tilt_axis(
            plane,
            prepared,
            angles,
            views,
            thickness,
            near=tilt_axis_angle,
            reach=90.0 if axis_range is None else axis_range,
        )
        tilt_axis_angle, axis_error = axis.angle, axis.error
    series = CoarseShifts(plane, prepared, angles, views, tilt_axis_angle, thickness)
    if reference == "neighbour":
        series.align(1)
    else:
        series.align(_REFERENCES, passes=1)
        series.solve_jointly()
    return CoarseResult(
        shift=series.interpolated(),
        tilt_axis_angle=float(tilt_axis_angle),
        axis_searched=searched,
        axis_error=axis_error,
        score=series.scores(),
        error=series.error,
        found=series.found,
        evidence=series.evidence,
    )
