"""Writing MRC files section by section, so that a volume larger than memory can be written."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomodask.engine.files import explained, partial_path
from tomodask.errors import ConversionError, DataError, ParameterError
from tomodask.io.mrc_extended import serialem_tilt_angles
from tomodask.io.paths import check_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedWriter
    from os import PathLike
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["MrcWriter"]

_HEADER_BYTES = 1024
# Mode, type in the file, and the values that may be stored.
_MODES = {
    "float32": (2, "<f4", None),
    "int16": (1, "<i2", (-32768, 32767)),
    # Mode 0 is signed in the standard and unsigned in IMOD: both read 0 to 127 alike.
    "uint8": (0, "|u1", (0, 127)),
}
_BLOCK = 1 << 20


class MrcWriter:
    """Writes an MRC file section by section, in order; a context manager.

    The file appears under its name only when every section was written and the block ended
    without an error. Never more than one section is held.

    Parameters
    ----------
    path : path-like
        The file; its folder must exist. An older file of that name is replaced at the end.
    shape : tuple of int
        (section, y, x).
    voxel_size : float
        A, the same along all axes.
    kind : {"volume", "stack"}
        A volume (space group 1, sections along z) or a stack of images (space group 0).
    dtype : {"float32", "int16", "uint8"}
        How values are stored, never scaled. Integers must be whole numbers in range: all 16 bits
        for int16, and 0 to 127 for uint8, because programs disagree on the sign of larger bytes.
    origin : tuple of float
        (x, y, z) of the first voxel's centre in A, with the sign of MRC2014 as ChimeraX and
        mrcfile read it. IMOD's own files have the opposite sign.
    title : str
        Goes to the one label, after the program's name; ASCII, at most 70 characters.
    tilt_angles : sequence of float, optional
        Degrees, one per section; only for a stack. They go to an extended header in SerialEM's
        layout, which keeps hundredths of a degree.

    Raises
    ------
    ParameterError
        The description makes no sense, or more sections come than were announced.
    DataError
        A value is not finite, or sections are missing at the end.
    ConversionError
        A value or an angle cannot be stored in the type asked for.
    StoreError, SpaceError
        The operating system refuses to write.

    Notes
    -----
    The header's statistics are exact: means and squares are merged block by block in float64
    (Chan, Golub, LeVeque, Am. Stat. 37 (1983) 242, doi:10.1080/00031305.1983.10483115).
    A file of the same input is the same to the last byte: no date is written.

    Examples
    --------
    >>> with MrcWriter("t.mrc", shape=(2, 8, 8), voxel_size=10.0, kind="volume") as writer:
    ...     for section in np.zeros((2, 8, 8), np.float32):
    ...         writer.write(section)
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        shape: tuple[int, int, int],
        voxel_size: float,
        kind: Literal["volume", "stack"],
        dtype: Literal["float32", "int16", "uint8"] = "float32",
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        title: str = "",
        tilt_angles: Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        _check_description(
            self.path,
            shape=shape,
            voxel_size=voxel_size,
            kind=kind,
            dtype=dtype,
            origin=origin,
            title=title,
        )
        self._shape = shape
        self._layout, self._extended = b"", b""
        if tilt_angles is not None:
            _check_tilt_angles(self.path, tilt_angles, shape[0], kind)
            self._layout, self._extended = serialem_tilt_angles(tilt_angles)
        mode, self._dtype, self._range = _MODES[dtype]
        self._header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
        self._fill_header(mode, voxel_size, kind, origin, title)
        self._statistics = _Statistics()
        self._written = 0
        self._partial = partial_path(self.path)
        self._stream: BufferedWriter | None = None

    def __enter__(self) -> Self:
        check_folder(self.path)
        with explained(self.path):
            self._stream = self._partial.open("xb")
        try:
            self._put(bytes(_HEADER_BYTES) + self._extended)
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, section: NDArray[Any]) -> None:
        """Write the next section.

        Parameters
        ----------
        section : ndarray, shape (y, x)
            Row 0 is the bottom row.
        """
        if section.shape != self._shape[1:]:
            raise ParameterError(
                f"{self.path}: was announced with sections (y, x) = {self._shape[1:]}, "
                f"but section {self._written} is {section.shape}; announce the right shape"
            )
        if self._written == self._shape[0]:
            raise ParameterError(
                f"{self.path}: was announced with {self._shape[0]} sections, and one more comes; "
                "announce the right shape"
            )
        stored = self._convert(section)
        self._statistics.add(stored)
        self._put(stored.data)
        self._written += 1

    def write_slab(self, slab: NDArray[Any]) -> None:
        """Write the next sections.

        Parameters
        ----------
        slab : ndarray, shape (section, y, x)
            Any number of sections.
        """
        for section in slab:
            self.write(section)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._written != self._shape[0]:
            raise DataError(
                f"{self.path}: {self._written} of {self._shape[0]} sections were written, so the "
                "file was removed; write them all"
            )
        header = self._header
        header["dmin"], header["dmax"] = self._statistics.minimum, self._statistics.maximum
        header["dmean"], header["rms"] = self._statistics.mean, self._statistics.rms
        raw = bytearray(header.tobytes())
        raw[128 : 128 + len(self._layout)] = self._layout
        stream = self._stream
        assert stream is not None
        with explained(self.path):
            stream.seek(0)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            self._partial.replace(self.path)

    def _put(self, data: bytes | memoryview) -> None:
        assert self._stream is not None
        with explained(self.path):
            self._stream.write(data)

    def _discard(self) -> None:
        """Remove what is not complete; nothing is left to do after a success."""
        assert self._stream is not None
        # Closing writes what is buffered, which fails again where the disk is full.
        with suppress(OSError):
            self._stream.close()
        self._partial.unlink(missing_ok=True)

    def _fill_header(
        self,
        mode: int,
        voxel_size: float,
        kind: str,
        origin: tuple[float, float, float],
        title: str,
    ) -> None:
        header = self._header
        grid = self._shape if kind == "volume" else (1, *self._shape[1:])
        for axis, n, m, start in zip("zyx", self._shape, grid, origin[::-1], strict=True):
            header[f"n{axis}"], header[f"m{axis}"] = n, m
            header["cella"][axis] = m * voxel_size
            header["origin"][axis] = start
        header["mode"] = mode
        header["cellb"] = (90, 90, 90)
        header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
        header["ispg"] = 1 if kind == "volume" else 0
        header["nsymbt"], header["exttyp"] = len(self._extended), b"SERI" if self._extended else b""
        header["nversion"] = 20141
        header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
        header["nlabl"] = 1
        header["label"][0] = f"tomodask: {title}".rstrip(": ").ljust(80).encode("ascii")

    def _convert(self, section: NDArray[Any]) -> NDArray[Any]:
        name = f"{self.path}: section {self._written}"
        if self._range is not None:
            low, high = self._range
            fits = (section >= low) & (section <= high) & (section == np.rint(section))
            if not fits.all():
                raise ConversionError(
                    f"{name} has the value {section[~fits].flat[0]}, which is not a whole number "
                    f"from {low} to {high}; write it as float32"
                )
            return np.ascontiguousarray(section, dtype=self._dtype)
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(section, dtype=self._dtype)
        finite = np.isfinite(stored)
        if not finite.all():
            raise DataError(
                f"{name} has {np.count_nonzero(~finite)} values that are not finite in float32 "
                f"(the first is {section[~finite].flat[0]}); find where they come from"
            )
        return stored


