"""MRC files, against mrcfile, against NumPy, and against files that microscopes wrote."""

from __future__ import annotations

import itertools
import pickle
import resource
import struct
import tracemalloc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from mrcfile.dtypes import get_ext_header_dtype

from tomodask.errors import (
    ConversionError,
    DataError,
    FormatError,
    ParameterError,
    SpaceError,
    StoreError,
)
from tomodask.io.mrc import MrcWriter, tilt_axis_from_titles
from tomodask.io.stack import open_stack, read_section

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IMOD_STAMP = 1146047817


def write_reference(path: Path, data: np.ndarray, **header: object) -> Path:
    """Write a file with mrcfile."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        for name, value in header.items():
            setattr(mrc.header, name, value)
    return path


def patch(path: Path, offset: int, layout: str, *values: object) -> Path:
    """Overwrite bytes of a file."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(layout, raw, offset, *values)
    path.write_bytes(raw)
    return path


def read_all(path: Path) -> np.ndarray:
    info = open_stack(path)
    return np.stack([read_section(info, index) for index in range(info.shape[0])])


def random_stack(dtype: str, shape: tuple[int, ...] = (3, 5, 7)) -> np.ndarray:
    values = np.random.default_rng(1).uniform(-120, 120, shape)
    return (np.abs(values) if "u" in dtype else values).astype(dtype)


def write_sections(path: Path, sections: Iterable[np.ndarray], **description: object) -> None:
    with MrcWriter(path, voxel_size=1, kind="volume", **description) as writer:
        for section in sections:
            writer.write(section)


# Reading what mrcfile writes.


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
def test_reads_every_mode_in_both_byte_orders(tmp_path: Path, dtype: str, order: str) -> None:
    data = random_stack(order + dtype)
    path = write_reference(tmp_path / "a.mrc", data)
    info = open_stack(path)
    assert info.shape == (3, 5, 7)
    assert info.dtype == np.dtype(order + dtype)
    section = read_section(info, 2)
    assert section.dtype == np.float32
    assert section.flags.c_contiguous
    assert section.flags.writeable
    np.testing.assert_array_equal(read_all(path), mrcfile.read(path).astype(np.float32))


@pytest.mark.parametrize("stamp", [b"\0\0\0\0", b"\x44\x44\0\0", b"\x11\x11\0\0"])
@pytest.mark.parametrize("dtype", ["<i1", ">i1", "<f4", ">f4"])
def test_wrong_machine_stamp_is_seen_through(tmp_path: Path, dtype: str, stamp: bytes) -> None:
    data = random_stack(dtype, (2, 40, 300))
    path = write_reference(tmp_path / "a.st", data)
    patch(path, 208, "4s4s", b"????", stamp)
    np.testing.assert_array_equal(read_all(path), data.astype(np.float32))


def test_byte_order_without_stamp_or_axes_is_the_one_of_smaller_sizes(tmp_path: Path) -> None:
    data = random_stack(">i1")
    path = write_reference(tmp_path / "a.st", data.astype("i1"))
    big_endian = np.array(data.shape[::-1], ">i4").tobytes()
    patch(path, 0, "12s", big_endian)
    patch(path, 64, "12s", bytes(12))
    patch(path, 212, "4s", bytes(4))
    np.testing.assert_array_equal(read_all(path), data)


def test_single_image_and_volume_stack_are_sections(tmp_path: Path) -> None:
    image = random_stack("f4", (5, 7))
    assert open_stack(write_reference(tmp_path / "image.mrc", image)).shape == (1, 5, 7)
    volumes = random_stack("f4", (2, 3, 5, 7))
    path = tmp_path / "volumes.map"
    with mrcfile.new(path) as mrc:
        mrc.set_data(volumes)
    np.testing.assert_array_equal(read_all(path), volumes.reshape(6, 5, 7))


