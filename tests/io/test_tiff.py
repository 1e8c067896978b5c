"""TIFF stacks, against Pillow, against raw bytes, and against real tomogram crops."""

from __future__ import annotations

import importlib.util
import logging
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from tomodask.errors import FormatError
from tomodask.io.stack import open_stack, read_section
from tomodask.io.tiff import decodable

if TYPE_CHECKING:
    from pathlib import Path

Image = pytest.importorskip("PIL.Image", reason="Pillow is the oracle of these tests")


def random_stack(dtype: str, shape: tuple[int, ...] = (4, 5, 7)) -> np.ndarray:
    values = np.random.default_rng(1).uniform(-120, 120, shape)
    return (np.abs(values) if "u" in dtype else values).astype(dtype)


def read_all(path: Path) -> np.ndarray:
    info = pickle.loads(pickle.dumps(open_stack(path)))
    return np.stack([read_section(info, index) for index in range(info.shape[0])])


def pillow_write(path: Path, data: np.ndarray, **options: object) -> Path:
    pages = [Image.fromarray(page) for page in data]
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return path


def pillow_read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pages = []
        for index in range(image.n_frames):
            image.seek(index)
            pages.append(np.array(image))
    return np.stack(pages)


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_pages_that_pillow_wrote(tmp_path: Path, dtype: str, compression: str | None) -> None:
    data = random_stack(dtype)
    path = pillow_write(tmp_path / "a.tif", data, compression=compression)
    assert open_stack(path).dtype == data.dtype
    np.testing.assert_array_equal(read_all(path), data[:, ::-1])
    section = read_section(open_stack(path), 1)
    assert section.dtype == np.float32
    assert section.flags.c_contiguous


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}, {"bigtiff": True}])
def test_types_byte_orders_and_flavours(
    tmp_path: Path, dtype: str, byteorder: str, options: dict[str, bool]
) -> None:
    if options.get("imagej") and dtype == "i2":
        pytest.skip("ImageJ has no signed 16-bit type")
    data = random_stack(dtype)
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX"} if "ome" in options or "imagej" in options else None
    tifffile.imwrite(path, data, byteorder=byteorder, metadata=metadata, **options)
    assert open_stack(path).shape == data.shape
    np.testing.assert_array_equal(read_all(path), data[:, ::-1].astype(np.float32))


def test_first_row_of_the_file_is_the_last_row_of_the_array(tmp_path: Path) -> None:
    top_bright = np.zeros((1, 3, 2), np.uint8)
    top_bright[0, 0] = 9
    path = pillow_write(tmp_path / "a.tif", top_bright)
    np.testing.assert_array_equal(read_section(open_stack(path), 0)[:, 0], [0, 0, 9])


def test_content_decides_and_the_name_does_not(tmp_path: Path) -> None:
    data = random_stack("u1")
    path = pillow_write(tmp_path / "a.tif", data).rename(tmp_path / "a.mrc")
    np.testing.assert_array_equal(read_all(path), data[:, ::-1])
    (tmp_path / "b.tif").write_text("not a picture")
    with pytest.raises(FormatError, match=r"b\.tif: is not a TIFF"):
        open_stack(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        # 300 dots per inch are a printer's.
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1e8 / 2.5, 1e8 / 2.5), "resolutionunit": "CENTIMETER"}, 2.5),
        ({"resolution": (1e8 / 2.5, 1e8 / 5), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (2, 2), "resolutionunit": "NONE"}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "nm"}}, 2.5),
        ({"imagej": True, "resolution": (400, 400), "metadata": {"unit": "\\u00B5m"}}, 25.0),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "nm"}},
            2.5,
        ),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.0025}}, 25.0),
        ({"ome": True, "metadata": {}}, None),
    ],
)
def test_pixel_size_only_where_the_unit_is_a_length(
    tmp_path: Path, options: dict[str, object], expected: float | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random_stack("u1"), photometric="minisblack", **options)
    found = open_stack(path).pixel_size
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
def test_no_truncated_file_is_read_as_a_shorter_stack(
    tmp_path: Path, compression: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    data = random_stack("u2")
    path = pillow_write(tmp_path / "a.tif", data, compression=compression)
    content = path.read_bytes()
    refused = 0
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            # What comes after the last pixel may be absent.
            np.testing.assert_array_equal(read_all(path), data[:, ::-1])
        except FormatError:
            refused += 1
    assert refused >= len(content) - 16


@pytest.mark.parametrize("options", [{"imagej": True}, {"bigtiff": True}, {"ome": True}])
def test_truncated_contiguous_stack(
    tmp_path: Path, options: dict[str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random_stack("u2", (4, 50, 70)), photometric="minisblack", **options)
    content = path.read_bytes()
    for fraction in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(len(content) * fraction)])
        with pytest.raises(FormatError, match=r"a\.tif"):
            open_stack(path)


