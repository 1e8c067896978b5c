"""IMOD's binary models: real files byte for byte, and one packed here by hand."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import ConversionError, DataError, FormatError, StoreError
from tomodask.io.imod_model import (
    Chunk,
    ImodModel,
    ModelContour,
    ModelObject,
)
from tomodask.io.imod_model_file import read_model, write_model

if TYPE_CHECKING:
    from pathlib import Path


def packed_by_hand() -> bytes:
    """One object with two contours, a mesh and a chunk that nobody knows."""
    header = struct.pack(">128s3i", b"by hand", 640, 481, 7)
    header += struct.pack(">iI4i6f", 1, 0xF000, 1, 1, 5, 200, 0, 0, 0, 1, 1, 1)
    header += struct.pack(">5ifiI3f", 0, 0, -1, 3, 128, 1.25, -9, 77, 0, 0, 0)
    record = struct.pack(">64s64s", b"beads", bytes(range(64)))
    record += struct.pack(">iIii3fi", 2, 1 << 9, 0, 1, 0.25, 0.5, 1.0, 6)
    record += bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack(">2i", 1, 2)
    first = struct.pack(">iIii", 2, 16, 0, 1) + struct.pack(">6f", 1.5, 2.25, 3, 640, 0.5, 6)
    second = struct.pack(">iIii", 1, 0, 3, 2) + struct.pack(">3f", 9.125, 8, 0)
    mesh = struct.pack(">2iI2h", 1, 2, 0, 0, 0) + struct.pack(">3f2i", 1, 2, 3, -25, -1)
    return b"".join(
        (
            b"IMODV1.2" + header,
            b"OBJT" + record,
            b"CONT" + first,
            b"SIZE" + struct.pack(">i2f", 8, 2.5, -1),
            b"CONT" + second,
            b"LABL" + struct.pack(">i", 5) + b"label",
            b"MESH" + mesh,
            b"NEWX" + struct.pack(">i", 3) + b"abc",
            b"MINX" + struct.pack(">i18f", 72, *range(18)),
            b"IEOF",
        )
    )


def test_every_field_is_where_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "a.mod"
    path.write_bytes(packed_by_hand())
    model = read_model(path)
    assert model.image_size == (640, 481, 7)
    assert (model.pixel_size, model.units) == (1.25, -9)
    (item,) = model.objects
    assert (item.name, item.kind, item.color, item.point_size) == (
        "beads",
        "scattered",
        (0.25, 0.5, 1.0),
        6,
    )
    one, two = item.contours
    np.testing.assert_array_equal(one.points, [[1.5, 2.25, 3], [640, 0.5, 6]])
    np.testing.assert_array_equal(one.point_sizes, [2.5, -1])
    assert (one.flags, one.surface, two.time, two.surface) == (16, 1, 3, 2)
    assert two.point_sizes is None
    assert two.chunks == (Chunk(b"LABL", b"label"),)
    assert [chunk.name for chunk in item.chunks] == [b"MESH", b"NEWX"]
    reference = model.reference
    assert reference is not None
    assert (reference.pixel_size, reference.origin) == ((9, 10, 11), (12, 13, 14))
    assert (reference.old_origin, reference.old_rotation) == ((3, 4, 5), (6, 7, 8))
    assert model.angstrom_per_pixel == 9
    write_model(tmp_path / "b.mod", model)
    assert (tmp_path / "b.mod").read_bytes() == packed_by_hand()


def test_real_models_come_back_byte_for_byte(data_dir: Path, tmp_path: Path) -> None:
    folders = (data_dir / "imod_tutorial_bb", data_dir / "metadata" / "imod_models")
    models = [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.read_bytes()[:4] == b"IMOD"
    ]
    assert len(models) == 15
    for path in models:
        write_model(tmp_path / path.name, read_model(path))
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path


def test_pixel_size_in_any_unit(tmp_path: Path) -> None:
    for units, expected in ((-9, 12.5), (-10, 1.25), (-6, 12500.0), (0, None)):
        model = ImodModel((4, 4, 1), (), pixel_size=1.25, units=units)
        write_model(tmp_path / "a.mod", model)
        found = read_model(tmp_path / "a.mod").angstrom_per_pixel
        assert found == (None if expected is None else pytest.approx(expected))


def test_a_new_model(tmp_path: Path) -> None:
    points = np.array([[0.1, 1e-20, 3], [5e5, -2, 4]], np.float32)
    item = ModelObject((ModelContour(points, surface=2), ModelContour(points[:0])), name="gold")
    write_model(tmp_path / "a.fid", ImodModel.create((64, 32, 5), (item,), pixel_size=13.5))
    model = read_model(tmp_path / "a.fid")
    assert model.angstrom_per_pixel == 13.5
    assert (model.objects[0].name, model.objects[0].kind) == ("gold", "open")
    np.testing.assert_array_equal(model.objects[0].contours[0].points, points)
    assert model.objects[0].contours[0].surface == 2
    assert len(model.objects[0].contours[1].points) == 0


@pytest.mark.parametrize("length", [0, 7, 8, 100, 240, 300, 470, 500])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.fid"
    path.write_bytes(packed_by_hand()[:length])
    with pytest.raises(FormatError, match=r"a\.fid"):
        read_model(path)


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    path = tmp_path / "a.fid"
    with pytest.raises(StoreError, match="cannot be read"):
        read_model(path)
    path.write_text("imod 1\nobject 0 1 0\n")
    with pytest.raises(FormatError, match="ASCII model"):
        read_model(path)
    one_point, fewer = (struct.pack(">iIii", count, 0, 3, 2) for count in (1, -1))
    path.write_bytes(packed_by_hand().replace(one_point, fewer))
    with pytest.raises(FormatError, match="damaged"):
        read_model(path)
    whole = packed_by_hand()
    path.write_bytes(whole[:240] + whole[whole.index(b"CONT") :])
    with pytest.raises(FormatError, match="belongs to no object"):
        read_model(path)
    for points, error in (([[1, 2, np.nan]], ConversionError), ([[1, 2]], DataError)):
        item = ModelObject((ModelContour(np.array(points, np.float32)),))
        with pytest.raises(error, match="contour 1"):
            write_model(path, ImodModel((1, 1, 1), (item,)))