@pytest.mark.parametrize(
    ("flags", "expected"), [(None, [-128, -1, 127]), (0, [128, 255, 127]), (1, [-128, -1, 127])]
)
def test_sign_of_bytes_follows_imods_stamp(
    tmp_path: Path, flags: int | None, expected: list[int]
) -> None:
    path = write_reference(tmp_path / "a.mrc", np.array([[-128, -1, 127]], np.int8))
    if flags is not None:
        patch(path, 152, "<2i", IMOD_STAMP, flags)
    np.testing.assert_array_equal(read_all(path)[0, 0], expected)


def test_titles_give_the_tilt_axis(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "a.st", random_stack("i2"))
    title = b"          Tilt axis rotation angle = -12.5"
    patch(path, 220, "<i80s", 1, title)
    assert open_stack(path).tilt_axis_angle == -12.5


@pytest.mark.parametrize(
    ("title", "rotation", "axis"),
    [
        ("    Tilt axis angle = -88.7, binning = 1  spot = 6", None, -88.7),
        ("Tilt axis angle = 85, binning = 4", 999.0, 85.0),
        ("  TiltAxisAngle = -175.84  Binning = 2  SpotSize = 6", 85.84, 85.84),
        ("  TiltAxisAngle = -4.2", 85.8, -4.2),
        ("  TiltAxisAngle = 4.2", 85.8, -4.2),
        ("  TiltAxisAngle = 4.2", None, None),
        ("  TiltAxisAngle = 30.0", 85.8, None),
        ("Tilt axis angle = 85,5 binning = 4", None, None),
        ("no axis here = 3", 1.0, None),
    ],
)
def test_tilt_axis_of_a_title(title: str, rotation: float | None, axis: float | None) -> None:
    assert tilt_axis_from_titles([title], rotation) == axis


def test_pixel_size_is_unknown_rather_than_wrong(tmp_path: Path) -> None:
    data = random_stack("i2")
    path = tmp_path / "a.mrc"

    def pixel_size(voxel: tuple[float, float, float], version: int, *, imod: bool) -> float | None:
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(data)
            mrc.voxel_size = voxel
            mrc.header.nversion = version
        if imod:
            patch(path, 152, "<2i", IMOD_STAMP, 0)
        return open_stack(path).pixel_size

    assert pixel_size((2.5, 2.5, 9.0), 0, imod=True) == 2.5
    assert pixel_size((1.0, 1.0, 1.0), 20141, imod=False) == 1.0
    assert pixel_size((1.0, 1.0, 1.0), 20140, imod=True) is None
    assert pixel_size((1.0, 1.0, 1.0), 0, imod=False) is None
    assert pixel_size((0.0, 0.0, 0.0), 20141, imod=False) is None
    assert pixel_size((2.0, 3.0, 2.0), 20141, imod=False) is None


# What must be refused, and what must not.


def test_truncated_file_names_both_lengths(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "a.mrc", random_stack("f4"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(FormatError, match=rf"a\.mrc.* {len(whole) - 1} bytes.* {len(whole)} "):
        open_stack(path)


def test_file_cut_after_opening_is_refused_on_reading(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "a.mrc", random_stack("f4"))
    info = open_stack(path)
    path.write_bytes(path.read_bytes()[:-3])
    read_section(info, 1)
    with pytest.raises(FormatError, match="section 2 has 34 of its 35"):
        read_section(info, 2)


def test_bytes_after_the_data_and_a_stale_extended_size_are_forgiven(tmp_path: Path) -> None:
    data = random_stack("f4")
    path = write_reference(tmp_path / "a.mrc", data)
    patch(path, 92, "<i", 4096)
    np.testing.assert_array_equal(read_all(path), data)
    patch(path, 92, "<i", -5)
    np.testing.assert_array_equal(read_all(path), data)
    patch(path, 92, "<i", 0)
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(read_all(path), data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"\0" * 1023, "1023 bytes"),
        (b"\0" * 5000, "no pixels"),
        (b"ZValue = 3 \n" * 500, "neither an MRC nor a TIFF"),
        (b"\x1f\x8b" + b"\xff" * 3000, "gunzip"),
    ],
)
def test_what_is_not_mrc_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        open_stack(path)


