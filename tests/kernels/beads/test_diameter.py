from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import DataError, ParameterError
from tomodask.geometry import Projection
from tomodask.kernels.beads.diameter import estimate_diameter
from tomodask.simulate import Ball, Gaussian, Imaging, Phantom, Shell, simulate_tilt_series


@pytest.mark.parametrize("diameter", [4.5, 8.0, 14.0, 36.0])
def test_the_diameter_of_beads_among_other_matter(diameter):
    pixel, n = 100 / diameter, 640
    rng = np.random.default_rng(int(diameter))
    half = n * pixel / 2
    beads = [Ball((*rng.uniform(-0.9 * half, 0.9 * half, 2), 0.0), 50.0, -0.005) for _ in range(14)]
    particles = [
        Gaussian((*rng.uniform(-half, half, 2), 0.0), rng.uniform(15, 60), -1e-3) for _ in range(40)
    ]
    vesicle = Shell((0.3 * half, 0.0, 0.0), (0.2 * half,) * 3, 40.0, -6e-4)
    series = simulate_tilt_series(
        Phantom((*beads, *particles, vesicle)),
        Projection.create(np.array([-3.0, 0.0, 3.0]), tilt_axis_angle=85.0),
        (n, n),
        pixel_size=pixel,
        imaging=Imaging(exposure=3.0, hot_pixels=10),
        seed=1,
    )
    found = estimate_diameter(series.images)
    assert found.diameter == pytest.approx(diameter, rel=0.03)
    assert abs(found.diameter - diameter) < 3 * found.error
    assert found.beads >= 20
    assert 0.5 < found.confidence <= 1


def test_an_empty_view_has_no_beads():
    with pytest.raises(DataError, match="give the diameter"):
        estimate_diameter(np.full((1, 256, 256), 7.0))


def test_the_limits_must_make_sense():
    with pytest.raises(ParameterError, match="smallest < largest"):
        estimate_diameter(np.ones((1, 256, 256)), smallest=10, largest=5)
