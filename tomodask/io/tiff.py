"""TIFF stacks: multi-page files, and ImageJ's and OME's three-dimensional ones.

A TIFF's first row is the top of the image. Rows are flipped on reading, as IMOD, SerialEM and
MotionCor2 do, so that row 0 is the bottom as in an MRC file.
"""

from __future__ import annotations

import logging
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from tomodask.errors import FormatError
from tomodask.io.paths import readable
from tomodask.io.stack_info import StackInfo, read_contiguous_section

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TIFF_SIGNATURES", "decodable", "open_tiff", "read_tiff_pages", "read_tiff_section"]

# It logs what it finds wrong in a file before it goes on; here that is an error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

TIFF_SIGNATURES = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
# What tifffile, its codecs and the XML parser raise on bytes that make no sense.
_CORRUPT = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    RuntimeError,
    AssertionError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    ET.ParseError,
)
_DTYPES = {"uint8", "int16", "uint16", "float32"}
_EER_COMPRESSIONS = range(65000, 65003)
_ANGSTROMS = {
    "a": 1.0,
    "å": 1.0,
    "angstrom": 1.0,
    "nm": 10.0,
    "nanometer": 10.0,
    "um": 1e4,
    "µm": 1e4,
    "μm": 1e4,
    "micron": 1e4,
    "micrometer": 1e4,
    "mm": 1e7,
    "cm": 1e8,
    "m": 1e10,
}
_TAG_ANGSTROMS = {2: 2.54e8, 3: 1e8}  # the ResolutionUnit tag's inch and centimetre


def open_tiff(path: Path) -> StackInfo:
    """Read the page directories of a TIFF and check that its pixels are all there.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    StackInfo
        `data_offset` is set when the pages lie plainly one after the other.

    Raises
    ------
    FormatError
        Corrupt, truncated, compressed in a way that cannot be read here, or not a stack of grey
        images of one size.
    StoreError
        The file cannot be read.
    """
    with decodable(path), tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        shape = _stack_shape(path, tif)
        page = tif.pages.first
        if page.compression in _EER_COMPRESSIONS:
            raise FormatError(f"{path}: is an EER movie, not a stack; import it as a movie")
        if series.dtype is None or series.dtype.name not in _DTYPES:
            raise FormatError(
                f"{path}: has pixels of type {series.dtype}; "
                f"convert them to one of {', '.join(sorted(_DTYPES))}"
            )
        _check_codec(path, page)
        _check_complete(path, tif, shape)
        return StackInfo(
            path=path,
            format="tiff",
            shape=shape,
            dtype=series.dtype.newbyteorder(tif.byteorder),
            data_offset=series.dataoffset,
            pixel_size=_pixel_size(tif),
        )


def read_tiff_section(info: StackInfo, index: int) -> NDArray[Any]:
    """Read one page as stored, flipped so that row 0 is the bottom of the image.

    Parameters
    ----------
    info : StackInfo
        From `open_tiff`.
    index : int
        Section, from 0.

    Returns
    -------
    ndarray, shape (y, x)
        A view with reversed rows; pixels of type `info.dtype`.

    Raises
    ------
    FormatError
        The page cannot be decoded.
    StoreError
        The file cannot be read.
    """
    return next(read_tiff_pages(info, [index]))


def read_tiff_pages(info: StackInfo, indices: Iterable[int]) -> Iterator[NDArray[Any]]:
    """Read pages one after the other, the directories once: what `read_tiff_section` reads.

    Parameters
    ----------
    info : StackInfo
        From `open_tiff`.
    indices : iterable of int
        Sections, from 0.

    Yields
    ------
    ndarray, shape (y, x)
        As of `read_tiff_section`.

    Raises
    ------
    FormatError
        A page cannot be decoded.
    StoreError
        The file cannot be read.
    """
    if info.data_offset is not None:
        for index in indices:
            yield read_contiguous_section(info, index)[::-1]
        return
    with decodable(info.path), tifffile.TiffFile(info.path) as tif:
        pages = tif.series[0].pages
        for index in indices:
            page = pages[index]
            assert page is not None
            yield page.asarray(maxworkers=1).reshape(info.shape[1:])[::-1]


@contextmanager
def decodable(path: Path) -> Iterator[None]:
    """Name the file in whatever tifffile and the codecs raise on corrupt bytes.

    Parameters
    ----------
    path : Path
        The file that the block reads.

    Raises
    ------
    FormatError, StoreError
        Instead of what was raised.
    """
    with readable(path):
        try:
            yield
        except FormatError:
            raise
        except _CORRUPT as error:
            raise FormatError(
                f"{path}: is not a readable TIFF ({str(error) or type(error).__name__}); it is "
                "corrupt or truncated, copy it again"
            ) from error