@pytest.mark.parametrize(
    ("offset", "values", "message"),
    [
        (8, (0,), "no pixels"),
        (0, (2**31 - 1,) * 3, "promises"),
        (0, (-4,), "neither"),
        (12, (3,), "mode 3"),
        (12, (4,), "mode 4"),
        (12, (16,), "mode 16"),
        (12, (7,), "neither"),
        (64, (3, 2, 1), "transpose"),
    ],
)
def test_header_that_makes_no_stack_is_refused(
    tmp_path: Path, offset: int, values: tuple[int, ...], message: str
) -> None:
    path = write_reference(tmp_path / "a.mrc", random_stack("f4"))
    patch(path, offset, f"<{len(values)}i", *values)
    with pytest.raises(FormatError, match=message):
        open_stack(path)


def test_missing_file_folder_and_section(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nothing\.mrc.*check the path"):
        open_stack(tmp_path / "nothing.mrc")
    with pytest.raises(StoreError, match="directory"):
        open_stack(tmp_path)
    info = open_stack(write_reference(tmp_path / "a.mrc", random_stack("f4")))
    for index in (-1, 3):
        with pytest.raises(ParameterError, match="sections are 0 to 2"):
            read_section(info, index)
    info.path.unlink()
    with pytest.raises(StoreError):
        read_section(info, 0)


def test_one_section_is_read_and_nothing_is_mapped(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "a.mrc", np.zeros((1, 500, 400), np.int16))
    patch(path, 8, "<i", 40000)
    with path.open("r+b") as stream:
        stream.truncate(1024 + 40000 * 500 * 400 * 2)
    info = pickle.loads(pickle.dumps(open_stack(path)))
    tracemalloc.start()
    section = read_section(info, 39999)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert section.shape == (500, 400)
    # One section as stored, and one as float32.
    assert peak < 500 * 400 * (2 + 4) * 1.1
    assert str(path) not in Path("/proc/self/maps").read_text()


# Extended headers.


def with_extended_header(
    path: Path, data: np.ndarray, kind: bytes, extended: bytes, layout: tuple[int, int] = (0, 0)
) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.set_extended_header(np.frombuffer(extended, "V1"))
        mrc.header.exttyp = kind
    order = "<" if data.dtype.newbyteorder("<") == data.dtype else ">"
    return patch(path, 128, f"{order}2h", *layout)


@pytest.mark.parametrize("order", ["<", ">"])
def test_serialem_shorts(tmp_path: Path, order: str) -> None:
    # Tilt, piece, stage, magnification, intensity, dose. The doses, by SerialEM's rule
    # sign(s1) (|s1| 256 + |s2| mod 256) 2^(sign(s2) |s2| / 256):
    # 20480 * 256 * 2^-21 = 2.5, and (100 * 256 + 37) * 2^-13 = 3.1295166015625.
    records = [
        (-6012, 0, 0, 0, 25, 50, 1150, 9, 20480, -(21 * 256)),
        (6000, 0, 0, 1, 25, 50, 1150, 9, 100, -(13 * 256 + 37)),
    ]
    extended = b"".join(struct.pack(f"{order}10h", *record) for record in records)
    path = with_extended_header(
        tmp_path / "a.st", random_stack(f"{order}i2", (2, 4, 4)), b"SERI", extended, (20, 63)
    )
    info = open_stack(path)
    assert info.tilt_angles == (-60.12, 60.0)
    assert info.exposures == (2.5, 3.1295166015625)
    assert info.metadata == {"magnification": 115000.0}
    # Files older than the type code have the two numbers only.
    patch(path, 104, "4s", b"\0\0\0\0")
    assert open_stack(path).tilt_angles == (-60.12, 60.0)


def test_extended_header_that_cannot_be_trusted_is_left_out(tmp_path: Path) -> None:
    path, data = tmp_path / "a.st", random_stack("<i2", (3, 4, 4))
    angles = struct.pack("<3h", -6000, 0, 6000)
    assert open_stack(with_extended_header(path, data, b"SERI", angles, (2, 1))).tilt_angles == (
        -60.0,
        0.0,
        60.0,
    )
    for extended, kind, layout in [
        (angles[:4], b"SERI", (2, 1)),  # too short
        (angles, b"SERI", (4, 1)),  # bytes and flags disagree, so these would be 5 reals
        (angles, b"CCP4", (2, 1)),  # symmetry operators
        (bytes(6), b"SERI", (2, 1)),  # zeros are what unset looks like
        (struct.pack("<3h", 0, 20000, 0), b"SERI", (2, 1)),  # 200 degrees
        (struct.pack("<3f", 0, np.nan, 1), b"AGAR", (0, 1)),
        (angles, b"FEI1", (0, 0)),
        (b"\xff" * 3000, b"FEI1", (0, 0)),
        (fei_records(b"FEI1", "<", 2).tobytes(), b"FEI1", (0, 0)),  # of 3
    ]:
        info = open_stack(with_extended_header(path, data, kind, extended, layout))
        assert info.tilt_angles is None
        np.testing.assert_array_equal(read_section(info, 1), data[1])


def test_table_with_integers_before_the_floats(tmp_path: Path) -> None:
    # One integer and one float; as SerialEM's bytes and flags they would contradict each other.
    extended = struct.pack("<ifif", 7, -60.0, 8, 60.0)
    data = random_stack("<i2", (2, 4, 4))
    path = with_extended_header(tmp_path / "a.st", data, b"AGAR", extended, (1, 1))
    assert open_stack(path).tilt_angles == (-60.0, 60.0)


def fei_records(kind: bytes, order: str, n: int) -> np.ndarray:
    dtype = get_ext_header_dtype(kind, order)
    records = np.zeros(n, dtype)
    records["Metadata size"] = dtype.itemsize
    records["Bitmask 1"] = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 12 | 1 << 14 | 1 << 15
    records["HT"] = 200000.0
    records["Dose"] = np.arange(1, n + 1) * 1e20
    records["Alpha tilt"] = np.linspace(-60, 60, n)
    records["Tilt axis angle"] = 85.5
    records["Pixel size X"] = records["Pixel size Y"] = 1.5e-10
    return records


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [b"FEI1", b"FEI2"])
def test_fei_records(tmp_path: Path, kind: bytes, order: str) -> None:
    records = fei_records(kind, order, 3)
    data = random_stack(f"{order}i2", (3, 4, 4))
    info = open_stack(with_extended_header(tmp_path / "a.mrc", data, kind, records.tobytes()))
    assert info.tilt_angles == (-60.0, 0.0, 60.0)
    assert info.exposures == (1.0, 2.0, 3.0)
    assert info.pixel_size == pytest.approx(1.5)
    assert info.tilt_axis_angle == -85.5
    assert info.metadata["voltage"] == 200.0

    records["Bitmask 1"] = 0
    info = open_stack(with_extended_header(tmp_path / "a.mrc", data, kind, records.tobytes()))
    assert (info.tilt_angles, info.exposures, info.tilt_axis_angle) == (None, None, None)
    assert info.pixel_size is None


