"""Reconstruction against exact truth and against an independent program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.graph.sample import bead_errors, scattered_beads, tree_of, volume_grid
from tomodask.errors import (
    DataError,
    DoubleApplicationError,
    ParameterError,
    ProductMissingError,
)
from tomodask.geometry import Projection
from tomodask.graph.align_stack import align_stack
from tomodask.graph.reconstruct import plan_of, reconstruct
from tomodask.kernels.shear import REACH
from tomodask.model import layer_depth
from tomodask.simulate import Gaussian, Phantom, beads_and_vesicles
from tomodask.storing import store

if TYPE_CHECKING:
    from pathlib import Path

TILTS = np.arange(-60, 61, 3.0)
DRIFT = np.random.default_rng(0).normal(0, 60, (41, 2))

GEOMETRIES = {
    "plain, even": ({}, (128, 128), 64, 1.0),
    "odd sizes": ({}, (127, 129), 63, 1.0),
    "axis 85, drift": ({"tilt_axis_angle": 85.3, "shift": DRIFT}, (160, 129), 65, 1.0),
    "axis -85, distorted": (
        {"tilt_axis_angle": -85.3, "magnification": 1.01, "stretch": 0.01, "skew": -0.01},
        (160, 129),
        65,
        1.0,
    ),
    "x-tilt": ({"x_tilt": -7.0, "tilt_axis_angle": 12.0}, (161, 129), 63, 1.0),
    "x-tilt per view": ({"x_tilt": 2 + np.linspace(-1, 1, 41)}, (160, 129), 63, 1.0),
    "z factors": (
        {"z_factor": np.stack([np.linspace(-0.02, 0.02, 41), np.linspace(0.03, -0.01, 41)], 1)},
        (160, 129),
        65,
        1.0,
    ),
    "binned": ({"tilt_axis_angle": -85.0}, (256, 300), 48, 2.0),
    "binned unevenly": ({"tilt_axis_angle": 5.0}, (257, 301), 49, 2.37),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_beads_lie_where_they_are(name: str) -> None:
    values, shape, thickness, binning = GEOMETRIES[name]
    projection = Projection.create(TILTS, **values)
    phantom = scattered_beads(shape, 8.0, 8.0 * binning, thickness, projection)
    images = phantom.project(projection, shape, pixel_size=8.0)
    volume = reconstruct(
        tree_of(images, 8.0, projection), thickness=thickness, binning=binning
    ).compute()
    errors = bead_errors(volume, phantom.bead_centres)
    assert np.median(np.linalg.norm(errors, axis=1)) < 0.06
    assert np.abs(np.median(errors, axis=0)).max() < 0.02


@pytest.mark.parametrize("weighting", ["ramp", "exact"])
def test_density_is_physical(weighting: str) -> None:
    """With tilts all around, a broad object comes back with its own density."""
    tilts = np.arange(-89.25, 90, 1.5)
    projection = Projection.create(tilts)
    phantom = Phantom((Gaussian((0.0, 0.0, 0.0), 60.0, -1.0),))
    images = 1000 + phantom.project(projection, (96, 128), pixel_size=8.0)
    volume = reconstruct(tree_of(images, 8.0, projection), thickness=96, weighting=weighting)
    truth = phantom.density(volume_grid(volume))
    centre = (slice(44, 52), slice(44, 52), slice(60, 68))
    np.testing.assert_allclose(volume.compute().values[centre], truth[centre], rtol=0.05)


def test_regions_are_parts_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    projection = Projection.create(TILTS[::5], x_tilt=3.0)
    tree = tree_of(rng.normal(size=(9, 150, 140)).astype(np.float32), 4.0, projection)
    whole = reconstruct(tree, thickness=40).compute()
    part = reconstruct(
        tree, thickness=40, x_range=(10, 77), y_range=(31, 130), z_range=(5, 33)
    ).compute()
    expected = whole.isel(x=slice(10, 77), y=slice(31, 130), z=slice(5, 33))
    # x positions are computed from another first voxel: float32 rounding of rows
    np.testing.assert_allclose(part.values, expected.values, atol=2e-3 * float(whole.std()))
    for axis in "zyx":
        np.testing.assert_allclose(part[axis], expected[axis])


def test_excluded_views_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(9, 64, 70)).astype(np.float32)
    projection = Projection.create(TILTS[::5])
    included = np.ones(9, bool)
    included[[2, 7]] = False
    spoiled = images.copy()
    spoiled[2], spoiled[7] = np.nan, 1e6
    found = reconstruct(tree_of(spoiled, 4.0, projection, included), thickness=20).compute()
    kept = np.flatnonzero(included)
    expected = reconstruct(tree_of(images[kept], 4.0, projection[kept]), thickness=20).compute()
    np.testing.assert_array_equal(found.values, expected.values)


def test_view_weights_are_linear() -> None:
    rng = np.random.default_rng(2)
    projection = Projection.create(TILTS[::5])
    tree = tree_of(rng.normal(size=(9, 64, 70)).astype(np.float32), 4.0, projection)
    weights = [np.eye(9)[0], np.ones(9) - np.eye(9)[0], np.ones(9)]
    first, rest, both = (
        reconstruct(tree, thickness=20, view_weights=list(w)).compute().values for w in weights
    )
    np.testing.assert_allclose(first + rest, both, atol=1e-5)


def test_graph_is_lazy(no_compute: None) -> None:
    projection = Projection.create(TILTS)
    images = np.zeros((41, 300, 200), np.float32)
    tree = tree_of(images, 4.0, projection)
    volume = reconstruct(tree, thickness=100)
    assert volume.shape == (100, 300, 200)
    assert align_stack(tree, binning=2).shape == (41, 150, 100)


def test_stored_and_computed_values_are_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    projection = Projection.create(TILTS[::4], x_tilt=2.0, tilt_axis_angle=80.0)
    tree = tree_of(rng.normal(size=(11, 90, 201)).astype(np.float32), 4.0, projection)
    volume = reconstruct(tree, thickness=70)
    folder = store(volume, tmp_path / "v", name="v", progress=None)
    stored = zarr.open_array(folder / "0" / "tomogram")[:]
    np.testing.assert_array_equal(stored, volume.compute().values)
    part = volume.isel(y=slice(60, 70), z=slice(3, 9))
    np.testing.assert_array_equal(part.compute(), stored[3:9, 60:70])


def astra_slices(stack: np.ndarray, tilts: np.ndarray, heights: int) -> np.ndarray:
    """(z, y, x) by ASTRA's filtered back-projection, slice by slice."""
    astra = pytest.importorskip("astra")
    views, rows, width = stack.shape
    volume = astra.create_vol_geom(heights, width)
    rays = astra.create_proj_geom("parallel", 1.0, width, np.deg2rad(tilts))
    projector = astra.create_projector("linear", rays, volume)
    out = np.empty((heights, rows, width), np.float32)
    for row in range(rows):
        sinogram = astra.data2d.create("-sino", rays, np.ascontiguousarray(stack[:, row]))
        result = astra.data2d.create("-vol", volume)
        config = astra.astra_dict("FBP")
        config |= {
            "ReconstructionDataId": result,
            "ProjectionDataId": sinogram,
            "ProjectorId": projector,
        }
        algorithm = astra.algorithm.create(config)
        astra.algorithm.run(algorithm)
        out[:, row] = astra.data2d.get(result)[::-1]
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([sinogram, result])
    astra.projector.delete(projector)
    assert views == len(tilts)
    return out


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_truth_is_met_no_worse_than_by_astra(noise: float) -> None:
    phantom = beads_and_vesicles(3, extent=(1100, 700, 500), beads=6, vesicles=2, particles=6)
    projection = Projection.create(TILTS)
    clean = phantom.project(projection, (128, 192), pixel_size=8.0)
    rng = np.random.default_rng(0)
    images = clean + noise * clean.std() * rng.normal(size=clean.shape).astype(np.float32)
    volume = reconstruct(tree_of(images, 8.0, projection), thickness=96).compute()
    truth = phantom.density(volume_grid(volume))
    peer = astra_slices(images - images.mean(axis=(1, 2), keepdims=True), TILTS, 96)
    measured = (slice(12, 84), slice(16, 112), slice(36, 156))
    ours = correlation(volume.values[measured], truth[measured])
    assert ours >= correlation(peer[measured], truth[measured])
    assert ours > (0.75 if noise == 0 else 0.3)


