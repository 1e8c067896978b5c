"""A specimen that lies askew is found, and placed level and in the middle."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tomodask as td
from tests.image_sample import PIXEL, stored
from tomodask.cli import main
from tomodask.errors import DataError, ParameterError, ProductMissingError, TomodaskWarning
from tomodask.geometry import LocalField, Projection
from tomodask.io.series import write_alignment, write_landmarks
from tomodask.kernels.position import Slab
from tomodask.model import alignment_dataset, landmarks_dataset, projection_of
from tomodask.positioning import _placed, landmark_points
from tomodask.simulate import Imaging, Phantom, beads_and_vesicles, simulate_tilt_series

if TYPE_CHECKING:
    import xarray as xr

TILTS = np.arange(-60, 61, 4.0)
SHAPE = (300, 280)
#: (x, y, z) of the specimen, A, and how it is turned and shifted in the alignment.
EXTENT = (2300.0, 2500.0, 700.0)
TILT, PITCH, HEIGHT = 5.0, -4.0, 150.0


def askew(projection: Projection) -> Projection:
    """The same cameras about a frame in which the specimen is turned and too low."""
    turned = Projection.create(
        projection.tilt_angle - TILT,
        tilt_axis_angle=projection.tilt_axis_angle,
        shift=projection.shift,
        x_tilt=-PITCH,
    )
    return turned.moved_origin((0.0, 0.0, HEIGHT))


@pytest.fixture(scope="module")
def specimen() -> Phantom:
    return beads_and_vesicles(
        3, EXTENT, beads=14, bead_radius=50, bead_layer="surfaces", vesicles=2, particles=20
    )


@pytest.fixture(scope="module")
def truth() -> Projection:
    rng = np.random.default_rng(0)
    return Projection.create(TILTS, tilt_axis_angle=3.0, shift=rng.normal(0, 40, (len(TILTS), 2)))


@pytest.fixture(scope="module")
def prepared(
    specimen: Phantom, truth: Projection, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A series with an alignment that is askew, and landmarks."""
    found = simulate_tilt_series(
        specimen, truth, SHAPE, pixel_size=PIXEL, imaging=Imaging(exposure=4.0), seed=1
    )
    path = stored(tmp_path_factory.mktemp("askew") / "s.zarr", TILTS, found.images)
    write_alignment(path, "beads", alignment_dataset(askew(truth), method="beads"))
    write_landmarks(path, "beads", landmarks(truth.project(specimen.bead_centres)))
    return path


@pytest.fixture
def series(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "s.zarr"))


def landmarks(positions: np.ndarray) -> xr.Dataset:
    """Landmarks seen at (tilt, bead, 2) positions, with errors."""
    views, beads = positions.shape[:2]
    noise = np.random.default_rng(2).normal(0, 2, positions.shape)
    return landmarks_dataset(
        landmark=np.tile(np.arange(beads), views),
        view=np.repeat(np.arange(views), beads),
        position=(positions + noise).reshape(-1, 2),
        attributes={"pixel_size": PIXEL},
    )


def heights(alignment: xr.Dataset, specimen: Phantom, truth: Projection) -> np.ndarray:
    """(bead,) heights of the beads as the alignment sees them."""
    seen = landmarks(truth.project(specimen.bead_centres))
    return landmark_points(projection_of(alignment), seen)[:, 2]


def test_landmarks_on_both_faces(series: Path, specimen: Phantom, truth: Projection) -> None:
    placed = td.position(series, margin=80.0)
    assert abs(float(placed["tilt_offset"]) - TILT) < 0.2
    np.testing.assert_allclose(placed["x_tilt"], 0, atol=0.2)
    z = heights(placed, specimen, truth)
    true = specimen.bead_centres[:, 2]
    np.testing.assert_allclose(z, true, atol=12)
    assert abs(float(placed["thickness"]) - (np.ptp(true) + 160)) < 15
    assert placed.attrs["positioned"]["found"][0]["by"] == "landmarks"
    again = td.open(series)["alignments/beads-positioned"].to_dataset()
    assert projection_of(again) == projection_of(placed)
    assert td.position(series, alignment="beads", margin=80.0, overwrite=True).identical(placed)


def test_placing_again_changes_nothing(series: Path) -> None:
    """What is level and in the middle stays so; angles stay those that were solved."""
    first = td.position(series, name="one")
    second = td.position(series, alignment="one", landmarks="beads", name="two")
    for name in ("tilt_offset", "x_tilt", "z_shift", "thickness"):
        np.testing.assert_allclose(second[name], first[name], atol=1e-3)
    np.testing.assert_array_equal(second["tilt_angle"], TILTS - TILT)


def test_seen_in_the_volume(series: Path, specimen: Phantom, truth: Projection) -> None:
    placed = td.position(series, method="volume", height=2600, margin=0.0)
    found = placed.attrs["positioned"]["found"][0]
    assert abs(float(placed["tilt_offset"]) - TILT) < 1.0
    assert np.abs(placed["x_tilt"]).max() < 1.0
    assert np.abs(heights(placed, specimen, truth) - specimen.bead_centres[:, 2]).max() < 60
    true = np.ptp(specimen.bead_centres[:, 2]) + 100
    assert -60 < float(placed["thickness"]) - true < 160
    assert found["surfaces"] == 2


def test_one_face_leaves_the_rest_to_the_volume(
    series: Path, specimen: Phantom, truth: Projection
) -> None:
    upper = specimen.bead_centres[:, 2] > 0
    write_landmarks(series, "beads", landmarks(truth.project(specimen.bead_centres[upper])))
    placed = td.position(series, height=2600)
    assert [found["by"] for found in placed.attrs["positioned"]["found"]] == [
        "landmarks",
        "volume",
    ]
    assert abs(float(placed["tilt_offset"]) - TILT) < 0.5
    assert np.abs(heights(placed, specimen, truth) - specimen.bead_centres[:, 2]).max() < 60
    with pytest.warns(TomodaskWarning, match="no thickness is stored"):
        alone = td.position(series, alignment="beads", method="landmarks", overwrite=True)
    assert "thickness" not in alone


