"""Tables of CTFFIND 4 and 5, and AreTomo's ``_CTF.txt``, which has their columns.

A row is ``number defocus1 defocus2 azimuth phase score spacing``: the micrograph from 1, A with
underfocus positive, the direction of defocus 1 in degrees counter-clockwise from +x, radians, a
correlation, and A to which rings could be followed. CTFFIND 5 adds the axis and the angle of tilt
that it found, degrees, and the thickness, A; AreTomo3 adds the hand (``dfHand``). Lines before
begin with ``#``; CTFFIND's say the microscope, AreTomo's only what the columns are.

What is easily got wrong:

- CTFFIND's numbers are sections of its stack. AreTomo's count all images, dark ones among them, by
  rising tilt angle, from 1 (its reader takes 0 as well).
- The phase shift is in radians, other angles are in degrees.
- Both take the rows of an MRC image as they lie, the first at the bottom:
  ``(d1 + d2 + (d1 - d2) cos 2 (a - azimuth)) / 2``.
- The score of a bad fit may be negative, the spacing infinite.
- AreTomo3's hand: a place at the height ``-x tan(tilt)``, x across its own tilt axis, has the
  defocus of the view plus dfHand times that height. +1 is where +x is less defocused at positive
  tilt. Where it found -1, AreTomo3 may turn the axis by 180 degrees and write +1: dfHand goes with
  the ROT of the ``.aln`` beside it. Some converters take it the other way about.

Sources: Rohou & Grigorieff 2015, https://doi.org/10.1016/j.jsb.2015.08.008; Elferich et al. 2024,
https://doi.org/10.7554/eLife.97227; AreTomo3 (BSD-3), ``CSaveCtfResults.cpp``,
``CLoadCtfResults.cpp``, ``CTiltInducedZ.cpp`` and ``CGenAvgSpectrum.cpp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomodask.errors import ConversionError, FormatError
from tomodask.io.imod_table import number, refuse_line, text_lines, write_lines

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["CtffindTable", "read_ctffind", "write_ctffind"]

_COLUMNS = ("number", "defocus1", "defocus2", "azimuth", "phase", "score", "spacing")
_MEASURED = len(_COLUMNS) - 2  # from here on a value need not be finite
_EXTRA = {7: (), 8: ("dfHand",), 10: ("tilt axis", "tilt", "thickness")}
_HEADER = {
    "count": r"Number of micrographs:\s*(\S+)",
    "pixel_size": r"Pixel size:\s*(\S+)",
    "voltage": r"acceleration voltage:\s*(\S+)",
    "spherical_aberration": r"spherical aberration:\s*(\S+)",
    "amplitude_contrast": r"amplitude contrast:\s*(\S+)",
}
_NAMES = (
    "#2 - defocus 1 [{0}]; #3 - defocus 2; #4 - azimuth of astigmatism; #5 - additional phase "
    "shift [{1}]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF rings were "
    "fit successfully"
)
_NAMES_5 = (
    "; #8 - Estimated tilt axis angle; #9 - Estimated tilt angle; #10 - Estimated sample thickness "
    "(in Angstroms)"
)


@dataclass(frozen=True, slots=True, eq=False)
class CtffindTable:
    """What CTFFIND or AreTomo found of each image.

    Attributes
    ----------
    image : ndarray of int64, shape (n,)
        From 0: the section of the stack, or of AreTomo the place by rising tilt angle.
    defocus : ndarray of float64, shape (n, 2)
        A, underfocus positive.
    astigmatism_angle : ndarray of float64, shape (n,)
        Direction of the first defocus, degrees counter-clockwise from +x.
    phase_shift : ndarray of float64, shape (n,)
        Degrees.
    score : ndarray of float64, shape (n,)
        As the program found it; not finite where it found none.
    fit_resolution : ndarray of float64, shape (n,)
        A; not finite where the program found none.
    program : {"ctffind", "aretomo"}
        Whose table it is, which says how images are counted.
    images : int
        How many there are, in the file or as its header says.
    handedness : int
        AreTomo's dfHand, +1 or -1; 0 where it says nothing.
    tilt_axis_angle, tilt_angle, thickness : ndarray of float64, shape (n,), or None
        What CTFFIND 5 found: degrees, degrees and A.
    pixel_size : float or None
        A.
    voltage : float or None
        kV.
    spherical_aberration : float or None
        mm.
    amplitude_contrast : float or None
        Fraction.
    """

    image: NDArray[np.int64]
    defocus: FloatArray
    astigmatism_angle: FloatArray
    phase_shift: FloatArray
    score: FloatArray
    fit_resolution: FloatArray
    program: Literal["ctffind", "aretomo"]
    images: int
    handedness: int = 0
    tilt_axis_angle: FloatArray | None = None
    tilt_angle: FloatArray | None = None
    thickness: FloatArray | None = None
    pixel_size: float | None = None
    voltage: float | None = None
    spherical_aberration: float | None = None
    amplitude_contrast: float | None = None


def read_ctffind(path: str | PathLike[str]) -> CtffindTable:
    """Read a table of CTFFIND 4 or 5, or AreTomo's ``_CTF.txt``.

    Parameters
    ----------
    path : path-like
        The file with one row an image, not the one with the radial averages.

    Returns
    -------
    CtffindTable

    Raises
    ------
    FormatError
        Names the line that cannot be read, or the images that come twice.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    head = [line for line in lines if line.startswith("#")]
    body = [(place, line) for place, line in enumerate(lines, 1) if not line.startswith("#")]
    if not body:
        raise FormatError(f"{path}: has no rows; the program did not finish")
    count = len(body[0][1].split())
    if count not in _EXTRA:
        place, line = body[0]
        wanted = f"{' '.join(_COLUMNS)}, and dfHand or tilt axis, tilt and thickness"
        refuse_line(path, place, line, wanted)
    table = _numbers(path, body, (*_COLUMNS, *_EXTRA[count]))
    known = _known(path, head)
    title = " ".join(head)
    program: Literal["ctffind", "aretomo"] = (
        "aretomo"
        if "dfHand" in _EXTRA[count] or ("#1 micrograph" in title and "CTFFind" not in title)
        else "ctffind"
    )
    image = table[:, 0].astype(np.int64)
    if program == "ctffind" and image.min() == 0:
        raise FormatError(f"{path}: has an image 0, CTFFIND counts from 1; number the rows so")
    if image.min() > 0:
        image -= 1
    images, times = np.unique(image, return_counts=True)
    if (times > 1).any():
        raise FormatError(
            f"{path}: image {table[image == images[times > 1][0], 0][0]:g} has several rows; keep "
            "one, or write the table again"
        )
    found = dict(zip(_EXTRA[count], table[:, len(_COLUMNS) :].T, strict=True))
    total = known.pop("count")
    return CtffindTable(
        image=image,
        defocus=table[:, 1:3],
        astigmatism_angle=table[:, 3],
        phase_shift=np.rad2deg(table[:, 4]),
        score=table[:, 5],
        fit_resolution=table[:, 6],
        program=program,
        images=max(int(image.max()) + 1, int(total or 0)),
        handedness=_handedness(path, body, found.get("dfHand")),
        tilt_axis_angle=found.get("tilt axis"),
        tilt_angle=found.get("tilt"),
        thickness=found.get("thickness"),
        **known,
    )


