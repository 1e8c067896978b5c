"""A second, slow writer of EER files, straight from the format's description, as an oracle."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: An electron's pixel, row and column from the sensor's first, and its place in quarters of it.
Electron = tuple[int, int, int, int]

SKIP_BITS = {65000: 8, 65001: 7}


def encode(
    electrons: Iterable[Electron],
    shape: tuple[int, int],
    skip_bits: int = 7,
    place_bits: tuple[int, int] = (2, 2),
    *,
    whole_escapes: bool = False,
) -> bytes:
    """Return the bit stream of a frame; `place_bits` are of y and x."""
    bits: list[str] = []

    def put(value: int, width: int) -> None:
        bits.extend(reversed(f"{value:0{width}b}"))

    def signed(place: int, width: int) -> int:
        # Two's complement about the centre, of a place counted from the pixel's edge.
        return (place - (1 << width) // 2) % (1 << width)

    full = (1 << skip_bits) - 1
    n_pixels = shape[0] * shape[1]
    at = 0
    for y, x, sub_y, sub_x in [*sorted(electrons), (shape[0], 0, 0, 0)]:
        pixel = y * shape[1] + x
        skip = pixel - at
        while skip >= full:
            put(full, skip_bits)
            if whole_escapes:
                put(0, sum(place_bits))
            skip -= full
        put(skip, skip_bits)
        if pixel < n_pixels:
            put(signed(sub_x, place_bits[1]), place_bits[1])
            put(signed(sub_y, place_bits[0]), place_bits[0])
        at = pixel + 1
    bits.extend("0" * (-len(bits) % 64))
    text = "".join(bits)
    return bytes(int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8))


def write(
    path: Path,
    streams: Sequence[bytes],
    shape: tuple[int, int],
    *,
    compression: int = 65001,
    metadata: str | None = "",
    tags: dict[int, int] | None = None,
    strips: int = 1,
    integrated: bool = False,
) -> Path:
    """Write a BigTIFF of one directory per frame; `integrated` puts an image before them."""
    content = bytearray(b"II+\0\x08\0\0\0" + bytes(8))
    link = 8

    def append(blob: bytes) -> int:
        content.extend(bytes(-len(content) % 8))
        content.extend(blob)
        return len(content) - len(blob)

    def directory(chunks: Sequence[bytes], code: int, first: bool) -> None:
        nonlocal link
        places = [append(chunk) for chunk in chunks]
        counts = [len(chunk) for chunk in chunks]
        entries: dict[int, tuple[int, int, int]] = {
            256: (4, 1, shape[1]),
            257: (4, 1, shape[0]),
            259: (3, 1, code),
            278: (4, 1, -(-shape[0] // len(chunks))),
        }
        for tag, values in ((273, places), (279, counts)):
            where = (
                values[0] if len(values) == 1 else append(struct.pack(f"<{len(values)}Q", *values))
            )
            entries[tag] = (16, len(values), where)
        for tag, value in (tags or {}).items():
            entries[tag] = (3, 1, value)
        if first and metadata is not None:
            text = f"<metadata>{metadata}</metadata>".encode()
            entries[65001] = (7, len(text), append(text))
        blob = struct.pack("<Q", len(entries))
        for tag, (kind, count, value) in sorted(entries.items()):
            blob += struct.pack("<HHQQ", tag, kind, count, value)
        offset = append(blob + bytes(8))
        struct.pack_into("<Q", content, link, offset)
        link = len(content) - 8

    if integrated:
        directory([np.zeros(shape, "<u2").tobytes()], 1, True)
    for index, stream in enumerate(streams):
        edges = [len(stream) * i // strips for i in range(strips + 1)]
        chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
        directory(chunks, compression, index == 0 and not integrated)
    path.write_bytes(content)
    return path


def random_electrons(
    rng: np.random.Generator, shape: tuple[int, int], rate: float
) -> list[Electron]:
    rows, columns = np.nonzero(rng.random(shape) < rate)
    places = rng.integers(0, 4, (len(rows), 2))
    return [
        (y, x, sub_y, sub_x)
        for y, x, (sub_y, sub_x) in zip(
            rows.tolist(), columns.tolist(), places.tolist(), strict=True
        )
    ]


def image(electrons: Iterable[Electron], shape: tuple[int, int], zoom: int = 1) -> np.ndarray:
    """Count electrons on `zoom` pixels per sensor pixel, the sensor's first row first."""
    counts = np.zeros((shape[0] * zoom, shape[1] * zoom), int)
    for y, x, sub_y, sub_x in electrons:
        counts[y * zoom + sub_y * zoom // 4, x * zoom + sub_x * zoom // 4] += 1
    return counts
