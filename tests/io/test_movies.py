"""Movies of every format through the one interface."""

from __future__ import annotations

import logging
import pickle
import struct
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import tifffile

from tests.io import eer_writer
from tomodask.errors import FormatError, ParameterError, StoreError
from tomodask.io.movies import Rendering, open_movie, read_frame, read_frames
from tomodask.io.stack import open_stack, read_section

if TYPE_CHECKING:
    from pathlib import Path


def counts(dtype: str = "u1", shape: tuple[int, int, int] = (5, 12, 17)) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, 100, shape)
    return (values + (0.25 if np.dtype(dtype).kind == "f" else 0)).astype(dtype)


def write_mrc(path: Path, data: np.ndarray) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 1.5
    return path


def write_packed_mrc(path: Path, data: np.ndarray) -> Path:
    """Write 4-bit pixels, mode 101, by hand."""
    write_mrc(path, np.zeros((1, 1, 1), np.int8))
    header = bytearray(path.read_bytes()[:1024])
    frames, ny, nx = data.shape
    struct.pack_into("<4i", header, 0, nx, ny, frames, 101)
    rows = bytearray()
    for row in data.reshape(-1, nx):
        pixels = [*row.tolist(), 0][: nx + nx % 2]
        rows += bytes(a | b << 4 for a, b in zip(pixels[::2], pixels[1::2], strict=True))
    path.write_bytes(header + rows)
    return path


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", ">i2", ">f4"])
def test_mrc(tmp_path: Path, dtype: str) -> None:
    data = counts(dtype)
    info = open_movie(write_mrc(tmp_path / "a.mrc", data))
    assert (info.format, info.shape, info.raw_frames) == ("mrc", (5, 12, 17), 5)
    assert info.pixel_size == 1.5
    frames = read_frames(info)
    assert frames.dtype == info.dtype == np.dtype(dtype).newbyteorder("=")
    assert frames.flags.c_contiguous
    # The first row of an MRC is the bottom already.
    np.testing.assert_array_equal(frames, data)
    up = open_movie(tmp_path / "a.mrc", row_order="up")
    np.testing.assert_array_equal(read_frames(up), data)


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    data = counts("f2")
    info = open_movie(write_mrc(tmp_path / "a.mrc", data))
    frames = read_frames(info)
    assert frames.dtype == info.dtype == np.float32
    np.testing.assert_array_equal(frames, data.astype(np.float32))


@pytest.mark.parametrize("nx", [16, 17])
def test_packed_mrc(tmp_path: Path, nx: int) -> None:
    data = counts(shape=(3, 6, nx)) % 16
    path = write_packed_mrc(tmp_path / "a.mrc", data)
    info = open_movie(path)
    assert info.shape == data.shape
    assert info.dtype == np.uint8
    np.testing.assert_array_equal(read_frames(info), data)
    np.testing.assert_array_equal(read_section(open_stack(path), 1), data[1])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(FormatError, match=r"a\.mrc.*truncated"):
        open_movie(path)
    with pytest.raises(FormatError, match=r"a\.mrc.*cut short"):
        read_frames(info)


def test_packed_bytes_without_their_mode_are_refused(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", counts("i1"))
    content = bytearray(path.read_bytes())
    struct.pack_into("<2i", content, 152, 1146047817, 16)
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.mrc.*clip unpack"):
        open_movie(path)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}])
def test_tiff(
    tmp_path: Path, dtype: str, compression: str | None, layout: dict[str, object]
) -> None:
    data = counts(dtype, (4, 20, 37))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in data:
            tif.write(
                frame, compression=compression, photometric="minisblack", metadata=None, **layout
            )
    info = open_movie(path)
    assert (info.format, info.shape) == ("tiff", (4, 20, 37))
    frames = read_frames(info)
    assert frames.dtype == info.dtype == np.dtype(dtype)
    assert frames.flags.c_contiguous
    np.testing.assert_array_equal(frames, data[:, ::-1])
    np.testing.assert_array_equal(read_frames(info, 1, 4, 2), data[1::2, ::-1])
    np.testing.assert_array_equal(read_frame(info, 2), data[2, ::-1])
    np.testing.assert_array_equal(read_frames(open_movie(path, row_order="up")), data)


