"""The command that writes what other programs open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import tomodask as td
from tomodask.cli.app import IMAGES, Bin, Quiet, app, progress, span
from tomodask.errors import ParameterError

#: Formats of alignments (imod, aretomo) and of images.
Format = Literal["imod", "aretomo", "mrc"]


@app.command
def export(
    series: Path,
    *,
    out: Path | None = None,
    tomogram: str | None = None,
    alignment: str | None = None,
    aligned_stack: str | None = None,
    stack: Path | None = None,
    half: Literal["even", "odd"] | None = None,
    motion: Path | None = None,
    picture: Path | None = None,
    file_format: Annotated[Format | None, Parameter(name="--format")] = None,
    binning: Bin = 1.0,
    level: int = 0,
    x_range: str | None = None,
    y_range: str | None = None,
    z_range: str | None = None,
    quiet: Quiet = False,
) -> None:
    """Write images, tomograms, alignments and motion for other programs.

    Give --stack FILE, --motion FILE, --picture FILE, or --out with one of --tomogram,
    --alignment and --aligned-stack.

    Parameters
    ----------
    series
        The store.
    out
        File (MRC) or, for an alignment, folder to write: of --tomogram, --alignment or
        --aligned-stack.
    tomogram
        Name of a tomogram, written as an MRC volume (sections z, rows y, columns x) or, where the
        file's name ends in .png, as a picture of its central slices.
    alignment
        Name of an alignment, written as NAME.xf, NAME.tlt and, where it has them, NAME.xtilt,
        NAME.zfac, NAME.local.xf and NAME.excluded, one line per section of the imported stack or,
        of movies, of that which --stack writes; with --format aretomo as NAME.aln.
    aligned_stack
        Name of an alignment (or none) to apply; the aligned images are written as an MRC stack.
    stack
        MRC file for the images as they are (cleaned, not aligned), all views by tilt angle; the
        angles go beside it as .rawtlt, and the numbers of excluded views as .excluded.
    half
        Of --stack: the sums of the even or of the odd frames.
    motion
        CSV file for the motion of every frame: tilt, frame, shift_y, shift_x; where the frame's
        content lies relative to the sum, in pixels of the frames.
    picture
        PNG file that shows the series at a glance: its views, those left out and why, motion,
        intensity and scores.
    file_format
        imod or aretomo for an alignment, mrc for images; imod and mrc by default.
    binning
        Binning of the aligned stack.
    level
        Resolution of the tomogram; 0 is the finest.
    x_range
        Voxels START:STOP of the tomogram to write.
    y_range
        As --x-range.
    z_range
        As --x-range.
    quiet
        No progress bars.
    """
    chosen = [tomogram, alignment, aligned_stack, stack, motion, picture]
    if sum(item is not None for item in chosen) != 1:
        raise ParameterError(
            "give one of --tomogram NAME, --alignment NAME, --aligned-stack NAME (with --out), "
            "--stack FILE, --motion FILE, --picture FILE"
        )
    named = stack or motion or picture
    if (out is None) == (named is None):
        raise ParameterError(
            "--out FILE belongs to --tomogram, --alignment and --aligned-stack, and only to these"
        )
    if half is not None and stack is None:
        raise ParameterError("--half is for --stack")
    if file_format is not None and (file_format == "mrc") == (alignment is not None):
        raise ParameterError(
            "--format imod and --format aretomo are for --alignment, --format mrc for images"
        )
    ranges = [x_range, y_range, z_range] != [None] * 3
    target = named or out
    assert target is not None
    as_png = target.suffix.lower() == ".png"
    if aligned_stack is None and binning != 1:
        raise ParameterError("--bin is for --aligned-stack; of a tomogram give --level")
    if (ranges or level) and (tomogram is None or as_png):
        raise ParameterError("--level and ranges are for a --tomogram written as MRC")
    if picture is not None and not as_png:
        raise ParameterError(f"{picture}: give a name ending in .png")
    images = alignment is None and motion is None and picture is None
    if images and target.suffix.lower() not in IMAGES and not (as_png and tomogram):
        raise ParameterError(f"{target}: give a name ending in {', '.join(IMAGES)}, or .png")
    tree = td.open(series)
    with progress(quiet=quiet) as listen:
        if tomogram is not None and as_png:
            from tomodask.exporting import check_tomogram
            from tomodask.view.slices import level_for

            check_tomogram(tree, tomogram)
            volume = level_for(tree["tomograms"].children[tomogram].children["full"])
            written = [td.orthoslices_png(volume, target)]
        elif tomogram is not None:
            written = [
                td.export_tomogram(
                    tree,
                    target,
                    tomogram=tomogram,
                    level=level,
                    x_range=span(x_range),
                    y_range=span(y_range),
                    z_range=span(z_range),
                    progress=listen,
                )
            ]
        elif aligned_stack is not None:
            aligned = td.align_stack(tree, binning=binning, alignment=aligned_stack)
            written = [td.export_stack(aligned, target, progress=listen)]
        elif stack is not None:
            written = td.export_images(tree, target, part=half or "images", progress=listen)
        elif picture is not None:
            written = [td.series_png(tree, picture)]
        elif motion is not None:
            written = [td.export_motion(tree, target)]
        else:
            assert alignment is not None
            aretomo = file_format == "aretomo"
            written = td.export_alignment(
                tree, target, alignment=alignment, format="aretomo" if aretomo else "imod"
            )
    for path in written:
        print(f"wrote      {path}")
