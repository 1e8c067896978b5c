"""Fourier cropping against waves known everywhere, and against SciPy's resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import irfft2, rfft2
from scipy.signal import resample

from tomodask.errors import ParameterError
from tomodask.kernels.fourier_crop import crop_spectrum, cropped_shape, fourier_crop


def positions(size: int, new: int, binning: float) -> np.ndarray:
    """Where the new pixels' centres lie if the middles of both images agree."""
    return (size - 1) / 2 + (np.arange(new) - (new - 1) / 2) * binning


def wave(k: list[int], at: list[np.ndarray], shape: tuple[int, int], phase: float) -> np.ndarray:
    turns = k[0] * at[0][:, None] / shape[0] + k[1] * at[1][None, :] / shape[1]
    return np.cos(2 * np.pi * turns + phase)


@pytest.mark.parametrize(
    ("shape", "new"),
    [((60, 84), (30, 42)), ((60, 90), (20, 30)), ((63, 84), (42, 56)), ((48, 40), (72, 60))],
)
def test_waves_are_sampled_at_the_new_pixels(shape: tuple[int, int], new: tuple[int, int]) -> None:
    binning = shape[0] / new[0]
    limits = [(min(n, m) - 1) // 2 for n, m in zip(shape, new, strict=True)]
    rng = np.random.default_rng(0)
    image, expected = np.full(shape, 7.0), np.full(new, 7.0)
    for _ in range(8):
        k = [int(rng.integers(-limit, limit + 1)) for limit in limits]
        phase = rng.uniform(0, 2 * np.pi)
        at = [np.arange(n) for n in shape]
        image += wave(k, at, shape, phase)
        at = [positions(n, m, binning) for n, m in zip(shape, new, strict=True)]
        expected += wave(k, at, shape, phase)
    # what the new pixels cannot hold goes
    if binning > 1:
        image += np.cos(2 * np.pi * (limits[0] + 2) / shape[0] * np.arange(shape[0]))[:, None]
    result = fourier_crop(image, new)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(60, 84), (61, 83), (61, 84), (60, 83)])
@pytest.mark.parametrize("new", [(30, 42), (31, 41), (60, 84), (90, 126), (91, 125), (120, 40)])
def test_spectra_are_cropped_as_scipy_does(shape: tuple[int, int], new: tuple[int, int]) -> None:
    """With all that noise has at Nyquist; SciPy's first sample is the image's first pixel."""
    image = np.random.default_rng(1).normal(size=shape)
    result = irfft2(crop_spectrum(rfft2(image.astype(np.float32)), shape, new), s=new)
    expected = resample(resample(image, new[0], axis=0), new[1], axis=1)
    np.testing.assert_allclose(result, expected, atol=5e-6)


@pytest.mark.parametrize("shape", [(40, 60), (41, 60), (41, 63)])
@pytest.mark.parametrize("first", [(0.0, 0.0), (0.5, -1.25)])
def test_nyquist_is_shared_between_its_signs(
    shape: tuple[int, int], first: tuple[float, float]
) -> None:
    """Twice the samples of noise, against the sum of its waves, frequency by frequency."""
    image = np.random.default_rng(2).normal(size=shape)
    kernels = []
    for n, start in zip(shape, first, strict=True):
        distance = (start + np.arange(2 * n) / 2)[:, None] - np.arange(n)
        k = np.arange(-(n // 2), n // 2 + 1)
        weight = np.where(2 * np.abs(k) == n, 0.5, 1.0)
        kernels.append((weight * np.cos(2 * np.pi * k * distance[..., None] / n)).sum(-1) / n)
    expected = kernels[0] @ image @ kernels[1].T
    new = (2 * shape[0], 2 * shape[1])
    spectrum = crop_spectrum(rfft2(image.astype(np.float32)), shape, new, first)
    np.testing.assert_allclose(irfft2(spectrum, s=new), expected, atol=1e-5)


@pytest.mark.parametrize(("shape", "binning"), [((96, 120), 2), ((101, 127), 3), ((90, 150), 1.5)])
def test_the_middle_stays_the_middle(shape: tuple[int, int], binning: float) -> None:
    """A spot off the middle, also where pixels are cut off at the edges."""
    new, exact = cropped_shape(shape, binning)
    y, x = np.indices(shape)
    centre = [(n - 1) / 2 + d for n, d in zip(shape, (5.3, -8.1), strict=True)]
    spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * 4.0**2))
    result = fourier_crop(100 * spot, new, exact)
    y, x = np.indices(new)
    expected = 100 * np.exp(
        -(((y - (new[0] - 1) / 2) * exact - 5.3) ** 2 + ((x - (new[1] - 1) / 2) * exact + 8.1) ** 2)
        / (2 * 4.0**2)
    )
    np.testing.assert_allclose(result, expected, atol=0.03)


