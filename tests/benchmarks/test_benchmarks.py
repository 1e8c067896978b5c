"""The benchmarks run, and their programs do the same work. Nothing here asserts a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("astra", reason="a peer of the benchmarks is not installed")
pytest.importorskip("skimage", reason="a peer of the benchmarks is not installed")

from benchmarks import kernel, measure, memory, overhead, peak, scaling, wbp
from benchmarks.inputs import noise_series, temporary_folder, tilts
from benchmarks.peers import AstraSlice, gather_loop, scikit_image_slice
from tomodask.engine.memory import parse_bytes
from tomodask.errors import SpaceError
from tomodask.kernels.backproject import PAD_ROWS, backproject, pad_projections

if TYPE_CHECKING:
    from pathlib import Path

Program = Callable[[np.ndarray], np.ndarray]
WIDTH, HEIGHTS, ANGLES = 96, 40, tilts(9)


def sinogram() -> np.ndarray:
    """(tilt, u) of two Gaussians, off the axis and away from the edges."""
    u = np.arange(WIDTH) - (WIDTH - 1) / 2
    rows = np.zeros((len(ANGLES), WIDTH))
    for x, z, height in ((15.0, 8.0, 1.0), (-20.0, -5.0, 0.6)):
        t = np.deg2rad(ANGLES)[:, None]
        rows += height * np.exp(-((u - x * np.cos(t) - z * np.sin(t)) ** 2) / (2 * 3.0**2))
    return rows.astype(np.float32)


def back_projected(rows: np.ndarray) -> np.ndarray:
    """(z, x) by definition, in float64."""
    x = np.arange(WIDTH) - (WIDTH - 1) / 2
    z = np.arange(HEIGHTS) - (HEIGHTS - 1) / 2
    out = np.zeros((HEIGHTS, WIDTH))
    for row, angle in zip(rows, np.deg2rad(ANGLES), strict=True):
        u = x[None, :] * np.cos(angle) + z[:, None] * np.sin(angle)
        out += np.interp(u, x, row, left=0, right=0)
    return out


def ours(rows: np.ndarray) -> np.ndarray:
    projections = pad_projections(len(ANGLES), WIDTH, 16)
    projections[:, PAD_ROWS[0] : PAD_ROWS[0] + WIDTH] = rows[:, :, None]
    blocks = backproject(
        projections,
        np.cos(np.deg2rad(ANGLES)),
        np.sin(np.deg2rad(ANGLES)),
        origin=(WIDTH - 1) / 2,
        x=(-(WIDTH - 1) / 2, WIDTH),
        z=(-(HEIGHTS - 1) / 2, HEIGHTS),
    )
    return blocks[:, :, 3].transpose(1, 0, 2).reshape(HEIGHTS, -1)[:, :WIDTH]


def by_gather_loop(rows: np.ndarray) -> np.ndarray:
    out = np.empty((1, HEIGHTS, WIDTH), np.float32)
    cosines, sines = (f(np.deg2rad(ANGLES)).astype(np.float32) for f in (np.cos, np.sin))
    gather_loop(rows[None], cosines, sines, out)
    return out[0]


def by_astra(rows: np.ndarray) -> np.ndarray:
    with AstraSlice(ANGLES, width=WIDTH, heights=HEIGHTS, algorithm="BP") as peer:
        peer.load(np.zeros_like(rows))
        peer.run()
        peer.load(rows)  # a second slice through the same algorithm, as in the benchmark
        peer.run()
        return peer.slice()


def by_scikit_image(rows: np.ndarray) -> np.ndarray:
    low = (WIDTH - HEIGHTS) // 2
    # Its z points down, and its sum has the weight of an integral over angles.
    square = scikit_image_slice(rows, ANGLES)[::-1] * (2 * len(ANGLES) / np.pi)
    return square[low : low + HEIGHTS]


@pytest.mark.parametrize("program", [ours, by_gather_loop])
def test_linear_interpolation_is_what_is_timed(program: Program) -> None:
    np.testing.assert_allclose(program(sinogram()), back_projected(sinogram()), atol=1e-4)


@pytest.mark.parametrize("program", [by_astra, by_scikit_image])
def test_peers_do_the_same_work(program: Program) -> None:
    """Up to their interpolation and half a pixel of their centre."""
    found, truth = program(sinogram()), back_projected(sinogram())
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.995
    assert float((found * truth).sum() / (truth * truth).sum()) == pytest.approx(1, abs=0.01)


def test_least_of_all_runs_is_kept() -> None:
    done: list[str] = []
    cost = measure.best_of(3, lambda: done.append("run"), before=lambda: done.append("before"))
    assert done == ["before", "run"] * 3
    assert cost.cpu >= 0
    assert cost.wall > 0
    assert measure.Cost(cpu=2.0, wall=1.0).rate(4e9) == 2.0


def test_cpu_time_counts_child_processes() -> None:
    code = "import time\nwhile time.process_time() < 0.2: pass"
    cost = measure.cost_of(lambda: subprocess.run([sys.executable, "-c", code], check=True))
    assert cost.cpu >= 0.2


def test_temporary_folder_does_not_stay_and_wants_room(tmp_path: Path) -> None:
    with temporary_folder(1, tmp_path) as folder:
        (folder / "file").write_text("x")
    with pytest.raises(SpaceError), temporary_folder(10**18, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_kernel() -> None:
    size = kernel.SIZES["tiny"]
    rates = kernel.measure(size)
    assert set(rates) == {
        "tomodask 2x",
        "tomodask 1x",
        "tomodask in L1",
        "gather loop",
        "ASTRA",
        "scikit-image",
    }
    slice_updates = size.views * size.width * size.heights
    assert rates["tomodask 2x"].updates == slice_updates * size.rows
    assert rates["ASTRA"].updates == slice_updates * size.peer_rows
    assert rates["scikit-image"].updates == size.views * size.width**2
    assert all(rate.giga > 0 for rate in rates.values())
    assert peak.multiply_adds(count=1000, repeats=1) > 0


def test_wbp(tmp_path: Path) -> None:
    size = wbp.SIZES["tiny"]
    for axis in (0.0, -85.0):
        timing = wbp.measure(size, tmp_path / str(axis), axis)
        assert set(timing.stages) == {"align views", "back-project"}
        assert 0 < sum(timing.stages.values()) < timing.whole.cpu
    alone, whole = wbp.measure_astra(size, tmp_path / "0.0")
    assert 0 < alone.cpu < whole.cpu
    assert set(wbp.kernels_alone(size)) == {"filter", "back-project"}
    assert [path.name for path in (tmp_path / "0.0").iterdir()] == ["series.zarr"]
    assert not (tmp_path / "0.0" / "series.zarr" / "tomograms").exists()


def test_scaling(tmp_path: Path) -> None:
    size = scaling.SIZES["tiny"]
    costs = scaling.measure(size, tmp_path)
    assert list(costs) == [("threads", 1), ("threads", 2)]
    assert all(cost.wall > 0 for cost in costs.values())


def test_an_empty_task_costs_little_but_something(tmp_path: Path) -> None:
    cost = overhead.per_task(200, tmp_path)
    assert cost.cpu > 0
    done = tmp_path / "threads-200" / ".ledger"
    assert (done / "COMPLETE").exists()


def test_memory_is_seen_from_outside() -> None:
    """A child that holds 200 MB for half a second, in a grandchild of the test."""
    child = "import time; x = bytearray(b'x') * 200_000_000; time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    observed, cost = memory.observe([sys.executable, "-c", code])
    assert 200_000_000 < observed.sampled < 300_000_000
    assert observed.high_water > 0.99 * observed.sampled  # Linux counts pages in batches
    assert cost.wall > 0.5
    with pytest.raises(subprocess.CalledProcessError):
        memory.observe([sys.executable, "-c", "raise SystemExit(3)"])


def test_memory_of_a_reconstruction(tmp_path: Path) -> None:
    size = memory.SIZES["tiny"]
    shape = (size.views, size.edge, size.edge)
    store = noise_series(tmp_path, shape, tilt_axis=size.tilt_axis)
    planned, scratch = memory.planned_bytes(size, store)
    observed, _ = memory.reconstruct(size, store)
    assert scratch >= 4 * size.views * size.edge**2
    assert observed.high_water < parse_bytes(size.memory_limit)
    assert planned < parse_bytes(size.memory_limit)
    stored = sum(path.stat().st_size for path in (store / "tomograms").rglob("*/c/*/*/*"))
    assert observed.bytes_written >= scratch + stored > scratch


@pytest.mark.parametrize("module", [kernel, wbp, scaling, memory])
def test_reports_and_leaves_nothing(module: Any, tmp_path: Path) -> None:
    text = module.report(module.SIZES["tiny"], tmp_path)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 3
    assert len({line.count("|") for line in tables if "tomodask" in line}) <= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_overhead_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", "--size", "tiny", "--folder", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "cores" in done.stdout
    assert "An empty task" in done.stdout
    assert list(tmp_path.iterdir()) == []
