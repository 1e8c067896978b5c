"""Commands that align a series, or take an alignment from another program."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tomodask as td
from tomodask.cli.app import Run, app, corners, freedoms, progress

__all__ = ["align", "import_alignment"]


@app.command
def align(
    series: Path,
    *,
    method: Literal["beads", "patches", "coarse"] = "coarse",
    name: str | None = None,
    tilt_axis: float | None = None,
    search_axis: bool = False,
    bead_diameter: float | None = None,
    landmarks: int = 25,
    region: str | None = None,
    vary: str | None = None,
    local: bool | None = None,
    reference: Literal["neighbour", "running"] = "running",
    picture: Path | None = None,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Align a tilt series; the alignment is stored, the images stay as they are.

    Parameters
    ----------
    series
        The store.
    method
        beads: gold beads are found, followed and solved. patches: patches of the images instead,
        for series without gold. coarse: shifts by correlation with other views.
    name
        Name to store it under; the method's by default.
    tilt_axis
        Angle of the tilt axis, degrees counter-clockwise from +y; by default as recorded, and
        searched for where it is not. Beads and patches refine it.
    search_axis
        Search for the axis although it is recorded.
    bead_diameter
        Of the gold beads, nm; measured in the images by default.
    landmarks
        Beads that the alignment rests on, at most.
    region
        Part of the images that patches are taken from: X0:X1,Y0:Y1, pixels; all by default.
    local
        Estimate how the specimen moved locally; by default only where that predicts landmarks
        better that were left out.
    vary
        What the solution may vary, e.g. rotation=single,tilt=grouped:5,magnification=fixed; of
        rotation, tilt, magnification, compression, stretch, skew and x_tilt each fixed, single,
        grouped:SIZE, free or estimated. Those not named are fixed. The data choose by default.
    reference
        Of the coarse alignment: correlate with the running sum of the views aligned so far, or
        with the neighbour alone.
    picture
        PNG file that shows residuals, tracks and specimen positions; of beads and patches.
    overwrite
        Replace an alignment of that name; edits by hand of its landmarks are carried over.
    """
    with progress(quiet=run.quiet) as listen:
        alignment = td.align(
            series,
            method=method,
            name=name,
            tilt_axis=tilt_axis,
            search_axis=search_axis,
            bead_diameter=bead_diameter,
            landmarks=landmarks,
            region=corners(region),
            variables=freedoms(vary),
            local=local,
            reference=reference,
            overwrite=overwrite,
            **run.resources,
            progress=listen,
        )
    axis = float(alignment["tilt_axis_angle"].median())
    shift_x, shift_y = alignment["shift_x"].values, alignment["shift_y"].values
    largest = float((shift_x**2 + shift_y**2).max() ** 0.5)
    found = f"{int(alignment['found'].sum())} of " if "found" in alignment else ""
    views = f"{found}{alignment.sizes['tilt']} views"
    print(f"alignment  {name or method}: {views}, tilt axis {axis:.2f} deg")
    print(f"shifts     up to {largest:.1f} A from the image centre")
    if "score" in alignment:
        score = alignment["score"]
        print(f"score      mean {float(score.mean()):.3f}, lowest {float(score.min()):.3f}")
    if method != "coarse":
        marks = td.open_landmarks(series, name or method)
        for line in marks.summary():
            print(line)
        if picture is not None:
            print(f"wrote      {marks.picture(picture)}")


@app.command
def import_alignment(
    series: Path,
    *,
    xf: Path | None = None,
    tlt: Path | None = None,
    xtilt: Path | None = None,
    zfac: Path | None = None,
    local_xf: Path | None = None,
    aln: Path | None = None,
    name: str = "imported",
    overwrite: bool = False,
) -> None:
    """Store an alignment made by IMOD (--xf) or AreTomo (--aln) beside the images it is of.

    Parameters
    ----------
    series
        The store.
    xf
        Transforms of IMOD, one line a section.
    tlt
        Solved angles that belong to --xf; the nominal ones by default.
    xtilt
        X-tilts that belong to --xf.
    zfac
        Z factors that belong to --xf; needed where stretch or skew were solved.
    local_xf
        Local alignments that belong to --xf.
    aln
        AreTomo's alignment.
    name
        Name to store it under.
    overwrite
        Replace an alignment of that name.
    """
    alignment = td.import_alignment(
        series,
        name=name,
        xf=xf,
        tlt=tlt,
        xtilt=xtilt,
        zfac=zfac,
        local_xf=local_xf,
        aln=aln,
        overwrite=overwrite,
    )
    axis = float(alignment["tilt_axis_angle"].median())
    print(f"alignment  {name}: {alignment.sizes['tilt']} views, tilt axis {axis:.2f} deg")
