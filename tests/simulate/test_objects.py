"""Projections and densities against formulas and rays written here, not in the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import null_space
from scipy.spatial.transform import Rotation

from tomodask.errors import ParameterError
from tomodask.geometry import Projection, VolumeGrid
from tomodask.simulate import Ball, Ellipsoid, Gaussian, Phantom, Shell

PIXEL = 8.0
CENTRE = (35.0, -60.0, 42.0)
TURN = (25.0, -40.0, 70.0)
OBJECTS = {
    "gaussian": Gaussian(CENTRE, 33.0, -2.0),
    "ball": Ball(CENTRE, 90.0, -2.0),
    "soft ball": Ball(CENTRE, 90.0, -2.0, edge=50.0),
    "cone": Ball(CENTRE, 60.0, -2.0, edge=120.0),
    "ellipsoid": Ellipsoid(CENTRE, (140.0, 60.0, 90.0), -2.0, TURN),
    "shell": Shell(CENTRE, (150.0, 100.0, 120.0), 35.0, -2.0, TURN),
}
ANGLES = np.array([-63.0, -20.0, 0.0, 35.0, 60.0])
PROJECTIONS = {
    "plain": Projection.create(ANGLES),
    "axis and shift": Projection.create(ANGLES, tilt_axis_angle=85.3, shift=(31.0, -17.0)),
    "x-tilt": Projection.create(ANGLES, tilt_axis_angle=-4.0, x_tilt=7.0),
    "distorted": Projection.create(
        ANGLES, tilt_axis_angle=85.3, magnification=1.08, stretch=0.02, skew=-0.015, x_tilt=3.0
    ),
    "z factors": Projection.create(ANGLES, x_tilt=-5.0, z_factor=(0.03, -0.02)),
}
objects = pytest.mark.parametrize("item", OBJECTS.values(), ids=OBJECTS.keys())
projections = pytest.mark.parametrize("projection", PROJECTIONS.values(), ids=PROJECTIONS.keys())


def expected_density(item, points):
    """Return the density from each object's definition."""
    local = points - np.array(CENTRE)
    distance = np.linalg.norm(local, axis=-1)
    match item:
        case Gaussian():
            return item.amplitude * np.exp(-(distance**2) / (2 * item.sigma**2))
        case Ball(edge=0):
            return item.amplitude * (distance <= item.radius)
        case Ball():
            return item.amplitude * np.interp(
                distance, [item.radius - item.edge / 2, item.radius + item.edge / 2], [1, 0]
            )
    turned = Rotation.from_rotvec(np.deg2rad(item.rotation)).apply(
        local.reshape(-1, 3), inverse=True
    )

    def inside(shorter):
        semi_axes = np.array(item.semi_axes) - shorter
        return (np.sum((turned / semi_axes) ** 2, axis=-1) <= 1).astype(float)

    result = inside(0)
    if isinstance(item, Shell):
        result -= inside(item.thickness)
    return item.amplitude * result.reshape(distance.shape)


def expected_mass(item):
    """Return the integral of the density over the specimen."""
    match item:
        case Gaussian():
            return item.amplitude * (2 * np.pi) ** 1.5 * item.sigma**3
        case Ball():
            low, high = item.radius - item.edge / 2, item.radius + item.edge / 2
            soft = (
                quad(lambda r: 4 * np.pi * r**2 * (high - r) / item.edge, low, high)[0]
                if (item.edge)
                else 0.0
            )
            return item.amplitude * (4 / 3 * np.pi * low**3 + soft)
        case Ellipsoid():
            return item.amplitude * 4 / 3 * np.pi * np.prod(item.semi_axes)
    inner = np.array(item.semi_axes) - item.thickness
    return item.amplitude * 4 / 3 * np.pi * (np.prod(item.semi_axes) - np.prod(inner))


def sight_lines(projection, view):
    """Return the (2, 3) linear map of a view and the unit vector along which it sees."""
    ends = projection.project(np.vstack([np.zeros(3), np.eye(3)]))[view]
    linear = (ends[1:] - ends[0]).T
    return linear, null_space(linear)[:, 0]


