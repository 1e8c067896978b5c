"""Gain references as cameras and programs leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import tifffile

from tomodask.errors import FormatError, StoreError
from tomodask.io.gain import read_gain

if TYPE_CHECKING:
    from pathlib import Path


def reference(shape: tuple[int, int] = (6, 9)) -> np.ndarray:
    return np.random.default_rng(2).uniform(0.8, 1.2, shape).astype(np.float32)


def write_mrc(path: Path, data: np.ndarray) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.ones_like(data))  # it warns of values that are not finite
        mrc.data[...] = data
    return path


def test_mrc_is_multiplied_as_it_is(tmp_path: Path) -> None:
    gain = read_gain(write_mrc(tmp_path / "a.mrc", reference()))
    assert gain.dtype == np.float32
    np.testing.assert_array_equal(gain, reference())


@pytest.mark.parametrize("name", ["a.tif", "a.gain"])
def test_rows_of_a_tiff_are_turned_over(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / name, reference(), metadata=None)
    np.testing.assert_array_equal(read_gain(tmp_path / name), reference()[::-1])


def test_dead_pixels_are_zero(tmp_path: Path) -> None:
    data = reference()
    data[0, :4] = [0, np.nan, np.inf, -1]
    gain = read_gain(write_mrc(tmp_path / "a.mrc", data))
    np.testing.assert_array_equal(gain[0, :4], 0)
    np.testing.assert_array_equal(gain[1:], data[1:])


def test_flat_exposure_is_inverted_and_scaled(tmp_path: Path) -> None:
    sensitivity = reference()
    sensitivity[2, 3] = 0
    # Electrons of a flat exposure; their scale says nothing.
    gain = read_gain(write_mrc(tmp_path / "a.mrc", 57 * sensitivity), reciprocal=True)
    good = sensitivity > 0
    assert gain[2, 3] == 0
    assert gain[good].mean() == pytest.approx(1, rel=1e-5)
    corrected = gain[good] * sensitivity[good]
    np.testing.assert_allclose(corrected, corrected.mean(), rtol=1e-6)


@pytest.mark.parametrize("signature", [b"\0\0\0\3", b"\0\0\0\4"])
def test_digital_micrograph_says_how_to_convert(tmp_path: Path, signature: bytes) -> None:
    path = tmp_path / "CountRef.dm4"
    path.write_bytes(signature + bytes(2000))
    with pytest.raises(FormatError, match=r"CountRef\.dm4.*dm2mrc CountRef\.dm4 CountRef\.mrc"):
        read_gain(path)


@pytest.mark.parametrize("data", [np.zeros((4, 5)), np.full((4, 5), np.nan), np.full((4, 5), -1.0)])
def test_nothing_positive(tmp_path: Path, data: np.ndarray) -> None:
    path = write_mrc(tmp_path / "a.mrc", data.astype(np.float32))
    with pytest.raises(FormatError, match=r"a\.mrc: has no positive value"):
        read_gain(path)


def test_movie_is_no_gain(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", np.ones((3, 4, 5), np.float32))
    with pytest.raises(FormatError, match=r"a\.mrc: holds 3 images"):
        read_gain(path)


def test_truncated_and_missing(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", reference())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FormatError, match=r"a\.mrc.*truncated"):
        read_gain(path)
    with pytest.raises(StoreError, match=r"b\.mrc"):
        read_gain(tmp_path / "b.mrc")
