"""Lists and masks of a camera's defects.

**SerialEM's list** (also of IMOD's ``alignframes -defect`` and ``clip -D``): lines of a keyword and
numbers, ``BadColumns``, ``BadRows``, ``PartialBadColumn x width from to``, ``PartialBadRow``,
``BadPixels x y x y ...`` and ``UsableArea top left bottom right``, all counted from 0, the last one
included. Its rows count from the *top* of the image.

**MotionCor's list** (``-DefectFile``, also RELION's): lines ``x y width height``, counted from 0.
Its rows count from the bottom, as those of an MRC, since these programs turn TIFFs over when they
read them.

**Thermo Fisher's list**: XML in a tag of the ``.gain`` file, with elements ``row``
and ``col`` (``7`` or ``5-9``), ``area`` (``x,y,x,y``), ``point`` and ``nonmaskingpoint`` (``x,y``).
Its rows are those of the sensor, of which the first is the top.

**A mask**: an MRC or TIFF image that is not 0 at defects.

All are in the orientation of the movies. Where the list is of sensor pixels and the movies of
super-resolution, each defect covers its 2 x 2 or 4 x 4 pixels.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from tomodask.errors import DataError, FormatError
from tomodask.io.paths import readable
from tomodask.io.stack import open_stack, read_section
from tomodask.io.tiff import TIFF_SIGNATURES, decodable
from tomodask.kernels.gain import expand

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

__all__ = ["read_defects"]

#: A text is no longer than this.
_TEXT_BYTES = 10_000_000
#: Half of a camera is not defective: what says so is something else.
_MOST = 0.5
_KEYWORDS = {
    "CameraSizeX": 1,
    "CameraSizeY": 1,
    "RotationAndFlip": 1,
    "WasScaled": 1,
    "K2Type": 1,
    "FalconType": 1,
    "NumToAvgSuperRes": 1,
    "UsableArea": 4,
    "PartialBadColumn": 4,
    "PartialBadRow": 4,
    "BadPixels": 2,
    "BadColumns": 1,
    "BadRows": 1,
}


def read_defects(path: str | PathLike[str], shape: tuple[int, int]) -> Mask:
    """Read which pixels of a camera are defective.

    Parameters
    ----------
    path : path-like
        A list of SerialEM, MotionCor or Thermo Fisher, a ``.gain`` file that holds one, or a mask
        in MRC or TIFF; told by the content.
    shape : tuple of int
        (y, x) of the frames.

    Returns
    -------
    ndarray of bool, shape (y, x)
        True at defects, y up.

    Raises
    ------
    FormatError
        None of these, or not of these frames.
    StoreError
        The file does not exist or cannot be read.
    """
    path = Path(path).absolute()
    with readable(path), path.open("rb") as stream:
        begin = stream.read(_TEXT_BYTES)
    carried = _xml_of_gain(path) if begin[:4] in TIFF_SIGNATURES else None
    if carried is not None:
        mask = _expanded(path, _read_xml(path, *carried)[::-1], shape)
    elif b"\0" in begin[:1024]:
        mask = _read_mask(path, shape)
    else:
        mask = _read_text(path, begin.decode("latin-1"), shape)
    if mask.mean() > _MOST:
        raise FormatError(
            f"{path}: calls {mask.mean():.0%} of the pixels defective; it is not a list or mask of "
            "defects (0 is good), check the path"
        )
    return mask


def _read_mask(path: Path, shape: tuple[int, int]) -> Mask:
    info = open_stack(path)
    if info.shape[0] != 1:
        raise FormatError(f"{path}: holds {info.shape[0]} images; a mask of defects is one")
    return _expanded(path, read_section(info, 0) != 0, shape)


def _read_text(path: Path, text: str, shape: tuple[int, int]) -> Mask:
    lines = [line.split() for line in text.splitlines()]
    lines = [words for words in lines if words and not words[0].startswith("#")]
    if lines and lines[0][0] in _KEYWORDS:
        return _read_serialem(path, lines, shape)
    mask = np.zeros(shape, bool)
    for words in lines:
        numbers = _integers(path, words)
        if len(numbers) != 4:
            raise FormatError(
                f"{path}: the line {' '.join(words)!r} is neither 'x y width height' nor one of "
                "SerialEM's; write defects in one of these ways"
            )
        x, y, width, height = numbers
        _mark(path, mask, y, y + height, x, x + width)
    return mask


def _read_serialem(path: Path, lines: list[list[str]], shape: tuple[int, int]) -> Mask:
    entries: list[tuple[str, list[int]]] = []
    for name, *words in lines:
        numbers = _integers(path, words)
        unpaired = name == "BadPixels" and len(numbers) % 2
        if len(numbers) < _KEYWORDS.get(name, 0) or unpaired:
            raise FormatError(
                f"{path}: the line {' '.join([name, *words])!r} has too few numbers; "
                "copy the file again"
            )
        entries.append((name, numbers))
    single = {name: numbers[0] for name, numbers in entries if name in _KEYWORDS}
    try:
        size = single["CameraSizeY"], single["CameraSizeX"]
    except KeyError as error:
        raise FormatError(f"{path}: lacks {error}, the size of the camera; add it") from error
    # Coordinates that were scaled to super-resolution leave a pixel its former width.
    pixel = {0: 1, 1: 2, 2: 4}.get(max(single.get("WasScaled", 0), 0), 1)
    mask = np.zeros(size, bool)
    ny, nx = size
    for name, numbers in entries:
        match name:
            case "BadColumns":
                for x in numbers:
                    _mark(path, mask, 0, ny, x, x + 1)
            case "BadRows":
                for y in numbers:
                    _mark(path, mask, y, y + 1, 0, nx)
            case "PartialBadColumn":
                x, width, first, last = numbers[:4]
                _mark(path, mask, first, last + 1, x, x + width)
            case "PartialBadRow":
                y, height, first, last = numbers[:4]
                _mark(path, mask, y, y + height, first, last + 1)
            case "BadPixels":
                for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                    _mark(path, mask, y, y + pixel, x, x + pixel)
            case "UsableArea":
                top, left, bottom, right = numbers[:4]
                mask[:top] = True
                mask[:, :left] = True
                # 0 means that there is no bound.
                mask[bottom + 1 if bottom else ny :] = True
                mask[:, right + 1 if right else nx :] = True
    return _expanded(path, mask[::-1], shape)


def _read_xml(path: Path, xml: bytes, size: tuple[int, int]) -> Mask:
    """Return the mask of a Falcon's list, rows from the top."""
    try:
        root = ET.fromstring(xml.rstrip(b"\0"))
    except ET.ParseError as error:
        raise FormatError(
            f"{path}: its list of defects is not readable XML ({error}); copy it again"
        ) from error
    mask = np.zeros(size, bool)
    ny, nx = size
    for element in root.iter():
        numbers = _integers(path, re.split(r"[,\s-]+", (element.text or "").strip()))
        match element.tag, numbers:
            case "row", [first] | [first, _]:
                _mark(path, mask, first, numbers[-1] + 1, 0, nx)
            case "col", [first] | [first, _]:
                _mark(path, mask, 0, ny, first, numbers[-1] + 1)
            case "area", [x, y, x_last, y_last]:
                _mark(path, mask, y, y_last + 1, x, x_last + 1)
            case (("point" | "nonmaskingpoint"), [x, y]):
                _mark(path, mask, y, y + 1, x, x + 1)
            case (("row" | "col" | "area" | "point" | "nonmaskingpoint"), _):
                raise FormatError(
                    f"{path}: its list of defects has a {element.tag} of {element.text!r}; "
                    "copy it again"
                )
    return mask


