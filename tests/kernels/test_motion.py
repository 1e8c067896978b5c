"""The motion of whole frames against known drifts, closed forms and what must not happen."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import fft

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.drift_prior import DriftPriors, prior_bytes
from tomodask.kernels.motion import estimate_bytes, estimate_motion


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def drift(kind, frames, size, rng):
    """Return (frame, 2) shifts of mean zero, about `size` pixels from first to last."""
    t = np.linspace(0, 1, frames)[:, None]
    way = rng.normal(size=2)
    way *= size / np.hypot(*way)
    path = {
        "smooth": way * (1 - np.exp(-3 * t)) + 0.2 * way[::-1] * t**2,
        "walk": np.cumsum(rng.normal(size=(frames, 2)), axis=0) * size / np.sqrt(2 * frames),
        "jump": way * (t > 0.45),
        "none": 0 * way * t,
    }[kind]
    return path - path.mean(axis=0)


def movie(path, dose, shape=(256, 256), seed=0, contrast=0.1, gain_error=0.0, defocus_ring=60.0):
    """Return (frame, y, x) counts of a moving random specimen, `dose` electrons per pixel each.

    The specimen is smoothed noise whose power has a ring and a hole, as a defocused image has.
    """
    rng = np.random.default_rng(seed)
    margin = 32
    field = tuple(n + 2 * margin for n in shape)
    fy, fx = fft.fftfreq(field[0])[:, None], fft.rfftfreq(field[1])
    squared = fy**2 + fx**2
    transfer = np.sin(defocus_ring * squared + 0.1) * np.exp(-30 * squared)
    spectrum = fft.rfft2(rng.standard_normal(field)) * transfer
    still = fft.irfft2(spectrum, s=field)
    spectrum *= contrast / still.std()
    gain = 1 + gain_error * rng.standard_normal(shape)
    frames = np.empty((len(path), *shape), np.float32)
    for frame, (y, x) in zip(frames, path, strict=True):
        moved = fft.irfft2(spectrum * np.exp(-2j * np.pi * (fy * y + fx * x)), s=field)
        moved = moved[margin : margin + shape[0], margin : margin + shape[1]]
        frame[:] = rng.poisson(dose * np.maximum(1 + moved, 0)) * gain
    return frames


class TestAccuracy:
    @pytest.mark.parametrize("kind", ["smooth", "walk", "jump"])
    @pytest.mark.parametrize("size", [3.0, 10.0])
    def test_strong_signal_gives_the_drift(self, kind, size):
        path = drift(kind, 6, size, np.random.default_rng(int(size)))
        found = estimate_motion(movie(path, 30), pixel_size=8.0)
        assert found.supported
        assert rms(found.shift - path) < 0.03
        np.testing.assert_allclose(found.shift.mean(axis=0), 0, atol=1e-9)

    def test_the_error_bar_is_that_of_the_estimates(self):
        squares, expected = [], []
        for seed in range(8):
            path = drift("walk", 6, 4.0, np.random.default_rng(seed))
            found = estimate_motion(movie(path, 4, seed=seed), pixel_size=8.0)
            squares.append(np.mean((found.shift - path) ** 2))
            expected.append(np.mean(found.error**2))
        assert np.sqrt(np.mean(squares)) < 1.5 * np.sqrt(np.mean(expected))
        assert np.sqrt(np.mean(squares)) > 0.6 * np.sqrt(np.mean(expected))

    @pytest.mark.parametrize("shape", [(256, 190), (201, 256), (251, 257)])
    def test_any_shape(self, shape):
        path = drift("walk", 5, 5.0, np.random.default_rng(1))
        found = estimate_motion(movie(path, 30, shape), pixel_size=8.0)
        assert rms(found.shift - path) < 0.04

    def test_two_frames(self):
        path = np.array([[1.65, -0.8], [-1.65, 0.8]])
        found = estimate_motion(movie(path, 30), pixel_size=8.0)
        assert rms(found.shift - path) < 0.03

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float64])
    def test_any_dtype(self, dtype):
        path = drift("smooth", 4, 3.0, np.random.default_rng(2))
        frames = movie(path, 30)
        expected = estimate_motion(frames, pixel_size=8.0).shift
        found = estimate_motion(frames.astype(dtype), pixel_size=8.0).shift
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_frames_may_come_one_by_one(self):
        path = drift("smooth", 4, 3.0, np.random.default_rng(2))
        frames = movie(path, 30)
        one_by_one = estimate_motion(list(frames), pixel_size=8.0)
        np.testing.assert_array_equal(
            one_by_one.shift, estimate_motion(frames, pixel_size=8.0).shift
        )

    def test_frames_of_unequal_exposure(self):
        path = drift("smooth", 5, 4.0, np.random.default_rng(3))
        frames = movie(path, 30)
        frames[2] = movie(path[2:3], 6, seed=0)[0]
        found = estimate_motion(frames, pixel_size=8.0)
        assert rms(found.shift - path) < 0.06
        assert found.error[2].mean() > 1.3 * found.error[1].mean()


class TestPriors:
    """Against a likelihood that is exactly a parabola about a noisy measurement."""

    def errors(self, kind, error, frames=10, seed=0):
        """Return the errors (frame, 2) of the measurement and of the estimate, and its drift."""
        rng = np.random.default_rng(seed)
        path = drift(kind, frames, 5.0, rng)
        measured = path + error * rng.standard_normal(path.shape)
        measured -= measured.mean(axis=0)
        information = 1 / (frames * error**2)
        gradient = frames * information * measured
        found = DriftPriors(np.ones(frames)).posterior(
            np.zeros_like(path), gradient, information, 0.0
        )
        return measured - path, found.shift - path, found

    def test_a_smooth_drift_is_found_better_than_it_is_measured(self):
        pairs = [self.errors("smooth", 0.4, seed=seed)[:2] for seed in range(20)]
        assert rms([found for _, found in pairs]) < 0.7 * rms([raw for raw, _ in pairs])

    @pytest.mark.parametrize("kind", ["walk", "jump"])
    def test_a_rough_drift_is_found_no_worse(self, kind):
        pairs = [self.errors(kind, 0.4, seed=seed)[:2] for seed in range(20)]
        assert rms([found for _, found in pairs]) < 1.02 * rms([raw for raw, _ in pairs])

    def test_a_sharp_measurement_is_believed(self):
        raw, found, drifted = self.errors("jump", 0.001)
        np.testing.assert_allclose(raw, found, atol=1e-4)
        assert drifted.odds > 1e5

    def test_errors_are_what_they_are_said_to_be(self):
        found = [self.errors("smooth", 0.3, seed=seed)[1:] for seed in range(20)]
        claimed = rms([each.error for _, each in found])
        assert 0.8 < rms([error for error, _ in found]) / claimed < 1.25

    @pytest.mark.parametrize("kind", ["smooth", "walk", "jump"])
    @pytest.mark.parametrize("frames", [40, 120])
    def test_many_frames(self, kind, frames):
        pairs = [self.errors(kind, 0.4, frames, seed)[:2] for seed in range(4)]
        found, raw = (rms([pair[i] for pair in pairs]) for i in (1, 0))
        assert found < (0.35 if kind == "smooth" else 0.85) * raw

    def test_memory_of_many_frames(self):
        tracemalloc.start()
        try:
            DriftPriors(np.ones(200))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < prior_bytes(200) < 25e6
        small, large = (estimate_bytes((n, 64, 64), pixel_size=2.0) for n in (200, 400))
        assert large > 2 * small

    def test_chance_is_not_motion(self):
        odds = []
        for seed in range(50):
            _, _, found = self.errors("none", 0.4, seed=seed)
            odds.append(found.odds)
        assert np.mean(np.array(odds) > 5) < 0.05


class TestNoHarm:
    def test_no_signal_means_no_correction(self):
        rng = np.random.default_rng(0)
        for _ in range(10):
            frames = rng.poisson(2.0, (5, 192, 192)).astype(np.float32)
            found = estimate_motion(frames, pixel_size=4.0)
            assert not found.supported
            assert not found.shift.any()

    @pytest.mark.parametrize("dose", [0.02, 0.2, 0.5])
    def test_never_worse_than_no_correction(self, dose):
        true, left = [], []
        for seed in range(12):
            path = drift(["smooth", "walk", "jump"][seed % 3], 6, 4.0, np.random.default_rng(seed))
            frames = movie(path, dose, seed=seed, contrast=0.07)
            found = estimate_motion(frames, pixel_size=8.0)
            true.append(rms(path))
            left.append(rms(found.shift - path))
        assert rms(left) <= rms(true)
        assert np.sum(np.array(left) > 1.05 * np.array(true)) <= 1

    @pytest.mark.parametrize("dose", [0.1, 1.0, 30.0])
    def test_frames_that_did_not_move_stay(self, dose):
        for seed in range(4):
            path = drift("none", 6, 0.0, np.random.default_rng(0))
            found = estimate_motion(movie(path, dose, seed=seed), pixel_size=8.0)
            assert rms(found.shift) < 0.02 if dose > 1 else rms(found.shift) < 0.15


class TestTraps:
    def test_hot_pixels_that_stay_in_place(self):
        path = drift("smooth", 6, 4.0, np.random.default_rng(5))
        frames = movie(path, 3)
        places = np.random.default_rng(1).integers(0, 256, (60, 2))
        frames[:, places[:, 0], places[:, 1]] = 400
        found = estimate_motion(frames, pixel_size=8.0)
        assert rms(found.shift - path) < 0.15

    def test_what_is_left_of_the_gain(self):
        path = drift("smooth", 6, 4.0, np.random.default_rng(6))
        for gain_error in (0.01, 0.03, 0.1):
            frames = movie(path, 10, gain_error=gain_error)
            found = estimate_motion(frames, pixel_size=8.0)
            assert found.supported
            assert rms(found.shift - path) < 0.06

    def test_a_pattern_too_strong_does_no_harm(self):
        path = drift("smooth", 6, 4.0, np.random.default_rng(6))
        found = estimate_motion(movie(path, 30, gain_error=0.5), pixel_size=8.0)
        assert rms(found.shift - path) <= 1.01 * rms(path)

    def test_a_gradient_of_the_illumination(self):
        path = drift("smooth", 6, 4.0, np.random.default_rng(7))
        beam = np.linspace(0.6, 1.4, 256, dtype=np.float32)
        found = estimate_motion(movie(path, 10) * beam, pixel_size=8.0)
        assert rms(found.shift - path) < 0.08

    def test_blank_frames(self):
        for value in (0, 7):
            frames = np.full((4, 128, 128), value, np.uint8)
            found = estimate_motion(frames, pixel_size=2.0)
            assert not found.supported
            assert not found.shift.any()

    @pytest.mark.parametrize("blank", [[0], [5], [0, 3]])
    def test_blank_frames_go_on_as_their_neighbours(self, blank):
        path = np.linspace([-3.0, 2.0], [3.0, -2.0], 6)
        frames = movie(path, 30)
        frames[blank] = 0
        found = estimate_motion(frames, pixel_size=8.0)
        assert found.supported
        assert rms(found.shift - path) < 0.05
        np.testing.assert_allclose(found.shift.mean(axis=0), 0, atol=1e-9)
        assert np.flatnonzero(np.isinf(found.error[:, 0])).tolist() == blank
        assert np.isfinite(found.residual)

    def test_one_frame_that_is_not_blank_has_no_motion(self):
        frames = movie(np.zeros((3, 2)), 30)
        frames[1:] = 0
        found = estimate_motion(frames, pixel_size=8.0)
        assert not found.supported
        assert found.shift.shape == (3, 2)

    def test_frames_whose_mean_was_taken_off_are_not_blank(self):
        frames = movie(np.linspace([-3.0, 2.0], [3.0, -2.0], 4), 30)
        frames -= frames.mean(axis=(1, 2), keepdims=True) - [[[1.0]], [[-0.5]], [[1.0]], [[1.0]]]
        assert not estimate_motion(frames, pixel_size=8.0).supported

    def test_one_frame_has_no_motion(self):
        found = estimate_motion(movie(np.zeros((1, 2)), 10), pixel_size=2.0, patches=(2, 2))
        assert found.shift.tolist() == [[0.0, 0.0]]
        assert found.field is None

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, bad):
        frames = movie(np.zeros((3, 2)), 10)
        frames[1, 50, 60] = bad
        with pytest.raises(DataError, match="frame 1"):
            estimate_motion(frames, pixel_size=2.0)

    def test_frames_of_other_shapes(self):
        with pytest.raises(DataError, match="frame 1"):
            estimate_motion([np.ones((64, 64)), np.ones((64, 65))], pixel_size=2.0)

    def test_parameters(self):
        frames = np.ones((2, 64, 64), np.float32)
        with pytest.raises(ParameterError, match="frames"):
            estimate_motion([], pixel_size=2.0)
        with pytest.raises(ParameterError, match="pixel_size"):
            estimate_motion(frames, pixel_size=0)
        with pytest.raises(ParameterError, match="max_shift"):
            estimate_motion(frames, pixel_size=1, max_shift=-1)
        with pytest.raises(ParameterError, match="patches"):
            estimate_motion(frames, pixel_size=1, patches=(5, 5))


@pytest.mark.slow
def test_a_large_movie_at_the_dose_of_a_tilt_series():
    errors = []
    for seed in range(3):
        path = drift(["smooth", "walk", "jump"][seed], 10, 5.0, np.random.default_rng(seed))
        # As strong as makes the bound 0.3 pixels.
        frames = movie(path, 1.2, (2048, 2048), seed=seed, contrast=0.021, defocus_ring=300.0)
        found = estimate_motion(frames, pixel_size=2.0)
        assert found.supported
        errors.append(found.shift - path)
    assert rms(errors) < 0.40


def test_memory():
    # Two copies of the frames as float32, and some.
    assert estimate_bytes((10, 2048, 2048), pixel_size=2.0) < 2.2 * 10 * 2048**2 * 4


def test_real_frames(data_dir):
    mrcfile = pytest.importorskip("mrcfile")
    frames = mrcfile.read(data_dir / "serialem_multiframe" / "test_000.mrc").astype(np.float32)
    before = estimate_motion(frames, pixel_size=5.0)
    fy, fx = fft.fftfreq(frames.shape[1])[:, None], fft.rfftfreq(frames.shape[2])
    spectrum = fft.rfft2(frames[1]) * np.exp(-2j * np.pi * (3.3 * fy - 1.7 * fx))
    frames[1] = fft.irfft2(spectrum, s=frames.shape[1:])
    after = estimate_motion(frames, pixel_size=5.0)
    moved = np.diff(after.shift - before.shift, axis=0)[0]
    np.testing.assert_allclose(moved, [3.3, -1.7], atol=0.1)


@pytest.mark.parametrize("seed", [0, 3])
def test_weak_signal_spread_over_many_frequencies(seed: int) -> None:
    """No ring of low frequencies tells the shifts; all of them together do."""
    rng = np.random.default_rng(1000 + seed)
    size, count, electrons = 512, 6, 3.2
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    frequency = np.hypot(fy, fx) / 8
    transfer = np.sin(np.pi * 0.0197 * frequency**2 * (3e4 - 5240 * frequency**2) + 0.1)
    power = 0.02 * transfer**2 * np.exp(-((frequency / 0.05) ** 2))
    specimen = np.fft.rfft2(rng.normal(size=(size, size))) * np.sqrt(power)
    shift = np.cumsum(rng.normal(size=(count, 2)), axis=0)
    shift -= shift.mean(axis=0)
    frames = []
    for y, x in shift:
        contrast = np.fft.irfft2(specimen * np.exp(-2j * np.pi * (fy * y + fx * x)))
        frames.append(rng.poisson(np.clip(electrons * (1 + contrast), 0, None)).astype(np.uint8))
    found = estimate_motion(frames, pixel_size=8.0)
    assert found.supported
    assert np.sqrt(np.mean((found.shift - shift) ** 2)) < 0.06
