"""Row filters against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.kernels.weighting import (
    OVERSAMPLING,
    RowFilter,
    angular_weights,
    filter_length,
    filter_rows,
    radial_weights,
)


def weights(row_filter: RowFilter, angles: object = (0.0,), **options: object) -> np.ndarray:
    values = {"length": 400, "spacing": 2.0, "thickness": 200.0} | options
    return radial_weights(row_filter, angles, **values)


def test_angular_weights_integrate_the_range() -> None:
    regular = angular_weights(np.arange(-60, 61, 3.0))
    np.testing.assert_allclose(regular, np.deg2rad(3.0))
    uneven = angular_weights([0.0, 1.0, 3.0, 3.0, 10.0])
    np.testing.assert_allclose(np.rad2deg(uneven), [1, 1.5, 2.25, 2.25, 7])
    shuffled = angular_weights([10.0, 3.0, 0.0, 3.0, 1.0])
    np.testing.assert_allclose(np.rad2deg(shuffled), [7, 2.25, 1, 2.25, 1.5])
    assert angular_weights([5.0])[0] > 0


def test_ramp_is_linear_between_its_ends() -> None:
    transfer = weights(RowFilter(cutoff=0.5, falloff=0.0))[0]
    frequency = np.arange(201) / 400
    compensation = np.sinc(frequency / OVERSAMPLING) ** 2
    ramp = transfer * compensation * 2.0 / angular_weights([0.0])[0]
    np.testing.assert_allclose(ramp[4:], frequency[4:], rtol=0.02)
    assert 0 < ramp[0] < frequency[1]


def test_filtered_disc_is_its_density() -> None:
    """The projection of a uniform disc, filtered, is flat inside it.

    All views of a disc being alike, the disc's density is pi times the filtered value.
    """
    size, radius = 256, 80.0
    u = np.arange(size) - (size - 1) / 2
    chord = 2 * np.sqrt(np.clip(radius**2 - u**2, 0, None))
    length = filter_length(size)
    transfer = radial_weights(
        RowFilter(), [0.0, 90.0], length=length, spacing=1.0, thickness=200.0
    )[0]
    transfer = transfer / np.float32(angular_weights([0.0, 90.0])[0]) * np.float32(np.pi)
    out = np.empty((OVERSAMPLING * size, 16), np.float32)
    filter_rows(np.tile(chord.astype(np.float32)[:, None], 16), transfer, length, out)
    inside = np.abs(np.arange(len(out)) / OVERSAMPLING - (size - 1) / 2) < radius - 12
    assert abs(out[inside].mean() - 1) < 0.01
    assert out[inside].std() < 0.05


def test_finer_rows_pass_through_the_samples() -> None:
    """Without a filter the finer row interpolates the row, band-limited."""
    rng = np.random.default_rng(0)
    size = 100
    length = filter_length(size)
    rows = np.zeros((size, 16), np.float32)
    wave = np.cos(2 * np.pi * 0.11 * np.arange(size))[:, None]
    window = np.exp(-(((np.arange(size) - 49.5) / 12) ** 2))[:, None]
    rows[:] = wave * window * rng.normal(1, 0.1, 16)
    out = np.empty((OVERSAMPLING * size, 16), np.float32)
    filter_rows(rows, np.ones(length // 2 + 1, np.float32), length, out)
    np.testing.assert_allclose(out[::OVERSAMPLING], rows, atol=1e-5)
    at = np.arange(OVERSAMPLING * size) / OVERSAMPLING
    fine = np.cos(2 * np.pi * 0.11 * at) * np.exp(-(((at - 49.5) / 12) ** 2))
    np.testing.assert_allclose(out[:, 0], fine * rows[50, 0] / fine[100], atol=2e-4)


def test_radial_cutoff_is_gaussian() -> None:
    plain = weights(RowFilter(cutoff=0.5, falloff=0.0))[0]
    low = weights(RowFilter(cutoff=0.3, falloff=0.05))[0]
    frequency = np.arange(201) / 400
    np.testing.assert_allclose(low[frequency <= 0.3], plain[frequency <= 0.3])
    at = int(0.35 * 400)
    np.testing.assert_allclose(low[at] / plain[at], np.exp(-0.5), rtol=1e-5)


def test_exact_filter_of_even_tilts_is_the_ramp() -> None:
    """For many even tilts the overlap of slabs is 1 / (D k dtheta): the ramp again."""
    angles = np.arange(-89.0, 90.0, 2.0)
    ramp = weights(RowFilter(cutoff=0.5, falloff=0.0), angles)
    exact = weights(RowFilter(kind="exact", cutoff=0.5, falloff=0.0), angles)
    # below the frequency where neighbouring slabs part, 1 / (D dtheta) = 0.29 cycles per pixel
    band = slice(8, 110)
    # triangles of spacing a sum to 1 / a where that is whole, and to at most 10/9 of it between
    np.testing.assert_allclose(exact[45, band], ramp[45, band], rtol=0.115)


def test_exact_filter_weighs_crowded_views_less() -> None:
    angles = np.concatenate([np.arange(-60.0, 0, 6.0), np.arange(0, 20.0, 1.0), [30.0, 40.0]])
    exact = weights(RowFilter(kind="exact"), angles)
    assert exact[np.argmin(np.abs(angles - 10)), 40] < 0.4 * exact[2, 40]


def test_sirt_like_filter_follows_the_iteration() -> None:
    """One iteration of x += lambda A'(b - A x) per frequency, iterated by hand."""
    angles = np.arange(-60, 61, 3.0)
    ramp = weights(RowFilter(), angles)[20]
    for iterations in (1, 10, 50):
        found = weights(RowFilter(sirt_like=iterations), angles)[20] / ramp
        covered = angular_weights(angles).sum() * 100.0  # thickness in pixels
        for index in (2, 20, 120):
            rate = min(1.0, 1 / (covered * index / 400))
            done = 0.0
            for _ in range(iterations):
                done += rate * (1 - done)
            np.testing.assert_allclose(found[index], done, rtol=1e-4)


def test_bad_parameters() -> None:
    with pytest.raises(ParameterError, match="cutoff"):
        RowFilter(cutoff=0.7)
    with pytest.raises(ParameterError, match="filter 'hann'"):
        RowFilter(kind="hann")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="sirt"):
        RowFilter(kind="exact", sirt_like=3)
