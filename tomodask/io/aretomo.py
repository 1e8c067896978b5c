"""AreTomo's alignments (``.aln``): what versions 1.2, 1.3, 2 and 3 write, read and written.

A view is ``raw - centre = R(ROT) aligned + (TX, TY)``, in pixels of the raw images, R turning
counter-clockwise; TILT is the nominal angle with the offset alpha added. Rows count the images that
are not dark, by rising tilt angle: SEC goes from 0 in AreTomo 1 and 2, from 1 in AreTomo3, and is
no index into the raw stack where there are dark images. Dark images are given by their index in
the whole stack in order of tilt, from 0 in every version. AreTomo takes the rows of an MRC image
as IMOD does, the first at the bottom.

Conversions to and from `Projection` are in `aretomo_projection`.

Local alignment is measured, not modelled: for every row and patch, the place of the patch's centre
from the image centre after (TX, TY) is removed, not turned, and how far its content is from
there.

Sources: AreTomo3 (BSD-3), ``CSaveXF.cpp`` and ``CDarkFrames.cpp``, and AreTomo2 (BSD-3),
``CSaveAlnFile.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ConversionError, FormatError
from tomodask.io.imod_table import number, parse_table, refuse_line, text_lines, write_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["AreTomoAlignment", "DarkFrame", "LocalShifts", "read_aln", "write_aln"]

_COLUMNS = ("SEC", "ROT", "GMAG", "TX", "TY", "SMEAN", "SFIT", "SCALE", "BASE", "TILT")
_LOCAL_COLUMNS = ("t", "p", "cx", "cy", "sx", "sy", "good")
_TITLE = "# AreTomo Alignment / Priims bprmMn"


@dataclass(frozen=True, slots=True)
class DarkFrame:
    """An image that AreTomo left out.

    Attributes
    ----------
    view : int
        Index in the stack in order of rising tilt angle, from 0.
    section : int
        As in the file: the image's place in the stack as it was, where AreTomo knew it.
    tilt_angle : float
        Degrees.
    """

    view: int
    section: int
    tilt_angle: float


@dataclass(frozen=True, slots=True, eq=False)
class LocalShifts:
    """What AreTomo measured in patches.

    Attributes
    ----------
    row : ndarray of int64, shape (n,)
        Position among the views that are not dark, from 0.
    patch : ndarray of int64, shape (n,)
        From 0.
    centre : ndarray of float64, shape (n, 2)
        (x, y) from the image centre, the view's shift removed and its rotation not, pixels.
    shift : ndarray of float64, shape (n, 2)
        (x, y), pixels.
    good : ndarray of bool, shape (n,)
        Whether AreTomo trusts the measurement.
    """

    row: NDArray[np.int64]
    patch: NDArray[np.int64]
    centre: NDArray[np.float64]
    shift: NDArray[np.float64]
    good: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class AreTomoAlignment:
    """An alignment as AreTomo holds it: of k views that are not dark.

    Attributes
    ----------
    view : ndarray of int64, shape (k,)
        Index in the stack in order of rising tilt angle, from 0.
    tilt_angle : ndarray of float64, shape (k,)
        Degrees, `alpha_offset` included.
    rotation : ndarray of float64, shape (k,)
        ROT, degrees counter-clockwise from +y.
    magnification : ndarray of float64, shape (k,)
        GMAG; AreTomo writes 1.
    shift : ndarray of float64, shape (k, 2)
        (TX, TY), pixels.
    image_size : tuple of int or None
        (x, y), pixels; version 1.2 does not say.
    dark : tuple of DarkFrame
        The views left out.
    first_section : int
        What SEC is of the first row: 1 of AreTomo3, 0 before.
    alpha_offset, beta_offset : float or None
        Degrees; None of versions that do not write them.
    thickness : int or None
        Of the specimen, pixels.
    local : LocalShifts or None
    """

    view: NDArray[np.int64]
    tilt_angle: NDArray[np.float64]
    rotation: NDArray[np.float64]
    magnification: NDArray[np.float64]
    shift: NDArray[np.float64]
    image_size: tuple[int, int] | None = None
    dark: tuple[DarkFrame, ...] = ()
    first_section: int = 1
    alpha_offset: float | None = None
    beta_offset: float | None = None
    thickness: int | None = None
    local: LocalShifts | None = None


def read_aln(path: str | PathLike[str]) -> AreTomoAlignment:
    """Read an alignment of AreTomo.

    Parameters
    ----------
    path : path-like
        The ``.aln`` file of any version from 1.2.

    Returns
    -------
    AreTomoAlignment

    Raises
    ------
    FormatError
        Names the line that cannot be read, or the counts that do not match.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    header, dark, body, local = _sections(path, lines)
    if not body:
        raise FormatError(f"{path}: has no views; AreTomo did not finish")
    table = parse_table(path, [line for _, line in body], _COLUMNS, first_line=body[0][0])
    section = table[:, 0].astype(np.int64)
    first = int(section[0])
    if first not in (0, 1) or not np.array_equal(section, first + np.arange(len(section))):
        raise FormatError(
            f"{path}: SEC runs {section[0]} to {section[-1]} in {len(section)} rows; AreTomo "
            "counts on from 0 or 1: restore the rows that were removed"
        )
    size = header.get("RawSize") or header.get("count")
    views = int(size[-1]) if size else len(table) + len(dark)
    if views != len(table) + len(dark) or not {d.view for d in dark} <= set(range(views)):
        raise FormatError(
            f"{path}: announces {views} images and has {len(table)} rows and {len(dark)} dark "
            "images: it is cut short or was edited; write it again"
        )
    patches = int(header.get("NumPatches", (0,))[0])
    shifts = _local(path, local, len(table), patches) if local else None
    if patches and shifts is None:
        raise FormatError(
            f"{path}: announces {patches} patches and has no local alignment: it is cut short; "
            "write it again"
        )
    return AreTomoAlignment(
        view=np.setdiff1d(np.arange(views), [d.view for d in dark]),
        tilt_angle=table[:, 9],
        rotation=table[:, 1],
        magnification=table[:, 2],
        shift=table[:, 3:5],
        image_size=(int(size[0]), int(size[1])) if size and len(size) == 3 else None,
        dark=tuple(dark),
        first_section=first,
        alpha_offset=header["AlphaOffset"][0] if "AlphaOffset" in header else None,
        beta_offset=header["BetaOffset"][0] if "BetaOffset" in header else None,
        thickness=int(header["Thickness"][0]) if "Thickness" in header else None,
        local=shifts,
    )


