"""Storing lazy volumes: the plan behind a reconstruction runs tile by tile, disk to disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.engine.ledger import Ledger
from tomodask.engine.memory import format_bytes
from tomodask.engine.run import Resources, Stage, Task, run_stages
from tomodask.engine.shards import ShardGrid, ShardWriter, read_region
from tomodask.errors import SpaceError
from tomodask.graph.reconstruct import Reconstruction
from tomodask.io.ome_zarr import (
    OWNED_LEVELS,
    SLAB,
    MultiscaleLayout,
    array_folder,
    create_multiscale,
)
from tomodask.kernels.downsample import halve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener, Receipt

__all__ = ["store_reconstruction"]


def store_reconstruction(
    plan: Reconstruction,
    folder: Path,
    *,
    name: str,
    provenance: Mapping[str, Any],
    resources: Resources,
    levels: int | None = None,
    overwrite: bool = False,
    listen: Listener | None = None,
) -> list[Receipt]:
    """Run a reconstruction into a multiscale group, or finish one that was begun.

    Parameters
    ----------
    plan
        What to compute.
    folder
        The group, made when absent.
    name
        For viewers and events.
    provenance
        Written with the product.
    resources
        Where to run.
    levels
        Number of resolutions; all that viewers need by default.
    overwrite
        Whether a product of another plan is removed first.
    listen
        Told of the progress.

    Returns
    -------
    Receipts of the tasks of this run; none where the product was complete.

    Raises
    ------
    PlanMismatchError
        If the group holds a product of another plan.
    SpaceError
        If the disk cannot hold what is missing.
    """
    layout = MultiscaleLayout.of(plan.volume, levels)
    arrays = [array_folder(folder, level) for level in range(len(layout.levels))]
    ledger = Ledger(arrays[0])
    identity = plan.identity() | {"levels": len(layout.levels)}
    with ledger:
        recorded = ledger.plan()
        if recorded is None or (overwrite and not ledger.matches(identity)):
            ledger.clear(folder)
            _check_space(folder, layout.nbytes + _scratch_bytes(plan))
            create_multiscale(
                folder, name, layout, {"provenance": dict(provenance), "contrast": "as images"}
            )
        ledger.begin(identity)
        if ledger.complete:
            return []
        stages = _stages(plan, layout, arrays, ledger.scratch)
        receipts = run_stages(f"reconstruct {name}", stages, ledger, resources, listen)
        ledger.finish(task.key for stage in stages for task in stage.tasks)
    return receipts


def _scratch_bytes(plan: Reconstruction) -> int:
    return 4 * len(plan.views) * plan.bands.shape[0] * plan.bands.shape[1]


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SpaceError(
            f"{folder} needs {format_bytes(needed)} (tomogram and scratch), the disk has "
            f"{format_bytes(free)} free; free space, bin more, or write to another disk"
        )


def _stages(
    plan: Reconstruction, layout: MultiscaleLayout, arrays: list[Path], scratch: Path
) -> list[Stage]:
    depth = layout.levels[0].grid.chunk[0]
    own = min(OWNED_LEVELS, len(layout.levels))
    slabs = [
        Task(f"slab/{slab}", _write_slab, (plan, layout, arrays, scratch, slab))
        for slab in range(plan.slabs)
    ]
    stages = [
        plan.align_stage(scratch),
        Stage("back-project", slabs, plan.task_bytes(depth) + _pyramid_bytes(layout)),
    ]
    for level in range(own, len(layout.levels)):
        grid = layout.levels[level].grid
        coarser = [
            Task(f"level/{level}/{index}", _write_level, (layout, arrays, level, index))
            for index in range(grid.counts[1])
        ]
        size = 4 * int(np.prod(grid.shard))
        stages.append(Stage(f"level {level}", coarser, size * 10))
    return stages


def _pyramid_bytes(layout: MultiscaleLayout) -> int:
    grid = layout.levels[0].grid
    return 4 * grid.chunk[0] * SLAB * grid.shard[2] // 6


def _write_slab(
    plan: Reconstruction,
    layout: MultiscaleLayout,
    arrays: list[Path],
    scratch: Path,
    slab: int,
) -> tuple[int, int]:
    """Compute one slab and write its shards on all the levels that it owns."""
    own = layout.levels[:OWNED_LEVELS]
    depth = own[0].grid.chunk[0]
    read = plan.band_reader(scratch)
    total = 0
    rows = min(SLAB, plan.volume.shape[1] - slab * SLAB)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(ShardWriter(array, level.grid, (0, slab, 0)))
            for array, level in zip(arrays, own, strict=False)
        ]
        for index, block in enumerate(plan.layers(slab, read, depth)):
            extent = (plan.volume.shape[0] - index * depth, rows, plan.volume.shape[2])
            layer = block
            for number, (writer, level) in enumerate(zip(writers, own, strict=True)):
                if number:
                    layer = _halved(layer, extent, level.grid)
                    extent = (-(-extent[0] // 2), -(-extent[1] // 2), -(-extent[2] // 2))
                for column in range(layer.shape[0]):
                    writer.write((index, 0, column), layer[column])
        total = sum(writer.bytes_written for writer in writers)
        total += sum(16 * int(np.prod(writer.chunks)) + 4 for writer in writers)
    bytes_read = 4 * len(plan.views) * SLAB * plan.aligned.shape[1]
    return bytes_read, total


def _halved(
    block: NDArray[np.float32], extent: tuple[int, int, int], grid: ShardGrid
) -> NDArray[np.float32]:
    out = np.empty((grid.shard[2] // grid.chunk[2], *grid.chunk), np.float32)
    # A layer of chunks may reach beyond the volume along z.
    halve(block, out, (min(extent[0], block.shape[1]), extent[1], extent[2]))
    return out


def _write_level(
    layout: MultiscaleLayout, arrays: list[Path], level: int, index: int
) -> tuple[int, int]:
    """Make one shard of a coarse level from the level before."""
    grid, finer = layout.levels[level].grid, layout.levels[level - 1].grid
    region = grid.region((0, index, 0))
    rows = slice(2 * region[1].start, min(2 * region[1].stop, finer.shape[1]))
    source = read_region(arrays[level - 1], (slice(None), rows, slice(None)))
    whole = np.zeros(grid.shard, np.float32)
    counts = tuple(n // c for n, c in zip(grid.shard, grid.chunk, strict=True))
    halve(source[None], whole[None], source.shape)
    with ShardWriter(arrays[level], grid, (0, index, 0)) as writer:
        for chunk in np.ndindex(*counts):
            part = tuple(
                slice(i * c, (i + 1) * c) for i, c in zip(chunk, grid.chunk, strict=True)
            )
            writer.write(chunk, whole[part])
    return source.nbytes, writer.bytes_written
