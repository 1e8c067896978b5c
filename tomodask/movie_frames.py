"""The frames of a movie to look at: lazy, one block a frame."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from tomodask.errors import ParameterError, ProductMissingError
from tomodask.geometry import centred_coordinates
from tomodask.io.frames import FrameSource
from tomodask.io.series import open_series

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tomodask.io.movies import MovieInfo

__all__ = ["open_frames"]


def open_frames(series: xr.DataTree | str | Path, view: int) -> xr.DataArray:
    """Return the frames of one view's movie, lazily: gain-corrected, known defects mended.

    Parameters
    ----------
    series
        From ``tomodask.open``, or the folder of the store; of movies.
    view
        By tilt angle, from 0.

    Returns
    -------
    xarray.DataArray
        (frame, y, x) float32, y up, one chunk a frame, with coordinates in A from the image
        centre and, where the exposure is known, ``dose``: e/A^2 before each frame.

    Raises
    ------
    ProductMissingError
        If the series has no movies, or the view's was not found.
    ParameterError
        If there is no such view.
    FormatError, StoreError
        If the movie cannot be read.
    """
    if not isinstance(series, xr.DataTree):
        series = open_series(series)
    if "movies" not in series.children:
        raise ProductMissingError(f"{series.name} has no movies: it was imported from a stack")
    movies = series["movies"].to_dataset()
    if not 0 <= view < movies.sizes["tilt"]:
        raise ParameterError(
            f"view {view}: {series.name} has views 0 to {movies.sizes['tilt'] - 1}"
        )
    movie = str(movies["movie"].values[view])
    if not movie:
        raise ProductMissingError(f"view {view}: {movies['reason'].values[view]}")
    source = FrameSource.of(movies)
    exposure = float(movies["exposure"].values[view]) if "exposure" in movies.coords else None
    info = source.open(movie, exposure)
    count, height, width = info.shape
    name = f"frames-{tokenize(source, info)}"
    graph = {(name, i, 0, 0): (partial(_frame, source, info), i) for i in range(count)}
    pixel_size = float(movies.attrs["pixel_size"])
    coordinates: dict[str, tuple[str, NDArray[np.floating]]] = {
        "y": ("y", centred_coordinates(height, pixel_size)),
        "x": ("x", centred_coordinates(width, pixel_size)),
    }
    if info.frame_dose is not None:
        before = float(movies["dose"].values[view]) if "dose" in movies.coords else 0.0
        coordinates["dose"] = ("frame", before + info.frame_dose * np.arange(count))
    return xr.DataArray(
        da.Array(graph, name, ((1,) * count, (height,), (width,)), np.float32),
        dims=("frame", "y", "x"),
        coords=coordinates,
        name="frames",
        attrs={
            "pixel_size": pixel_size,
            "movie": movie,
            "tilt_angle": float(movies["tilt_angle"].values[view]),
        },
    )


def _frame(source: FrameSource, info: MovieInfo, index: int) -> NDArray[np.float32]:
    return source.read_frame(info, index)[None]