def write_aln(path: str | PathLike[str], alignment: AreTomoAlignment) -> None:
    """Write an alignment in AreTomo's columns: shifts to 0.001 pixel, tilt to 0.01 degree.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    alignment : AreTomoAlignment
        With an image size.

    Raises
    ------
    ConversionError
        The image size is not known, or a value is not finite or does not fit its column.
    StoreError, SpaceError
        The file cannot be written.
    """
    path = Path(path).absolute()
    if alignment.image_size is None:
        raise ConversionError(f"{path}: the size of the images is not known; give it")
    local = alignment.local
    patches = 0 if local is None else int(local.patch.max(initial=-1)) + 1
    x, y = alignment.image_size
    lines = [
        _TITLE,
        f"# RawSize = {x} {y} {len(alignment.view) + len(alignment.dark)}",
        f"# NumPatches = {patches}",
        *(
            f"# DarkFrame =  {frame.view:4d} {frame.section:4d} {frame.tilt_angle:z8.2f}"
            for frame in alignment.dark
        ),
    ]
    for name, offset in (
        ("AlphaOffset", alignment.alpha_offset),
        ("BetaOffset", alignment.beta_offset),
    ):
        if offset is not None:
            lines.append(f"# {name} = {offset:z8.2f}")
    if alignment.thickness is not None:
        lines.append(f"# Thickness = {alignment.thickness}")
    lines.append(
        "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE"
        "     TILT"
    )
    rows = zip(
        alignment.rotation,
        alignment.magnification,
        alignment.shift,
        alignment.tilt_angle,
        strict=True,
    )
    for row, (rotation, magnification, shift, tilt) in enumerate(rows):
        _check_fits(path, row, (rotation, magnification, *shift, tilt))
        lines.append(
            f"{alignment.first_section + row:5d}  {rotation:z9.4f}  {magnification:9.5f}  "
            f"{shift[0]:z9.3f}  {shift[1]:z9.3f}  {1:7.2f}  {1:7.2f}  {1:7.2f}  {0:7.2f}  "
            f"{tilt:z8.2f}"
        )
    if local is not None:
        lines.append("# Local Alignment")
        for row, patch, centre, shift, good in zip(
            local.row, local.patch, local.centre, local.shift, local.good, strict=True
        ):
            _check_fits(path, row, (*centre, *shift))
            lines.append(
                f"{row:4d} {patch:3d} {centre[0]:8.2f}  {centre[1]:8.2f}  {shift[0]:8.2f}  "
                f"{shift[1]:8.2f}  {float(good):4.1f}"
            )
    write_lines(path, lines)


