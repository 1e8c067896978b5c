"""Points composed of planes whose heights change along the lanes."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.kernels.ctf.compose import compose_rows


@pytest.mark.parametrize(
    ("start", "step", "lane_step"),
    [(0.2, 0.03, 0.011), (3.4, -0.02, -0.053), (-0.7, 0.001, 0.13), (0.93, 0.1, 4.0)],
)
def test_points_lie_between_planes(start: float, step: float, lane_step: float) -> None:
    planes = np.random.default_rng(0).normal(size=(4, 50, 21)).astype(np.float32)
    strips = np.array([[0, 50], [5, 50], [0, 40], [15, 30]])
    stored = np.concatenate([plane[a:b] for plane, (a, b) in zip(planes, strips, strict=True)])
    out = np.full((35, 21), np.nan, np.float32)
    compose_rows(stored, strips, 10, start, step, out, lane_step)
    for (i, lane), value in np.ndenumerate(out):
        at = np.clip(start + i * step + lane * lane_step, 0, 3)
        if 0 < at < 3 and abs(at - round(at)) < 1e-9:
            continue  # exactly on a plane, its neighbour on either side serves
        below = min(int(at), 2)
        pair = (below, below + 1)
        if any(not strips[k, 0] <= 10 + i < strips[k, 1] for k in pair):
            assert value == 0
            continue
        low, high = (planes[k, 10 + i, lane] for k in pair)
        assert value == pytest.approx(low + (at - below) * (high - low), abs=1e-5)


def test_one_plane_serves_all_lanes() -> None:
    plane = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    out = np.empty((12, 16), np.float32)
    compose_rows(plane, np.array([[3, 23]]), 5, -0.7, 0.01, out, 0.3)
    np.testing.assert_array_equal(out, plane[2:14])