def _stack_shape(path: Path, tif: tifffile.TiffFile) -> tuple[int, int, int]:
    series = tif.series[0]
    shape = series.shape
    stacked = [n for n in shape[:-2] if n > 1]
    page = tif.pages.first
    if page.samplesperpixel > 1 or len(shape) < 2 or len(stacked) > 1:
        raise FormatError(
            f"{path}: is an image of axes {series.axes} and shape {shape}, not a stack of grey "
            "images; split its channels or times first"
        )
    if any(other.shape[-2:] != shape[-2:] or other.dtype != series.dtype for other in tif.series):
        shapes = sorted({other.shape for other in tif.series})
        raise FormatError(
            f"{path}: its pages differ in size or type {shapes}; write each kind to its own file"
        )
    if len(tif.series) > 1:
        raise FormatError(
            f"{path}: holds {len(tif.series)} separate images, not one stack; "
            "write each to its own file"
        )
    return (stacked[0] if stacked else 1), shape[-2], shape[-1]


def _check_codec(path: Path, page: tifffile.TiffPage) -> None:
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        name = getattr(page.compression, "name", page.compression)
        raise FormatError(
            f"{path}: its pages are compressed ({name}), which needs the package imagecodecs; "
            "install it (pip install imagecodecs), or write the file without compression"
        ) from error


def _check_complete(path: Path, tif: tifffile.TiffFile, shape: tuple[int, int, int]) -> None:
    """Refuse a file shorter than its directories say.

    tifffile only logs a broken chain of directories and goes on with the pages before the break,
    so a truncated tilt series would be read as a shorter one.
    """
    size = tif.filehandle.size
    series = tif.series[0]
    if series.dataoffset is not None:
        end = series.dataoffset + series.nbytes
    else:
        end = max(
            (start + count)
            for page in series.pages
            if page is not None
            for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
    if end > size or _next_directory(tif) != 0 or len(series.pages) not in {1, shape[0]}:
        raise FormatError(
            f"{path}: has {size} bytes, but its page directories point beyond them "
            f"({shape[0]} pages of {shape[2]} x {shape[1]} were found): it is truncated; "
            "copy it again, or wait until it is written"
        )
    expected = _promised_pages(tif)
    if expected is not None and expected != shape[0]:
        raise FormatError(
            f"{path}: its description promises {expected} pages, which were not all found: "
            "it is truncated; copy it again"
        )


def _next_directory(tif: tifffile.TiffFile) -> int:
    """Return where the chain of page directories goes on after the last page; 0 is its end."""
    layout, stream = tif.tiff, tif.filehandle
    stream.seek(tif.pages[-1].offset)
    (n_tags,) = struct.unpack(layout.tagnoformat, stream.read(layout.tagnosize))
    stream.seek(n_tags * layout.tagsize, 1)
    (offset,) = struct.unpack(layout.offsetformat, stream.read(layout.offsetsize))
    return int(offset)


def _promised_pages(tif: tifffile.TiffFile) -> int | None:
    if tif.imagej_metadata and "images" in tif.imagej_metadata:
        return int(tif.imagej_metadata["images"])
    if tif.shaped_metadata:
        shape = tif.shaped_metadata[0].get("shape", ())
        return int(np.prod(shape[:-2], dtype=np.int64)) if len(shape) > 2 else None
    return None


def _pixel_size(tif: tifffile.TiffFile) -> float | None:
    """Return A per pixel, where a unit of length is stated; a print resolution is none."""
    size = _ome_pixel_size(tif.ome_metadata) if tif.ome_metadata else _tag_pixel_size(tif)
    return size if size is not None and 0.01 < size < 1e5 else None


def _ome_pixel_size(description: str) -> float | None:
    pixels = ET.fromstring(description).find(".//{*}Pixels")
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    unit = _ANGSTROMS.get(pixels.get("PhysicalSizeXUnit", "µm").lower())
    return None if unit is None else unit * float(pixels.attrib["PhysicalSizeX"])


def _tag_pixel_size(tif: tifffile.TiffFile) -> float | None:
    tags = tif.pages.first.tags
    x, y = tags.valueof("XResolution"), tags.valueof("YResolution")
    if x is None or y is None or x != y or 0 in x:
        return None
    if tif.imagej_metadata:
        # ImageJ writes the micro sign as an escape in its ASCII description.
        name = re.sub(r"\\u00B5", "µ", str(tif.imagej_metadata.get("unit", "")), flags=re.I)
        unit = _ANGSTROMS.get(name.lower())
    else:
        unit = _TAG_ANGSTROMS.get(tags.valueof("ResolutionUnit", default=1))
    return None if unit is None else unit * x[1] / x[0]
