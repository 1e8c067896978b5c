from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.beads.point_series import TILTS, owners, point_series
from tomodask.errors import DataError
from tomodask.kernels.beads.grow import complete
from tomodask.kernels.beads.link import assign, register
from tomodask.kernels.beads.start import linked

AREA = 1e6


def isotropic(count, deviation=1.0):
    return np.tile(deviation**2 * np.eye(2), (count, 1, 1))


def test_the_shift_that_most_points_share_is_found_whatever_its_size():
    rng = np.random.default_rng(1)
    points = rng.uniform(-300, 300, (10, 2))
    detected = np.concatenate(
        [points[3:] + np.array([180.0, -170.0]), rng.uniform(-500, 500, (8, 2))]
    )
    found = register(points, isotropic(10), detected, expected=np.zeros(2), drift=40.0, area=AREA)
    np.testing.assert_allclose(found.shift, [180, -170], atol=0.1)
    np.testing.assert_array_equal(found.landmark, np.arange(3, 10))
    np.testing.assert_array_equal(found.detection, np.arange(7))
    assert found.evidence > 10
    assert found.margin > 10


def test_points_that_have_nothing_in_common_are_no_evidence():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = register(
            rng.uniform(-500, 500, (12, 2)),
            isotropic(12, 2.0),
            rng.uniform(-500, 500, (12, 2)),
            expected=np.zeros(2),
            drift=40.0,
            area=AREA,
        )
        assert found.evidence < 8 or found.margin < 3


def test_assignment_is_one_to_one_and_crosses_no_gate():
    predicted = np.array([[0.0, 0.0], [3.0, 0.0], [50.0, 0.0]])
    # Both of the first two are nearest to the detection between them.
    detected = np.array([[1.4, 0.0], [4.5, 0.0], [60.0, 0.0]])
    rows, columns, distance = assign(predicted, isotropic(3), detected)
    np.testing.assert_array_equal(rows, [0, 1])
    np.testing.assert_array_equal(columns, [0, 1])
    np.testing.assert_allclose(distance, [1.96, 2.25])


def check(series, model, *, aligned=1.0, found=0.85):
    """Every landmark is one point's, all points are landmarks, and few detections are missed."""
    owner = owners(series, model.index)
    names = []
    wrong = 0
    for row in owner:
        own = row[row >= 0]
        names.append(np.bincount(own).argmax())
        wrong += np.sum((row != names[-1]) & (row != -2))
    assert sorted(names) == list(range(len(series.points)))
    total = sum(np.sum(o >= 0) for o in series.owner)
    assert wrong <= 0.01 * total
    assert np.sum(owner >= 0) >= found * total
    assert np.mean(model.aligned) >= aligned


def link(series, axis, tilts=TILTS):
    model = linked(series.detected, (series.size, series.size), tilts, axis, None)
    complete(model, None)
    return model


@pytest.mark.parametrize(
    ("axis", "off"),
    [(0.0, 20.0), (12.0, None), (85.0, -20.0), (85.0, 180.0), (-88.0, None), (178.0, 165.0)],
)
def test_series_are_linked_about_any_axis_known_roughly_or_not(axis, off):
    series = point_series(3, axis=axis)
    model = link(series, None if off is None else axis + off)
    check(series, model)
    assert abs((model.tilt_axis_angle - axis + 90) % 180 - 90) < 0.5


@pytest.mark.parametrize(
    "kind",
    [
        {"noise": 0.5, "missing": 0.35, "false": 0.6},
        {"jump": 9},
        {"drift": 100.0, "size": 2000},
        {"flat": True},
        {"count": 4, "missing": 0.1, "false": 0.5},
        {"count": 60, "size": 2500, "sway": 3.0},
    ],
    ids="-".join,
)
def test_hard_series_are_linked(kind):
    for seed in range(2):
        series = point_series(seed, **kind)
        # A view that shows two of four beads cannot be placed.
        check(series, link(series, 85.0), aligned=0.9)


def test_dark_views_are_left_alone():
    series = point_series(5, dark=(8, 12, 13), false=0.1)
    model = link(series, 85.0)
    check(series, model, aligned=0.8)
    assert not model.aligned[[8, 12, 13]].any()


def test_uneven_tilts_and_a_gap_are_linked():
    tilts = np.concatenate([np.arange(-48.0, 1.0, 3.0), [1.0, 2.0], np.arange(14.0, 60.0, 6.0)])
    series = point_series(6, tilts=tilts)
    check(series, link(series, 85.0, tilts))


def test_noise_and_scrambled_tilts_are_refused_with_the_remedy():
    rng = np.random.default_rng(0)
    noise = [rng.uniform(-500, 500, (15, 2)) for _ in TILTS]
    with pytest.raises(DataError, match="align by patches"):
        linked(noise, (1000, 1000), TILTS, 85.0, None)
    with pytest.raises(DataError, match="only 0 views show 3 beads"):
        linked([n[:2] for n in noise], (1000, 1000), TILTS, 85.0, None)
