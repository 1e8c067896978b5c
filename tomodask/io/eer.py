"""Movies of electron events (EER), the format of Thermo Fisher's Falcon cameras.

The container is BigTIFF: one directory per raw frame of the camera, hundreds a second, whose
strips joined are the frame's bit stream (see `tomodask.kernels.electron_events`), and XML metadata
in the first directory. A directory of another compression, such as the integrated image that may
come first, is no frame and is skipped, as the format's description asks
(https://github.com/fei-company/EerReaderLib).

**Compressions.** 65000 has skips of 8 bits, 65001 of 7 bits, both with 2 + 2 bits for the place
within the pixel; 65002 states its bits in tags 65007 to 65009. Prototype files of 65000 waste the
bits of a place on skips without an electron and later ones need not: which of the two a file does
is told by the first frame with such a skip, which can be decoded to its last pixel in one way only.

**Rows.** The first row of the sensor is the top of the image, as in any TIFF, so rows are turned
over on rendering. IMOD and SerialEM do so, with the camera's gain reference (``.gain``, a TIFF)
too, so that the two fit. RELION, MotionCor3 and AreTomo3 leave the rows of EER files as they are,
although they turn over those of other TIFFs; ``row_order="up"`` of
`tomodask.io.movies.open_movie` gives their images. A movie that the same camera writes as MRC may
differ by a rotation besides, the ``RotationAndFlip`` of SerialEM's mdoc.

**What a rendered pixel counts.** Each raw frame holds at most one electron per sensor pixel, so
the sum of up to 255 raw frames fits 8 bits.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import FormatError
from tomodask.io.paths import readable
from tomodask.kernels.electron_events import render_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

__all__ = ["EerInfo", "is_eer", "open_eer", "render_eer"]

_BIG_TIFF = b"II+\0\x08\0\0\0"
_WIDTH, _LENGTH, _COMPRESSION, _OFFSETS, _COUNTS = 256, 257, 259, 273, 279
_METADATA, _SKIP_BITS, _X_BITS, _Y_BITS = 65001, 65007, 65008, 65009
_FIXED_SKIP_BITS = {65000: 8, 65001: 7}
_VARIABLE = 65002
#: No camera's frames are larger, pixels along an edge.
_LARGEST_EDGE = 65536
_EER_COMPRESSIONS = {*_FIXED_SKIP_BITS, _VARIABLE}
_ENTRY = np.dtype([("tag", "<u2"), ("type", "<u2"), ("count", "<u8"), ("value", "<u8")])
_TYPES = {1: "u1", 3: "<u2", 4: "<u4", 7: "u1", 16: "<u8"}


@dataclass(frozen=True, slots=True)
class EerInfo:
    """What an EER file says of itself; it holds no events.

    Attributes
    ----------
    path : Path
        The file, absolute.
    shape : tuple of int
        (raw frame, y, x), sensor pixels.
    skip_bits : int
        Bits of a skip of empty pixels.
    subpixel_bits : tuple of int
        (y, x): bits of an electron's place within its pixel.
    whole_escapes : bool
        Whether a skip without electron is followed by the bits of a place all the same.
    pixel_size : float or None
        A on the specimen per sensor pixel, where the camera knew.
    dose : float or None
        Electrons per sensor pixel of the whole movie, as the camera measured.
    metadata : dict
        The text of the items of the metadata: ``exposureTime``, ``eerGainReference``, ...
    """

    path: Path
    shape: tuple[int, int, int]
    skip_bits: int
    subpixel_bits: tuple[int, int]
    whole_escapes: bool
    pixel_size: float | None
    dose: float | None
    metadata: dict[str, str] = field(default_factory=dict, hash=False)


def is_eer(path: Path) -> bool:
    """Tell whether a file is a BigTIFF with frames of electron events.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    StoreError
        The file cannot be read.

    Notes
    -----
    Only the first two directories are looked at: frames follow the integrated image if there is
    one.
    """
    with readable(path), path.open("rb") as stream:
        if stream.read(8) != _BIG_TIFF:
            return False
        try:
            for _, directory in zip(range(2), _directories(path, stream), strict=False):
                if directory.compression in _EER_COMPRESSIONS:
                    return True
        except FormatError:
            pass
    return False


def open_eer(path: Path) -> EerInfo:
    """Read the directories of an EER file, and check that all of its frames are there.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    EerInfo
        No event is decoded, but for those of the first frames of a file of compression 65000.

    Raises
    ------
    FormatError
        Truncated, corrupt, without frames, or with frames that differ in size or encoding.
    StoreError
        The file cannot be read.
    """
    with readable(path), path.open("rb") as stream:
        directories = list(_directories(path, stream))
        frames = [d for d in directories if d.compression in _EER_COMPRESSIONS]
        if not frames:
            raise FormatError(
                f"{path}: has no frames of electron events in its {len(directories)} directories; "
                "record or copy it again"
            )
        kinds = {(frame.shape, *frame.encoding) for frame in frames}
        if len(kinds) > 1:
            raise FormatError(
                f"{path}: its frames differ in size or encoding {sorted(map(str, kinds))}; "
                "it is corrupt, copy it again"
            )
        skip_bits, subpixel_bits = frames[0].encoding
        sound = all(1 <= edge <= _LARGEST_EDGE for edge in frames[0].shape)
        if not sound or not 1 <= skip_bits <= 16 or max(subpixel_bits) > 8:
            raise FormatError(
                f"{path}: its frames are of {frames[0].shape} pixels (y, x), with skips of "
                f"{skip_bits} bits and places of {subpixel_bits}: it is corrupt, copy it again"
            )
        metadata = _metadata(path, stream, directories[0])
        streams = [frame.extents(stream) for frame in frames]
        whole_escapes = frames[0].compression == 65000 and _wastes_bits(
            (_read_extents(stream, extents) for extents in streams), frames[0].shape
        )
    promised = _number(metadata, "numberOfFrames")
    if promised is not None and promised > len(frames):
        raise FormatError(
            f"{path}: its metadata promise {promised:.0f} frames, of which {len(frames)} are "
            "there: it is truncated; copy it again"
        )
    return EerInfo(
        path=path,
        shape=(len(frames), *frames[0].shape),
        skip_bits=skip_bits,
        subpixel_bits=subpixel_bits,
        whole_escapes=whole_escapes,
        pixel_size=_pixel_size(metadata),
        dose=_number(metadata, "totalDose"),
        metadata=metadata,
    )


def render_eer(
    info: EerInfo,
    groups: range,
    group: int,
    superresolution: int,
    upside_down: bool,
    dtype: np.dtype[np.unsignedinteger[Any]],
) -> NDArray[np.unsignedinteger[Any]]:
    """Count electrons over groups of raw frames.

    Parameters
    ----------
    info : EerInfo
        From `open_eer`.
    groups : range
        The groups to render: group ``i`` holds the raw frames from ``i * group``.
    group : int
        Raw frames per group.
    superresolution : int
        Rendered pixels per sensor pixel along each axis: a power of two that the places within
        pixels resolve.
    upside_down : bool
        Whether the file's first row becomes the last one.
    dtype : numpy.dtype
        Unsigned, able to hold `group`.

    Returns
    -------
    ndarray, shape (group, y, x)
        C-contiguous.

    Raises
    ------
    FormatError
        A frame cannot be decoded, or the file has changed.
    StoreError
        The file cannot be read.
    """
    zoom = superresolution.bit_length() - 1
    ny, nx = info.shape[1] << zoom, info.shape[2] << zoom
    images = np.zeros((len(groups), ny, nx), dtype)
    with readable(info.path), info.path.open("rb") as stream:
        frames = [d for d in _directories(info.path, stream) if d.compression in _EER_COMPRESSIONS]
        if len(frames) != info.shape[0]:
            raise FormatError(
                f"{info.path}: has {len(frames)} frames, {info.shape[0]} when it was opened; "
                "leave it alone while it is read"
            )
        for image, index in zip(images, groups, strict=True):
            for raw in range(index * group, (index + 1) * group):
                events = _read_extents(stream, frames[raw].extents(stream))
                electrons = render_events(
                    _words(events),
                    8 * len(events),
                    info.skip_bits,
                    info.subpixel_bits,
                    info.whole_escapes,
                    (zoom, zoom),
                    upside_down,
                    image,
                )
                if electrons < 0:
                    raise FormatError(
                        f"{info.path}: the events of raw frame {raw} end before or beyond the "
                        f"last of its {info.shape[2]} x {info.shape[1]} pixels: it is corrupt, "
                        "copy it again"
                    )
    return images


@dataclass(frozen=True, slots=True)
class _Directory:
    """One image file directory of a BigTIFF."""

    path: Path
    size: int
    entries: dict[int, np.void]

    def number(self, tag: int, default: int = 0) -> int:
        """Return a tag's one number."""
        if tag not in self.entries:
            return default
        entry = self.entries[tag]
        width = np.dtype(_TYPES.get(int(entry["type"]), "<u8")).itemsize
        return int(entry["value"]) & ((1 << 8 * width) - 1)

    def values(self, stream: BinaryIO, tag: int) -> NDArray[np.unsignedinteger[Any]]:
        """Return a tag's numbers, which lie in the entry itself where 8 bytes hold them."""
        if tag not in self.entries:
            return np.zeros(0, np.uint64)
        entry = self.entries[tag]
        dtype = np.dtype(_TYPES.get(int(entry["type"]), "u1"))
        n_bytes = int(entry["count"]) * dtype.itemsize
        if n_bytes <= 8:
            return np.frombuffer(entry["value"].tobytes()[:n_bytes], dtype)
        offset = int(entry["value"])
        if offset + n_bytes > self.size:
            raise _truncated(self.path, offset + n_bytes, self.size)
        stream.seek(offset)
        return np.frombuffer(stream.read(n_bytes), dtype)

    @property
    def compression(self) -> int:
        return self.number(_COMPRESSION, 1)

    @property
    def shape(self) -> tuple[int, int]:
        return self.number(_LENGTH), self.number(_WIDTH)

    @property
    def encoding(self) -> tuple[int, tuple[int, int]]:
        """Bits of a skip, and of a place within the pixel (y, x)."""
        if self.compression == _VARIABLE:
            places = self.number(_Y_BITS, 2), self.number(_X_BITS, 2)
            return self.number(_SKIP_BITS, 7), places
        return _FIXED_SKIP_BITS[self.compression], (2, 2)

    def extents(self, stream: BinaryIO) -> list[tuple[int, int]]:
        """Return (offset, bytes) of the strips, all within the file."""
        offsets = self.values(stream, _OFFSETS).tolist()
        counts = self.values(stream, _COUNTS).tolist()
        if not offsets or len(offsets) != len(counts):
            raise FormatError(
                f"{self.path}: a frame has {len(offsets)} strips and {len(counts)} lengths of "
                "strips: it is corrupt, copy it again"
            )
        extents = list(zip(offsets, counts, strict=True))
        end = max(offset + count for offset, count in extents)
        if end > self.size:
            raise _truncated(self.path, end, self.size)
        return extents


