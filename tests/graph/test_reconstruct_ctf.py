"""Tomograms with the contrast transfer undone, against points each seen through its own."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.graph.sample import tree_of, unharmed
from tomodask.errors import (
    DoubleApplicationError,
    ParameterError,
    PlanMismatchError,
    ProductMissingError,
)
from tomodask.geometry import LocalField, Projection
from tomodask.graph import slab_plan
from tomodask.graph.reconstruct import plan_of, reconstruct
from tomodask.importing import import_stack
from tomodask.io.mrc_writer import MrcWriter
from tomodask.io.series import open_series
from tomodask.kernels.ctf import Optics
from tomodask.model import ctf_dataset, layer_depth
from tomodask.storing import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TILTS = np.arange(-40, 41, 8.0)
WAVELENGTH = 0.019687489
METHODS = ("phase-flip", "wiener", "multiply")


def factor_of(method: str, value: np.ndarray) -> np.ndarray:
    if method == "phase-flip":
        return np.where(value < 0, -1.0, 1.0)
    return value / (value**2 + 0.1) if method == "wiener" else value


def seen(
    points: np.ndarray, projection: Projection, shape: tuple[int, int], pixel: float,
    transfer: Callable[[np.ndarray], np.ndarray], *, hand: int = -1, sigma: float = 3.5,
) -> np.ndarray:  # fmt: skip
    """Gaussian points, each through the transfer at its own height: (tilt, y, x) images.

    The defocus is 26000 and 25200 A along 30 and 120 degrees, and 100 A more from view to view.
    """
    height, width = shape
    fy = np.fft.fftfreq(2 * height, pixel)[:, None]
    fx = np.fft.rfftfreq(2 * width, pixel)[None, :]
    squared, twice = fx**2 + fy**2, 2 * (np.arctan2(fy, fx) - np.deg2rad(30.0))
    blob = 2 * np.pi * (sigma / pixel) ** 2 * np.exp(-2 * (np.pi * sigma) ** 2 * squared)
    out = np.empty((len(projection), height, width), np.float32)
    place, level = projection.project(points), projection.height(points)
    for t in range(len(projection)):
        spectrum = np.zeros(blob.shape, complex)
        for (x, y), w in zip(place[t], level[t], strict=True):
            defocus = 25600 + 100 * t + hand * w + 400 * np.cos(twice)
            chi = np.pi * WAVELENGTH * squared * defocus + np.arcsin(0.07)
            chi -= np.pi / 2 * 2.7e7 * WAVELENGTH**3 * squared**2
            at = fx * (x + (width - 1) / 2 * pixel) + fy * (y + (height - 1) / 2 * pixel)
            spectrum += transfer(np.sin(chi)) * np.exp(-2j * np.pi * at)
        image = np.fft.irfft2(blob * spectrum, s=(2 * height, 2 * width))
        out[t] = -image[:height, :width]
    return out


def table_of(
    views: int, *, hand: int = -1, optics: Optics | None = None, **values: Any
) -> xr.Dataset:
    """The CTF of `seen`."""
    steps = 100.0 * np.arange(views)
    table: dict[str, Any] = {
        "defocus_u": 26000 + steps,
        "defocus_v": 25200 + steps,
        "astigmatism_angle": np.full(views, 30.0),
        "phase_shift": np.zeros(views),
        "tilt_angle": np.zeros(views),
        "included": np.ones(views, bool),
    }
    return ctf_dataset(
        optics or Optics(300.0, 2.7, 0.07), method="imported", handedness=hand, **table | values
    )


def around(volume: xr.DataArray, point: np.ndarray, half: float = 40.0) -> np.ndarray:
    """Voxels of a cube around a point."""
    box = {axis: slice(c - half, c + half) for axis, c in zip("xyz", point, strict=True)}
    return volume.sel(box).values


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


#: Apart along y, too: what lies at another height is not in focus, in whichever way it is seen.
POINTS = np.array([[-60, -170, -1400], [20, 0, 0], [50, 170, 1400.0]])
GEOMETRIES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "plain, even": ({}, (220, 560)),
    "axis 85, odd": ({"tilt_axis_angle": 85.0}, (561, 221)),
    "axis -93, magnified": ({"tilt_axis_angle": -93.0, "magnification": 1.02}, (560, 220)),
    "x-tilt": ({"x_tilt": 5.0}, (221, 560)),
    "x-tilt per view": ({"x_tilt": 3 + np.linspace(-0.1, 0.1, len(TILTS))}, (200, 560)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("plain, even", method) for method in METHODS),
        *((name, "wiener") for name in list(GEOMETRIES)[1:]),
    ],
)
def test_points_come_back_at_every_height(name: str, method: str) -> None:
    """Each point as if every view had been corrected by the transfer at its own height."""
    values, shape = GEOMETRIES[name]
    projection = Projection.create(TILTS, **values)
    raw = seen(POINTS, projection, shape, 4.0, lambda c: c)
    ideal = seen(POINTS, projection, shape, 4.0, lambda c: c * factor_of(method, c))
    options: dict[str, Any] = {"thickness": 760}
    middle = shape[1] if name.startswith(("plain", "x")) else shape[0]
    options["x_range"] = (middle // 2 - 50, middle // 2 + 50)
    truth = reconstruct(unharmed(tree_of(ideal, 4.0, projection)), **options, dose_weighting=True)
    truth = truth.compute()
    tree, table = tree_of(raw, 4.0, projection), table_of(len(TILTS))
    options |= {"ctf_table": table, "correction": method}
    errors = {}
    for kind, hand in (("3d", -1), ("3d", 1), ("2d", -1)):
        volume = reconstruct(tree, ctf=kind, handedness=hand, **options).compute()  # type: ignore[arg-type]
        errors[kind, hand] = np.array(
            [error(around(volume, point), around(truth, point)) for point in POINTS]
        )
    surface = np.abs(POINTS[:, 2]) > 1000
    # Where pixels of the images lie on those of the tomogram little else is in the way.
    limit = {"phase-flip": 0.016, "wiener": 0.022, "multiply": 0.008}[method]
    assert errors["3d", -1].max() < (limit if not values else 0.06)
    assert errors["2d", -1][~surface].max() < 0.06
    assert errors["2d", -1][surface].min() > 2 * errors["3d", -1].max()
    assert errors["3d", 1][surface].min() > 1.2 * errors["2d", -1][surface].min()


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_binned_images_are_corrected_at_their_own_frequencies() -> None:
    projection = Projection.create(TILTS, tilt_axis_angle=4.0)
    shape = (440, 1120)
    raw = seen(POINTS, projection, shape, 2.0, lambda c: c, sigma=5.0)
    ideal = seen(POINTS, projection, shape, 2.0, np.abs, sigma=5.0)
    options: dict[str, Any] = {"thickness": 635, "binning": 2.4, "x_range": (190, 276)}
    truth = reconstruct(tree_of(ideal, 2.0, projection), **options).compute()
    tree, table = tree_of(raw, 2.0, projection), table_of(len(TILTS))
    volume = reconstruct(tree, ctf="3d", ctf_table=table, **options).compute()
    errors = [error(around(volume, point), around(truth, point)) for point in POINTS]
    assert max(errors) < 0.06


TRANSPARENT: dict[str, tuple[dict[str, Any], tuple[int, int], float]] = {
    "even": ({}, (60, 72), 1.0),
    "odd": ({"tilt_axis_angle": 3.0}, (61, 71), 1.0),
    "axis 85": ({"tilt_axis_angle": 85.0}, (90, 61), 1.0),
    "x-tilt": ({"x_tilt": 6.0}, (60, 72), 1.0),
    "x-tilt per view": ({"x_tilt": np.linspace(-4, 4, len(TILTS))}, (60, 72), 1.0),
    "binned": ({}, (121, 150), 2.37),
}


@pytest.mark.parametrize("name", TRANSPARENT)
@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_nothing_to_undo_changes_nothing(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transfer of 1 at every frequency and, for pixels this large, every height."""
    monkeypatch.setattr(slab_plan, "FINE", 1.0)  # resampled alike
    values, shape, binning = TRANSPARENT[name]
    projection = Projection.create(TILTS, **values)
    included = np.ones(len(TILTS), bool)
    included[[2, 7]] = False
    tree = tree_of(noise((len(TILTS), *shape)), 60.0, projection, included)
    zero = np.zeros(len(TILTS))
    table = table_of(len(TILTS), optics=Optics(300.0, 0.0, 1.0), defocus_u=zero, defocus_v=zero)
    plain, corrected = (
        reconstruct(tree, thickness=41, binning=binning, **more).compute().values  # type: ignore[arg-type]
        for more in ({}, {"ctf": kind, "ctf_table": table, "correction": "multiply"})
    )
    np.testing.assert_allclose(corrected, plain, atol=1e-4 * np.abs(plain).max())


