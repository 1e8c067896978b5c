"""Memory, disk traffic and time of motion correction within the memory it is given.

All movies are one file under as many names. The command line runs in a process of its own, which
is watched from outside.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

import tomodask as td
from benchmarks.inputs import temporary_folder, tilts
from benchmarks.memory import observe
from benchmarks.report import run, table
from tomodask.engine.memory import PROCESS_BYTES, format_bytes, parse_bytes, worker_bytes
from tomodask.engine.workers import Resources
from tomodask.graph.correct_frames import FrameCorrection, correction_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measure import Cost
    from benchmarks.memory import Observed

__all__ = ["MovieSize", "correct", "import_movies", "planned_bytes"]

_PIXEL_SIZE = 1.5
#: Electrons per pixel and frame; the drift (y, x) from frame to frame, pixels: the window goes
#: down the rows of the file, whose first is the top, so that the content goes up.
_COUNTS, _DRIFT = 0.7, (3, -2)


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieSize:
    """Views, frames, edge of the square frames, patches along an edge, and the memory given."""

    views: int = 41
    frames: int = 10
    edge: int = 4096
    patches: int | None = None
    memory_limit: str = "6GiB"

    @property
    def images_bytes(self) -> int:
        """The sums of all frames and of both halves."""
        return 3 * 4 * self.views * self.edge**2


SIZES = {
    "full": MovieSize(),
    "local": MovieSize(patches=5),
    "few": MovieSize(views=5),
    "small": MovieSize(views=4, edge=2048, memory_limit="2GiB"),
    "tiny": MovieSize(views=3, frames=4, edge=256, memory_limit="1GiB"),
}


def write_movie(path: Path, size: MovieSize) -> None:
    """Write one drifting movie of counts, an LZW TIFF as SerialEM leaves it."""
    rng = np.random.default_rng(0)
    margin = size.frames * max(map(abs, _DRIFT))
    structure = gaussian_filter(
        rng.standard_normal((size.edge + 2 * margin,) * 2, dtype=np.float32), 3
    )
    scene = _COUNTS * np.clip(1 + 0.2 * structure / structure.std(), 0, None)
    with tifffile.TiffWriter(path) as tif:
        for frame in range(size.frames):
            y, x = (margin + frame * step for step in _DRIFT)
            counts = rng.poisson(scene[y : y + size.edge, x : x + size.edge]).astype(np.uint8)
            tif.write(
                counts,
                photometric="minisblack",
                compression="lzw",
                rowsperstrip=16,
                metadata=None,
                contiguous=False,
            )


def import_movies(size: MovieSize, folder: Path) -> Path:
    """Import a series whose movies are all the same."""
    original = folder / "movie_000.tif"
    write_movie(original, size)
    sections = []
    for view, angle in enumerate(tilts(size.views)):
        name = f"movie_{view:03d}.tif"
        if view:
            (folder / name).hardlink_to(original)
        sections.append(
            f"[ZValue = {view}]\nTiltAngle = {angle:.3f}\nExposureDose = 3\nSubFramePath = {name}\n"
            f"NumSubFrames = {size.frames}\nDateTime = 20-Nov-26  12:{view:02d}:00\n"
        )
    mdoc = folder / "series.mdoc"
    head = f"PixelSpacing = {_PIXEL_SIZE}\nImageSize = {size.edge} {size.edge}\nVoltage = 300\n"
    mdoc.write_text("\n".join([head, *sections]))
    return td.import_movies(mdoc, folder / "series.zarr", tilt_axis=85.0)


def correct(size: MovieSize, store: Path) -> tuple[Observed, Cost]:
    """Run ``tomodask motion`` on a series and watch it."""
    patches = [] if size.patches is None else ["--patches", f"{size.patches}x{size.patches}"]
    return observe(
        [
            *(sys.executable, "-m", "tomodask", "motion", str(store), "--quiet", *patches),
            *("--memory-limit", size.memory_limit),
        ]
    )


def planned_bytes(size: MovieSize) -> tuple[int, int]:
    """Return the memory that the planner foresees for all tasks at once, and how many these are."""
    patches = None if size.patches is None else (size.patches, size.patches)
    correction = FrameCorrection(pixel_size=_PIXEL_SIZE, patches=patches)
    shape = (size.frames, size.edge, size.edge)
    task = correction_bytes(int(np.prod(shape)), shape, correction)
    at_once = Resources(memory_limit=size.memory_limit).at_once(task, "benchmark") or 0
    return PROCESS_BYTES + at_once * (worker_bytes(task, 1) - PROCESS_BYTES), at_once


def report(size: MovieSize, folder: Path | None = None) -> str:
    """Return the table."""
    with temporary_folder(
        int(1.1 * size.images_bytes) + 2 * size.frames * size.edge**2, folder
    ) as at:
        store = import_movies(size, at)
        planned, at_once = planned_bytes(size)
        observed, cost = correct(size, store)
        movies = size.views * (at / "movie_000.tif").stat().st_size
        found = td.open(store)["motion"].to_dataset()
    drift = np.diff(found["shift_y"].values, axis=1) / _PIXEL_SIZE
    rows: list[tuple[str, str]] = [
        ("memory limit", format_bytes(parse_bytes(size.memory_limit))),
        ("planned", f"{format_bytes(planned)}, {at_once} at once"),
        ("peak, 20 samples/s", format_bytes(observed.sampled)),
        ("peak, as recorded by the kernel", format_bytes(observed.high_water)),
        ("movies / images", f"{format_bytes(movies)} / {format_bytes(size.images_bytes)}"),
        ("read / written",
         f"{format_bytes(observed.bytes_read)} / {format_bytes(observed.bytes_written)}"),
        ("wall s", f"{cost.wall:.0f}"),
        ("CPU s", f"{cost.cpu:.0f}"),
        ("CPU s per movie", f"{cost.cpu / size.views:.1f}"),
        ("drift found, pixels per frame", f"{np.nanmean(drift):.3f} (true {_DRIFT[0]})"),
    ]  # fmt: skip
    local = "whole frames" if size.patches is None else f"{size.patches} x {size.patches} patches"
    title = (
        f"{size.views} movies of {size.frames} frames of {size.edge} x {size.edge}, {local}, "
        "default workers, one run"
    )
    return table(title, ("quantity", "value"), rows)


if __name__ == "__main__":
    run(__doc__, SIZES, report)
