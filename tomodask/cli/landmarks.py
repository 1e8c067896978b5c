"""Commands for landmarks: look at them, mend them, solve them again, exchange them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import tomodask as td
from tomodask.cli.app import app
from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from tomodask.landmarks import Landmarks

__all__ = ["landmarks", "solve"]


@app.command
def landmarks(
    series: Path,
    *,
    name: str | None = None,
    residuals: int = 10,
    move: list[str] | None = None,
    move_by_residual: list[str] | None = None,
    centre: list[str] | None = None,
    delete: list[str] | None = None,
    restore: list[int] | None = None,
    fill: bool = False,
    undo: int = 0,
    solve: bool = False,
    save_as: str | None = None,
    overwrite: bool = False,
    import_model: Path | None = None,
    prexg: Path | None = None,
    binning: Annotated[int, Parameter(name="--bin")] = 1,
    export_model: Path | None = None,
    picture: Path | None = None,
) -> None:
    """List the landmarks of a series, where they are missing and where they fit worst; mend them.

    Edits are stored, and can be undone by later commands; the alignment is solved anew with
    --solve.

    Parameters
    ----------
    series
        The store.
    name
        Name of the landmarks; by default the only ones there are.
    residuals
        How many of the largest residuals are listed.
    move
        Set a point: LANDMARK:VIEW:X:Y, raw position from the image centre, A. May be repeated.
    move_by_residual
        Put a point where the solution predicts it: LANDMARK:VIEW. May be repeated.
    centre
        Put a point onto the middle of the bead that it lies on: LANDMARK:VIEW. May be repeated.
    delete
        Take a point out, LANDMARK:VIEW, or a whole landmark, LANDMARK. May be repeated.
    restore
        Let a landmark that was left out take part again. May be repeated.
    fill
        Put predicted points, marked as filled, into the gaps.
    undo
        Take back so many of the last edits, before anything else is done.
    solve
        Solve the alignment anew and store it.
    save_as
        Name to store the result under; the same name by default.
    overwrite
        Replace what --save-as or --import-model would store over.
    import_model
        IMOD model (.fid) to take the landmarks from, stored under --name (fiducials).
    prexg
        Transforms (.prexg) of the stack that the model was made on, for --import-model and
        --export-model; by default the model belongs to the raw stack.
    binning
        Raw pixels to a pixel of that stack.
    export_model
        IMOD model to write.
    picture
        PNG file that shows residuals, tracks and specimen positions.
    """
    if import_model is not None:
        name = name or "fiducials"
        td.import_landmarks(
            series, import_model, name=name, prexg=prexg, binning=binning, overwrite=overwrite
        )
    marks = td.open_landmarks(series, name)
    before = len(marks.edits())
    for _ in range(undo):
        marks.undo()
    for text in move or []:
        (number, view), (x, y) = _fields(text, "LANDMARK:VIEW:X:Y")
        marks.move(number, view, x=x, y=y)
    for text in move_by_residual or []:
        (number, view), _ = _fields(text, "LANDMARK:VIEW")
        marks.move_by_residual(number, view)
    for text in centre or []:
        (number, view), _ = _fields(text, "LANDMARK:VIEW")
        marks.centre(number, view)
    for text in delete or []:
        indices, _ = _fields(text, "LANDMARK:VIEW" if ":" in text else "LANDMARK")
        marks.delete(*indices)
    for number in restore or []:
        marks.restore(number)
    if solve:
        marks.solve()
    if fill:
        marks.fill_gaps()
    if solve or save_as or undo or len(marks.edits()) != before:
        marks.save(save_as, overwrite=overwrite)
    _show(marks, residuals)
    if export_model is not None:
        print(
            f"wrote      {td.export_landmarks(marks, export_model, prexg=prexg, binning=binning)}"
        )
    if picture is not None:
        print(f"wrote      {marks.picture(picture)}")


@app.command
def solve(
    model: Path,
    *,
    tilt_angles: Path | None = None,
    com: Path | None = None,
    pixel_size: float | None = None,
    tilt_axis: float | None = None,
    out: Path,
) -> None:
    """Solve an alignment from a fiducial model of IMOD, from anywhere; no images are needed.

    Parameters
    ----------
    model
        Fiducial model (.fid).
    tilt_angles
        Nominal tilt angles (.rawtlt, .tlt); by default the file that --com names.
    com
        Command file of tiltalign (align.com): its variables, rotation and offsets are used.
        Without it what may vary is chosen from the data.
    pixel_size
        A; by default as the model says.
    tilt_axis
        Angle of the tilt axis, degrees counter-clockwise from +y; by default that of --com.
    out
        Folder for the results: .tltxf, .tlt, .xtilt, .zfac, .xyz, .resid and a log.
    """
    result = td.solve_model(
        model,
        out,
        tilt_angles=tilt_angles,
        com=com,
        pixel_size=pixel_size,
        tilt_axis=tilt_axis,
    )
    for line in result.lines:
        print(line)
    for path in result.files:
        print(f"wrote      {path}")


def _show(marks: Landmarks, residuals: int) -> None:
    for line in marks.summary():
        print(line)
    gaps = marks.gaps()
    missing = sum(map(len, gaps.values()))
    print(f"gaps       {missing} in {len(gaps)} landmarks")
    for number, views in gaps.items():
        print(f"           landmark {number}: views {', '.join(map(str, views))}")
    worst = marks.largest_residuals(residuals)
    if len(worst):
        print("largest residuals (pixels):")
        columns = ["landmark", "view", "tilt_angle", "residual", "residual_x", "residual_y"]
        text = worst[[*columns, "weight", "source"]].to_string(index=False, float_format="%.2f")
        print("  " + text.replace("\n", "\n  "))
    for edit in marks.edits():
        print(f"edit       {edit}")


def _fields(text: str, form: str) -> tuple[list[int], list[float]]:
    """Return the whole numbers and the coordinates of "LANDMARK:VIEW:X:Y", or less of it."""
    parts = text.split(":")
    try:
        if len(parts) != len(form.split(":")):
            raise ValueError(text)
        return [int(part) for part in parts[:2]], [float(part) for part in parts[2:]]
    except ValueError:
        raise ParameterError(f"{text!r}: give {form}") from None