def test_a_thin_specimen_needs_no_third_dimension() -> None:
    projection = Projection.create([-1.0, 0.0, 1.0])
    points = np.array([[-60.0, 20, 0], [10, -50, 0], [90, 10, 0]])
    tree = tree_of(seen(points, projection, (140, 160), 4.0, lambda c: c), 4.0, projection)
    flat, deep = (
        reconstruct(tree, thickness=4, ctf=kind, ctf_table=table_of(3)).compute().values  # type: ignore[arg-type]
        for kind in ("2d", "3d")
    )
    assert error(deep, flat) < 0.02


@pytest.mark.parametrize("x_tilt", [0.0, 8.0, np.linspace(-12, 20, len(TILTS))])
@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_regions_are_parts_of_the_whole(kind: str, x_tilt: float | np.ndarray) -> None:
    projection = Projection.create(TILTS, tilt_axis_angle=80.0, x_tilt=x_tilt)
    tree = tree_of(noise((len(TILTS), 140, 170)), 3.0, projection)
    options: dict[str, Any] = {"thickness": 200, "ctf": kind, "ctf_table": table_of(len(TILTS))}
    whole = reconstruct(tree, **options).compute()
    ranges = {"x": (20, 87), "y": (31, 130), "z": (45, 133)}
    part = reconstruct(tree, **options, **{f"{a}_range": r for a, r in ranges.items()}).compute()
    expected = whole.isel({axis: slice(*r) for axis, r in ranges.items()})
    # x positions are computed from another first voxel: float32 rounding of rows
    np.testing.assert_allclose(part.values, expected.values, atol=2e-3 * float(whole.std()))


