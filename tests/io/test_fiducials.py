"""Fiducials: the tutorial's beads against its other files, the centre, prealignment, refusals."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.io.fiducials import (
    Fiducials,
    prealigned_positions,
    raw_positions,
    read_fiducials,
    write_fiducials,
)
from tomodask.io.imod import read_residuals, read_transforms
from tomodask.io.imod_model import (
    Chunk,
    ImodModel,
    ModelContour,
    ModelObject,
)
from tomodask.io.imod_model_file import read_model, write_model

if TYPE_CHECKING:
    from pathlib import Path


def some(size: tuple[int, int] = (101, 64), views: int = 6) -> Fiducials:
    """Asymmetric: gaps in views, two objects, a contour without points, two surfaces."""
    rng = np.random.default_rng(3)
    view = np.array([0, 2, 5, 1, 0, 4, 3], np.int64)
    return Fiducials(
        position=rng.uniform(-30, 30, (7, 2)),
        view=view,
        model_object=np.array([1, 1, 1, 1, 2, 2, 2], np.int64),
        contour=np.array([1, 1, 1, 3, 1, 1, 2], np.int64),
        surface=np.array([1, 1, 1, 2, 0, 0, 0], np.int64),
        image_size=size,
        views=views,
        pixel_size=13.25,
    )


@pytest.mark.parametrize("axis", "ab")
def test_beads_of_the_tutorial_are_those_of_its_residuals(data_dir: Path, axis: str) -> None:
    folder = data_dir / "imod_tutorial_bb"
    fiducials = read_fiducials(folder / f"BB{axis}.fid")
    residuals = read_residuals(folder / f"BB{axis}.resid")
    assert (fiducials.image_size, fiducials.views) == ((512, 512), 61)
    assert fiducials.pixel_size == pytest.approx(20.2)
    assert len(np.unique(fiducials.contour)) == 25
    np.testing.assert_array_equal(fiducials.view, residuals.view)
    # The text has index + 0.5 to 0.01 pixel: the centre of 512 pixels is 256 there.
    np.testing.assert_allclose(fiducials.position + 256, residuals.xy, rtol=0, atol=0.0051)


def test_the_centre_of_odd_and_even_images(tmp_path: Path) -> None:
    """The middle of pixel (50, 10) of 101 x 64 is (50.5, 10.5) in a model."""
    contour = ModelContour(np.array([[50.5, 10.5, 2]], np.float32))
    write_model(tmp_path / "a.fid", ImodModel.create((101, 64, 3), (ModelObject((contour,)),)))
    fiducials = read_fiducials(tmp_path / "a.fid")
    np.testing.assert_array_equal(fiducials.position, [[50 - 100 / 2, 10 - 63 / 2]])
    assert fiducials.pixel_size is None


def test_round_trip_is_exact_in_single_precision(tmp_path: Path) -> None:
    fiducials = some()
    shuffled = np.array([3, 6, 0, 5, 2, 4, 1])
    names = ("position", "view", "model_object", "contour", "surface")
    write_fiducials(
        tmp_path / "a.fid",
        replace(fiducials, **{name: getattr(fiducials, name)[shuffled] for name in names}),
    )
    found = read_fiducials(tmp_path / "a.fid")
    centre = np.array([101, 64]) / 2
    np.testing.assert_array_equal(
        found.position + centre, (fiducials.position + centre).astype(np.float32)
    )
    for name in names[1:]:
        np.testing.assert_array_equal(getattr(found, name), getattr(fiducials, name))
    assert (found.image_size, found.views, found.pixel_size) == ((101, 64), 6, 13.25)
    first, second = read_model(tmp_path / "a.fid").objects
    assert [len(contour.points) for contour in first.contours] == [3, 0, 1]
    assert first.kind == second.kind == "open"


def test_prealignment_of_the_tutorial_is_undone(data_dir: Path) -> None:
    """Raw positions through the whole alignment are where prealigned ones end by the fine one."""
    folder = data_dir / "imod_tutorial_bb"
    fiducials = read_fiducials(folder / "BBa.fid")
    raw = raw_positions(fiducials, read_transforms(folder / "BBa.prexg"), (512, 512))

    def aligned(of: Fiducials, suffix: str) -> np.ndarray:
        lines = read_transforms(folder / f"BBa.{suffix}")[of.view]
        return np.einsum("nij,nj->ni", lines[:, :, :2], of.position) + lines[:, :, 2]

    np.testing.assert_allclose(aligned(raw, "xf"), aligned(fiducials, "tltxf"), atol=2e-3)


def test_prealignment_with_binning_both_ways() -> None:
    rng = np.random.default_rng(5)
    lines = np.concatenate(
        (np.eye(2) + rng.normal(0, 0.1, (6, 2, 2)), rng.normal(0, 9, (6, 2, 1))), 2
    )
    fiducials = some()
    raw = raw_positions(fiducials, lines, (405, 258), binning=4)
    assert (raw.image_size, raw.pixel_size) == ((405, 258), 13.25 / 4)
    for position, view, at in zip(fiducials.position, fiducials.view, raw.position, strict=True):
        np.testing.assert_allclose((lines[view, :, :2] @ at + lines[view, :, 2]) / 4, position)
    back = prealigned_positions(raw, lines, (101, 64), binning=4)
    np.testing.assert_allclose(back.position, fiducials.position, atol=1e-12)
    assert (back.image_size, back.pixel_size) == ((101, 64), 13.25)
    with pytest.raises(DataError, match="6 views"):
        raw_positions(fiducials, lines[:5], (405, 258))
    with pytest.raises(ConversionError, match="view 3"):
        raw_positions(fiducials, lines * (np.arange(6) != 2)[:, None, None], (405, 258))


def test_seed_points_and_models_without_points(data_dir: Path, tmp_path: Path) -> None:
    seed = read_fiducials(data_dir / "imod_tutorial_bb" / "BBa.seed")
    assert set(seed.view) == {30}
    assert len(seed.view) == 25
    write_model(tmp_path / "a.fid", ImodModel.create((9, 9, 3), (ModelObject(()),)))
    assert read_fiducials(tmp_path / "a.fid").position.shape == (0, 2)


def test_model_drawn_on_a_part_of_the_images(tmp_path: Path) -> None:
    """Its reference has the origin of the part and, from the file, that of the whole image."""
    numbers = [1.0] * 3 + [0.0] * 6 + [13.5] * 3 + [-270.0, 0, 0] + [0.0] * 3
    chunk = Chunk(b"MINX", struct.pack(">18f", *numbers))
    write_model(tmp_path / "a.fid", ImodModel((9, 9, 3), (ModelObject(()),), chunks=(chunk,)))
    with pytest.raises(FormatError, match="part of the images, -270 and 0 A"):
        read_fiducials(tmp_path / "a.fid")


def test_what_is_no_model_of_a_series(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not one of a tomogram"):
        read_fiducials(data_dir / "imod_tutorial_bb" / "BBa.3dmod")
    contour = ModelContour(np.array([[1, 1, 2], [2, 2, 2]], np.float32))
    path = tmp_path / "a.fid"
    write_model(path, ImodModel.create((9, 9, 3), (ModelObject((contour,)),)))
    with pytest.raises(FormatError, match="two points in view 3"):
        read_fiducials(path)
    write_model(path, ImodModel.create((9, 9, 2), (ModelObject((contour,)),)))
    with pytest.raises(FormatError, match="no view of 0 to 1"):
        read_fiducials(path)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"views": 5}, DataError, "view 6.*has 5"),
        ({"contour": np.zeros(7, np.int64)}, DataError, "from 1"),
        ({"view": np.zeros(7, np.int64)}, DataError, "two points in view 1"),
        ({"surface": np.array([1, 2, 1, 2, 0, 0, 0])}, DataError, "surfaces"),
        ({"position": np.full((7, 2), np.nan)}, ConversionError, "view 1"),
    ],
)
def test_what_is_not_written(
    tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        write_fiducials(tmp_path / "a.fid", replace(some(), **change))
    assert not (tmp_path / "a.fid").exists()