def write_ctffind(path: str | PathLike[str], table: CtffindTable) -> None:
    """Write a table in CTFFIND's columns and digits, or in AreTomo's where it is of AreTomo.

    AreTomo's have 0.01 A and degree, and 0.0001 radian, score and A; CTFFIND's have 6 decimals.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    table : CtffindTable
        With all of tilt axis, tilt and thickness, or with none.

    Raises
    ------
    ConversionError
        A defocus, angle or phase shift is not finite.
    StoreError, SpaceError
        The file cannot be written.
    """
    path = Path(path).absolute()
    columns = [table.image + 1, *table.defocus.T, table.astigmatism_angle]
    columns += [np.deg2rad(table.phase_shift), table.score, table.fit_resolution]
    extra = [table.tilt_axis_angle, table.tilt_angle, table.thickness]
    if table.program == "aretomo":
        lines = ["# Columns: #1 micrograph number; " + _NAMES.format("A", "radian")]
        if table.handedness:
            lines[0] += "; #8 - dfHand"
            columns.append(np.full(len(table.image), table.handedness))
        row = "{:4.0f}   {:8.2f}  {:8.2f}  {:8.2f}  {:9.4f}  {:8.4f}  {:8.4f}  {:3.0f}"
        row = row[: len(row) if table.handedness else row.rindex("  {")]
    else:
        lines = _microscope(table)
        lines.append("# Columns: #1 - micrograph number; " + _NAMES.format("Angstroms", "radians"))
        for values in extra:
            if values is not None:
                columns.append(values)
        lines[-1] += _NAMES_5 if len(columns) > len(_COLUMNS) else ""
        row = " ".join(["{:f}"] * len(columns))
    array: FloatArray = np.column_stack(columns).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array[:, :_MEASURED]).all(axis=1))
    if len(bad):
        raise ConversionError(
            f"{path}: image {table.image[bad[0]]} has no defocus: leave it out, or estimate it"
        )
    write_lines(path, lines + [row.format(*values) for values in array])


