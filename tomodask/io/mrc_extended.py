"""The extended headers of MRC files: tilt angles, dose, pixel size, tilt axis.

Three kinds are in use for tilt series: SerialEM's packed 16-bit integers, the Agard table of
floats (FEI's software before 2012 and UCSF's), and FEI's records ``FEI1`` and ``FEI2``, whose
layout `mrcfile` knows. All are optional comfort: what is missing, inconsistent or implausible is
left out, never guessed, and never stops a file from being read.

Sources: IMOD's ``mrc_format.txt``; Mastronarde, J. Struct. Biol. 152 (2005) 36,
doi:10.1016/j.jsb.2005.07.007.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from mrcfile.dtypes import get_ext_header_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ExtendedHeader", "parse_extended_header", "serialem_tilt_angles"]

# Bits of SerialEM's flags, in the order of the items, and the bytes of each item.
_SERIALEM_ITEMS = {1: 2, 2: 6, 4: 4, 8: 2, 16: 2, 32: 4, 64: 2, 128: 4, 256: 2, 512: 4, 1024: 2}
_TILT, _MAGNIFICATION, _DOSE = 1, 8, 32
_WITHOUT_OWN_TYPE = {b"SERI", b"AGAR", b"\0\0\0\0", b"    "}

# Bits of "Bitmask 1" of an FEI record, which say whether a field was filled.
_FEI_VOLTAGE, _FEI_DOSE, _FEI_ALPHA, _FEI_AXIS, _FEI_PIXEL, _FEI_MAGNIFICATION = 5, 6, 7, 12, 14, 31


@dataclass(frozen=True, slots=True)
class ExtendedHeader:
    """What an extended header tells; units as in `tomodask.io.stack_info.StackInfo`."""

    tilt_angles: tuple[float, ...] | None = None
    exposures: tuple[float, ...] | None = None
    pixel_size: float | None = None
    tilt_axis_angle: float | None = None
    metadata: dict[str, float | str] = field(default_factory=dict)


def parse_extended_header(
    header: bytes, extended: bytes, byte_order: str, n_sections: int, titles: Sequence[str]
) -> ExtendedHeader:
    """Read the extended header of an MRC file.

    Parameters
    ----------
    header : bytes
        The main header, 1024 bytes.
    extended : bytes
        What follows it.
    byte_order : {"<", ">"}
        Of the file.
    n_sections : int
        Sections in the file.
    titles : sequence of str
        The file's labels, which tell FEI's table from others.

    Returns
    -------
    ExtendedHeader
        Empty when the extended header is of another kind, or too short for its sections.
    """
    kind = header[104:108]
    if kind in (b"FEI1", b"FEI2"):
        return _fei_records(extended, get_ext_header_dtype(kind, byte_order), n_sections)
    if kind not in _WITHOUT_OWN_TYPE:
        return ExtendedHeader()
    n_integers, n_reals = struct.unpack_from(f"{byte_order}2h", header, 128)
    # The two numbers mean bytes and flags only when they agree with each other.
    if n_integers > 0 and n_integers == _serialem_bytes(n_reals):
        return _serialem_shorts(extended, byte_order, n_sections, n_integers, n_reals)
    if n_integers >= 0 and n_reals > 0:
        is_fei = any(title.strip().startswith("Fei Company") for title in titles)
        return _agard_table(extended, byte_order, n_sections, n_integers, n_reals, is_fei=is_fei)
    return ExtendedHeader()


def serialem_tilt_angles(tilt_angles: Sequence[float]) -> tuple[bytes, bytes]:
    """Pack tilt angles as SerialEM does: hundredths of a degree in 16 bits, little endian.

    Parameters
    ----------
    tilt_angles : sequence of float
        Degrees, within +-327.67.

    Returns
    -------
    layout : bytes
        For bytes 128 to 131 of the main header: bytes per section, and flags.
    extended : bytes
        The extended header, filled up to a multiple of 1024 bytes.
    """
    packed = np.rint(np.asarray(tilt_angles, dtype=np.float64) * 100).astype("<i2").tobytes()
    return struct.pack("<2h", 2, _TILT), packed + bytes(-len(packed) % 1024)


def _serialem_bytes(flags: int) -> int:
    if flags <= 0 or flags >= 2 * max(_SERIALEM_ITEMS):
        return 0
    return sum(size for bit, size in _SERIALEM_ITEMS.items() if flags & bit)


def _serialem_shorts(
    extended: bytes, byte_order: str, n_sections: int, n_bytes: int, flags: int
) -> ExtendedHeader:
    if len(extended) < n_sections * n_bytes:
        return ExtendedHeader()
    shorts = np.frombuffer(extended, f"{byte_order}i2", count=n_sections * n_bytes // 2)
    shorts = shorts.reshape(n_sections, -1).astype(np.int64)
    columns = {
        bit: shorts[:, _serialem_bytes(flags & (bit - 1)) // 2 :]
        for bit in _SERIALEM_ITEMS
        if flags & bit
    }
    angles = columns[_TILT][:, 0] / 100 if _TILT in columns else None
    doses = _serialem_floats(columns[_DOSE]) if _DOSE in columns else None
    metadata: dict[str, float | str] = {}
    if _MAGNIFICATION in columns and columns[_MAGNIFICATION][0, 0] > 0:
        metadata["magnification"] = float(columns[_MAGNIFICATION][0, 0] * 100)
    return ExtendedHeader(
        tilt_angles=_plausible_angles(_unless_all_zero(angles)),
        exposures=_plausible_doses(_unless_all_zero(doses)),
        metadata=metadata,
    )


def _serialem_floats(pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Decode SerialEM's floats, a 24-bit mantissa and an exponent in two signed shorts."""
    first, second = pairs[:, 0], pairs[:, 1]
    mantissa = np.where(first < 0, -1, 1) * (np.abs(first) * 256 + np.abs(second) % 256)
    exponent = np.sign(second) * (np.abs(second) // 256)
    values: NDArray[np.float64] = mantissa * np.exp2(exponent.astype(np.float64))
    return values


def _agard_table(
    extended: bytes,
    byte_order: str,
    n_sections: int,
    n_integers: int,
    n_reals: int,
    *,
    is_fei: bool,
) -> ExtendedHeader:
    width = n_integers + n_reals
    if len(extended) < n_sections * width * 4:
        return ExtendedHeader()
    table = np.frombuffer(extended, f"{byte_order}f4", count=n_sections * width)
    reals = table.reshape(n_sections, width)[:, n_integers:].astype(np.float64)
    angles = _plausible_angles(_unless_all_zero(reals[:, 0]))
    if n_reals < 14:
        return ExtendedHeader(tilt_angles=angles)
    axis, pixel, magnification, voltage = reals[0, 10:14]
    metadata: dict[str, float | str] = {}
    if 1 < magnification < 1e8:
        metadata["magnification"] = float(magnification)
    if 1e4 < voltage < 1e7:
        metadata["voltage"] = float(voltage) / 1e3
    return ExtendedHeader(
        tilt_angles=angles,
        # FEI stores metres, UCSF's software angstroms.
        pixel_size=_plausible_pixel(pixel if 0.05 < pixel < 1e5 else pixel * 1e10),
        tilt_axis_angle=_plausible_axis(-axis if is_fei else axis) if axis else None,
        metadata=metadata,
    )


def _fei_records(extended: bytes, dtype: np.dtype[Any], n_sections: int) -> ExtendedHeader:
    if len(extended) < dtype.itemsize:
        return ExtendedHeader()
    stride = int(np.frombuffer(extended, dtype, count=1)["Metadata size"][0])
    if stride < dtype.itemsize or len(extended) < n_sections * stride:
        return ExtendedHeader()
    records = np.ndarray((n_sections,), dtype, extended, strides=(stride,))
    filled = np.bitwise_and.reduce(records["Bitmask 1"])

    def column(bit: int, name: str) -> NDArray[np.float64] | None:
        return records[name].astype(np.float64) if filled & (1 << bit) else None

    # This release scaled its angles by degrees per radian once too often.
    version = bytes(records["Application version"][0])
    scale = np.pi / 180 if version == b"4.4.0.4981" else 1.0
    alpha = column(_FEI_ALPHA, "Alpha tilt")
    dose = column(_FEI_DOSE, "Dose")
    pixel = column(_FEI_PIXEL, "Pixel size X")
    axis = column(_FEI_AXIS, "Tilt axis angle")
    voltage = column(_FEI_VOLTAGE, "HT")
    magnification = column(_FEI_MAGNIFICATION, "Magnification")
    metadata: dict[str, float | str] = {}
    software = b" ".join((bytes(records["Application"][0]), version)).decode("ascii", "replace")
    if software.strip():
        metadata["software"] = software.strip()
    if voltage is not None and 1e4 < voltage[0] < 1e7:
        metadata["voltage"] = float(voltage[0]) / 1e3
    if magnification is not None and 1 < magnification[0] < 1e8:
        metadata["magnification"] = float(magnification[0])
    return ExtendedHeader(
        tilt_angles=_plausible_angles(None if alpha is None else alpha * scale),
        exposures=_plausible_doses(_unless_all_zero(None if dose is None else dose / 1e20)),
        pixel_size=None if pixel is None else _plausible_pixel(pixel[0] * 1e10),
        # FEI counts this angle in the image as displayed, whose y points down; ours points up.
        tilt_axis_angle=None if axis is None else _plausible_axis(-axis[0] * scale),
        metadata=metadata,
    )


def _unless_all_zero(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Drop a column of zeros, which is what writers leave when they know nothing."""
    return values if values is not None and values.any() else None


def _plausible_angles(values: NDArray[np.float64] | None) -> tuple[float, ...] | None:
    if values is None or not np.all(np.abs(values) <= 180):
        return None
    return tuple(values.tolist())


def _plausible_doses(values: NDArray[np.float64] | None) -> tuple[float, ...] | None:
    if values is None or not np.all((values >= 0) & (values < 1e4)):
        return None
    return tuple(values.tolist())


def _plausible_pixel(value: float) -> float | None:
    return float(value) if 0.01 < value < 1e5 else None


def _plausible_axis(value: float) -> float | None:
    if not abs(value) <= 360:
        return None
    return float(value - 360 * round(value / 360))
