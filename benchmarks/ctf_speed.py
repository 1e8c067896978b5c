"""Power spectra for estimating the contrast transfer: CPU time per megapixel, and where it goes.

The bound is the transform of overlapping tiles, which cannot be left out. Beside it stands the
usual way in NumPy: tiles cut, tapered, transformed and averaged over rings one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from threadpoolctl import threadpool_limits

from benchmarks.measure import Cost, best_of
from benchmarks.report import run, table
from tomodask.kernels.ctf.periodograms import mean_periodogram
from tomodask.kernels.ctf.spectra import Sectors, sectors, tile_spectra
from tomodask.kernels.ctf.tiles import TileGrid
from tomodask.kernels.ctf.transfer import Optics, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Size", "measure", "noise", "usual_spectra"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One square view, taken as one of each pixel size (A)."""

    edge: int = 4096
    pixel_sizes: tuple[float, ...] = (2.0, 1.35, 0.85)
    repeats: int = 5

    @property
    def megapixels(self) -> float:
        """Of the view."""
        return self.edge**2 / 1e6


SIZES = {
    "full": Size(),
    "small": Size(edge=2048, pixel_sizes=(2.0,), repeats=3),
    "tiny": Size(edge=256, pixel_sizes=(8.0,), repeats=1),
}


def noise(size: Size) -> NDArray[np.float32]:
    """Return counts of 3 e/A^2 on pixels of 2 A."""
    counts = np.random.default_rng(0).poisson(12.0, (size.edge, size.edge))
    return counts.astype(np.float32)


def usual_spectra(image: NDArray[np.float32], layout: Sectors) -> NDArray[np.float64]:
    """Return the (tile, ring) power of half overlapping tiles under Hann's taper, in NumPy."""
    tile = layout.tile
    grid = TileGrid((image.shape[0], image.shape[1]), tile)
    taper = np.outer(np.hanning(tile), np.hanning(tile)).astype(np.float32)
    frequency = np.fft.fftfreq(tile, 1 / tile)[:, None], np.arange(tile // 2 + 1)[None, :]
    ring = np.hypot(*frequency).astype(np.intp).ravel()
    members = np.bincount(ring)
    rows = []
    for y in grid.starts(0):
        for x in grid.starts(1):
            part = image[y : y + tile, x : x + tile]
            power = np.abs(np.fft.rfft2((part - part.mean()) * taper)) ** 2
            rows.append(np.bincount(ring, power.ravel()) / members)
    return np.array(rows)


def measure(size: Size) -> dict[str, Cost]:
    """Return what each part costs, by name."""
    image, costs = noise(size), {}

    def time(name: str, function: Callable[[], object]) -> None:
        function()
        costs[name] = best_of(size.repeats, function)

    for pixel_size in size.pixel_sizes:
        layout = sectors(image.shape, pixel_size)
        tiles = len(TileGrid(image.shape, layout.tile))
        what = f"{pixel_size} A, {tiles} tiles of {layout.tile}"
        time(f"transforms alone, {what}", lambda: _transforms(layout, tiles))  # noqa: B023
        time(f"spectra, {what}", lambda: tile_spectra(image, layout))  # noqa: B023
    layout = sectors(image.shape, size.pixel_sizes[0])
    what = f"{size.pixel_sizes[0]} A"
    time(f"the usual way, {what}", lambda: usual_spectra(image, layout))
    grid = TileGrid(image.shape, layout.tile)
    transfer = Transfer(Optics(300.0, 2.7, 0.07), 30000.0, 29000.0, 20.0)
    raised = grid.centres(layout.pixel_size)[:, 0]
    time(
        f"two-dimensional, rescaled, {what}",
        lambda: mean_periodogram(image, grid, layout.pixel_size, transfer, raised),
    )
    return costs


def _transforms(layout: Sectors, tiles: int) -> None:
    """Transform one tile so many times, in memory that is there already."""
    tile = np.zeros((layout.tile, layout.tile), np.float32)
    half = np.empty((layout.tile, layout.tile // 2 + 1), np.complex64)
    for _ in range(tiles):
        for first in range(0, layout.tile, 32):
            half[first : first + 32] = scipy.fft.rfft(tile[first : first + 32], workers=1)
        scipy.fft.fft(half, axis=0, workers=1, overwrite_x=True)


def report(size: Size, _folder: Path | None = None) -> str:
    """Return the table."""
    with threadpool_limits(1):
        costs = measure(size)
    return table(
        f"One view of {size.edge} x {size.edge}, one core, best of {size.repeats}",
        ("part", "CPU s/megapixel", "CPU s", "41 views, CPU s"),
        [
            (name, f"{cost.cpu / size.megapixels:.4f}", f"{cost.cpu:.3f}", f"{41 * cost.cpu:.1f}")
            for name, cost in costs.items()
        ],
    )


if __name__ == "__main__":
    run(__doc__, SIZES, report)
