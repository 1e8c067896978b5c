"""The command line: every command is one call of the public Python API.

Exit codes: 0 done; 1 the input or the product is wrong; 2 the command is wrong; 3 stopped before
the end, what is finished is kept and the same command finishes it.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

import tomodask as td
from tomodask.engine.events import Listener
from tomodask.errors import (
    ClusterError,
    IncompleteError,
    LockedError,
    ParameterError,
    SpaceError,
    TaskError,
    TomodaskError,
    TomodaskWarning,
)

__all__ = ["app", "main"]

_HELP = """Cryo-electron tomography from tilt series to tomogram, out of core.

A first tomogram: `tomodask demo`. With your own data, one line a step:

    tomodask import TS_01.st --tilt-angles TS_01.rawtlt --pixel-size 2.7 --out TS_01.zarr
    tomodask align TS_01.zarr --method coarse
    tomodask reconstruct TS_01.zarr --thickness 300 --bin 4
    tomodask export TS_01.zarr --tomogram wbp --out TS_01.mrc

Every command may be interrupted and given again: it goes on where it stopped. Exit codes: 0 done,
1 wrong input, 2 wrong command, 3 stopped before the end (give the same command again).
"""

app = App(
    name="tomodask",
    help=_HELP,
    help_format="markdown",
    version=lambda: td.__version__,
    suppress_keyboard_interrupt=False,
)

#: Endings of MRC files.
_IMAGES = (".mrc", ".mrcs", ".rec", ".map", ".st", ".ali")
_RUN = Group("Where it runs", sort_key=5)
_Workers = Annotated[int | None, Parameter(group=_RUN)]
_Memory = Annotated[str | None, Parameter(group=_RUN)]
_Scheduler = Annotated[str, Parameter(group=_RUN)]
_Bin = Annotated[float, Parameter(name="--bin")]
_Quiet = Annotated[bool, Parameter(name="--quiet", negative="", group=_RUN)]


@contextmanager
def _progress(quiet: bool) -> Iterator[Listener | None]:
    if quiet:
        yield None
        return
    from tomodask.view.progress import terminal_progress

    with terminal_progress() as listen:
        yield listen


@app.command
def demo(
    *,
    out: Path = Path("tomodask-demo"),
    workers: _Workers = None,
    memory_limit: _Memory = None,
    quiet: _Quiet = False,
) -> None:
    """Simulate a small tilt series, align it, reconstruct it and look at it.

    Parameters
    ----------
    out
        Folder for the results.
    workers
        Most tasks at once; all cores by default.
    memory_limit
        For everything together, e.g. 4GiB; 60 % of the free memory by default.
    quiet
        No progress bars.
    """
    with _progress(quiet) as listen:
        folder = td.demo(out, workers=workers, memory_limit=memory_limit, progress=listen)
    print(f"tomogram   {folder / 'demo.zarr'} (tomograms/wbp)")
    print(f"MRC copy   {folder / 'demo.mrc'}")
    print(f"picture    {folder / 'demo.png'}")


@app.command(name="import")
def import_(
    stack: Path,
    *,
    out: Path,
    tilt_angles: Path | None = None,
    xf: Path | None = None,
    tlt: Path | None = None,
    xtilt: Path | None = None,
    zfac: Path | None = None,
    pixel_size: float | None = None,
    tilt_axis: float | None = None,
    exclude: str = "",
    overwrite: bool = False,
    workers: _Workers = None,
    memory_limit: _Memory = None,
    scheduler: _Scheduler = "threads",
    quiet: _Quiet = False,
) -> None:
    """Import a stack of tilt images (MRC or TIFF) into a new store.

    Parameters
    ----------
    stack
        The images: .mrc, .st, .ali, .rec or TIFF.
    out
        The store to make, e.g. TS_01.zarr.
    tilt_angles
        .rawtlt, .tlt or mdoc file; by default an mdoc beside the stack, or its extended header.
    xf
        IMOD's transforms of this stack; stored as the alignment "imported".
    tlt
        Solved angles that belong to --xf, where --tilt-angles are the nominal ones.
    xtilt
        X-tilts that belong to --xf.
    zfac
        Z factors that belong to --xf.
    pixel_size
        In A; wins over the header.
    tilt_axis
        Angle of the tilt axis, degrees counter-clockwise from +y; wins over the header.
    exclude
        Sections to flag as excluded, counted from 0, e.g. 0,3,38-40.
    overwrite
        Replace a store of another import, with all that it holds.
    workers
        Most tasks at once; all cores by default.
    memory_limit
        For everything together, e.g. 4GiB; 60 % of the free memory by default.
    scheduler
        threads, processes, or the address of a Dask scheduler.
    quiet
        No progress bars.
    """
    with _progress(quiet) as listen:
        path = td.import_stack(
            stack,
            out,
            tilt_angles=tilt_angles,
            xf=xf,
            tlt=tlt,
            xtilt=xtilt,
            zfac=zfac,
            pixel_size=pixel_size,
            tilt_axis=tilt_axis,
            exclude=_numbers(exclude),
            overwrite=overwrite,
            workers=workers,
            memory_limit=memory_limit,
            scheduler=scheduler,
            progress=listen,
        )
    _print_info(td.info(path))


@app.command
def align(
    series: Path,
    *,
    method: Literal["coarse"] = "coarse",
    name: str | None = None,
    tilt_axis: float | None = None,
    search_axis: bool = False,
    reference: Literal["neighbour", "running"] = "running",
    overwrite: bool = False,
    quiet: _Quiet = False,
) -> None:
    """Align a tilt series; the alignment is stored, the images stay as they are.

    Parameters
    ----------
    series
        The store.
    method
        coarse: shifts by correlation with the neighbouring views, outwards from the lowest tilt.
    name
        Name to store it under; the method's by default.
    tilt_axis
        Angle of the tilt axis, degrees counter-clockwise from +y; by default as recorded, and
        searched for where it is not.
    search_axis
        Search for the axis although it is recorded.
    reference
        Correlate with the running sum of the views aligned so far, or with the neighbour alone.
    overwrite
        Replace an alignment of that name.
    quiet
        No progress bars.
    """
    with _progress(quiet) as listen:
        alignment = td.align(
            series,
            method=method,
            name=name,
            tilt_axis=tilt_axis,
            search_axis=search_axis,
            reference=reference,
            overwrite=overwrite,
            progress=listen,
        )
    axis = float(alignment["tilt_axis_angle"].median())
    shift_x, shift_y = alignment["shift_x"].values, alignment["shift_y"].values
    largest = float((shift_x**2 + shift_y**2).max() ** 0.5)
    print(f"alignment  {name or method}: {alignment.sizes['tilt']} views, tilt axis {axis:.2f} deg")
    print(f"shifts     up to {largest:.1f} A from the image centre")
    if "score" in alignment:
        score = alignment["score"]
        print(f"score      mean {float(score.mean()):.3f}, lowest {float(score.min()):.3f}")


@app.command
def reconstruct(
    series: Path,
    *,
    thickness: int,
    binning: _Bin = 1.0,
    alignment: str | None = None,
    name: str = "wbp",
    weighting: Literal["ramp", "exact", "none"] = "ramp",
    radial: tuple[float, float] = (0.35, 0.035),
    sirt_like: int = 0,
    x_range: str | None = None,
    y_range: str | None = None,
    z_range: str | None = None,
    levels: int | None = None,
    overwrite: bool = False,
    workers: _Workers = None,
    memory_limit: _Memory = None,
    scheduler: _Scheduler = "threads",
    quiet: _Quiet = False,
) -> None:
    """Reconstruct a tomogram by weighted back-projection, slab by slab, into the store.

    Parameters
    ----------
    series
        The store.
    thickness
        Height of the tomogram, voxels at the binning given.
    binning
        Binning: voxel size over pixel size; need not be whole.
    alignment
        Name of the alignment to use, or none for the recorded angles; by default the only one.
    name
        Name of the tomogram.
    weighting
        ramp, exact (for uneven tilts) or none.
    radial
        Cutoff and Gaussian fall-off of the low-pass, cycles per voxel.
    sirt_like
        Shape the ramp like so many SIRT iterations; 0 for a plain ramp.
    x_range
        Voxels START:STOP of the full tomogram to make.
    y_range
        As --x-range, along the tilt axis.
    z_range
        As --x-range, along the height.
    levels
        Number of resolutions; by default until every edge is at most 128 voxels.
    overwrite
        Replace a tomogram of this name that was made otherwise.
    workers
        Most tasks at once; all cores by default.
    memory_limit
        For everything together, e.g. 4GiB; 60 % of the free memory by default.
    scheduler
        threads, processes, or the address of a Dask scheduler.
    quiet
        No progress bars.
    """
    volume = td.reconstruct(
        td.open(series),
        thickness=thickness,
        binning=binning,
        alignment=alignment,
        weighting=weighting,
        radial=radial,
        sirt_like=sirt_like,
        x_range=_range(x_range),
        y_range=_range(y_range),
        z_range=_range(z_range),
    )
    with _progress(quiet) as listen:
        folder = td.store(
            volume,
            name=name,
            levels=levels,
            overwrite=overwrite,
            workers=workers,
            memory_limit=memory_limit,
            scheduler=scheduler,
            progress=listen,
        )
    size = " x ".join(str(volume.sizes[axis]) for axis in "xyz")
    print(f"tomogram   {name}: {size} voxels (x, y, z) of {volume.attrs['voxel_size']:g} A")
    print(f"stored in  {folder}")


@app.command
def export(
    series: Path,
    *,
    out: Path,
    tomogram: str | None = None,
    alignment: str | None = None,
    aligned_stack: str | None = None,
    file_format: Annotated[Literal["imod", "mrc"] | None, Parameter(name="--format")] = None,
    binning: _Bin = 1.0,
    level: int = 0,
    x_range: str | None = None,
    y_range: str | None = None,
    z_range: str | None = None,
    quiet: _Quiet = False,
) -> None:
    """Write a tomogram, an aligned stack or an alignment for other programs.

    Give one of --tomogram, --alignment and --aligned-stack.

    Parameters
    ----------
    series
        The store.
    out
        File (MRC) or, for an alignment, folder to write.
    tomogram
        Name of a tomogram, written as an MRC volume (sections z, rows y, columns x) or, where the
        file's name ends in .png, as a picture of its central slices.
    alignment
        Name of an alignment, written as NAME.xf, NAME.tlt and, where it has them, NAME.xtilt,
        NAME.zfac and NAME.excluded, one line per section of the imported stack.
    aligned_stack
        Name of an alignment (or none) to apply; the aligned images are written as an MRC stack.
    file_format
        imod for an alignment, mrc for images; told by what is exported.
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
    chosen = [tomogram, alignment, aligned_stack]
    if sum(item is not None for item in chosen) != 1:
        raise ParameterError("give one of --tomogram NAME, --alignment NAME, --aligned-stack NAME")
    if file_format is not None and (file_format == "imod") != (alignment is not None):
        raise ParameterError("--format imod is for --alignment, --format mrc for images")
    ranges = [x_range, y_range, z_range] != [None] * 3
    picture = out.suffix.lower() == ".png"
    if aligned_stack is None and binning != 1:
        raise ParameterError("--bin is for --aligned-stack; of a tomogram give --level")
    if (ranges or level) and (tomogram is None or picture):
        raise ParameterError("--level and ranges are for a --tomogram written as MRC")
    if alignment is None and out.suffix.lower() not in _IMAGES and not (picture and tomogram):
        raise ParameterError(f"{out}: give a name ending in {', '.join(_IMAGES)}, or .png")
    tree = td.open(series)
    with _progress(quiet) as listen:
        if tomogram is not None and picture:
            from tomodask.exporting import check_tomogram
            from tomodask.view.slices import level_for

            check_tomogram(tree, tomogram)
            volume = level_for(tree["tomograms"].children[tomogram].children["full"])
            written = [td.orthoslices_png(volume, out)]
        elif tomogram is not None:
            written = [
                td.export_tomogram(
                    tree,
                    out,
                    tomogram=tomogram,
                    level=level,
                    x_range=_range(x_range),
                    y_range=_range(y_range),
                    z_range=_range(z_range),
                    progress=listen,
                )
            ]
        elif aligned_stack is not None:
            stack = td.align_stack(tree, binning=binning, alignment=aligned_stack)
            written = [td.export_stack(stack, out, progress=listen)]
        else:
            assert alignment is not None
            written = td.export_alignment(tree, out, alignment=alignment)
    for path in written:
        print(f"wrote      {path}")