def test_slices_of_the_needle_agree_with_astra(data_dir: Path) -> None:
    """Real pixels: the same aligned stack through ASTRA, same filter."""
    from tomodask.io.imod import read_angles
    from tomodask.io.stack import open_stack, read_section

    folder = data_dir / "stem_needle"
    info = open_stack(folder / "HAADF.mrc")
    images = np.stack([read_section(info, view) for view in range(77)])
    tilts = read_angles(folder / "HAADF.rawtlt")
    tree = tree_of(images, 1.0, Projection.create(tilts, tilt_axis_angle=90.0))
    aligned = align_stack(tree).compute().values
    level = aligned[:, :, :8].mean(axis=(1, 2), keepdims=True)
    volume = reconstruct(tree, thickness=200, radial=(0.5, 0.0)).compute().values
    z, x = np.meshgrid(np.arange(200) - 99.5, np.arange(256) - 127.5, indexing="ij")
    field = np.hypot(z, x) < 95
    for row in (70, 100, 128, 160):
        peer = astra_slices((aligned - level)[:, row : row + 1], tilts, 200)[:, 0]
        assert correlation(volume[:, row][field], peer[field]) > 0.99


def test_aligned_stack_puts_points_on_the_grid() -> None:
    """A point of the specimen lies at (u, v) of the aligned image, odd and even sizes."""
    rng = np.random.default_rng(0)
    for shape in ((120, 150), (121, 149)):
        projection = Projection.create(
            [0.0, 40.0], tilt_axis_angle=85.0, shift=rng.normal(0, 40, (2, 2)), magnification=1.02
        )
        phantom = Phantom((Gaussian((60.0, -80.0, 50.0), 20.0, 1.0),))
        images = phantom.project(projection, shape, pixel_size=8.0)
        stack = align_stack(tree_of(images, 8.0, projection)).compute()
        assert stack.shape == (2, shape[1], shape[0])
        found = [
            [float((stack[t] * stack[axis]).sum() / stack[t].sum()) for axis in "xy"]
            for t in range(2)
        ]
        t = np.deg2rad(40.0)
        expected = [[60.0, -80.0], [60 * np.cos(t) + 50 * np.sin(t), -80.0]]
        np.testing.assert_allclose(found, expected, atol=0.3)


