"""Offsets of voxels against the equation that they solve."""

from __future__ import annotations

import numpy as np
from scipy.optimize import fsolve

from tomodask.kernels.local_offsets import ViewGeometry, offset_bounds, row_offsets

TILT = np.deg2rad(52.0)
VIEW = ViewGeometry(
    cos_x=np.cos(TILT), sin_z=1.02 * np.sin(TILT), shear=0.07, x_per_u=1 / np.cos(TILT),
    lane_shear=0.05,
)  # fmt: skip
ORIGIN, SPACING = (-320.0, -640.0), 16.0


def shift(x: float, y: float) -> np.ndarray:
    return np.array([3 + 0.02 * x - 0.01 * y + 2e-5 * x * y, -1 - 0.015 * x + 0.02 * y])


def slope(x: float, y: float) -> np.ndarray:
    return np.array([0.01 - 2e-5 * x, 1e-5 * (x + y)])


def table() -> np.ndarray:
    """The field where it is linear between any two points of a line: exact in the table."""
    y = ORIGIN[0] + SPACING * np.arange(41)
    x = ORIGIN[1] + SPACING * np.arange(81)
    return np.array([[[*shift(b, a), *slope(b, a)] for b in x] for a in y])


def expected(u: float, v: float, z: float) -> np.ndarray:
    """Offset of the voxel that a rigid specimen shows at (u, v), by a solver of SciPy."""
    x, y = (u - z * VIEW.sin_z) / VIEW.cos_x, v + VIEW.lane_shear * z
    seen = np.array([x * VIEW.cos_x + z * VIEW.sin_z, y - VIEW.shear * z])
    target = seen + shift(x, y) + z * slope(x, y)
    found = fsolve(lambda at: at + shift(at[0] / VIEW.cos_x, at[1]) - target, seen, xtol=1e-12)
    return found - [u, v]


def test_offsets_solve_their_equation() -> None:
    u, lanes = np.array([-90.0, 3.0, 110.0]), (np.array([-40.0, 24.0]), np.array([-24.0, 0, 8]))
    for z in (-80.0, 0.5, 93.0):
        along_u, along_v = row_offsets(table(), ORIGIN, SPACING, VIEW, u, lanes, z)
        for i, row in enumerate(u):
            for j, v in enumerate(lanes[1]):
                np.testing.assert_allclose(along_v[i, j], expected(row, v, z)[1], atol=2e-3)
            for j, v in enumerate(lanes[0]):
                # the voxel that ends on lane v once both offsets are applied
                own = fsolve(lambda at, v=v, row=row, z=z: at + expected(row, at[0], z)[1] - v, v)
                np.testing.assert_allclose(along_u[i, j], expected(row, own[0], z)[0], atol=3e-3)


def test_at_mid_plane_nothing_is_left_to_do() -> None:
    lanes = np.array([-16.0, 0, 16])
    u = np.linspace(-100, 100, 7)
    view = VIEW._replace(shear=0.05)
    found = row_offsets(table(), ORIGIN, SPACING, view, u, (lanes, lanes), 0.0)
    np.testing.assert_allclose(found, 0, atol=1e-3)


def test_bounds_hold() -> None:
    x, y, z = (np.linspace(-half, half, n) for half, n in ((150, 9), (120, 9), (100, 9)))
    largest, change = offset_bounds(table(), ORIGIN, SPACING, VIEW, x, y, z)
    rng = np.random.default_rng(0)
    found, rates = [], []
    for _ in range(150):
        a, b, c = rng.uniform(-1, 1, 3) * [150, 120, 99]
        u, v = a * VIEW.cos_x + c * VIEW.sin_z, b - VIEW.lane_shear * c
        near, far = expected(u, v, c - 1), expected(u, v, c + 1)
        found.append(np.abs((near + far) / 2).max())
        rates.append(np.abs(far - near).max() / 2)
    assert max(found) <= 1.05 * largest <= 1.3 * max(found)
    assert max(rates) <= 1.05 * change <= 1.4 * max(rates)
