from __future__ import annotations

import numpy as np

from tomodask.kernels.beads.choose import choose, score_landmarks
from tomodask.kernels.beads.local import shared_offsets
from tomodask.kernels.beads.surfaces import surfaces_of


def test_two_surfaces_are_told_apart_in_a_tilted_specimen():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        points = rng.uniform(-400, 400, (16, 3))
        upper = np.arange(16) % 2 == 1
        points[:, 2] = 0.2 * points[:, 0] - 0.1 * points[:, 1] + 120 * upper
        points[:, 2] += rng.normal(0, 5, 16)
        points[3] = np.nan
        expected = 1 + upper
        expected[3] = 0
        np.testing.assert_array_equal(surfaces_of(points), expected)


def test_one_surface_or_beads_throughout_are_one():
    split = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        points = rng.uniform(-400, 400, (int(rng.integers(5, 40)), 3)) * [1, 1, 0.2]
        split += (surfaces_of(points) == 2).any()
    assert split <= 5
    assert (surfaces_of(np.full((3, 3), np.nan)) == 0).all()


def scored(residual, predicted=None, visible=None, elongation=None):
    count, views, _ = residual.shape
    spread = 100.0 * np.arange(count)[:, None, None] + np.zeros((count, views, 2))
    return score_landmarks(
        residual,
        spread if predicted is None else predicted,
        np.ones((count, views), bool) if visible is None else visible,
        diameter=10.0,
        elongation=np.zeros(count) if elongation is None else elongation,
    )


def test_each_fault_of_a_landmark_makes_its_score_worse():
    residual = np.full((6, 20, 2), 0.1)
    residual[1] *= 3
    residual[2, ::2] *= -2.5
    residual[3, :10] = np.nan
    predicted = 100.0 * np.arange(6)[:, None, None] + np.zeros((6, 20, 2))
    elongation = np.array([0, 0, 0, 0, 0.4, 0.0])
    score = scored(residual, predicted, elongation=elongation)
    assert score.residual[1] > 2
    assert score.deviation[2] > score.deviation[0] + 0.3
    assert score.missing[3] == 0.5
    assert score.elongated[4] == 0.4
    assert np.argmin(score.total) in (0, 5)
    assert (score.total[1:5] > score.total[0]).all()
    predicted[5] = predicted[0] + 5
    crowded = scored(residual, predicted, elongation=elongation)
    assert crowded.clustered[0] == crowded.clustered[5] == 1
    assert crowded.clustered[1] == 0


def test_chosen_landmarks_are_good_spread_and_on_both_surfaces():
    rng = np.random.default_rng(0)
    points = rng.uniform(-500, 500, (200, 3))
    # Most crowd in one corner.
    points[:120, :2] = rng.uniform(400, 500, (120, 2))
    surface = np.where(np.arange(200) % 4 == 0, 2, 1)
    score = rng.uniform(1, 1.3, 200)
    score[150:] += 3
    score[149] = np.inf
    chosen = choose(points, score, surface, 20)
    assert len(np.unique(chosen)) == 20
    assert np.sum(surface[chosen] == 2) == 10
    assert np.sum(chosen < 120) < 10
    assert np.mean(chosen >= 150) < 0.2
    assert 149 not in chosen
    quadrants = np.unique(np.sign(points[chosen, :2]), axis=0)
    assert len(quadrants) == 4


def test_fewer_than_asked_for_are_all_chosen():
    points = np.random.default_rng(1).normal(size=(5, 3))
    chosen = choose(points, np.array([1.0, 2.0, np.inf, 1.0, 3.0]), np.ones(5, np.int64), 10)
    assert sorted(chosen) == [0, 1, 3, 4]


def test_offsets_that_neighbours_share_are_predicted_and_noise_is_not():
    rng = np.random.default_rng(2)
    predicted = np.repeat(rng.uniform(-1000, 1000, (60, 1, 2)), 15, axis=1)
    noise = rng.normal(0, 0.2, predicted.shape)
    assert (shared_offsets(predicted, noise) == 0).all()
    motion = 2 * np.sin(predicted[..., ::-1] / 400)
    residual = noise - motion
    residual[4, 3] = np.nan
    offset = shared_offsets(predicted, residual)
    assert np.std((offset - motion)[:, :]) < 0.6 * np.std(motion)
    assert np.linalg.norm(offset[4, 3] - motion[4, 3]) < 0.6 * np.linalg.norm(motion[4, 3])