def test_wrong_calls_are_refused() -> None:
    projection = Projection.create(TILTS[::5])
    tree = tree_of(np.zeros((9, 64, 70), np.float32), 4.0, projection)
    for values in (
        {"thickness": 0},
        {"thickness": 2.5},
        {"thickness": 10, "binning": 0.5},
        {"thickness": 10, "binning": 1000},
        {"thickness": 10, "binning": np.nan},
        {"thickness": 10, "x_range": (5, 500)},
        {"thickness": 10, "view_weights": [1.0]},
        {"thickness": 10, "radial": (0.9, 0.1)},
    ):
        with pytest.raises(ParameterError):
            reconstruct(tree, **values)
    with pytest.raises(ProductMissingError, match="there: true"):
        reconstruct(tree, thickness=10, alignment="fiducial")
    with pytest.raises(DataError, match="8 views"):
        reconstruct(
            tree, thickness=10, alignment=tree["alignments/true"].to_dataset().isel(tilt=slice(8))
        )
    one = tree_of(np.zeros((9, 64, 70), np.float32), 4.0, projection, np.eye(9, dtype=bool)[0])
    with pytest.raises(DataError, match="at least two"):
        reconstruct(one, thickness=10)
    aligned = align_stack(tree).to_dataset().assign_coords(section=("tilt", np.arange(9)))
    aligned.attrs["pixel_size"] = 4.0
    again = xr.DataTree.from_dict({"tilt_series": aligned})
    with pytest.raises(DoubleApplicationError):
        reconstruct(again, thickness=10, alignment="none")
    spoiled = tree_of(np.full((9, 64, 70), np.nan, np.float32), 4.0, projection)
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(DataError, match=r"view \d of.*not finite"),
    ):
        reconstruct(spoiled, thickness=10).compute()


def test_lanes_reach_as_far_as_the_shear() -> None:
    """A thick volume at a large x-tilt: the margins hold all that is shifted."""
    projection = Projection.create(TILTS[::5])
    for x_tilt in (-15.0, 15.0):
        tilted = Projection.create(projection.tilt_angle, x_tilt=x_tilt)
        tree = tree_of(np.zeros((9, 70, 64), np.float32), 4.0, tilted)
        plan = plan_of(reconstruct(tree, thickness=1601))
        assert plan is not None
        depth = layer_depth(1601)
        heights = -800 + np.array([0, -(-1601 // depth) * depth - 1])
        reach = np.abs(heights * np.tan(np.deg2rad(x_tilt))).max() + REACH
        assert plan.margin >= reach


def test_excluded_view_need_not_be_finite_to_be_aligned() -> None:
    images = np.random.default_rng(0).normal(size=(9, 64, 70)).astype(np.float32)
    images[3, 5, 5] = np.nan
    images[4] = np.nan
    included = np.ones(9, bool)
    included[3:5] = False
    tree = tree_of(images, 4.0, Projection.create(TILTS[::5]), included)
    assert np.isfinite(align_stack(tree).values).all()
