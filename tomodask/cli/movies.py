"""Commands that bring data in: import, and motion correction of movies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import tomodask as td
from tomodask.cli.app import Bin, Run, app, numbers, pair, progress
from tomodask.cli.info import print_info
from tomodask.errors import DataError, ParameterError


@app.command(name="import")
def import_(
    *source: Path,
    out: Path | None = None,
    frames: Path | None = None,
    gain: Path | None = None,
    gain_orientation: str | None = None,
    gain_reciprocal: bool | None = None,
    defects: Path | None = None,
    row_order: Literal["file", "up"] = "file",
    superresolution: Literal[1, 2, 4] = 1,
    eer_group: int | None = None,
    eer_dose: float | None = None,
    exposure: float | None = None,
    exposure_per_frame: float | None = None,
    voltage: float | None = None,
    tilt_angles: Path | None = None,
    xf: Path | None = None,
    tlt: Path | None = None,
    xtilt: Path | None = None,
    zfac: Path | None = None,
    pixel_size: float | None = None,
    tilt_axis: float | None = None,
    exclude: str = "",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Import movies with their mdoc, or a stack of tilt images, into a new store.

    Movies are referred to, never copied; a stack (MRC or TIFF) is copied.

    Parameters
    ----------
    source
        Movies: the mdoc of the tilt series, or one mdoc per view (several files, or their
        folder). A stack: the images (.mrc, .st, .ali, .rec, TIFF).
    out
        The store to make, e.g. TS_01.zarr.
    frames
        Folder of the movies; that of the mdoc by default.
    gain
        Gain reference of the movies (.mrc, .gain, TIFF).
    gain_orientation
        What is done to the gain so that it lies on the movies, e.g. "rot90 flipud"; by default
        the eight ways are tried on the movies.
    gain_reciprocal
        Divide by what the gain's file holds, rather than multiply; by default the movies tell.
    defects
        SerialEM's list of defects, or a mask (MRC, TIFF).
    row_order
        up where the movies' first row is the bottom whatever their format.
    superresolution
        Pixels rendered per sensor pixel of an EER.
    eer_group
        Raw frames of an EER per rendered frame.
    eer_dose
        e/A^2 per rendered frame of an EER, instead of --eer-group.
    exposure
        e/A^2 of each view; wins over what is recorded.
    exposure_per_frame
        e/A^2 of each frame; wins over what is recorded.
    voltage
        kV; wins over what is recorded.
    tilt_angles
        Of a stack: .rawtlt, .tlt, mdoc, or a table of angle, order and exposure; by default an
        mdoc beside the stack, or its extended header.
    xf
        IMOD's transforms of this stack; stored as the alignment "imported".
    tlt
        Solved angles that belong to --xf, where --tilt-angles are the nominal ones.
    xtilt
        X-tilts that belong to --xf.
    zfac
        Z factors that belong to --xf.
    pixel_size
        In A; wins over what is recorded.
    tilt_axis
        Angle of the tilt axis, degrees counter-clockwise from +y; wins over what is recorded.
    exclude
        Views to flag as excluded, counted from 0, e.g. 0,3,38-40: by tilt angle for movies, by
        section for a stack.
    dry_run
        Print the table of what would be imported from movies, and stop.
    overwrite
        Replace a store of another import; of a stack with all that it holds.
    """
    if not source:
        raise ParameterError("give an mdoc, or a stack of images, to import")
    of_movies: dict[str, Any] = {
        "frames": frames,
        "gain": gain,
        "gain_orientation": gain_orientation,
        "gain_reciprocal": gain_reciprocal,
        "defects": defects,
        "row_order": None if row_order == "file" else row_order,
        "superresolution": None if superresolution == 1 else superresolution,
        "eer_group": eer_group,
        "eer_dose": eer_dose,
        "exposure_per_frame": exposure_per_frame,
    }
    of_stacks: dict[str, Any] = {
        "tilt_angles": tilt_angles,
        "xf": xf,
        "tlt": tlt,
        "xtilt": xtilt,
        "zfac": zfac,
    }
    common: dict[str, Any] = {
        "exposure": exposure,
        "voltage": voltage,
        "pixel_size": pixel_size,
        "tilt_axis": tilt_axis,
        "exclude": numbers(exclude),
    }
    movies = all(path.suffix.lower() == ".mdoc" or path.is_dir() for path in source)
    for name, value in (of_stacks if movies else of_movies).items():
        if value is not None:
            raise ParameterError(
                f"--{name.replace('_', '-')} is for {'stacks' if movies else 'movies'}; "
                f"{source[0]} is {'an mdoc' if movies else 'a stack'}"
            )
    if not movies and (len(source) > 1 or dry_run):
        raise ParameterError("give one stack; several sources and --dry-run are for movies")
    if movies:
        options = common | {name: value for name, value in of_movies.items() if value is not None}
        if dry_run:
            print(td.movies_text(td.read_movies(source, **options)))
            return
    if out is None:
        raise ParameterError("give the store to make with --out, e.g. --out TS_01.zarr")
    if movies:
        path = td.import_movies(source, out, overwrite=overwrite, **options)
    else:
        with progress(quiet=run.quiet) as listen:
            path = td.import_stack(
                source[0],
                out,
                **of_stacks,
                **common,
                overwrite=overwrite,
                **run.resources,
                progress=listen,
            )
    print_info(td.info(path))
    missing = td.info(path).get("movies", {}).get("missing", [])
    if missing:
        raise DataError(
            f"the movies of views {', '.join(map(str, missing))} were not found; they are flagged, "
            "the others are imported"
        )


@app.command
def motion(
    series: Path,
    *,
    patches: str | None = None,
    binning: Bin = 1.0,
    skip_first: int = 0,
    skip_last: int = 0,
    group: int = 1,
    dose_weighting: Annotated[bool, Parameter(negative="")] = False,
    b_factor: float | None = None,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Correct the motion of a series' movies: tilt images with their even and odd halves.

    A view whose movie cannot be used is flagged with the reason, the others are done, and the
    exit code is 1. When the movie is mended the same command makes it good.

    Parameters
    ----------
    series
        The store.
    patches
        Patches along x and y of a local field, e.g. 5x5; by default whole frames alone.
    binning
        Pixel size of the images over that of the frames.
    skip_first
        Frames at the begin of every movie that are left out.
    skip_last
        Frames at its end that are left out.
    group
        Frames summed for the estimate, where there are very many of little dose.
    dose_weighting
        Weight frames by the dose that the specimen has had; by default images are unweighted.
    b_factor
        A^2 per e/A^2 by which the weights fall, instead of the critical doses.
    overwrite
        Replace images that were made otherwise.
    """
    with progress(quiet=run.quiet) as listen:
        table = td.correct_motion(
            series,
            patches=pair(patches),
            binning=binning,
            skip_first=skip_first,
            skip_last=skip_last,
            group=group,
            dose_weighting=dose_weighting,
            b_factor=b_factor,
            overwrite=overwrite,
            **run.resources,
            progress=listen,
        )
    print_info(td.info(series))
    failed = [view for view, reason in enumerate(table["failed"].values) if reason]
    if failed:
        raise DataError(
            f"no image of views {', '.join(map(str, failed))} (see above): they are excluded; mend "
            "their movies and give the same command again; where a movie was not there at import, "
            "import with --overwrite first"
        )
