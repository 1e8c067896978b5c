"""Spectra for the eye: rings of one contrast, in their place, and the ones the fit expects."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ctf_rings_sample import estimated, rings
from tomodask.kernels.ctf import Optics, Transfer
from tomodask.view.ctf_rings import compared_rings, expected_rings, measured_rings, zero_phases

PIXELS, LIMIT = 240, 0.14
OPTICS = Optics(300.0, 2.7, 0.07)
PERIOD = 1 / (0.0197 * 20000)


def places(limit=LIMIT, pixels=PIXELS):
    centres = (np.arange(pixels) - (pixels - 1) / 2) * 2 * limit / pixels
    return np.meshgrid(centres, centres)


def within(low, high):
    radius = np.hypot(*places())
    return (radius > low) & (radius < high)


def correlation(image, other, where):
    return np.corrcoef(image[where], other[where])[0, 1]


def test_faint_fine_rings_have_the_contrast_of_the_strong_coarse_ones():
    spectrum = estimated(1, signal=0.2, noise=0.0005)["spectrum"][0]
    image = measured_rings(spectrum, LIMIT, PERIOD, PIXELS)
    coarse, fine = (image[within(*band)].std() for band in ((0.03, 0.06), (0.1, 0.135)))
    assert 0.8 < coarse < 1.2
    assert 0.8 < fine / coarse < 1.25
    radius = np.hypot(*np.meshgrid(spectrum["frequency_x"], spectrum["frequency_y"]))
    inner, outer = (radius > 0.03) & (radius < 0.06), (radius > 0.1) & (radius < 0.135)
    assert spectrum.values[outer].std() < spectrum.values[inner].std() / 1.6


@pytest.mark.parametrize(("u", "v", "angle"), [(20000, 20000, 0), (22000, 18500, 60)])
def test_rings_stay_where_they_are(u, v, angle):
    """Against the truth, and not against the truth with its y axis upside down."""
    spectrum = estimated(1, u=u, v=v, angle=angle, noise=0.002)["spectrum"][0]
    image = measured_rings(spectrum, LIMIT, PERIOD, PIXELS)
    where = within(0.03, 0.12)
    assert correlation(image, rings(*places(), u, v, angle), where) > 0.95
    if angle:
        assert correlation(image, rings(*places(), u, v, -angle), where) < 0.7


def test_weak_rings_are_brought_out():
    """Single pixels hold ten times as much noise as rings."""
    spectrum = estimated(1, signal=0.03, noise=0.05, size=256)["spectrum"][0]
    x, y = np.meshgrid(spectrum["frequency_x"], spectrum["frequency_y"])
    radius = np.hypot(x, y)
    where = (radius > 0.03) & (radius < 0.09)
    assert correlation(spectrum.values, rings(x, y, 20500, 19500, 30), where) < 0.35
    image = measured_rings(spectrum, LIMIT, PERIOD, PIXELS)
    truth = rings(*places(), 20500, 19500, 30)
    assert correlation(image, truth, within(0.03, 0.09)) > 0.6


def test_noise_alone_makes_no_rings():
    spectrum = estimated(1, signal=0.0, noise=0.02)["spectrum"][0]
    image = measured_rings(spectrum, LIMIT, PERIOD, PIXELS)
    truth = rings(*places(), 20500, 19500, 30)
    assert abs(correlation(image, truth, within(0.03, 0.13))) < 0.1
    assert 0.8 < image[within(0.03, 0.13)].std() < 1.2


def test_what_is_not_known_is_not_shown():
    spectrum = estimated(1, edge=0.1)["spectrum"][0].copy()
    radius = np.hypot(*np.meshgrid(spectrum["frequency_x"], spectrum["frequency_y"]))
    spectrum.values[radius < 0.02] = np.nan
    image = measured_rings(spectrum, 0.1, PERIOD, PIXELS)
    shown = np.hypot(*places(0.1))
    assert np.isnan(image[(shown < 0.018) | (shown > 0.1)]).all()
    assert np.isfinite(image[(shown > 0.024) & (shown < 0.095)]).all()


def test_expected_rings():
    image = expected_rings(Transfer(OPTICS, 22000, 18500, 60), LIMIT, PIXELS)
    inside = np.hypot(*places()) < LIMIT
    assert np.isnan(image[~inside]).all()
    truth = np.sqrt(8) * (rings(*places(), 22000, 18500, 60) - 0.5)
    # The wavelength of the truth is rounded.
    np.testing.assert_allclose(image[inside], truth[inside], atol=2e-3)
    assert image[within(0.05, 0.14)].std() == pytest.approx(1, abs=0.05)


def test_measured_left_expected_right():
    transfer = Transfer(OPTICS, 20500, 19500, 30)
    spectrum = estimated(1)["spectrum"][0]
    image = compared_rings(spectrum, transfer, LIMIT, PIXELS)
    left, right = np.s_[:, : PIXELS // 2], np.s_[:, PIXELS // 2 :]
    expected = expected_rings(transfer, LIMIT, PIXELS)
    np.testing.assert_array_equal(image[right], expected[right])
    assert not np.allclose(image[left], expected[left], equal_nan=True)


@pytest.mark.parametrize(
    ("defocus", "phase_shift", "first"),
    [(20000, 0, 1), (20000, 90, 1), (20000, 178, 2), (-20000, 0, 0), (-20000, 178, 1)],
)
def test_first_zeros(defocus, phase_shift, first):
    """The phases are those, in turn, that a walk out from the centre meets."""
    transfer = Transfer(OPTICS, defocus, defocus, 0, phase_shift)
    phases = zero_phases(transfer, 3)
    chi = transfer.phase(np.linspace(0, 0.1, 20001), 0) / np.pi
    turns = np.floor(chi)
    met = np.maximum(turns[1:], turns[:-1])[turns[1:] != turns[:-1]]
    np.testing.assert_allclose(np.sort(met[:3]), phases / np.pi)
    assert (phases[0] if defocus > 0 else phases[-1]) / np.pi == pytest.approx(first)
