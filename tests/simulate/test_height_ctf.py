"""The defocus that follows height, against direct sums and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.simulate import (
    Ball,
    ContrastTransfer,
    Ellipsoid,
    Gaussian,
    Imaging,
    Phantom,
    Shell,
    simulate_movie,
    simulate_tilt_series,
)
from tomodask.simulate.ice import Ice, mid_plane_height

WAVELENGTH, CS, AMPLITUDE = 0.01968749, 2.7e7, 0.07
CTF = ContrastTransfer(31000.0, 30200.0, 25.0)
PIXEL = 4.0
NOTHING = Phantom(())


def height(points, tilt, x_tilt):
    """Return w by its formula."""
    t, a = np.deg2rad(tilt), np.deg2rad(x_tilt)
    x, y, z = np.asarray(points, float).T
    return -x * np.sin(t) + (z * np.cos(a) + y * np.sin(a)) * np.cos(t)


def place(points, tilt, x_tilt, axis):
    """Return raw (x, y) by the formula of a rigid specimen."""
    t, a, r = np.deg2rad(tilt), np.deg2rad(x_tilt), np.deg2rad(axis)
    x, y, z = np.asarray(points, float).T
    depth = z * np.cos(a) + y * np.sin(a)
    u, v = x * np.cos(t) + depth * np.sin(t), y * np.cos(a) - z * np.sin(a)
    return np.stack([u * np.cos(r) - v * np.sin(r), u * np.sin(r) + v * np.cos(r)], axis=1)


def unseen(points, tilt, x_tilt):
    """Return the specimen's points that are seen at (u, v) at the height w."""
    t, a = np.deg2rad(tilt), np.deg2rad(x_tilt)
    u, v, w = np.asarray(points, float).T
    depth = u * np.sin(t) + w * np.cos(t)
    y, z = v * np.cos(a) + depth * np.sin(a), depth * np.cos(a) - v * np.sin(a)
    return [tuple(point) for point in np.stack([u * np.cos(t) - w * np.sin(t), y, z], axis=1)]


def chi(fx, fy, defocus_shift=0.0, ctf=CTF):
    """Return the phase from the defocus as a quadratic form, radians."""
    cos, sin = np.cos(np.deg2rad(ctf.astigmatism_angle)), np.sin(np.deg2rad(ctf.astigmatism_angle))
    along, across = fx * cos + fy * sin, fy * cos - fx * sin
    squared = fx**2 + fy**2
    phase = np.pi * WAVELENGTH * (ctf.defocus_u * along**2 + ctf.defocus_v * across**2)
    phase += np.pi * WAVELENGTH * defocus_shift * squared
    return phase - np.pi / 2 * CS * WAVELENGTH**3 * squared**2 + np.arcsin(AMPLITUDE)


def direct_sum(points, sigma, mass, tilt, x_tilt, axis, hand, shape):
    """Return the contrast of Gaussians, one transform of its own defocus for each."""
    rows, columns = 3 * shape[0], 3 * shape[1]
    fx, fy = np.fft.fftfreq(columns, PIXEL)[None, :], np.fft.fftfreq(rows, PIXEL)[:, None]
    squared = fx**2 + fy**2
    # The first sample of the wide image, and the place of a sample of the small one.
    at = place(points, tilt, x_tilt, axis)
    spectrum = np.zeros((rows, columns), complex)
    for (x, y), w in zip(at, height(points, tilt, x_tilt), strict=True):
        turn = np.pi * WAVELENGTH * squared
        # Along the beam the Gaussian has a depth, over which its phases are averaged.
        blob = mass * np.exp(-2 * np.pi**2 * sigma**2 * squared - (turn * sigma) ** 2 / 2)
        origin_x, origin_y = (shape[1] - 1) / 2 * PIXEL, (shape[0] - 1) / 2 * PIXEL
        shifted = np.exp(-2j * np.pi * (fx * (x + origin_x) + fy * (y + origin_y)))
        spectrum += blob * shifted * np.sin(chi(fx, fy, hand * w))
    image = np.fft.ifft2(spectrum).real / PIXEL**2
    return image[: shape[0], : shape[1]]


