"""IMOD's ``.defocus``: what ctfplotter writes and ctfphaseflip reads, in all three versions.

A row is ``first last low high defocus [defocus2 angle] [phase [cut-on]]``: the range of views it
is of, counted from 1 in the whole stack, their tilt angles in degrees, and nm of defocus,
underfocus positive. The first row of version 2 has a 2 at its end; version 3 has a line
``flags 0 0.0 0.0 0.0 3`` above the rows, its flags the sum of

====  ==========================================================================================
1     a second defocus and the angle of astigmatism follow the first defocus
2     that angle is in radians, not in degrees
4     a phase shift follows
8     it is in radians, not in degrees
16    the tilt angles of the rows must be inverted to be those that IMOD works with
32    a cut-on frequency, 1/nm, follows the phase shift
====  ==========================================================================================

What is easily got wrong:

- Version 1 has no number at all, and may count views from 0: ctfplotter once did.
- Views that no row is of are interpolated by ctfphaseflip; a range stands for its middle view.
- The angle is the direction of the first defocus, the larger one as ctfplotter writes it,
  counter-clockwise from +x of the y-up image: ``(d1 + d2 + (d1 - d2) cos 2 (a - angle)) / 2`` is
  what ctfphaseflip computes, though Dynamo's wiki has it that the angle is the smaller one's.
  AreTomo3's ``_CTF_Imod.txt`` has the smaller one first, beside the larger one's angle.
- It belongs to the stack that ctfplotter looked at, which is the raw one: given the transforms
  (``-xform``), ctfphaseflip adds their rotation.
- ctfplotter may write a negative phase shift; IMOD's programs take its magnitude. With a cut-on
  frequency c the shift at the frequency f is ``shift (1 - exp(-f/c)) / (1 - exp(-0.3/c))``, all in
  1/nm.
- IMOD has defocus grow towards the right of the aligned image at positive tilt. Where it is the
  other way about its programs are run with inverted angles (``-invert``), which ctfplotter then
  writes: rows with the opposite of the angles in the ``.tlt`` are of such a series, as is flag 16.
  The rows say nothing else of the hand.

Sources: IMOD's manual pages of ``ctfphaseflip`` (option ``-defFn``) and ``ctfplotter``; Xiong et
al. 2009, https://doi.org/10.1016/j.jsb.2009.08.016; Mastronarde 2024,
https://doi.org/10.1016/j.jsb.2023.108057.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ConversionError, FormatError
from tomodask.io.imod_table import check_shape, parse_table, refuse_line, text_lines, write_table

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["DefocusFile", "read_defocus", "write_defocus"]

#: A to a nm.
_NANOMETRE = 10.0


class _Flag(IntFlag):
    ASTIGMATISM = 1
    ANGLE_IN_RADIANS = 2
    PHASE_SHIFT = 4
    PHASE_IN_RADIANS = 8
    INVERTED = 16
    CUT_ON = 32


@dataclass(frozen=True, slots=True, eq=False)
class DefocusFile:
    """The rows of a ``.defocus`` file.

    Attributes
    ----------
    first, last : ndarray of int64, shape (n,)
        Sections of the stack that a row is of, from 0; `last` is among them.
    low_angle, high_angle : ndarray of float64, shape (n,)
        Their tilt angles as in the file, degrees.
    defocus : ndarray of float64, shape (n, 2)
        A, underfocus positive, as in the file; the two are equal where it has one.
    astigmatism_angle : ndarray of float64, shape (n,), or None
        Direction of the first defocus, degrees; None where the file has no astigmatism.
    phase_shift : ndarray of float64, shape (n,), or None
        Degrees, with the sign that is in the file; None where it has none.
    cut_on_frequency : ndarray of float64, shape (n,), or None
        1/A; None where the file has none.
    inverted : bool
        Whether the angles must be inverted to be those that IMOD works with.
    version : int
        1, 2 or 3.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    low_angle: FloatArray
    high_angle: FloatArray
    defocus: FloatArray
    astigmatism_angle: FloatArray | None = None
    phase_shift: FloatArray | None = None
    cut_on_frequency: FloatArray | None = None
    inverted: bool = False
    version: int = 3


