"""A specimen that moves by itself: beads where they are, as sharp as those of a rigid one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

from tests.graph.sample import bead_errors, tree_of
from tomodask.errors import TomodaskWarning
from tomodask.geometry import LocalField, Projection
from tomodask.graph.align_stack import align_stack
from tomodask.graph.reconstruct import plan_of, reconstruct
from tomodask.kernels.shear import REACH
from tomodask.storing import store

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

PIXEL = 8.0
TILTS = np.arange(-60, 61, 4.0)
VIEWS = len(TILTS)

GEOMETRIES = {
    "axis 85, drift": {
        "tilt_axis_angle": 85.0,
        "shift": np.random.default_rng(0).normal(0, 40, (VIEWS, 2)),
    },
    "axis 12, x-tilt": {"tilt_axis_angle": 12.0, "x_tilt": 4.0},
    "x-tilt per view, z factors": {
        "x_tilt": -3 + np.linspace(-0.5, 0.5, VIEWS),
        "z_factor": np.stack([np.linspace(-0.01, 0.01, VIEWS), np.linspace(0.01, 0, VIEWS)], 1),
        "magnification": 1.01,
        "stretch": 0.003,
        "skew": -0.002,
    },
}


def field_over(size: int, *, views: int = VIEWS, pixels: float = 3.0, tilt: float = 0.01):
    """A smooth field that grows during the series: of so many pixels, with local tilts."""
    half = size / 2 * PIXEL
    y, x = np.linspace(-half, half, 6), np.linspace(-half, half, 7)
    v, u = np.meshgrid(y / half, x / half, indexing="ij")
    patterns = np.stack(
        [
            np.sin(1.5 * u + 0.9) * np.cos(1.2 * v) - 0.4 * u * v,
            0.7 * (u**2 - v**2) + 0.5 * np.sin(2 * v) + 0.2,
        ],
        axis=-1,
    )
    grown = np.linspace(-0.4, 1, views)[:, None, None, None]
    wobble = np.cos(np.arange(views))[:, None, None, None]
    return LocalField.create(
        y, x, pixels * PIXEL * grown * patterns, tilt * (0.5 * grown + 0.5 * wobble) * patterns
    )


def scattered(size: int, height: float) -> np.ndarray:
    """(bead, 3) places, each at a y of its own: no bead lies in the streaks of another."""
    count, rng = 13, np.random.default_rng(4)
    y = np.linspace(-0.34, 0.34, count) * size
    x = rng.permutation(np.linspace(-0.26, 0.26, count)) * size
    z = np.resize(np.array([1, -1, 0.5, -1, 0, 1, -0.5]) * height, count)
    return np.stack([x, y, z + rng.uniform(-3, 3, count)], axis=1) * PIXEL


def images_of(points: np.ndarray, projection: Projection, size: int) -> np.ndarray:
    """Projections of dark Gaussians, each where the local field takes its centre."""
    sigma, reach = 2.0, 12
    places = projection.project(points) / PIXEL + (size - 1) / 2
    linear = projection.image_matrix() @ projection.view_matrix()[:, :2]
    images = np.zeros((len(projection), size, size), np.float32)
    for view, image in enumerate(images):
        covariance = sigma**2 * linear[view] @ linear[view].T + np.eye(2) / 12
        inverse = np.linalg.inv(covariance)
        for place in places[view]:
            low = np.maximum(np.round(place).astype(int) - reach, 0)
            part = image[low[1] : low[1] + 2 * reach + 1, low[0] : low[0] + 2 * reach + 1]
            y, x = np.indices(part.shape)
            from_it = np.stack([x + low[0] - place[0], y + low[1] - place[1]])
            square = np.einsum("iyx,ij,jyx->yx", from_it, inverse, from_it)
            part -= np.exp(-square / 2) * sigma**3 / np.sqrt(np.linalg.det(covariance))
    return images


def peaks(volume: xr.DataArray, points: np.ndarray) -> np.ndarray:
    """The darkest voxel near each point."""
    first = np.array([float(volume[axis].values[0]) for axis in "zyx"])
    at = np.round((points[:, ::-1] - first) / PIXEL).astype(int)
    return np.array([-volume.values[tuple(slice(n - 2, n + 3) for n in p)].min() for p in at])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_beads_lie_where_they_are(name: str) -> None:
    size, thickness = 352, 224
    rigid = Projection.create(TILTS, **GEOMETRIES[name])
    moving = replace(rigid, local=field_over(size))
    points = scattered(size, 100.0)
    found = {}
    for truth, used in ((rigid, rigid), (moving, moving), (moving, rigid)):
        if truth is not used and name != "axis 85, drift":
            continue
        series = tree_of(images_of(points, truth, size), PIXEL, used)
        volume = reconstruct(series, thickness=thickness).compute()
        key = "without" if truth is not used else "rigid" if truth is rigid else "moving"
        found[key] = bead_errors(volume, points), peaks(volume, points)
    assert np.abs(found["moving"][0]).max() < 0.05
    assert np.abs(found["moving"][0] - found["rigid"][0]).max() < 0.025
    np.testing.assert_allclose(found["moving"][1], found["rigid"][1], rtol=0.015)
    if "without" in found:
        assert np.linalg.norm(found["without"][0], axis=1).max() > 1
        assert (found["without"][1] / found["rigid"][1]).min() < 0.95


def noise(size: tuple[int, int] = (150, 140), views: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(views, *size)).astype(np.float32)


def sheared(local: LocalField | None, **values: object) -> Projection:
    return Projection.create(
        np.linspace(-60, 60, 9), tilt_axis_angle=4.0, local=local, **{"x_tilt": 3.0, **values}
    )


@pytest.mark.parametrize("values", [{}, {"x_tilt": 3 + np.linspace(-1, 1, 9)}])
def test_a_field_of_zeros_changes_nothing(values: dict[str, object]) -> None:
    zeros = LocalField.create([-400.0, 0.0, 400.0], [-500.0, 600.0], np.zeros((9, 3, 2, 2)))
    plain, zero = (
        reconstruct(tree_of(noise(), PIXEL, sheared(local, **values)), thickness=60).compute()
        for local in (None, zeros)
    )
    scale = float(plain.std())
    np.testing.assert_allclose(zero.values, plain.values, atol=1e-5 * scale)


def test_regions_are_parts_of_the_whole() -> None:
    tree = tree_of(noise(), PIXEL, sheared(field_over(150, views=9)))
    whole = reconstruct(tree, thickness=60).compute()
    for ranges in (
        {"x_range": (10, 77), "z_range": (5, 33)},
        {"x_range": (10, 77), "y_range": (31, 130), "z_range": (5, 33)},
    ):
        part = reconstruct(tree, thickness=60, **ranges).compute()
        expected = whole.isel({name[0]: slice(*ends) for name, ends in ranges.items()})
        difference = (part.values - expected.values) / float(whole.std())
        # x positions are computed from another first voxel: float32 rounding of rows. Along y the
        # offsets' nodes lie elsewhere, and all is noise, to the highest frequency.
        assert np.abs(difference).max() < (0.15 if "y_range" in ranges else 2e-3)
        assert difference.std() < 0.01


def test_stored_and_computed_values_are_the_same(tmp_path: Path) -> None:
    tree = tree_of(noise((90, 130)), PIXEL, sheared(field_over(110, views=9)))
    volume = reconstruct(tree, thickness=70)
    folder = store(volume, tmp_path / "v", name="v", progress=None)
    stored = zarr.open_array(folder / "0" / "tomogram")[:]
    np.testing.assert_array_equal(stored, volume.compute().values)
    part = volume.isel(y=slice(60, 70), z=slice(3, 9))
    np.testing.assert_array_equal(part.compute(), stored[3:9, 60:70])


def test_a_rod_has_no_steps() -> None:
    """A rod along y, high above mid-plane, goes through the borders of slabs without a jump."""
    size, thickness, height = 256, 176, 70.0
    projection = Projection.create(TILTS, local=field_over(size))
    y = np.arange(-110, 111, 1.0)
    rod = np.stack([np.full_like(y, 12.0), y, np.full_like(y, height)], axis=1) * PIXEL
    series = tree_of(images_of(rod, projection, size), PIXEL, projection)
    volume = -reconstruct(series, thickness=thickness).compute()
    window = volume.sel(
        x=slice(6 * PIXEL, 18 * PIXEL), z=slice((height - 6) * PIXEL, (height + 6) * PIXEL)
    )
    window = window.isel(y=slice(40, 216)).clip(min=0)
    for axis in ("x", "z"):
        other = "z" if axis == "x" else "x"
        centre = ((window * window[axis]).sum((axis, other)) / window.sum((axis, other))) / PIXEL
        assert np.abs(np.diff(centre.values)).max() < 0.02
        assert np.abs(centre.values - (12.0 if axis == "x" else height)).max() < 0.06


def test_lanes_reach_as_far_as_the_field() -> None:
    for pixels in (1.0, 6.0):
        tree = tree_of(noise(), PIXEL, sheared(field_over(150, views=9, pixels=pixels)))
        plan = plan_of(reconstruct(tree, thickness=200))
        assert plan is not None
        assert plan.local is not None
        field = plan.local.field
        x, y, z = np.random.default_rng(1).uniform(-1, 1, (3, 400)) * [[70], [75], [100]] * PIXEL
        moved, slope = field.at(x, y)
        t = np.deg2rad(np.linspace(-60, 60, 9))[:, None]
        behind = np.array([field.at(x + z * np.tan(a[0]), y)[0][view] for view, a in enumerate(t)])
        off = (moved + z[None, :, None] * slope - behind)[:, :, 1] / PIXEL
        shear = np.tan(np.deg2rad(3.0)) * 100
        assert plan.margin >= np.abs(off).max() + shear + REACH


def test_the_field_is_part_of_the_identity() -> None:
    plans = [
        plan_of(reconstruct(tree_of(noise(), PIXEL, sheared(local)), thickness=20))
        for local in (None, field_over(150, views=9), field_over(150, views=9, pixels=1.0))
    ]
    identities = [plan.identity() for plan in plans if plan is not None]
    assert len({identity["geometry"] for identity in identities}) == 3


def test_aligned_stack_says_that_it_has_no_field() -> None:
    plain = align_stack(tree_of(noise(), PIXEL, sheared(None)))
    with pytest.warns(TomodaskWarning, match="local field.*global alignment alone"):
        stack = align_stack(tree_of(noise(), PIXEL, sheared(field_over(150, views=9))))
    np.testing.assert_array_equal(stack.values, plain.values)
    assert "left out" in str(stack.attrs["provenance"])
    assert "left out" not in str(plain.attrs["provenance"])
