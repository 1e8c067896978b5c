"""The local field against splines of SciPy, and cameras against the projections they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from tomodask.errors import GeometryError
from tomodask.geometry import LocalField, Projection

if TYPE_CHECKING:
    from collections.abc import Callable

ANGLES = np.array([-55.0, -20.0, 0.0, 31.0, 60.0])


def field_of(seed: int, ky: int = 4, kx: int = 5) -> LocalField:
    rng = np.random.default_rng(seed)
    shape = (len(ANGLES), ky, kx, 2)
    return LocalField.create(
        np.linspace(-900, 1000, ky),
        np.linspace(-1500, 1400, kx),
        10 * rng.standard_normal(shape),
        0.01 * rng.standard_normal(shape),
    )


def projection_with(local: LocalField | None) -> Projection:
    rng = np.random.default_rng(5)

    def few(scale: float) -> np.ndarray:
        return scale * rng.standard_normal(len(ANGLES))

    return Projection.create(
        ANGLES,
        tilt_axis_angle=85 + few(0.2),
        shift=rng.uniform(-200, 200, (len(ANGLES), 2)),
        magnification=1 + few(0.01),
        stretch=few(0.003),
        skew=few(0.003),
        x_tilt=few(1.0),
        z_factor=0.003 * rng.standard_normal((len(ANGLES), 2)),
        local=local,
    )


def test_the_field_is_a_natural_spline_along_each_axis_and_constant_beyond() -> None:
    field = field_of(0)
    x, y = np.array([-300.0, 777.0, 5000.0]), np.array([120.0, -640.0, 33.0])
    shift, slope = field.at(x, y)
    for view, point in ((0, 0), (3, 1), (4, 2)):
        for values, found in ((field.shift, shift), (field.slope, slope)):
            rows = CubicSpline(field.knot_y, values[view], bc_type="natural")(y[point])
            inside = np.clip(x[point], field.knot_x[0], field.knot_x[-1])
            expected = CubicSpline(field.knot_x, rows, bc_type="natural")(inside)
            np.testing.assert_allclose(found[view, point], expected, atol=1e-9)


def test_a_grid_of_points_is_the_points_of_a_grid() -> None:
    field = field_of(1)
    y, x = np.array([-100.0, 40.0]), np.array([-900.0, 10.0, 700.0])
    shift, slope = field.on_grid(2, y, x)
    at_y, at_x = np.repeat(y, 3), np.tile(x, 2)
    expected = [values[2].reshape(2, 3, 2) for values in field.at(at_x, at_y)]
    np.testing.assert_allclose(shift, expected[0], atol=1e-9)
    np.testing.assert_allclose(slope, expected[1], atol=1e-12)


@pytest.mark.parametrize("knots", [1, 2, 3])
def test_few_knots_make_a_field_too(knots: int) -> None:
    field = LocalField.create(
        np.arange(knots), [0.0], np.ones((2, knots, 1, 2)), np.zeros((2, knots, 1, 2))
    )
    shift, _ = field.at([3.0, -4.0], [0.5, 9.0])
    np.testing.assert_allclose(shift, 1, atol=1e-12)


def test_the_field_moves_points_in_the_aligned_image() -> None:
    field = field_of(2)
    rigid, moving = projection_with(None), projection_with(field)
    point = np.array([[310.0, -420.0, 260.0]])
    shift, slope = field.at(point[:, 0], point[:, 1])
    moved = shift + 260.0 * slope
    expected = rigid.project(point) + np.einsum("tij,tpj->tpi", rigid.image_matrix(), moved)
    np.testing.assert_allclose(moving.project(point), expected, atol=1e-9)


def test_another_origin_changes_no_image() -> None:
    moving = projection_with(field_of(3))
    points = np.random.default_rng(0).uniform(-800, 800, (20, 3))
    origin = np.array([35.0, -60.0, 140.0])
    moved = moving.moved_origin(origin)
    np.testing.assert_allclose(moved.project(points - origin), moving.project(points), atol=1e-9)


def test_views_carry_their_own_part_of_the_field() -> None:
    moving = projection_with(field_of(4))
    points = np.random.default_rng(1).uniform(-800, 800, (7, 3))
    part = moving[[4, 1]].project(points)
    np.testing.assert_allclose(part, moving.project(points)[[4, 1]], atol=1e-9)
    assert moving.digest() != projection_with(None).digest()
    assert moving == projection_with(field_of(4))


def test_a_camera_is_one_projection_exactly() -> None:
    true = projection_with(None)
    camera = true.image_matrix() @ true.view_matrix()[:, :2]
    found = Projection.from_cameras(camera, true.shift, true.tilt_angle, x_tilt=true.x_tilt)
    for name in ("tilt_axis_angle", "magnification", "stretch", "skew", "z_factor"):
        np.testing.assert_allclose(getattr(found, name), getattr(true, name), atol=1e-12)


def test_any_tilt_and_x_tilt_hold_a_camera() -> None:
    true = projection_with(None)
    camera = true.image_matrix() @ true.view_matrix()[:, :2]
    other = Projection.from_cameras(camera, true.shift, ANGLES + 3, x_tilt=0.0)
    points = np.random.default_rng(2).uniform(-800, 800, (9, 3))
    np.testing.assert_allclose(other.project(points), true.project(points), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda camera: camera * [[1], [-1]], "mirrors"),
        (lambda camera: camera * [0, 1, 1], "edge-on"),
    ],
)
def test_a_camera_that_is_no_view_is_refused(
    change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    true = projection_with(None)
    camera = true.image_matrix() @ true.view_matrix()[:, :2]
    with pytest.raises(GeometryError, match=message):
        Projection.from_cameras(change(camera), true.shift, ANGLES)


def test_what_is_no_field_is_refused() -> None:
    shift = np.zeros((5, 2, 2, 2))
    with pytest.raises(GeometryError, match="knots"):
        LocalField.create([1.0, 1.0], [0.0, 1.0], shift)
    with pytest.raises(GeometryError, match="shape"):
        LocalField.create([0.0, 1.0, 2.0], [0.0, 1.0], shift)
    with pytest.raises(GeometryError, match="not finite"):
        LocalField.create([0.0, 1.0], [0.0, 1.0], shift + np.nan)
    with pytest.raises(GeometryError, match="5 views, the projection 3"):
        Projection.create([0.0, 1, 2], local=LocalField.create([0, 1], [0, 1], shift))
    with pytest.raises(GeometryError, match="closed form"):
        projection_with(field_of(0)).unproject(np.zeros((1, 2)))
