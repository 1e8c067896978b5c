"""Displacements by correlation against exact shifts, closed forms and repeated noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tomodask.geometry import Projection
from tomodask.kernels.correlate import (
    Plane,
    coherence_weight,
    find_peak,
    overlap_correlation,
    stretch_matrix,
    without_hot_pixels,
)

rng = np.random.default_rng(3)


def gaussians(shape, centres, sigma=4.0):
    """Return a sum of Gaussians at (y, x) indices."""
    y, x = np.indices(shape)
    return sum(
        np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2)) for cy, cx in centres
    ).astype(np.float32)


def smooth_noise(shape, sigma, seed):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, sigma, mode="wrap").astype(np.float32)


class TestHotPixels:
    def test_isolated_bright_pixels_go_and_nothing_else_changes(self):
        image = rng.poisson(50.0, (90, 110)).astype(np.float32)
        spoiled = image.copy()
        places = [(0, 0), (3, 109), (40, 50), (40, 51), (89, 60)]
        for y, x in places:
            spoiled[y, x] = 2000
        clean = without_hot_pixels(spoiled)
        changed = np.argwhere(clean != spoiled).tolist()
        assert sorted(changed) == sorted([y, x] for y, x in places)
        assert max(clean[y, x] for y, x in places) < 80

    def test_extended_bright_matter_stays(self):
        image = rng.normal(0, 1, (80, 80)).astype(np.float32)
        image[30:50, 30:50] += 500
        np.testing.assert_array_equal(without_hot_pixels(image), image)

    def test_the_input_is_left_alone(self):
        image = rng.poisson(50.0, (30, 30)).astype(np.int16)
        image[3, 3] = 9999
        before = image.copy()
        assert without_hot_pixels(image).dtype == np.float32
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("axis", [0.0, 33.0, 85.0, -85.0])
def test_stretch_maps_one_view_of_the_axis_plane_to_another(axis):
    projection = Projection.create([-12.0, 54.0], tilt_axis_angle=axis)
    points = np.column_stack([rng.uniform(-500, 500, (7, 2)), np.zeros(7)])
    low, high = projection.project(points)
    np.testing.assert_allclose(high @ stretch_matrix(axis, -12.0, 54.0).T, low, atol=1e-9)


@pytest.mark.parametrize("shape", [(64, 80), (63, 81)])
def test_plane_shows_the_point_that_the_map_says(shape):
    plane = Plane.create(shape, 2.0, 512)
    image = gaussians(shape, [(30.0, 36.0)], 3.0)
    centre = (np.array(shape[::-1]) - 1) / 2
    matrix = np.array([[1.1, 0.2], [-0.1, 0.9]])
    shift = np.array([5.0, -3.0])
    out = plane.image(plane.view(image), matrix, shift)
    # The blob lies at raw = matrix p + shift, so p = matrix^-1 (raw - shift).
    raw = (np.array([36.0, 30.0]) - centre) * 2.0
    expected = np.linalg.solve(matrix, raw - shift) / 2.0 + centre
    found = ndimage.center_of_mass(np.where(out > 0.2 * out.max(), out, 0))[::-1]
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize("shape", [(200, 300), (201, 299)])
def test_binning_keeps_the_centre(shape):
    plane = Plane.create(shape, 1.0, 100)
    assert max(plane.shape) in (99, 100)
    assert plane.pixel_size == pytest.approx(max(shape) / 100)
    middle = (np.array(shape) - 1) / 2
    out = plane.image(plane.view(gaussians(shape, [middle], 9.0)), np.eye(2), np.zeros(2))
    found = ndimage.center_of_mass(np.where(out > 0.2 * out.max(), out, 0))
    np.testing.assert_allclose(found, (np.array(plane.shape) - 1) / 2, atol=0.02)


def test_whitened_spectra_have_unit_power_on_every_ring():
    plane = Plane.create((60, 72), 1.0, 512)
    spectrum = plane.whitened(smooth_noise((60, 72), 2.0, 0))
    power = plane.ring_sums(np.abs(spectrum) ** 2) / plane.ring_sums(np.ones(plane.ring.shape))
    np.testing.assert_allclose(power, 1, rtol=1e-4)


@pytest.mark.parametrize("axis", [0.0, 60.0])
def test_depth_coherence_is_the_mean_phase_of_matter_in_a_slab(axis):
    plane = Plane.create((40, 48), 5.0, 512)
    tilt, onto, thickness = 20.0, 35.0, 300.0
    coherence = plane.depth_coherence(axis, tilt, onto, thickness)
    z = np.linspace(-thickness / 2, thickness / 2, 2001)
    projection = Projection.create([tilt, onto], tilt_axis_angle=axis)
    seen, reference = projection.project(np.column_stack([0 * z, 0 * z, z]))
    moved = reference - seen @ stretch_matrix(axis, onto, tilt).T
    for iy, ix in [(0, 0), (1, 2), (3, 1), (38, 4), (0, 7), (5, 0)]:
        phase = 2 * np.pi * (plane.fx[0, ix] * moved[:, 0] + plane.fy[iy, 0] * moved[:, 1]) / 5.0
        assert coherence[iy, ix] == pytest.approx(np.exp(1j * phase).mean().real, abs=2e-3)


@pytest.mark.parametrize("true", [(0.0, 0.0), (7.3, -4.6), (-30.5, 22.25)])
def test_peak_is_the_shift_below_the_pixel(true):
    plane = Plane.create((128, 160), 1.0, 512)
    image = smooth_noise((128, 160), 2.0, 1)
    spectrum = np.fft.rfft2(image)
    moved = spectrum * np.exp(-2j * np.pi * (plane.fx * true[0] + plane.fy * true[1]))
    product = (moved * spectrum.conj()).astype(np.complex64)
    peak = find_peak(plane.correlation(product), drift=6.0, limit=(60.0, 50.0))
    np.testing.assert_allclose(peak.displacement, true, atol=0.06)


def test_peak_beyond_the_limit_is_not_taken():
    correlation = rng.standard_normal((64, 64)).astype(np.float32)
    correlation[0, 30] = 50
    assert find_peak(correlation, drift=5.0, limit=(31.0, 31.0)).displacement[0] > 29
    assert abs(find_peak(correlation, drift=5.0, limit=(20.0, 31.0)).displacement[0]) < 21


def test_near_peak_wins_over_an_equal_far_one_and_loses_to_a_strong_one():
    correlation = 0.2 * rng.standard_normal((128, 128)).astype(np.float32)
    correlation[2, 3], correlation[50, 40] = 1.0, 1.1
    near = find_peak(correlation, drift=4.0, limit=(60.0, 60.0)).displacement
    np.testing.assert_allclose(near, (3, 2), atol=1)
    correlation[50, 40] = 4.0
    far = find_peak(correlation, drift=4.0, limit=(60.0, 60.0)).displacement
    np.testing.assert_allclose(far, (40, 50), atol=1)


def test_error_is_close_above_the_scatter_of_repeated_measurements():
    plane = Plane.create((96, 96), 1.0, 512)
    signal = smooth_noise((96, 96), 3.0, 2)
    signal /= signal.std()
    weight = np.exp(-0.5 * (np.hypot(plane.fx, plane.fy) / 0.08) ** 2).astype(np.float32)
    weight[0, 0] = 0
    found, errors = [], []
    for seed in range(80):
        noise = np.random.default_rng([7, seed]).standard_normal((2, 96, 96))
        a, b = (np.fft.rfft2(signal + 4 * n) for n in noise)
        product = (a * b.conj() * weight).astype(np.complex64)
        peak = find_peak(plane.correlation(product), drift=10.0, limit=(40.0, 40.0))
        found.append(peak.displacement)
        errors.append(peak.error)
    scatter = np.std(found, axis=0)
    assert np.all(np.abs(np.mean(found, axis=0)) < 4 * scatter / np.sqrt(80))
    ratio = np.median(errors, axis=0) / scatter
    assert np.all((ratio > 0.8) & (ratio < 2))


def test_evidence_of_noise_stays_below_what_counts_as_found():
    plane = Plane.create((128, 128), 1.0, 512)
    evidence = []
    for seed in range(60):
        a, b = (plane.whitened(smooth_noise((128, 128), 0.7, [seed, i])) for i in (0, 1))
        weight = np.exp(-0.5 * (np.hypot(plane.fx, plane.fy) / 0.06) ** 2).astype(np.float32)
        product = a * b.conj() * weight
        evidence.append(
            find_peak(plane.correlation(product), drift=5.0, limit=(51.0, 51.0)).evidence
        )
    assert sum(e > 8 for e in evidence) <= 2
    assert np.median(evidence) > 1


def test_flat_correlation_has_no_peak():
    peak = find_peak(np.zeros((32, 32), np.float32), drift=2.0, limit=(9.0, 9.0))
    assert (peak.displacement, peak.evidence) == ((0.0, 0.0), 0.0)
    assert np.isinf(peak.error).all()


def test_coherence_weight_is_that_of_maximum_likelihood_up_to_its_limit():
    coherence = np.array([0.0, 0.1, -0.3, 0.8], np.float32)
    np.testing.assert_allclose(
        coherence_weight(coherence), coherence / (1 - coherence**2), rtol=1e-6
    )
    assert np.isfinite(coherence_weight(np.array([1.0, -1.0], np.float32))).all()


def test_overlap_correlation_is_the_coefficient_where_both_have_values():
    a, b = rng.standard_normal((2, 20, 30)).astype(np.float32)
    b += a
    both = (np.s_[:], np.s_[5:20])
    a[:, 20:], b[:, :5] = 0, 0
    expected = np.corrcoef(a[both].ravel(), b[both].ravel())[0, 1]
    assert overlap_correlation(a, b) == pytest.approx(expected, rel=1e-9)
    assert overlap_correlation(a, np.zeros_like(b)) == 0