def test_fei_release_with_angles_scaled_twice(tmp_path: Path) -> None:
    records = fei_records(b"FEI1", "<", 2)
    records["Application version"] = b"4.4.0.4981"
    records["Alpha tilt"] = np.rad2deg([-60, 42])
    path = with_extended_header(
        tmp_path / "a.mrc", random_stack("<i2", (2, 4, 4)), b"FEI1", records.tobytes()
    )
    np.testing.assert_allclose(open_stack(path).tilt_angles, [-60, 42])


def test_fei_table_of_floats(tmp_path: Path) -> None:
    table = np.zeros((1024, 32), "<f4")
    table[:2, 0] = -10, 20
    table[0, 10:14] = 83.0, 3e-10, 53000, 300000
    path, data = tmp_path / "a.st", random_stack("<i2", (2, 4, 4))
    with_extended_header(path, data, b"\0" * 4, table.tobytes(), (0, 32))
    info = open_stack(path)
    assert info.tilt_angles == (-10.0, 20.0)
    assert info.tilt_axis_angle == 83.0
    assert info.pixel_size == pytest.approx(3.0)
    # FEI's own files count the axis the other way, and a binned file has a spacing of 2.
    patch(path, 220, "<i80s", 1, b"    Fei Company (c) Copyright 2003")
    patch(path, 40, "<3f", 8, 8, 4)
    info = open_stack(path)
    assert info.tilt_axis_angle == -83.0
    assert info.pixel_size == pytest.approx(6.0)