@objects
@projections
def test_image_integral_is_mass_times_the_area_scale(item, projection):
    images = Phantom((item,)).project(projection, (77, 80), pixel_size=PIXEL, supersample=5)
    integrals = images.astype(float).sum(axis=(1, 2)) * PIXEL**2
    # An area in the image per area across the sight line, by which a column of matter is seen.
    scale = [
        abs(np.linalg.det(np.vstack([linear, beam])))
        for linear, beam in (sight_lines(projection, view) for view in range(len(projection)))
    ]
    np.testing.assert_allclose(integrals, expected_mass(item) * np.array(scale), rtol=2e-3)


def test_x_tilt_keeps_the_integral_and_magnification_scales_it_by_its_square():
    item = OBJECTS["gaussian"]
    sums = [
        Phantom((item,)).project(projection, (101, 101), pixel_size=PIXEL).sum(axis=(1, 2))
        for projection in (
            Projection.create(ANGLES),
            Projection.create(ANGLES, x_tilt=9.0),
            Projection.create(ANGLES, magnification=1.1),
        )
    ]
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5)
    np.testing.assert_allclose(sums[2], 1.21 * sums[0], rtol=1e-5)


@objects
@projections
def test_pixel_is_the_line_integral_of_the_density(item, projection):
    shape = (61, 64)
    # One sample per pixel: its value is then the line integral at the pixel's centre.
    images = Phantom((item,)).project(projection, shape, pixel_size=PIXEL, supersample=1)
    along = np.linspace(-400, 400, 8001)
    rng = np.random.default_rng(5)
    for view in range(len(projection)):
        linear, beam = sight_lines(projection, view)
        centre = projection.project([CENTRE])[view, 0] / PIXEL + [(64 - 1) / 2, (61 - 1) / 2]
        pixels = np.rint(centre + rng.uniform(-18, 18, (60, 2))).astype(int)
        pixels = pixels[np.all((pixels >= 0) & (pixels < [64, 61]), axis=1)]
        raw = (pixels - [(64 - 1) / 2, (61 - 1) / 2]) * PIXEL - projection.shift[view]
        starts = raw @ np.linalg.pinv(linear).T
        starts += ((np.array(CENTRE) - starts) @ beam)[:, None] * beam
        points = starts[:, None] + along[:, None] * beam
        rays = expected_density(item, points).sum(axis=1) * (along[1] - along[0])
        assert np.ptp(rays) > 50
        np.testing.assert_allclose(images[view, pixels[:, 1], pixels[:, 0]], rays, atol=1.0)


@objects
def test_pixel_is_the_mean_over_its_area(item):
    projection = PROJECTIONS["distorted"]
    coarse = Phantom((item,)).project(projection, (51, 60), pixel_size=PIXEL, supersample=3)
    fine = Phantom((item,)).project(projection, (153, 180), pixel_size=PIXEL / 3, supersample=1)
    means = fine.reshape(len(projection), 51, 3, 60, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse, means, atol=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (65, 65), (64, 81), (65, 80)])
@projections
def test_bead_is_where_the_projection_says(shape, projection):
    bead = Ball((35.0, -60.0, 42.0), 50.0, -0.006)
    images = Phantom((bead,)).project(projection, shape, pixel_size=PIXEL)
    rows, columns = np.indices(shape)
    where = projection.project([bead.centre])[:, 0] / PIXEL
    for image, (x, y) in zip(images, where, strict=True):
        mass = image.sum()
        assert (image * columns).sum() / mass == pytest.approx(x + (shape[1] - 1) / 2, abs=0.02)
        assert (image * rows).sum() / mass == pytest.approx(y + (shape[0] - 1) / 2, abs=0.02)


def test_images_are_y_up_and_heavy_is_dark():
    bead = Ball((0.0, 100.0, 0.0), 40.0, -0.006)
    image = Phantom((bead,)).project(Projection.create([0.0]), (41, 41), pixel_size=PIXEL)[0]
    row, column = np.unravel_index(np.argmin(image), image.shape)
    assert row > 20
    assert column == 20
    assert image.min() == pytest.approx(-0.006 * 80, rel=0.05)