def _xml_of_gain(path: Path) -> tuple[bytes, tuple[int, int]] | None:
    """Return the list that a TIFF carries in some tag, and the size of its image."""
    with decodable(path), tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        for tag in page.tags:
            value = tag.value.encode() if isinstance(tag.value, str) else tag.value
            if isinstance(value, bytes) and b"<defects" in value:
                return value, (page.imagelength, page.imagewidth)
    return None


def _integers(path: Path, words: list[str]) -> list[int]:
    try:
        return [int(word) for word in words if word]
    except ValueError as error:
        raise FormatError(
            f"{path}: {' '.join(words)!r} are not whole numbers, as places of defects are; check "
            "that it is a list of defects"
        ) from error


def _mark(path: Path, mask: Mask, y: int, y_end: int, x: int, x_end: int) -> None:
    """Mark a rectangle, which must lie on the camera."""
    ny, nx = mask.shape
    if not (0 <= y < y_end <= ny and 0 <= x < x_end <= nx):
        raise FormatError(
            f"{path}: has a defect at rows {y} to {y_end - 1}, columns {x} to {x_end - 1} of a "
            f"camera of {ny} x {nx} (y, x); check that it is of this camera, and its orientation"
        )
    mask[y:y_end, x:x_end] = True


def _expanded(path: Path, mask: Mask, shape: tuple[int, int]) -> Mask:
    try:
        return np.ascontiguousarray(expand(mask, shape))
    except DataError as error:
        raise FormatError(f"{path}: {error}") from error
