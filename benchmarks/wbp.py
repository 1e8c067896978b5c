"""Weighted back-projection from disk to disk, and ASTRA's on the same series.

Timed in a warm process: `reconstruct` and `store`, with reading, alignment, filtering,
back-projection, writing and all bookkeeping. An update is one voxel seen by one view.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import tomodask as td
from benchmarks.inputs import noise_series, temporary_folder, tilts
from benchmarks.measure import Cost, best_of, cost_of, least
from benchmarks.peers import AstraSlice
from benchmarks.report import run, table
from tomodask.geometry import Projection
from tomodask.kernels.backproject import PAD_ROWS, backproject, pad_projections
from tomodask.kernels.weighting import (
    OVERSAMPLING,
    RowFilter,
    filter_length,
    filter_rows,
    radial_weights,
)
from tomodask.model import SLAB

if TYPE_CHECKING:
    from pathlib import Path

    from tomodask.engine.events import Event

__all__ = ["Size", "Timing", "kernels_alone", "measure", "measure_astra"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Views, and voxels along x, y and z; ASTRA does `peer_rows` of y."""

    views: int = 41
    width: int = 1024
    rows: int = 720
    heights: int = 200
    peer_rows: int = 720
    repeats: int = 9
    peer_repeats: int = 2

    @property
    def updates(self) -> int:
        return self.views * self.width * self.rows * self.heights


