"""Aligning a stored series: the estimate is computed and stored beside the images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dask
import numpy as np

from tomodask.bead_alignment import beads_alignment
from tomodask.engine.events import Event
from tomodask.engine.threads import single_threaded
from tomodask.engine.workers import Resources
from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.graph.align_coarse import coarse_alignment_dataset
from tomodask.io.series import (
    alignment_names,
    check_name,
    landmark_names,
    open_series,
    read_landmarks,
    write_alignment,
    write_landmarks,
)
from tomodask.model import carry_edits, projection_of, tilt_series_of
from tomodask.patch_alignment import patches_alignment
from tomodask.solving import solve_landmarks

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client
    from numpy.typing import ArrayLike, NDArray

    from tomodask.engine.events import Listener
    from tomodask.kernels.bundle import Variables

__all__ = ["align", "store_alignment"]

#: Landmarks of two alignments are the same where they lie so near to each other, A.
_SAME_LANDMARK = 50.0
#: A view's mean residual is told of beyond so many times the median.
_UNUSUAL = 4.0
#: An axis that comes out so far from the given one is told of, degrees.
_AXIS_OFF = 5.0


def align(
    series: str | Path,
    *,
    method: Literal["beads", "patches", "coarse"] = "coarse",
    name: str | None = None,
    tilt_axis: float | None = None,
    search_axis: bool = False,
    bead_diameter: float | None = None,
    landmarks: int = 25,
    region: ArrayLike | None = None,
    variables: Variables | None = None,
    local: bool | None = None,
    reference: Literal["neighbour", "running"] = "running",
    overwrite: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> xr.Dataset:
    """Align a tilt series and store the alignment; nothing is applied to the images.

    Parameters
    ----------
    series
        Folder of the store.
    method
        "beads": gold beads are found in every view, followed through the series, and solved.
        "patches": patches of the images are followed by correlation, and solved; for series
        without gold. "coarse": shifts by correlation with other views, and nothing else.
    name
        Name of the alignment, and of its landmarks; the method's by default.
    tilt_axis
        Angle of the tilt axis, degrees CCW from +y; by default the recorded one, and where none
        is recorded it is searched for. Landmarks refine it: it may be 20 degrees off.
    search_axis
        Whether to search for the axis although it is recorded.
    bead_diameter
        Of the gold beads, nm; measured in the images by default.
    landmarks
        Beads that the alignment rests on, at most; all that are found are kept.
    region
        Part of the field that the method "patches" uses, as seen in the untilted view: bool of
        the images' (y, x) shape, or corners (x, y) in pixels of a polygon, two for a rectangle;
        all by default.
    variables
        What the solution may vary and how freely; chosen from the data by default.
    local
        Whether the specimen may move locally while it is recorded. By default it does where that
        predicts better where landmarks are seen that were left out of the estimate, for beads;
        for patches it does not.
    reference
        Of the coarse alignment: correlate with the running sum of the views aligned so far, or
        with the neighbour alone.
    overwrite
        Whether an alignment of that name is replaced. What was edited by hand in its landmarks
        is carried over to the new ones.
    workers, memory_limit, scheduler
        As in ``tomodask.store``.
    progress
        Told of the progress.

    Returns
    -------
    xarray.Dataset
        The alignment, as stored. Its landmarks are stored beside it: see ``open_landmarks``.

    Raises
    ------
    DataError
        If views are constant or not finite, too few are included, or they cannot be aligned this
        way; the message says why and what to do instead.
    ParameterError
        If the name is taken and `overwrite` is false, or an option belongs to another method.

    Warns
    -----
    TomodaskWarning
        Where views were not found, where the data do not hold a variable, and where the axis, and
        so the hand, was searched for.
    """
    if method not in ("beads", "patches", "coarse"):
        raise ParameterError(f"alignment method {method!r}: give 'beads', 'patches' or 'coarse'")
    if bead_diameter is not None and (method != "beads" or not bead_diameter > 0):
        raise ParameterError(
            f"bead diameter {bead_diameter} nm: give a positive number, with the method 'beads'"
        )
    if region is not None and method != "patches":
        raise ParameterError("a region is for the method 'patches'")
    if method == "coarse" and (local or variables is not None):
        raise ParameterError(
            "the method 'coarse' finds shifts alone: variables, and local motion (--local), are "
            "for the methods 'beads' and 'patches'"
        )
    label = check_name(name or method)
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    views = tilt_series_of(tree)
    if label in {*alignment_names(path), *landmark_names(path)} and not overwrite:
        raise ParameterError(
            f"{path} has an alignment or landmarks {label!r} already; give another name (--name), "
            "or replace them with overwrite=True (--overwrite)"
        )
    axis = views.attrs.get("tilt_axis_angle") if tilt_axis is None else tilt_axis
    axis = None if search_axis or axis is None else float(axis)
    resources = Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler)
    table: xr.Dataset | None = None
    with single_threaded():
        if method == "beads":
            table, alignment = beads_alignment(
                views,
                diameter=bead_diameter,
                tilt_axis_angle=axis,
                count=landmarks,
                variables=variables,
                local=local,
                resources=resources,
                listen=progress,
            )
        elif method == "patches":
            table, alignment = patches_alignment(
                views,
                tilt_axis_angle=axis,
                region=region,
                listen=progress,
            )
            local = bool(local)
            if local or variables is not None:
                table, alignment = solve_landmarks(
                    table, views, start=alignment, variables=variables, local=local
                )
        else:
            alignment = _coarse(
                views,
                label,
                tilt_axis=tilt_axis,
                search=search_axis,
                reference=reference,
                tell=progress,
            )
        if table is not None and label in landmark_names(path):
            carried = carry_edits(read_landmarks(path, label), table, _SAME_LANDMARK)
            if carried is not table:
                table, alignment = solve_landmarks(
                    carried, views, start=alignment, variables=variables, local=local
                )
    if axis is None:
        alignment.attrs["tilt_axis"] = "searched"
    _judge(alignment, views["included"].values, str(path))
    _judge_axis(alignment, axis, views.attrs.get("tilt_axis_angle"))
    if table is not None:
        write_landmarks(path, label, table)
    write_alignment(path, label, alignment, overwrite=overwrite)
    return alignment


def _coarse(
    views: xr.Dataset,
    label: str,
    *,
    tilt_axis: float | None,
    search: bool,
    reference: Literal["neighbour", "running"],
    tell: Listener | None,
) -> xr.Dataset:
    """Return the coarse alignment, computed."""

    def event(kind: Literal["start", "task"], done: int) -> None:
        if tell is not None:
            tell(Event(kind=kind, step=f"align {label}", stage="correlate", done=done, total=1))

    event("start", 0)
    with dask.config.set(scheduler="threads"):
        alignment = coarse_alignment_dataset(
            views,
            tilt_axis_angle=tilt_axis,
            reference=reference,
            search_axis=search or None,
        ).compute()
    event("task", 1)
    return alignment


def _judge(alignment: xr.Dataset, included: NDArray[np.bool_], path: str) -> None:
    """Say which views are not to be trusted; refuse an alignment of which none is."""
    lost = np.flatnonzero(included & ~alignment["found"].values)
    if 2 * len(lost) > np.count_nonzero(included):
        raise DataError(
            f"{path}: {len(lost)} of {np.count_nonzero(included)} views fit to no others beyond "
            "chance; look at the images, exclude what is dark or blank, or give the right tilt axis"
        )
    if len(lost):
        warnings.warn(
            f"the shifts of views {', '.join(map(str, lost))} were not found and are interpolated "
            "between their neighbours; look at these views, or exclude them",
            TomodaskWarning,
            stacklevel=3,
        )
    if "mean_residual" in alignment:
        residual = np.where(included, alignment["mean_residual"].values, np.nan)
        usual = float(np.nanmedian(residual))
        for view in np.flatnonzero(residual > _UNUSUAL * usual):
            warnings.warn(
                f"view {view} fits {residual[view] / usual:.1f} times worse than the others do; "
                "look at it, or exclude it ('tomodask curate' measures it)",
                TomodaskWarning,
                stacklevel=3,
            )
    for text in alignment.attrs.get("warnings", []):
        warnings.warn(text, TomodaskWarning, stacklevel=3)
    if alignment.attrs.get("tilt_axis") == "searched":
        warnings.warn(
            "the tilt axis was searched for: turned by 180 degrees it fits as well, and gives the "
            "opposite hand; give tilt_axis (--tilt-axis) where it is known",
            TomodaskWarning,
            stacklevel=3,
        )


def _judge_axis(alignment: xr.Dataset, given: float | None, recorded: float | None) -> None:
    """Say where the tilt axis is not the one that was given or recorded: the hand hangs on it."""
    found = float(np.median(alignment["tilt_axis_angle"].values))
    if recorded is not None and abs(_turn(found, recorded)) > 90:
        warnings.warn(
            f"the tilt axis came out at {found:.1f} degrees, turned by about 180 from the recorded "
            f"{recorded:.1f}: the landmarks cannot tell the two, but the tomogram's hand is then "
            "the opposite one; give the recorded axis (--tilt-axis), or import it rightly",
            TomodaskWarning,
            stacklevel=3,
        )
    elif given is not None and abs(_turn(found, given)) > _AXIS_OFF:
        warnings.warn(
            f"the tilt axis came out at {found:.1f} degrees, {_turn(found, given):+.1f} from the "
            f"{given:.1f} given; check which is right",
            TomodaskWarning,
            stacklevel=3,
        )


def _turn(angle: float, start: float) -> float:
    """Return the turn from one direction to another, degrees from -180 to 180."""
    return (angle - start + 180) % 360 - 180


def store_alignment(
    series: str | Path, alignment: xr.Dataset, *, name: str, overwrite: bool = False
) -> xr.Dataset:
    """Store an alignment that was made or changed by hand.

    Parameters
    ----------
    series
        Folder of the store.
    alignment
        With the variables of an alignment, one value per view of the series.
    name
        Name of the alignment.
    overwrite
        Whether an alignment of that name is replaced.

    Returns
    -------
    xarray.Dataset
        The alignment, as stored.

    Raises
    ------
    SchemaError
        If a variable is missing or of another kind.
    GeometryError
        If a value is not finite or makes no view.
    DataError
        If it has another number of views than the series.
    ParameterError
        If the name is taken and `overwrite` is false.
    """
    path = Path(series).expanduser().resolve()
    views = tilt_series_of(open_series(path)).sizes["tilt"]
    projection_of(alignment)  # whatever could not be a view is refused before it is stored
    if alignment.sizes["tilt"] != views:
        raise DataError(
            f"alignment {name!r} has {alignment.sizes['tilt']} views, {path} has {views}"
        )
    write_alignment(path, name, alignment, overwrite=overwrite)
    return alignment
