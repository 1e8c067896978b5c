"""Movies against closed forms: motion, counts, Thon rings and detectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft, ndimage

from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.simulate import (
    Ball,
    ContrastTransfer,
    Detector,
    Gaussian,
    Imaging,
    LocalMotion,
    Phantom,
    cryo_imaging,
    dose_symmetric_order,
    drift_path,
    oriented,
    simulate_movie,
    simulate_movie_series,
)
from tomodask.simulate._displaced import displaced_image, spline_coefficients

PIXEL = 2.0
VIEW = Projection.create([20.0], tilt_axis_angle=85.0)
FLAT = Projection.create([0.0])
BLOBS = Phantom(
    (
        Gaussian((30.0, 40.0, 20.0), 9.0, -0.004),
        Gaussian((-90.0, 20.0, 9.0), 7.0, -0.002),
        Gaussian((95.0, -80.0, 9.0), 8.0, -0.003),
    )
)
EMPTY = Phantom(())
QUIET = Imaging(counting_noise=False)
SHAPE = (140, 151)


def record(phantom=BLOBS, projection=VIEW, shape=SHAPE, *, imaging=QUIET, frames=5, **options):
    return simulate_movie(
        phantom, projection, shape, pixel_size=PIXEL, imaging=imaging, frames=frames, **options
    )


def blobs(y, x):
    """Return the contrast of BLOBS, in the mean over a pixel, at places of the sum (px).

    The mean of a Gaussian over a pixel is nearly a Gaussian whose variance is larger by 1/12.
    """
    contrast = np.zeros(np.broadcast_shapes(np.shape(y), np.shape(x)))
    for blob in BLOBS.objects:
        x0, y0 = VIEW.project([blob.centre])[0, 0] / PIXEL + (np.array(SHAPE[::-1]) - 1) / 2
        sigma, wider = blob.sigma / PIXEL, np.sqrt((blob.sigma / PIXEL) ** 2 + 1 / 12)
        height = blob.amplitude * np.sqrt(2 * np.pi) * blob.sigma * (sigma / wider) ** 2
        contrast += height * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * wider**2))
    return contrast


def pixels(shape=SHAPE):
    return np.mgrid[: shape[0], : shape[1]].astype(float)


def sinc_shifted(image, shift, axis):
    """Return an image moved along an axis, by a windowed sinc of 81 points."""
    distance = np.arange(-40, 41) - shift
    window = np.i0(14 * np.sqrt(np.maximum(1 - (distance / 43) ** 2, 0))) / np.i0(14.0)
    return ndimage.convolve1d(image, np.sinc(distance) * window, axis=axis, mode="constant")


def test_frames_show_the_specimen_where_the_drift_says():
    movie = record(drift=drift_path("settling", 5, 9.0, seed=1))
    y, x = pixels()
    for frame, (dy, dx) in enumerate(movie.drift):
        contrast = movie.frames[frame] * 5 / 12 - 1
        np.testing.assert_allclose(contrast, blobs(y - dy, x - dx), atol=3e-5)
    assert np.abs(blobs(y, x)).max() > 0.05
    np.testing.assert_allclose(movie.image, 12 * (1 + blobs(y, x)), atol=12 * 3e-5)


def test_frames_are_exact_shifts_of_each_other():
    imaging = replace(QUIET, ice_noise=0.05, ice_grain=3.0, ctf=(ContrastTransfer(2e4, 1.8e4),))
    drift = np.array([[0, 0], [1.3, -2.6], [3, 5]])
    first, second, third = record(EMPTY, FLAT, imaging=imaging, frames=3, drift=drift).frames
    np.testing.assert_allclose(third[3:, 5:], first[:-3, :-5], atol=1e-5)
    moved = sinc_shifted(sinc_shifted(first.astype(float) - 4, 1.3, 0), -2.6, 1)
    inside = (slice(45, -45), slice(45, -45))
    assert np.abs(moved + 4 - second)[inside].max() < 1e-4 * first.std()


def test_local_motion_is_that_of_the_closed_form():
    local = LocalMotion.random(SHAPE, 5, 4.0, seed=3)
    movie = record(drift=drift_path("settling", 5, 9.0, seed=1), local=local)
    y, x = pixels()
    for frame in range(5):
        # The place of the sum that a pixel of the frame shows: p with p + displacement(p) = pixel.
        place = np.stack([y, x])
        for _ in range(30):
            place = np.stack([y, x]) - movie.displacement(frame, *place)
        contrast = movie.frames[frame] * 5 / 12 - 1
        np.testing.assert_allclose(contrast, blobs(*place), atol=3e-5)
    moves = local.displacement(4, y, x) - local.displacement(0, y, x)
    assert np.sqrt((moves**2).sum(axis=0).mean()) == pytest.approx(4.0, rel=0.02)
    assert np.abs(sum(local.displacement(frame, y, x) for frame in range(5))).max() < 1e-12
    assert np.abs(local.displacement(0, y, x).mean(axis=(1, 2))).max() < 0.02


@pytest.mark.parametrize("shape", [(32, 45), (35, 40)])
def test_the_spline_follows_a_band_limited_image(shape):
    rng = np.random.default_rng(5)
    spectrum = fft.rfft2(rng.standard_normal(shape, np.float32))
    frequency_y, frequency_x = fft.fftfreq(shape[0]), fft.rfftfreq(shape[1])
    radius = np.maximum(np.abs(frequency_y)[:, None], frequency_x[None, :])
    out = np.empty((9, 11), np.float32)
    field = np.array([[[0, 0.7], [0.4, 0]], [[0, -0.6], [0.3, 0]]])
    for band, error in ((0.499, 1e-2), (0.4, 1e-3), (0.25, 5e-5)):
        limited = np.where(radius < band, spectrum, 0).astype(np.complex64)
        displaced_image(spline_coefficients(limited, shape), (6.5, 8.0), (0.37, -1.21), field, out)
        y, x = pixels(out.shape)
        py, px = y, x
        for _ in range(50):
            v, u = (py - 4) / 4.5, (px - 5) / 5.5
            py = y - 0.37 - 0.7 * u - 0.4 * v
            px = x + 1.21 + 0.6 * u - 0.3 * v
        weight = np.where(frequency_x == 0, 1, 2) / np.prod(shape)
        waves_y = np.exp(2j * np.pi * frequency_y * (py.reshape(-1, 1) + 6.5))
        waves_x = np.exp(2j * np.pi * frequency_x * (px.reshape(-1, 1) + 8.0)) * weight
        exact = np.einsum("pk,kl,pl->p", waves_y, limited, waves_x).real.reshape(out.shape)
        assert np.sqrt(((out - exact) ** 2).mean()) < error * exact.std()


@pytest.mark.parametrize("kind", ["settling", "random walk", "linear", "jump"])
def test_drift_has_the_length_asked_for_and_no_mean(kind):
    path = drift_path(kind, 12, 7.0, seed=4)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert steps.sum() == pytest.approx(7)
    np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-12)
    assert not np.allclose(path, drift_path(kind, 12, 7.0, seed=5))
    if kind == "settling":
        assert np.all(np.diff(steps) < 0)
        assert steps[0] > 4 * steps[6]
    if kind == "linear":
        np.testing.assert_allclose(steps, 7 / 11)
    if kind == "jump":
        assert np.count_nonzero(steps) == 1


def test_drift_sets_out_in_the_direction_asked_for():
    path = drift_path("linear", 3, 2.0, seed=0, direction=90.0)
    np.testing.assert_allclose(path, [[-1, 0], [0, 0], [1, 0]], atol=1e-12)
    np.testing.assert_array_equal(drift_path("none", 3, 2.0, seed=0), np.zeros((3, 2)))


def test_counts_are_poisson():
    movie = record(EMPTY, shape=(300, 300), imaging=Imaging(exposure=2.0), frames=4)
    assert movie.frames.dtype == np.uint8
    for frame in movie.frames.astype(float):
        assert frame.mean() == pytest.approx(2, abs=5 * np.sqrt(2 / 9e4))
        assert frame.var() == pytest.approx(2, rel=5 * np.sqrt((2 + 1 / 2) / 9e4))
    assert abs(np.corrcoef(movie.frames[0].ravel(), movie.frames[1].ravel())[0, 1]) < 0.02


def test_ice_attenuates_and_a_shutter_shuts():
    imaging = replace(QUIET, ice_thickness=1500.0, mean_free_path=3000.0)
    movie = record(EMPTY, imaging=imaging, transmission=np.linspace(0, 1, 151))
    expected = 12 / 5 * np.exp(-0.5 / np.cos(np.deg2rad(20))) * np.linspace(0, 1, 151)
    np.testing.assert_allclose(movie.frames[2, 7], expected, rtol=1e-5)


def test_thon_rings_have_the_power_of_the_formula():
    defocus, noise, grain, n = 25000.0, 0.05, 1.5, 512
    imaging = replace(
        QUIET,
        ice_noise=noise,
        ice_grain=grain,
        ctf=(ContrastTransfer(defocus, defocus, amplitude_contrast=0.1),),
    )
    movie = record(EMPTY, FLAT, (n, n), imaging=imaging, frames=1)
    contrast = (movie.frames[0].astype(float) / 12 - 1) * np.outer(np.hanning(n), np.hanning(n))
    power = np.abs(np.fft.fft2(contrast)) ** 2 / (np.hanning(n) ** 2).sum() ** 2

    axis = np.fft.fftfreq(n, PIXEL)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    squared, wavelength = x**2 + y**2, 0.01968749
    chi = np.pi * wavelength * squared * (defocus - 2.7e7 * wavelength**2 * squared / 2)
    shape = np.exp(-4 * np.pi**2 * grain**2 * squared)
    expected = noise**2 * shape / shape.mean()
    expected *= np.sin(chi + np.arcsin(0.1)) ** 2 * (np.sinc(PIXEL * x) * np.sinc(PIXEL * y)) ** 2
    ring = np.rint(np.sqrt(squared) * n * PIXEL).astype(int).ravel()
    seen, predicted = (np.bincount(ring, values.ravel())[12:250] for values in (power, expected))
    assert np.corrcoef(seen, predicted)[0, 1] > 0.99
    number = np.bincount(ring)[12:250]
    # A Hann window halves the number of independent values about twice along each axis.
    bright = predicted / number > np.median(predicted / number)
    assert np.all(np.abs(seen / predicted - 1)[bright] < 6 * np.sqrt(4 / number[bright]))
    assert seen.sum() == pytest.approx(predicted.sum(), rel=0.02)


def test_cryo_ice_is_a_few_percent_of_the_shot_noise_whatever_the_pixel():
    powers = []
    for pixel_size in (2.0, 3.5):
        imaging = replace(cryo_imaging(pixel_size, 25000.0), counting_noise=False)
        image = simulate_movie(
            EMPTY, FLAT, (400, 400), pixel_size=pixel_size, imaging=imaging, frames=1
        ).image
        axis = np.fft.fftfreq(400, pixel_size)
        response = (np.sinc(axis * pixel_size)[:, None] * np.sinc(axis * pixel_size)) ** 2
        # Relative to that of the counting noise of the same electrons.
        power = np.abs(np.fft.fft2(image - image.mean())) ** 2 / image.size / image.mean()
        radius = np.hypot(axis[:, None], axis[None, :])
        rings = (radius > 1 / 50) & (radius < 1 / 15)
        powers.append((power / response)[rings].mean())
    assert 0.02 < powers[0] < 0.15
    assert powers[0] == pytest.approx(powers[1], rel=0.08)


def test_counts_times_gain_are_electrons():
    detector = Detector.random((60, 80), seed=2, hot_pixels=0)
    imaging = Imaging(exposure=300.0)
    movie = record(EMPTY, shape=(60, 80), imaging=imaging, frames=400, detector=detector)
    good = ~detector.dead
    mean = (movie.frames * detector.gain).mean(axis=0)[good]
    deviation = np.sqrt(3 * detector.gain[good] / 400)
    z = (mean - 3) / deviation
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert z.std() == pytest.approx(1, abs=0.05)
    raw = movie.frames.mean(axis=0)[good]
    assert np.corrcoef(raw, 1 / detector.gain[good])[0, 1] > 0.7
    assert not movie.frames[:, detector.dead].any()
    assert detector.gain[good].mean() == pytest.approx(1, abs=1e-3)


def test_defects_are_where_the_truth_says():
    detector = Detector.random(SHAPE, seed=2, dead_columns=2, dead_pixels=9, hot_pixels=6)
    assert np.count_nonzero(detector.dead.all(axis=0)) == 2
    assert not (detector.dead & detector.hot).any()
    clean = record(imaging=Imaging(exposure=2.5), detector=detector)
    movie = record(imaging=Imaging(exposure=2.5), detector=detector, x_rays=8)
    assert clean.frames[:, detector.hot].min() > 5 * clean.frames.mean()
    assert np.count_nonzero(detector.hot) == 6
    changed = {tuple(place) for place in np.argwhere(clean.frames != movie.frames)}
    hits = {tuple(place) for place in movie.x_rays}
    assert changed == hits
    assert 8 <= len(hits) <= 32
    assert movie.frames[tuple(movie.x_rays.T)].min() >= 15
    assert not len(clean.x_rays)


def test_counts_saturate():
    heat = np.zeros((4, 6), np.float32)
    heat[1, 2] = 60
    detector = replace(Detector.ideal((4, 6)), heat=heat)
    movie = record(EMPTY, shape=(4, 6), imaging=Imaging(exposure=10.0), detector=detector)
    assert set(movie.frames[:, 1, 2]) == {255}
    assert np.count_nonzero(movie.frames > 100) == 5


def test_no_two_orientations_of_a_gain_are_alike():
    gain = Detector.random((64, 64), seed=1, dead_columns=0, dead_pixels=0).gain
    ways = [oriented(gain, number).ravel() for number in range(8)]
    correlation = np.corrcoef(ways) - np.eye(8)
    assert correlation.max() < 0.5
    coarse = ndimage.uniform_filter(gain, 16)[8::16, 8::16]
    ways = [oriented(coarse, number).ravel() for number in range(8)]
    assert (np.corrcoef(ways) - np.eye(8)).max() < 0.9


def test_orientations_turn_counter_clockwise_after_the_mirror():
    image = np.zeros((2, 3), np.float32)
    image[0, 2] = 1  # at the lower right
    assert oriented(image, 1).shape == (3, 2)
    assert np.argwhere(oriented(image, 1)).tolist() == [[2, 1]]  # upper right
    assert np.argwhere(oriented(image, 2)).tolist() == [[1, 0]]  # upper left
    assert np.argwhere(oriented(image, 4)).tolist() == [[0, 0]]  # lower left
    assert np.argwhere(oriented(image, 5)).tolist() == [[0, 1]]  # lower right


ANGLES = np.arange(-6.0, 7.0, 3.0)


def series(**options):
    return simulate_movie_series(
        BLOBS,
        Projection.create(ANGLES, tilt_axis_angle=85.0),
        (40, 50),
        pixel_size=8.0,
        frames=3,
        imaging=Imaging(exposure=2.0),
        **options,
    )


def test_series_is_in_the_order_of_acquisition():
    movies = series(exposure=[1.0, 2.0, 3.0, 4.0, 5.0], reacquired=(3,), tilt_angle=ANGLES + 0.01)
    np.testing.assert_array_equal(movies.view, [2, 3, 3, 1, 0, 4])
    np.testing.assert_allclose(movies.tilt_angle, ANGLES[movies.view] + 0.01)
    np.testing.assert_allclose(movies.exposure, [3, 4, 4, 2, 1, 5])
    np.testing.assert_allclose(movies.dose, [0, 3, 7, 11, 13, 14])
    assert len(movies) == 6
    np.testing.assert_array_equal(np.argsort(dose_symmetric_order(ANGLES)), [2, 3, 1, 0, 4])
    means = [movie.frames.sum(axis=0).mean() for movie in movies]
    np.testing.assert_allclose(np.array(means) / movies.exposure / 64, 1, atol=0.1)


def test_movies_of_a_series_differ_and_are_the_same_each_time():
    movies = series(local_motion=10.0, reacquired=(2,))
    first, second = movies.movie(0), movies.movie(1)
    np.testing.assert_array_equal(first.frames, movies.movie(0).frames)
    assert not np.array_equal(first.frames, second.frames)
    assert not np.allclose(first.drift, second.drift)
    assert not np.array_equal(first.x_rays, second.x_rays)
    assert first.detector is second.detector
    np.testing.assert_allclose(first.drift, movies.drift[0], atol=1e-12)
    assert first.local is movies.local[0]
    length = np.linalg.norm(np.diff(movies.drift, axis=1), axis=2).sum(axis=1)
    np.testing.assert_allclose(length, 10 / 8)


def test_what_goes_wrong_is_seen():
    faults = {0: "dark", 1: "blank", 3: "blocked", 4: "drifted"}
    movies = series(faults=faults, reacquired=(0,), x_rays=0)
    assert movies.fault == (None, "blocked", "blank", "dark", None, "drifted")
    means = np.array([movie.frames.mean() for movie in movies])
    assert means[2] == 0
    assert means[3] / means[0] == pytest.approx(0.02, rel=0.2)
    assert means[4] == pytest.approx(means[0], rel=0.02)
    assert means[1] / means[0] == pytest.approx(0.4, abs=0.05)
    assert np.ptp(movies.drift[5], axis=0).max() > 10


def test_each_movie_has_the_transfer_of_its_view():
    ctf = tuple(ContrastTransfer(d, d) for d in (1e4, 2e4, 3e4, 4e4, 5e4))
    projection = Projection.create(ANGLES)
    imaging = replace(QUIET, ctf=ctf)
    movies = simulate_movie_series(
        BLOBS,
        projection,
        SHAPE,
        pixel_size=2.0,
        frames=1,
        imaging=imaging,
        x_rays=0,
        detector=Detector.ideal(SHAPE),
    )
    for index in (0, 4):
        view = int(movies.view[index])
        alone = record(
            BLOBS, projection[[view]], imaging=replace(imaging, ctf=(ctf[view],)), frames=1
        )
        np.testing.assert_allclose(movies.movie(index).frames, alone.frames, rtol=1e-5)


def test_an_object_cut_by_the_edge_does_not_ring():
    # Its centre is on the edge of the field that is simulated around the frames.
    ball = Phantom((Ball((0.0, 198.0, 0.0), 40.0, -0.004),))
    movie = record(ball, FLAT, (150, 150), frames=2, drift=[[0.25, 0], [-0.25, 0]])
    assert np.abs(movie.frames[0][:110] / 6 - 1).max() < 2e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: drift_path("wobble", 3, 1.0, seed=0), "wobble"),
        (lambda: drift_path("linear", 0, 1.0, seed=0), "0 frames"),
        (lambda: drift_path("linear", 3, -1.0, seed=0), "-1.0"),
        (lambda: record(drift=np.zeros((4, 2))), "drift has shape"),
        (lambda: record(projection=Projection.create([0.0, 1.0])), "one view"),
        (lambda: record(local=LocalMotion.random(SHAPE, 4, 1.0, seed=0)), "local motion"),
        (lambda: record(detector=Detector.ideal((3, 3))), "detector"),
        (lambda: record(imaging=Imaging(hot_pixels=3)), "x_rays"),
        (lambda: LocalMotion(SHAPE, np.ones(3), np.zeros((2, 2, 2))), "growth"),
        (lambda: LocalMotion(SHAPE, np.zeros(3), np.ones((2, 2, 2))), "constant term"),
        (lambda: Detector.random((8, 8), seed=0, dead_pixels=60), "too many"),
        (lambda: oriented(np.zeros((2, 2), np.float32), 8), "0 to 7"),
        (lambda: series(faults={7: "dark"}), "view 7"),
        (lambda: series(faults={1: "melted"}), "melted"),
        (lambda: series(exposure=[1.0]), "exposure"),
        (lambda: series(order=[0, 0, 1, 2, 3]), "order"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        change()
