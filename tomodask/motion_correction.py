"""From movies to tilt images: every view's frames are aligned and summed, one task a view.

What a task measures is kept beside the images as one small record a view, and gathered in the
series' table of motion when all are done. A view whose movie cannot be used is flagged with the
reason; the others are done all the same.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.engine.files import check_space
from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, at_once, run_stages
from tomodask.engine.workers import Resources
from tomodask.errors import (
    DataError,
    ParameterError,
    ProductMissingError,
    StoreError,
    TomodaskWarning,
)
from tomodask.graph.correct_frames import (
    FrameCorrection,
    corrected_shape,
    correction_bytes,
)
from tomodask.io.frames import FrameSource
from tomodask.io.series import (
    create_series,
    images_folder,
    images_grid,
    open_series,
    write_coordinates,
)
from tomodask.io.tables import read_table, write_table
from tomodask.model import CHECKSUMS, provenance
from tomodask.movie_tasks import (
    correct_view,
    corrected_before,
    largest_movie,
    movie_views,
    read_record,
    record_file,
)

if TYPE_CHECKING:
    from distributed import Client
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener

__all__ = ["correct_motion"]

#: Raised by hand whenever the same movies and parameters give other values.
NUMERICS = 1
#: Patches along an axis that are not too many, and pixels along one that are not too few.
_MOST_PATCHES, _SMALLEST_PATCH = 16, 32


def correct_motion(
    series: str | Path,
    *,
    patches: tuple[int, int] | None = None,
    binning: float = 1.0,
    skip_first: int = 0,
    skip_last: int = 0,
    group: int = 1,
    dose_weighting: bool = False,
    b_factor: float | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> xr.Dataset:
    """Align and sum the frames of every movie of a series.

    The shifts of whole frames are estimated first; with `patches`, then a smooth local field
    where the signal supports one. Full, even and odd sums are made from the same motion in one
    pass over the frames.

    Parameters
    ----------
    series
        Folder of a store that movies were imported into.
    patches
        (y, x) number of patches of the local field; None for whole-frame motion alone.
    binning
        Pixel size of the sums over that of the frames, >= 1; by cropping the Fourier transform.
    skip_first, skip_last
        Frames at the begin and the end of every movie that are left out. Even and odd are
        counted from the first one that is summed.
    group
        Frames that are summed for the estimate, where there are very many of little dose; shifts
        in between are interpolated. One is best where time allows.
    dose_weighting
        Whether frames are weighted by the dose that the specimen has had. By default they are
        not: the images as stored are unweighted.
    b_factor
        A^2 per e/A^2 by which the weights fall, instead of the critical doses.
    overwrite
        Whether images that were made otherwise are replaced.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    xarray.Dataset
        The table of motion, as stored: shifts (A) of every frame, score, error to be expected,
        and why a view failed.

    Raises
    ------
    ProductMissingError
        If the series has no movies.
    DataError
        If no movie can be used.
    ParameterError
        If a parameter makes no sense.
    PlanMismatchError
        If the images were made otherwise.
    MemoryLimitError, SpaceError
        Before anything is computed, where memory or disk cannot hold it.

    Warns
    -----
    TomodaskWarning
        For views that have no image because their movie cannot be used; they are excluded, with
        the reason. When the movie is mended the same call makes them good.
    """
    path = Path(series).expanduser().resolve()
    if "movies" not in open_series(path).children:
        raise ProductMissingError(
            f"{path} has no movies: it was imported from a stack, or is empty; import the mdoc "
            "with its frames ('tomodask import FILE.mdoc --frames DIR')"
        )
    movies = read_table(path, "movies", "movies")  # as imported, whatever was curated since
    if b_factor is not None and not dose_weighting:
        raise ParameterError("b_factor is for dose weighting; ask for it too")
    if dose_weighting and "dose" not in movies.coords:
        raise ParameterError(f"{path} records no dose: import with --exposure to weight by dose")
    if dose_weighting and "voltage" not in movies.attrs:
        raise ParameterError(f"{path} records no voltage: import with --voltage to weight by dose")
    source = FrameSource.of(movies)
    correction = FrameCorrection(
        pixel_size=float(movies.attrs["pixel_size"]),
        patches=patches,
        binning=binning,
        skip=(skip_first, skip_last),
        group=group,
        b_factor=b_factor,
        voltage=float(movies.attrs["voltage"]) if dose_weighting else None,
    )
    folder = images_folder(path)
    views = movie_views(movies, source, Ledger(folder).records)
    (frames, height, width), raw_bytes = largest_movie(path, views)
    shape = (height, width)
    if patches is not None:
        _check_patches(patches, shape)
    out_shape, factor = corrected_shape(shape, binning)
    identity = {
        "step": "correct motion",
        "numerics": NUMERICS,
        "views": movies.sizes["tilt"],
        "shape": list(out_shape),
        "source": _source_identity(source),
        **correction.identity(),
        "dose": [view.dose for view in views] if dose_weighting else None,
    }
    grid = images_grid((len(views), *out_shape))
    resources = Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler)
    step = f"motion {path.name}"
    with Ledger(folder, path / "tilt_series") as ledger:
        tasks = [
            Task(
                view.key,
                correct_view,
                (view, shape, source, correction, path, grid, ledger.records),
                record_file(ledger.records, view.index),
            )
            for view in views
        ]
        task_bytes = correction_bytes(raw_bytes, (frames, *shape), correction)
        stage = Stage("correct movies", tasks, task_bytes)
        if ledger.plan() is None or (overwrite and not ledger.matches(identity)):
            at_once(step, [stage], resources)
            check_space(path, 3 * 4 * int(np.prod(grid.shape)))
            ledger.clear()
            create_series(
                path,
                (len(views), *out_shape),
                _coordinates(movies),
                _attributes(movies, factor, correction),
                halves=True,
            )
        ledger.begin(identity)
        again = [view.key for view in views if not corrected_before(view, ledger.records)]
        if again or not ledger.complete or {task.key for task in tasks} - ledger.done():
            ledger.reopen(again)
            run_stages(step, [stage], ledger, resources, progress)
        records = [read_record(ledger.records, view.index) for view in views]
        motion = _motion_table(records, correction)
        if all(record["failed"] for record in records):
            ledger.clear()  # so that other parameters are no other plan
            raise DataError(
                f"{path}: none of the {len(views)} movies can be used; the first: "
                f"{records[0]['failed']}"
            )
        if not ledger.complete:
            _finish(path, movies, records, motion, _attributes(movies, factor, correction))
            ledger.finish(task.key for task in tasks)
    _tell_failures(path, motion)
    return motion


def _source_identity(source: FrameSource) -> dict[str, Any]:
    try:
        return source.identity()
    except StoreError as error:
        raise StoreError(
            error.errno,
            f"{error}; if the movies and the gain were moved, import again from the new place with "
            "--overwrite: what is finished is kept",
        ) from error


def _check_patches(patches: tuple[int, int], shape: tuple[int, int]) -> None:
    """Raise unless patches hold enough pixels to be correlated."""
    most = [min(_MOST_PATCHES, n // _SMALLEST_PATCH) for n in shape]
    if any(count > limit for count, limit in zip(patches, most, strict=True)):
        raise ParameterError(
            f"patches {patches[1]}x{patches[0]} of frames of {shape[1]} x {shape[0]} pixels: give "
            f"at most {most[1]}x{most[0]} (patches of {_SMALLEST_PATCH} pixels hold too little)"
        )


def _coordinates(movies: xr.Dataset) -> dict[str, NDArray[np.generic]]:
    """Return the coordinates of the movies that the images have too.

    By name: the order in which they are read is that of the disk.
    """
    names = sorted(map(str, movies.coords))
    return {name: movies[name].values for name in names if name not in ("movie", "frames")}


def _attributes(movies: xr.Dataset, factor: float, correction: FrameCorrection) -> dict[str, Any]:
    kept = ("tilt_axis_angle", "voltage")
    return {
        "pixel_size": float(movies.attrs["pixel_size"]) * factor,
        **{name: movies.attrs[name] for name in kept if name in movies.attrs},
        **({"applied": ["dose weighting"]} if correction.voltage else {}),
        "provenance": provenance("correct motion", **correction.identity()),
    }


def _motion_table(records: list[dict[str, Any]], correction: FrameCorrection) -> xr.Dataset:
    """Return the table of motion of a series from the records of its views."""
    views = len(records)
    most = max((record.get("frames", 0) for record in records), default=0)
    shift = np.full((views, most, 2), np.nan)
    for view, record in enumerate(records):
        if not record["failed"]:
            first = correction.skip[0]
            values = np.array(record["shift"])
            shift[view, first : first + len(values)] = values
    pixel = correction.pixel_size

    def column(name: str, missing: Any) -> NDArray[np.generic]:
        return np.array([record.get(name, missing) for record in records])

    variables: dict[str, Any] = {
        "shift_y": (("tilt", "frame"), shift[..., 0] * pixel),
        "shift_x": (("tilt", "frame"), shift[..., 1] * pixel),
    }
    fields = [record.get("field") for record in records]
    grids = [np.shape(of_view) for of_view in fields if of_view is not None]
    if grids:
        # Movies of few frames have fewer knots in time: NaN beyond them.
        local = np.full((views, *np.max(grids, axis=0)), np.nan)
        for view, coefficients in enumerate(fields):
            if coefficients is not None:
                local[view, : len(coefficients)] = np.array(coefficients) * pixel
        variables["field"] = (("tilt", "knot_t", "knot_y", "knot_x", "axis"), local)
    repaired = [record.get("repaired", ([], [])) for record in records]
    for axis, name in enumerate(("repaired_y", "repaired_x")):
        places = [place for of_view in repaired for place in of_view[axis]]
        variables[name] = ("pixel", np.array(places, np.int32))
    coordinates = {
        "frames": column("frames", 0),
        "supported": column("supported", False).astype(bool),
        "score": column("score", np.nan).astype(float),
        "residual": column("residual", None).astype(float) * pixel,
        "repaired": np.array([len(y) for y, _ in repaired]),
        "failed": column("failed", ""),
    }
    return xr.Dataset(
        variables,
        coords={name: ("tilt", values) for name, values in coordinates.items()},
        attrs={
            "pixel_size": pixel,
            "provenance": provenance("correct motion", **correction.identity()),
        },
    )


def _finish(
    path: Path,
    movies: xr.Dataset,
    records: list[dict[str, Any]],
    motion: xr.Dataset,
    attributes: dict[str, Any],
) -> None:
    """Store what was measured and what the movies' table says, and flag views without image."""
    failed = motion["failed"].values
    write_table(path, "motion", motion, "motion")
    reason = movies["reason"].values if "reason" in movies.coords else np.full(len(failed), "")
    coordinates: dict[str, Any] = _coordinates(movies) | {
        name: np.array([record[name] for record in records], np.uint32)
        for name in CHECKSUMS.values()
    }
    coordinates["has_image"] = failed == ""
    coordinates["included"] = movies["included"].values & (failed == "")
    coordinates["reason"] = np.where(failed != "", failed, reason)
    write_coordinates(path, coordinates, attributes)


def _tell_failures(path: Path, motion: xr.Dataset) -> None:
    failed = np.flatnonzero(motion["failed"].values != "")
    if len(failed):
        lines = "".join(f"\n  view {view}: {motion['failed'].values[view]}" for view in failed)
        warnings.warn(
            f"{path.name}: {len(failed)} of {motion.sizes['tilt']} views have no image and are "
            f"excluded; mend them and give the same command again:{lines}",
            TomodaskWarning,
            stacklevel=3,
        )