SIZES = {
    "full": Size(),
    "small": Size(width=512, rows=256, heights=100, peer_rows=32, repeats=3),
    "tiny": Size(views=5, width=64, rows=80, heights=16, peer_rows=2, repeats=1, peer_repeats=1),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """What a reconstruction cost, and the CPU seconds of its stages' tasks."""

    whole: Cost
    stages: dict[str, float]

    @property
    def rest(self) -> float:
        """CPU seconds outside the tasks: building the graph, creating the store, the ledger."""
        return self.whole.cpu - sum(self.stages.values())


def measure(size: Size, folder: Path, tilt_axis: float, levels: int | None = 1) -> Timing:
    """Reconstruct a series with one worker.

    Parameters
    ----------
    size
        Of the tomogram.
    folder
        Where the series lies, or is made; the tomogram is removed.
    tilt_axis
        Degrees; near 90, the images lie across.
    levels
        Resolutions to store; all by default of `td.store`, which is None.
    """
    series = td.open(_series(size, folder, tilt_axis))
    tomograms = folder / "series.zarr" / "tomograms"
    timings = []
    stages: dict[str, float] = {}

    def listen(event: Event) -> None:
        if event.receipt is not None:
            seconds = stages.get(event.stage, 0.0) + event.receipt.cpu_seconds
            stages[event.stage] = seconds

    def once() -> None:
        volume = td.reconstruct(series, thickness=size.heights, alignment="none")
        td.store(volume, levels=levels, workers=1, progress=listen)

    once()
    for _ in range(size.repeats):
        shutil.rmtree(tomograms)
        stages.clear()
        whole = cost_of(once)
        timings.append(Timing(whole, dict(stages)))
    shutil.rmtree(tomograms)
    best = min(timings, key=lambda timing: timing.whole.cpu)
    return Timing(least([timing.whole for timing in timings]), best.stages)


def measure_astra(size: Size, folder: Path) -> tuple[Cost, Cost]:
    """Return what ASTRA's FBP costs: the algorithm alone, and from disk to disk.

    It reads the whole stack from the store, and appends slices to a file in the order in which it
    makes them, which is the cheapest way.
    """
    store = _series(size, folder, 0.0)
    alone: list[Cost] = []

    def once() -> None:
        slices = []
        rows = td.open(store)["tilt_series"].to_dataset()["images"][:, : size.peer_rows].values
        with (
            AstraSlice(
                tilts(size.views), width=size.width, heights=size.heights, algorithm="FBP"
            ) as peer,
            (folder / "astra.f4").open("wb") as file,
        ):
            for row in range(size.peer_rows):
                peer.load(rows[:, row])
                slices.append(cost_of(peer.run))
                peer.slice().tofile(file)
        (folder / "astra.f4").unlink()
        alone.append(Cost(sum(cost.cpu for cost in slices), sum(cost.wall for cost in slices)))

    whole = best_of(size.peer_repeats, once)
    return least(alone), whole


def kernels_alone(size: Size) -> dict[str, float]:
    """Return the CPU seconds that filtering and back-projecting take on arrays in memory."""
    angles = tilts(size.views)
    model = Projection.create(angles).slab_model()
    length = filter_length(size.width)
    transfer = radial_weights(
        RowFilter(), angles, length=length, spacing=1.0, thickness=float(size.heights)
    )
    rows = np.random.default_rng(0).normal(size=(size.width, SLAB)).astype(np.float32)
    projections = pad_projections(size.views, OVERSAMPLING * size.width, SLAB)
    data = projections[:, PAD_ROWS[0] : PAD_ROWS[0] + OVERSAMPLING * size.width]
    out = None

    def filtering() -> None:
        for view in range(size.views):
            filter_rows(rows, transfer[view], length, data[view])

    def back_projecting() -> None:
        nonlocal out
        out = backproject(
            projections,
            model.cos_x * OVERSAMPLING,
            model.sin_z * OVERSAMPLING,
            origin=(size.width - 1) / 2 * OVERSAMPLING,
            x=(-(size.width - 1) / 2, size.width),
            z=(-(size.heights - 1) / 2, size.heights),
            out=out,
        )

    slabs = -(-size.rows // SLAB)
    seconds = {}
    for name, function in {"filter": filtering, "back-project": back_projecting}.items():
        function()
        seconds[name] = slabs * best_of(size.repeats, function).cpu
    return seconds


def _series(size: Size, folder: Path, tilt_axis: float) -> Path:
    """Return the series in a folder, and make it where there is none."""
    store = folder / "series.zarr"
    if not store.exists():
        across = abs(tilt_axis) > 45
        shape = (size.width, size.rows) if across else (size.rows, size.width)
        folder.mkdir(exist_ok=True)
        noise_series(folder, (size.views, *shape), tilt_axis=tilt_axis)
    return store


def report(size: Size, folder: Path | None = None) -> str:
    """Return the tables."""
    needed = 4 * (3 * size.views * size.width * size.rows + 3 * size.updates // size.views)
    with temporary_folder(needed, folder) as place:
        plain = measure(size, place / "plain", 0.0)
        across = measure(size, place / "across", -85.0)
        pyramid = measure(size, place / "plain", 0.0, levels=None)
        alone, whole = measure_astra(size, place / "plain")
    kernels = kernels_alone(size)
    ours = plain.whole.rate(size.updates)
    peer_updates = size.updates / size.rows * size.peer_rows
    lines = [
        ("tomodask, tilt axis 0", plain.whole, size.updates, size.repeats),
        ("tomodask, tilt axis -85", across.whole, size.updates, size.repeats),
        ("tomodask, tilt axis 0, with all levels", pyramid.whole, size.updates, size.repeats),
        ("ASTRA FBP, algorithm alone", alone, peer_updates, size.peer_repeats),
        ("ASTRA FBP, disk to disk", whole, peer_updates, size.peer_repeats),
    ]
    rows = [
        (
            name,
            f"{cost.rate(updates):.2f}",
            f"{ours / cost.rate(updates):.1f}",
            f"{cost.cpu:.2f}",
            f"{cost.wall:.2f}",
            repeats,
        )
        for name, cost, updates, repeats in lines
    ]
    title = (
        f"Weighted back-projection, disk to disk, one worker, {size.views} views of {size.width} x "
        f"{size.rows} to {size.heights} thick (ASTRA: {size.peer_rows} slices)"
    )
    headers = (
        "program",
        "G updates/CPU s",
        "tomodask is faster by",
        "CPU s",
        "wall s",
        "best of",
    )
    parts = [
        ("read, align and write scratch", f"{plain.stages['align views']:.2f}"),
        ("filter (kernel alone)", f"{kernels['filter']:.2f}"),
        ("back-project (kernel alone)", f"{kernels['back-project']:.2f}"),
        (
            "read scratch, write tomogram (rest of the slabs' tasks)",
            f"{plain.stages['back-project'] - sum(kernels.values()):.2f}",
        ),
        ("outside tasks", f"{plain.rest:.2f}"),
    ]
    return table(title, headers, rows) + table(
        "Where the CPU time goes, tilt axis 0", ("part", "CPU s"), parts
    )


if __name__ == "__main__":
    run(__doc__, SIZES, report)
