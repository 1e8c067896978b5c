"""SerialEM's and Tomography 5's ``.mdoc``: what was recorded with each image.

Values are typed by `mdocfile`, which is given the text that `tomodask.io.mdoc_text` made regular:
by itself it stops at a title that lost its bracket (Tomography 5.24), at a file name with an equal
sign, at a key without a value, at a decimal comma and at a list that is longer than it expects,
and misses ``[ZValue=0]``.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mdocfile.data_models import MdocGlobalData, MdocSectionData

from tomodask.errors import DataError, FormatError
from tomodask.io.mdoc_text import MdocText, SectionKind, SectionText, read_mdoc_text
from tomodask.io.mrc import tilt_axis_from_titles

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["MdocInfo", "MdocSection", "read_mdoc"]

# It warns of every key that it does not know, in every section of every file.
logging.getLogger("mdocfile").setLevel(logging.ERROR)

Software = Literal["SerialEM", "Tomography 5"]

_TIME = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4}|\d{2})\s+(\d{1,2}):(\d{2}):(\d{2})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MICROMETRE = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class MdocSection:
    """What was recorded with one image.

    Attributes
    ----------
    kind : {"ZValue", "FrameSet", "MontSection"}
        An image of a stack, a set of frames, or a montage.
    index : int
        Its number: of a ``ZValue``, the section of the image file, from 0.
    tilt_angle : float or None
        Degrees.
    exposure : float or None
        e/A^2 of this image; None where the file has none or 0, which means not calibrated.
    prior_dose : float or None
        e/A^2 received before this image.
    time : datetime or None
        When it was taken; what the order of acquisition follows from.
    movie : str or None
        Where the frames were saved, a path of the microscope's computer as recorded.
    frames : int or None
        Frames saved.
    frame_doses : tuple of (float, int)
        e/A^2 of a frame, and how many frames had it, in order.
    frame_range : tuple of int or None
        First and last frame of a view whose movie holds the whole tilt series.
    defocus : float or None
        A, underfocus positive: what was aimed at, or else what the microscope showed.
    pixel_size : float or None
        A, of the image recorded (its frames may have been saved with smaller pixels).
    binning : float or None
        Of the image recorded; 0.5 is super-resolution (SerialEM).
    rotation_angle : float or None
        Degrees.
    rotation_and_flip : int or None
        SerialEM's number of how the frames are turned and flipped against the camera.
    counts_per_electron : float or None
        Of the image recorded.
    mean_counts : float or None
        Mean of the image recorded.
    exposure_time : float or None
        Seconds.
    gain_reference : str or None
        Name of the gain reference that was not applied to the frames.
    """

    kind: SectionKind
    index: int
    tilt_angle: float | None
    exposure: float | None
    prior_dose: float | None
    time: datetime | None
    movie: str | None
    frames: int | None
    frame_doses: tuple[tuple[float, int], ...]
    frame_range: tuple[int, int] | None
    defocus: float | None
    pixel_size: float | None
    binning: float | None
    rotation_angle: float | None
    rotation_and_flip: int | None
    counts_per_electron: float | None
    mean_counts: float | None
    exposure_time: float | None
    gain_reference: str | None


@dataclass(frozen=True, slots=True)
class MdocInfo:
    """What an mdoc file tells.

    Attributes
    ----------
    path : Path
        The file.
    sections : tuple of MdocSection
        In file order, which is no order of acquisition.
    titles : tuple of str
        The ``T`` lines.
    software : {"SerialEM", "Tomography 5"} or None
        What wrote it, as far as the titles tell.
    pixel_size : float or None
        A.
    tilt_axis_angle : float or None
        Degrees, counter-clockwise from +y of the y-up image.
    voltage : float or None
        kV.
    image_file : str or None
        The stack's name as recorded.
    image_size : tuple of int or None
        (x, y) of the images recorded, pixels.
    is_montage : bool
        The sections are pieces of a montage, not images of a tilt series.
    """

    path: Path
    sections: tuple[MdocSection, ...]
    titles: tuple[str, ...]
    software: Software | None
    pixel_size: float | None
    tilt_axis_angle: float | None
    voltage: float | None
    image_file: str | None
    image_size: tuple[int, int] | None
    is_montage: bool

    def by_z_value(self, n_sections: int) -> tuple[MdocSection, ...]:
        """Return the sections that belong to the images of a stack, in the stack's order.

        Parameters
        ----------
        n_sections : int
            Images in the stack.

        Returns
        -------
        tuple of MdocSection
            One for each image; those of other kinds are left out.

        Raises
        ------
        DataError
            The file is a montage, or its ``ZValue`` numbers are not 0 to n_sections - 1.
        """
        self.refuse_montage()
        images = sorted((s for s in self.sections if s.kind == "ZValue"), key=lambda s: s.index)
        numbers = [s.index for s in images]
        if numbers != list(range(n_sections)):
            stray = sorted(set(numbers) ^ set(range(n_sections))) or [
                n for n in set(numbers) if numbers.count(n) > 1
            ]
            raise DataError(
                f"{self.path}: its ZValue sections do not fit a stack of {n_sections} images "
                f"(missing, surplus or twice: {', '.join(map(str, stray[:10]))}); "
                "give the mdoc of this stack"
            )
        return tuple(images)

    def refuse_montage(self) -> None:
        """Raise DataError if the file is of a montage."""
        if self.is_montage:
            raise DataError(f"{self.path}: is of a montage, not of a tilt series; give another")


def read_mdoc(path: str | PathLike[str]) -> MdocInfo:
    """Read an mdoc file.

    Parameters
    ----------
    path : path-like
        Of a tilt series, of a set of frames or of a montage.

    Returns
    -------
    MdocInfo
        Angles, doses, times and movies per section, pixel size, axis and voltage.

    Raises
    ------
    FormatError
        Not an mdoc, or a value cannot be read or could mean two things; says which, and where.
    StoreError
        The file cannot be read.

    Notes
    -----
    What is recorded as NaN, or has no value, is not known. A decimal comma is read as a point
    where one number is expected; whole numbers with a comma are refused.
    """
    path = Path(path).absolute()
    text = read_mdoc_text(path)
    typed = [MdocSectionData(**section.values) for section in text.sections]
    top = MdocGlobalData(**text.header)
    software = _software(text)
    return MdocInfo(
        path=path,
        sections=tuple(_section(path, s, d) for s, d in zip(text.sections, typed, strict=True)),
        titles=text.titles,
        software=software,
        pixel_size=_positive(top.PixelSpacing or typed[0].PixelSpacing),
        tilt_axis_angle=_tilt_axis(text, software, typed),
        voltage=_positive(top.Voltage or typed[0].Voltage),
        image_file=text.header.get("ImageFile"),
        image_size=top.ImageSize,
        is_montage=_is_montage(typed),
    )


def _section(path: Path, text: SectionText, data: MdocSectionData) -> MdocSection:
    where = f"{path}, section [{text.kind} = {text.index}]"
    for name in ("ExposureDose", "PriorRecordDose"):
        value = getattr(data, name)
        if value is not None and value < 0:
            raise FormatError(f"{where}: {name} = {value} is negative; correct or remove the line")
    defocus = data.Defocus if data.TargetDefocus is None else data.TargetDefocus
    counts = text.values.get("CountsPerElectron")
    first_last = text.values.get("FrameTSStartEndFrames", "").split()
    return MdocSection(
        kind=text.kind,
        index=text.index,
        tilt_angle=data.TiltAngle,
        exposure=_positive(data.ExposureDose),
        prior_dose=data.PriorRecordDose,
        time=None if data.DateTime is None else _time(where, data.DateTime),
        movie=text.values.get("SubFramePath"),
        frames=data.NumSubFrames if (data.NumSubFrames or 0) > 0 else None,
        frame_doses=tuple((dose, count) for dose, count in data.FrameDosesAndNumbers or ()),
        frame_range=(int(first_last[0]), int(first_last[1])) if first_last else None,
        defocus=None if defocus is None else -defocus * _MICROMETRE,
        pixel_size=_positive(data.PixelSpacing),
        binning=_positive(data.Binning),
        rotation_angle=data.RotationAngle,
        rotation_and_flip=data.RotationAndFlip,
        counts_per_electron=_positive(None if counts is None else float(counts)),
        mean_counts=None if data.MinMaxMean is None else data.MinMaxMean[2],
        exposure_time=_positive(data.ExposureTime),
        gain_reference=text.values.get("GainReference"),
    )


def _time(where: str, text: str) -> datetime:
    # Not strptime: its month names follow the locale, these are always English.
    match = _TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError("not of the form 06-Jun-2023 23:19:46")
        day, month, year, *clock = match.groups()
        century = 2000 if len(year) == 2 else 0
        hour, minute, second = map(int, clock)
        number = _MONTHS.index(month.lower()) + 1
        return datetime(century + int(year), number, int(day), hour, minute, second)
    except ValueError as error:
        raise FormatError(
            f"{where}: DateTime = {text!r} cannot be read ({error}); correct or remove the line"
        ) from error


def _software(text: MdocText) -> Software | None:
    if any("SerialEM" in title for title in text.titles):
        return "SerialEM"
    if any(re.match(r"tomography|.*TiltAxisAngle", t, re.IGNORECASE) for t in text.titles):
        return "Tomography 5"
    return None


def _tilt_axis(
    text: MdocText, software: Software | None, sections: list[MdocSectionData]
) -> float | None:
    rotation = next((s.RotationAngle for s in sections if s.RotationAngle is not None), None)
    axis = tilt_axis_from_titles(text.titles, rotation)
    if axis is None and rotation is not None and software == "SerialEM":
        # A set of frames has no axis in its title; SerialEM's RotationAngle is the axis + 90.
        axis = rotation - 90
    return None if axis is None else axis - 360 * round(axis / 360)


def _is_montage(sections: list[MdocSectionData]) -> bool:
    # Not the key Montage: it is also set for tilt series of a single piece.
    pieces = (data.PieceCoordinates for data in sections)
    return any(piece is not None and piece[:2] != (0, 0) for piece in pieces)


def _positive(value: float | None) -> float | None:
    return value if value is not None and 0 < value < math.inf else None
