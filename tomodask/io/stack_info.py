"""What a stack file says of itself, and reading a plain section of it.

Kept apart from the readers (which build it) and from `tomodask.io.stack` (which chooses among
them), so that imports go one way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomodask.errors import FormatError
from tomodask.io.paths import readable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["StackInfo", "read_contiguous_section"]


@dataclass(frozen=True, slots=True)
class StackInfo:
    """A stack of images on disk, as far as its headers tell; it holds no pixels.

    It is small, immutable and picklable, so that a task can read its own sections.

    Attributes
    ----------
    path : Path
        The file, absolute.
    format : {"mrc", "tiff"}
        Which reader opens it.
    shape : tuple of int
        (section, y, x), pixels.
    dtype : numpy.dtype
        The pixels' type as stored, byte order included.
    data_offset : int or None
        Byte at which section 0 begins when all sections lie plainly one after the other,
        None when the sections must be decoded one by one.
    pixel_size : float or None
        A; None where the file does not say, or says what only means "unset".
    tilt_angles : tuple of float or None
        Degrees, one per section, from the extended header when that can be trusted.
    tilt_axis_angle : float or None
        Degrees, counter-clockwise from +y of the y-up image.
    exposures : tuple of float or None
        e/A^2 of each section.
    packed : bool
        Whether a byte holds two pixels of 4 bits, the first in its lower half, and each row begins
        with a byte of its own.
    metadata : dict
        What else the headers tell: ``voltage`` (kV), ``magnification``, ``software``, ...
    """

    path: Path
    format: Literal["mrc", "tiff"]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    data_offset: int | None = None
    pixel_size: float | None = None
    tilt_angles: tuple[float, ...] | None = None
    tilt_axis_angle: float | None = None
    exposures: tuple[float, ...] | None = None
    packed: bool = False
    metadata: dict[str, float | str] = field(default_factory=dict, hash=False)


def read_contiguous_section(info: StackInfo, index: int) -> NDArray[Any]:
    """Read one section of a stack whose sections lie plainly one after the other.

    The bytes are read, never memory mapped: mapped pages count as memory in use.

    Parameters
    ----------
    info : StackInfo
        The stack; its `data_offset` must not be None.
    index : int
        Section, from 0.

    Returns
    -------
    ndarray, shape (y, x)
        The pixels as stored, rows in file order.

    Raises
    ------
    FormatError
        The file has become shorter since it was opened.
    StoreError
        The file cannot be read.
    """
    assert info.data_offset is not None
    _, ny, nx = info.shape
    stored = (nx + 1) // 2 if info.packed else nx
    offset = info.data_offset + index * ny * stored * info.dtype.itemsize
    with readable(info.path):
        items = np.fromfile(info.path, dtype=info.dtype, count=ny * stored, offset=offset)
    if items.size != ny * stored:
        raise FormatError(
            f"{info.path}: section {index} has {items.size * nx // stored} of its {ny * nx} "
            "pixels: the file was cut short after it was opened; copy it again"
        )
    rows = items.reshape(ny, stored)
    if info.packed:
        return np.stack([rows & 15, rows >> 4], axis=-1).reshape(ny, 2 * stored)[:, :nx]
    return rows
