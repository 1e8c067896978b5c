"""Planes through landmarks, and the turn that makes a plane level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import DataError
from tomodask.geometry import Projection
from tomodask.io.imod import read_fiducial_xyz
from tomodask.kernels.position import fit_surfaces, level_angles

if TYPE_CHECKING:
    from pathlib import Path


def on_faces(seed: int, count: int = 16, noise: float = 10.0) -> np.ndarray:
    """Points on two faces 900 A apart that slope by 0.12 along x and -0.07 along y."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-3500, 3500, (count, 3))
    points[:, 2] = 60 + 0.12 * points[:, 0] - 0.07 * points[:, 1]
    points[:, 2] += np.where(np.arange(count) % 2, 450, -450) + rng.normal(0, noise, count)
    return points


@pytest.mark.parametrize("seed", range(5))
def test_two_faces_with_outliers(seed: int) -> None:
    points = on_faces(seed)
    points[3, 2] += 300
    points[5] = np.nan
    slab = fit_surfaces(points)
    assert slab.surfaces == 2
    errors = [
        (slab.slope_x - 0.12) / slab.slope_x_error,
        (slab.slope_y + 0.07) / slab.slope_y_error,
        (slab.centre - 60) / slab.centre_error,
        (slab.height - 900) / slab.height_error,
    ]
    assert np.abs(errors).max() < 5
    assert slab.slope_x_error < 0.006
    assert slab.height_error < 20


def test_error_bars_are_those_of_many_draws() -> None:
    slabs = [fit_surfaces(on_faces(seed, 20)) for seed in range(40)]
    scatter = np.std([slab.slope_x for slab in slabs])
    claimed = np.median([slab.slope_x_error for slab in slabs])
    assert 0.7 < claimed / scatter < 1.4


def test_one_face_tells_slopes_and_no_thickness() -> None:
    points = on_faces(1)[::2]
    slab = fit_surfaces(points)
    assert slab.surfaces == 1
    assert np.isnan(slab.height)
    assert abs(slab.slope_x - 0.12) < 0.01
    assert abs(slab.centre - (60 - 450)) < 20


@pytest.mark.parametrize("count", [8, 12, 20])
def test_a_filled_layer_has_no_two_faces(count: int) -> None:
    rng = np.random.default_rng(count)
    two = [
        fit_surfaces(rng.uniform(-1, 1, (count, 3)) * [3500, 3500, 500]).surfaces == 2
        for _ in range(12)
    ]
    assert np.mean(two) <= 0.1


def test_too_few_landmarks() -> None:
    with pytest.raises(DataError, match="3 solved landmarks"):
        fit_surfaces(on_faces(0)[:3])
    line = np.column_stack([np.arange(9.0), 2 * np.arange(9.0), np.zeros(9)])
    with pytest.raises(DataError, match="on one line"):
        fit_surfaces(line)


@pytest.mark.parametrize("x_tilt", [0.0, 4.0, -7.0])
def test_turned_cameras_see_the_plane_level(x_tilt: float) -> None:
    """Points of a sloping plane, seen by the old cameras, are of one height to the new ones."""
    tilts = np.arange(-60, 61, 10.0)
    old = Projection.create(tilts, tilt_axis_angle=85.0, x_tilt=x_tilt)
    rng = np.random.default_rng(0)
    points = rng.uniform(-2000, 2000, (12, 3))
    points[:, 2] = 0.15 * points[:, 0] - 0.1 * points[:, 1]
    tilt, pitch = level_angles(0.15, -0.1, x_tilt)
    new = Projection.create(tilts + tilt, tilt_axis_angle=85.0, x_tilt=x_tilt + pitch)
    camera = (new.image_matrix() @ new.view_matrix()[:, :2]).reshape(-1, 3)
    seen = old.project(points).transpose(0, 2, 1).reshape(-1, 12)
    found, remaining = np.linalg.lstsq(camera, seen)[:2]
    assert remaining.max() < 1e-12  # it is a rotation of the specimen, and nothing else
    np.testing.assert_allclose(found[2], 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), np.linalg.norm(points, axis=1))


@pytest.mark.parametrize(
    ("axis", "tilt", "pitch", "height"),
    [("a", (0.03, 0.73), (-2.46, -1.57), 80.33), ("b", (-0.56, 0.20), (-0.21, 0.43), 81.0)],
)
def test_solved_series_of_imod(
    data_dir: Path,
    axis: str,
    tilt: tuple[float, float],
    pitch: tuple[float, float],
    height: float,
) -> None:
    """Between what tiltalign printed for the two surfaces by themselves.

    Its added tilt angle has our sign; the x-axis tilt that it prints turns the specimen, ours the
    view of it.
    """
    beads = read_fiducial_xyz(data_dir / "imod_tutorial_bb" / f"BB{axis}fid.xyz").xyz
    slab = fit_surfaces(beads - [256, 256, 0])
    found = level_angles(slab.slope_x, slab.slope_y)
    assert slab.surfaces == 2
    assert tilt[0] < found[0] < tilt[1]
    assert pitch[0] < found[1] < pitch[1]
    assert abs(slab.height - height) < 1
