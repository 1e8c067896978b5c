"""Alignment of series without gold: the specimen itself is followed, and patches of it measured."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from tomodask.engine.events import Event
from tomodask.errors import TomodaskWarning
from tomodask.geometry import Projection
from tomodask.graph.align_coarse import coarse_alignment
from tomodask.graph.inputs import view_source
from tomodask.kernels.patches import align_patches
from tomodask.model import alignment_dataset, landmarks_dataset, provenance

if TYPE_CHECKING:
    from typing import Literal

    import xarray as xr
    from numpy.typing import ArrayLike, NDArray

    from tomodask.engine.events import Listener
    from tomodask.graph.align_coarse import CoarseResult
    from tomodask.graph.aligned_views import ViewSource
    from tomodask.kernels.patches import PatchAlignment

__all__ = ["patches_alignment"]

#: How far a given tilt axis may be wrong, degrees.
_AXIS_RANGE = 25.0
#: It is taken to be wrong where it is off by more than so many degrees, and so many times the
#: error of the one that the views fit.
_AXIS_OFF, _AXIS_ERRORS = 3.5, 3.0


def patches_alignment(
    views: xr.Dataset,
    *,
    tilt_axis_angle: float | None,
    region: ArrayLike | None,
    listen: Listener | None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the landmarks and the alignment that a series without gold gives.

    It is aligned coarsely, then by the specimen that explains all views best; patches of the
    images, measured against that specimen, are the landmarks.

    Parameters
    ----------
    views
        A stored tilt series.
    tilt_axis_angle
        Degrees, counter-clockwise from +y, modulo 180; it may be 20 degrees wrong. Searched when
        None.
    region
        What part of the field is used: (y, x) bool, or corners x, y in pixels; all when None.
    listen
        Who is told of the progress.

    Raises
    ------
    DataError
        If the views hold too little signal; the message says what to do instead.
    """
    source = view_source(views)
    angles, included = views["tilt_angle"].values, views["included"].values.astype(bool)
    stages = ("coarse", "specimen and patches")

    def tell(kind: Literal["start", "task", "end"], stage: str, done: int) -> None:
        if listen is not None:
            listen(Event(kind=kind, step="align patches", stage=stage, done=done, total=1))

    tell("start", stages[0], 0)
    coarse = _coarse(source, angles, included, tilt_axis_angle)
    tell("task", stages[0], 1)
    tell("start", stages[1], 0)
    result = align_patches(
        source.read,
        angles,
        included & coarse.found,
        shape=source.shape,
        pixel_size=source.pixel_size,
        tilt_axis_angle=coarse.tilt_axis_angle,
        initial_shift=coarse.shift,
        region=region,
    )
    tell("task", stages[1], 1)
    return _tables(result, source.pixel_size, searched=tilt_axis_angle is None)


def _coarse(
    source: ViewSource,
    angles: NDArray[np.float64],
    included: NDArray[np.bool_],
    tilt_axis_angle: float | None,
) -> CoarseResult:
    """Return the coarse alignment; an axis that the views contradict is replaced, and this said."""

    def aligned(axis: float | None, axis_range: float | None = None) -> CoarseResult:
        return coarse_alignment(
            source.read,
            angles,
            included,
            pixel_size=source.pixel_size,
            tilt_axis_angle=axis,
            axis_range=axis_range,
        )

    if tilt_axis_angle is None:
        return aligned(None)
    searched = aligned(tilt_axis_angle, _AXIS_RANGE)
    off = abs(searched.tilt_axis_angle - tilt_axis_angle)
    if not off > max(_AXIS_OFF, _AXIS_ERRORS * searched.axis_error):
        return aligned(tilt_axis_angle)
    warnings.warn(
        f"the tilt axis was given as {tilt_axis_angle:.1f} degrees, the views fit one at "
        f"{searched.tilt_axis_angle:.1f} +- {searched.axis_error:.1f}, which is taken; correct the "
        "given one (--tilt-axis)",
        TomodaskWarning,
        stacklevel=4,
    )
    return searched


def _tables(
    result: PatchAlignment, pixel: float, *, searched: bool
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the result as tables."""
    patches = result.patches
    seen = patches.observations
    of = seen.landmark
    length = np.hypot(*patches.residual.T)
    count = len(patches.point)
    landmarks = landmarks_dataset(
        landmark=of,
        view=seen.view,
        position=seen.position,
        attributes={
            "method": "patches",
            "pixel_size": pixel,
            "provenance": provenance("align patches"),
        },
        # A residual is the prediction less the measurement.
        residual_x=-patches.residual[:, 0],
        residual_y=-patches.residual[:, 1],
        error=patches.error,
        weight=np.ones(len(of)),
        number=np.arange(1, count + 1),
        chosen=np.ones(count, bool),
        surface=np.zeros(count, np.int64),
        score=np.full(count, np.nan),
        **{f"specimen_{axis}": patches.point[:, column] for column, axis in enumerate("xyz")},
    )
    by_view = np.bincount(seen.view, length, minlength=len(result.found))
    often = np.bincount(seen.view, minlength=len(result.found))
    alignment = alignment_dataset(
        Projection.create(
            result.tilt_angle, tilt_axis_angle=result.tilt_axis_angle, shift=result.shift
        ),
        method="patches",
        attributes={
            "mean_residual": float(length.mean()) if len(length) else float("nan"),
            "error": result.error,
            "landmarks": count,
            "observations": len(of),
            "provenance": provenance("align patches"),
        },
        found=result.found,
        error=np.where(result.found, result.error, np.nan),
        mean_residual=np.where(often > 0, by_view / np.maximum(often, 1), np.nan),
    )
    if searched:
        alignment.attrs["tilt_axis"] = "searched"
    return landmarks, alignment
