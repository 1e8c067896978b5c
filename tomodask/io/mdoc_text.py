"""The lines of an mdoc, made regular: one header, whole sections, numbers with decimal points.

SerialEM and each version of Tomography 5 write the format in their own way, and files are edited
and cut by hand. What is plain is put right here; what could mean two things is refused with its
line, because a wrong angle or dose is found by nobody.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tomodask.errors import FormatError
from tomodask.io.paths import readable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MdocText", "SectionKind", "SectionText", "read_mdoc_text"]

SectionKind = Literal["ZValue", "FrameSet", "MontSection"]

# The keys that are read, with what their value is: "f" a number, "i" a whole number, "*" any
# number of pairs (f, i), "t" text. Others, of which there are more each year, are left alone.
_FIELDS = {
    "Binning": "f",
    "CountsPerElectron": "f",
    "DateTime": "t",
    "Defocus": "f",
    "ExposureDose": "f",
    "ExposureTime": "f",
    "FrameDosesAndNumber": "*",
    "FrameDosesAndNumbers": "*",
    "FrameTSStartEndFrames": "ii",
    "GainReference": "t",
    "ImageFile": "t",
    "ImageSize": "ii",
    "MinMaxMean": "fff",
    "NumSubFrames": "i",
    "PieceCoordinates": "ffi",
    "PixelSpacing": "f",
    "PriorRecordDose": "f",
    "RotationAngle": "f",
    "RotationAndFlip": "i",
    "SubFramePath": "t",
    "TargetDefocus": "f",
    "TiltAngle": "f",
    "Voltage": "f",
}
#: Keys whose value belongs to one image, so that the header cannot speak for several.
_OF_ONE_IMAGE = ("TiltAngle", "SubFramePath", "DateTime", "PriorRecordDose")

_TITLE = re.compile(r"\[?\s*T\s*=\s*(.*?)\s*\]?\s*")
_SECTION = re.compile(r"\[?\s*(ZValue|FrameSet|MontSection)\s*=\s*([^\]]*?)\s*\]?\s*")
_ANY_SECTION = re.compile(r"\[[^=\]]*=[^\]]*\]")
_WHOLE = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_COMMA_NUMBER = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
# C and .NET print what is not known in these ways.
_NOT_KNOWN = re.compile(r"[-+]?(?:nan(?:\(\w+\))?|inf(?:inity)?|1\.#\w+)", re.IGNORECASE)
_TITLE_COMMA = re.compile(r"(?<==)(\s*[-+]?\d+),(\d+)(?=[\s,;]|$)")


@dataclass(frozen=True, slots=True)
class SectionText:
    """One section: its keys and their values, numbers as Python reads them.

    Attributes
    ----------
    kind : {"ZValue", "FrameSet", "MontSection"}
        What the section is of.
    index : int
        Its number.
    line : int
        Where it begins, from 1.
    values : dict
        Key to text; only keys that are read and have a value.
    """

    kind: SectionKind
    index: int
    line: int
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MdocText:
    """An mdoc as text.

    Attributes
    ----------
    titles : tuple of str
        The ``T`` lines, without brackets.
    header : dict
        What stands before the first section.
    sections : tuple of SectionText
        In file order.
    """

    titles: tuple[str, ...]
    header: dict[str, str]
    sections: tuple[SectionText, ...]


def read_mdoc_text(path: Path) -> MdocText:
    """Read the lines of an mdoc.

    Parameters
    ----------
    path : Path
        The file: UTF-8 or the code page of Western Windows, with any line ends.

    Returns
    -------
    MdocText

    Raises
    ------
    FormatError
        Not an mdoc, or a line that cannot be read or could mean two things; says which.
    StoreError
        The file cannot be read.
    """
    titles: list[str] = []
    header: dict[str, str] = {}
    sections: list[SectionText] = []
    values: dict[str, str] | None = header
    known_at: dict[str, int] = {}
    for number, raw in enumerate(_text(path).splitlines(), 1):
        line = raw.strip()
        where = f"{path}, line {number}"
        if match := _SECTION.fullmatch(line):
            if not _WHOLE.fullmatch(match[2]):
                raise FormatError(f"{where}: {line!r} has no whole number; correct the line")
            kind: SectionKind = match[1]  # type: ignore[assignment]  # as the pattern has it
            sections.append(SectionText(kind, int(match[2]), number))
            values, known_at = sections[-1].values, {}
        elif match := _TITLE.fullmatch(line):
            titles.append(_TITLE_COMMA.sub(r"\1.\2", match[1]))
        elif _ANY_SECTION.fullmatch(line):
            values = None  # a section of something else: its keys are not the last image's
        elif values is not None:
            key, equals, value = (part.strip() for part in line.partition("="))
            if not equals and not sections and line.strip("]"):
                raise FormatError(
                    f"{where}: {line!r} is not 'key = value'; it is no mdoc, or correct the line"
                )
            regular = _regular(where, key, value) if key in _FIELDS else ""
            if regular and values.setdefault(key, regular) != regular:
                raise FormatError(
                    f"{where}: {key} = {value!r}, but {values[key]!r} on line {known_at[key]}; "
                    "remove the wrong one"
                )
            known_at.setdefault(key, number)
    if not sections:
        raise FormatError(
            f"{path}: has no section ([ZValue = 0], [FrameSet = 0]); it is no mdoc, or empty"
        )
    _give_header(path, header, sections)
    return MdocText(tuple(titles), header, tuple(sections))


def _text(path: Path) -> str:
    with readable(path):
        data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    data = data.rstrip(b"\0")  # what some file servers leave of a write that did not finish
    if b"\0" in data:
        raise FormatError(f"{path}: is not a text file; give the .mdoc, not the images")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Windows writes units such as the micro sign in its own code page.
        return data.decode("cp1252", errors="replace")


def _regular(where: str, key: str, value: str) -> str:
    """Return a value with decimal points, "" where it is not known; refuse what is no value."""
    kinds = _FIELDS[key]
    words = value.split()
    if kinds == "t":
        return value
    if not words or any(_NOT_KNOWN.fullmatch(word) for word in words):
        return ""
    if kinds == "*":
        kinds = "fi" * max(1, len(words) // 2)
    if len(words) != len(kinds):
        raise FormatError(
            f"{where}: {key} = {value!r} cannot be read ({len(kinds)} "
            f"number{'s' * (len(kinds) > 1)} expected, {len(words)} found); "
            "correct or remove the line"
        )
    return " ".join(
        _number(where, key, word, whole=kind == "i")
        for word, kind in zip(words, kinds, strict=True)
    )


def _number(where: str, key: str, word: str, *, whole: bool) -> str:
    if (_WHOLE if whole else _NUMBER).fullmatch(word):
        return word
    if not whole and _COMMA_NUMBER.fullmatch(word):
        return word.replace(",", ".")
    why = (
        "its comma may part decimals, thousands or values: write decimal points"
        if "," in word
        else f"not a {'whole ' * whole}number: correct or remove the line"
    )
    raise FormatError(f"{where}: {key} = {word!r} cannot be read; {why}")


def _give_header(path: Path, header: dict[str, str], sections: list[SectionText]) -> None:
    """Give the sections what the header says of all of them."""
    last = sections[-1]
    for key, value in header.items():
        if len(sections) > 1 and key in _OF_ONE_IMAGE:
            if key not in last.values:
                # Each such key then stands before its section, and would be read with another.
                raise FormatError(
                    f"{path}: {key} = {value!r} stands before the first of {len(sections)} "
                    f"sections and is missing in the last ([{last.kind} = {last.index}]); "
                    "put each key below the line of its section"
                )
            continue
        for section in sections:
            section.values.setdefault(key, value)