@pytest.mark.parametrize("hand", [1, -1])
@pytest.mark.parametrize(
    ("tilt", "x_tilt", "axis"), [(57.0, 0.0, 85.0), (-48.0, 6.0, 3.0), (0.0, -9.0, 85.0)]
)
def test_scatterers_are_seen_at_their_own_defocus(hand, tilt, x_tilt, axis):
    shape, sigma, amplitude = (240, 251), 4.0, -0.004
    points = unseen(
        [(-300, -150, 1400.0), (320, 330, -1300), (0, 80, 100), (50, -300, -900)], tilt, x_tilt
    )
    phantom = Phantom(tuple(Gaussian(point, sigma, amplitude) for point in points))
    series = simulate_tilt_series(
        phantom,
        Projection.create([tilt], tilt_axis_angle=axis, x_tilt=x_tilt),
        shape,
        pixel_size=PIXEL,
        imaging=Imaging(exposure=1.0, counting_noise=False, ctf=(CTF,), handedness=hand),
        supersample=1,
    )
    contrast = series.images[0].astype(float) / PIXEL**2 - 1
    mass = amplitude * (2 * np.pi) ** 1.5 * sigma**3
    arguments = (points, sigma, mass, tilt, x_tilt, axis)
    expected = direct_sum(*arguments, hand, shape)
    scale = expected.std()
    # The planes' error is 1 % at the Nyquist frequency, and falls with its fourth power.
    assert (contrast - expected).std() < 0.01 * scale
    assert (contrast - direct_sum(*arguments, -hand, shape)).std() > 0.2 * scale
    assert (contrast - direct_sum(*arguments, 0, shape)).std() > 0.1 * scale


def test_the_defocus_is_that_of_the_specimens_origin_wherever_it_lies():
    shift, shape = np.array([120.0, -200.0]), (240, 240)
    phantom = Phantom((Gaussian((0.0, 0.0, 0.0), 5.0, -0.004),))
    imaging = Imaging(exposure=1.0, counting_noise=False, ctf=(CTF,), handedness=1)
    projection = Projection.create([55.0], tilt_axis_angle=30.0, shift=shift)
    options = {"pixel_size": PIXEL, "supersample": 1}
    followed = simulate_tilt_series(phantom, projection, shape, imaging=imaging, **options)
    whole = simulate_tilt_series(
        phantom, projection, shape, imaging=replace(imaging, handedness=None), **options
    )
    np.testing.assert_allclose(followed.images, whole.images, atol=2e-3 * whole.images.std())


@pytest.mark.parametrize(
    "thing",
    [
        Gaussian((20.0, -10.0, 15.0), 30.0, 0.5),
        Ball((20.0, -10.0, 15.0), 60.0, 0.5),
        Ball((20.0, -10.0, 15.0), 60.0, 0.5, edge=40.0),
        Ellipsoid((0.0, 10.0, 0.0), (40.0, 90.0, 60.0), 0.5, (30.0, 20.0, 40.0)),
        Shell((0.0, 10.0, 0.0), (80.0, 90.0, 60.0), 15.0, 0.5, (30.0, 20.0, 40.0)),
    ],
)
def test_planes_are_integrals_under_hats(thing):
    spacing, pixel, shape = 25.0, 10.0, (30, 31)
    projection = Projection.create(
        [35.0], tilt_axis_angle=20.0, x_tilt=5.0, z_factor=(0.03, -0.04), magnification=1.02
    )
    phantom = Phantom((thing,))
    options = {"pixel_size": pixel, "supersample": 1}
    planes = {
        plane: image.copy()
        for plane, image in phantom.planes(projection, shape, spacing=spacing, **options)
    }
    # The density at steps along the beam of a few pixels, whose line of sight is found by its two
    # ends; a step's height is split between the two planes beside it.
    linear = (projection.image_matrix() @ projection.view_matrix()[:, :2])[0]
    beam = np.cross(*linear)
    beam /= np.linalg.norm(beam)
    along = np.linspace(-220, 220, 8801)
    for row, column in [(14, 15), (12, 18), (17, 13), (15, 20)]:
        raw = np.array([(column - 15) * pixel, (row - 14.5) * pixel])
        line = np.linalg.lstsq(linear, raw)[0] + along[:, None] * beam
        density = phantom.value(line) * (along[1] - along[0])
        level = projection.height(line)[0] / spacing
        for plane in range(-9, 10):
            expected = (density * np.maximum(1 - np.abs(level - plane), 0)).sum()
            found = planes[plane][row, column] if plane in planes else 0.0
            assert found == pytest.approx(expected, abs=0.02)
    whole = phantom.project(projection, shape, **options)[0]
    assert whole.max() > 5
    np.testing.assert_allclose(sum(planes.values()), whole, atol=1e-4)


def rings(image, size):
    """Return the power spectrum of a square part, averaged over directions, and its 1/A."""
    window = np.hanning(size)[:, None] * np.hanning(size)[None, :]
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / (window**2).sum()
    f = np.fft.fftfreq(size, PIXEL)
    ring = np.rint(np.hypot(f[:, None], f[None, :]) * size * PIXEL).astype(int).ravel()
    count = np.bincount(ring)
    return np.bincount(ring, power.ravel()) / count, np.arange(len(count)) / (size * PIXEL)