def read_defocus(path: str | PathLike[str]) -> DefocusFile:
    """Read a ``.defocus`` file of any version.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    DefocusFile

    Raises
    ------
    FormatError
        Names the line that cannot be read, or the version or flags that are not known.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    version, flags = _head(path, lines[0])
    start = 1 if version == 3 else 0
    body = lines[start:]
    if not body:
        raise FormatError(f"{path}: has no views; save the values in ctfplotter")
    if version == 2:
        body[0] = body[0].rstrip()[:-1]
    names = ["first", "last", "low", "high", "defocus"]
    if _Flag.ASTIGMATISM in flags:
        names += ["defocus2", "angle"]
    if _Flag.PHASE_SHIFT in flags:
        names.append("phase")
    if _Flag.CUT_ON in flags:
        names.append("cut-on")
    table = parse_table(path, body, names, first_line=start + 1)
    column = dict(zip(names, table.T, strict=True))
    views = table[:, :2]
    least = 0 if version == 1 else 1
    whole = (views == np.rint(views)).all(axis=1)
    bad = np.flatnonzero(~whole | (views[:, 0] < least) | (views[:, 1] < views[:, 0]))
    if len(bad):
        row = int(bad[0])
        wanted = f"{' '.join(names)}, with views from {least} and the last not before the first"
        refuse_line(path, start + 1 + row, body[row], wanted)
    # A version 1 that begins at 0 counts from there.
    sections = views.astype(np.int64) - (0 if views.min() == 0 else 1)
    second = column.get("defocus2", column["defocus"])
    angle, phase, cut_on = column.get("angle"), column.get("phase"), column.get("cut-on")
    if angle is not None and _Flag.ANGLE_IN_RADIANS in flags:
        angle = np.rad2deg(angle)
    if phase is not None and _Flag.PHASE_IN_RADIANS in flags:
        phase = np.rad2deg(phase)
    return DefocusFile(
        first=sections[:, 0],
        last=sections[:, 1],
        low_angle=column["low"],
        high_angle=column["high"],
        defocus=np.stack([column["defocus"], second], axis=1) * _NANOMETRE,
        astigmatism_angle=angle,
        phase_shift=phase,
        cut_on_frequency=None if cut_on is None else cut_on / _NANOMETRE,
        inverted=_Flag.INVERTED in flags,
        version=version,
    )


def write_defocus(path: str | PathLike[str], table: DefocusFile) -> None:
    """Write a ``.defocus`` file: version 2 where defocus is all there is, else version 3.

    Defocus is written to 0.1 A, the angles of astigmatism and phase to 0.001 degree, tilt angles to
    0.01 degree, cut-on frequencies to 0.0001/nm.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    table : DefocusFile
        Its `version` does not matter.

    Raises
    ------
    ConversionError
        A value is not finite or does not fit its column, or there are cut-on frequencies without
        phase shifts.
    DataError
        There are no rows.
    StoreError, SpaceError
        The file cannot be written.
    """
    nanometres = table.defocus / _NANOMETRE
    columns = [table.first + 1, table.last + 1, table.low_angle, table.high_angle, nanometres[:, 0]]
    formats = [(6, 0), (7, 0), (9, 2), (9, 2), (12, 2)]
    flags = _Flag.INVERTED if table.inverted else _Flag(0)
    if table.astigmatism_angle is not None:
        flags |= _Flag.ASTIGMATISM
        columns += [nanometres[:, 1], table.astigmatism_angle]
        formats += [(12, 2), (10, 3)]
    if table.phase_shift is not None:
        flags |= _Flag.PHASE_SHIFT
        columns.append(table.phase_shift)
        formats.append((10, 3))
    if table.cut_on_frequency is not None:
        if table.phase_shift is None:
            raise ConversionError(f"{path}: cut-on frequencies belong to phase shifts; give both")
        flags |= _Flag.CUT_ON
        columns.append(table.cut_on_frequency * _NANOMETRE)
        formats.append((10, 4))
    array: FloatArray = np.column_stack(columns).astype(np.float64)
    check_shape(path, array, (-1, len(columns)))
    write_table(
        path,
        array,
        formats,
        first=f"{int(flags)}\t0\t0.0\t0.0\t0.0\t3" if flags else "",
        after=() if flags else ("   2",),
    )


def _head(path: Path, line: str) -> tuple[int, _Flag]:
    """Return the version that the first line says, and the flags."""
    words = line.split()
    if len(words) == 5:
        return 1, _Flag(0)
    if len(words) != 6 or words[5] not in ("2", "3"):
        refuse_line(path, 1, line, "a row of 5 numbers, or 6 of which the last is the version 2, 3")
    if words[5] == "2":
        return 2, _Flag(0)
    known = sum(_Flag)
    if not words[0].isdigit() or int(words[0]) & ~known:
        raise FormatError(
            f"{path}, line 1: the flags {words[0]!r} are no sum of those that are known, "
            f"{[int(flag) for flag in _Flag]}; save the values without what else they stand for"
        )
    flags = _Flag(int(words[0]))
    if _Flag.CUT_ON in flags and _Flag.PHASE_SHIFT not in flags:
        raise FormatError(
            f"{path}, line 1: the flags {words[0]} have cut-on frequencies (32) without phase "
            "shifts (4), which IMOD does not read; correct them"
        )
    return 3, flags
