"""The views of one tilt series, from its mdoc or from those of its views."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.io.mdoc import MdocInfo, MdocSection, read_mdoc
from tomodask.io.movie_search import MOVIE_SUFFIXES, recorded_name

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AcquiredSeries", "AcquiredView", "read_views"]

PathLike = str | os.PathLike[str]

#: Degrees within which the frames of one movie are recorded.
_SAME_ANGLE = 0.1


@dataclass(frozen=True, slots=True)
class AcquiredView:
    """One view as recorded.

    Attributes
    ----------
    section : MdocSection
        What the mdoc tells of it.
    tilt_angle : float
        Degrees.
    number : int
        Its section, or its place among the mdocs, from 0.
    movie : str
        File name of its movie; empty where none is recorded.
    """

    section: MdocSection
    tilt_angle: float
    number: int
    movie: str


@dataclass(frozen=True, slots=True)
class AcquiredSeries:
    """A tilt series as recorded.

    Attributes
    ----------
    name : str
        From the names of the mdocs.
    source : str
        The mdoc, or the folder of the mdocs, for messages.
    infos : tuple of MdocInfo
        One, or one per view.
    views : tuple of AcquiredView
        In the order of the input.
    lost : tuple of MdocSection
        Left out, since they have no angle. They irradiated the specimen all the same.
    """

    name: str
    source: str
    infos: tuple[MdocInfo, ...]
    views: tuple[AcquiredView, ...]
    lost: tuple[MdocSection, ...]


def read_views(mdocs: PathLike | Sequence[PathLike]) -> AcquiredSeries:
    """Read the mdocs of a tilt series.

    Parameters
    ----------
    mdocs
        The mdoc of a tilt series; or one mdoc per view, as a list or the folder of them.

    Returns
    -------
    AcquiredSeries
        With at least two views, each with an angle and a movie of its own.

    Raises
    ------
    DataError
        If the mdocs are no single tilt series of movies, or two views name one movie.
    ParameterError
        If there is no mdoc.
    FormatError
        If an mdoc cannot be read.
    StoreError
        If a file or folder cannot be read.

    Warns
    -----
    TomodaskWarning
        Where mdocs or sections are left out.
    """
    infos = _of_one_series([read_mdoc(path) for path in _files(mdocs)])
    source = str(infos[0].path if len(infos) == 1 else infos[0].path.parent)
    views = [view for info in infos for view in _views_of(info)]
    numbers = [section.index for section, _ in views]
    if len(infos) > 1 or len(set(numbers)) < len(numbers):
        numbers = list(range(len(views)))
    lost = [
        movie or f"section {number}"
        for number, (section, movie) in zip(numbers, views, strict=True)
        if section.tilt_angle is None
    ]
    if lost:
        _warn(
            f"{source}: {len(lost)} of {len(views)} sections have no TiltAngle and are left out "
            f"({', '.join(lost[:5])})"
        )
    acquired = tuple(
        AcquiredView(section, section.tilt_angle, number, movie)
        for number, (section, movie) in zip(numbers, views, strict=True)
        if section.tilt_angle is not None
    )
    _check(source, acquired)
    without = tuple(section for section, _ in views if section.tilt_angle is None)
    return AcquiredSeries(_name(infos), source, tuple(infos), acquired, without)


def _files(mdocs: PathLike | Sequence[PathLike]) -> list[Path]:
    """Return the mdocs to read: no copies, and of one that was overridden the newer."""
    given = [mdocs] if isinstance(mdocs, str | os.PathLike) else list(mdocs)
    paths = [Path(path).expanduser().absolute() for path in given]
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".mdoc")
        if not paths:
            raise DataError(f"{folder}: holds no mdoc; give the folder of the mdocs")
    elif len(paths) == 1 and _override(paths[0]).exists():
        newer = _override(paths[0]).name
        _warn(f"{newer} lies beside {paths[0].name}, which is read; give that one if it is meant")
    if not paths:
        raise ParameterError("no mdoc was given; give one, or a folder of them")
    kept: dict[bytes, Path] = {}
    for path in paths:
        if _override(path) in paths:
            _warn(f"{path.name} is not read, because {_override(path).name} replaces it")
            continue
        # Users copy them to the names that other programs look for.
        content = path.read_bytes() if path.is_file() else os.fsencode(path)
        if kept.setdefault(content, path) != path:
            _warn(f"{path.name} is not read: it is a copy of {kept[content].name}")
    return list(kept.values())


def _override(path: Path) -> Path:
    """Return the mdoc that Tomography 5 writes where a tilt series is taken up again."""
    return path.with_name(f"{path.stem}_override{path.suffix}")


def _of_one_series(infos: list[MdocInfo]) -> list[MdocInfo]:
    """Return the one mdoc of a tilt series, or those of its views."""
    of_series = [info for info in infos if len(infos) == 1 or len(_views_of(info)) > 1]
    if len(of_series) > 1:
        listed = ", ".join(info.path.name for info in of_series[:5])
        raise DataError(
            f"{len(of_series)} mdocs are of tilt series ({listed}); import one at a time"
        )
    if not of_series:
        return infos
    # SerialEM may save an mdoc beside each movie, too: they repeat what that of the series has.
    held = {movie.casefold() for _, movie in _views_of(of_series[0])}
    for info in infos:
        for _, movie in _views_of(info):
            if movie.casefold() not in held:
                raise DataError(
                    f"{of_series[0].path} is of a tilt series without the movie {movie} of "
                    f"{info.path.name}; give the mdoc of one tilt series, or those of its views"
                )
    return of_series


def _views_of(info: MdocInfo) -> list[tuple[MdocSection, str]]:
    """Return the views of an mdoc with the names of their movies."""
    info.refuse_montage()
    sections = [section for section in info.sections if section.kind != "MontSection"]
    if any(section.frame_range is not None for section in sections):
        raise DataError(
            f"{info.path}: one movie holds the frames of the whole tilt series "
            "(FrameTSStartEndFrames); split it into one movie per view first"
        )
    if all(section.movie is None for section in sections):
        angles = [s.tilt_angle for s in sections if s.tilt_angle is not None]
        if 0 < len(angles) == len(sections) and max(angles) - min(angles) < _SAME_ANGLE:
            # Of the movie that it is named after, a section a frame where there are several.
            return [(_joined(sections), info.path.stem)]
        if angles:
            raise DataError(
                f"{info.path}: names no movies (SubFramePath); it is of a stack: import the stack"
            )
    return [(section, recorded_name(section.movie or "")) for section in sections]


def _joined(frames: Sequence[MdocSection]) -> MdocSection:
    if len(frames) == 1:
        return frames[0]
    doses = [frame.exposure for frame in frames if frame.exposure is not None]
    return replace(
        frames[0],
        exposure=sum(doses) if len(doses) == len(frames) else None,
        frames=len(frames),
    )


def _check(source: str, views: Sequence[AcquiredView]) -> None:
    if len(views) < 2:
        raise DataError(
            f"{source}: {len(views)} view with a tilt angle; a tilt series needs at least 2: give "
            "the mdocs of all views, or their folder"
        )
    seen: dict[str, AcquiredView] = {}
    for view in views:
        if abs(view.tilt_angle) > 180:
            raise DataError(
                f"{source}: TiltAngle {view.tilt_angle:g} of section {view.number} is no angle in "
                "degrees; correct or remove the section"
            )
        if view.movie and seen.setdefault(view.movie.casefold(), view) is not view:
            raise DataError(
                f"{source}: sections {seen[view.movie.casefold()].number} and {view.number} both "
                f"name the movie {view.movie}; correct SubFramePath"
            )


def _name(infos: Sequence[MdocInfo]) -> str:
    names = [_without_suffix(info.path.stem.removesuffix("_override")) for info in infos]
    if len(infos) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in same)
    if any(name[len(shared) :][:1].isdigit() for name in names):
        shared = shared.rstrip("0123456789")  # half of the views' numbers
    return shared.strip(" _-.[(") or infos[0].path.parent.name


def _without_suffix(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in {*MOVIE_SUFFIXES, ".st"} else name


def _warn(message: str) -> None:
    warnings.warn(message, TomodaskWarning, stacklevel=4)
