"""Commands that place the specimen, cut tomograms down, and erase gold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

import tomodask as td
from tomodask.cli.app import Quiet, Run, app, progress, span


@app.command
def position(
    series: Path,
    *,
    alignment: str | None = None,
    name: str | None = None,
    method: Literal["auto", "landmarks", "volume"] = "auto",
    landmarks: str | None = None,
    height: float = 5000.0,
    margin: float = 100.0,
    overwrite: bool = False,
    quiet: Quiet = False,
) -> None:
    """Find how the specimen lies, and store an alignment that puts it level and in the middle.

    Parameters
    ----------
    series
        The store.
    alignment
        Name of the alignment to start from; by default the only one.
    name
        Name of the new alignment; that of the old one with -positioned by default.
    method
        landmarks, volume (a coarse tomogram), or auto: landmarks as far as they tell.
    landmarks
        Name of the landmarks; by default those with the alignment's name.
    height
        Height of the coarse tomogram, A: well above the thickness expected.
    margin
        Added to the thickness above and below, A.
    overwrite
        Replace an alignment of that name.
    quiet
        No progress bars.
    """
    with progress(quiet=quiet) as listen:
        placed = td.position(
            series,
            alignment=alignment,
            name=name,
            method=method,
            landmarks=landmarks,
            height=height,
            margin=margin,
            overwrite=overwrite,
            progress=listen,
        )
    told = placed.attrs["positioned"]
    for found in told["found"]:
        surfaces = "two faces" if found["surfaces"] == 2 else "one layer"
        slopes = " and ".join(_slope(found, axis) for axis in "xy")
        print(f"seen       by {found['by']}: {surfaces}, {slopes} ({found['count']} places)")
    print(f"alignment  {name or told['from'] + '-positioned'}")
    print(f"tilt       offset {float(placed['tilt_offset']):+.2f} deg")
    print(f"x-tilt     {float(placed['x_tilt'].median()):+.2f} deg")
    print(f"z shift    {float(placed['z_shift']):+.0f} A")
    if "thickness" in placed:
        thickness, margin = float(placed["thickness"]), told["thickness_margin"]
        print(f"thickness  {thickness:.0f} A, {margin:.0f} A of it margin on either side")


@app.command
def crop(
    series: Path,
    *,
    tomogram: str,
    z: str | None = None,
    y: str | None = None,
    x: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Cut a stored tomogram down; every voxel keeps its place.

    The part takes the place of the whole, once it is complete, unless --name is given.

    Parameters
    ----------
    series
        The store.
    tomogram
        Name of the tomogram.
    z
        Voxels START:STOP to keep, counted from 0.
    y
        As --z, along the tilt axis.
    x
        As --z.
    name
        Make another tomogram of this name, and leave the first as it is.
    overwrite
        Replace a tomogram of that other name.
    """
    with progress(quiet=run.quiet) as listen:
        folder = td.crop(
            series,
            tomogram=tomogram,
            z=span(z),
            y=span(y),
            x=span(x),
            name=name,
            overwrite=overwrite,
            **run.resources,
            progress=listen,
        )
    volume = td.open(series)[f"tomograms/{name or tomogram}/full/0"]["tomogram"]
    size = " x ".join(str(volume.sizes[axis]) for axis in "xyz")
    print(f"tomogram   {name or tomogram}: {size} voxels (x, y, z)")
    print(f"stored in  {folder}")


@app.command
def erase_gold(
    series: Path,
    *,
    landmarks: str | None = None,
    alignment: str | None = None,
    diameter: float | None = None,
    radius: float | None = None,
    untracked: bool = True,
    undo: Annotated[bool, Parameter(negative="")] = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Find all gold beads: tomograms and aligned stacks made from now on are without them.

    Parameters
    ----------
    series
        The store.
    landmarks
        Name of the landmarks; by default the only ones made of beads.
    alignment
        That predicts where a bead is that was not tracked; by default that of the landmarks.
    diameter
        Of the beads, nm; by default that of the landmarks.
    radius
        Of the discs that are erased, nm; by default as far as beads and fringes are seen.
    untracked
        Look for beads that were not tracked, too.
    undo
        Forget where gold is: tomograms are made with it again.
    """
    if undo:
        td.undo_erasing(series)
        print("gold       erasing undone")
        return
    with progress(quiet=run.quiet) as listen:
        table = td.erase_gold(
            series,
            landmarks=landmarks,
            alignment=alignment,
            diameter=diameter,
            radius=radius,
            untracked=untracked,
            **run.resources,
            progress=listen,
        )
    count = table.sizes["edit"]
    views = np.count_nonzero(np.diff(table["start"].values))
    print(f"gold       {count} beads in {views} views")
    if count:
        found = int((table["landmark"].values < 0).sum())
        print(
            f"           {found} of them not tracked; discs of {float(table['radius'][0]):.1f} px"
        )


def _slope(found: dict[str, float], axis: str) -> str:
    """Return in words how a face slopes; what was given by the landmarks is not measured again."""
    error = np.rad2deg(np.arctan(found[f"slope_{axis}_error"]))
    if error == 0:
        return f"its slope along {axis} as before"
    angle = np.rad2deg(np.arctan(found[f"slope_{axis}"]))
    return f"sloping {angle:+.2f} +- {error:.2f} deg along {axis}"
