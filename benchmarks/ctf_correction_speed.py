"""What undoing the contrast transfer adds to a weighted back-projection, from disk to disk.

Timed in a warm process, the three kinds in turn, so that what else the machine does meets them all.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

import tomodask as td
from benchmarks.inputs import noise_series, temporary_folder, tilts
from benchmarks.measure import Cost, cost_of, least
from benchmarks.report import run, table
from tomodask.graph.reconstruct import plan_of
from tomodask.kernels.ctf import Optics
from tomodask.model import ctf_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from tomodask.engine.events import Event

__all__ = ["Size", "Timing", "measure"]

Kind = Literal["none", "2d", "3d"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Views, voxels along x, y and z, and pixel sizes in A; the least of several repeats counts."""

    views: int = 41
    width: int = 1024
    rows: int = 720
    heights: int = 750
    pixel_sizes: tuple[float, ...] = (4.0, 2.0)
    repeats: int = 3


SIZES = {
    "full": Size(),
    "small": Size(width=512, rows=256, heights=300),
    "tiny": Size(views=5, width=64, rows=80, heights=16, pixel_sizes=(4.0,), repeats=1),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """What a reconstruction cost, the CPU seconds of its stages' tasks, and their plan."""

    whole: Cost
    stages: dict[str, float]
    scratch_bytes: int
    task_bytes: int


def measure(size: Size, folder: Path, pixel_size: float) -> dict[Kind, Timing]:
    """Reconstruct a series without correction, with that of mid-plane, and at every height.

    Parameters
    ----------
    size
        Of the tomogram.
    folder
        Where the series lies, or is made; the tomograms are removed.
    pixel_size
        A.
    """
    store = folder / "series.zarr"
    if not store.exists():
        noise_series(folder, (size.views, size.rows, size.width), tilt_axis=0.0)
    series = td.open(store)
    series["tilt_series"].attrs["pixel_size"] = pixel_size
    timings: dict[Kind, list[Timing]] = {kind: [] for kind in get_args(Kind)}
    for repeat in range(size.repeats + 1):
        for kind in get_args(Kind):
            timing = _once(series, size, kind)
            if repeat:  # the first compiles
                timings[kind].append(timing)
            shutil.rmtree(store / "tomograms")
    return {
        kind: Timing(
            least([timing.whole for timing in found]),
            min(found, key=lambda timing: timing.whole.cpu).stages,
            found[0].scratch_bytes,
            found[0].task_bytes,
        )
        for kind, found in timings.items()
    }


def _once(series: xr.DataTree, size: Size, kind: Kind) -> Timing:
    stages: dict[str, float] = {}
    plans: list[Any] = []

    def listen(event: Event) -> None:
        if event.receipt is not None:
            stages[event.stage] = stages.get(event.stage, 0.0) + event.receipt.cpu_seconds

    def reconstruct() -> None:
        volume = td.reconstruct(
            series,
            thickness=size.heights,
            alignment="none",
            ctf=kind,
            ctf_table=None if kind == "none" else _table(size.views),
        )
        plans.append(plan_of(volume))
        td.store(volume, levels=1, workers=1, progress=listen)

    whole = cost_of(reconstruct)
    plan = plans[0]
    return Timing(whole, stages, plan.scratch_bytes, plan.task_bytes(size.heights))


def _table(views: int) -> xr.Dataset:
    """Return a CTF of 3 um and 500 A of astigmatism, somewhat different from view to view."""
    defocus = 30000 + 50.0 * np.arange(views)
    return ctf_dataset(
        Optics(voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.07),
        method="imported",
        handedness=1,
        defocus_u=defocus + 250,
        defocus_v=defocus - 250,
        astigmatism_angle=np.full(views, 20.0),
        phase_shift=np.zeros(views),
        tilt_angle=tilts(views),
        included=np.ones(views, bool),
    )


def report(size: Size, folder: Path | None = None) -> str:
    """Return the tables; temporary files are made in `folder`."""
    voxels = size.width * size.rows * size.heights
    needed = 12 * voxels + 12 * size.views * size.width * size.rows * 4
    tables = []
    for pixel_size in size.pixel_sizes:
        with temporary_folder(needed, folder) as temporary:
            timings = measure(size, temporary, pixel_size)
        plain = timings["none"].whole.cpu
        rows = [
            (
                kind,
                f"{timing.whole.cpu:.2f}",
                f"{timing.whole.cpu / plain:.2f}",
                *(f"{timing.stages[name]:.2f}" for name in ("align views", "back-project")),
                f"{timing.whole.wall:.2f}",
                f"{timing.scratch_bytes / 2**20:.0f}",
            )
            for kind, timing in timings.items()
        ]
        title = (
            f"{size.views} views, {size.width} x {size.rows} x {size.heights} voxels (x, y, z) of "
            f"{pixel_size:g} A, one worker, best of {size.repeats}"
        )
        headers = (
            "CTF",
            "CPU s",
            "times none",
            "align views",
            "back-project",
            "wall s",
            "scratch MiB",
        )
        tables.append(table(title, headers, rows))
    return "".join(tables)


if __name__ == "__main__":
    run(__doc__, SIZES, report)
