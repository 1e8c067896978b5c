"""Counts, ice, transfer and defects against their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.simulate import (
    Ball,
    ContrastTransfer,
    Gaussian,
    Imaging,
    Phantom,
    dose_symmetric_order,
    simulate_tilt_series,
)

ANGLES = np.arange(-60.0, 61.0, 20.0)
PROJECTION = Projection.create(ANGLES, tilt_axis_angle=85.0)
PHANTOM = Phantom(
    (Ball((30.0, 40.0, 20.0), 50.0, -0.004), Gaussian((-90.0, 0.0, 9.0), 25.0, -0.002))
)
QUIET = Imaging(counting_noise=False)


def record(imaging, *, phantom=PHANTOM, projection=PROJECTION, shape=(48, 51), **options):
    return simulate_tilt_series(
        phantom, projection, shape, pixel_size=8.0, imaging=imaging, **options
    )


def test_expected_counts_are_electrons_times_one_plus_projection():
    series = record(replace(QUIET, exposure=2.5))
    projected = PHANTOM.project(PROJECTION, (48, 51), pixel_size=8.0)
    np.testing.assert_allclose(series.images, 2.5 * 64 * (1 + projected), rtol=1e-5)
    assert series.images.dtype == np.float32
    assert series.images.min() < 0.8 * series.images.max()


def test_counts_never_fall_below_zero():
    series = record(QUIET, phantom=Phantom((Ball((0.0, 0.0, 0.0), 50.0, -0.1),)))
    assert series.images.min() == 0


def test_counts_are_poisson():
    series = record(Imaging(exposure=0.5), phantom=Phantom(()), shape=(300, 300))
    np.testing.assert_array_equal(series.images, np.rint(series.images))
    for image in series.images.astype(float):
        # Standard errors: 32 / 90000 of the mean, 2 / 90000 of the relative variance, square roots.
        assert image.mean() == pytest.approx(32, abs=5 * np.sqrt(32 / 9e4))
        assert image.var() == pytest.approx(32, rel=5 * np.sqrt(2 / 9e4))


def test_ice_attenuates_by_the_length_of_the_path():
    projection = Projection.create(ANGLES, tilt_axis_angle=85.0, x_tilt=12.0)
    imaging = replace(QUIET, exposure=1.0, ice_thickness=2000.0, mean_free_path=3000.0)
    series = record(imaging, phantom=Phantom(()), projection=projection)
    path = 2000 / np.cos(np.deg2rad(ANGLES)) / np.cos(np.deg2rad(12.0))
    np.testing.assert_allclose(series.images[:, 3, 4], 64 * np.exp(-path / 3000), rtol=1e-6)


def test_ice_noise_has_the_deviation_and_the_grain_asked_for():
    imaging = replace(QUIET, exposure=1.0, ice_noise=0.02, ice_grain=24.0)
    series = record(imaging, phantom=Phantom(()), shape=(400, 400))
    contrast = series.images.astype(float) / 64 - 1
    expected = 0.02 / np.sqrt(np.cos(np.deg2rad(ANGLES)))
    np.testing.assert_allclose(contrast.std(axis=(1, 2)), expected, rtol=1e-3)
    # Smoothing white noise by a Gaussian of s pixels gives the correlation exp(-d^2 / 4 s^2).
    image = contrast[3] / contrast[3].std()
    assert (image[:, 3:] * image[:, :-3]).mean() == pytest.approx(np.exp(-9 / 36), abs=0.03)
    assert abs(np.corrcoef(contrast[2].ravel(), contrast[3].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    "imaging", [Imaging(), replace(QUIET, ice_noise=0.02), replace(QUIET, hot_pixels=5)]
)
def test_equal_seeds_give_equal_images_and_others_do_not(imaging):
    first, again, other = (record(imaging, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.hot_pixels, again.hot_pixels)
    assert not np.array_equal(first.images, other.images)


def test_each_view_has_its_own_noise():
    projection = Projection.create([0.0, 0.0])
    series = record(Imaging(), projection=projection, shape=(200, 200))
    first, second = series.images.reshape(2, -1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3


def test_defects_do_not_reshuffle_the_noise():
    clean, hot = record(Imaging(), seed=4), record(Imaging(hot_pixels=7, dark_views=(2,)), seed=4)
    changed = np.argwhere(clean.images != hot.images)
    defects = {tuple(pixel) for pixel in hot.hot_pixels}
    assert {tuple(pixel) for pixel in changed if pixel[0] != 2} == {
        pixel for pixel in defects if pixel[0] != 2
    }
    assert len(defects) == 7 * len(ANGLES)


def test_hot_pixels_stand_out_and_dark_views_are_dark():
    series = record(Imaging(hot_pixels=6, dark_views=(0, 5)))
    mean = np.median(series.images, axis=(1, 2))
    values = series.images[tuple(series.hot_pixels.T)]
    assert np.all(values > 15 * mean[series.hot_pixels[:, 0]])
    np.testing.assert_array_equal(np.flatnonzero(series.dark_views), [0, 5])
    assert mean[[0, 5]].max() < 0.05 * mean[[1, 2, 3, 4, 6]].min()


def test_dose_symmetric_scheme_is_hagens():
    angles = np.arange(-12.0, 13.0, 3.0)
    sequence = angles[np.argsort(dose_symmetric_order(angles))]
    np.testing.assert_array_equal(sequence, [0, 3, -3, -6, 6, 9, -9, -12, 12])


@pytest.mark.parametrize("angles", [[5.0], [2.0, 2.0, 2.0], [-10.0, -8.0, 3.0, 6.0, 9.0, 12.0]])
def test_dose_symmetric_order_is_an_order_for_any_angles(angles):
    order = dose_symmetric_order(angles)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(angles)))
    assert abs(angles[int(np.argmin(order))]) == np.min(np.abs(angles))


def test_dose_accumulates_in_the_order_of_acquisition():
    series = record(Imaging(exposure=3.5), order=[3, 1, 0, 2, 4, 6, 5], tilt_angle=ANGLES + 0.3)
    np.testing.assert_allclose(series.dose, [10.5, 3.5, 0, 7, 14, 21, 17.5])
    np.testing.assert_array_equal(series.exposure, np.full(7, 3.5))
    np.testing.assert_array_equal(series.tilt_angle, ANGLES + 0.3)
    assert series.projection == PROJECTION
    np.testing.assert_array_equal(record(Imaging()).order, dose_symmetric_order(ANGLES))


def test_bead_truth():
    series = record(QUIET)
    np.testing.assert_array_equal(series.bead_centres, [[30.0, 40.0, 20.0]])
    assert series.bead_positions.shape == (7, 1, 2)
    for image, (x, y) in zip(series.images, series.bead_positions[:, 0] / 8.0, strict=True):
        assert image[round(y + 47 / 2), round(x + 25)] < 0.75 * image.max()


@pytest.mark.parametrize(
    ("voltage", "wavelength"), [(100.0, 0.0370144), (200.0, 0.0250793), (300.0, 0.0196875)]
)
def test_wavelength_is_the_tabulated_one(voltage, wavelength):
    ctf = ContrastTransfer(1e4, 1e4, voltage=voltage)
    assert ctf.wavelength == pytest.approx(wavelength, rel=1e-5)


def expected_transfer(x, y, *, u, v, angle, phase, contrast):
    """Return the transfer at 300 kV, Cs 2.7 mm, from the defocus as a quadratic form."""
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    wavelength = 0.01968749
    chi = np.pi * wavelength * (u * along**2 + v * across**2)
    chi -= np.pi / 2 * 2.7e7 * wavelength**3 * (x**2 + y**2) ** 2
    chi += np.deg2rad(phase)
    return np.sqrt(1 - contrast**2) * np.sin(chi) + contrast * np.cos(chi)


def test_transfer_is_the_formula():
    x, y = np.random.default_rng(2).uniform(-0.12, 0.12, (2, 500))
    ctf = ContrastTransfer(31000.0, 25000.0, 33.0, phase_shift=20.0, amplitude_contrast=0.1)
    expected = expected_transfer(x, y, u=31000, v=25000, angle=33, phase=20, contrast=0.1)
    np.testing.assert_allclose(ctf.transfer(x, y), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 45), (41, 44)])
def test_image_through_the_transfer_is_the_fourier_integral(shape):
    sigma, amplitude, pixel = 12.0, -0.004, 8.0
    # Just outside the image: what is seen of it has all come through the transfer.
    x0, y0 = (shape[1] / 2 + 1) * pixel, 25.0
    phantom = Phantom((Gaussian((x0, y0, 0.0), sigma, amplitude),))
    values = {"u": 21000.0, "v": 15000.0, "angle": 33.0, "phase": 0.0, "contrast": 0.2}
    ctf = ContrastTransfer(21000.0, 15000.0, 33.0, amplitude_contrast=0.2)
    series = simulate_tilt_series(
        phantom,
        Projection.create([0.0]),
        shape,
        pixel_size=pixel,
        imaging=replace(QUIET, exposure=1.0, ctf=(ctf,)),
        supersample=1,
    )
    contrast = series.images[0].astype(float) / pixel**2 - 1

    frequency = np.linspace(-0.0625, 0.0625, 501)
    step = frequency[1] - frequency[0]
    fx, fy = np.meshgrid(frequency, frequency)
    blob = amplitude * (2 * np.pi) ** 1.5 * sigma**3
    spectrum = blob * np.exp(-2 * np.pi**2 * sigma**2 * (fx**2 + fy**2))
    spectrum *= expected_transfer(fx, fy, **values)
    for row, column in [(5, 43), (20, 43), (25, 42), (39, 30), (30, 40), (22, 38)]:
        x = (column - (shape[1] - 1) / 2) * pixel - x0
        y = (row - (shape[0] - 1) / 2) * pixel - y0
        expected = (spectrum * np.cos(2 * np.pi * (fx * x + fy * y))).sum() * step**2
        assert contrast[row, column] == pytest.approx(expected, abs=2e-5)
    assert np.abs(contrast).max() > 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Imaging(exposure=0.0), "exposure"),
        (lambda: Imaging(ice_thickness=-1.0), "ice_thickness"),
        (lambda: record(Imaging(dark_views=(7,))), "dark view 7"),
        (lambda: record(Imaging(ctf=(ContrastTransfer(1e4, 1e4),))), "ctf"),
        (lambda: record(Imaging(), tilt_angle=[1.0, 2.0]), "tilt_angle"),
        (lambda: record(Imaging(), order=[0, 0, 1, 2, 3, 4, 5]), "order"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        change()