def test_truncated_last_page_is_refused_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random_stack("u2", (50, 70)))
    with tifffile.TiffFile(path) as tif:
        end = tif.pages[0].dataoffsets[0] + 50 * 70 * 2
    path.write_bytes(path.read_bytes()[: end - 1])
    with pytest.raises(FormatError, match=r"a\.tif.*truncated"):
        open_stack(path)


def test_fewer_pages_than_the_description_promises(tmp_path: Path) -> None:
    # What a program leaves that died between writing a page and linking it to the last one.
    path = tmp_path / "a.tif"
    data = random_stack("u2", (4, 50, 70))
    tifffile.imwrite(path, data, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        link = tif.pages[1].offset + 2 + 12 * len(tif.pages[1].tags)
        following = tif.pages[2].offset
    content = bytearray(path.read_bytes())
    assert int.from_bytes(content[link : link + 4], "little") == following
    content[link : link + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="promises 4 pages"):
        open_stack(path)


def test_corrupt_page_is_named(tmp_path: Path) -> None:
    path = pillow_write(
        tmp_path / "a.tif", random_stack("u1", (3, 60, 70)), compression="tiff_adobe_deflate"
    )
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[1].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    info = open_stack(path)
    read_section(info, 0)
    with pytest.raises(FormatError, match=r"a\.tif.*corrupt"):
        read_section(info, 1)


@pytest.mark.parametrize("raised", [AssertionError, MemoryError, OverflowError])
def test_whatever_the_codecs_raise_names_the_file(tmp_path: Path, raised: type[Exception]) -> None:
    with (
        pytest.raises(FormatError, match=rf"a\.tif.*{raised.__name__}.*corrupt"),
        decodable(tmp_path / "a.tif"),
    ):
        raise raised


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.zeros((4, 4), np.float64), {}, "float64"),
        (np.zeros((4, 4), np.uint32), {}, "uint32"),
        (np.zeros((4, 4, 3), np.uint8), {"photometric": "rgb"}, "grey"),
        (
            np.zeros((2, 3, 4, 4), np.uint8),
            {"imagej": True, "metadata": {"axes": "TZYX"}},
            "split",
        ),
    ],
)
def test_what_is_no_stack_of_grey_images_is_refused(
    tmp_path: Path, data: np.ndarray, options: dict[str, object], message: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    with pytest.raises(FormatError, match=message):
        open_stack(tmp_path / "a.tif")


def test_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((4, 4), np.uint8))
        tif.write(np.zeros((5, 4), np.uint8))
    with pytest.raises(FormatError, match="differ"):
        open_stack(tmp_path / "a.tif")


@pytest.mark.skipif(
    importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs is installed"
)
def test_missing_codec_says_what_to_install(tmp_path: Path) -> None:
    path = pillow_write(tmp_path / "a.tif", random_stack("u1"), compression="tiff_lzw")
    with pytest.raises(FormatError, match=r"LZW.*pip install imagecodecs"):
        open_stack(path)


@pytest.mark.parametrize(
    ("name", "pixel_size"),
    [
        ("microtubules/13pf_MT.tif", 10.52),
        ("segmentation_patches/test/imgs/4_0_55_98_25.tif", None),
    ],
)
def test_real_crops(data_dir: Path, name: str, pixel_size: float | None) -> None:
    path = data_dir / name
    info = open_stack(path)
    assert info.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-6))
    expected = pillow_read(path)
    assert info.shape == expected.shape
    np.testing.assert_array_equal(read_all(path), expected[:, ::-1])
