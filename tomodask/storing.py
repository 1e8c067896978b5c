"""Storing lazy volumes slab by slab, disk to disk."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr

from tomodask.engine.files import check_space, explained
from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, at_once, run_stages
from tomodask.engine.shards import ShardGrid, ShardWriter, read_region, write_shard
from tomodask.engine.workers import Resources
from tomodask.errors import ParameterError
from tomodask.graph.array_slabs import ArraySlabs
from tomodask.graph.reconstruct import plan_of
from tomodask.graph.slab_plan import SlabPlan
from tomodask.io.ome_zarr import (
    OWNED_LEVELS,
    Level,
    MultiscaleLayout,
    array_folder,
    create_multiscale,
)
from tomodask.io.series import check_name, tomogram_folder
from tomodask.kernels.downsample import halve
from tomodask.model import SLAB, provenance

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener

__all__ = ["store"]


def store(
    volume: xr.DataArray,
    path: str | Path | None = None,
    *,
    name: str = "wbp",
    levels: int | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> Path:
    """Compute a lazy volume into an OME-Zarr multiscale tomogram.

    A reconstruction of a stored series runs from disk to disk in bounded memory; any other lazy
    volume is computed slab by slab. What an interrupted run finished is kept: the same call
    again makes the rest, with the same bits, whatever the workers and the memory.

    Parameters
    ----------
    volume
        (z, y, x) with coordinates in A, e.g. from ``tomodask.reconstruct``.
    path
        Folder of an OME-Zarr group to make; by default the tomogram `name` of the series that
        the volume, or the tomogram that it is made from, is of.
    name
        Name of the tomogram.
    levels
        Number of resolutions; by default until every edge is at most 128 voxels.
    overwrite
        Whether a tomogram of this name, but made otherwise, is replaced.
    workers
        Most tasks at once; all cores by default.
    memory_limit
        For all processes together, e.g. "4GiB"; 60 % of the free memory by default.
    scheduler
        "threads", "processes", the address of a Dask scheduler, or a ``distributed.Client``.
    progress
        Called with every :class:`tomodask.engine.events.Event`.

    Returns
    -------
    pathlib.Path
        Folder of the multiscale group.

    Raises
    ------
    ParameterError
        If the number of levels, workers or the memory makes no sense.
    MemoryLimitError, SpaceError
        Before anything is computed, where memory or disk cannot hold it, with both numbers.
    PlanMismatchError
        If the tomogram exists and was made otherwise.
    LockedError
        If another run is at work on it.
    """
    plan: SlabPlan | ArraySlabs | None = plan_of(volume)
    if not isinstance(plan, SlabPlan) or plan.source.images is None:
        plan = ArraySlabs.of(volume)
    folder = _target(plan, path, check_name(name))
    if isinstance(plan, ArraySlabs) and plan.reads_from(folder):
        raise ParameterError(
            f"this volume is computed from {folder}, which storing it there would destroy; give "
            "another path"
        )
    most = (max(plan.volume.shape) - 1).bit_length() + 1
    if levels is not None and not 1 <= levels <= most:
        raise ParameterError(
            f"{levels} levels: {plan.volume.shape} voxels (z, y, x) can be halved for 1 to {most}"
        )
    layout = MultiscaleLayout.of(plan.volume, levels)
    arrays = [array_folder(folder, level) for level in range(len(layout.levels))]
    identity = plan.identity() | {"levels": len(layout.levels)}
    resources = Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler)
    step = f"store {name}"
    with Ledger(arrays[0], folder) as ledger:
        stages = _stages(plan, layout, arrays, ledger.scratch)
        if ledger.plan() is None or (overwrite and not ledger.matches(identity)):
            # What cannot be made must not cost what there is.
            at_once(step, stages, resources)
            check_space(folder, layout.nbytes + plan.scratch_bytes)
            ledger.clear()
            origin = volume.attrs.get("provenance", provenance("store"))
            with explained(folder):
                if path is None:
                    zarr.open_group(folder.parents[2], mode="a").require_group(f"tomograms/{name}")
                create_multiscale(folder, name, layout, {"provenance": origin})
        ledger.begin(identity)
        if not ledger.complete:
            check_space(folder, layout.nbytes + plan.scratch_bytes)
            run_stages(step, stages, ledger, resources, progress)
            ledger.finish(task.key for stage in stages for task in stage.tasks)
    return folder


def _target(plan: SlabPlan | ArraySlabs, path: str | Path | None, name: str) -> Path:
    if path is not None:
        return Path(path).expanduser().resolve()
    if isinstance(plan, SlabPlan) and plan.source.images is not None:
        return tomogram_folder(plan.source.images.parents[1], name)
    series = plan.series() if isinstance(plan, ArraySlabs) else None
    if series is not None:
        return tomogram_folder(series, name)
    raise ParameterError(
        "this volume is made neither from a stored series nor from a stored tomogram: give the "
        "path of an OME-Zarr folder to store it in"
    )


def _stages(
    plan: SlabPlan | ArraySlabs, layout: MultiscaleLayout, arrays: list[Path], scratch: Path
) -> list[Stage]:
    depth = layout.levels[0].grid.chunk[0]
    slabs = [
        Task(f"slab/{slab}", _write_slab, (plan, layout, arrays, scratch, slab))
        for slab in range(plan.slabs)
    ]
    # The coarser levels of a layer hold an eighth and a sixty-fourth of it.
    finest = layout.levels[0].grid
    coarser_bytes = 4 * depth * SLAB * finest.shard[2] // 6
    stages = [
        *plan.prepare(scratch),
        Stage("back-project", slabs, plan.task_bytes(depth) + coarser_bytes),
    ]
    for level in range(OWNED_LEVELS, len(layout.levels)):
        grid = layout.levels[level].grid
        tasks = [
            Task(f"level/{level}/{index}", _write_level, (layout, arrays, level, index))
            for index in range(grid.counts[1])
        ]
        # Its own voxels and, twice while reading, the eight times as many of the level before.
        stages.append(Stage(f"level {level}", tasks, 4 * int(np.prod(grid.shard)) * 18))
    return stages


def _write_slab(
    plan: SlabPlan | ArraySlabs,
    layout: MultiscaleLayout,
    arrays: list[Path],
    scratch: Path,
    slab: int,
) -> tuple[int, int]:
    """Compute one slab and write its shards on all the levels that it owns."""
    own = layout.levels[:OWNED_LEVELS]
    depth = own[0].grid.chunk[0]
    rows = min(SLAB, plan.volume.shape[1] - slab * SLAB)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(ShardWriter(array, level.grid, _own_shard(level, slab, number)))
            for number, (array, level) in enumerate(zip(arrays, own, strict=False))
        ]
        for index, block in enumerate(plan.stored_layers(slab, scratch, depth)):
            extent = (plan.volume.shape[0] - index * depth, rows, plan.volume.shape[2])
            layer = block
            for number, (writer, level) in enumerate(zip(writers, own, strict=True)):
                if number:
                    layer = _halved(layer, extent, level.grid)
                    extent = (-(-extent[0] // 2), -(-extent[1] // 2), -(-extent[2] // 2))
                for column in range(layer.shape[0]):
                    writer.write((index, 0, column), layer[column])
    return plan.bytes_read(slab), sum(writer.bytes_written for writer in writers)


def _own_shard(level: Level, slab: int, number: int) -> tuple[int, ...]:
    """Return the shard that holds a slab's rows on a level, and nothing else."""
    rows = SLAB >> number
    return level.grid.shard_of((slice(None), slice(slab * rows, (slab + 1) * rows), slice(None)))


def _halved(
    block: NDArray[np.float32], extent: tuple[int, int, int], grid: ShardGrid
) -> NDArray[np.float32]:
    """Return a layer of the next level, in that level's chunks along x."""
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
    halve(source[None], whole[None], source.shape)
    return source.nbytes, write_shard(arrays[level], grid, (0, index, 0), whole)
