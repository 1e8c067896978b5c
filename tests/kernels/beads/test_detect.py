from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import DataError
from tomodask.geometry import Projection
from tomodask.kernels.beads.detect import detect_beads
from tomodask.simulate import (
    Ball,
    ContrastTransfer,
    Ellipsoid,
    Gaussian,
    Imaging,
    Phantom,
    Shell,
    beads_and_vesicles,
    simulate_tilt_series,
)

PIXEL = 8.0
DIAMETER = 12.5
CTF = ContrastTransfer(defocus_u=4e4, defocus_v=4.1e4, amplitude_contrast=0.3)


def recorded(objects, *, seed, n=512, tilt=0.0, exposure=3.0, **imaging):
    """Return a view, and the (ball, 2) pixels of its balls from the centre."""
    series = simulate_tilt_series(
        Phantom(tuple(objects)),
        Projection.create(np.array([tilt]), tilt_axis_angle=90.0),
        (n, n),
        pixel_size=PIXEL,
        imaging=Imaging(exposure=exposure, **imaging),
        seed=seed,
    )
    return series.images[0], series.bead_positions[0] / PIXEL


def ball(x, y, contrast=0.5):
    radius = DIAMETER * PIXEL / 2
    return Ball((x * PIXEL, y * PIXEL, 0.0), radius, -contrast / (2 * radius))


def matched(found, places, near=3.0):
    """Return which places are found, and how many finds are none of them."""
    apart = np.hypot(*(places[:, None] - found.position[None, :]).transpose(2, 0, 1))
    if not apart.size:
        return np.zeros(len(places), bool), len(found)
    return apart.min(axis=1) < near, int(np.sum(apart.min(axis=0) >= near))


@pytest.mark.parametrize("tilt", [0.0, 60.0])
@pytest.mark.parametrize("ctf", [(), (CTF,)], ids=["plain", "defocused"])
def test_all_beads_among_vesicles_and_particles_are_found(tilt, ctf):
    for seed in range(3):
        specimen = beads_and_vesicles(seed, (3800.0, 3800.0, 1500.0), vesicles=2, particles=20)
        image, places = recorded(
            specimen.objects, seed=seed, tilt=tilt, ctf=ctf, ice_thickness=1500.0, ice_noise=0.03
        )
        apart = np.hypot(*(places[:, None] - places[None, :]).transpose(2, 0, 1))
        np.fill_diagonal(apart, np.inf)
        found = detect_beads(image, DIAMETER)
        seen, false = matched(found, places)
        assert seen[apart.min(axis=1) > DIAMETER].all()
        assert false <= 1
        assert np.all(np.diff(found.quality) <= 0)


@pytest.mark.parametrize("ctf", [(), (CTF,)], ids=["plain", "defocused"])
def test_ice_is_not_gold(ctf):
    rng = np.random.default_rng(6)
    objects = [ball(x, y) for x in (-180, -60, 60, 180) for y in (-180, -60, 60, 180)]
    for _ in range(12):
        x, y = rng.uniform(-2000, 2000, 2)
        axes = rng.uniform(100, 400, 3)
        objects.append(Ellipsoid((x, y, 500.0), tuple(axes), -rng.uniform(0.1, 0.4) / axes[2] / 2))
    objects += [
        Gaussian((*rng.uniform(-2000, 2000, 2), 0.0), rng.uniform(15, 40), -1.5e-3)
        for _ in range(40)
    ]
    objects.append(Shell((0.0, 0.0, 0.0), (900.0, 800.0, 900.0), 40.0, -6e-4))
    image, places = recorded(objects, seed=6, ctf=ctf, ice_noise=0.05, hot_pixels=30)
    found = detect_beads(image, DIAMETER)
    seen, false = matched(found, places)
    assert seen.all()
    assert false <= 3
    # What is false ranks behind most beads.
    assert false == 0 or matched(found, places)[0].sum() >= len(places)
    right = np.hypot(*(found.position[:, None] - places[None, :]).transpose(2, 0, 1)).min(1) < 3
    assert found.quality[~right].max(initial=0) < np.median(found.quality[right])