def _sections(
    path: Path, lines: list[str]
) -> tuple[
    dict[str, tuple[float, ...]], list[DarkFrame], list[tuple[int, str]], list[tuple[int, str]]
]:
    """Return the header's numbers, dark images, and the numbered lines of the two tables."""
    if not lines[0].startswith("# AreTomo"):
        refuse_line(path, 1, lines[0], _TITLE)
    header: dict[str, tuple[float, ...]] = {}
    dark: list[DarkFrame] = []
    body: list[tuple[int, str]] = []
    local: list[tuple[int, str]] = []
    table = body
    for place, line in enumerate(lines[1:], 2):
        if not line.startswith("#"):
            table.append((place, line))
            continue
        name, _, text = line[1:].partition("=")
        name = name.strip()
        if name.startswith("SEC"):
            continue
        if name.lower() == "local alignment":
            table = local
            continue
        words = text.split() if text else name.split()
        values = [number(word) for word in words]
        if text and name == "DarkFrame":
            if len(values) != 3 or None in values:
                refuse_line(path, place, line, "# DarkFrame = index section tilt")
            dark.append(DarkFrame(int(values[0] or 0), int(values[1] or 0), float(values[2] or 0)))
        elif values and None not in values:
            # Version 1.2 has the counts of images and patches, without names.
            found = tuple(float(value) for value in values if value is not None)
            if text:
                header[name] = found
            else:
                header |= {"count": found[:1], "NumPatches": found[1:2] or (0.0,)}
        elif text and name in ("RawSize", "NumPatches", "AlphaOffset", "BetaOffset", "Thickness"):
            refuse_line(path, place, line, f"# {name} = number")
    return header, dark, body, local


def _local(path: Path, lines: list[tuple[int, str]], rows: int, patches: int) -> LocalShifts:
    table = parse_table(path, [text for _, text in lines], _LOCAL_COLUMNS, first_line=lines[0][0])
    if len(table) != rows * patches or (table[:, 0] >= rows).any():
        raise FormatError(
            f"{path}: has {len(table)} rows of local alignment, {patches} patches in {rows} views "
            f"make {rows * patches}: it is cut short or was edited; write it again"
        )
    return LocalShifts(
        row=table[:, 0].astype(np.int64),
        patch=table[:, 1].astype(np.int64),
        centre=table[:, 2:4],
        shift=table[:, 4:6],
        good=table[:, 6] > 0,
    )


def _check_fits(path: Path, row: int, values: Iterable[float]) -> None:
    for value in values:
        if not np.isfinite(value) or abs(value) >= 99999:
            raise ConversionError(
                f"{path}, row {row}: the value {value} does not fit its column; correct it, or "
                "leave the view out"
            )
