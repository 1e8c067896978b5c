"""Landmarks from and to IMOD's fiducial models, in the store of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import tomodask as td
from tests.image_sample import PIXEL, stored
from tests.kernels.bundle.simulated_tracks import tracks
from tomodask.errors import DataError, FormatError, ParameterError
from tomodask.io.fiducials import Fiducials, read_fiducials, write_fiducials
from tomodask.io.imod import write_transforms
from tomodask.io.imod_model_file import read_model
from tomodask.io.series import landmark_names, write_coordinates, write_landmarks
from tomodask.model import landmarks_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

ANGLES = np.linspace(-60.0, 60.0, 9)
#: The section of each view in the stack that was imported: as they were acquired.
SECTION = np.array([8, 6, 3, 1, 0, 2, 4, 5, 7])
#: (y, x), one odd and one even.
SHAPE = (96, 111)
TRUTH = tracks(3, landmarks=7, views=9, size=70, thickness=25, missing=0.1)


def series(folder: Path, shape: tuple[int, int] = SHAPE, section: np.ndarray = SECTION) -> Path:
    """A stored series whose sections are not in the order of its views."""
    path = stored(folder / "a.zarr", ANGLES, np.ones((9, *shape), np.float32))
    write_coordinates(path, {"section": section}, {"tilt_axis_angle": 85.0})
    return path


def table() -> xr.Dataset:
    """The landmarks of seven points, one left out, one point deleted and one filled."""
    seen = TRUTH.observations
    source = np.full(len(seen.view), "tracked", "<U7")
    source[3], source[5], source[6] = "edited", "deleted", "filled"
    return landmarks_dataset(
        landmark=seen.landmark,
        view=seen.view,
        position=seen.position * PIXEL,
        source=source,
        number=np.array([1, 2, 4, 5, 6, 9, 10]),
        surface=np.array([1, 2, 1, 2, 0, 1, 2]),
        chosen=np.arange(7) != 4,
        attributes={"method": "beads", "pixel_size": PIXEL},
    )


def points(landmarks: td.Landmarks) -> dict[tuple[int, int], tuple[float, float]]:
    """(landmark, view) -> (x, y) of what is measured."""
    found = landmarks.points()
    in_use = landmarks.by_landmark()["in_use"]
    found = found[found["source"].isin(["tracked", "edited"]) & found["landmark"].map(in_use)]
    keys = zip(found["landmark"], found["view"], strict=True)
    return dict(zip(keys, zip(found["x"], found["y"], strict=True), strict=True))


def prealignment(seed: int = 0) -> np.ndarray:
    """(section, 2, 3): a turn, a little stretch and a shift of every image, pixels."""
    rng = np.random.default_rng(seed)
    turn = np.deg2rad(rng.uniform(-5, 5, 9))
    matrix = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in turn])
    matrix += rng.normal(0, 0.01, (9, 2, 2))
    return np.concatenate([matrix, rng.uniform(-9, 9, (9, 2, 1))], axis=2)


@pytest.mark.parametrize("binning", [1, 2])
@pytest.mark.parametrize("prealigned", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (95, 110), (96, 112)])
def test_round_trip(tmp_path: Path, prealigned: bool, binning: int, shape: tuple[int, int]) -> None:
    path = series(tmp_path, shape)
    write_landmarks(path, "beads", table())
    marks = td.open_landmarks(path)
    prexg = None
    if prealigned:
        prexg = tmp_path / "a.prexg"
        write_transforms(prexg, prealignment())
    model = td.export_landmarks(marks, tmp_path / "a.fid", prexg=prexg, binning=binning)
    assert read_model(model).image_size == (shape[1] // binning, shape[0] // binning, 9)
    td.import_landmarks(path, model, prexg=prexg, binning=binning)
    again = td.open_landmarks(path, "fiducials")
    found, expected = points(again), points(marks)
    assert found.keys() == expected.keys()
    for key, place in expected.items():
        np.testing.assert_allclose(found[key], place, atol=2e-4 * PIXEL)  # single precision
    surface = again.by_landmark()["surface"]
    assert surface.to_dict() == {1: 1, 2: 2, 4: 1, 5: 2, 9: 1, 10: 2}


def test_a_model_is_of_sections_not_of_views(tmp_path: Path) -> None:
    """Where 3dmod shows the points: index + 0.5 from the lower left corner, section by section."""
    path = series(tmp_path)
    write_landmarks(path, "beads", table())
    marks = td.open_landmarks(path)
    model = read_model(td.export_landmarks(marks, tmp_path / "a.fid"))
    contours = model.objects[0].contours
    assert [number for number, one in enumerate(contours, 1) if len(one.points)] == [
        1, 2, 4, 5, 9, 10
    ]  # fmt: skip
    for (number, view), (x, y) in points(marks).items():
        shown = contours[number - 1].points
        place = shown[shown[:, 2] == SECTION[view]]
        expected = (x / PIXEL + SHAPE[1] / 2, y / PIXEL + SHAPE[0] / 2)
        np.testing.assert_allclose(place[0, :2], expected, atol=1e-4)


def test_a_prealigned_model_lies_where_the_transforms_take_it(tmp_path: Path) -> None:
    path = series(tmp_path)
    write_landmarks(path, "beads", table())
    marks = td.open_landmarks(path)
    write_transforms(tmp_path / "a.prexg", prealignment())
    out = td.export_landmarks(marks, tmp_path / "a.fid", prexg=tmp_path / "a.prexg", binning=2)
    found = read_fiducials(out)
    assert found.pixel_size == pytest.approx(2 * PIXEL)
    shown = {
        (int(n), int(s)): p
        for n, s, p in zip(found.contour, found.view, found.position, strict=True)
    }
    for (number, view), place in points(marks).items():
        line = prealignment()[SECTION[view]]
        expected = (line[:, :2] @ (np.array(place) / PIXEL) + line[:, 2]) / 2
        np.testing.assert_allclose(shown[number, SECTION[view]], expected, atol=1e-3)


def test_an_imported_model_is_solved(tmp_path: Path) -> None:
    """Its alignment is the one that the points were made with, though its sections are mixed."""
    seen = TRUTH.observations
    path = series(tmp_path)
    model = Fiducials(
        position=seen.position,
        view=SECTION[seen.view],
        model_object=np.ones(len(seen.view), np.int64),
        contour=seen.landmark + 1,
        surface=np.zeros(len(seen.view), np.int64),
        image_size=SHAPE[::-1],
        views=9,
    )
    write_fiducials(tmp_path / "a.fid", model)
    td.import_landmarks(path, tmp_path / "a.fid", name="mine")
    marks = td.open_landmarks(path).solve()
    assert marks.largest_residuals(1)["residual"].iloc[0] < 1e-3
    assert marks.alignment is not None
    np.testing.assert_allclose(marks.alignment["tilt_axis_angle"], 85.0, atol=1e-3)
    xyz = marks.by_landmark()[["x", "y", "z"]].to_numpy() / PIXEL
    np.testing.assert_allclose(
        xyz - xyz.mean(axis=0), TRUTH.points - TRUTH.points.mean(axis=0), atol=0.01
    )


def test_objects_make_landmarks_of_their_own(tmp_path: Path) -> None:
    path = series(tmp_path)
    model = Fiducials(
        position=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        view=np.array([0, 1, 0]),
        model_object=np.array([1, 1, 2]),
        contour=np.array([2, 2, 2]),
        surface=np.zeros(3, np.int64),
        image_size=SHAPE[::-1],
        views=9,
    )
    write_fiducials(tmp_path / "a.fid", model)
    found = td.import_landmarks(path, tmp_path / "a.fid")
    assert found["number"].values.tolist() == [1, 2]
    np.testing.assert_array_equal(found["landmark_of"], [0, 0, 1])
    np.testing.assert_array_equal(found["view"], [4, 3, 4])  # the views of sections 0, 1 and 0


def test_a_model_without_points(tmp_path: Path) -> None:
    path = series(tmp_path)
    none = np.empty(0, np.int64)
    model = Fiducials(np.empty((0, 2)), none, none, none, none, SHAPE[::-1], 9)
    write_fiducials(tmp_path / "a.fid", model)
    found = td.import_landmarks(path, tmp_path / "a.fid")
    assert dict(found.sizes) == {"observation": 0, "landmark": 0}
    marks = td.open_landmarks(path, "fiducials")
    assert marks.gaps() == {}
    with pytest.raises(DataError, match="at least 3"):
        marks.solve()


def test_what_does_not_fit_the_series_is_refused(tmp_path: Path) -> None:
    path = series(tmp_path)
    write_landmarks(path, "beads", table())
    marks = td.open_landmarks(path)
    model = td.export_landmarks(marks, tmp_path / "a.fid")
    (tmp_path / "b").mkdir()
    other = series(tmp_path / "b", (96, 112), np.arange(9))
    with pytest.raises(DataError, match=r"111 x 96 pixels.* has 112 x 96"):
        td.import_landmarks(other, model)
    with pytest.raises(DataError, match="111 x 96 pixels"):
        td.import_landmarks(path, model, binning=2)
    (tmp_path / "c").mkdir()
    short = stored(tmp_path / "c" / "a.zarr", ANGLES[:8], np.ones((8, *SHAPE), np.float32))
    with pytest.raises(DataError, match=r"9 views, .* has 8"):
        td.import_landmarks(short, model)
    write_transforms(tmp_path / "short.prexg", prealignment()[:8])
    with pytest.raises(DataError, match=r"\(8, 2, 3\)"):
        td.import_landmarks(path, model, prexg=tmp_path / "short.prexg")
    with pytest.raises(DataError, match=r"\(8, 2, 3\)"):
        td.export_landmarks(marks, tmp_path / "b.fid", prexg=tmp_path / "short.prexg")
    (tmp_path / "text.fid").write_text("no model")
    with pytest.raises(FormatError, match=r"text\.fid"):
        td.import_landmarks(path, tmp_path / "text.fid")
    assert not (tmp_path / "b.fid").exists()
    assert landmark_names(path) == ["beads"]
    td.import_landmarks(path, model)
    with pytest.raises(ParameterError, match="'fiducials' already"):
        td.import_landmarks(path, model)
    td.import_landmarks(path, model, overwrite=True)
    assert landmark_names(path) == ["beads", "fiducials"]