# Real files.


def test_stem_needle(data_dir: Path) -> None:
    path = data_dir / "stem_needle" / "HAADF.mrc"
    info = open_stack(path)
    assert info.shape == (77, 256, 256)
    np.testing.assert_array_equal(info.tilt_angles, np.loadtxt(path.with_suffix(".rawtlt")))
    assert info.pixel_size == pytest.approx(33.6)
    assert info.metadata["voltage"] == 300.0
    assert info.tilt_axis_angle is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mrcfile.open(path, permissive=True).data
    np.testing.assert_array_equal(read_section(info, 40), expected[40])


@pytest.mark.parametrize("name", ["test_000", "test_001", "test_002"])
def test_serialem_frames(data_dir: Path, name: str) -> None:
    path = data_dir / "serialem_multiframe" / f"{name}.mrc"
    info = open_stack(path)
    mdoc = (path.parent / f"{name}.mdoc").read_text()
    angle = float(mdoc.partition("TiltAngle = ")[2].split()[0])
    assert info.pixel_size == pytest.approx(7.88)
    assert info.tilt_axis_angle == -90.0
    if abs(angle) > 0.01:
        np.testing.assert_allclose(info.tilt_angles, [angle, angle], atol=0.005)
    np.testing.assert_array_equal(read_all(path), mrcfile.read(path))


def test_fei_micrograph(data_dir: Path) -> None:
    path = data_dir / "micrographs" / "fei-extended.mrc"
    info = open_stack(path)
    with mrcfile.open(path) as mrc:
        record = mrc.indexed_extended_header[0]
        np.testing.assert_array_equal(read_section(info, 0), mrc.data.astype(np.float32))
    assert info.tilt_angles == (record["Alpha tilt"],)
    assert info.exposures == (pytest.approx(record["Dose"] / 1e20),)
    assert info.metadata["voltage"] == record["HT"] / 1000
    assert info.metadata["magnification"] == record["Magnification"]
    # The header says that this field was not filled.
    assert info.tilt_axis_angle is None
    assert info.pixel_size == pytest.approx(record["Pixel size X"] * 1e10, rel=1e-5)


@pytest.mark.parametrize("name", ["tilt1.mrc", "tilt2.mrc", "hiv_vlp_4_tilts.mrc"])
def test_tilt_pair(data_dir: Path, name: str) -> None:
    path = data_dir / "tilt_pair" / name
    info = open_stack(path)
    assert info.pixel_size is None
    assert info.tilt_angles is None
    expected = mrcfile.read(path)
    np.testing.assert_array_equal(read_all(path), expected.reshape(info.shape))


# Writing.


