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

TILTS = np.arange(-48, 49, 6.0)
SHAPE, PIXEL = (192, 192), 16.0


@pytest.fixture(scope="module")
def series():
    truth = random_misalignment(
        TILTS, seed=3, shift_sd=60.0, tilt_axis_angle=85.0, axis_jitter=0.1, tilt_jitter=0.0
    )
    extent = (2400.0, 2400.0, 1000.0)
    phantom = beads_and_vesicles(4, extent, beads=0, vesicles=3, particles=25)
    return simulate_tilt_series(
        phantom, truth, SHAPE, pixel_size=PIXEL, imaging=Imaging(exposure=3.0), seed=1
    )


def aligned(series, images, start, included=True, **options):
    return align_patches(
        lambda view: images[view],
        TILTS,
        included,
        shape=SHAPE,
        pixel_size=PIXEL,
        tilt_axis_angle=85.0,
        initial_shift=start,
        thickness=1200.0,
        **options,
    )


def spread(series, shift, views):
    """RMS of what a displacement of the specimen does not explain of the shifts' errors, A."""
    angle = np.deg2rad(85.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilt = np.deg2rad(TILTS[views])
    off = (shift - series.projection.shift)[views] @ turn
    design = np.column_stack([np.cos(tilt), np.sin(tilt)])
    u = off[:, 0] - design @ np.linalg.lstsq(design, off[:, 0], rcond=None)[0]
    v = off[:, 1] - off[:, 1].mean()
    return float(np.sqrt(np.mean(u**2 + v**2)))


@pytest.fixture(scope="module")
def start(series):
    rng = np.random.default_rng(5)
    return series.projection.shift + 20.0 * rng.standard_normal((len(TILTS), 2))


@pytest.fixture(scope="module")
def result(series, start):
    images = series.images.copy()
    rng = np.random.default_rng(6)
    images[4] = rng.poisson(3.0, SHAPE)  # a dark view
    return aligned(series, images, start)


def test_shifts_are_those_of_the_simulation(series, start, result):
    views = np.flatnonzero(np.arange(len(TILTS)) != 4)
    before = spread(series, start, views)
    after = spread(series, result.shift, views)
    assert before > 20
    assert after < 9


def test_a_view_without_signal_is_not_trusted(result):
    assert np.flatnonzero(~result.found).tolist() == [4]
    assert 4 not in result.patches.observations.view


def test_patches_lie_where_the_alignment_puts_their_points(series, result):
    seen = result.patches.observations
    assert len(result.patches.point) >= 4
    angle = np.deg2rad(result.tilt_axis_angle[seen.view])
    tilt = np.deg2rad(TILTS[seen.view])
    x, y, z = result.patches.point[seen.landmark].T
    u = x * np.cos(tilt) + z * np.sin(tilt)
    raw = np.column_stack(
        [u * np.cos(angle) - y * np.sin(angle), u * np.sin(angle) + y * np.cos(angle)]
    )
    expected = raw + result.shift[seen.view] + result.patches.residual
    assert np.allclose(seen.position, expected)
    assert np.sqrt(np.mean(result.patches.residual**2)) < 8


def test_noise_alone_is_refused(series, start):
    noise = np.random.default_rng(0).poisson(200.0, (len(TILTS), *SHAPE)).astype(np.float32)
    with pytest.raises(DataError, match=r"coarse alignment"):
        aligned(series, noise, start)