@objects
def test_what_leaves_the_image_is_cut_off_and_nothing_else_changes(item):
    projection = PROJECTIONS["axis and shift"]
    phantom = Phantom((item,))
    whole = phantom.project(projection, (60, 61), pixel_size=PIXEL)
    part = phantom.project(projection, (20, 11), pixel_size=PIXEL)
    np.testing.assert_allclose(part, whole[:, 20:40, 25:36], atol=1e-4)
    away = phantom.project(projection.moved_origin((5e4, 5e4, 0.0)), (20, 11), pixel_size=PIXEL)
    assert not away.any()


def test_objects_add():
    items = tuple(OBJECTS.values())
    projection = PROJECTIONS["x-tilt"]
    together = Phantom(items).project(projection, (60, 60), pixel_size=PIXEL)
    alone = [Phantom((item,)).project(projection, (60, 60), pixel_size=PIXEL) for item in items]
    np.testing.assert_allclose(together, np.sum(alone, axis=0), atol=1e-3)


@objects
def test_value_is_the_density(item):
    points = np.array(CENTRE) + np.random.default_rng(1).uniform(-170, 170, (5000, 3))
    expected = expected_density(item, points)
    assert np.count_nonzero(expected) > 100
    np.testing.assert_allclose(Phantom((item,)).value(points), expected, atol=1e-9)


@objects
def test_voxels_hold_the_mean_density(item):
    grid = VolumeGrid.centred((45, 56, 51), PIXEL)
    phantom = Phantom((item,))
    axes = grid.coordinates()
    z, y, x = np.meshgrid(axes["z"], axes["y"], axes["x"], indexing="ij")
    at_centres = expected_density(item, np.stack([x, y, z], axis=-1))
    points = phantom.density(grid, supersample=1)
    np.testing.assert_allclose(points, at_centres, atol=1e-5)
    means = phantom.density(grid, supersample=3)
    fine = phantom.density(VolumeGrid.centred((135, 168, 153), PIXEL / 3), supersample=1)
    blocks = fine.reshape(45, 3, 56, 3, 51, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(means, blocks, atol=1e-5)
    assert means.sum(dtype=float) * PIXEL**3 == pytest.approx(expected_mass(item), rel=3e-3)


def test_density_of_a_part_of_the_tomogram_is_that_part():
    grid = VolumeGrid.centred((40, 50, 60), PIXEL)
    phantom = Phantom(tuple(OBJECTS.values()))
    whole = phantom.density(grid)
    ranges = (slice(18, 19), slice(10, 30), slice(30, 60))
    np.testing.assert_allclose(phantom.density(grid.cropped(*ranges)), whole[ranges], atol=1e-5)


def test_bead_centres_are_those_of_the_balls():
    phantom = Phantom((Gaussian((0.0, 0.0, 1.0), 5.0, -1.0), Ball((1.0, 2.0, 3.0), 5.0, -1.0)))
    np.testing.assert_array_equal(phantom.bead_centres, [[1.0, 2.0, 3.0]])
    assert Phantom(()).bead_centres.shape == (0, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian(CENTRE, 0.0, 1.0), "sigma"),
        (lambda: Ball(CENTRE, -3.0, 1.0), "radius"),
        (lambda: Ball(CENTRE, 10.0, 1.0, edge=21.0), "edge"),
        (lambda: Ellipsoid(CENTRE, (1.0, 0.0, 1.0), 1.0), "semi-axis"),
        (lambda: Shell(CENTRE, (9.0, 8.0, 7.0), 7.0, 1.0), "thickness"),
        (
            lambda: Phantom(()).project(PROJECTIONS["plain"], (4, 0), pixel_size=1.0),
            "image size",
        ),
        (
            lambda: Phantom(()).project(PROJECTIONS["plain"], (4, 4), pixel_size=0.0),
            "pixel size",
        ),
        (lambda: Phantom(()).density(VolumeGrid.centred((1, 1, 1), 1.0), supersample=0), "super"),
    ],
)
def test_what_makes_no_sense_is_refused(build, message):
    with pytest.raises(ParameterError, match=message):
        build()
