"""What is measured on a view is what was put into it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tomodask.errors import DataError
from tomodask.kernels.view_quality import measure_view


def structured(mean, contrast, shape=(512, 480), seed=0):
    """Counts of a smooth structure of a given relative standard deviation."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, shape), 8, mode="wrap")
    return rng.poisson(mean * (1 + contrast * smooth / smooth.std()))


@pytest.mark.parametrize("mean", [0.3, 5.0, 300.0])
def test_the_moments_and_the_noise_are_those_of_counts(mean):
    image = structured(mean, 0.0)
    quality = measure_view(image)
    assert quality.mean == pytest.approx(mean, rel=0.02)
    assert quality.deviation == pytest.approx(image.std(), rel=1e-4)
    assert quality.noise == pytest.approx(np.sqrt(mean), rel=0.05)
    if mean > 100:
        assert quality.robust_deviation == pytest.approx(np.sqrt(mean), rel=0.05)


def test_structure_and_hits_are_no_noise():
    image = structured(100.0, 0.1)
    image[::101, ::97] = 5000
    quality = measure_view(image)
    assert quality.noise == pytest.approx(10, rel=0.06)
    assert quality.deviation > 1.2 * quality.robust_deviation


def test_the_contrast_is_the_power_of_structure_over_that_of_noise():
    quality = measure_view(structured(100.0, 0.05))
    # 5 % of 100 is 5; the noise of a cell of 8 x 8 pixels is 10 / 8.
    # Averages over cells and differences from windows take some of it.
    assert 0.6 * 16 < quality.contrast < 16
    doubled = measure_view(structured(100.0, 0.1))
    assert doubled.contrast == pytest.approx(4 * quality.contrast, rel=0.1)
    scaled = measure_view(0.01 * structured(100.0, 0.05).astype(np.float32))
    assert scaled.contrast == pytest.approx(quality.contrast, rel=1e-3)


@pytest.mark.parametrize("mean", [0.5, 30.0])
def test_the_error_is_that_of_views_of_nothing(mean):
    views = [measure_view(structured(mean, 0.0, (256, 256), seed)) for seed in range(60)]
    values = np.array([view.contrast for view in views])
    assert abs(values.mean()) < 0.4 * views[0].contrast_error
    assert values.std() == pytest.approx(views[0].contrast_error, rel=0.35)


def test_a_hit_is_no_contrast():
    image = structured(30.0, 0.0)
    image[100, 100] = 1_000_000
    quality = measure_view(image)
    assert quality.contrast < 4 * quality.contrast_error


@pytest.mark.parametrize(("covered", "transmission"), [(0.0, 1.0), (0.3, 0.02), (0.7, 0.05)])
def test_the_coverage_is_what_no_bar_hides(covered, transmission):
    expected = np.full((512, 512), 20.0)
    expected[:, : int(512 * covered)] *= transmission
    image = np.random.default_rng(0).poisson(expected)
    assert measure_view(image).coverage == pytest.approx(1 - covered, abs=0.02)


def test_thick_ice_beside_a_hole_is_lit():
    expected = np.full((512, 512), 20.0)
    expected[:, 150:] *= 0.22
    assert measure_view(np.random.default_rng(0).poisson(expected)).coverage == 1


def test_images_that_do_not_count_electrons_have_no_coverage():
    assert np.isnan(measure_view(structured(30.0, 0.1) - 40.0).coverage)
    assert np.isnan(measure_view(structured(0.002, 0.0)).coverage)


def test_saturation():
    image = structured(30.0, 0.1)
    assert measure_view(image).saturated < 1e-3
    assert measure_view(np.minimum(image, 30)).saturated == pytest.approx(
        (image >= 30).mean(), abs=1e-6
    )


def test_a_constant_view_shows_nothing():
    quality = measure_view(np.full((64, 64), 5, np.int16))
    assert (quality.deviation, quality.noise, quality.contrast) == (0, 0, 0)
    assert quality.coverage == 1


def test_what_cannot_be_measured_is_refused():
    image = structured(5.0, 0.0, (64, 64)).astype(np.float32)
    image[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        measure_view(image)
    with pytest.raises(DataError, match="32 pixels"):
        measure_view(image[:20])