def test_what_is_left_over_is_cut_off_at_both_edges() -> None:
    image = np.random.default_rng(4).normal(size=(100, 126)).astype(np.float32)
    inner = fourier_crop(image[2:98, 3:123], (48, 60))
    np.testing.assert_array_equal(fourier_crop(image, (48, 60), 2.0), inner)


def test_binning_by_two_is_where_means_of_pixels_are() -> None:
    y, x = np.indices((64, 80))
    image = 3 + np.cos(2 * np.pi * y / 64) + np.sin(4 * np.pi * x / 80)
    means = image.reshape(32, 2, 40, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(fourier_crop(image, (32, 40)), means, atol=0.01)


def test_mean_and_type() -> None:
    counts = np.random.default_rng(3).poisson(4, (90, 60)).astype(np.uint8)
    for new in ((30, 20), (45, 30), (135, 90)):
        assert fourier_crop(counts, new).mean() == pytest.approx(counts.mean(), rel=1e-6)
    np.testing.assert_array_equal(fourier_crop(counts, (90, 60)), counts)


SHAPES = [(4096, 4096), (4092, 5760), (3838, 3710), (2048, 1859), (511, 400), (97, 31)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("binning", [1, 2, 3, 4, 8, 1.5, 2.5, 10 / 1.35, 7.4093, 0.5])
def test_shapes_make_square_pixels(shape: tuple[int, int], binning: float) -> None:
    new, exact = cropped_shape(shape, binning)
    assert exact == pytest.approx(binning, rel=0.02)
    used = [m * exact for m in new]
    assert used == pytest.approx([round(u) for u in used], abs=1e-6)
    for u, m, n in zip(used, new, shape, strict=True):
        assert m % 2 == 0
        assert u <= n + 1e-6
        assert largest_prime(m) <= 31
        assert largest_prime(round(u)) <= 31
        if n > 1000:
            assert u > 0.96 * n
    if min(shape) > 1000 and binning in (1, 2, 3, 4, 8, 1.5, 2.5):
        assert exact == binning


def largest_prime(number: int) -> int:
    largest, divisor = 1, 2
    while number > 1:
        while number % divisor == 0:
            number, largest = number // divisor, divisor
        divisor += 1
    return largest


def test_common_detectors_lose_nothing() -> None:
    assert cropped_shape((4096, 4096), 2) == ((2048, 2048), 2.0)
    assert cropped_shape((4092, 5760), 2) == ((2046, 2880), 2.0)
    assert cropped_shape((4096, 4096), 8) == ((512, 512), 8.0)


def test_what_makes_no_sense() -> None:
    image = np.zeros((60, 90), np.float32)
    for new, binning in (((30, 30), None), ((30, 45), 2.1), ((40, 60), 2.0), ((0, 0), 2.0)):
        with pytest.raises(ParameterError):
            fourier_crop(image, new, binning)
    for binning in (0, -1, np.nan, 1000):
        with pytest.raises(ParameterError):
            cropped_shape((60, 90), binning)
