"""Cutting a stored tomogram down to the part that matters, in the same coordinates."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr

from tomodask.engine.files import explained
from tomodask.engine.ledger import Ledger
from tomodask.errors import ParameterError
from tomodask.exporting import check_tomogram
from tomodask.io.ome_zarr import array_folder
from tomodask.io.series import check_name, open_series, tomogram_folder
from tomodask.storing import store

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

    from tomodask.engine.events import Listener

__all__ = ["crop"]

#: Half-open ranges of voxels.
Range = tuple[int, int] | None


def crop(
    series: str | Path,
    *,
    tomogram: str,
    z: Range = None,
    y: Range = None,
    x: Range = None,
    name: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> Path:
    """Cut a stored tomogram down to ranges of its voxels.

    Every voxel keeps its value and its coordinates; coarser levels are made anew. Without a name
    the part takes the place of the whole: it is made aside, and put there when it is complete, so
    that there is one or the other at any time. What an interrupted run finished is kept.

    Parameters
    ----------
    series
        Folder of the store.
    tomogram
        Name of the tomogram.
    z, y, x
        (start, stop) voxels to keep, counted from 0; all by default.
    name
        Name of another tomogram that is made, the first one staying as it is.
    overwrite
        Whether a tomogram of that other name, made otherwise, is replaced.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    pathlib.Path
        Folder of the multiscale group.

    Raises
    ------
    ProductMissingError
        If the series has no complete tomogram of that name.
    ParameterError
        If no range is given, or one does not lie in the tomogram: as when it was cut before.
    LockedError
        If another run is at work on the tomogram.
    """
    path = Path(series).expanduser().resolve()
    aside = path / ".work" / "crop" / check_name(tomogram) / "full"
    folder = tomogram_folder(path, tomogram)
    _put_in_place(aside, folder, only_finish=True)
    tree = open_series(path)
    check_tomogram(tree, tomogram)
    ranges = {axis: part for axis, part in (("z", z), ("y", y), ("x", x)) if part is not None}
    part = _part(tree, tomogram, ranges)
    if name is not None and name != tomogram:
        target = tomogram_folder(path, check_name(name))
        with explained(target):
            zarr.open_group(path, mode="a").require_group(f"tomograms/{name}")
    else:
        target, overwrite = aside, True
    with Ledger(array_folder(folder, 0), folder):  # nobody makes it anew meanwhile
        store(
            part,
            target,
            name=name or tomogram,
            overwrite=overwrite,
            workers=workers,
            memory_limit=memory_limit,
            scheduler=scheduler,
            progress=progress,
        )
    if target == aside:
        _put_in_place(aside, folder)
        return folder
    return target


def _part(tree: xr.DataTree, tomogram: str, ranges: dict[str, tuple[int, int]]) -> xr.DataArray:
    """Return the part of a stored tomogram, lazily, with what is known of its origin."""
    volume = tree[f"tomograms/{tomogram}/full/0"].to_dataset()["tomogram"]
    if not ranges:
        raise ParameterError(f"nothing to cut: give a range of {tomogram!r}, such as z=(80, 220)")
    known: dict[str, Any] = volume.attrs["provenance"]
    for axis, (start, stop) in ranges.items():
        if not 0 <= start < stop <= volume.sizes[axis]:
            cut = ", after it was cropped" if "cropped" in known else ""
            raise ParameterError(
                f"{axis} range {start}:{stop} does not lie in 0:{volume.sizes[axis]}, the voxels "
                f"of tomogram {tomogram!r}{cut}"
            )
    part = volume.isel({axis: slice(*limits) for axis, limits in ranges.items()})
    cuts = [*known.get("cropped", []), {axis: list(limits) for axis, limits in ranges.items()}]
    part.attrs = volume.attrs | {"provenance": known | {"cropped": cuts}}
    return part


def _put_in_place(aside: Path, folder: Path, *, only_finish: bool = False) -> None:
    """Put a complete part where the whole is.

    Parameters
    ----------
    aside, folder
        Where the part, and the whole, stand.
    only_finish
        Whether just to finish what was begun by a run that was killed between the two renames.
    """
    before = aside.with_name("before")
    with explained(folder):
        if before.exists() and not folder.exists():
            aside.rename(folder)
        elif not only_finish:
            shutil.rmtree(before, ignore_errors=True)
            folder.rename(before)
            aside.rename(folder)
        if before.exists():
            shutil.rmtree(before)
    for empty in (aside.parent, aside.parents[1], aside.parents[2]):
        with suppress(OSError):
            empty.rmdir()
