"""Gain references of cameras, from MRC and TIFF files.

**To multiply or to divide.** A gain is multiplicative here, as Gatan's are, and those of Thermo
Fisher's ``.gain`` files, which are TIFFs of 32-bit floats (RELION's documentation, *Movie
Compression*: "if the gain reference is given in the TIFF format with the .gain extension ...
RELION will multiply"). Earlier Falcon software left a flat exposure, electrons per pixel, which
was converted to MRC; RELION divides EERs by a gain in MRC for that reason. Nothing in such a file
says so: read it with ``reciprocal=True``. `tomodask.kernels.gain_orientation.find_orientation`
tells which it is from the movies.

**Rows** are turned over in TIFFs and ``.gain`` files, as in movies (`tomodask.io.movies`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import FormatError
from tomodask.io.paths import readable
from tomodask.io.stack import open_stack, read_section
from tomodask.kernels.gain import dead_pixels

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["read_gain"]

_DIGITAL_MICROGRAPH = {b"\0\0\0\3", b"\0\0\0\4"}


def read_gain(path: str | PathLike[str], *, reciprocal: bool = False) -> NDArray[np.float32]:
    """Read a gain reference.

    Parameters
    ----------
    path : path-like
        MRC or TIFF (also with the extension ``.gain``), told by its content, of one image.
    reciprocal : bool
        Whether counts are to be divided by what the file holds. It is inverted and scaled to a
        mean of 1 over the good pixels, since a flat exposure says nothing of the scale.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Multiplicative, y up. 0 where the file's value is not finite or not positive: a dead
        pixel.

    Raises
    ------
    FormatError
        The file cannot be read, holds several images, or holds no positive value.
    StoreError
        The file does not exist or cannot be read.
    """
    path = Path(path).absolute()
    with readable(path), path.open("rb") as stream:
        signature = stream.read(4)
    if signature in _DIGITAL_MICROGRAPH:
        raise FormatError(
            f"{path}: is a file of Digital Micrograph, which is not read; convert it "
            f"(IMOD: dm2mrc {path.name} {path.stem}.mrc)"
        )
    info = open_stack(path)
    if info.shape[0] != 1:
        raise FormatError(
            f"{path}: holds {info.shape[0]} images; a gain reference is one, give that alone"
        )
    gain = read_section(info, 0)
    dead = dead_pixels(gain)
    if dead.all():
        raise FormatError(
            f"{path}: has no positive value; it is not a gain reference, check the path"
        )
    if reciprocal:
        np.divide(1, gain, out=gain, where=~dead)
        gain /= gain[~dead].mean(dtype=np.float64)
    gain[dead] = 0
    return gain