def test_strips_hold_all_that_is_seen() -> None:
    """Where a strip of a plane ends too early a voxel would be composed of zeros."""
    for values in ({}, {"x_tilt": 10.0}, {"x_tilt": np.linspace(-5, 5, len(TILTS))}):
        projection = Projection.create(TILTS, **values)  # type: ignore[arg-type]
        tree = tree_of(np.zeros((len(TILTS), 130, 900), np.float32), 2.0, projection)
        ranges = {"x_range": (300, 560), "z_range": (20, 400)}
        plan = plan_of(
            reconstruct(tree, thickness=500, ctf="3d", ctf_table=table_of(len(TILTS)), **ranges)  # type: ignore[arg-type]
        )
        assert plan is not None
        assert plan.planes is not None
        model = projection.slab_model()
        grid = plan.volume.coordinates()
        z, x = np.meshgrid(grid["z"][::7], grid["x"][::5], indexing="ij")
        for t in range(len(TILTS)):
            planes = plan.planes.levels(t)
            strips = plan.planes.strips[t]
            row = (x * model.cos_x[t] + z * model.sin_z[t] - plan.aligned.first[1]) / 2.0 * 2
            seen_at = (row >= 1) & (row <= 2 * plan.aligned.shape[1] - 2)
            for y in (grid["y"][0], grid["y"][-1]):
                points = np.stack([x, np.full_like(x, y), z], axis=-1)[seen_at]
                w = projection.height(points)[t]
                at = np.clip((w - planes[0]) / (planes[1] - planes[0]), 0, len(planes) - 1.001)
                for k in (at.astype(int), at.astype(int) + 1):
                    # rows are composed for the middle of a few heights
                    taken = np.abs(at - k) < 0.85
                    assert (strips[k, 0] <= row[seen_at])[taken].all()
                    assert (strips[k, 1] > row[seen_at] + 1)[taken].all()
            # and no more than about that
            assert len(planes) < 4 or (np.diff(strips) < 2 * plan.aligned.shape[1]).any()


