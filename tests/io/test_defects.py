"""Lists and masks of defects, against masks drawn by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import tifffile

from tomodask.errors import FormatError, StoreError
from tomodask.io.defects import read_defects

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (20, 30)

SERIALEM = """\
CameraSizeX 30
CameraSizeY 20
RotationAndFlip 0
WasScaled 0
K2Type 0
UsableArea 0 0 0 0
PartialBadColumn 4 2 10 12
PartialBadRow 1 1 20 29
BadPixels 7 0 9 19
BadColumns 25 26
BadRows 15
"""


def from_the_top() -> np.ndarray:
    """Return what SERIALEM lists, row 0 the top."""
    mask = np.zeros(SHAPE, bool)
    mask[10:13, 4:6] = True
    mask[1, 20:30] = True
    mask[0, 7] = mask[19, 9] = True
    mask[:, 25:27] = True
    mask[15] = True
    return mask


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_serialem(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "defects.txt"
    path.write_bytes(("# SerialEM\n" + SERIALEM).replace("\n", newline).encode())
    np.testing.assert_array_equal(read_defects(path, SHAPE), from_the_top()[::-1])


@pytest.mark.parametrize("factor", [2, 4])
def test_sensor_pixels_cover_those_of_superresolution(tmp_path: Path, factor: int) -> None:
    path = write(tmp_path / "defects.txt", SERIALEM)
    expected = np.kron(from_the_top()[::-1], np.ones((factor, factor), bool))
    found = read_defects(path, (SHAPE[0] * factor, SHAPE[1] * factor))
    np.testing.assert_array_equal(found, expected)


def test_scaled_pixels_and_the_usable_area(tmp_path: Path) -> None:
    text = "CameraSizeX 30\nCameraSizeY 20\nWasScaled 1\nUsableArea 1 2 17 28\nBadPixels 10 6\n"
    expected = np.ones(SHAPE, bool)
    expected[1:18, 2:29] = False
    expected[6:8, 10:12] = True
    found = read_defects(write(tmp_path / "d.txt", text), SHAPE)
    np.testing.assert_array_equal(found, expected[::-1])


def test_motioncor(tmp_path: Path) -> None:
    path = write(tmp_path / "defects.txt", "# x y w h\n\n3 5 2 4\n29 19 1 1\n0 7 30 1\n")
    expected = np.zeros(SHAPE, bool)
    expected[5:9, 3:5] = True
    expected[19, 29] = True
    expected[7] = True
    np.testing.assert_array_equal(read_defects(path, SHAPE), expected)


def test_no_defects(tmp_path: Path) -> None:
    assert not read_defects(write(tmp_path / "defects.txt", ""), SHAPE).any()


def test_masks(tmp_path: Path) -> None:
    mask = from_the_top()
    tifffile.imwrite(tmp_path / "a.tif", mask.astype(np.uint8), metadata=None)
    np.testing.assert_array_equal(read_defects(tmp_path / "a.tif", SHAPE), mask[::-1])
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(mask.astype(np.int8))
    np.testing.assert_array_equal(read_defects(tmp_path / "a.mrc", SHAPE), mask)


def test_list_within_a_gain_of_a_falcon(tmp_path: Path) -> None:
    xml = (
        "<defects><row>15</row><col>25-26</col><area>4,10,5,12</area><area>20,1,29,1</area>"
        "<point>7,0</point><nonmaskingpoint>9,19</nonmaskingpoint></defects>\0"
    )
    path = tmp_path / "a.gain"
    gain = np.ones(SHAPE, np.float32)
    tifffile.imwrite(
        path, gain, metadata=None, extratags=[(65100, 7, len(xml), xml.encode(), True)]
    )
    np.testing.assert_array_equal(read_defects(path, SHAPE), from_the_top()[::-1])
    doubled = np.kron(from_the_top()[::-1], np.ones((2, 2), bool))
    np.testing.assert_array_equal(read_defects(path, (40, 60)), doubled)


def test_a_gain_without_a_list_is_no_mask(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.gain", np.ones(SHAPE, np.float32), metadata=None)
    with pytest.raises(FormatError, match=r"a\.gain: calls 100% of the pixels defective"):
        read_defects(tmp_path / "a.gain", SHAPE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 5 2\n", "neither 'x y width height' nor"),
        ("29 5 2 1\n", "columns 29 to 30 of a camera of 20 x 30"),
        ("3 5 0 1\n", "columns 3 to 2"),
        ("-1 5 2 1\n", "columns -1"),
        ("BadColumn 3\n", "not whole numbers"),
        ("the tilt series\n", "not whole numbers"),
        ("CameraSizeX 30\nBadRows 3\n", "lacks 'CameraSizeY'"),
        (SERIALEM + "BadPixels 3\n", "BadPixels 3' has too few"),
        (SERIALEM + "BadPixels 3 4 5\n", "too few"),
        (SERIALEM + "BadRows 20\n", "rows 20 to 20"),
        (SERIALEM + "BadRows x\n", "not whole numbers"),
        (SERIALEM.replace("30", "31"), "31"),
    ],
)
def test_list_that_cannot_be_of_this_camera(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=rf"defects\.txt.*{message}"):
        read_defects(write(tmp_path / "defects.txt", text), SHAPE)


def test_turned_camera_names_both_shapes(tmp_path: Path) -> None:
    path = write(tmp_path / "defects.txt", SERIALEM)
    with pytest.raises(FormatError, match=r"defects\.txt.*\(20, 30\).*\(30, 20\)"):
        read_defects(path, (30, 20))


def test_damaged_list_of_a_falcon(tmp_path: Path) -> None:
    for xml in (
        b"<defects><row>",
        b"<defects><row>x</row></defects>",
        b"<defects><point>3</point></defects>",
    ):
        path = tmp_path / "a.gain"
        tags = [(65100, 7, len(xml), xml, True)]
        tifffile.imwrite(path, np.ones(SHAPE, np.float32), metadata=None, extratags=tags)
        with pytest.raises(FormatError, match=r"a\.gain"):
            read_defects(path, SHAPE)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.txt"):
        read_defects(tmp_path / "none.txt", SHAPE)
