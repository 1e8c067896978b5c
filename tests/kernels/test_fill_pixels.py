"""What replaces a pixel continues its surroundings, in level, slope and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.fill_pixels import fill_pixels
from tomodask.kernels.hot_pixels import find_hot_pixels


def scattered(shape, number, seed=0):
    chosen = np.random.default_rng(seed).choice(np.prod(shape), number, replace=False)
    return np.unravel_index(chosen, shape)


def radial_power(image, bins=40):
    """Radial average of the power spectrum, up to 0.9 of the Nyquist frequency."""
    spectrum = np.abs(np.fft.rfft2(image - image.mean())) ** 2
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None, :]
    ring = (np.hypot(fy, fx) / 0.45 * bins).astype(int)
    power = np.bincount(ring.ravel(), spectrum.ravel())[:bins]
    return power / np.bincount(ring.ravel())[:bins]


def test_only_the_places_change_and_the_input_does_not():
    image = np.random.default_rng(0).poisson(50.0, (60, 70)).astype(np.int16)
    before = image.copy()
    y, x = np.array([0, 10, 10, 59]), np.array([0, 20, 21, 69])
    image[y, x] = 9999
    before[y, x] = 9999
    filled = fill_pixels(image, y, x)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(image, before)
    changed = filled != image
    assert sorted(np.argwhere(changed).tolist()) == sorted(np.stack([y, x], 1).tolist())
    assert (np.abs(filled[changed] - 50) < 35).all()
    np.testing.assert_array_equal(fill_pixels(image, [], []), image)


def test_a_smooth_surface_is_continued_exactly():
    y, x = np.indices((40, 50)) / 10
    surface = 3 + 2 * x - y + 0.5 * x * x - 0.3 * x * y + 0.2 * y * y
    spoiled = surface.astype(np.float32)
    rows, columns = np.array([20, 20, 21, 30]), np.array([20, 21, 21, 5])
    spoiled[rows, columns] = 1e4
    filled = fill_pixels(spoiled, rows, columns)
    np.testing.assert_allclose(filled, surface, atol=2e-3)
    # Beyond the edge a parabola would be a guess.
    corner = fill_pixels(surface, [0], [0])
    assert abs(corner[0, 0] - surface[0, 0]) < 0.3


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_the_filling_has_the_noise_of_its_surroundings(sigma):
    image = np.random.default_rng(1).normal(1000, 10, (800, 800))
    if sigma:
        image = ndimage.gaussian_filter(image, sigma, mode="wrap")
    y, x = scattered(image.shape, 6000)
    filled = fill_pixels(image, y, x, seed=3)
    ratio = filled[y, x].std() / image.std()
    assert abs(ratio - 1) < (0.03 if sigma == 0 else 0.15)
    assert abs(filled[y, x].mean() - 1000) < 0.6


def test_the_spectrum_of_an_image_is_kept():
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1, (768, 768)) + 2 * ndimage.gaussian_filter(
        rng.normal(0, 4, (768, 768)), 2, mode="wrap"
    )
    y, x = scattered(image.shape, image.size // 50)
    filled = radial_power(fill_pixels(image, y, x)) / radial_power(image)
    assert np.abs(filled - 1).max() < 0.03
    assert abs(filled[-10:].mean() - 1) < 0.015
    flat = image.copy()
    flat[y, x] = ndimage.median_filter(image, 5)[y, x]
    # Without noise it is worse.
    assert (radial_power(flat) / radial_power(image))[-10:].mean() < filled[-10:].mean() - 0.004


def test_filled_halves_add_up_to_the_filled_sum_with_independent_noise():
    rng = np.random.default_rng(3)
    even, odd = rng.poisson(20.0, (2, 400, 400)).astype(np.float32)
    y, x = scattered(even.shape, 4000)
    parts = [fill_pixels(half, y, x, seed=5) for half in (even, odd)]
    whole = fill_pixels(even + odd, y, x, seed=5)
    np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-4)
    assert abs(np.corrcoef(parts[0][y, x], parts[1][y, x])[0, 1]) < 0.06


def test_the_seed_decides_and_the_order_of_the_places_does_not():
    image = np.random.default_rng(4).normal(0, 1, (100, 100))
    y, x = scattered(image.shape, 300)
    first = fill_pixels(image, y, x, seed=1)
    np.testing.assert_array_equal(first, fill_pixels(image, y[::-1], x[::-1], seed=1))
    assert (first != fill_pixels(image, y, x, seed=2)).any()


def test_wide_patches_are_filled_from_their_border():
    image = np.random.default_rng(5).normal(100, 1, (80, 80))
    y, x = (index.ravel() for index in np.mgrid[30:47, 30:47])
    spoiled = image.copy()
    spoiled[y, x] = 1e6
    filled = fill_pixels(spoiled, y, x)
    assert abs(filled[30:47, 30:47].mean() - 100) < 0.5
    assert 0.8 < filled[30:47, 30:47].std() < 1.3


def test_what_cannot_be_filled_is_refused():
    image = np.zeros((100, 100))
    for y in (-1, 100):
        with pytest.raises(ParameterError, match="outside"):
            fill_pixels(image, [y], [0])
    y, x = np.indices(image.shape).reshape(2, -1)
    with pytest.raises(DataError, match="too large"):
        fill_pixels(image, y, x)


def test_a_real_micrograph_keeps_its_spectrum(data_dir):
    import mrcfile

    path = data_dir / "micrographs" / "fei-extended.mrc"
    with mrcfile.mmap(path, permissive=True) as file:
        image = np.array(file.data[:2048, :2048], np.float32)
    found = find_hot_pixels(image)
    filled = fill_pixels(image, found.y, found.x)
    assert not len(find_hot_pixels(filled))
    level = np.median(image)
    deviation = 1.4826 * np.median(np.abs(image - level))
    assert filled.max() < level + 8 * deviation
    flat = image.copy()
    flat[found.y, found.x] = ndimage.median_filter(image, 5)[found.y, found.x]
    np.testing.assert_allclose(radial_power(filled), radial_power(flat), rtol=0.01)
    # Where no pixel was hit, nothing changed: there the spectrum is that of the raw image.
    rest = np.ones(image.shape, bool)
    rest[found.y, found.x] = False
    np.testing.assert_array_equal(filled[rest], image[rest])
