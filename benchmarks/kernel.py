"""Back-projection alone, on one core: the kernel and its peers on the same work.

An update is one voxel seen by one view. Projections are in memory and unfiltered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.inputs import tilts
from benchmarks.measure import Cost, best_of
from benchmarks.peak import multiply_adds
from benchmarks.peers import AstraSlice, gather_loop, scikit_image_slice
from benchmarks.report import run, table
from tomodask.kernels.backproject import PAD_ROWS, backproject, pad_projections

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Rate", "Size", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Views, and voxels along x, z and y; peers do fewer slices, in repeats of their own."""

    views: int = 41
    width: int = 1024
    heights: int = 200
    rows: int = 64
    peer_rows: int = 4
    repeats: int = 20
    peer_repeats: int = 5


SIZES = {
    "full": Size(),
    "small": Size(width=256, heights=64, peer_rows=2, repeats=5, peer_repeats=2),
    "tiny": Size(views=5, width=64, heights=16, rows=16, peer_rows=1, repeats=1, peer_repeats=1),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """What one program took."""

    name: str
    updates: float
    cost: Cost
    repeats: int

    @property
    def giga(self) -> float:
        """Giga-updates per second of CPU time."""
        return self.cost.rate(self.updates)


def measure(size: Size) -> dict[str, Rate]:
    """Return the rates by short name."""
    angles = tilts(size.views)
    sinograms = (
        np.random.default_rng(0).normal(size=(size.rows, size.views, size.width)).astype(np.float32)
    )
    with threadpool_limits(1):
        return {
            "tomodask 2x": _tomodask(size, sinograms, 2),
            "tomodask 1x": _tomodask(size, sinograms, 1),
            "tomodask in L1": _tomodask(size, sinograms, 2, still=True),
            "gather loop": _gather_loop(size, sinograms, angles),
            "ASTRA": _astra(size, sinograms, angles),
            "scikit-image": _scikit_image(size, sinograms, angles),
        }


def _tomodask(
    size: Size, sinograms: NDArray[np.float32], sampling: int, *, still: bool = False
) -> Rate:
    """Time the kernel; if `still`, every voxel sees the same few rows, in the first-level cache."""
    rows = sampling * size.width
    projections = pad_projections(size.views, rows, size.rows)
    data = projections[:, PAD_ROWS[0] : PAD_ROWS[0] + rows]
    data[...] = np.repeat(sinograms.transpose(1, 2, 0), sampling, axis=1)
    angles, scale = np.deg2rad(tilts(size.views)), 1e-6 if still else sampling
    out = None

    def once() -> None:
        nonlocal out
        out = backproject(
            projections,
            np.cos(angles) * scale,
            np.sin(angles) * scale,
            origin=(rows - 1) / 2,
            x=(-(size.width - 1) / 2, size.width),
            z=(-(size.heights - 1) / 2, size.heights),
            out=out,
        )

    once()
    name = f"tomodask, rows sampled {sampling}x"
    return Rate(
        f"{name}, all data in L1 cache" if still else name,
        size.views * size.width * size.heights * size.rows,
        best_of(size.repeats, once),
        size.repeats,
    )


def _gather_loop(size: Size, sinograms: NDArray[np.float32], angles: NDArray[np.float64]) -> Rate:
    part = sinograms[: size.peer_rows]
    out = np.empty((len(part), size.heights, size.width), np.float32)
    cosines, sines = (f(np.deg2rad(angles)).astype(np.float32) for f in (np.cos, np.sin))

    def once() -> None:
        gather_loop(part, cosines, sines, out)

    once()
    cost = best_of(size.peer_repeats, once)
    return Rate("numba, loop over x", size.views * out.size, cost, size.peer_repeats)


def _astra(size: Size, sinograms: NDArray[np.float32], angles: NDArray[np.float64]) -> Rate:
    with AstraSlice(angles, width=size.width, heights=size.heights, algorithm="BP") as peer:
        peer.load(sinograms[0])

        def once() -> None:
            for _ in range(size.peer_rows):
                peer.run()

        once()
        cost = best_of(size.peer_repeats, once)
    updates = size.views * size.width * size.heights * size.peer_rows
    return Rate("ASTRA, BP, linear", updates, cost, size.peer_repeats)


def _scikit_image(size: Size, sinograms: NDArray[np.float32], angles: NDArray[np.float64]) -> Rate:
    cost = best_of(size.peer_repeats, lambda: scikit_image_slice(sinograms[0], angles))
    return Rate("scikit-image, iradon", size.views * size.width**2, cost, size.peer_repeats)


def report(size: Size, folder: Path | None = None) -> str:
    """Return the table; nothing is written to a folder."""
    del folder
    rates = measure(size)
    ours = rates["tomodask 2x"].giga
    peak = multiply_adds()
    rows = [
        (
            rate.name,
            f"{rate.giga:.2f}",
            f"{ours / rate.giga:.1f}",
            f"{rate.cost.cpu:.3f}",
            f"{rate.cost.wall:.3f}",
            rate.repeats,
        )
        for rate in rates.values()
    ]
    title = (
        f"Back-projection, one core, {size.views} views, {size.width} x {size.heights} (x, z), "
        f"y = {size.rows} ({size.peer_rows} slices for ASTRA and the loop)"
    )
    headers = (
        "program",
        "G updates/CPU s",
        "tomodask 2x is faster by",
        "CPU s",
        "wall s",
        "best of",
    )
    return table(title, headers, rows) + (
        f"\nPeak of this core: {peak:.0f} G multiply-adds/s, of which an update takes 2: tomodask "
        f"2x reaches {2 * ours / peak:.0%} of it, with its data in L1 "
        f"{2 * rates['tomodask in L1'].giga / peak:.0%}."
    )


if __name__ == "__main__":
    run(__doc__, SIZES, report)
