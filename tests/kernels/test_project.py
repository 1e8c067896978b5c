from __future__ import annotations

import numpy as np
import pytest

from tomodask.kernels.project import backproject_rows, project_rows


@pytest.fixture
def tilt() -> np.ndarray:
    return np.deg2rad([-50.0, 0.0, 37.0])


def test_a_voxel_falls_where_the_geometry_says(tilt):
    volume = np.zeros((9, 21, 5), np.float32)
    volume[7, 4, 2] = 1  # x = -6, z = 3
    seen = project_rows(volume, np.cos(tilt), np.sin(tilt), 25)
    for view, angle in zip(seen, tilt, strict=True):
        at = np.arange(25) - 12.0
        assert view.sum() == pytest.approx(1)
        assert at @ view[:, 2] == pytest.approx(-6 * np.cos(angle) + 3 * np.sin(angle), abs=1e-5)
        assert np.count_nonzero(view[:, [0, 1, 3, 4]]) == 0


def test_backprojection_is_the_adjoint(tilt):
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((8, 30, 70)).astype(np.float32)
    views = rng.standard_normal((3, 18, 70)).astype(np.float32)
    seen = project_rows(volume, np.cos(tilt), np.sin(tilt), 18)
    back = backproject_rows(views, np.cos(tilt), np.sin(tilt), (8, 30))
    assert np.vdot(seen.astype(float), views) == pytest.approx(
        np.vdot(volume.astype(float), back), rel=1e-4
    )
