"""The parts of an opened series, and what its lazy images know of where they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomodask.errors import ProductMissingError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = [
    "EditKind",
    "edits_of",
    "mark_edited",
    "mark_stored",
    "sections_of",
    "series_path",
    "stored_folder",
    "tilt_series_of",
    "views_of",
    "views_with_image",
]

#: Tables of edits that images may have.
EditKind = Literal["cleaning", "gold"]


def mark_stored(images: xr.DataArray, folder: Path) -> None:
    """Note on lazy images from which stored array they are read."""
    images.encoding["stored"] = (str(folder), images.data.name)


def stored_folder(images: xr.DataArray) -> Path | None:
    """Return the stored array that lazy images are, None where they were changed since."""
    folder, name = images.encoding.get("stored", (None, None))
    return Path(folder) if folder and getattr(images.data, "name", None) == name else None


def mark_edited(images: xr.DataArray, kind: EditKind, folder: Path, digest: str) -> None:
    """Note on stored images which of their pixels are mended when they are read."""
    images.encoding["edited"] = images.encoding.get("edited", {}) | {kind: (str(folder), digest)}


def edits_of(images: xr.DataArray) -> dict[EditKind, tuple[Path, str]]:
    """Return the folders and the digests of the tables of edits of stored images, by kind."""
    tables = images.encoding.get("edited", {})
    return {kind: (Path(folder), digest) for kind, (folder, digest) in tables.items()}


def tilt_series_of(series: xr.DataTree) -> xr.Dataset:
    """Return the images of a series with their coordinates.

    Raises
    ------
    ProductMissingError
        If its movies have not been corrected yet.
    """
    if "tilt_series" not in series.children:
        raise ProductMissingError(
            f"{series.name} has movies but no images yet: make them with 'tomodask motion'"
        )
    return series["tilt_series"].to_dataset()


def views_of(series: xr.DataTree) -> xr.Dataset:
    """Return the coordinates of a series' views: of its images, or of its movies before those."""
    return series["tilt_series" if "tilt_series" in series.children else "movies"].to_dataset()


def views_with_image(tilt_series: xr.Dataset) -> list[int]:
    """Return the views that have an image: not those whose movie could not be used."""
    if "has_image" not in tilt_series.coords:
        return list(range(tilt_series.sizes["tilt"]))
    return [int(view) for view in np.flatnonzero(tilt_series["has_image"].values)]


def sections_of(series: xr.DataTree) -> NDArray[np.int64]:
    """Return the view of each section of the stack that a series is of, or is exported as.

    That is the imported stack, in whose order files of other programs are; of movies it is the
    stack that is written, in the order of the views.
    """
    views = tilt_series_of(series)
    if "movies" in series.children:
        return np.arange(views.sizes["tilt"])
    return np.argsort(views["section"].values, kind="stable")


def series_path(tree: xr.DataTree) -> Path | None:
    """Return the store a tree was opened from, None for one made in memory."""
    source = tree.root.encoding.get("source")
    return None if source is None else Path(source)
