"""Writing images, volumes and motion as other programs open them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from tomodask.engine.events import Event
from tomodask.engine.files import write_whole
from tomodask.errors import ParameterError, ProductMissingError
from tomodask.graph.preprocess import Part, unaligned_stack
from tomodask.io.imod import write_angles
from tomodask.io.mrc_writer import MrcWriter
from tomodask.model import tilt_series_of, views_with_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.engine.events import Listener

__all__ = [
    "check_tomogram",
    "export_images",
    "export_motion",
    "export_stack",
    "export_tomogram",
    "write_excluded",
]

#: Bytes of a volume that are read at once.
_BLOCK_BYTES = 128 * 1024**2
Range = tuple[int, int] | None


def export_tomogram(
    series: xr.DataTree,
    out: str | Path,
    *,
    tomogram: str,
    level: int = 0,
    x_range: Range = None,
    y_range: Range = None,
    z_range: Range = None,
    progress: Listener | None = None,
) -> Path:
    """Write a stored tomogram, or a region of it, as an MRC volume.

    Sections are z from low to high, rows y, columns x, in the specimen frame; the header holds
    the voxel size, exact statistics, and as origin the place of the first voxel relative to the
    centre of the full tomogram.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    out
        The file.
    tomogram
        Name of the tomogram.
    level
        Resolution: 0 is the finest.
    x_range, y_range, z_range
        (start, stop) voxels; all by default.
    progress
        Told of every block.

    Returns
    -------
    pathlib.Path
        The file; it appears whole or not at all.

    Raises
    ------
    ProductMissingError
        If the series has no complete tomogram of that name or level.
    """
    check_tomogram(series, tomogram, level)
    node = f"tomograms/{tomogram}/full/{level}"
    volume = series[node].to_dataset()["tomogram"]
    for axis, part in (("z", z_range), ("y", y_range), ("x", x_range)):
        if part is not None:
            if not 0 <= part[0] < part[1] <= volume.sizes[axis]:
                raise ParameterError(
                    f"{axis} range {part[0]}:{part[1]} does not lie in 0:{volume.sizes[axis]}"
                )
            volume = volume.isel({axis: slice(*part)})
    return write_volume(volume, out, title=f"{series.name} {tomogram}", progress=progress)


def check_tomogram(series: xr.DataTree, name: str, level: int = 0) -> None:
    """Raise ProductMissingError unless a series has a complete tomogram with that level."""
    if f"/tomograms/{name}/full/{level}" not in series.groups:
        there = list(series["tomograms"].children) if "tomograms" in series.children else []
        raise ProductMissingError(
            f"{series.name} has no complete tomogram {name!r} with level {level} (there: "
            f"{', '.join(there) or 'none'}); make one with 'tomodask reconstruct'"
        )


def write_volume(
    volume: xr.DataArray, out: str | Path, *, title: str = "", progress: Listener | None = None
) -> Path:
    """Write a lazy volume (z, y, x) with coordinates in A as MRC, a block of sections at a time."""
    voxel = float(volume.attrs.get("voxel_size", 0)) or float(np.diff(volume["x"].values[:2])[0])
    origin = tuple(float(volume[axis].values[0]) for axis in "xyz")
    shape = tuple(volume.sizes[axis] for axis in "zyx")
    step = max(1, int(_BLOCK_BYTES // (4 * shape[1] * shape[2])))
    with MrcWriter(
        out,
        shape=(shape[0], shape[1], shape[2]),
        voxel_size=voxel,
        kind="volume",
        origin=(origin[0], origin[1], origin[2]),
        title=title[:70],
    ) as writer:
        for start in range(0, shape[0], step):
            block = volume[start : start + step].values
            writer.write_slab(np.ascontiguousarray(block, np.float32))
            if progress is not None:
                done = min(start + step, shape[0])
                progress(
                    Event(kind="task", step="export", stage="sections", done=done, total=shape[0])
                )
    return Path(out)


def export_stack(stack: xr.DataArray, out: str | Path, *, progress: Listener | None = None) -> Path:
    """Write a lazy stack (tilt, y, x), e.g. from ``tomodask.align_stack``, as an MRC stack.

    Parameters
    ----------
    stack
        With the attribute ``pixel_size`` (A) and the coordinate ``tilt_angle``, which goes to the
        extended header.
    out
        The file.
    progress
        Told of every view.

    Returns
    -------
    pathlib.Path
        The file; it appears whole or not at all.
    """
    views = stack.sizes["tilt"]
    angles: Sequence[float] | None = None
    if "tilt_angle" in stack.coords and views > 1:
        angles = [float(angle) for angle in stack["tilt_angle"].values]
    with (
        MrcWriter(
            out,
            shape=(views, stack.sizes["y"], stack.sizes["x"]),
            voxel_size=float(stack.attrs["pixel_size"]),
            kind="stack",
            tilt_angles=angles,
        ) as writer,
        ThreadPoolExecutor(2) as pool,
    ):
        # The next view is computed while this one is written.
        ahead = [pool.submit(_view, stack, 0)]
        for view in range(views):
            image = ahead.pop().result()
            if view + 1 < views:
                ahead.append(pool.submit(_view, stack, view + 1))
            writer.write(image)
            if progress is not None:
                progress(
                    Event(kind="task", step="export", stage="views", done=view + 1, total=views)
                )
    return Path(out)


def export_images(
    series: xr.DataTree,
    out: str | Path,
    *,
    part: Part = "images",
    progress: Listener | None = None,
) -> list[Path]:
    """Write the images of a series as an MRC stack: cleaned where `clean` was run, not aligned.

    All views are written, by tilt angle. Beside the stack go ``NAME.rawtlt`` with the angles and,
    where views are excluded, ``NAME.excluded`` with their numbers from 1, as IMOD counts. A view
    whose movie could not be used is zero.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    out
        The file.
    part
        "images", or their "even" or "odd" half.
    progress
        Told of every view.

    Returns
    -------
    The files; the stack appears whole or not at all.

    Raises
    ------
    ProductMissingError
        If the series has no images yet, or no halves.
    """
    stack = unaligned_stack(series, part=part)
    there = set(views_with_image(tilt_series_of(series)))
    if len(there) < stack.sizes["tilt"]:
        blank = xr.zeros_like(stack[0])
        views = [stack[t] if t in there else blank for t in range(stack.sizes["tilt"])]
        filled = xr.concat([view.drop_vars(view.coords) for view in views], "tilt")
        stack = stack.copy(data=filled.data)
    written = write_stack(stack, out, progress=progress)
    written += write_excluded(Path(out).with_suffix(".excluded"), stack["included"].values)
    return written


def write_stack(
    stack: xr.DataArray, out: str | Path, *, progress: Listener | None = None
) -> list[Path]:
    """Write a lazy stack as an MRC stack with its angles beside it, ``NAME.rawtlt``."""
    angles = Path(out).with_suffix(".rawtlt")
    written = [export_stack(stack, out, progress=progress), angles]
    write_angles(angles, stack["tilt_angle"].values)
    return written


def write_excluded(path: Path, included: NDArray[np.bool_]) -> list[Path]:
    """Write the numbers of excluded views, from 1; remove what an earlier export left."""
    excluded = np.flatnonzero(~included) + 1
    if not len(excluded):
        path.unlink(missing_ok=True)
        return []
    with write_whole(path) as temporary:
        temporary.write_text("".join(f"{view}\n" for view in excluded))
    return [path]


def export_motion(series: xr.DataTree, out: str | Path) -> Path:
    """Write the motion of every frame as CSV: tilt, frame, shift_y, shift_x.

    Shifts are in pixels of the frames: where a frame's content lies relative to the sum. Of a
    local field it is the part that the whole frame shares. Frames that were left out, and views
    whose movie could not be used, have no line.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    out
        The file.

    Raises
    ------
    ProductMissingError
        If no motion was corrected.
    """
    if "motion" not in series.children:
        raise ProductMissingError(
            f"{series.name} has no motion: it comes of correcting movies ('tomodask motion')"
        )
    motion = series["motion"].to_dataset()
    pixel = float(motion.attrs["pixel_size"])
    lines = ["tilt,frame,shift_y,shift_x"]
    for (tilt, frame), y in np.ndenumerate(motion["shift_y"].values / pixel):
        if np.isfinite(y):
            x = float(motion["shift_x"].values[tilt, frame]) / pixel
            lines.append(f"{tilt},{frame},{y:.4f},{x:.4f}")
    with write_whole(Path(out)) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return Path(out)


def _view(stack: xr.DataArray, view: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = stack[view].data
    image = values.compute(scheduler="synchronous") if hasattr(values, "compute") else values
    return np.ascontiguousarray(image, np.float32)
