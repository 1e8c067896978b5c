"""The projection model against closed forms and a real solved series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask.errors import GeometryError, ParameterError
from tomodask.geometry import Projection, VolumeGrid, aligned_shape, centred_coordinates
from tomodask.io.imod import (
    compose_transforms,
    read_angles,
    read_fiducial_xyz,
    read_residuals,
    read_transforms,
    read_zfactors,
)

if TYPE_CHECKING:
    from pathlib import Path

POINTS = np.array([[100.0, -40.0, 30.0], [-7.0, 250.0, -90.0], [0.0, 0.0, 0.0]])


def random_projection(seed: int, views: int = 7) -> Projection:
    rng = np.random.default_rng(seed)
    return Projection.create(
        rng.uniform(-70, 70, views),
        tilt_axis_angle=rng.uniform(-180, 180, views),
        shift=rng.normal(0, 300, (views, 2)),
        magnification=rng.uniform(0.9, 1.1, views),
        stretch=rng.uniform(-0.05, 0.05, views),
        skew=rng.uniform(-0.05, 0.05, views),
        x_tilt=rng.uniform(-10, 10, views),
        z_factor=rng.uniform(-0.05, 0.05, (views, 2)),
    )


def test_a_point_moves_as_the_sketch_says() -> None:
    """Signs, by hand: +z moves to +u at positive tilt; the axis turns counter-clockwise from +y."""
    projection = Projection.create([0.0, 30.0, 90.0])
    up = projection.project([[0.0, 0.0, 10.0]])[:, 0]
    np.testing.assert_allclose(up, [[0, 0], [5, 0], [10, 0]], atol=1e-12)
    turned = Projection.create([0.0], tilt_axis_angle=90.0).project([[0.0, 10.0, 0.0]])[0, 0]
    np.testing.assert_allclose(turned, [-10, 0], atol=1e-12)
    pitched = Projection.create([0.0], x_tilt=90.0).project([[0.0, 0.0, 10.0]])[0, 0]
    np.testing.assert_allclose(pitched, [0, -10], atol=1e-12)
    height = Projection.create([30.0]).height([[10.0, 0.0, 0.0], [0.0, 0.0, 10.0]])[0]
    np.testing.assert_allclose(height, [-5, 10 * np.cos(np.pi / 6)], atol=1e-12)


def test_rotations_compose_as_matrices() -> None:
    """Ry(tilt) Rx(pitch), written as three-dimensional rotations, gives (u, v, w)."""
    t, a = np.deg2rad(37.0), np.deg2rad(-8.0)
    about_y = [[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]]
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    found = Projection.create([37.0], x_tilt=-8.0).view_matrix()[0]
    np.testing.assert_allclose(found, np.array(about_y) @ np.array(about_x), atol=1e-14)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_inverse_on_a_specimen_plane(seed: int) -> None:
    projection = random_projection(seed)
    for z in (0.0, -55.0):
        points = np.column_stack([POINTS[:, :2], np.full(3, z)])
        found = projection.unproject(projection.project(points), z)
        np.testing.assert_allclose(found, np.broadcast_to(points, found.shape), atol=1e-7)


@given(seed=st.integers(0, 10**6), pixel=st.floats(0.5, 50))
@settings(max_examples=30, deadline=None)
def test_transforms_round_trip_in_memory(seed: int, pixel: float) -> None:
    projection = random_projection(seed)
    back = Projection.from_transforms(
        projection.to_transforms(pixel),
        pixel,
        projection.tilt_angle,
        x_tilt=projection.x_tilt,
        z_factor=projection.z_factor,
    )
    for name in ("magnification", "stretch", "skew", "shift"):
        np.testing.assert_allclose(
            getattr(back, name), getattr(projection, name), atol=1e-9, rtol=1e-9
        )
    turn = np.deg2rad(back.tilt_axis_angle - projection.tilt_axis_angle)
    np.testing.assert_allclose(np.sin(turn / 2), 0, atol=1e-11)
    np.testing.assert_allclose(back.project(POINTS), projection.project(POINTS), atol=1e-8)


def test_transform_maps_raw_to_aligned() -> None:
    """``aligned = A raw + d`` in pixels, as IMOD applies it."""
    projection = random_projection(3)
    raw = projection.project(POINTS)
    lines = projection.to_transforms(8.0)
    mapped = np.einsum("tij,tpj->tpi", lines[:, :, :2], raw / 8.0) + lines[:, None, :, 2]
    np.testing.assert_allclose(mapped * 8.0, projection.to_aligned(raw), atol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_slab_model_sees_the_same_points(seed: int) -> None:
    """The form that reconstruction uses is the same projection."""
    projection = random_projection(seed)
    model = projection.slab_model()
    x, y, z = POINTS.T
    u = model.cos_x[:, None] * x + model.sin_z[:, None] * z
    v = y - model.shear[:, None] * z
    raw = np.einsum("tij,tpj->tpi", model.matrix, np.stack([u, v], axis=-1)) + model.shift[:, None]
    np.testing.assert_allclose(raw, projection.project(POINTS), atol=1e-8)


def test_moved_origin() -> None:
    projection = random_projection(5)
    moved = projection.moved_origin((10.0, -20.0, 30.0))
    np.testing.assert_allclose(
        moved.project(POINTS), projection.project(POINTS + np.array([10.0, -20.0, 30.0])), atol=1e-9
    )


@pytest.mark.parametrize("axis", ["a", "b"])
def test_solved_series_of_imod(data_dir: Path, axis: str) -> None:
    """Beads of the tutorial series, reprojected, give the residuals that tiltalign printed.

    Its residual is where the model predicts a bead less where it was picked.
    """
    folder = data_dir / "imod_tutorial_bb"

    def path(suffix: str) -> Path:
        return folder / f"BB{axis}{suffix}"

    beads = read_fiducial_xyz(path("fid.xyz"))
    residuals = read_residuals(path(".resid"))
    half = np.array([256.0, 256.0])
    points = np.column_stack([beads.xyz[:, :2] - half, beads.xyz[:, 2]])
    views = residuals.view
    bead = np.repeat(np.arange(len(points)), 61)
    picked = residuals.xy

    def difference(z_factor: object) -> np.ndarray:
        projection = Projection.from_transforms(
            read_transforms(path(".tltxf")), 1.0, read_angles(path(".tlt")), z_factor=z_factor
        )
        predicted = projection.project(points)[views, bead] + half
        return predicted - picked

    found = difference(read_zfactors(path(".zfac")))
    error = np.linalg.norm(found - residuals.residual, axis=1)
    assert np.median(error) < 0.06
    printed = np.linalg.norm(residuals.residual, axis=1).mean()
    assert abs(np.linalg.norm(found, axis=1).mean() - printed) < 0.01
    # The z factors belong to the solution: without them the residuals are others.
    plain = np.linalg.norm(difference((0.0, 0.0)) - residuals.residual, axis=1)
    assert np.median(plain) > 1.2 * np.median(error)


@pytest.mark.parametrize("axis", ["a", "b"])
def test_transforms_of_imod_compose(data_dir: Path, axis: str) -> None:
    folder = data_dir / "imod_tutorial_bb"
    first = read_transforms(folder / f"BB{axis}.prexg")
    second = read_transforms(folder / f"BB{axis}.tltxf")
    printed = read_transforms(folder / f"BB{axis}_fid.xf")
    difference = np.abs(compose_transforms(first, second) - printed)
    assert difference[:, :, :2].max() < 1.1e-6
    assert difference[:, :, 2].max() < 1.1e-3


def test_bad_values_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"view 1.*mirrored"):
        Projection.create([0.0, 1.0], magnification=[1.0, -1.0])
    with pytest.raises(GeometryError, match="tilt angle of view 1"):
        Projection.create([0.0, np.nan])
    with pytest.raises(GeometryError, match="determinant"):
        Projection.from_transforms([[[1.0, 0, 0], [0, -1.0, 0]]], 1.0, [0.0])
    with pytest.raises(GeometryError, match="edge-on"):
        Projection.create([90.0]).unproject([[0.0, 0.0]])
    with pytest.raises(GeometryError, match="shape"):
        Projection.create([0.0, 1.0], shift=np.zeros((3, 2)))


def test_values_are_immutable() -> None:
    projection = Projection.create([0.0, 1.0])
    with pytest.raises(ValueError, match="read-only"):
        projection.shift[0] = 1.0
    assert projection == Projection.create([0.0, 1.0])
    assert projection.digest() != Projection.create([0.0, 1.0], x_tilt=1e-9).digest()


def test_grids() -> None:
    np.testing.assert_allclose(centred_coordinates(4, 2.0), [-3, -1, 1, 3])
    np.testing.assert_allclose(centred_coordinates(3, 2.0), [-2, 0, 2])
    assert aligned_shape((720, 1024), 85.0) == (1024, 720)
    assert aligned_shape((720, 1024), -5.0) == (720, 1024)
    grid = VolumeGrid.centred((4, 5, 6), 2.0)
    part = grid.cropped(slice(1, 3), slice(None), slice(2, 6))
    assert part.shape == (2, 5, 4)
    for axis, values in part.coordinates().items():
        assert set(values) <= set(grid.coordinates()[axis])
    with pytest.raises(ParameterError, match="z range"):
        grid.cropped(slice(0, 9), slice(None), slice(None))
