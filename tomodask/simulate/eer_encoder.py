"""Movies of electron events (EER), as Thermo Fisher's Falcon cameras write them.

A raw frame lists its electrons in the order of the pixels, the first row being the top of the
image. Each is a skip, the number of empty pixels since the last electron, and a place within its
pixel, in two's complement about the centre, x before y; all bits least significant first. A skip
of all ones means that many pixels and no electron. The container is BigTIFF, one directory per raw
frame, with XML in the first (https://github.com/fei-company/EerReaderLib; Guo et al. 2020,
https://doi.org/10.1107/S205225252000929X).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["EER_BITS", "EerCompression", "Electrons", "encode_frame", "scatter", "write_eer"]

EerCompression = Literal[65000, 65001, 65002]
#: Bits of a skip and of the place along x and along y. Those of 65002 are told in its tags.
EER_BITS: dict[EerCompression, tuple[int, int, int]] = {
    65000: (8, 2, 2),
    65001: (7, 2, 2),
    65002: (6, 2, 2),
}
_WORD_BITS = 64
_BITS_TAGS = (65007, 65008, 65009)
_METADATA_TAG = 65001
# Types of the tags: 64-bit integers, and bytes.
_LONG8, _UNDEFINED = 16, 7


class Electrons(NamedTuple):
    """The electrons of one raw frame, at most one per pixel."""

    pixel: NDArray[np.int64]
    """(electron,) indices of the pixels in the order of the file, ascending."""
    place: NDArray[np.int64]
    """(electron, 2) x and y within the pixel in steps of its subdivision, from its first edge."""


def scatter(
    counts: NDArray[np.integer],
    raw_frames: int,
    bits: tuple[int, int, int],
    rng: np.random.Generator,
) -> Iterator[Electrons]:
    """Distribute the counts of a frame over raw frames and over places within the pixels.

    Parameters
    ----------
    counts
        (y, x), rows in the order of the file, at most `raw_frames`.
    raw_frames
        How many; their sum is `counts`.
    bits
        Of a skip and of the place along x and y.
    rng
        Of the places and of the raw frames.

    Raises
    ------
    ParameterError
        If a pixel has more electrons than there are raw frames.
    """
    if counts.max(initial=0) > raw_frames:
        raise ParameterError(
            f"a pixel has {counts.max()} electrons and there are {raw_frames} raw frames, each of "
            "which holds one; give more raw frames"
        )
    flat = counts.reshape(-1)
    hit = np.flatnonzero(flat)
    number = flat[hit].astype(np.int64)
    pixel = np.repeat(hit, number)
    # A pixel's electrons go to successive raw frames from a random one on: never two into one.
    first = np.repeat(rng.integers(raw_frames, size=len(hit)), number)
    rank = np.arange(len(pixel)) - np.repeat(np.cumsum(number) - number, number)
    frame = (first + rank) % raw_frames
    place = np.stack([rng.integers(1 << n, size=len(pixel)) for n in bits[1:]], axis=1)
    for raw in range(raw_frames):
        inside = frame == raw
        yield Electrons(pixel[inside], place[inside])


def encode_frame(electrons: Electrons, pixels: int, bits: tuple[int, int, int]) -> bytes:
    """Return the bit stream of a raw frame of so many pixels, in whole 64-bit words."""
    skip_bits, x_bits, y_bits = bits
    longest = (1 << skip_bits) - 1
    ends = np.append(electrons.pixel, pixels)
    skip = np.diff(ends, prepend=-1) - 1
    sign = np.array([(1 << x_bits) >> 1, (1 << y_bits) >> 1])
    place = electrons.place ^ sign
    symbol = skip % longest
    symbol[:-1] |= (place[:, 0] | place[:, 1] << x_bits) << skip_bits
    # What follows the last electron ends behind the last pixel, where decoders stop.
    escapes = skip // longest * skip_bits
    start = np.cumsum(escapes + sum(bits)) - sum(bits)
    words = -(-(int(start[-1]) + sum(bits)) // _WORD_BITS)
    stream = np.zeros(words * _WORD_BITS, np.uint8)
    stream[: start[-1]] = 1  # an escape, unless a symbol stands there
    for bit in range(sum(bits)):
        stream[start + bit] = symbol >> bit & 1
    return np.packbits(stream, bitorder="little").tobytes()


def write_eer(
    path: Path,
    frames: Iterable[Electrons],
    shape: tuple[int, int],
    *,
    compression: EerCompression = 65001,
    metadata: Mapping[str, tuple[object, str]] | None = None,
) -> None:
    """Write a movie of electron events.

    Parameters
    ----------
    path
        The file.
    frames
        The raw frames.
    shape
        (y, x) pixels of the camera.
    compression
        TIFF code, which tells how many bits things have.
    metadata
        Value and unit ("" is none) by name: goes to the first directory as XML.
    """
    bits = EER_BITS[compression]
    with path.open("wb") as stream:
        # Little-endian BigTIFF: offsets have 8 bytes, the last field is the first directory's.
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        pointer = stream.tell() - 8
        for number, electrons in enumerate(frames):
            strip = encode_frame(electrons, shape[0] * shape[1], bits)
            tags = {
                256: shape[1],
                257: shape[0],
                258: 8,
                259: compression,
                262: 1,
                273: stream.tell(),
                277: 1,
                278: shape[0],
                279: len(strip),
            }
            if compression == 65002:
                tags |= dict(zip(_BITS_TAGS, bits, strict=True))
            entries = [(tag, _LONG8, 1, value) for tag, value in tags.items()]
            stream.write(strip)
            if number == 0:
                xml = _metadata_xml({} if metadata is None else metadata)
                entries.append((_METADATA_TAG, _UNDEFINED, len(xml), stream.tell()))
                stream.write(xml)
            directory = stream.tell()
            stream.write(struct.pack("<Q", len(entries)))
            for entry in sorted(entries):
                stream.write(struct.pack("<HHQQ", *entry))
            stream.write(struct.pack("<Q", 0))
            end = stream.tell()
            stream.seek(pointer)
            stream.write(struct.pack("<Q", directory))
            pointer = end - 8
            stream.seek(end)


def _metadata_xml(items: Mapping[str, tuple[object, str]]) -> bytes:
    lines = ["<metadata>"]
    for name, (value, unit) in items.items():
        attribute = f" unit={quoteattr(unit)}" if unit else ""
        lines.append(f"<item name={quoteattr(name)}{attribute}>{escape(str(value))}</item>")
    return "\n".join([*lines, "</metadata>"]).encode()
