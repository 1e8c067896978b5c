"""Local motion against fields that are known, and against none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from tomodask.kernels.motion import estimate_motion
from tomodask.kernels.motion_field import MotionField


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


SHAPE, FRAMES = (512, 384), 6


def quadratic(amplitude, seed):
    """Return a function of (frame, y, x) that is quadratic in space and grows with time."""
    terms = np.random.default_rng(seed).normal(size=(2, 5))

    def field(frame, y, x):
        v, u = np.asarray(y) / SHAPE[0] - 0.5, np.asarray(x) / SHAPE[1] - 0.5
        basis = np.stack([v, u, 2 * u * v, 2 * v**2, 2 * u**2])
        growth = frame / (FRAMES - 1) - 0.5
        return amplitude * growth * np.tensordot(terms, basis, 1)

    return field


def movie(path, field, dose, seed, contrast=0.15):
    """Return counts of a random specimen with a drift (frame, 2) and a local field."""
    rng = np.random.default_rng(seed)
    margin = 24
    size = tuple(n + 2 * margin for n in SHAPE)
    fy, fx = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])
    squared = fy**2 + fx**2
    transfer = np.sin(60 * squared + 0.1) * np.exp(-40 * squared)
    specimen = fft.irfft2(fft.rfft2(rng.standard_normal(size)) * transfer, s=size)
    specimen *= contrast / specimen.std()
    spline = ndimage.spline_filter(specimen, 3)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
    frames = np.empty((FRAMES, *SHAPE), np.float32)
    for i, frame in enumerate(frames):
        local = field(i, y, x)
        at = [y + margin - path[i, 0] - local[0], x + margin - path[i, 1] - local[1]]
        seen = ndimage.map_coordinates(spline, at, order=3, prefilter=False)
        frame[:] = rng.poisson(dose * np.maximum(1 + seen, 0))
    return frames


def drift(seed):
    path = np.cumsum(np.random.default_rng(seed).normal(size=(FRAMES, 2)), axis=0)
    return path - path.mean(axis=0)


ROWS, COLUMNS = np.linspace(20, 490, 9), np.linspace(20, 360, 9)


def errors(found, path, field):
    """Return the errors (frame, y, x, 2) of the shifts alone, and of shifts and field."""
    truth = np.array(
        [np.moveaxis(field(i, *np.meshgrid(ROWS, COLUMNS, indexing="ij")), 0, -1) for i in range(6)]
    )
    truth += path[:, None, None]
    truth -= truth.mean(axis=0)
    whole = np.broadcast_to(found.shift[:, None, None], truth.shape)
    local = np.zeros_like(truth)
    if found.field is not None:
        local = np.array([found.field.on_grid(i, ROWS, COLUMNS) for i in range(FRAMES)])
    return whole - truth, whole + local - truth


class TestEstimate:
    def test_a_strong_signal_gives_the_field(self):
        for seed in range(2):
            path, field = drift(seed), quadratic(3.0, seed)
            found = estimate_motion(movie(path, field, 25, seed), pixel_size=8.0, patches=(5, 5))
            whole, local = errors(found, path, field)
            assert rms(whole) > 0.3
            assert rms(local) < 0.1

    def test_a_blank_frame(self):
        path, field = drift(0), quadratic(3.0, 0)
        frames = movie(path, field, 25, 0)
        frames[0] = 0
        found = estimate_motion(frames, pixel_size=8.0, patches=(5, 5))
        assert found.field is not None
        assert found.field.frames == FRAMES
        local = np.array([found.field.on_grid(i, ROWS, COLUMNS) for i in range(FRAMES)])
        np.testing.assert_allclose(local.mean(axis=0), 0, atol=1e-9)
        at = np.meshgrid(ROWS, COLUMNS, indexing="ij")
        truth = np.array([np.moveaxis(field(i, *at), 0, -1) for i in range(FRAMES)])
        truth += path[:, None, None]
        seen = (truth - found.shift[:, None, None] - local)[1:]
        assert rms(seen - seen.mean(axis=0)) < 0.1

    def test_patches_of_other_numbers_along_the_axes(self):
        path, field = drift(3), quadratic(3.0, 3)
        found = estimate_motion(movie(path, field, 25, 3), pixel_size=8.0, patches=(6, 3))
        _, local = errors(found, path, field)
        assert rms(local) < 0.12

    @pytest.mark.parametrize("dose", [0.3, 1.0, 4.0])
    def test_never_worse_than_whole_frames(self, dose):
        squares = np.zeros(2)
        for seed in range(4):
            path, field = drift(seed), quadratic(1.5, seed)
            found = estimate_motion(movie(path, field, dose, seed), pixel_size=8.0, patches=(5, 5))
            squares += [np.mean(each**2) for each in errors(found, path, field)]
        assert squares[1] <= squares[0] * 1.001

    def test_rigid_motion_has_no_field(self):
        for seed in range(3):
            path, field = drift(seed), quadratic(0.0, seed)
            for dose in (1.0, 25.0):
                frames = movie(path, field, dose, seed)
                found = estimate_motion(frames, pixel_size=8.0, patches=(5, 5))
                assert found.field is None or rms(errors(found, path, field)[1]) < 0.03

    def test_an_empty_half_follows_the_other(self):
        path, field = drift(4), quadratic(2.0, 4)
        frames = movie(path, field, 25, 4)
        rng = np.random.default_rng(0)
        frames[:, 256:] = rng.poisson(25, frames[:, 256:].shape)
        found = estimate_motion(frames, pixel_size=8.0, patches=(5, 5))
        whole, local = errors(found, path, field)
        assert rms(local[:, :4]) < 0.15
        assert rms(local[:, 5:]) < 2 * rms(whole[:, 5:])


class TestField:
    field = MotionField(np.random.default_rng(0).normal(size=(5, 6, 7, 2)), 10, (300, 400))

    def test_it_is_the_spline_it_is_said_to_be(self):
        # Knots one interval apart, three beyond each end.
        rng = np.random.default_rng(1)
        t, y, x = rng.uniform(0, 9, 20), rng.uniform(0, 299, 20), rng.uniform(0, 399, 20)
        values = self.field.coefficients
        expected = np.empty((20, 2))
        sizes = (10, 300, 400)
        for i, place in enumerate(zip(t, y, x, strict=True)):
            part = values
            for at, size, count in zip(place, sizes, values.shape[:3], strict=True):
                knots = np.arange(-3, count + 1) / (count - 3) * (size - 1)
                part = BSpline(knots, part, 3)(at)
            expected[i] = part
        np.testing.assert_allclose(self.field.at(t, y, x), expected, atol=1e-10)

    def test_a_grid_is_many_points(self):
        rows, columns = np.array([3.0, 120.5]), np.array([0.0, 7.0, 399.0])
        np.testing.assert_allclose(
            self.field.on_grid(4, rows, columns),
            self.field.at(4, rows[:, None], columns),
            atol=1e-12,
        )

    def test_its_mean_over_the_frames_is_zero_everywhere(self):
        path, field = drift(0), quadratic(3.0, 0)
        found = estimate_motion(movie(path, field, 25, 0), pixel_size=8.0, patches=(4, 4)).field
        values = found.at(np.arange(FRAMES)[:, None, None], ROWS[:, None], COLUMNS)
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-9)
        assert rms(values) > 0.1
