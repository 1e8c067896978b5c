"""Dose weights against published values, and weighted sums against plain transforms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.dose_weighting import critical_dose, dose_weights, sum_weighted_frames
from tomodask.kernels.frame_sums import sum_bytes, sum_frames

DOSE = np.array([3.0, 8.0, 14.0, 25.0, 40.0])


def test_critical_dose_is_the_published_curve() -> None:
    """Values that the authors' program printed, and 3 A from the article's figure."""
    np.testing.assert_allclose(critical_dose([1.8219448e-4, 0.3587903]), [412084.3, 4.163977], 1e-5)
    assert critical_dose(1 / 3) == pytest.approx(4.3, abs=0.05)
    assert np.isinf(critical_dose(0.0))


def test_slower_electrons_do_more_harm() -> None:
    at_300 = critical_dose(0.1)
    assert critical_dose(0.1, 200) / at_300 == pytest.approx(0.8, abs=0.005)
    assert critical_dose(0.1, 120) / at_300 == pytest.approx(0.57, abs=0.005)
    assert critical_dose(0.1, 100) / at_300 == pytest.approx(0.5, abs=0.005)


def test_weights_are_what_is_left() -> None:
    frequency = np.array([[0.0, 0.05], [0.1, 0.3]])
    weights = dose_weights(frequency, DOSE)
    assert weights.shape == (5, 2, 2)
    assert (weights[:, 0, 0] == 1).all()
    # 4 e/A^2 where the critical dose is 12.82717 e/A^2: as the authors' program has it
    k = ((12.82717 - 2.8141) / 0.24499) ** (-1 / 1.6649)
    assert dose_weights(k, [4.0]) == pytest.approx(0.8556285, rel=1e-5)
    envelope = dose_weights(frequency, DOSE, b_factor=4.0)
    np.testing.assert_allclose(envelope[2], np.exp(-14 * frequency**2))


def direct(frames: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """(frame, y, x) frames and weights, whole transforms."""
    moved = np.fft.ifft2(weights * np.fft.fft2(frames)).real
    return [moved.sum(axis=0), moved[::2].sum(axis=0), moved[1::2].sum(axis=0)]


@pytest.mark.parametrize("shape", [(64, 90), (51, 77)])
@pytest.mark.parametrize("options", [{"voltage": 200.0}, {"b_factor": 3.0}])
def test_sums_are_those_of_whole_transforms(
    shape: tuple[int, int], options: dict[str, float]
) -> None:
    frames = np.random.default_rng(0).poisson(3, (5, *shape)).astype(np.uint8)
    fy, fx = (np.fft.fftfreq(n, 1.7) for n in shape)
    expected = direct(frames, dose_weights(np.hypot(fy[:, None], fx), DOSE, **options))
    result = sum_weighted_frames(frames, np.zeros((5, 2)), dose=DOSE, pixel_size=1.7, **options)
    for image, one in zip(result, expected, strict=True):
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, one, atol=2e-3)
    full, even, odd = result
    assert (full == even + odd).all()


def test_frames_are_moved_as_in_the_plain_sum() -> None:
    rng = np.random.default_rng(1)
    frames = rng.poisson(2, (5, 90, 120)).astype(np.uint8)
    shift = rng.uniform(-3, 3, (5, 2))

    def displacement(frame: int, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        bend = (frame - 2) * 1e-3 * (ys[:, None] + xs)
        return np.stack([bend, -bend], axis=-1)

    plain = sum_frames(frames, shift, displacement)
    # no dose: all weights are 1
    same = sum_weighted_frames(iter(frames), shift, displacement, dose=[0.0] * 5, pixel_size=1.0)
    for image, one in zip(same, plain, strict=True):
        np.testing.assert_allclose(image, one, atol=1e-4)


def test_a_late_view_keeps_less_of_high_frequencies() -> None:
    frames = np.random.default_rng(2).normal(size=(5, 300, 300)).astype(np.float32)
    frames += 7
    shift = np.zeros((5, 2))
    plain = sum_frames(frames, shift)[0]
    late = sum_weighted_frames(frames, shift, dose=[60.0] * 5, pixel_size=1.0)[0]
    frequency = np.hypot(np.fft.fftfreq(300)[:, None], np.fft.fftfreq(300))
    for low in (0.02, 0.1, 0.2, 0.3):
        ring = (frequency >= low) & (frequency < low + 0.01)
        kept = np.abs(np.fft.fft2(late)[ring]) / np.abs(np.fft.fft2(plain)[ring])
        expected = np.exp(-60 / (2 * critical_dose(frequency[ring])))
        np.testing.assert_allclose(kept, expected, rtol=2e-2, atol=1e-4)
    assert late.mean() == pytest.approx(plain.mean(), rel=1e-5)


def test_early_frames_count_more_at_high_frequencies() -> None:
    x = np.arange(128)
    wave = np.cos(2 * np.pi * 0.25 * x)[None, :] * np.ones((64, 1))
    frames = np.zeros((5, 64, 128), np.float32)
    seen = []
    for frame in (0, 4):
        frames[:] = 0
        frames[frame] = wave
        full = sum_weighted_frames(frames, np.zeros((5, 2)), dose=DOSE, pixel_size=1.0)[0]
        seen.append((full * wave).mean() / (wave**2).mean())
    ratio = np.exp(-(DOSE[4] - DOSE[0]) / (2 * critical_dose(0.25)))
    assert seen[1] / seen[0] == pytest.approx(ratio, rel=1e-3)


def test_memory_is_what_is_said() -> None:
    frames, shift = np.zeros((5, 512, 768), np.uint8), np.full((5, 2), 0.5)
    sum_weighted_frames(frames[:1], shift[:1], dose=[1.0], pixel_size=1.0)
    tracemalloc.start()
    result = sum_weighted_frames(frames, shift, dose=DOSE, pixel_size=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del result
    said = sum_bytes(frames.shape, weighted=True)
    assert peak < said + 1_000_000  # tables of weights
    assert said < 1.2 * peak


def test_what_makes_no_sense() -> None:
    frames, shift = np.zeros((2, 8, 8), np.float32), np.zeros((2, 2))
    for options in (
        {"dose": [1.0], "pixel_size": 1.0},
        {"dose": [1.0, -1.0], "pixel_size": 1.0},
        {"dose": [1.0, np.nan], "pixel_size": 1.0},
        {"dose": [1.0, 2.0], "pixel_size": 0.0},
        {"dose": [1.0, 2.0], "pixel_size": 1.0, "voltage": 300000.0},
    ):
        with pytest.raises(ParameterError):
            sum_weighted_frames(frames, shift, **options)
    with pytest.raises(DataError):
        sum_weighted_frames(iter(frames[:1]), shift, dose=[1.0, 2.0], pixel_size=1.0)
    # nothing is left at all: frames are alike
    full, _, _ = sum_weighted_frames(frames + 1, shift, dose=[1e5, 2e5], pixel_size=1.0)
    np.testing.assert_allclose(full, 2, rtol=1e-5)