def test_pure_noise_hot_pixels_and_borders_have_hardly_any_bead():
    false = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        image = rng.poisson(50, (512, 512)).astype(np.float32)
        image[rng.integers(0, 512, 30), rng.integers(0, 512, 30)] = 4000
        if seed % 2:
            image[:, :40] = 50
        false += len(detect_beads(image, 12.0))
    assert false <= 10


def test_the_scale_and_the_offset_of_the_image_do_not_matter():
    image, _ = recorded([ball(x, y) for x in (-150, 0, 150) for y in (-150, 0, 150)], seed=1)
    found = detect_beads(image, DIAMETER)
    other = detect_beads(image * 0.01 - 7, DIAMETER)
    assert len(found) == len(other) == 9
    order, other_order = (
        np.lexsort(np.rint(found.position).T),
        np.lexsort(np.rint(other.position).T),
    )
    np.testing.assert_allclose(found.position[order], other.position[other_order], atol=5e-3)


def test_beads_at_the_edge_are_found_where_they_lie():
    objects = [ball(x, y) for x in (-248, 0, 248) for y in (-247, 0, 249)]
    image, places = recorded(objects, seed=2)
    found = detect_beads(image, DIAMETER)
    true = np.array([p[:2] for p in (o.centre for o in objects)]) / PIXEL
    assert len(found) == 9
    turned = places[:, None] - found.position[None, :]
    assert np.hypot(*turned.transpose(2, 0, 1)).min(axis=1).max() < 0.4
    assert true.shape == places.shape


@pytest.mark.parametrize("apart", [0.6, 0.8, 1.0])
def test_two_beads_are_never_one_between_them(apart):
    rng = np.random.default_rng(8)
    objects, middles = [], []
    for k, (x, y) in enumerate((x, y) for x in range(-200, 201, 80) for y in range(-200, 201, 80)):
        turn = rng.uniform(0, np.pi)
        dx, dy = apart * DIAMETER / 2 * np.cos(turn), apart * DIAMETER / 2 * np.sin(turn)
        if k % 3:
            objects.append(ball(x, y, 0.45))
        else:
            objects += [ball(x + dx, y + dy, 0.45), ball(x - dx, y - dy, 0.45)]
            middles.append((x, y))
    image, places = recorded(objects, seed=8)
    found = detect_beads(image, DIAMETER)
    seen, false = matched(found, places, near=1.0)
    assert seen.mean() > 0.95
    assert false <= 2
    assert found.clustered.sum() >= 0.9 * 2 * len(middles)


@pytest.mark.parametrize("diameter", [4.0, 7.0, 40.0])
def test_other_sizes_are_found(diameter):
    pixel = 100 / diameter
    n = 768 if diameter > 20 else 384
    line = np.arange(-n / 2 + 2 * diameter, n / 2 - 2 * diameter, max(3 * diameter, 30))
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    series = simulate_tilt_series(
        Phantom(tuple(Ball((x * pixel, y * pixel, 0.0), 50.0, -0.005) for x, y in places)),
        Projection.create(np.zeros(1), tilt_axis_angle=0.0),
        (n, n),
        pixel_size=pixel,
        imaging=Imaging(exposure=2.0),
    )
    found = detect_beads(series.images[0], diameter)
    seen, false = matched(found, places, near=diameter / 6)
    assert seen.mean() > 0.99
    assert false == 0


def test_images_must_be_usable():
    with pytest.raises(DataError, match="at least two diameters"):
        detect_beads(np.ones((20, 40)), 12.0)
    image = np.ones((64, 64))
    image[3, 4] = np.nan
    with pytest.raises(DataError, match="not finite"):
        detect_beads(image, 12.0)
