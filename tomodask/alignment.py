"""Aligning a stored series: the estimate is computed and stored beside the images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dask
import numpy as np

from tomodask.engine.events import Event
from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.graph.align_coarse import coarse_alignment_dataset
from tomodask.io.series import check_name, open_series, write_alignment
from tomodask.model import projection_of, tilt_series_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener

__all__ = ["align", "store_alignment"]


def align(
    series: str | Path,
    *,
    method: Literal["coarse"] = "coarse",
    name: str | None = None,
    tilt_axis: float | None = None,
    search_axis: bool = False,
    reference: Literal["neighbour", "running"] = "running",
    overwrite: bool = False,
    progress: Listener | None = None,
) -> xr.Dataset:
    """Align a tilt series and store the alignment; nothing is applied to the images.

    Parameters
    ----------
    series
        Folder of the store.
    method
        "coarse": shifts by correlation of cosine-stretched neighbours, outwards from the lowest
        tilt.
    name
        Name of the alignment; the method's by default.
    tilt_axis
        Angle of the tilt axis, degrees CCW from +y; by default the recorded one, and where none
        is recorded it is searched for.
    search_axis
        Whether to search for the axis although it is recorded.
    reference
        Correlate with the running sum of the views aligned so far, or with the neighbour alone.
    overwrite
        Whether an alignment of that name is replaced.
    progress
        Told of the progress.

    Returns
    -------
    xarray.Dataset
        The alignment, as stored.

    Raises
    ------
    DataError
        If views are constant or not finite, fewer than two are included, or most of them do not
        correlate with others beyond chance.
    ParameterError
        If the name is taken and `overwrite` is false.

    Warns
    -----
    TomodaskWarning
        Where views' shifts were not found, and where the axis, and so the hand, was searched for.
    """
    if method != "coarse":
        raise ParameterError(f"alignment method {method!r}: give 'coarse'")
    label = check_name(name or method)
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    if "alignments" in tree.children and label in tree["alignments"].children and not overwrite:
        raise ParameterError(
            f"{path} has an alignment {label!r} already; give another name (--name), or replace "
            "it with overwrite=True (--overwrite)"
        )
    if progress is not None:
        progress(Event(kind="start", step=f"align {label}", stage="correlate", done=0, total=1))
    with dask.config.set(scheduler="threads"):
        alignment = coarse_alignment_dataset(
            tilt_series_of(tree),
            tilt_axis_angle=tilt_axis,
            reference=reference,
            search_axis=search_axis or None,
        ).compute()
    _judge(alignment, tilt_series_of(tree)["included"].values, str(path))
    write_alignment(path, label, alignment, overwrite=overwrite)
    if progress is not None:
        progress(Event(kind="task", step=f"align {label}", stage="correlate", done=1, total=1))
    return alignment


def _judge(alignment: xr.Dataset, included: NDArray[np.bool_], path: str) -> None:
    """Say which views are not to be trusted; refuse an alignment of which none is."""
    lost = np.flatnonzero(included & ~alignment["found"].values)
    if 2 * len(lost) > np.count_nonzero(included):
        raise DataError(
            f"{path}: {len(lost)} of {np.count_nonzero(included)} views do not correlate with "
            "others beyond chance; look at the images, exclude what is dark or blank, or give the "
            "right tilt axis"
        )
    if len(lost):
        warnings.warn(
            f"the shifts of views {', '.join(map(str, lost))} were not found and are interpolated "
            "between their neighbours; look at these views, or exclude them",
            TomodaskWarning,
            stacklevel=3,
        )
    if alignment.attrs.get("tilt_axis") == "searched":
        warnings.warn(
            "the tilt axis was searched for: turned by 180 degrees it fits as well, and gives the "
            "opposite hand; give tilt_axis (--tilt-axis) where it is known",
            TomodaskWarning,
            stacklevel=3,
        )


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
