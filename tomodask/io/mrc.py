"""MRC files (``.mrc .mrcs .st .ali .rec .map``): sections read one by one, stacks streamed out.

The format is MRC2014 (Cheng et al., J. Struct. Biol. 192 (2015) 146,
doi:10.1016/j.jsb.2015.04.002) with IMOD's additions (``mrc_format.txt``). A section's first row
is the bottom of the image, so nothing is flipped.

**The trap of mode 0.** The standard says that bytes are signed. IMOD wrote them unsigned until
version 4.2.23, and since then says which in its own two words of the header. With IMOD's stamp the
file is read as it says; without it the standard holds, so an unsigned file that some old program
wrote appears with its upper half negative. Convert such a file with IMOD's ``newstack -mode 1``.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomodask.errors import FormatError
from tomodask.io.mrc_extended import ExtendedHeader, parse_extended_header
from tomodask.io.mrc_writer import MrcWriter
from tomodask.io.paths import readable
from tomodask.io.stack_info import StackInfo, read_contiguous_section

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MrcWriter", "open_mrc", "read_mrc_section", "tilt_axis_from_titles"]

_HEADER_BYTES = 1024
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
_PACKED = 101  # two pixels of 4 bits in a byte
_REFUSED_MODES = {
    3: "complex 16-bit integers, a Fourier transform; transform it back",
    4: "complex floats, a Fourier transform; transform it back",
    16: "colour bytes; convert it to grey (IMOD: clip or tif2mrc)",
}
_MACHINE_STAMPS = {0x44: "<", 0x11: ">"}
_IMOD_STAMP = 1146047817
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2"}

_NUMBER = r"([-+]?\d+(?:\.\d*)?)(?!\d*,\d)"
_SERIALEM_AXIS = re.compile(rf"Tilt axis (?:rotation )?angle\s*=\s*{_NUMBER}", re.IGNORECASE)
_TOMO5_AXIS = re.compile(rf"TiltAxisAngle\s*=\s*{_NUMBER}", re.IGNORECASE)


def open_mrc(path: Path) -> StackInfo:
    """Read the headers of an MRC file and check that its data are all there.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    StackInfo
        A volume, a stack and a single image are all (section, y, x).

    Raises
    ------
    FormatError
        Not an MRC file, truncated, without sections, or of a mode that is not an image.
    StoreError
        The file cannot be read.

    Notes
    -----
    Harmless oddities are forgiven: a wrong ``MAP`` string or machine stamp, a stale size of the
    extended header, bytes after the last section. A pixel size of exactly 1 in a file that
    predates MRC2014 or bears IMOD's stamp is the default of programs that knew none: unset.
    """
    with readable(path), path.open("rb") as stream:
        raw = stream.read(_HEADER_BYTES)
        size = stream.seek(0, 2)
    header = _MrcHeader.parse(path, raw)
    shape = header.shape
    dtype = header.dtype
    packed = header.mode == _PACKED
    n_data = shape[0] * shape[1] * ((shape[2] + 1) // 2 if packed else shape[2]) * dtype.itemsize
    n_extended = max(int(header.fields["nsymbt"]), 0)
    expected = _HEADER_BYTES + n_extended + n_data
    if size < expected:
        if size != _HEADER_BYTES + n_data:
            raise FormatError(
                f"{path}: has {size} bytes, but its header promises {expected} "
                f"({shape[0]} sections of {shape[2]} x {shape[1]}, mode {header.mode}): "
                "it is truncated; copy it again, or wait until it is written"
            )
        n_extended = 0
    with readable(path), path.open("rb") as stream:
        stream.seek(_HEADER_BYTES)
        # No record is longer than 4096 bytes; a header that claims more is not believed.
        extended_bytes = stream.read(min(n_extended, 4096 * shape[0]))
    titles = header.titles
    extended = parse_extended_header(raw, extended_bytes, header.byte_order, shape[0], titles)
    axis = extended.tilt_axis_angle
    return StackInfo(
        path=path,
        format="mrc",
        shape=shape,
        dtype=dtype,
        data_offset=_HEADER_BYTES + n_extended,
        pixel_size=_pixel_size(header, extended),
        tilt_angles=extended.tilt_angles,
        tilt_axis_angle=tilt_axis_from_titles(titles) if axis is None else axis,
        exposures=extended.exposures,
        packed=packed,
        metadata=extended.metadata,
    )


def read_mrc_section(info: StackInfo, index: int) -> NDArray[Any]:
    """Read one section as stored; the first row of an MRC section is the image's bottom.

    Parameters
    ----------
    info : StackInfo
        From `open_mrc`.
    index : int
        Section, from 0.

    Returns
    -------
    ndarray, shape (y, x)
        Pixels of type `info.dtype`.
    """
    return read_contiguous_section(info, index)


def tilt_axis_from_titles(
    titles: Iterable[str], rotation_angle: float | None = None
) -> float | None:
    """Find the tilt axis in the titles of an MRC file, which an mdoc repeats as ``T`` lines.

    Parameters
    ----------
    titles : iterable of str
        Such as ``Tilt axis angle = 85.3, binning = 4`` (SerialEM) or
        ``TiltAxisAngle = -175.84  Binning = 2`` (Tomography 5).
    rotation_angle : float, optional
        The mdoc's ``RotationAngle``, degrees.

    Returns
    -------
    float or None
        Degrees, counter-clockwise from +y of the y-up image.

    Notes
    -----
    SerialEM means what is returned. Tomography 5 has counted its angle in three ways, which only
    the ``RotationAngle`` beside it tells apart (the rule of IMOD's ``header``): without it, or
    when it fits none of them, the axis is unknown rather than wrong.
    """
    for title in titles:
        if match := _SERIALEM_AXIS.search(title):
            return float(match[1])
        if (match := _TOMO5_AXIS.search(title)) and rotation_angle is not None:
            axis = float(match[1])
            if _same_angle(axis, -(rotation_angle + 90)):
                return rotation_angle
            if _same_angle(axis, rotation_angle - 90):
                return axis
            if _same_angle(axis, -(rotation_angle - 90)):
                return -axis
    return None


def _same_angle(a: float, b: float) -> bool:
    # Titles print one decimal.
    return abs((a - b + 180) % 360 - 180) < 0.11


@dataclass(frozen=True, slots=True)
class _MrcHeader:
    """The 1024 bytes, with the byte order found."""

    raw: bytes
    fields: np.void
    byte_order: str
    dtype: np.dtype[Any]

    @classmethod
    def parse(cls, path: Path, raw: bytes) -> _MrcHeader:
        if len(raw) < _HEADER_BYTES:
            raise FormatError(
                f"{path}: has {len(raw)} bytes, less than an MRC header's {_HEADER_BYTES}: "
                "it is empty or cut short; copy it again"
            )
        orders = {order: _fields(raw, order) for order in "<>"}
        plausible = [order for order, fields in orders.items() if _is_plausible(fields)]
        if not plausible:
            raise FormatError(f"{path}: {_why_not_mrc(raw)}")
        stamped = _MACHINE_STAMPS.get(raw[212])
        # Read in the wrong byte order, a small number becomes a huge one.
        order = stamped if stamped in plausible else min(plausible, key=lambda o: _size(orders[o]))
        assert order is not None
        fields = orders[order]
        mode = int(fields["mode"])
        if mode in _REFUSED_MODES:
            raise FormatError(f"{path}: is of mode {mode}, {_REFUSED_MODES[mode]}")
        if mode == 0 and (_imod_flags(raw, order) or 0) & 16:
            raise FormatError(
                f"{path}: holds two pixels of 4 bits in each byte, without the mode that says so; "
                "unpack it (IMOD: clip unpack)"
            )
        if _size(fields) == 0:
            shape = tuple(int(fields[n]) for n in ("nz", "ny", "nx"))
            raise FormatError(
                f"{path}: has no pixels, its header says (section, y, x) = {shape}: "
                "the acquisition or the copy did not finish; write the file again"
            )
        axes = tuple(int(fields[name]) for name in ("mapc", "mapr", "maps"))
        if axes not in {(1, 2, 3), (0, 0, 0)}:
            raise FormatError(
                f"{path}: stores its axes in the order {axes} (MAPC, MAPR, MAPS), not x, y, z "
                "(1, 2, 3); transpose it first"
            )
        code = _MODES[mode]
        if mode == 0 and not _bytes_are_signed(raw, order):
            code = "u1"
        return cls(raw, fields, order, np.dtype(f"{order}{code}"))

    @property
    def mode(self) -> int:
        return int(self.fields["mode"])

    @property
    def shape(self) -> tuple[int, int, int]:
        return int(self.fields["nz"]), int(self.fields["ny"]), int(self.fields["nx"])

    @property
    def titles(self) -> tuple[str, ...]:
        count = min(max(int(self.fields["nlabl"]), 0), 10)
        labels = (bytes(label).rstrip(b"\0 ") for label in self.fields["label"][:count])
        return tuple(label.decode("latin-1") for label in labels)

    @property
    def is_imod(self) -> bool:
        return _imod_flags(self.raw, self.byte_order) is not None


def _fields(raw: bytes, byte_order: str) -> np.void:
    record: np.void = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(byte_order), count=1)[0]
    return record


def _is_plausible(fields: np.void) -> bool:
    return (
        int(fields["mode"]) in _MODES.keys() | _REFUSED_MODES.keys()
        and all(fields[name] >= 0 for name in ("nx", "ny", "nz"))
        and all(0 <= fields[name] <= 3 for name in ("mapc", "mapr", "maps"))
    )


def _size(fields: np.void) -> int:
    return int(fields["nx"]) * int(fields["ny"]) * int(fields["nz"])


def _why_not_mrc(raw: bytes) -> str:
    if program := _COMPRESSED.get(raw[:2]):
        return f"is compressed; uncompress it first ({program})"
    return (
        f"is neither an MRC nor a TIFF file (it begins with {raw[:16]!r}); "
        "check the path, or convert it to MRC"
    )


def _imod_flags(raw: bytes, byte_order: str) -> int | None:
    stamp, flags = struct.unpack_from(f"{byte_order}2i", raw, 152)
    return int(flags) if stamp == _IMOD_STAMP else None


def _bytes_are_signed(raw: bytes, byte_order: str) -> bool:
    flags = _imod_flags(raw, byte_order)
    return flags is None or bool(flags & 1)


def _pixel_size(header: _MrcHeader, extended: ExtendedHeader) -> float | None:
    fields = header.fields
    spacing = [
        float(fields["cella"][axis]) / int(fields[grid]) if fields[grid] > 0 else 0.0
        for axis, grid in (("x", "mx"), ("y", "my"))
    ]
    # The header's floats have 7 digits; more would only show their rounding.
    x, y = (float(f"{value:.7g}") for value in spacing)
    # One number cannot describe a pixel that is not square; a grid of another size than the
    # image is one way to get there.
    if not (0.01 < x < 1e5 and abs(x - y) < 0.01 * x):
        return extended.pixel_size
    if extended.pixel_size is not None and x == y and x in {1.0, 2.0, 3.0, 4.0}:
        # A program that knew no pixel size counted in pixels, so this is 1 or the binning.
        agrees = abs(x / extended.pixel_size - 1) < 0.05
        return x if agrees else x * extended.pixel_size
    if x == y == 1.0 and (header.is_imod or fields["nversion"] < 20140):
        return None
    return x