class _Statistics:
    """Minimum, maximum, mean and RMS deviation of all that was added."""

    def __init__(self) -> None:
        self.minimum, self.maximum = math.inf, -math.inf
        self.mean = 0.0
        self._count = 0
        self._squares = 0.0

    @property
    def rms(self) -> float:
        return math.sqrt(self._squares / self._count)

    def add(self, section: NDArray[Any]) -> None:
        values = section.reshape(-1)
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        for start in range(0, values.size, _BLOCK):
            block = values[start : start + _BLOCK].astype(np.float64)
            mean = float(block.mean())
            block -= mean
            total = self._count + block.size
            step = mean - self.mean
            self._squares += float(block @ block) + step**2 * self._count * block.size / total
            self.mean += step * block.size / total
            self._count = total


def _check_description(
    path: Path,
    *,
    shape: tuple[int, int, int],
    voxel_size: float,
    kind: str,
    dtype: str,
    origin: tuple[float, float, float],
    title: str,
) -> None:
    if len(shape) != 3 or not all(0 < n < 2**31 for n in shape):
        raise ParameterError(f"{path}: shape {shape} is not (section, y, x) of positive numbers")
    if not (math.isfinite(voxel_size) and voxel_size > 0):
        raise ParameterError(f"{path}: voxel_size {voxel_size} is not a length in A; give one")
    if kind not in {"volume", "stack"}:
        raise ParameterError(f"{path}: kind {kind!r} is unknown; give 'volume' or 'stack'")
    if dtype not in _MODES:
        raise ParameterError(f"{path}: dtype {dtype!r} is unknown; give one of {', '.join(_MODES)}")
    if len(origin) != 3 or not all(map(math.isfinite, origin)):
        raise ParameterError(f"{path}: origin {origin} is not (x, y, z) in A; give three numbers")
    if not title.isascii() or not title.isprintable() or len(title) > 70:
        raise ParameterError(
            f"{path}: title {title!r} is not printable ASCII of at most 70 characters; shorten it"
        )


def _check_tilt_angles(path: Path, angles: Sequence[float], n_sections: int, kind: str) -> None:
    if kind != "stack":
        raise ParameterError(f"{path}: a volume has no tilt angles; write it as a stack")
    if len(angles) != n_sections:
        raise ParameterError(
            f"{path}: {len(angles)} tilt angles for {n_sections} sections; give one for each"
        )
    # Written so that NaN is refused too.
    bad = [angle for angle in angles if not abs(angle) <= 327.67]
    if bad:
        raise ConversionError(
            f"{path}: the tilt angle {bad[0]} does not fit the extended header, whose angles "
            "lie within 327.67 degrees; correct it"
        )
