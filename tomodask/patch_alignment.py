"""Alignment of series without gold: the specimen itself is followed, and patches of it measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.engine.events import Event
from tomodask.geometry import Projection
from tomodask.graph.align_coarse import coarse_alignment
from tomodask.graph.inputs import view_source
from tomodask.kernels.patches import align_patches
from tomodask.model import alignment_dataset, landmarks_dataset, provenance

if TYPE_CHECKING:
    from typing import Literal

    import xarray as xr
    from numpy.typing import ArrayLike

    from tomodask.engine.events import Listener
    from tomodask.kernels.patches import PatchAlignment

__all__ = ["patches_alignment"]


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
        Degrees, counter-clockwise from +y; searched when None.
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
    coarse = coarse_alignment(
        source.read,
        angles,
        included,
        pixel_size=source.pixel_size,
        tilt_axis_angle=tilt_axis_angle,
    )
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
    return _tables(result, source.pixel_size, searched=coarse.axis_searched)


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
