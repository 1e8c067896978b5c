from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.bundle.simulated_tracks import tracks
from tomodask.kernels.bundle import solve
from tomodask.kernels.bundle.groups import group_nodes, interpolated
from tomodask.kernels.bundle.robust import BISQUARE_SHRINKAGE, bisquare_weights
from tomodask.kernels.bundle.variables import Mapping


def lengths(seed, shape=(41, 20)):
    return np.linalg.norm(np.random.default_rng(seed).normal(size=(*shape, 2)), axis=2)


def test_good_observations_keep_their_weight_and_wrong_ones_lose_it():
    length = lengths(0)
    length[7, 3] = 12.0
    weight = bisquare_weights(length, np.ones_like(length, bool), 0.0)
    assert weight[7, 3] == 0
    assert weight.mean() == pytest.approx(0.945, abs=0.02)


def test_a_bad_view_does_not_excuse_itself():
    length = lengths(1)
    length[20] *= 20
    weight = bisquare_weights(length, np.ones_like(length, bool), 0.0)
    assert weight[20].mean() < 0.2


def test_views_may_differ_in_quality():
    length = lengths(2) * np.linspace(1, 6, 41)[:, None]
    weight = bisquare_weights(length, np.ones_like(length, bool), 0.0)
    assert weight[-10:].mean() > 0.85


def test_without_noise_nothing_is_wrong():
    length = 1e-12 * lengths(3)
    length[3, 3] = 1e-10
    weight = bisquare_weights(length, np.ones_like(length, bool), 1e-6)
    assert weight.min() > 0.99


def test_what_is_not_seen_has_no_weight():
    seen = np.random.default_rng(4).random((41, 20)) > 0.3
    seen[5] = False
    weight = bisquare_weights(lengths(4), seen, 0.0)
    assert (weight[~seen] == 0).all()
    assert weight[seen].mean() > 0.9


def test_the_shrinkage_of_the_noise_is_that_of_gaussian_residuals():
    length = lengths(5, (1, 400_000))
    weight = bisquare_weights(length, np.ones_like(length, bool), 0.0)
    found = (weight * length**2).sum() / (2 * weight.sum())
    assert found == pytest.approx(BISQUARE_SHRINKAGE, abs=0.005)


def test_intervals_shrink_with_the_cosine():
    tilt = np.linspace(-60, 60, 61)
    nodes = group_nodes(tilt, 5, 1.0)
    assert nodes[0] == 0
    assert nodes[-1] == 60
    steps = np.diff(nodes)
    assert steps[len(steps) // 2] > 1.5 * steps[0]
    assert len(steps) == pytest.approx(12, abs=2)
    assert np.ptp(np.diff(group_nodes(tilt, 5, 0.0))) <= 1


def test_interpolation_is_linear_and_stays_beyond_the_ends():
    weights = interpolated(np.array([2.0, 6.0]), np.array([0.0, 2.0, 3.0, 6.0, 9.0]))
    np.testing.assert_allclose(weights @ [10, 20], [10, 10, 12.5, 20, 20])


def test_mappings_fix_what_they_are_told():
    blocks = Mapping.blocks([0, 0, -1, 5])
    np.testing.assert_array_equal(blocks.basis, [[1, 0], [1, 0], [0, 0], [0, 1]])
    linear = Mapping.linear([0, 2, 4], 5, reference=2)
    np.testing.assert_allclose(linear.basis @ [1, 3], [1, 0.5, 0, 1.5, 3])


@pytest.mark.parametrize("landmarks", [3, 4, 6])
def test_weights_do_no_harm_where_nothing_is_wrong(landmarks: int) -> None:
    jitter = {"rotation": 0.15, "tilt": 0.15}
    errors = []
    for seed in range(6):
        made = tracks(seed, landmarks=landmarks, noise=0.1, jitter=jitter)
        errors.append(
            [
                made.error(solve(made.observations, made.tilt, tilt_axis_angle=85.0, robust=robust))
                for robust in (True, False)
            ]
        )
    weighed, plain = np.mean(errors, axis=0)
    assert weighed < 1.15 * plain
