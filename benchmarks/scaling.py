"""Wall time with one worker and with more, on threads and on processes, from disk to disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import tomodask as td
from benchmarks.inputs import noise_series, temporary_folder
from benchmarks.measure import Cost, cost_of, least
from benchmarks.report import run, table

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Size", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Views, voxels along x, y and z, numbers of workers, and runs."""

    views: int = 41
    width: int = 1024
    rows: int = 2048
    heights: int = 200
    workers: tuple[int, ...] = (1, 2)
    schedulers: tuple[str, ...] = ("threads", "processes")
    repeats: int = 5


SIZES = {
    "full": Size(),
    "small": Size(width=512, rows=512, heights=100, repeats=2),
    "tiny": Size(views=5, width=64, rows=128, heights=16, schedulers=("threads",), repeats=1),
}


def measure(size: Size, folder: Path) -> dict[tuple[str, int], Cost]:
    """Return the costs by scheduler and number of workers; the tomograms are removed.

    Numbers of workers take turns, so that what else the machine does meets all alike.
    """
    store = noise_series(folder, (size.views, size.rows, size.width), tilt_axis=0.0)
    series = td.open(store)

    def once(scheduler: str, workers: int) -> None:
        volume = td.reconstruct(series, thickness=size.heights, alignment="none")
        td.store(volume, levels=1, workers=workers, scheduler=scheduler)

    costs: dict[tuple[str, int], list[Cost]] = {}
    for scheduler in size.schedulers:
        for turn in range(size.repeats + 1):
            for workers in size.workers:
                cost = cost_of(partial(once, scheduler, workers))
                shutil.rmtree(store / "tomograms")
                if turn:  # the first loads the code
                    costs.setdefault((scheduler, workers), []).append(cost)
    return {key: least(runs) for key, runs in costs.items()}


def report(size: Size, folder: Path | None = None) -> str:
    """Return the table."""
    needed = 4 * size.rows * size.width * (3 * size.views + size.heights)
    with temporary_folder(needed, folder) as place:
        costs = measure(size, place)
    rows = [
        (
            scheduler,
            workers,
            f"{cost.wall:.2f}",
            f"{costs[scheduler, size.workers[0]].wall / cost.wall:.2f}",
            f"{cost.cpu:.2f}",
        )
        for (scheduler, workers), cost in costs.items()
    ]
    title = (
        f"Disk to disk, {size.views} views of {size.width} x {size.rows} to {size.heights} thick, "
        f"best of {size.repeats}"
    )
    return table(title, ("scheduler", "workers", "wall s", "faster by", "CPU s"), rows)


if __name__ == "__main__":
    run(__doc__, SIZES, report)