def _numbers(path: Path, body: list[tuple[int, str]], columns: tuple[str, ...]) -> FloatArray:
    """Return the numbers of numbered lines; what was measured may be infinite or nan."""
    table = np.empty((len(body), len(columns)))
    for row, (place, line) in enumerate(body):
        words = line.split()
        values = [number(word) for word in words[:_MEASURED]]
        values += [_measured(word) for word in words[_MEASURED:]]
        whole = values[0] is not None and values[0] == int(values[0]) and values[0] >= 0
        if len(values) != len(columns) or None in values or not whole:
            refuse_line(path, place, line, " ".join(columns))
        table[row] = values
    return table


def _measured(word: str) -> float | None:
    if word.lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return float(word)
    return number(word)


def _known(path: Path, head: list[str]) -> dict[str, float | None]:
    """Return what the header says of the images and the microscope."""
    known: dict[str, float | None] = dict.fromkeys(_HEADER)
    for name, pattern in _HEADER.items():
        for line in head:
            if match := re.search(pattern, line):
                known[name] = number(match[1])
                if known[name] is None:
                    raise FormatError(
                        f"{path}: the {name.replace('_', ' ')} in its header, {match[1]!r}, is no "
                        "number; correct it"
                    )
    return known


def _handedness(path: Path, body: list[tuple[int, str]], column: FloatArray | None) -> int:
    if column is None:
        return 0
    odd = np.flatnonzero(~np.isin(column, (-1, 0, 1)) | (column != column[0]))
    if len(odd):
        place, line = body[int(odd[0])]
        refuse_line(path, place, line, "a row whose dfHand is -1 or 1 as in all others")
    return int(column[0])


def _microscope(table: CtffindTable) -> list[str]:
    """Return the lines of CTFFIND's header that are known."""
    lines = [
        "# Output from tomodask, in the columns of CTFFind",
        f"# Number of micrographs: {table.images}",
    ]
    words = [
        text.format(value)
        for text, value in (
            ("Pixel size: {:.6g} Angstroms", table.pixel_size),
            ("acceleration voltage: {:.6g} keV", table.voltage),
            ("spherical aberration: {:.6g} mm", table.spherical_aberration),
            ("amplitude contrast: {:.6g}", table.amplitude_contrast),
        )
        if value is not None
    ]
    return [*lines, "# " + " ; ".join(words)] if words else lines