def test_the_formats_of_one_movie_agree(tmp_path: Path) -> None:
    data = (counts(shape=(4, 12, 20)) > 80).astype(np.uint8)
    write_mrc(tmp_path / "a.mrc", data.astype(np.int8))
    tifffile.imwrite(tmp_path / "a.tif", data[:, ::-1], photometric="minisblack")
    streams = [
        eer_writer.encode([(*place, 1, 2) for place in np.argwhere(frame[::-1]).tolist()], (12, 20))
        for frame in data
    ]
    eer_writer.write(tmp_path / "a.eer", streams, (12, 20))
    for name in ("a.mrc", "a.tif", "a.eer"):
        info = open_movie(tmp_path / name, rendering=Rendering(group=1))
        np.testing.assert_array_equal(read_frames(info), data, err_msg=name)


def test_info_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(), photometric="minisblack", compression="lzw")
    info = open_movie(path, exposure=3.0)
    assert info.frame_dose == pytest.approx(0.6)
    assert info.identity == (path.stat().st_size, path.stat().st_mtime_ns)
    sent = pickle.loads(pickle.dumps(info))
    assert sent == info
    assert len(pickle.dumps(info)) < 2000
    np.testing.assert_array_equal(read_frame(sent, 4), counts()[4, ::-1])


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(-1, None, 1), (0, 6, 1), (5, None, 1), (3, 3, 1), (2, 1, 1)]
)
def test_frames_that_are_not_there(tmp_path: Path, start: int, stop: int, step: int) -> None:
    info = open_movie(write_mrc(tmp_path / "a.mrc", counts("i2")))
    with pytest.raises(ParameterError, match=r"a\.mrc: has no frames .*; its frames are 0 to 4"):
        read_frames(info, start, stop, step)


@pytest.mark.parametrize("exposure", [0, -1, float("nan"), float("inf")])
def test_exposure_that_makes_no_sense(tmp_path: Path, exposure: float) -> None:
    write_mrc(tmp_path / "a.mrc", counts("i2"))
    with pytest.raises(ParameterError, match=r"a\.mrc: exposure is"):
        open_movie(tmp_path / "a.mrc", exposure=exposure)


@pytest.mark.parametrize("name", ["a.mrc", "a.tif", "a.eer"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=rf"{name}: cannot be read \(No such file"):
        open_movie(tmp_path / name)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
def test_no_truncated_tiff_is_read_as_a_shorter_movie(
    tmp_path: Path, compression: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    data = counts(shape=(3, 6, 9))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in data:
            tif.write(frame, compression=compression, photometric="minisblack", metadata=None)
    content = path.read_bytes()
    refused = 0
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        try:
            # What comes after the last pixel may be absent.
            np.testing.assert_array_equal(read_frames(open_movie(path)), data[:, ::-1])
        except FormatError:
            refused += 1
    assert refused >= len(content) / 3 - 60


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits"])
def test_a_page_that_cannot_be_decoded_is_no_page_of_zeros(
    tmp_path: Path, compression: str
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in counts(shape=(3, 40, 50)):
            tif.write(frame, compression=compression, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        start, length = tif.pages[1].dataoffsets[0], tif.pages[1].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    info = open_movie(path)
    read_frame(info, 0)
    with pytest.raises(FormatError, match=r"a\.tif"):
        read_frame(info, 1)


def test_frames_as_a_camera_wrote_them(data_dir: Path) -> None:
    paths = sorted((data_dir / "serialem_multiframe").glob("*.mrc"))
    for path in paths:
        info = open_movie(path)
        assert info.shape == (2, 1024, 1024)
        assert info.dtype == np.int16
        np.testing.assert_array_equal(read_frames(info), mrcfile.read(path))
    assert paths