def amorphous(hand, *, tilt=50.0, x_tilt=0.0, axis=85.0, thickness=0.0, signal=0.5, shape=None):
    """Return the contrast of ice without counting noise, 2 um underfocus, 10 e/A^2."""
    ctf = ContrastTransfer(20000.0, 20000.0)
    series = simulate_tilt_series(
        NOTHING,
        Projection.create([tilt], tilt_axis_angle=axis, x_tilt=x_tilt),
        (256, 1400) if shape is None else shape,
        pixel_size=PIXEL,
        imaging=Imaging(
            exposure=10.0,
            counting_noise=False,
            ice_thickness=thickness,
            mean_free_path=1e12,
            ice_signal=signal,
            ice_b_factor=80.0,
            ctf=(ctf,),
            handedness=hand,
        ),
        seed=5,
    )
    return series.images[0].astype(float) / (10.0 * PIXEL**2) - 1


@pytest.mark.parametrize("hand", [1, -1])
@pytest.mark.parametrize(("axis", "x_tilt"), [(3.0, 0.0), (85.0, 0.0), (85.0, 40.0)])
def test_rings_of_ice_are_those_of_the_defocus_at_a_place(hand, axis, x_tilt):
    tilt, size = 50.0, 256
    wide = (256, 1400) if axis < 45 else (1400, 256)
    image = amorphous(hand, tilt=tilt, axis=axis, x_tilt=x_tilt, shape=wide)
    for place_along in (-560, 0, 560):
        middle = [n // 2 for n in wide]
        middle[int(np.argmax(wide))] += place_along
        part = image[tuple(slice(m - size // 2, m + size // 2) for m in middle)]
        power, frequency = rings(part, size)
        # The specimen's point on z = 0 that is seen there, by solving for it.
        x, y = (middle[1] - (wide[1] - 1) / 2) * PIXEL, (middle[0] - (wide[0] - 1) / 2) * PIXEL
        columns = place([(1, 0, 0), (0, 1, 0)], tilt, x_tilt, axis).T
        point = np.linalg.solve(columns, [x, y])
        w = height([(*point, 0.0)], tilt, x_tilt)[0]
        used = (frequency > 0.02) & (frequency < 0.075)
        score = {}
        for shift in np.arange(-4000.0, 4001.0, 250.0):
            focus = np.pi * WAVELENGTH * frequency**2 * (20000 + shift)
            phase = focus - np.pi / 2 * CS * WAVELENGTH**3 * frequency**4 + np.arcsin(AMPLITUDE)
            model = np.sin(phase) ** 2 * np.exp(-80 * frequency**2 / 2)
            score[shift] = np.corrcoef(model[used], power[used])[0, 1]
        best = max(score, key=score.get)
        assert best == pytest.approx(hand * w, abs=251)
        assert score[best] > 0.9


def test_scatterers_of_a_slab_lie_at_all_its_heights():
    thickness, tilt = 6000.0, 30.0
    powers = []
    for part in np.split(amorphous(1, tilt=tilt, thickness=thickness, shape=(1024, 1024)), 4):
        for tile in np.split(part, 4, axis=1):
            power, frequency = rings(tile, 256)
            powers.append(power)
    power = np.mean(powers, axis=0) * 160
    inside = np.linspace(-1, 1, 801) * thickness / np.cos(np.deg2rad(tilt)) / 2
    # Over all the image the heights of the mid-plane vary as well.
    across = np.linspace(-1, 1, 201) * 512 * PIXEL * np.tan(np.deg2rad(tilt))
    shift = (inside[:, None] + across[None, :]).ravel()[::7, None]
    used = (frequency > 0.015) & (frequency < 0.1)
    k = frequency[None, used]
    phase = np.pi * WAVELENGTH * k**2 * (20000 + shift) + np.arcsin(AMPLITUDE)
    phase -= np.pi / 2 * CS * WAVELENGTH**3 * k**4
    expected = 0.5 * (np.sin(phase) ** 2).mean(axis=0) * np.exp(-80 * k[0] ** 2 / 2)
    assert np.abs(power[used] / expected - 1).max() < 0.25
    assert abs(np.mean(power[used] / expected) - 1) < 0.02


def test_a_scatterer_of_ice_keeps_its_height():
    shift, axis, tilt, x_tilt = np.array([90.0, -150.0]), 85.0, 40.0, 7.0
    projection = Projection.create([tilt], tilt_axis_angle=axis, x_tilt=x_tilt, shift=shift)
    plane = mid_plane_height(projection, (30, 41), PIXEL)
    points = np.random.default_rng(0).uniform(-60, 60, (5, 3)) * [1, 1, 0]
    # Heights are linear over the image, so that points between pixels lie between theirs.
    column, row = ((place(points, tilt, x_tilt, axis) + shift) / PIXEL + [20, 14.5]).T
    slope_y, slope_x = np.diff(plane, axis=0)[0, 0], np.diff(plane, axis=1)[0, 0]
    found = plane[0, 0] + slope_y * row + slope_x * column
    np.testing.assert_allclose(found, height(points, tilt, x_tilt), atol=1e-9)

    planes = list(Ice(1.0, 0.0).planes(np.random.default_rng(1), plane, 20.0, 1))
    drawn = sum(image for _, image in planes)
    level = sum(index * image.astype(float) for index, image in planes)
    np.testing.assert_allclose(level, drawn * plane / 20.0, atol=1e-4)
    assert drawn.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("hand", [None, 1])
def test_signal_of_ice_is_relative_to_the_counting_noise(hand):
    imaging = Imaging(
        exposure=3.0,
        ice_thickness=2000.0,
        ice_signal=(0.0, 2.0),
        ice_b_factor=300.0,
        # A phase plate of 90 degrees in focus shows all low frequencies.
        ctf=(ContrastTransfer(0.0, 0.0, phase_shift=90.0, amplitude_contrast=0.0),) * 2,
        handedness=hand,
    )
    projection = Projection.create([0.0, 0.0])
    series = simulate_tilt_series(
        NOTHING, projection, (512, 512), pixel_size=PIXEL, imaging=imaging, seed=2
    )
    noise, signal = (rings(image.astype(float), 512)[0] for image in series.images)
    frequency = rings(series.images[0], 512)[1]
    used = (frequency > 0.01) & (frequency < 0.09)
    shot = 48 * np.exp(-2000 / 3950)
    np.testing.assert_allclose(noise[used].mean(), shot, rtol=0.05)
    ratio = signal[used] / noise[used] - 1
    expected = 2.0 * np.exp(-300 * frequency[used] ** 2 / 2)
    for found, true in zip(np.array_split(ratio, 3), np.array_split(expected, 3), strict=True):
        assert found.mean() == pytest.approx(true.mean(), rel=0.1)


def test_ice_noise_keeps_its_deviation_when_the_defocus_follows_height():
    angles = np.array([0.0, 45.0])
    imaging = Imaging(
        exposure=1.0,
        counting_noise=False,
        ice_noise=0.02,
        ice_grain=8.0,
        ctf=(ContrastTransfer(0.0, 0.0, phase_shift=90.0, amplitude_contrast=0.0),) * 2,
        handedness=-1,
    )
    series = simulate_tilt_series(
        NOTHING, Projection.create(angles), (300, 300), pixel_size=PIXEL, imaging=imaging
    )
    contrast = series.images.astype(float) / PIXEL**2 - 1
    expected = 0.02 / np.sqrt(np.cos(np.deg2rad(angles)))
    np.testing.assert_allclose(contrast.std(axis=(1, 2)), expected, rtol=0.03)


def test_equal_seeds_give_equal_ice():
    np.testing.assert_array_equal(
        amorphous(1, shape=(64, 64), thickness=900.0), amorphous(1, shape=(64, 64), thickness=900.0)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Imaging(handedness=1), "ctf"),
        (lambda: Imaging(ctf=(CTF,), handedness=2), "handedness"),
        (lambda: Imaging(ice_signal=-0.1), "ice_signal"),
        (lambda: Imaging(ice_signal=(0.1, -0.1)), "ice_signal"),
        (lambda: Imaging(ice_signal=0.1, ice_noise=0.1), "both"),
        (
            lambda: simulate_tilt_series(
                NOTHING,
                Projection.create([0.0]),
                (8, 8),
                pixel_size=4.0,
                imaging=Imaging(ice_signal=(0.1, 0.1)),
            ),
            "ice_signal",
        ),
        (
            lambda: simulate_movie(
                NOTHING,
                Projection.create([0.0]),
                (64, 64),
                pixel_size=4.0,
                imaging=Imaging(ctf=(CTF,), handedness=1),
            ),
            "movie",
        ),
        (
            lambda: list(
                NOTHING.planes(Projection.create([0.0, 1.0]), (8, 8), pixel_size=4.0, spacing=9.0)
            ),
            "one view",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        change()
