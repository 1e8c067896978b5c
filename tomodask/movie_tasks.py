"""The tasks of motion correction: which movies there are, and what is done with one of them."""

from __future__ import annotations

import errno
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from tomodask.engine.files import write_whole
from tomodask.engine.shards import ShardGrid, write_shard
from tomodask.errors import DataError, FormatError, ParameterError, StoreError
from tomodask.graph.correct_frames import Corrected, FrameCorrection, correct_frames
from tomodask.io.series import images_folder
from tomodask.model import CHECKSUMS

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.io.frames import FrameSource

__all__ = [
    "MovieView",
    "correct_view",
    "corrected_before",
    "largest_movie",
    "movie_views",
    "read_record",
    "record_file",
]

#: Faults of a movie's file that are of this movie alone; others may pass or concern all.
_OF_THE_FILE = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieView:
    """One movie as the table has it, and what its file says at a glance."""

    index: int
    movie: str
    missing: str
    recorded_frames: int
    exposure: float | None
    dose: float | None
    key: str
    found: tuple[int, int, int] | None = None
    raw_bytes: int = 0


def movie_views(movies: xr.Dataset, source: FrameSource, records: Path) -> list[MovieView]:
    """Return the movies of a series, each with what its file says at a glance.

    Parameters
    ----------
    movies
        The table of movies.
    source
        How they are read.
    records
        Folder of the records of an earlier run.
    """

    def value(name: str, index: int) -> float | None:
        return float(movies[name].values[index]) if name in movies.coords else None

    views = []
    for index in range(movies.sizes["tilt"]):
        movie = str(movies["movie"].values[index])
        exposure = value("exposure", index)
        try:
            stat = Path(movie).stat() if movie else None
        except OSError:
            stat = None
        state = "absent" if stat is None else f"{stat.st_size}-{stat.st_mtime_ns}"
        view = MovieView(
            index=index,
            movie=movie,
            missing="" if movie else str(movies["reason"].values[index]),
            recorded_frames=int(movies["frames"].values[index]),
            exposure=exposure,
            dose=value("dose", index),
            key=f"view/{index}/{state}",
        )
        before = read_record(records, index)
        if stat is None and before and not before["failed"] and before["movie"] == movie:
            # The movie was put away once it was corrected: its image is not lost for that.
            views.append(replace(view, key=before["key"], found=tuple(before["found"])))
            continue
        try:
            if stat is not None:
                info = source.open(movie, exposure)
                raw_bytes = int(np.prod(info.shape)) * info.dtype.itemsize
                # What an EER is rendered to is not in the file alone.
                key = f"{view.key}-{info.shape[0]}"
                view = replace(view, key=key, found=info.shape, raw_bytes=raw_bytes)
        except (FormatError, DataError, ParameterError, StoreError):
            pass  # its task says why
        views.append(view)
    return views


def largest_movie(path: Path, views: list[MovieView]) -> tuple[tuple[int, int, int], int]:
    """Return the most frames, of the shape (y, x) that most movies have; and the most bytes.

    Raises
    ------
    DataError
        If no movie can be read.
    """
    shapes = Counter(view.found[1:] for view in views if view.found is not None)
    if not shapes:
        example = next((view.movie for view in views if view.movie), "none is named")
        raise DataError(
            f"{path}: none of the {len(views)} movies can be read ({example}); put them back "
            "where they were imported from, or import again with --frames DIR"
        )
    shape = shapes.most_common(1)[0][0]
    frames = max(v.found[0] for v in views if v.found is not None and v.found[1:] == shape)
    return (frames, shape[0], shape[1]), max(view.raw_bytes for view in views)


def correct_view(
    view: MovieView,
    shape: tuple[int, int],
    source: FrameSource,
    correction: FrameCorrection,
    path: Path,
    grid: ShardGrid,
    records: Path,
) -> tuple[int, int]:
    """Align and sum one movie into its shards, and leave the record of it."""
    record: dict[str, Any] = {
        "movie": view.movie,
        "key": view.key,
        "found": view.found,
        "failed": "",
    }
    read = 0
    try:
        corrected, repaired, read = _corrected(view, shape, source, correction)
        images: dict[str, NDArray[np.float32]] = corrected.images
        record |= corrected.record() | {"repaired": [places.tolist() for places in repaired]}
    except (FormatError, DataError, StoreError) as error:
        if isinstance(error, StoreError) and error.errno not in _OF_THE_FILE:
            raise
        record["failed"] = str(error)
        nothing = np.full(grid.shape[1:], np.nan, np.float32)
        images = dict.fromkeys(CHECKSUMS, nothing)
    written = 0
    for name, coordinate in CHECKSUMS.items():
        image = images[name]
        written += write_shard(
            images_folder(path, name), grid, (view.index, 0, 0), np.ascontiguousarray(image[None])
        )
        record[coordinate] = google_crc32c.value(np.ascontiguousarray(image))
    with write_whole(record_file(records, view.index)) as temporary:
        temporary.write_text(json.dumps(record))
    return read, written


def _corrected(
    view: MovieView, shape: tuple[int, int], source: FrameSource, correction: FrameCorrection
) -> tuple[Corrected, tuple[NDArray[np.int32], NDArray[np.int32]], int]:
    """Return the sums of one movie, the pixels mended in its frames, and the bytes read.

    Raises
    ------
    FormatError, DataError, StoreError
        If the movie cannot be used.
    """
    if not view.movie:
        raise DataError(view.missing or "its movie was not found when it was imported")
    try:
        info = source.open(view.movie, view.exposure)
    except ParameterError as error:  # what fits the other movies does not fit this one
        raise DataError(str(error)) from error
    if info.shape[1:] != shape:
        raise DataError(
            f"{view.movie} has frames of {info.shape[2]} x {info.shape[1]} pixels, the other "
            f"movies {shape[1]} x {shape[0]}; find the right movie, and import again"
        )
    expected = view.recorded_frames
    if expected >= 0 and expected not in (info.shape[0], info.raw_frames):
        raise DataError(
            f"{view.movie} has {info.raw_frames} frames, its mdoc says {expected}: it was not "
            "copied whole, or is another movie; copy it again"
        )
    frames = source.read(info)
    dose = None if view.dose is None or view.exposure is None else (view.dose, view.exposure)
    corrected = correct_frames(frames, correction, dose)
    return corrected, frames.spoilt, info.identity[0]


def record_file(records: Path, view: int) -> Path:
    """Return the file that holds what was measured of a view."""
    return records / f"view_{view:04d}.json"


def read_record(records: Path, view: int) -> dict[str, Any]:
    """Return what was measured of a view; nothing where it was not done yet."""
    path = record_file(records, view)
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return record


def corrected_before(view: MovieView, records: Path) -> bool:
    """Whether the image of a view is that of its movie as it is now."""
    record = read_record(records, view.index)
    same = record.get("key") == view.key
    return same and Path(record["movie"]).name == Path(view.movie).name and not record["failed"]
