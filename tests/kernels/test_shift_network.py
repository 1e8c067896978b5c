"""The joint solution of pairs against moves that are known."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.kernels.shift_network import ShiftNetwork, overlapping_pairs, window

TILTS = np.arange(-60.0, 61.0, 6.0)


def network(truth, reach=30, spoiled=()):
    """Return pairs whose likelihood is a Gaussian about where the true moves put it."""
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]

    def likelihood(low, high):
        du, dv = truth[high] - truth[low]
        du *= np.cos(np.deg2rad(TILTS[high]))
        peak = 60 * np.exp(-((u - du) ** 2 + (v - dv) ** 2) / (2 * 4.0**2))
        if (low, high) in spoiled:
            peak += 80 * np.exp(-((u + 12) ** 2 + (v - 9) ** 2) / (2 * 4.0**2))
        return peak.astype(np.float32)

    return ShiftNetwork.create(TILTS, overlapping_pairs(TILTS), likelihood)


def left(moves, truth):
    """Return the difference of moves but for the origin and the height, which are free."""
    height = np.tan(np.deg2rad(TILTS))
    design = np.column_stack([np.ones(len(TILTS)), height])
    wrong = moves - truth
    wrong[:, 0] -= design @ np.linalg.lstsq(design, wrong[:, 0], rcond=None)[0]
    wrong[:, 1] -= wrong[:, 1].mean()
    return np.abs(wrong).max()


def test_smooth_moves_are_found_whatever_a_few_pairs_say():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-2.5, 2.5, (len(TILTS), 2))
    pairs = overlapping_pairs(TILTS)
    assert left(network(truth).solve(), truth) < 0.05
    assert left(network(truth, spoiled=pairs[10:20:5]).solve(), truth) < 0.3


@pytest.mark.parametrize("jump", [(17.0, 0.0), (-14.0, 18.0)])
def test_a_wrong_link_is_undone(jump):
    truth = np.zeros((len(TILTS), 2))
    truth[TILTS >= 24] += jump
    assert left(network(truth).solve(), truth) < 0.3


def test_gradient_is_that_of_the_likelihood():
    rng = np.random.default_rng(1)
    net = network(rng.uniform(-2, 2, (len(TILTS), 2)))
    moves = rng.uniform(-2, 2, (len(TILTS), 2))
    _, gradient = net.likelihood(moves)
    for place in [(0, 0), (7, 1), (13, 0)]:
        step = np.zeros_like(moves)
        step[place] = 1e-4
        slope = (net.likelihood(moves + step)[0] - net.likelihood(moves - step)[0]) / 2e-4
        assert gradient[place] == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_pairs_join_all_views_and_the_lower_tilt_comes_first():
    angles = np.array([50.0, -50.0, 0.0, 1.0, 2.0, -3.0])
    pairs = overlapping_pairs(angles)
    assert all(abs(angles[low]) <= abs(angles[high]) for low, high in pairs)
    assert {view for pair in pairs for view in pair} == set(range(6))
    assert len(overlapping_pairs(np.arange(-60.0, 60.0, 0.5))) < 8 * 240


def test_window_is_the_correlation_in_the_frame_of_the_axis():
    correlation = np.zeros((64, 80), np.float32)
    correlation[5, -7] = 1  # (x, y) = (-7, 5)
    for axis in (0.0, 90.0, 180.0):
        part = window(correlation, axis, 12)
        v, u = np.argwhere(part > 0.5)[0] - 12
        turn = np.deg2rad(axis)
        assert u == pytest.approx(-7 * np.cos(turn) + 5 * np.sin(turn), abs=1e-6)
        assert v == pytest.approx(7 * np.sin(turn) + 5 * np.cos(turn), abs=1e-6)
