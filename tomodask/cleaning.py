"""Finding the pixels that the camera spoilt; they are mended whenever the images are read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.engine.measure import measured
from tomodask.engine.workers import Resources
from tomodask.graph.inputs import view_source
from tomodask.io.series import imported_views, open_series
from tomodask.io.tables import remove_table, write_table
from tomodask.kernels.hot_pixels import find_hot_pixels
from tomodask.model import provenance, tilt_series_of, views_with_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

    from tomodask.engine.events import Listener
    from tomodask.graph.aligned_views import ViewSource

__all__ = ["clean", "undo_cleaning"]

#: Raised by hand whenever the same images and parameters give other edits.
NUMERICS = 1
#: Arrays of an image's size that finding needs: the image, its statistics, masks.
_COPIES = 8


def clean(
    series: str | Path,
    *,
    peak: float = 8.0,
    difference: float = 6.0,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> xr.Dataset:
    """Find hot pixels, X-ray hits and dead pixels in the images of a series.

    The images stay as they are. The places are stored, and every later step mends them as it
    reads an image; the halves share the places. A second call replaces what the first one found.

    Parameters
    ----------
    series
        Folder of the store.
    peak
        Standard deviations by which a pixel stands out of the annulus around it.
    difference
        Standard deviations by which it differs from its neighbours.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    xarray.Dataset
        The table of edits, as stored: ``y``, ``x`` and ``dead`` of every pixel, and ``start``,
        where each view's begin.

    Raises
    ------
    ProductMissingError
        If the series has no images yet.
    ParameterError
        If a threshold makes no sense.

    See Also
    --------
    undo_cleaning
    """
    path = Path(series).expanduser().resolve()
    views = tilt_series_of(open_series(path))
    source = replace(view_source(views), edits=None)
    parameters = {"peak": float(peak), "difference": float(difference)}
    arguments = [(source, view, parameters) for view in views_with_image(views)]
    with measured(
        f"clean {path.name}",
        path / ".work" / "cleaning",
        {"step": "clean", "numerics": NUMERICS, "images": list(source.checksums), **parameters},
        _spoilt_pixels,
        arguments,
        stage="find hot pixels",
        task_bytes=4 * _COPIES * int(np.prod(source.shape)),
        resources=Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler),
        listen=progress,
    ) as found:
        of_views = [view for _, view, _ in arguments]
        table = _table(found, of_views, views.sizes["tilt"], parameters, source.checksums)
        write_table(path, "cleaning", table, "cleaning")
    return table


def undo_cleaning(series: str | Path) -> None:
    """Forget the edits of a series: its images are read as they are stored.

    Parameters
    ----------
    series
        Folder of the store.

    Raises
    ------
    StoreError
        If there is no store, or the edits cannot be removed.
    """
    path = Path(series).expanduser().resolve()
    imported_views(path)
    remove_table(path, "cleaning")


def _spoilt_pixels(source: ViewSource, view: int, parameters: dict[str, float]) -> Any:
    found = find_hot_pixels(source.read(view), **parameters)
    return {
        "y": found.y.tolist(),
        "x": found.x.tolist(),
        "dead": found.dead.tolist(),
        "strength": np.round(found.strength.astype(float), 1).tolist(),
    }


def _table(
    found: list[dict[str, list[Any]]],
    views: list[int],
    count: int,
    parameters: dict[str, float],
    checksums: Sequence[int],
) -> xr.Dataset:
    lengths = np.zeros(count, np.int64)
    lengths[views] = [len(of_view["y"]) for of_view in found]

    def column(name: str, dtype: Any) -> Any:
        return ("edit", np.array([value for of_view in found for value in of_view[name]], dtype))

    variables = {
        "start": ("bound", np.concatenate([[0], np.cumsum(lengths)])),
        "y": column("y", np.int32),
        "x": column("x", np.int32),
        "dead": column("dead", bool),
        "strength": column("strength", np.float32),
    }
    digest = hashlib.sha256()
    for name in ("start", "y", "x"):
        digest.update(np.ascontiguousarray(variables[name][1]).tobytes())
    return xr.Dataset(
        variables,
        attrs={
            "digest": digest.hexdigest()[:16],
            "images": list(checksums),
            "provenance": provenance("clean", **parameters),
        },
    )
