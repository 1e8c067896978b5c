"""Local motion of simulated tracks, the projection of which is written out here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RectBivariateSpline

from tomodask.kernels.bundle import Observations, local_motion

TILTS = np.linspace(-60.0, 60.0, 31)
DOSE = np.abs(TILTS) + 0.1 * (TILTS > 0)
SIZE = 900.0
RNG = np.random.default_rng(11)
POINTS = np.column_stack(
    [RNG.uniform(-SIZE / 2, SIZE / 2, (24, 2)), np.where(np.arange(24) % 2, 80.0, -80.0)]
)
BETWEEN = np.column_stack([RNG.uniform(-300, 300, (40, 2)), RNG.uniform(-60, 60, 40)])


def cameras() -> np.ndarray:
    found = np.zeros((len(TILTS), 2, 3))
    found[:, 0, 0], found[:, 0, 2] = np.cos(np.deg2rad(TILTS)), np.sin(np.deg2rad(TILTS))
    found[:, 1, 1] = 1
    return found


def dome(points: np.ndarray, height: float = 8.0) -> np.ndarray:
    """Return (view, point, 3) displacements: a dome that rises with the dose, and a swirl."""
    x, y = points[:, 0] / (SIZE / 2), points[:, 1] / (SIZE / 2)
    grown = (DOSE / DOSE.max())[:, None, None]
    return height * grown * np.stack([x * y, x**2 - y**2, 1 - x**2 - y**2], axis=-1)


def seen(points: np.ndarray, moved: np.ndarray) -> np.ndarray:
    return np.matmul(points + moved, cameras().transpose(0, 2, 1))


def tracks(moved: np.ndarray, noise: float, seed: int = 0) -> tuple[Observations, np.ndarray]:
    """Return observations, and the points that a rigid specimen would have."""
    rng = np.random.default_rng(seed)
    position = seen(POINTS, moved) + rng.normal(0, noise, (len(TILTS), len(POINTS), 2))
    there = rng.random(position.shape[:2]) > 0.1
    points = rigid_points(position, there)
    view, landmark = np.nonzero(there)
    return Observations.create(landmark, view, position[view, landmark]), points


def rigid_points(position: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.array(
        [
            np.linalg.lstsq(
                cameras()[there[:, p]].reshape(-1, 3), position[there[:, p], p].ravel(), rcond=None
            )[0]
            for p in range(position.shape[1])
        ]
    )


def misplaced(position: np.ndarray) -> float:
    """Return the root mean square distance to the best rigid points' views, shifts free."""
    there = np.ones(position.shape[:2], bool)
    best = seen(rigid_points(position, there), np.zeros(3))
    left = position - best
    left -= left.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.mean(np.sum(left**2, axis=-1))))


def field_at(motion, points: np.ndarray) -> np.ndarray:
    """Return the (view, point, 2) field; a spline of SciPy's own through the knots."""
    found = np.zeros((len(TILTS), len(points), 2))
    for view in range(len(TILTS)):
        for axis in range(2):
            for values, scale in ((motion.shift, 1.0), (motion.slope, points[:, 2])):
                spline = RectBivariateSpline(
                    motion.knot_y, motion.knot_x, values[view, :, :, axis], s=0
                )
                found[view, :, axis] += scale * spline.ev(points[:, 1], points[:, 0])
    return found


@pytest.mark.parametrize("dose", [DOSE, None], ids=["dose known", "dose unknown"])
def test_motion_is_found_between_landmarks_too(dose: np.ndarray | None) -> None:
    observations, points = tracks(dome(POINTS), 0.1)
    motion = local_motion(observations, cameras(), points, TILTS, exposed=dose)
    assert motion is not None
    before = misplaced(seen(BETWEEN, dome(BETWEEN)))
    after = misplaced(seen(BETWEEN, dome(BETWEEN)) - field_at(motion, BETWEEN))
    assert before > 0.5
    assert after < 0.2 * before
    assert motion.left_out < 0.4 * motion.left_out_rigid


def test_places_are_those_before_the_motion() -> None:
    observations, points = tracks(dome(POINTS), 0.05)
    motion = local_motion(observations, cameras(), points, TILTS, exposed=DOSE)
    assert motion is not None
    there = np.ones((len(TILTS), len(POINTS)), bool)
    clean = seen(POINTS, dome(POINTS))

    def error(position: np.ndarray) -> float:
        found = rigid_points(position, there)
        ones = np.column_stack([found, np.ones(len(found))])
        best = ones @ np.linalg.lstsq(ones, POINTS, rcond=None)[0]
        return float(np.sqrt(np.mean(np.sum((best - POINTS) ** 2, axis=1))))

    assert error(clean) > 1.0
    assert error(clean - field_at(motion, points)) < 0.3


def test_surfaces_that_slide_against_each_other_give_a_slope() -> None:
    moved = np.zeros((len(TILTS), len(POINTS), 3))
    shear = 0.03 * (DOSE / DOSE.max())[:, None] * np.sin(2 * POINTS[:, 0] / SIZE * np.pi)
    moved[..., 0] = shear * POINTS[:, 2]
    observations, points = tracks(moved, 0.05)
    motion = local_motion(observations, cameras(), points, TILTS, exposed=DOSE)
    assert motion is not None
    assert motion.prior.depth > 0
    last, middle = int(np.argmax(DOSE)), len(motion.knot_y) // 2
    expected = 0.03 * np.sin(2 * motion.knot_x / SIZE * np.pi) * np.cos(np.deg2rad(TILTS[last]))
    found = motion.slope[last, middle, :, 0]
    assert np.corrcoef(found, expected)[0, 1] > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_a_rigid_specimen_does_not_move(seed: int) -> None:
    observations, points = tracks(np.zeros(3), 0.2, seed)
    assert local_motion(observations, cameras(), points, TILTS, exposed=DOSE) is None


def test_a_few_landmarks_tell_nothing() -> None:
    observations, points = tracks(dome(POINTS), 0.1)
    few = observations[observations.landmark < 5]
    assert local_motion(few, cameras(), points[:5], TILTS, exposed=DOSE) is None


def test_a_static_deformation_is_the_specimens_shape() -> None:
    static = np.broadcast_to(dome(POINTS)[-1], (len(TILTS), len(POINTS), 3))
    observations, points = tracks(static, 0.1)
    assert local_motion(observations, cameras(), points, TILTS, exposed=DOSE) is None


def test_landmarks_without_a_point_or_weight_are_left_out() -> None:
    observations, points = tracks(dome(POINTS), 0.1)
    wrong = observations.position.copy()
    wrong[observations.landmark == 3] += 50 * RNG.standard_normal((1, 2))
    weight = np.where(observations.landmark == 4, 0.0, 1.0)
    wrong[observations.landmark == 4] += 80.0
    points[3] = np.nan
    damaged = Observations.create(observations.landmark, observations.view, wrong, weight)
    keep = ~np.isin(observations.landmark, (3, 4))
    found, expected = (
        local_motion(one, cameras(), points, TILTS, exposed=DOSE)
        for one in (damaged, observations[keep])
    )
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found.shift, expected.shift, atol=1e-9)
