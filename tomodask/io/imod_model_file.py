"""IMOD's binary model files: reading and writing.

A file is a header and a sequence of chunks, all big-endian. Chunks that are not interpreted are
kept, so that a model comes back byte for byte.

Source: IMOD's page "IMOD Binary File Format, Version 1, Revision 2".
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tomodask.engine.files import write_whole
from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.io.imod_model import HEADER, OBJECT, Chunk, ImodModel, ModelContour, ModelObject
from tomodask.io.paths import check_folder, readable

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["read_model", "write_model"]

_IDENTITY = b"IMODV1.2"
_CONTOUR = struct.Struct(">i I 2i")
_MESH = struct.Struct(">2i I 2h")

# Chunks that belong to the contour before them, and those of the whole model, which come last;
# others belong to the object before them.
_OF_CONTOUR: Final = {b"LABL", b"SIZE", b"COST"}
_OF_MODEL: Final = {b"VIEW", b"MINX", b"IMNX", b"SLAN", b"MCLP", b"MOST", b"OGRP"}


def read_model(path: str | PathLike[str]) -> ImodModel:
    """Read a binary model.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    ImodModel

    Raises
    ------
    FormatError
        The file is no binary model of version 1.2, or is cut short.
    StoreError
        The file cannot be read.
    """
    path = Path(path).absolute()
    with readable(path):
        data = path.read_bytes()
    if not data.startswith(_IDENTITY):
        raise FormatError(
            f"{path}: begins with {data[:8]!r}, a binary IMOD model with {_IDENTITY!r}; write an "
            "ASCII model as binary with 'imodinfo' or 3dmod first"
        )
    reader = _Reader(path, data, len(_IDENTITY))
    settings = reader.take(HEADER.size)
    header = HEADER.unpack(settings)
    objects, chunks = _read_chunks(reader)
    if len(objects) != header[4]:
        raise FormatError(
            f"{path}: announces {header[4]} objects and has {len(objects)}; save it again in 3dmod"
        )
    return ImodModel(
        image_size=header[1:4],
        objects=objects,
        flags=header[5],
        pixel_size=header[21],
        units=header[22],
        chunks=chunks,
        settings=settings,
    )


def write_model(path: str | PathLike[str], model: ImodModel) -> None:
    """Write a binary model.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    model : ImodModel
        The model.

    Raises
    ------
    ConversionError
        A point is not finite in single precision.
    DataError
        Points have another shape.
    StoreError, SpaceError
        The file cannot be written.
    """
    path = Path(path).absolute()
    header = list(HEADER.unpack(model.settings))
    header[1:6] = *model.image_size, len(model.objects), model.flags
    header[21:23] = model.pixel_size, model.units
    parts = [_IDENTITY, HEADER.pack(*header)]
    for number, item in enumerate(model.objects, 1):
        fields = list(OBJECT.unpack(item.settings))
        if _text(fields[0]) != item.name:
            fields[0] = item.name.encode("utf-8")[:63]
        fields[2:4] = len(item.contours), item.flags
        fields[6:10] = *item.color, item.point_size
        # Meshes and the highest surface are counted, as a reader allocates by them.
        fields[18] = sum(chunk.name == b"MESH" for chunk in item.chunks)
        fields[19] = max(fields[19], *(c.surface for c in item.contours), 0)
        parts += [b"OBJT", OBJECT.pack(*fields)]
        for place, contour in enumerate(item.contours, 1):
            points = _single(path, number, place, contour.points)
            parts += [
                b"CONT",
                _CONTOUR.pack(len(points), contour.flags, contour.time, contour.surface),
                points.tobytes(),
                *map(_packed, contour.chunks),
            ]
        parts += map(_packed, item.chunks)
    parts += [*map(_packed, model.chunks), b"IEOF"]
    check_folder(path)
    with write_whole(path) as temporary:
        temporary.write_bytes(b"".join(parts))


class _Reader:
    """Takes bytes of a file in order, and refuses where there are none left."""

    def __init__(self, path: Path, data: bytes, start: int) -> None:
        self.path, self._data, self._at = path, data, start

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise FormatError(
                f"{self.path}: ends at byte {len(self._data)} where {count} more were expected "
                f"after byte {self._at}: it is cut short or damaged; copy or save it again"
            )
        self._at += count
        return self._data[self._at - count : self._at]

    def ahead(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack(self.take(form.size))
        self._at -= form.size
        return values


def _read_chunks(reader: _Reader) -> tuple[tuple[ModelObject, ...], tuple[Chunk, ...]]:
    objects: list[tuple[bytes, list[tuple[bytes, bytes, list[Chunk]]], list[Chunk]]] = []
    of_model: list[Chunk] = []
    while (name := reader.take(4)) != b"IEOF":
        if name == b"OBJT":
            objects.append((reader.take(OBJECT.size), [], []))
        elif name == b"CONT":
            if not objects or of_model:
                raise FormatError(f"{reader.path}: a contour belongs to no object; save it again")
            record = reader.take(_CONTOUR.size)
            points = reader.take(12 * _CONTOUR.unpack(record)[0])
            objects[-1][1].append((record, points, []))
        else:
            if name == b"MESH":
                vertices, indices, *_ = reader.ahead(_MESH)
                data = reader.take(_MESH.size + 12 * vertices + 4 * indices)
            else:
                data = reader.take(struct.unpack(">i", reader.take(4))[0])
            if of_model or not objects or name in _OF_MODEL:
                of_model.append(Chunk(name, data))
            elif name in _OF_CONTOUR and objects[-1][1] and not objects[-1][2]:
                objects[-1][1][-1][2].append(Chunk(name, data))
            else:
                objects[-1][2].append(Chunk(name, data))
    return tuple(_object(*parts) for parts in objects), tuple(of_model)


def _object(
    settings: bytes, contours: list[tuple[bytes, bytes, list[Chunk]]], chunks: list[Chunk]
) -> ModelObject:
    fields = OBJECT.unpack(settings)
    return ModelObject(
        contours=tuple(
            ModelContour(
                np.frombuffer(points, ">f4").reshape(-1, 3).astype(np.float32),
                flags=flags,
                time=time,
                surface=surface,
                chunks=tuple(of_contour),
            )
            for record, points, of_contour in contours
            for _, flags, time, surface in (_CONTOUR.unpack(record),)
        ),
        name=_text(fields[0]),
        flags=fields[3],
        color=fields[6:9],
        point_size=fields[9],
        chunks=tuple(chunks),
        settings=settings,
    )


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")


def _packed(chunk: Chunk) -> bytes:
    size = b"" if chunk.name == b"MESH" else struct.pack(">i", len(chunk.data))
    return chunk.name + size + chunk.data


def _single(
    path: Path, number: int, place: int, points: NDArray[np.float32]
) -> NDArray[np.float32]:
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] != 3:
        raise DataError(
            f"{path}: object {number}, contour {place} has points of shape {array.shape}; give "
            "(n, 3)"
        )
    single = array.astype(">f4")
    if not np.isfinite(single).all():
        raise ConversionError(
            f"{path}: object {number}, contour {place} has a point that is not a finite number; "
            "leave it out"
        )
    return single
