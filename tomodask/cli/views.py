"""Commands on the images of a series: clean, curate, preprocess."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

import tomodask as td
from tomodask.cli.app import Bin, Quiet, Run, app, numbers, progress


@app.command
def clean(
    series: Path,
    *,
    peak: float = 8.0,
    difference: float = 6.0,
    undo: Annotated[bool, Parameter(negative="")] = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Find hot and dead pixels; they are mended whenever the images are read.

    Parameters
    ----------
    series
        The store.
    peak
        Standard deviations by which a pixel stands out of the annulus around it.
    difference
        Standard deviations by which it differs from its neighbours.
    undo
        Forget what was found: the images are read as they are stored.
    """
    if undo:
        td.undo_cleaning(series)
        print("cleaning   undone")
        return
    with progress(quiet=run.quiet) as listen:
        table = td.clean(series, peak=peak, difference=difference, **run.resources, progress=listen)
    of_views = np.diff(table["start"].values)
    dead = int(table["dead"].values.sum())
    print(f"cleaning   {of_views.sum()} pixels in {len(of_views)} views ({dead} dead)")
    if len(of_views):
        most = int(of_views.argmax())
        usual = np.median(of_views)
        print(f"           median {usual:g} a view, most {of_views[most]} (view {most})")


@app.command
def curate(
    series: Path,
    *,
    exclude: str = "",
    include: str = "",
    reason: str = "",
    automatic: bool = True,
    read: Path | None = None,
    write: Path | None = None,
    reset: Annotated[bool, Parameter(negative="")] = False,
    exclude_series: str | None = None,
    include_series: Annotated[bool, Parameter(negative="")] = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Decide which views take part in what follows; every decision can be taken back.

    Views are measured, and those that are dark, blank, blocked, saturated, moved or unlike their
    neighbours are flagged, each with its reason. What you decide wins and is kept.

    Parameters
    ----------
    series
        The store.
    exclude
        Views to leave out, counted from 0 by tilt angle, e.g. 0,3,38-40.
    include
        Views to take in, whatever is recommended.
    reason
        Why the views of --exclude are left out.
    automatic
        Flag what is recommended; otherwise only list it.
    read
        CSV table, as --write writes it, with your changes to the columns included and reason.
    write
        CSV table to write when all is decided.
    reset
        Forget all earlier decisions first.
    exclude_series
        Leave the whole series out of a dataset, for this reason.
    include_series
        Take the whole series in again.
    """
    with progress(quiet=run.quiet) as listen:
        table = td.curate(
            series,
            exclude=dict.fromkeys(numbers(exclude), reason),
            include=numbers(include),
            decisions=read,
            automatic=automatic,
            reset=reset,
            exclude_series=exclude_series,
            include_series=include_series,
            **run.resources,
            progress=listen,
        )
    if not table.attrs.get("series_included", True):
        print(f"series     is excluded as a whole: {table.attrs['series_reason']}")
    included = table["included"].values
    print(f"included   {included.sum()} of {len(included)} views")
    for view in np.flatnonzero(~included):
        by = table["decided_by"].values[view] or "import"
        print(f"excluded   {view}: {table['reason'].values[view]} ({by})")
    for view in np.flatnonzero(included & (table["recommended"].values != "")):
        print(f"look at    {view}: {table['recommended'].values[view]} (included all the same)")
    if write is not None:
        print(f"wrote      {td.write_curation(series, write)}")


@app.command
def preprocess(
    series: Path,
    *,
    binning: Bin = 1.0,
    normalize: Annotated[bool, Parameter(negative="")] = False,
    half: Literal["even", "odd"] | None = None,
    out: Path | None = None,
    quiet: Quiet = False,
) -> None:
    """Make a series ready for alignment (cleaned, binned, normalised), and check it.

    The store stays as it is. The checks are printed: size, missing and double tilts, their order,
    contrast across the range.

    Parameters
    ----------
    series
        The store.
    binning
        Pixel size over that of the images; need not be whole.
    normalize
        Bring every view to mean 0 and standard deviation 1.
    half
        The sums of the even or of the odd frames.
    out
        MRC file for the stack of included views; their angles go beside it as .rawtlt.
    quiet
        No progress bars.
    """
    tree = td.open(series)
    stack = td.preprocess(tree, binning=binning, normalize=normalize, part=half or "images")
    for check in td.check_stack(stack):
        print(f"{'ok  ' if check.ok else 'LOOK'}  {check.name:<14} {check.message}")
    if out is not None:
        from tomodask.exporting import write_stack

        with progress(quiet=quiet) as listen:
            for path in write_stack(stack, out, progress=listen):
                print(f"wrote      {path}")