def _directories(path: Path, stream: BinaryIO) -> Iterator[_Directory]:
    """Walk the chain of directories; a chain that breaks is an error, not the end."""
    size = stream.seek(0, 2)
    stream.seek(8)
    (offset,) = np.frombuffer(stream.read(8), "<u8", count=1) if size >= 16 else (size,)
    seen = set()
    while offset:
        offset = int(offset)
        if offset + 16 > size:
            raise _truncated(path, offset + 16, size)
        if offset in seen:
            raise FormatError(f"{path}: its directories form a loop: it is corrupt, copy it again")
        seen.add(offset)
        stream.seek(offset)
        n_entries = int.from_bytes(stream.read(8), "little")
        end = offset + 16 + n_entries * _ENTRY.itemsize
        if end > size:
            raise _truncated(path, end, size)
        entries = np.frombuffer(stream.read(n_entries * _ENTRY.itemsize), _ENTRY)
        following = int.from_bytes(stream.read(8), "little")
        yield _Directory(path, size, {int(entry["tag"]): entry for entry in entries})
        offset = following


def _truncated(path: Path, end: int, size: int) -> FormatError:
    return FormatError(
        f"{path}: has {size} bytes, but its directories point to byte {end}: it is truncated; "
        "copy it again, or wait until it is written"
    )


