from __future__ import annotations

import numpy as np

from tomodask.kernels.beads.structure import project, resect, triangulate, view_matrices


def seen_at(points, tilt, axis, scale=1.0):
    """Return where points are seen, written out once more."""
    t, a = np.radians(tilt), np.radians(axis)
    u = points[:, 0] * np.cos(t) + points[:, 2] * np.sin(t)
    v = points[:, 1]
    return scale * np.stack([u * np.cos(a) - v * np.sin(a), u * np.sin(a) + v * np.cos(a)], axis=1)


def test_points_are_triangulated_and_the_prior_holds_those_seen_once():
    rng = np.random.default_rng(0)
    points, tilts = rng.uniform(-300, 300, (6, 3)), np.arange(-40.0, 41, 10)
    matrix, shift = view_matrices(tilts, 85.0), rng.normal(0, 50, (9, 2))
    table = np.stack([seen_at(points, t, 85.0) for t in tilts], axis=1) + shift
    table[4, 1:], table[5] = np.nan, np.nan
    found, covariance = triangulate(table, matrix, shift, deviation=1.0, depth=1e4)
    np.testing.assert_allclose(found[:4], points[:4], atol=0.5)
    assert covariance[0, 2, 2] < 2
    # One view leaves its own direction open, which the prior closes.
    np.testing.assert_allclose(project(matrix, shift, found)[4, 0], table[4, 0], atol=0.1)
    assert np.linalg.eigvalsh(covariance[4])[-1] > 1e6
    assert np.isnan(found[5]).all()


def test_a_view_is_resected_with_its_own_tilt_rotation_and_scale():
    rng = np.random.default_rng(1)
    points = rng.uniform(-400, 400, (25, 3)) * [1, 1, 0.5]
    truth = seen_at(points, 40.4, 85.3, 1.002) + np.array([120.0, -80.0])
    position = truth + rng.normal(0, 0.05, truth.shape)
    position[:3] += [30.0, 0.0]
    nominal = view_matrices(40.0, 85.0)
    matrix, shift = resect(
        position, np.tile(0.05**2 * np.eye(2), (25, 1, 1)), points, nominal, np.zeros(2)
    )
    np.testing.assert_allclose(points @ matrix.T + shift, truth, atol=0.15)
    # Two points say where the view is, and little else.
    matrix, shift = resect(truth[3:5], np.tile(np.eye(2), (2, 1, 1)), points[3:5], nominal, shift)
    np.testing.assert_allclose(shift, [120, -80], atol=4)
    np.testing.assert_allclose(matrix, nominal, atol=0.02)
