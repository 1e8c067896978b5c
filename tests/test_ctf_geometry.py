"""Heights along the beam over images, against the projection of points."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import GeometryError
from tomodask.geometry import Projection, height_gradient, slab_heights


@pytest.fixture
def projection() -> Projection:
    return Projection.create(
        [-55.0, 3.0, 41.0],
        tilt_axis_angle=[85.0, 84.0, -12.0],
        shift=[[30.0, -8.0], [0.0, 5.0], [100.0, 60.0]],
        magnification=[1.0, 1.01, 0.99],
        stretch=0.004,
        skew=-0.003,
        x_tilt=[0.0, 4.0, -7.0],
        z_factor=[[0.01, 0.02], [0.0, 0.0], [-0.02, 0.01]],
    )


def points(slope: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    plane = np.random.default_rng(3).uniform(-2000, 2000, (7, 2))
    return np.column_stack([plane, plane @ slope])


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.2, -0.1)])
def test_gradient_gives_the_height_of_a_plane(
    projection: Projection, slope: tuple[float, float]
) -> None:
    place = points(slope)
    seen = projection.project(place) - projection.shift[:, None]
    found = np.einsum("tpi,ti->tp", seen, height_gradient(projection, slope))
    np.testing.assert_allclose(found, projection.height(place), atol=1e-8)


def test_slab_coordinates_give_the_height_of_a_voxel(projection: Projection) -> None:
    place = points()
    place[:, 2] = np.random.default_rng(4).uniform(-1500, 1500, len(place))
    model = projection.slab_model()
    raw = projection.project(place) - model.shift[:, None]
    slab = np.einsum("tij,tpj->tpi", np.linalg.inv(model.matrix), raw)
    along = np.concatenate(
        [slab, np.broadcast_to(place[:, 2], (len(projection), len(place)))[..., None]], axis=2
    )
    found = np.einsum("tpi,ti->tp", along, slab_heights(projection))
    np.testing.assert_allclose(found, projection.height(place), atol=1e-8)


def test_an_edge_on_plane_has_no_heights() -> None:
    projection = Projection.create([0.0, 90.0])
    np.testing.assert_array_equal(height_gradient(projection), [[0, 0], [np.nan, np.nan]])
    with pytest.raises(GeometryError, match="edge-on"):
        slab_heights(projection)