def _read_extents(stream: BinaryIO, extents: list[tuple[int, int]]) -> bytes:
    strips = []
    for offset, count in extents:
        stream.seek(offset)
        strips.append(stream.read(count))
    return b"".join(strips)


def _words(events: bytes) -> NDArray[np.uint64]:
    """Return a bit stream as little-endian words, with one more behind the last."""
    words = np.zeros(len(events) // 8 + 2, "<u8")
    words.view(np.uint8)[: len(events)] = np.frombuffer(events, np.uint8)
    return words.astype(np.uint64, copy=False)


def _wastes_bits(frames: Iterable[bytes], shape: tuple[int, int]) -> bool:
    """Tell which way of two the frames of compression 65000 are decoded.

    Those without a skip that holds no electron can be in both, and corrupt ones in neither.
    """
    image = np.zeros(shape, np.uint8)
    for events in frames:
        words, n_bits = _words(events), 8 * len(events)
        wasteful, thrifty = (
            render_events(words, n_bits, 8, (2, 2), whole, (0, 0), False, image) >= 0
            for whole in (True, False)
        )
        if wasteful != thrifty:
            return wasteful
    return False


def _metadata(path: Path, stream: BinaryIO, directory: _Directory) -> dict[str, str]:
    raw = directory.values(stream, _METADATA).tobytes().rstrip(b"\0 \r\n")
    if not raw:
        return {}
    try:
        root = ET.fromstring(raw.decode())
    except (ET.ParseError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: its metadata are not readable XML ({error}); it is corrupt, copy it again"
        ) from error
    return {item.get("name", ""): (item.text or "").strip() for item in root.iter("item")}


def _number(metadata: dict[str, str], name: str) -> float | None:
    try:
        value = float(metadata[name])
    except (KeyError, ValueError):
        return None
    return value if value > 0 else None


def _pixel_size(metadata: dict[str, str]) -> float | None:
    """Return A per sensor pixel; the metadata count in metres."""
    size = _number(metadata, "sensorPixelSize.width")
    height = _number(metadata, "sensorPixelSize.height")
    # A pixel of micrometres is the sensor's own, not the specimen's.
    if size is None or (height is not None and abs(height / size - 1) > 0.01) or size > 1e-8:
        return None
    return float(f"{size * 1e10:.7g}")