def test_rows_are_composed_for_their_height() -> None:
    """Where a row lies between the planes is the height of the voxels that it shows."""
    projection = Projection.create(
        TILTS, x_tilt=np.linspace(-12, 20, len(TILTS)), z_factor=(0.02, -0.03), tilt_axis_angle=85
    )
    tree = tree_of(np.zeros((len(TILTS), 300, 130), np.float32), 2.0, projection)
    volume = reconstruct(tree, thickness=401, ctf="3d", ctf_table=table_of(len(TILTS)))
    plan = plan_of(volume)
    assert plan is not None
    assert plan.planes is not None
    model = projection.slab_model()
    for t in range(len(TILTS)):
        groups, levels = plan.planes.groups[t], plan.planes.levels(t)
        for index in (0, len(groups.start) // 2, len(groups.start) - 1):
            step = plan.planes.steps[t]
            z = 2.0 * ((groups.number + index) * step + (step - 1) / 2)
            for x, y in ((-90.0, 40.0), (33.0, -120.0)):
                row = (x * model.cos_x[t] + z * model.sin_z[t] - plan.aligned.first[1]) / 2.0 * 2
                v = y - model.shear[t] * z  # of the lane that shows it
                at = groups.start[index] + groups.per_row * row + groups.per_v * v
                height = projection.height([[x, y, z]])[t, 0]
                expected = (height - levels[0]) / (levels[1] - levels[0])
                assert at == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A series in a store."""
    return imported(noise((len(TILTS), 150, 201), seed=3), tmp_path)


def imported(images: np.ndarray, tmp_path: Path) -> Path:
    stack = tmp_path / "s.mrc"
    with MrcWriter(stack, shape=images.shape, voxel_size=3.0, kind="stack") as writer:
        for image in images:
            writer.write(image)
    tilts = list(TILTS[: len(images)])
    return import_stack(stack, tmp_path / "s.zarr", tilt_angles=tilts, tilt_axis=80.0)


OPTIONS: dict[str, Any] = {
    "thickness": 150,
    "alignment": "none",
    "ctf_table": table_of(len(TILTS)),
    "correction": "wiener",
}


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_stored_and_computed_values_are_the_same(kind: str, stored: Path, tmp_path: Path) -> None:
    volume = reconstruct(open_series(stored), ctf=kind, **OPTIONS)  # type: ignore[arg-type]
    with dask.config.set(scheduler="synchronous"):
        expected = volume.compute().values
    for workers in (1, 3):
        folder = store(volume, tmp_path / f"v{workers}", workers=workers, progress=None)
        found = zarr.open_array(folder / "0" / "tomogram")[:]
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(volume[30:40, 70:80].compute().values, expected[30:40, 70:80])


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_what_was_finished_is_kept(kind: str, stored: Path, tmp_path: Path) -> None:
    volume = reconstruct(open_series(stored), ctf=kind, **OPTIONS)  # type: ignore[arg-type]
    expected = contents_of(store(volume, tmp_path / "whole", name="t", progress=None))
    events: list[str] = []

    def stop_after_some(event: Any) -> None:
        events.append(event.kind)
        if events.count("task") == len(TILTS) + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(volume, tmp_path / "again", name="t", workers=1, progress=stop_after_some)
    again = store(volume, tmp_path / "again", name="t", progress=None)
    assert contents_of(again) == expected
    other = reconstruct(open_series(stored), ctf=kind, **OPTIONS | {"correction": "multiply"})  # type: ignore[arg-type]
    with pytest.raises(PlanMismatchError, match="ctf"):
        store(other, tmp_path / "again", name="t", progress=None)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("c/**/*"))
        if path.is_file() and ".ledger" not in path.parts
    }


@pytest.mark.parametrize(
    ("kind", "shape", "binning"),
    [
        ("2d", (150, 201), 1.0),
        ("3d", (150, 201), 1.0),
        # The raw image is large beside what it becomes.
        ("none", (900, 880), 2.0),
        ("2d", (900, 880), 2.0),
        ("3d", (900, 880), 2.0),
        ("2d", (900, 880), 1.2),
    ],
)
def test_memory_and_scratch_are_as_planned(
    kind: str, shape: tuple[int, int], binning: float, tmp_path: Path
) -> None:
    images = noise((5, *shape), seed=3)
    series = open_series(imported(images, tmp_path))
    options: dict[str, Any] = {"thickness": 150, "alignment": "none", "binning": binning}
    if kind != "none":
        options |= {"ctf": kind, "ctf_table": table_of(len(images)), "correction": "wiener"}
    plan = plan_of(reconstruct(series, **options))
    assert plan is not None
    (stage,) = plan.prepare(tmp_path)
    for task in stage.tasks[:2]:  # compiled, and what is kept is kept
        task.function(*task.arguments)
    peaks = []
    for task in stage.tasks:
        tracemalloc.start()
        task.function(*task.arguments)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 0.3 * stage.task_bytes < max(peaks) <= 1.05 * stage.task_bytes
    assert sum(path.stat().st_size for path in tmp_path.glob("*.f4")) == plan.scratch_bytes
    depth = layer_depth(plan.volume.shape[0])
    tracemalloc.start()
    for _ in plan.stored_layers(0, tmp_path, depth):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * plan.task_bytes(depth) < peak <= 1.05 * plan.task_bytes(depth)


def test_what_was_done_is_recorded() -> None:
    projection = Projection.create(TILTS)
    tree = tree_of(noise((len(TILTS), 64, 70)), 4.0, projection)
    table = table_of(len(TILTS))
    plain = reconstruct(tree, thickness=20)
    volumes = {
        "flip": reconstruct(tree, thickness=20, ctf="3d", ctf_table=table),
        "hand": reconstruct(tree, thickness=20, ctf="3d", ctf_table=table, handedness=1),
        "2d": reconstruct(tree, thickness=20, ctf="2d", ctf_table=table),
        "wiener": reconstruct(
            tree, thickness=20, ctf="3d", ctf_table=table, correction="wiener", snr=3.0
        ),
        "snr": reconstruct(
            tree, thickness=20, ctf="3d", ctf_table=table, correction="wiener", snr=4.0
        ),
    }
    plans = {name: plan_of(volume) for name, volume in {"none": plain, **volumes}.items()}
    identities = [str(plan.identity()) for plan in plans.values() if plan is not None]
    assert len(set(identities)) == 6
    assert "ctf" not in identities[0]
    assert "ctf" not in plain.attrs["provenance"]
    parameters = str(volumes["wiener"].attrs["provenance"])
    for word in ("3d", "wiener", "handedness", "snr"):
        assert word in parameters


@pytest.mark.parametrize("dose_weighting_alone", [True, False])
def test_doses_weigh_views(dose_weighting_alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that has received much more than it can bear adds no fine detail."""
    monkeypatch.setattr(slab_plan, "FINE", 1.0)  # resampled like the view that is not weighted
    projection = Projection.create([-1.0, 1.0])
    tree = tree_of(noise((2, 64, 128)), 2.0, projection)
    series = (
        tree["tilt_series"]
        .to_dataset()
        .assign_coords(dose=("tilt", [0.0, 1000.0]), exposure=("tilt", [0.001, 1.0]))
    )
    series.attrs["voltage"] = 300.0
    tree["tilt_series"] = xr.DataTree(series)
    more: dict[str, Any] = {} if dose_weighting_alone else {"ctf": "3d", "ctf_table": table_of(2)}
    options: dict[str, Any] = {"thickness": 1, **more}
    first, second = (
        reconstruct(tree, dose_weighting=True, view_weights=w, **options).compute().values
        for w in ([1.0, 0.0], [0.0, 1.0])
    )
    alone = reconstruct(tree, view_weights=[1.0, 0.0], **options).compute().values
    assert error(first, alone) < 0.01
    assert second.std() < 0.05 * alone.std()


def test_wrong_calls_are_refused() -> None:
    projection = Projection.create(TILTS)
    images = noise((len(TILTS), 64, 70))
    tree, table = tree_of(images, 4.0, projection), table_of(len(TILTS))
    for values in (
        {"ctf": "4d", "ctf_table": table},
        {"ctf": "2d", "ctf_table": table, "correction": "divide"},
        {"ctf": "2d", "ctf_table": table, "snr": 0.0, "correction": "wiener"},
        {"ctf": "3d", "ctf_table": table, "handedness": 0},
        {"ctf": "3d", "ctf_table": table_of(len(TILTS), hand=0)},
        {"handedness": 1},
        {"ctf_table": table},
        {"dose_weighting": True},
    ):
        with pytest.raises(ParameterError):
            reconstruct(tree, thickness=10, **values)  # type: ignore[arg-type]
    with pytest.raises(ProductMissingError, match="CTF"):
        reconstruct(tree, thickness=10, ctf="3d")
    done = tree_of(images, 4.0, projection)
    series = done["tilt_series"].to_dataset()
    series["images"].attrs["applied"] = ["ctf"]
    done["tilt_series"] = xr.DataTree(series)
    with pytest.raises(DoubleApplicationError):
        reconstruct(done, thickness=10, ctf="2d", ctf_table=table)


def test_a_local_field_goes_with_mid_plane_alone() -> None:
    rng = np.random.default_rng(0)
    knots = np.array([-150.0, 0.0, 150.0])
    moved = LocalField.create(knots, knots, rng.normal(0, 20, (len(TILTS), 3, 3, 2)))
    projection = Projection.create(TILTS, local=moved)
    tree, table = tree_of(noise((len(TILTS), 80, 90)), 4.0, projection), table_of(len(TILTS))
    flat = reconstruct(tree, thickness=60, ctf="2d", ctf_table=table)
    assert np.isfinite(flat.compute().values).all()
    with pytest.raises(ParameterError, match="local field"):
        reconstruct(tree, thickness=60, ctf="3d", ctf_table=table)