def test_angles_that_cannot_be_told_stay(series: Path) -> None:
    """Beads as far apart in height as in the plane."""
    rng = np.random.default_rng(1)
    points = rng.uniform(-300, 300, (6, 3))
    before = td.open(series)["alignments/beads"].to_dataset()
    write_landmarks(series, "few", landmarks(projection_of(before).project(points)))
    with (
        pytest.warns(TomodaskWarning, match="no thickness is stored"),
        pytest.warns(TomodaskWarning, match=r"the (tilt offset|x-tilt) is left as it is"),
    ):
        placed = td.position(series, method="landmarks", landmarks="few")
    assert float(placed["tilt_offset"]) == pytest.approx(0)
    np.testing.assert_allclose(placed["x_tilt"], before["x_tilt"])


def test_noise_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 10, (len(TILTS), 160, 160)).astype(np.float32)
    path = stored(tmp_path / "n.zarr", TILTS, noise)
    write_alignment(path, "true", alignment_dataset(Projection.create(TILTS), method="true"))
    with pytest.raises(DataError, match=r"only \d+ places"):
        td.position(path, height=2000)
    assert list(td.open(path)["alignments"].children) == ["true"]


def test_too_low_a_volume_is_told(series: Path) -> None:
    with pytest.raises(DataError, match="--height 1600"):
        td.position(series, method="volume", height=800)


def slab(slope_x: float, slope_y: float, centre: float) -> Slab:
    return Slab.of(np.array([slope_x, slope_y, centre, 500.0]), np.zeros(4), surfaces=2, count=20)


def test_every_variable_takes_part() -> None:
    """Any cameras, x-tilt and z factors of each view: a point stays where it is seen."""
    rng = np.random.default_rng(5)
    projection = Projection.create(
        TILTS,
        tilt_axis_angle=rng.normal(85, 1, len(TILTS)),
        shift=rng.normal(0, 100, (len(TILTS), 2)),
        magnification=rng.normal(1, 0.01, len(TILTS)),
        stretch=0.002,
        x_tilt=rng.normal(2, 0.3, len(TILTS)),
        z_factor=rng.normal(0, 0.01, (len(TILTS), 2)),
    )
    before = alignment_dataset(projection, method="x", z_shift=70.0, tilt_offset=1.5)
    placed = _placed(before, slab(0.1, -0.06, -220.0))
    xy = rng.uniform(-2000, 2000, (30, 2))
    points = np.column_stack([xy, -220 + 0.1 * xy[:, 0] - 0.06 * xy[:, 1]])
    seen = projection_of(before).project(points)
    new = projection_of(placed)
    camera = (new.image_matrix() @ new.view_matrix()[:, :2]).reshape(-1, 3)
    found, remaining = np.linalg.lstsq(
        camera, (seen - new.shift[:, None]).transpose(0, 2, 1).reshape(-1, 30)
    )[:2]
    assert remaining.max() < 1e-10
    np.testing.assert_allclose(found[2], 0, atol=1e-7)
    np.testing.assert_allclose(placed["tilt_angle"], before["tilt_angle"])
    assert float(placed["thickness"]) == pytest.approx(500 / np.sqrt(1 + 0.1**2 + 0.06**2))


def test_local_field_turns_with_the_specimen() -> None:
    rng = np.random.default_rng(6)
    knots = np.linspace(-2000, 2000, 5)
    field = LocalField.create(
        knots,
        knots,
        rng.normal(0, 8, (len(TILTS), 5, 5, 2)),
        rng.normal(0, 0.01, (len(TILTS), 5, 5, 2)),
    )
    projection = Projection.create(TILTS, local=field)
    before = alignment_dataset(projection, method="x")
    placed = projection_of(_placed(before, slab(0.07, 0.05, 0.0)))
    xy = rng.uniform(-1500, 1500, (40, 2))
    above = rng.uniform(-300, 300, 40)
    points = np.column_stack([xy, above + 0.07 * xy[:, 0] + 0.05 * xy[:, 1]])
    rigid = projection_of(
        _placed(alignment_dataset(Projection.create(TILTS), method="x"), slab(0.07, 0.05, 0))
    )
    camera = (rigid.image_matrix() @ rigid.view_matrix()[:, :2]).reshape(-1, 3)
    flat = Projection.create(TILTS).project(points).transpose(0, 2, 1).reshape(-1, 40)
    moved = np.linalg.lstsq(camera, flat)[0].T
    error = placed.project(moved) - projection.project(points)
    without = rigid.project(moved) - projection.project(points)
    assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((without**2).mean())


def test_command(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["position", str(series), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "beads-positioned" in said
    assert "offset +4.97 deg" in said
    assert main(["position", str(series), "--alignment", "beads", "--quiet"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["position", str(series), "--quiet"]) == 1


def test_what_is_not_there(series: Path) -> None:
    with pytest.raises(ParameterError, match="give positive lengths"):
        td.position(series, height=-1)
    with pytest.raises(ParameterError, match="placed by an alignment"):
        td.position(series, alignment="none")
    with pytest.raises(ProductMissingError, match="no landmarks 'other'"):
        td.position(series, landmarks="other")
    with pytest.raises(ProductMissingError, match="no alignment 'other'"):
        td.position(series, alignment="other")


def test_nothing_is_said_without_reason(series: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.position(series)