@app.command
def info(series: Path, *, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Tell what a store holds.

    Parameters
    ----------
    series
        The store.
    as_json
        As JSON, for scripts.
    """
    _print_info(td.info(series), as_json=as_json)


def _print_info(values: dict[str, Any], *, as_json: bool = False) -> None:
    if as_json:
        print(json.dumps(values, indent=1))
        return
    low, high = values["tilt_range_degree"]
    axis = values["tilt_axis_angle_degree"]
    width, height = values["image_size_xy"]
    excluded = values["excluded_views"]
    print(f"series     {values['name']} ({values['path']})")
    print(
        f"views      {values['views']} of {width} x {height}, {values['pixel_size_angstrom']:g} A"
    )
    print(f"tilts      {low:g} to {high:g} deg, axis {'not recorded' if axis is None else axis}")
    if excluded:
        print(f"excluded   {', '.join(map(str, excluded))} (from 0)")
    for name, entry in values["alignments"].items():
        score = f", mean score {entry['mean_score']}" if "mean_score" in entry else ""
        print(f"alignment  {name}: axis {entry['tilt_axis_angle_degree']:g} deg{score}")
    for name, entry in values["tomograms"].items():
        size = " x ".join(map(str, entry["shape_xyz"]))
        print(f"tomogram   {name}: {size} (x, y, z), {entry['voxel_size_angstrom']:g} A")
    for line in values["incomplete"]:
        print(f"incomplete {line}; give the same command again to finish it")


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        start, stop = text.split(":")
        return int(start), int(stop)
    except ValueError:
        raise ParameterError(f"range {text!r}: give START:STOP in voxels") from None


def _numbers(text: str) -> list[int]:
    """Return the numbers of a list such as "0,3,38-40"."""
    numbers: list[int] = []
    try:
        for part in filter(None, text.replace(" ", "").split(",")):
            first, _, last = part.partition("-")
            span = range(int(first), int(last or first) + 1)
            if not span:
                raise ValueError(part)
            numbers += span
    except ValueError:
        raise ParameterError(f"list {text!r}: give numbers such as 0,3,38-40") from None
    return numbers


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    warnings.simplefilter("always", TomodaskWarning)
    warnings.showwarning = _show_warning
    # A batch system ends a job so; the lock must not outlive it, for the job may go on elsewhere.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return 2
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, give the same command again", 3)
    except ParameterError as error:
        return _fail(str(error), 2)
    except (ClusterError, IncompleteError, LockedError, SpaceError, TaskError) as error:
        return _fail(str(error), 3)
    except TomodaskError as error:
        return _fail(str(error), 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"tomodask: {message}", file=sys.stderr)
    return code


def _show_warning(
    message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    del where, more
    label = "note" if issubclass(category, TomodaskWarning) else category.__name__
    print(f"tomodask: {label}: {message}", file=sys.stderr)
