"""From the mdocs of an acquisition and a folder of movies to the table of a tilt series' movies.

Nothing is copied and no movie is opened. What is known of a view that cannot be used stays in the
table, with the reason.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.io.acquired_views import AcquiredSeries, AcquiredView, read_views
from tomodask.io.doses import acquisition_order, cumulated_dose, dose_before, recorded_exposure
from tomodask.io.movie_search import MOVIE_SUFFIXES, MovieFolder
from tomodask.model import provenance, validate, variable_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomodask.io.mdoc import MdocInfo, MdocSection

__all__ = ["read_acquisition"]

PathLike = str | os.PathLike[str]

#: Views nearer to each other than this part of the tilt step are of one nominal angle.
_SAME_ANGLE = 0.25
#: Angles that differ by less are no step: how exactly a stage comes back, degrees.
_STAGE_ERROR = 0.1
#: More than this in one view is hardly meant, e/A^2.
_HIGH_EXPOSURE = 50.0
#: Pixel sizes that differ by more than this fraction are of different images.
_SAME_SIZE = 0.01


def read_acquisition(
    mdocs: PathLike | Sequence[PathLike],
    *,
    frames: PathLike | None = None,
    exposure: float | None = None,
    exposure_per_frame: float | None = None,
    tilt_axis: float | None = None,
    pixel_size: float | None = None,
    voltage: float | None = None,
) -> xr.Dataset:
    """Read what was recorded of a tilt series of movies.

    Parameters
    ----------
    mdocs
        The mdoc of a tilt series; or one mdoc per view, as a list or the folder of them.
    frames
        Folder of the movies, or of folders with them; that of the mdoc by default.
    exposure
        e/A^2 of each view; wins over what is recorded.
    exposure_per_frame
        e/A^2 of each frame that is recorded (``NumSubFrames``); wins over what is recorded.
    tilt_axis
        Degrees CCW from +y; wins over what is recorded.
    pixel_size
        A, of the frames; wins over what is recorded.
    voltage
        kV; wins over what is recorded.

    Returns
    -------
    xarray.Dataset
        The variables ``movies`` of the registry along ``tilt``, sorted by tilt angle. Attributes:
        name, pixel_size (A), tilt_axis_angle (degrees) and voltage (kV) where known, image_size
        and image_pixel_size of the images recorded with the movies, detector, provenance.

    Raises
    ------
    DataError
        If the mdocs are no single tilt series of movies, two views name one movie, a movie's name
        fits several files, no movie is found, or the dose is known from nowhere.
    ParameterError
        If a value given makes no sense, or the pixel size is known from nowhere.
    FormatError
        If an mdoc cannot be read.
    StoreError
        If a file or folder cannot be read.

    Warns
    -----
    TomodaskWarning
        Where something had to be decided that should be looked at.

    Notes
    -----
    Movies are matched by file name, since paths are those of the microscope's computer. Views are
    ordered by ``DateTime``. The dose before a view is the ``PriorRecordDose`` where that does not
    contradict the exposures (it includes images that were lost since), else their sum, and always
    their sum where the user gives them; sections without an angle count if they have a time. Of
    views nearer than a quarter of the tilt step, the last taken is included.

    SerialEM's pixel size is of the binned image that it recorded, while frames are saved unbinned;
    Tomography 5's is that of the frames. See `pixel_size_of_frames` for super-resolution.
    """
    given = {
        "exposure": exposure,
        "exposure_per_frame": exposure_per_frame,
        "tilt_axis": tilt_axis,
        "pixel_size": pixel_size,
        "voltage": voltage,
    }
    _check_given(given)
    series = read_views(mdocs)
    source, info, views = series.source, series.infos[0], series.views
    movies, reasons = _find_movies(series, frames)
    exposures, exposure_from = _exposures(source, views, exposure, exposure_per_frame)
    prior = [view.section.prior_dose for view in views]
    order, order_from = acquisition_order(source, [view.section.time for view in views], prior)
    if exposure_from == "given":
        dose, dose_from = cumulated_dose(order, exposures), "exposures"
    else:
        dose, dose_from = dose_before(source, order, exposures, prior)
    if dose_from == "exposures" and order_from == "DateTime":
        dose = dose + _dose_of_lost(series, exposure, exposure_per_frame)
    angles = np.array([view.tilt_angle for view in views])
    _flag_taken_again(source, angles, order, movies, reasons)
    if reasons.count("") < 2:
        raise DataError(
            f"{source}: fewer than two views can be used ({next(filter(None, reasons))}); give the "
            "folder that holds all movies with frames (--frames)"
        )
    spacing = _image_pixel_size(series)
    size, size_from = _pixel_size(series, spacing) if pixel_size is None else (pixel_size, "given")
    axis, axis_from = _tilt_axis(source, info) if tilt_axis is None else (tilt_axis, "given")
    variables = _variables(views, movies, reasons, angles, order, exposures, dose)
    attributes = {
        "name": series.name,
        "pixel_size": size,
        "tilt_axis_angle": axis,
        "voltage": info.voltage if voltage is None else voltage,
        "image_size": None if info.image_size is None else list(info.image_size),
        "image_pixel_size": spacing,
        "detector": _detector(views[0].section),
        "provenance": provenance(
            "import movies",
            mdocs=[str(one.path) for one in series.infos],
            pixel_size_from=size_from,
            tilt_axis_from=axis_from,
            order_from=order_from,
            exposure_from=exposure_from,
            dose_from=dose_from,
            given_by_user=[key for key, value in given.items() if value is not None],
        ),
    }
    table = xr.Dataset(
        coords={
            key: ("tilt", values, variable_attributes("movies", key))
            for key, values in variables.items()
        },
        attrs={key: value for key, value in attributes.items() if value not in (None, {})},
    )
    table = table.isel(tilt=np.lexsort((order, angles)))
    validate(table, "movies", source=source)
    return table


def _check_given(given: Mapping[str, float | None]) -> None:
    for key, value in given.items():
        option = f"--{key.replace('_', '-')}"
        if value is not None and not np.isfinite(value):
            raise ParameterError(f"{key} {value}: give a finite number ({option})")
        if value is not None and key != "tilt_axis" and value <= 0:
            raise ParameterError(f"{key} {value}: give a positive number ({option})")
    if given["exposure"] is not None and given["exposure_per_frame"] is not None:
        raise ParameterError("give exposure or exposure_per_frame, not both")


def _find_movies(series: AcquiredSeries, folder: PathLike | None) -> tuple[list[str], list[str]]:
    """Return for each view the path of its movie, and the reason where it has none."""
    place = MovieFolder(series.infos[0].path.parent if folder is None else Path(folder))
    found = [place.find(view.movie) if view.movie else None for view in series.views]
    if not any(found):
        raise DataError(
            f"{series.source}: none of its {len(found)} movies is in {place.folder} (the first is "
            f"{series.views[0].movie}); give the folder that holds them with frames (--frames)"
        )
    owner: dict[Path, AcquiredView] = {}
    converted = []
    for view, path in zip(series.views, found, strict=True):
        if path is None:
            continue
        if owner.setdefault(path, view) is not view:
            raise DataError(
                f"{series.source}: {path} fits sections {owner[path].number} "
                f"({owner[path].movie}) and {view.number} ({view.movie}); give a folder with a "
                "movie for each"
            )
        recorded = Path(view.movie).suffix.lower()
        if recorded in MOVIE_SUFFIXES and path.suffix.lower() != recorded:
            converted.append(f"{path.name} for {view.movie}")
    if converted:
        _warn(f"{series.source}: {len(converted)} movies have another extension ({converted[0]})")
    missing = {
        view.number: f"movie {view.movie} not found in {place.folder}"
        if view.movie
        else "no movie is recorded (SubFramePath)"
        for view, path in zip(series.views, found, strict=True)
        if path is None
    }
    return (
        ["" if path is None else str(path) for path in found],
        [missing.get(view.number, "") for view in series.views],
    )


def _exposures(
    source: str, views: Sequence[AcquiredView], exposure: float | None, per_frame: float | None
) -> tuple[NDArray[np.float64], str]:
    known = [_exposure(view.section, exposure, per_frame) for view in views]
    values = [value for value, _ in known]
    if exposure is None and per_frame is None:
        _compare_doses(source, views)
    for view, value in zip(views, values, strict=True):
        if value is None and per_frame is not None:
            raise DataError(
                f"{source}: the frames of section {view.number} ({view.movie}) are not counted "
                "(NumSubFrames); give the exposure of a view in e/A^2 with exposure (--exposure)"
            )
        if value is None:
            raise DataError(
                f"{source}: the dose of section {view.number} ({view.movie}) is not recorded "
                "(ExposureDose, FrameDosesAndNumber); give that of a view in e/A^2 with exposure "
                "(--exposure) or of a frame with exposure_per_frame (--exposure-per-frame)"
            )
    result = np.array(values, np.float64)
    if result.max() > _HIGH_EXPOSURE:
        _warn(
            f"{source}: an exposure of {result.max():g} e/A^2 in one view is unusually high; give "
            "the right one with exposure (--exposure)"
        )
    return result, " and ".join(sorted({origin for _, origin in known}))


def _exposure(
    section: MdocSection, exposure: float | None, per_frame: float | None
) -> tuple[float | None, str]:
    """Return the exposure of one view, None where it is not known, and where it is from."""
    if exposure is not None:
        return exposure, "given"
    if per_frame is not None:
        return (None if section.frames is None else per_frame * section.frames), "given"
    return recorded_exposure(section.exposure, section.frame_doses)


def _dose_of_lost(
    series: AcquiredSeries, exposure: float | None, per_frame: float | None
) -> NDArray[np.float64]:
    """Return the dose before each view, all of which have times, of sections left out."""
    lost = [
        (section.time, _exposure(section, exposure, per_frame)[0] or 0.0)
        for section in series.lost
        if section.time is not None
    ]
    times = [view.section.time for view in series.views]
    return np.array([sum(dose for time, dose in lost if time < own) for own in times if own])


def _compare_doses(source: str, views: Sequence[AcquiredView]) -> None:
    """Warn where the dose of a view is not that of its frames."""
    for view in views:
        summed, _ = recorded_exposure(None, view.section.frame_doses)
        exposure = view.section.exposure
        if exposure and summed and not 1 / 1.5 < summed / exposure < 1.5:
            _warn(
                f"{source}: section {view.number} has an ExposureDose of {exposure:g} e/A^2, its "
                f"frames {summed:g} (FrameDosesAndNumber); the first is believed: give exposure "
                "(--exposure) to be sure"
            )
            return


def _flag_taken_again(
    source: str,
    angles: NDArray[np.float64],
    order: NDArray[np.int64],
    movies: Sequence[str],
    reasons: list[str],
) -> None:
    """Give the reason to all but the last view of each nominal angle."""
    usable = [view for view in np.argsort(angles, kind="stable") if not reasons[view]]
    steps = np.diff(angles[usable])
    real = steps[steps > _STAGE_ERROR]
    near = _SAME_ANGLE * float(np.median(real)) if len(real) else _STAGE_ERROR
    groups = np.split(np.array(usable, np.int64), np.flatnonzero(steps >= near) + 1)
    again = [group for group in groups if len(group) > 1]
    if len(groups) > 2 and len(again) > len(groups) / 2:
        raise DataError(
            f"{source}: {len(again)} of {len(groups)} tilt angles were taken more than once; these "
            "are several tilt series: give the mdocs of one"
        )
    for group in again:
        last = group[np.argmax(order[group])]
        for view in group:
            if view != last:
                reasons[view] = f"taken again later as {Path(movies[last]).name}"


def _image_pixel_size(series: AcquiredSeries) -> float | None:
    """Return the pixel size of the images recorded, which is that of every view."""
    sizes = [v.section.pixel_size for v in series.views if v.section.pixel_size is not None]
    if sizes and max(sizes) / min(sizes) - 1 > _SAME_SIZE:
        raise DataError(
            f"{series.source}: its views have pixels of {min(sizes):g} to {max(sizes):g} A; give "
            "the mdocs of one magnification"
        )
    return sizes[0] if sizes else series.infos[0].pixel_size


def _pixel_size(series: AcquiredSeries, spacing: float | None) -> tuple[float, str]:
    """Return the pixel size of the frames, as far as it follows without them."""
    if spacing is None:
        raise ParameterError(
            f"{series.source}: does not say its pixel size; give that of the frames in A with "
            "pixel_size (--pixel-size)"
        )
    section = series.views[0].section
    binning = section.binning or 1.0
    apart = section.movie is not None or section.kind == "FrameSet"
    if series.infos[0].software == "SerialEM" and apart and binning > 1:
        return spacing / binning, f"PixelSpacing {spacing:g} / Binning {binning:g}"
    return spacing, "PixelSpacing"


def _tilt_axis(source: str, info: MdocInfo) -> tuple[float | None, str]:
    if info.tilt_axis_angle is None:
        _warn(f"{source}: records no tilt axis; give it with tilt_axis (--tilt-axis)")
        return None, "unknown"
    if info.software == "Tomography 5":
        # It prints its own calibration, which is wrong at some microscopes.
        return info.tilt_axis_angle, "Tomography 5, to be checked"
    return info.tilt_axis_angle, info.software or "title"


def _detector(section: MdocSection) -> dict[str, Any]:
    """Return what was recorded of the camera, where it was."""
    values = {
        "binning": section.binning,
        "rotation_and_flip": section.rotation_and_flip,
        "counts_per_electron": section.counts_per_electron,
        "gain_reference": section.gain_reference,
    }
    return {key: value for key, value in values.items() if value is not None}


def _variables(
    views: Sequence[AcquiredView],
    movies: Sequence[str],
    reasons: Sequence[str],
    angles: NDArray[np.float64],
    order: NDArray[np.int64],
    exposures: NDArray[np.float64],
    dose: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """Return the columns, views in input order."""
    sections = [view.section for view in views]
    defoci = [np.nan if s.defocus is None else s.defocus for s in sections]
    times = ["" if s.time is None else s.time.isoformat() for s in sections]
    variables: dict[str, NDArray[Any]] = {
        "movie": np.array(movies, str),
        "frames": np.array([-1 if s.frames is None else s.frames for s in sections], np.int64),
        "tilt_angle": angles,
        "dose": dose,
        "exposure": exposures,
        "order": order,
        "included": np.array([not reason for reason in reasons]),
        "reason": np.array(reasons, str),
        "section": np.array([view.number for view in views], np.int64),
    }
    if not np.all(np.isnan(defoci)):
        variables["nominal_defocus"] = np.array(defoci, np.float64)
    if any(times):
        variables["time"] = np.array(times, str)
    return variables


def _warn(message: str) -> None:
    warnings.warn(message, TomodaskWarning, stacklevel=3)
