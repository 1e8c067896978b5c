from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.kernels.beads.centre import centre_beads, image_profile
from tomodask.kernels.beads.profile import ball_profile
from tomodask.simulate import Ball, ContrastTransfer, Imaging, Phantom, Shell, simulate_tilt_series

CTF = ContrastTransfer(defocus_u=4e4, defocus_v=4.2e4, amplitude_contrast=0.3)


def view(
    places, diameter, *, contrast=0.6, pixel_size=8.0, ctf=None, seed=0, extra=(), hot=0, n=512
):
    """Return an untilted view of balls at (ball, 2) pixels from its centre."""
    radius = diameter * pixel_size / 2
    balls = [
        Ball((x * pixel_size, y * pixel_size, 0.0), radius, -contrast / (2 * radius))
        for x, y in places
    ]
    imaging = Imaging(exposure=3.0, ctf=() if ctf is None else (ctf,), hot_pixels=hot)
    series = simulate_tilt_series(
        Phantom((*balls, *extra)),
        Projection.create(np.zeros(1), tilt_axis_angle=0.0),
        (n, n),
        pixel_size=pixel_size,
        imaging=imaging,
        seed=seed,
    )
    return series.images[0]


def lattice(spacing, seed, n=512):
    rng = np.random.default_rng(seed)
    line = np.arange(-n / 2 + spacing, n / 2 - spacing, spacing)
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return places + rng.uniform(-0.5, 0.5, places.shape)


def cramer_rao(diameter, contrast, electrons, fine=8):
    """Return the least standard error of a coordinate of a known ball in Poisson noise."""
    size = int(diameter) + 6
    at = (np.arange(size * fine) + 0.5) / fine - size / 2

    def expected(shift):
        squared = (at[None, :] - shift) ** 2 + at[:, None] ** 2
        chord = np.sqrt(np.maximum(1 - squared / (diameter / 2) ** 2, 0)) * contrast
        return electrons * (1 - chord.reshape(size, fine, size, fine).mean(axis=(1, 3)))

    rate = (expected(0.31) - expected(0.29)) / 0.02
    return 1 / np.sqrt(np.sum(rate**2 / expected(0.3)))


@pytest.mark.parametrize(
    ("diameter", "pixel_size"), [(4.0, 25.0), (12.5, 8.0), (25.0, 4.0)], ids=str
)
def test_centres_are_unbiased_and_near_the_bound(diameter, pixel_size):
    errors, expected = [], []
    for seed in range(3):
        places = lattice(3 * diameter, seed)
        image = view(places, diameter, pixel_size=pixel_size, seed=seed)
        start = places + np.random.default_rng(seed).uniform(-0.1, 0.1, places.shape) * diameter
        found = centre_beads(image, start, diameter)
        errors.append(found.position - places)
        expected.append(found.error)
    errors, expected = np.concatenate(errors), np.concatenate(expected)
    spread = errors.std()
    assert np.all(np.abs(errors.mean(axis=0)) < 0.005 + 3.5 * spread / np.sqrt(len(errors)))
    bound = cramer_rao(diameter, 0.6, 3.0 * pixel_size**2)
    assert bound * 0.9 < spread < bound * 1.3
    assert np.sqrt(np.mean(expected**2)) == pytest.approx(spread, rel=0.15)


def test_the_error_is_the_same_at_any_subpixel_place():
    # A centring that favours the middles of pixels has errors that depend on the fraction.
    places = lattice(38, 5)
    errors = np.concatenate(
        [centre_beads(view(places, 12.5, seed=s), places, 12.5).position - places for s in range(6)]
    )[:, 0]
    fraction = np.tile(places[:, 0] + 255.5, 6) % 1
    wave = np.abs(np.mean(errors * np.exp(2j * np.pi * fraction)))
    assert wave < 3 * errors.std() / np.sqrt(len(errors))


def test_fringes_do_not_move_a_centre_and_a_measured_profile_sharpens_it():
    places = lattice(45, 1)
    image = view(places, 12.5, ctf=CTF)
    ball = centre_beads(image, places, 12.5)
    profile = image_profile(image, ball, ball_profile(12.5))
    known = centre_beads(image, places, 12.5, profile=profile)
    for found in (ball, known):
        errors = found.position - places
        assert np.all(np.abs(errors.mean(axis=0)) < 0.005 + 3.5 * errors.std() / len(errors) ** 0.5)
    assert (known.position - places).std() < (ball.position - places).std()
    # The transfer puts a bright fringe around a bead; a ball has none.
    assert ball_profile(12.5).value.min() > -1e-3 > profile.value.min()


def test_a_membrane_across_the_rim_and_hot_pixels_do_not_pull():
    radius = 1500.0
    places = np.array([[np.cos(a), np.sin(a)] for a in np.arange(12) * np.pi / 6]) * (radius / 8)
    # The middle of the membrane lies half a radius outside of each bead's centre.
    membrane = Shell((0.0, 0.0, 0.0), (radius + 45,) * 3, 40.0, -2e-4)
    outward = places / np.linalg.norm(places, axis=1, keepdims=True)
    pull = [
        centre_beads(
            view(places, 12.5, extra=(membrane,), hot=100, seed=seed), places, 12.5
        ).position
        - places
        for seed in range(6)
    ]
    assert np.median(np.sum(np.array(pull) * outward, axis=-1)) < 0.08


def test_overlapping_beads_are_fitted_together():
    middles = lattice(60, 2)
    angle = np.random.default_rng(2).uniform(0, 2 * np.pi, len(middles))
    half = 0.4 * 12.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    places = np.concatenate([middles + half, middles - half])
    found = centre_beads(view(places, 12.5, contrast=0.45), places, 12.5)
    along = np.sum((found.position - places)[: len(middles)] * half, axis=1) / (0.4 * 12.5)
    assert np.abs(np.mean(along)) < 0.05
    assert np.std(found.position - places) < 0.15


def test_a_bead_is_found_within_the_search_radius_in_views_and_in_boxes():
    rng = np.random.default_rng(3)
    places = lattice(60, 3)
    image = view(places, 12.5)
    angle = rng.uniform(0, 2 * np.pi, len(places))
    off = places + 9 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = centre_beads(image, off, 12.5, search_radius=12)
    assert np.all(np.hypot(*(found.position - places).T) < 0.4)

    column, row = np.rint(places[7] + 255.5).astype(int)
    box = image[row - 25 : row + 24, column - 20 : column + 25]
    middle = np.array([column - 20 + 22, row - 25 + 24]) - 255.5
    inside = centre_beads(box, [places[7] - middle], 12.5)
    whole = centre_beads(image, [places[7]], 12.5)
    np.testing.assert_allclose(inside.position + middle, whole.position, atol=1e-6)


def test_noise_has_no_confident_centre():
    image = np.random.default_rng(4).poisson(100, (512, 512)).astype(np.float32)
    found = centre_beads(image, lattice(50, 4), 12.5, search_radius=6)
    beads = centre_beads(view(lattice(50, 4), 12.5), lattice(50, 4), 12.5)
    assert np.nanmin(found.error) > 3 * beads.error.max()


def test_places_must_be_finite():
    with pytest.raises(ParameterError, match="not finite"):
        centre_beads(np.ones((64, 64)), [[np.nan, 0.0]], 8.0)
    with pytest.raises(ParameterError, match="bead diameter"):
        centre_beads(np.ones((64, 64)), [[0.0, 0.0]], 0.5)
