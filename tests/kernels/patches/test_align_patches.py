"""Against series whose exact geometry the simulator knows."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import DataError
from tomodask.kernels.patches.align import align_patches
from tomodask.simulate import (
    Imaging,
    beads_and_vesicles,
    random_misalignment,
    simulate_tilt_series,
)

TILTS = np.arange(-48, 49, 8.0)
SHAPE, PIXEL = (72, 72), 32.0
AXIS, GIVEN = 85.0, 86.5
DARK = 4


@pytest.fixture(scope="module")
def series():
    truth = random_misalignment(
        TILTS, seed=3, shift_sd=60.0, tilt_axis_angle=AXIS, axis_jitter=0.1, tilt_jitter=0.0
    )
    phantom = beads_and_vesicles(4, (2000.0, 2000.0, 600.0), beads=0, vesicles=3, particles=40)
    return simulate_tilt_series(
        phantom, truth, SHAPE, pixel_size=PIXEL, imaging=Imaging(exposure=3.0), seed=1
    )


@pytest.fixture(scope="module")
def start(series):
    rng = np.random.default_rng(5)
    return series.projection.shift + 20.0 * rng.standard_normal((len(TILTS), 2))


def aligned(images, start, included=True, **options):
    return align_patches(
        lambda view: images[view],
        TILTS,
        included,
        shape=SHAPE,
        pixel_size=PIXEL,
        tilt_axis_angle=GIVEN,
        initial_shift=start,
        thickness=800.0,
        patch=600.0,
        **options,
    )


@pytest.fixture(scope="module")
def result(series, start):
    images = series.images.copy()
    images[DARK] = np.random.default_rng(6).poisson(3.0, SHAPE)
    return aligned(images, start)


def seen_points(tilt, axis, shift, points):
    """Raw (view, point, 2) places of points, A."""
    tilt, axis = np.deg2rad(tilt), np.deg2rad(axis)
    x, y, z = points.T
    u = np.outer(np.cos(tilt), x) + np.outer(np.sin(tilt), z)
    cos, sin = np.cos(axis)[:, None], np.sin(axis)[:, None]
    return np.stack([u * cos - y * sin, u * sin + y * cos], axis=-1) + shift[:, None]


def error(series, axis, shift, views):
    """RMS over points and views, A, of what moving the points does not explain."""
    truth = series.projection
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)) * (900, 900, 300)
    true = seen_points(truth.tilt_angle, truth.tilt_axis_angle, truth.shift, points)[views]
    basis = np.stack(
        [seen_points(TILTS, axis, 0 * shift, np.eye(3)[[k]])[views, 0].ravel() for k in range(3)],
        axis=1,
    )
    values = (true - shift[views, None]).transpose(0, 2, 1).reshape(-1, len(points))
    rest = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
    return float(np.sqrt(2 * np.mean(rest**2)))


def test_points_are_seen_where_the_simulation_puts_them(series, start, result):
    views = np.flatnonzero(np.arange(len(TILTS)) != DARK)
    before = error(series, np.full(len(TILTS), GIVEN), start, views)
    after = error(series, result.tilt_axis_angle, result.shift, views)
    assert before > 20
    assert after < 8  # a quarter of a pixel


def test_a_wrong_axis_is_corrected_as_far_as_the_views_tell(result):
    """Given 1.5 degrees off; these few views tell it to about half a degree."""
    assert abs(np.mean(result.tilt_axis_angle) - AXIS) < 0.75


def test_the_expected_error_is_of_the_size_of_the_error(series, result):
    views = np.flatnonzero(np.arange(len(TILTS)) != DARK)
    true = error(series, result.tilt_axis_angle, result.shift, views)
    assert true / 4 < result.error < 4 * true


def test_a_view_without_signal_is_not_trusted(result):
    assert np.flatnonzero(~result.found).tolist() == [DARK]
    assert DARK not in result.patches.observations.view


def test_patches_lie_where_the_alignment_puts_their_points(result):
    seen = result.patches.observations
    assert len(result.patches.point) >= 4
    places = seen_points(TILTS, result.tilt_axis_angle, result.shift, result.patches.point)
    expected = places[seen.view, seen.landmark] + result.patches.residual
    assert np.allclose(seen.position, expected)
    assert np.sqrt(np.mean(result.patches.residual**2)) < 8


def test_a_region_holds_all_patches_and_a_repetition_gives_the_same(series, start):
    few = np.abs(TILTS) < 28
    corners = [(0, 0), (72, 36)]  # the lower half
    first, second = (aligned(series.images, start, few, region=corners) for _ in range(2))
    assert len(first.patches.point) > 0
    angle = np.deg2rad(GIVEN)
    x, y, _ = first.patches.point.T
    assert np.all(x * np.sin(angle) + y * np.cos(angle) < 0)
    assert np.array_equal(first.shift, second.shift)
    assert first.error == second.error


def test_noise_alone_is_refused(start):
    noise = np.random.default_rng(0).poisson(200.0, (len(TILTS), *SHAPE)).astype(np.float32)
    with pytest.raises(DataError, match=r"coarse alignment"):
        aligned(noise, start)
