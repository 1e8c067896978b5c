"""Stacks of images, whatever their format: what is in the file, and one section of it.

The two functions that the rest of the package calls. The format is told by the file's first
bytes, never by its name alone: ``.st``, ``.ali``, ``.rec`` and ``.map`` are all MRC.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import FormatError, ParameterError
from tomodask.io.mrc import open_mrc, read_mrc_section
from tomodask.io.paths import readable
from tomodask.io.stack_info import StackInfo
from tomodask.io.tiff import TIFF_SIGNATURES, open_tiff, read_tiff_section

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["StackInfo", "open_stack", "read_section"]

_SECTION_READERS = {"mrc": read_mrc_section, "tiff": read_tiff_section}


def open_stack(path: str | PathLike[str]) -> StackInfo:
    """Read the headers of a stack of images (MRC or TIFF), and check the file's length.

    Parameters
    ----------
    path : path-like
        An MRC file (``.mrc .mrcs .st .ali .rec .map`` ...) or a TIFF.

    Returns
    -------
    StackInfo
        Shape, type, pixel size, tilt angles: what the headers tell. No pixel is read.

    Raises
    ------
    FormatError
        The file is neither, is truncated, or holds pixels of a kind that is not an image.
    StoreError
        The file does not exist or cannot be read.
    """
    path = Path(path).absolute()
    with readable(path), path.open("rb") as stream:
        signature = stream.read(4)
    if signature in TIFF_SIGNATURES:
        return open_tiff(path)
    if path.suffix.lower() in {".tif", ".tiff"}:
        raise FormatError(
            f"{path}: is not a TIFF (it begins with {signature!r}); "
            "give it the extension of its format, or copy it again"
        )
    return open_mrc(path)


def read_section(info: StackInfo, index: int) -> NDArray[np.float32]:
    """Read one section of a stack.

    Parameters
    ----------
    info : StackInfo
        From `open_stack`.
    index : int
        Section, from 0.

    Returns
    -------
    ndarray of float32, shape (y, x)
        C-contiguous, y up: row 0 is the bottom row of the image, whatever the format.

    Raises
    ------
    ParameterError
        There is no such section.
    FormatError
        The section's bytes are missing or corrupt.
    StoreError
        The file cannot be read.
    """
    if not 0 <= index < info.shape[0]:
        raise ParameterError(
            f"{info.path}: has no section {index}; its sections are 0 to {info.shape[0] - 1}"
        )
    return np.ascontiguousarray(_SECTION_READERS[info.format](info, index), dtype=np.float32)
