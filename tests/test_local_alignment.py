"""Landmarks of a specimen that moves locally, solved and put into an alignment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from tomodask.geometry import LocalField, Projection
from tomodask.model import landmarks_dataset, projection_of
from tomodask.simulate import dose_symmetric_order, random_deformation, random_misalignment
from tomodask.solving import solve_landmarks

TILTS = np.arange(-60, 61, 4.0)
PIXEL = 8.0
EXTENT = (6500.0, 6500.0)


def true_projection(amplitude: float) -> Projection:
    rigid = random_misalignment(TILTS, seed=4, tilt_axis_angle=85.0, tilt_jitter=0.1)
    if not amplitude:
        return rigid
    moved = random_deformation(TILTS, seed=2, amplitude=amplitude * PIXEL, extent=EXTENT)
    return replace(rigid, local=moved)


def places(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height = rng.choice([-600.0, 600.0], count)
    return np.column_stack([rng.uniform(-0.45, 0.45, (count, 2)) * EXTENT, height])


def solved(amplitude: float, **options) -> tuple[xr.Dataset, xr.Dataset]:
    rng = np.random.default_rng(6)
    position = true_projection(amplitude).project(places(1, 24))
    position += rng.normal(0, 0.1 * PIXEL, position.shape)
    view, landmark = np.nonzero(rng.random(position.shape[:2]) > 0.05)
    table = landmarks_dataset(
        landmark=landmark, view=view, position=position[view, landmark], attributes={}
    )
    views = xr.Dataset(
        {
            "tilt_angle": ("tilt", TILTS),
            "included": ("tilt", np.ones(len(TILTS), bool)),
            "order": ("tilt", dose_symmetric_order(TILTS)),
        },
        attrs={"pixel_size": PIXEL, "tilt_axis_angle": 84.0},
    )
    return solve_landmarks(table, views, **options)


def misplaced(alignment: xr.Dataset, amplitude: float) -> float:
    """Return how far true places are from where the alignment can put them, pixels."""
    projection = projection_of(alignment)
    true = true_projection(amplitude).project(places(1, 24))
    camera = projection.view_matrix()[:, :2].reshape(-1, 3)
    aligned = projection.to_aligned(true)
    error = []
    for index in range(true.shape[1]):
        point = np.zeros(3)
        for _ in range(5):
            moved = np.zeros((len(TILTS), 2))
            if projection.local is not None:
                shift, slope = projection.local.at(point[:1], point[1:2])
                moved = (shift + point[2] * slope)[:, 0]
            point = np.linalg.lstsq(camera, (aligned[:, index] - moved).ravel(), rcond=None)[0]
        error.append(projection.project(point)[:, 0] - true[:, index])
    return float(np.sqrt(np.mean(np.sum(np.square(error), axis=-1)))) / PIXEL


def test_local_motion_is_solved_and_kept_in_the_alignment() -> None:
    _, rigid = solved(3.0, local=False)
    table, alignment = solved(3.0)
    assert "local_shift_u" not in rigid
    assert isinstance(projection_of(alignment).local, LocalField)
    before, after = misplaced(rigid, 3.0), misplaced(alignment, 3.0)
    assert before > 0.35
    assert after < 0.3 * before
    assert alignment.attrs["local"] is True
    assert alignment.attrs["local_left_out"] < 0.5 * alignment.attrs["local_left_out_rigid"]
    residual = np.hypot(table["residual_x"].values, table["residual_y"].values)
    assert np.median(residual) / PIXEL < 0.15
    # Residuals are those of the projection that is stored.
    specimen = np.stack([table[f"specimen_{axis}"].values for axis in "xyz"], axis=1)
    seen = projection_of(alignment).project(specimen)
    seen = seen[table["view"].values, table["landmark_of"].values]
    np.testing.assert_allclose(seen[:, 0] - table["x"].values, table["residual_x"].values)


def test_a_rigid_specimen_gets_no_field() -> None:
    _, rigid = solved(0.0, local=False)
    _, alignment = solved(0.0)
    assert "local_shift_u" not in alignment
    assert alignment.attrs["local"] is False
    xr.testing.assert_identical(alignment.drop_attrs(), rigid.drop_attrs())


@pytest.mark.parametrize("amplitude", [1.0])
def test_smaller_motion_is_not_made_worse(amplitude: float) -> None:
    _, rigid = solved(amplitude, local=False)
    _, alignment = solved(amplitude)
    assert misplaced(alignment, amplitude) <= misplaced(rigid, amplitude)
