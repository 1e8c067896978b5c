"""SerialEM's and Tomography 5's ``.mdoc``: what was recorded with each image.

Reading is `mdocfile`'s, with the titles taken out first: it stops at a title that lost its
bracket (Tomography 5.24), because that line has two equal signs, and it does not keep a title
that follows a section.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mdocfile.data_models import Mdoc, MdocSectionData
from pydantic import ValidationError

from tomodask.errors import DataError, FormatError
from tomodask.io.mrc import tilt_axis_from_titles
from tomodask.io.paths import readable

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["MdocInfo", "MdocSection", "read_mdoc"]

# It warns of every key that it does not know, in every section of every file.
logging.getLogger("mdocfile").setLevel(logging.ERROR)

_SectionKind = Literal["ZValue", "FrameSet", "MontSection"]
_KINDS: tuple[_SectionKind, ...] = ("ZValue", "FrameSet", "MontSection")
_TITLE = re.compile(r"\[?\s*T\s*=\s*(.*?)\s*\]?\s*$")
_DECIMAL_COMMA = re.compile(r"(?:=\s*|\s)[-+]?\d+,\d+\s*(?:$|\s|\])")
_FREE_TEXT = re.compile(r"\w*(?:Path|File|Label|Note|Name|Reference)\s*=")
_TIME = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4}|\d{2})\s+(\d{1,2}):(\d{2}):(\d{2})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True, slots=True)
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
    """

    kind: _SectionKind
    index: int
    tilt_angle: float | None
    exposure: float | None
    prior_dose: float | None
    time: datetime | None


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
    pixel_size : float or None
        A.
    tilt_axis_angle : float or None
        Degrees, counter-clockwise from +y of the y-up image.
    voltage : float or None
        kV.
    image_file : str or None
        The stack's name as recorded.
    is_montage : bool
        The sections are pieces of a montage, not images of a tilt series.
    """

    path: Path
    sections: tuple[MdocSection, ...]
    titles: tuple[str, ...]
    pixel_size: float | None
    tilt_axis_angle: float | None
    voltage: float | None
    image_file: str | None
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
        if self.is_montage:
            raise DataError(f"{self.path}: is of a montage, not of a tilt series; give another")
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


def read_mdoc(path: str | PathLike[str]) -> MdocInfo:
    """Read an mdoc file.

    Parameters
    ----------
    path : path-like
        Of a tilt series, of a set of frames or of a montage.

    Returns
    -------
    MdocInfo
        Angles, doses and times per section, pixel size, axis and voltage.

    Raises
    ------
    FormatError
        Not an mdoc, or a value cannot be read; says which, and on which line.
    StoreError
        The file cannot be read.
    """
    path = Path(path).absolute()
    text = _text(path)
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if _DECIMAL_COMMA.search(line) and not _FREE_TEXT.match(line):
            raise FormatError(
                f"{path}, line {number}: has a decimal comma ({line.strip()!r}); "
                "write decimal points"
            )
    titles = tuple(match[1] for line in lines if (match := _TITLE.match(line)))
    mdoc = _parse(path, [line for line in lines if not _TITLE.match(line)], lines)
    if not mdoc.section_data:
        raise FormatError(
            f"{path}: has no section ([ZValue = 0], [FrameSet = 0]); it is no mdoc, or empty"
        )
    sections = tuple(_section(path, data) for data in mdoc.section_data)
    first = mdoc.section_data[0]
    top = mdoc.global_data
    pixel_size = top.PixelSpacing or first.PixelSpacing
    voltage = top.Voltage or first.Voltage
    return MdocInfo(
        path=path,
        sections=sections,
        titles=titles,
        pixel_size=_positive(pixel_size),
        tilt_axis_angle=_tilt_axis(titles, first.RotationAngle),
        voltage=_positive(voltage),
        image_file=None if top.ImageFile is None else str(top.ImageFile),
        is_montage=_is_montage(mdoc),
    )


def _text(path: Path) -> str:
    with readable(path):
        data = path.read_bytes()
    if b"\0" in data:
        raise FormatError(f"{path}: is not a text file; give the .mdoc, not the images")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Windows writes units such as the micro sign in its own code page.
        return data.decode("cp1252", errors="replace")


def _parse(path: Path, lines: list[str], original: list[str]) -> Mdoc:
    try:
        return Mdoc.from_lines(lines)
    except ValidationError as error:
        detail = error.errors()[0]
        key = str(detail["loc"][0])
        where = next(
            (f", line {n}" for n, line in enumerate(original, 1) if _holds_bad(line, key, detail)),
            "",
        )
        raise FormatError(
            f"{path}{where}: {key} = {detail['input']!r} cannot be read ({detail['msg']}); "
            "correct or remove the line"
        ) from error
    except ValueError as error:
        raise FormatError(
            f"{path}: its header has a line that is not 'key = value' ({error}); "
            "it is no mdoc, or correct the line"
        ) from error


def _holds_bad(line: str, key: str, detail: object) -> bool:
    assert isinstance(detail, dict)
    name, _, value = line.strip().strip("[]").partition("=")
    found = detail["input"]
    given = found.split() if isinstance(found, str) else [str(found)]
    return name.strip() == key and all(word in value.split() for word in given)


def _section(path: Path, data: MdocSectionData) -> MdocSection:
    kind, index = next(
        (kind, int(number)) for kind in _KINDS if (number := getattr(data, kind)) is not None
    )
    where = f"{path}, section [{kind} = {index}]"
    for name in ("ExposureDose", "PriorRecordDose"):
        value = getattr(data, name)
        if value is not None and value < 0:
            raise FormatError(f"{where}: {name} = {value} is negative; correct or remove the line")
    return MdocSection(
        kind=kind,
        index=index,
        tilt_angle=_finite(data.TiltAngle),
        exposure=_positive(data.ExposureDose),
        prior_dose=_finite(data.PriorRecordDose),
        time=None if data.DateTime is None else _time(where, data.DateTime),
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


def _tilt_axis(titles: tuple[str, ...], rotation_angle: float | None) -> float | None:
    axis = tilt_axis_from_titles(titles, _finite(rotation_angle))
    if axis is None and rotation_angle is not None and any("SerialEM" in t for t in titles):
        # A set of frames has no axis in its title; SerialEM's RotationAngle is the axis + 90.
        axis = rotation_angle - 90
    return None if axis is None else axis - 360 * round(axis / 360)


def _is_montage(mdoc: Mdoc) -> bool:
    # Not the key Montage: it is also set for tilt series of a single piece.
    pieces = (data.PieceCoordinates for data in mdoc.section_data)
    return any(piece is not None and piece[:2] != (0, 0) for piece in pieces)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and 0 < value < math.inf else None