@pytest.mark.parametrize("kind", ["volume", "stack"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8"])
@pytest.mark.parametrize("shape", [(4, 6, 5), (1, 3, 2)])
def test_written_file_is_valid_and_complete(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str, kind: str
) -> None:
    path = tmp_path / "out.mrc"
    data = np.random.default_rng(2).integers(0, 127, shape).astype(dtype)
    with MrcWriter(
        path,
        shape=shape,
        voxel_size=13.48,
        kind=kind,
        dtype=dtype,
        origin=(1.5, -2.5, 3.0),
        title="even half",
    ) as writer:
        writer.write_slab(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data.reshape(shape), data)
        np.testing.assert_allclose(mrc.voxel_size.tolist(), (13.48,) * 3, rtol=1e-6)
        assert mrc.is_image_stack() == (kind == "stack" and shape[0] > 1)
        assert mrc.is_volume() == (kind == "volume")
        assert mrc.header.mz == (shape[0] if kind == "volume" else 1)
        assert mrc.header.origin.tolist() == (1.5, -2.5, 3.0)
        assert mrc.header.label[0].rstrip() == b"tomodask: even half"
        statistics = [float(mrc.header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
    exact = data.astype(np.float64)
    np.testing.assert_allclose(
        statistics, [exact.min(), exact.max(), exact.mean(), exact.std()], rtol=1e-6
    )
    assert open_stack(path).pixel_size == pytest.approx(13.48, rel=1e-6)


def test_statistics_survive_a_large_offset(tmp_path: Path) -> None:
    data = (1e5 + np.random.default_rng(3).normal(size=(3, 1100, 1000))).astype(np.float32)
    path = tmp_path / "out.mrc"
    with MrcWriter(path, shape=data.shape, voxel_size=1, kind="stack") as writer:
        writer.write_slab(data)
    with mrcfile.open(path, header_only=True) as mrc:
        assert float(mrc.header.rms) == pytest.approx(data.std(dtype=np.float64), rel=1e-6)
        assert float(mrc.header.dmean) == pytest.approx(data.mean(dtype=np.float64), rel=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    voxel=st.floats(0.1, 100),
    seed=st.integers(0, 99),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    voxel: float,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("mrc") / "a.rec"
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    with MrcWriter(path, shape=shape, voxel_size=voxel, kind="volume") as writer:
        writer.write_slab(data)
    np.testing.assert_array_equal(read_all(path), data)
    assert open_stack(path).pixel_size == pytest.approx(voxel, rel=1e-6)


def test_tilt_angles_are_written_in_serialems_layout(tmp_path: Path) -> None:
    path, angles = tmp_path / "out.st", [-59.996, 0.0, 12.344, 60.02]
    with MrcWriter(path, shape=(4, 3, 3), voxel_size=2, kind="stack", tilt_angles=angles) as writer:
        writer.write_slab(np.ones((4, 3, 3)))
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        assert mrc.header.exttyp == b"SERI"
        stored = np.frombuffer(mrc.extended_header.tobytes(), "<i2", count=4)
        np.testing.assert_array_equal(mrc.data, 1)
    np.testing.assert_array_equal(stored, [-6000, 0, 1234, 6002])
    np.testing.assert_allclose(open_stack(path).tilt_angles, angles, atol=0.005)


def test_same_input_gives_the_same_bytes_whatever_the_slabs(tmp_path: Path) -> None:
    data = random_stack("f4", (4, 3, 3))
    for name, cuts in [("a", (0, 4)), ("b", (0, 1, 3, 4))]:
        with MrcWriter(tmp_path / name, shape=data.shape, voxel_size=2, kind="volume") as writer:
            for start, stop in itertools.pairwise(cuts):
                writer.write_slab(data[start:stop])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_are_not_flipped(tmp_path: Path) -> None:
    image = np.arange(6, dtype=np.float64).reshape(1, 2, 3)
    with MrcWriter(tmp_path / "a.mrc", shape=(1, 2, 3), voxel_size=1, kind="stack") as writer:
        writer.write_slab(image)
    stored = np.frombuffer((tmp_path / "a.mrc").read_bytes()[1024:], "<f4")
    np.testing.assert_array_equal(stored, np.arange(6))


@pytest.mark.parametrize(
    ("dtype", "section", "error", "message"),
    [
        ("float32", np.zeros((2, 3)), ParameterError, "announced"),
        ("float32", np.full((3, 3), np.nan), DataError, "section 1 has 9 values"),
        ("float32", np.full((3, 3), 1e39), DataError, "first is 1e"),
        ("int16", np.full((3, 3), 0.5), ConversionError, "0.5"),
        ("int16", np.full((3, 3), 32768), ConversionError, "32768"),
        ("int16", np.full((3, 3), np.nan), ConversionError, "nan"),
        ("uint8", np.full((3, 3), 128), ConversionError, "from 0 to 127"),
        ("uint8", np.full((3, 3), -1), ConversionError, "from 0 to 127"),
    ],
)
def test_failure_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, dtype: str, section: np.ndarray, error: type[Exception], message: str
) -> None:
    path = tmp_path / "out.mrc"
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        write_sections(path, [np.ones((3, 3)), section], shape=(2, 3, 3), dtype=dtype)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_number_of_sections_is_held_to(tmp_path: Path) -> None:
    path, section = tmp_path / "out.mrc", np.ones((3, 3))
    with pytest.raises(DataError, match="1 of 2 sections"):
        write_sections(path, [section], shape=(2, 3, 3))
    with pytest.raises(ParameterError, match="one more"):
        write_sections(path, [section] * 3, shape=(2, 3, 3))
    assert not list(tmp_path.iterdir())


def test_error_of_the_caller_passes_through(tmp_path: Path) -> None:
    def sections() -> Iterator[np.ndarray]:
        yield np.ones((3, 3))
        raise PermissionError("of another file")

    with pytest.raises(PermissionError, match="of another file"):
        write_sections(tmp_path / "out.mrc", sections(), shape=(2, 3, 3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"shape": (0, 3, 3)}, ParameterError),
        ({"shape": (3, 3)}, ParameterError),
        ({"voxel_size": 0}, ParameterError),
        ({"voxel_size": np.nan}, ParameterError),
        ({"kind": "image"}, ParameterError),
        ({"dtype": "float64"}, ParameterError),
        ({"origin": (0, np.inf, 0)}, ParameterError),
        ({"title": "µ"}, ParameterError),
        ({"title": "x" * 71}, ParameterError),
        ({"tilt_angles": [1.0]}, ParameterError),
        ({"tilt_angles": [1.0, 400.0]}, ConversionError),
        ({"tilt_angles": [1.0, np.nan]}, ConversionError),
        ({"tilt_angles": [1.0, 2.0], "kind": "volume"}, ParameterError),
    ],
)
def test_description_that_makes_no_sense_is_refused_before_writing(
    tmp_path: Path, change: dict[str, object], error: type[Exception]
) -> None:
    description = {"shape": (2, 3, 3), "voxel_size": 1.0, "kind": "stack", **change}
    with pytest.raises(error, match=r"out\.mrc"):
        MrcWriter(tmp_path / "out.mrc", **description)


def test_full_disk_is_a_space_error(tmp_path: Path) -> None:
    path, shape = tmp_path / "out.mrc", (4, 256, 256)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(SpaceError, match=r"out\.mrc.*free space"):
            write_sections(path, np.ones(shape, np.float32), shape=shape)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder does not exist"):
        write_sections(tmp_path / "no" / "out.mrc", [], shape=(1, 3, 3))


def test_writer_holds_one_section(tmp_path: Path) -> None:
    shape = (6, 1500, 1000)
    section = np.ones(shape[1:], np.float64)
    tracemalloc.start()
    with MrcWriter(tmp_path / "a.mrc", shape=shape, voxel_size=1, kind="volume") as writer:
        for _ in range(shape[0]):
            writer.write(section)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One section as float32, and a block of a million values in float64 for the statistics.
    assert peak < section.size * 4 + 2 * 2**20 * 8
