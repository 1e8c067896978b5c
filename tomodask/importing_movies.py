"""From mdocs and a folder of movies to a store that names them; nothing is copied."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomodask.engine.files import explained
from tomodask.engine.ledger import Ledger
from tomodask.errors import (
    DataError,
    FormatError,
    ParameterError,
    StoreError,
    TomodaskWarning,
)
from tomodask.io.acquisition import read_acquisition
from tomodask.io.defects import read_defects
from tomodask.io.frames import FrameSource
from tomodask.io.gain import read_gain
from tomodask.io.movie_table import pixel_size_of_frames
from tomodask.io.movies import MovieInfo, Rendering, read_frame
from tomodask.io.series import alignment_names, create_store, images_folder
from tomodask.io.tables import has_table, read_table, remove_table, write_table
from tomodask.kernels.gain import ORIENTATIONS, Orientation, expand, orient
from tomodask.kernels.gain_orientation import GainOrientation, find_orientation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

__all__ = ["import_movies", "read_movies"]

PathLike = str | os.PathLike[str]

#: Movies, spread over the series, that are looked at when it is imported.
_SAMPLE = 7
#: How far the strength of a gain's pattern in its movies may be from 1.
_OTHER_GAIN = 0.3


def import_movies(
    mdocs: PathLike | Sequence[PathLike], out: PathLike, *, overwrite: bool = False, **options: Any
) -> Path:
    """Import a tilt series of movies into a store that refers to them.

    Parameters
    ----------
    mdocs
        The mdoc of a tilt series; or one mdoc per view, as a list or the folder of them.
    out
        Folder of the store, by custom ``NAME.zarr``.
    overwrite
        Whether what was imported into `out` before is replaced. Images that were made since
        stay, and are made anew where their movie has changed.
    **options
        As of :func:`read_movies`.

    Returns
    -------
    pathlib.Path
        Folder of the store; go on with ``tomodask.correct_motion``.

    Raises
    ------
    ParameterError
        If `out` holds another import.
    TomodaskError
        As of :func:`read_movies`.
    """
    path = Path(out).expanduser().resolve()
    table = read_movies(mdocs, **options)
    if has_table(path, "movies"):
        if _same(read_table(path, "movies", "movies"), table):
            return path
        if not overwrite:
            raise ParameterError(
                f"{path} holds another import already; give another --out, or --overwrite, which "
                "keeps the images of movies that are the same"
            )
    with explained(path):
        if not has_table(path, "movies") and path.exists() and any(path.iterdir()):
            raise StoreError(
                f"{path} holds something else than imported movies; give another --out, or remove "
                "it"
            )
        create_store(path)
    folder = images_folder(path)
    with Ledger(folder, path / "tilt_series") if folder.exists() else nullcontext() as ledger:
        if ledger is not None:
            # The images are shown again when motion correction has seen to what is new.
            ledger.reopen(())
        _forget_other_views(path, table)
        write_table(path, "movies", table, "movies")
    return path


def read_movies(
    mdocs: PathLike | Sequence[PathLike],
    *,
    frames: PathLike | None = None,
    gain: PathLike | None = None,
    gain_orientation: str | None = None,
    gain_reciprocal: bool | None = None,
    defects: PathLike | None = None,
    exposure: float | None = None,
    exposure_per_frame: float | None = None,
    tilt_axis: float | None = None,
    pixel_size: float | None = None,
    voltage: float | None = None,
    row_order: Literal["file", "up"] = "file",
    superresolution: int = 1,
    eer_group: int | None = None,
    eer_dose: float | None = None,
    exclude: Sequence[int] = (),
) -> xr.Dataset:
    """Read what was recorded of a tilt series of movies: what `import_movies` stores.

    Parameters
    ----------
    mdocs
        The mdoc of a tilt series; or one mdoc per view, as a list or the folder of them.
    frames
        Folder of the movies; that of the mdoc by default.
    gain
        Gain reference (MRC, TIFF, .gain); None where the movies are corrected already.
    gain_orientation
        What is done to the gain so that it lies on the movies, e.g. "rot90 flipud"; by default
        all eight ways are tried.
    gain_reciprocal
        Whether counts are divided by what the gain's file holds, not multiplied; by default told
        by the movies.
    defects
        SerialEM's list of defects, or a mask.
    exposure, exposure_per_frame
        e/A^2 of each view or frame; wins over what is recorded.
    tilt_axis
        Degrees CCW from +y; wins over what is recorded.
    pixel_size
        A, of the frames as they are rendered; wins over what is recorded.
    voltage
        kV; wins over what is recorded.
    row_order
        "up" where the movies' first row is the bottom whatever their format.
    superresolution
        Rendered pixels per sensor pixel of an EER: 1, 2 or 4.
    eer_group, eer_dose
        Raw frames, or e/A^2, per rendered frame of an EER.
    exclude
        Views, by tilt angle from 0, to flag as excluded.

    Returns
    -------
    xarray.Dataset
        The variables ``movies`` of the registry.

    Raises
    ------
    DataError
        If the mdocs are no single series, no movie is found, the dose is known from nowhere, or
        the gain does not fit.
    ParameterError, FormatError, StoreError
        If a value makes no sense, or a file cannot be read.

    Warns
    -----
    TomodaskWarning
        Where something had to be decided that should be looked at.
    """
    table = read_acquisition(
        mdocs,
        frames=frames,
        exposure=exposure,
        exposure_per_frame=exposure_per_frame,
        tilt_axis=tilt_axis,
        pixel_size=pixel_size,
        voltage=voltage,
    )
    table.attrs["row_order"] = row_order
    table.attrs["rendering"] = _rendering(superresolution, eer_group, eer_dose)
    infos = _sample(table)
    if infos[0].format != "eer" and (superresolution != 1 or eer_group or eer_dose):
        raise ParameterError(
            f"{infos[0].path} is no EER: its frames are as they were saved; leave out "
            "superresolution, eer_group and eer_dose"
        )
    _, height, width = infos[0].shape
    recorded = pixel_size_of_frames(table, (height // superresolution, width // superresolution))
    if pixel_size is None:
        table.attrs["pixel_size"] = recorded / superresolution
    _warn_turned(table, infos[0])
    if gain is not None:
        table.attrs["gain"] = _gain(Path(gain).absolute(), gain_orientation, gain_reciprocal, infos)
    elif gain_orientation is not None or gain_reciprocal is not None:
        raise ParameterError(
            "the orientation of a gain, or its reciprocal, belongs to a gain: give gain (--gain)"
        )
    if defects is not None:
        read_defects(defects, (height, width))  # raises if it is not of these frames
        table.attrs["defects"] = str(Path(defects).absolute())
    return _excluding(table, exclude)


def _forget_other_views(path: Path, table: xr.Dataset) -> None:
    """Remove what was made or decided of views that are no longer those of the series."""
    if not has_table(path, "movies"):
        return
    before = read_table(path, "movies", "movies")
    names = [[Path(movie).name for movie in of["movie"].values] for of in (before, table)]
    if np.array_equal(before["tilt_angle"].values, table["tilt_angle"].values) and all(
        a == b or not (a and b) for a, b in zip(*names, strict=True)
    ):
        return
    tables = ["curation", "cleaning", "motion"]
    tables += [f"alignments/{name}" for name in alignment_names(path)]
    there = [name for name in tables if has_table(path, name)]
    for name in there:
        remove_table(path, name)
    if there:
        warnings.warn(
            f"{path.name}: the import has other views than before; what was made of those is "
            f"forgotten ({', '.join(there)})",
            TomodaskWarning,
            stacklevel=3,
        )


def _same(there: xr.Dataset, table: xr.Dataset) -> bool:
    """Whether two imports are the same, whatever versions made them."""

    def facts(of: xr.Dataset) -> str:
        attributes = {**of.attrs, "provenance": {**of.attrs["provenance"], "software": None}}
        return json.dumps(attributes, sort_keys=True)

    return facts(there) == facts(table) and there.equals(table)


def _rendering(superresolution: int, group: int | None, dose: float | None) -> dict[str, Any]:
    """Return how an EER is rendered as attributes can hold it."""
    rendering = Rendering(superresolution=superresolution, group=group, dose_per_frame=dose)
    values = asdict(rendering)
    return {name: value for name, value in values.items() if value is not None}


def _sample(table: xr.Dataset) -> list[MovieInfo]:
    """Return some movies of the series, spread over it, that can be read.

    Raises
    ------
    DataError
        If none can.
    """
    source = FrameSource.of(table)
    exposure = table["exposure"].values
    there = [view for view, movie in enumerate(table["movie"].values) if movie]
    spread = [there[i] for i in np.unique(np.linspace(0, len(there) - 1, _SAMPLE).astype(int))]
    infos: list[MovieInfo] = []
    first = ""
    for view in [*spread, *there]:
        if infos and view not in spread:
            break
        movie = str(table["movie"].values[view])
        try:
            infos.append(source.open(movie, float(exposure[view])))
        except (FormatError, ParameterError, StoreError) as error:
            first = first or str(error)
    if not infos:
        raise DataError(f"none of the {len(there)} movies can be read; the first: {first}")
    return infos


def _warn_turned(table: xr.Dataset, info: MovieInfo) -> None:
    """Say where the recorded tilt axis is of images that were turned and the frames were not."""
    turned = table.attrs.get("detector", {}).get("rotation_and_flip")
    axis_from = table.attrs.get("provenance", {}).get("tilt_axis_from")
    if info.format == "eer" and turned and axis_from == "SerialEM":
        warnings.warn(
            f"SerialEM turned its images (RotationAndFlip = {turned}), and the tilt axis in the "
            "mdoc is that of the turned ones; EER frames are as the camera lies: check the axis, "
            "and give tilt_axis (--tilt-axis)",
            TomodaskWarning,
            stacklevel=4,
        )


def _gain(
    path: Path, orientation: str | None, reciprocal: bool | None, infos: Sequence[MovieInfo]
) -> dict[str, Any]:
    """Return where the gain is and how it lies on the movies, found on some of them if not given.

    Raises
    ------
    DataError
        If it does not fit the frames, or the movies do not tell how it lies.
    """
    gain = read_gain(path)
    shape = infos[0].shape[1:]
    counts = np.zeros(shape, np.float32)
    for info in infos:
        if info.shape[1:] == shape:
            for frame in range(info.shape[0]):
                counts += read_frame(info, frame)
    try:
        found = find_orientation(counts, gain)
        if orientation is not None:
            expand(orient(gain, Orientation.parse(orientation)), (shape[0], shape[1]))
    except DataError as error:
        raise DataError(
            f"{path}, the gain, does not fit {infos[0].path.name} and its like: {error}"
        ) from error
    if orientation is None and found.orientation is None:
        raise DataError(
            f"{path}: how the gain lies on the movies is not told by them ({found.reason}); give "
            "gain_orientation (--gain-orientation rot0, rot90 flipud, ...), or import without "
            "the gain where the movies are corrected already"
        )
    _warn_of_gain(path, orientation, reciprocal, found)
    return {
        "path": str(path),
        "orientation": str(found.orientation) if orientation is None else orientation,
        "orientation_from": "movies" if orientation is None else "given",
        "reciprocal": bool(found.reciprocal) if reciprocal is None else reciprocal,
        "slopes": {
            str(way): round(float(slope), 4)
            for way, slope in zip(ORIENTATIONS, found.slopes, strict=True)
            if np.isfinite(slope)
        },
    }


def _warn_of_gain(
    path: Path, orientation: str | None, reciprocal: bool | None, found: GainOrientation
) -> None:
    """Say where the movies contradict what the user says of the gain, or hardly know it."""
    if found.orientation is None:
        return
    told = []
    if orientation is not None and Orientation.parse(orientation) != found.orientation:
        told.append(f"the movies say {found.orientation}, {orientation} was given")
    if reciprocal is not None and reciprocal != found.reciprocal:
        way = "divide" if found.reciprocal else "multiply"
        told.append(f"the movies say that one is to {way} by it, the contrary was given")
    slope = float(np.nanmax(np.abs(found.slopes)))
    if abs(slope - 1) > _OTHER_GAIN:
        told.append(
            f"its pattern is in the movies by {slope:.2f} only, where 1 is expected: it may be of "
            "another day or camera"
        )
    if told:
        warnings.warn(f"{path.name}: {'; '.join(told)}", TomodaskWarning, stacklevel=5)


def _excluding(table: xr.Dataset, exclude: Sequence[int]) -> xr.Dataset:
    """Return the table with some views flagged."""
    views = table.sizes["tilt"]
    included, reason = table["included"].values.copy(), table["reason"].values.astype(object)
    for view in exclude:
        if not 0 <= view < views:
            raise ParameterError(f"view {view} to exclude: the series has views 0 to {views - 1}")
        included[view] = False
        reason[view] = reason[view] or "excluded by the user at import"
    return table.assign_coords(
        included=table["included"].copy(data=included),
        reason=table["reason"].copy(data=reason.astype(str)),
    )
