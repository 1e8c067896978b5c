"""The motion of whole frames against known drifts, closed forms and what must not happen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from tomodask.errors import DataError, ParameterError
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


def movie(  # noqa: PLR0917
    path, dose, shape=(256, 256), seed=0, contrast=0.1, gain_error=0.0, defocus_ring=60.0
):
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

    def test_the_prior_does_better_than_the_likelihood_alone_can(self):
        # The bound of any unbiased estimate that knows the specimen's power: 96 numbers.
        errors, bounds = [], []
        for seed in range(12):
            path = drift("smooth", 8, 3.0, np.random.default_rng(seed))
            found = estimate_motion(movie(path, 1.0, seed=seed), pixel_size=8.0)
            errors.append(found.shift - path)
            bounds.append(_bound(movie(path, 1.0, seed=seed), path))
        assert rms(errors) < 0.9 * rms(bounds)

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


def _bound(frames, path):
    """Return the Cramer-Rao bound, from the closed form for a known power."""
    size = frames.shape[1:]
    fy, fx = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])
    spectra = fft.rfft2(frames)
    phases = np.exp(2j * np.pi * (path[:, :1, None] * fy + path[:, 1:, None] * fx))
    count = len(frames)
    own = (np.abs(spectra) ** 2).sum(axis=0)
    cross = (np.abs((spectra * phases).sum(axis=0)) ** 2 - own) / (count * (count - 1))
    ring = np.rint(np.hypot(fy, fx) * size[0]).astype(int)
    members = np.bincount(ring.ravel())
    power = ndimage.gaussian_filter1d(np.bincount(ring.ravel(), cross.ravel()) / members, 4)
    power = np.maximum(power, 0)
    noise = np.bincount(ring.ravel(), own.ravel()) / members / count - power
    gain = (power**2 / (noise * (noise + count * power)))[ring]
    gain[np.hypot(fy, fx) * size[0] < 4] = 0
    information = 4 * np.pi**2 * np.sum(gain * (fy**2 + fx**2))
    return np.sqrt((count - 1) / count / (count * information))


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
        frames = movie(path, 10, gain_error=0.01)
        found = estimate_motion(frames, pixel_size=8.0)
        assert rms(found.shift - path) < 0.06

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
