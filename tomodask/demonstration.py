"""The main job on data of our own making: simulate, import, align, reconstruct, look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.alignment import align
from tomodask.engine.events import Event
from tomodask.exporting import export_tomogram
from tomodask.graph.reconstruct import reconstruct
from tomodask.importing import import_stack
from tomodask.io.imod import write_angles
from tomodask.io.mrc_writer import MrcWriter
from tomodask.io.series import open_series
from tomodask.simulate import (
    ContrastTransfer,
    Imaging,
    beads_and_vesicles,
    random_misalignment,
    simulate_tilt_series,
)
from tomodask.storing import store
from tomodask.view.images import orthoslices_png

if TYPE_CHECKING:
    from tomodask.engine.events import Listener

__all__ = ["demo"]

_SIZE = 480
_PIXEL = 8.0
_THICKNESS = 200
#: Centre of a vesicle, specimen (x, y, z) in A.
_SHOWN = (-540.0, -640.0, 0.0)
_TILTS = np.arange(-60.0, 60.1, 3.0)


def demo(
    out: str | Path = "tomodask-demo",
    *,
    size: int = _SIZE,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    progress: Listener | None = None,
) -> Path:
    """Make a small tomogram from nothing.

    A tilt series of 41 views with gold beads, vesicles and particles is simulated, with noise
    and drift, and taken through the whole path as a user's own data would be.

    Parameters
    ----------
    out
        Folder for the results; made.
    size
        Edge of the images, pixels.
    workers, memory_limit, progress
        As in ``tomodask.store``.

    Returns
    -------
    pathlib.Path
        The folder, with ``demo.st`` and ``demo.rawtlt`` (the simulated input), ``demo.zarr`` (the
        series, its alignment and the tomogram), ``demo.mrc`` and ``demo.png``.
    """
    folder = Path(out).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tell = progress if progress is not None else _silent
    stack, angles = folder / "demo.st", folder / "demo.rawtlt"
    tell(Event(kind="start", step="demo", stage="simulate", done=0, total=1))
    _simulate(stack, angles, size)
    tell(Event(kind="task", step="demo", stage="simulate", done=1, total=1))
    path = import_stack(
        stack,
        folder / "demo.zarr",
        tilt_angles=angles,
        tilt_axis=85.0,
        overwrite=True,
        workers=workers,
        memory_limit=memory_limit,
        progress=progress,
    )
    align(path, method="beads", overwrite=True, progress=progress)
    volume = reconstruct(open_series(path), thickness=min(_THICKNESS, size // 2), alignment="beads")
    store(
        volume,
        name="wbp",
        overwrite=True,
        workers=workers,
        memory_limit=memory_limit,
        progress=progress,
    )
    series = open_series(path)
    export_tomogram(series, folder / "demo.mrc", tomogram="wbp", progress=progress)
    # Binned by two and through a vesicle, a few slices thick: what one would look at first.
    shown = series["tomograms/wbp/full/1"].to_dataset()["tomogram"]
    at = {
        axis: int(np.abs(shown[axis].values - place).argmin())
        for axis, place in zip("xyz", _SHOWN, strict=True)
    }
    orthoslices_png(shown, folder / "demo.png", thickness=5, **at)
    return folder


def _silent(event: Event) -> None:
    del event


def _simulate(stack: Path, angles: Path, size: int) -> None:
    """Write the simulated stack and its angles, the same every time."""
    extent = (0.8 * size * _PIXEL, 0.8 * size * _PIXEL, 0.6 * _THICKNESS * _PIXEL)
    phantom = beads_and_vesicles(7, extent=extent)
    projection = random_misalignment(_TILTS, seed=7, shift_sd=60.0, tilt_axis_angle=85.0)
    optics = ContrastTransfer(defocus_u=30000.0, defocus_v=30000.0, amplitude_contrast=0.3)
    series = simulate_tilt_series(
        phantom,
        projection,
        (size, size),
        pixel_size=_PIXEL,
        imaging=Imaging(
            exposure=3.0, ice_thickness=extent[2], ice_noise=0.03, ctf=(optics,) * len(_TILTS)
        ),
        seed=7,
    )
    with MrcWriter(stack, shape=series.images.shape, voxel_size=_PIXEL, kind="stack") as writer:
        for image in series.images:
            writer.write(image)
    write_angles(angles, series.tilt_angle)
