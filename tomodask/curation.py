"""Which views of a series take part: recommended from measurements, decided by the user.

Nothing is deleted. A decision can be taken back, and the views that stay give the results they
gave before.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.engine.files import write_whole
from tomodask.engine.measure import measured
from tomodask.engine.workers import Resources
from tomodask.errors import DataError, FormatError, ParameterError
from tomodask.graph.inputs import view_source
from tomodask.io.paths import readable
from tomodask.io.series import imported_views, open_series
from tomodask.io.tables import remove_table, write_table
from tomodask.kernels.downsample import block_means
from tomodask.kernels.intensity_law import fit_intensity
from tomodask.kernels.neighbour_correlation import neighbour_correlations
from tomodask.kernels.view_quality import ViewQuality, measure_view
from tomodask.kernels.view_selection import recommend
from tomodask.model import provenance, views_of, views_with_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener
    from tomodask.graph.aligned_views import ViewSource

__all__ = ["curate", "write_curation"]

#: Raised by hand whenever the same views are measured or judged otherwise.
NUMERICS = 1
#: What is measured of a view and shown in the table.
_MEASURES = ("mean", "deviation", "noise", "contrast", "coverage", "saturated")
#: Arrays of an image's size that measuring needs.
_COPIES = 4
#: Edge to which views are averaged down before they are compared with each other, pixels.
_SMALL = 128


def curate(
    series: str | Path,
    *,
    exclude: Mapping[int, str] | Sequence[int] = (),
    include: Sequence[int] = (),
    decisions: str | Path | None = None,
    automatic: bool = True,
    reset: bool = False,
    exclude_series: str | None = None,
    include_series: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> xr.Dataset:
    """Decide which views of a series take part in what follows.

    Every view is measured, and those that are dark, blank, blocked, saturated, moved or unlike
    their neighbours are flagged with the reason. What the user decides wins over that, and is
    kept when the series is curated again.

    Parameters
    ----------
    series
        Folder of the store.
    exclude
        Views, from 0, to leave out; a mapping gives the reason of each.
    include
        Views to take in, whatever is recommended.
    decisions
        A table as :func:`write_curation` writes it, edited: rows whose ``included`` or ``reason``
        was changed are the user's decisions.
    automatic
        Whether recommended views are flagged; otherwise they are only listed in ``recommended``.
    reset
        Whether all earlier decisions are forgotten first.
    exclude_series, include_series
        Leave the whole series out, for this reason; or take it in again.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    xarray.Dataset
        The table, as stored: ``included``, ``reason``, ``decided_by``, ``recommended`` and what
        was measured, along ``tilt``.

    Raises
    ------
    ParameterError
        If a view does not exist, is both excluded and included, or has no image to include.
    DataError
        If fewer than two views would be left.
    FormatError
        If the table of decisions cannot be read.
    """
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    imported = imported_views(path)
    count = imported.sizes["tilt"]
    before = None if reset or "curation" not in tree.children else tree["curation"].to_dataset()
    decided = _user_decisions(before, count)
    remembered = set(decided) - set(include)
    if decisions is not None:
        decided |= _read_decisions(Path(decisions), imported if reset else views_of(tree))
    given = _given_decisions(exclude, include, count)
    images = tree["tilt_series"].to_dataset() if "tilt_series" in tree.children else None
    there = set(
        np.flatnonzero(imported["movie"].values != "")
        if images is None
        else views_with_image(images)
    )
    for view, (included, _) in (decided | given).items():
        if included and view not in there and view not in remembered:
            raise ParameterError(
                f"view {view} cannot be included: it has no image "
                f"({imported['reason'].values[view]})"
            )
    # What was to be included and has lost its image comes back with it.
    decided = {
        view: decision
        for view, decision in (decided | given).items()
        if view in there or not decision[0]
    }
    identity = ""
    measures: dict[str, Any] = {}
    if images is not None:
        resources = Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler)
        motion = tree["motion"].to_dataset() if "motion" in tree.children else None
        identity, measures = _measures(path, imported, images, motion, before, resources, progress)
    table = _decide(imported, decided, measures, automatic=automatic)
    if int(table["included"].values.sum()) < 2:
        raise DataError(f"{path.name}: fewer than two views would be left; include some")
    table.attrs = {
        "measured": identity,
        **_series_decision(before, exclude_series, include_series=include_series),
        "provenance": provenance("curate", automatic=bool(automatic)),
    }
    if reset and not (decided or measures or exclude_series):
        remove_table(path, "curation")
        return table
    write_table(path, "curation", table, "curation")
    return table


def write_curation(series: str | Path, out: str | Path) -> Path:
    """Write the views of a series as a table (CSV) that can be edited and read by :func:`curate`.

    Parameters
    ----------
    series
        Folder of the store.
    out
        The file.
    """
    tree = open_series(Path(series).expanduser().resolve())
    views = views_of(tree)
    columns: dict[str, Any] = {
        "view": range(views.sizes["tilt"]),
        "tilt_angle": [f"{angle:.3f}" for angle in views["tilt_angle"].values],
        "included": ["yes" if value else "no" for value in views["included"].values],
        "reason": views["reason"].values if "reason" in views.coords else [""] * len(views["tilt"]),
    }
    if "curation" in tree.children:
        table = tree["curation"].to_dataset()
        columns["decided_by"] = table["decided_by"].values
        columns["recommended"] = table["recommended"].values
        for name in (*_MEASURES, "expected_mean", "motion", "correlation"):
            if name in table:
                columns[name] = [f"{value:.6g}" for value in table[name].values]
    with (
        write_whole(Path(out)) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return Path(out)


Decisions = dict[int, tuple[bool, str]]


def _user_decisions(before: xr.Dataset | None, count: int) -> Decisions:
    if before is None or before.sizes["tilt"] != count:
        return {}
    return {
        int(view): (bool(before["included"].values[view]), str(before["reason"].values[view]))
        for view in np.flatnonzero(before["decided_by"].values == "user")
    }


def _given_decisions(
    exclude: Mapping[int, str] | Sequence[int], include: Sequence[int], count: int
) -> Decisions:
    both = set(exclude) & set(include)
    if both:
        raise ParameterError(f"views {sorted(both)} are to be excluded and included; give one")
    for view in (*exclude, *include):
        if not 0 <= view < count:
            raise ParameterError(f"view {view}: the series has views 0 to {count - 1}")
    reasons = exclude if isinstance(exclude, Mapping) else dict.fromkeys(exclude, "")
    return {int(view): (False, reasons[view] or "excluded by the user") for view in reasons} | {
        int(view): (True, "") for view in include
    }


def _read_decisions(file: Path, now: xr.Dataset) -> Decisions:
    """Return the rows of a table that say something else than the series does now."""
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    changed: Decisions = {}
    seen: dict[int, bool] = {}
    try:
        # Spreadsheets put a mark before UTF-8.
        with readable(file), file.open(newline="", encoding="utf-8-sig") as stream:
            head = stream.readline()
            stream.seek(0)
            delimiter = max(",;\t", key=head.count)
            rows = list(csv.DictReader(stream, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{file} is no table: {error}; save it as CSV in UTF-8") from error
    if not rows:
        raise FormatError(f"{file} holds no rows; give a table that 'tomodask curate --write' made")
    for line, row in enumerate(rows, 2):
        try:
            view, included = int(row["view"]), words[row["included"].strip().lower()]
            reason = (row.get("reason") or "").strip()
            if not 0 <= view < now.sizes["tilt"]:
                raise ValueError(f"there is no view {view}")
        except (KeyError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{file}, line {line}: {error}; it needs the columns view (a number from 0) and "
                "included (yes or no), as 'tomodask curate --write FILE' writes them"
            ) from error
        if seen.setdefault(view, included) != included:
            raise FormatError(f"{file}, line {line}: view {view} stands there twice; keep one row")
        known = str(now["reason"].values[view]) if "reason" in now.coords else ""
        if included != bool(now["included"].values[view]) or (not included and reason != known):
            changed[view] = (included, "" if included else reason or "excluded by the user")
    return changed


def _measures(
    path: Path,
    imported: xr.Dataset,
    images: xr.Dataset,
    motion: xr.Dataset | None,
    before: xr.Dataset | None,
    resources: Resources,
    progress: Listener | None,
) -> tuple[str, dict[str, Any]]:
    """Return what is measured of every view, and what identifies it; from the table if it is there.

    ``recommended`` is among it.
    """
    source = view_source(images)
    count = images.sizes["tilt"]
    identity = _digest(
        numerics=NUMERICS,
        images=source.checksums,
        edits=None if source.edits is None else source.edits.digest,
        tilt_angle=images["tilt_angle"].values,
        exposure=images["exposure"].values if "exposure" in images.coords else None,
        tilt_axis=images.attrs.get("tilt_axis_angle"),
        included=imported["included"].values,
        motion=None if motion is None else np.nan_to_num(motion["shift_y"].values),
    )
    names = (*_MEASURES, "expected_mean", "motion", "correlation", "recommended")
    if before is not None and before.attrs.get("measured") == identity:
        return identity, {name: before[name].values for name in names}
    views = views_with_image(images)
    with measured(
        f"curate {path.name}",
        path / ".work" / "curation",
        {"step": "measure views", "identity": identity},
        _measure,
        [(source, view) for view in views],
        stage="measure views",
        task_bytes=4 * _COPIES * int(np.prod(source.shape)),
        resources=resources,
        listen=progress,
    ) as found:
        quality = [ViewQuality(**entry["quality"]) for entry in found]
        small = np.array([entry["small"] for entry in found], np.float32)
    angles = images["tilt_angle"].values[views]
    exposure = images["exposure"].values[views] if "exposure" in images.coords else None
    travel = np.full(count, np.nan) if motion is None else _travel(motion)
    # A view that was taken again would be judged by its own double.
    alone = np.flatnonzero(imported["included"].values[views])
    correlation = np.full(len(views), np.nan)
    correlation[alone] = neighbour_correlations(
        small[alone], angles[alone], tilt_axis_angle=images.attrs.get("tilt_axis_angle")
    )
    reasons = recommend(
        quality, angles, exposure=exposure, motion=travel[views], correlation=correlation
    )
    law = fit_intensity(np.array([view.mean for view in quality]), angles, exposure)
    expected = np.full(len(views), np.nan) if law is None else law.expected(angles, exposure)

    def column(values: Any) -> NDArray[np.float64]:
        whole = np.full(count, np.nan)
        whole[views] = values
        return whole

    recommended = np.full(count, "", object)
    for place, reason in reasons:
        recommended[views[place]] = reason
    measures: dict[str, Any] = {
        name: column([getattr(view, name) for view in quality]) for name in _MEASURES
    }
    measures |= {
        "expected_mean": column(expected),
        "motion": travel,
        "correlation": column(correlation),
        "recommended": recommended.astype(str),
    }
    return identity, measures


def _digest(**facts: Any) -> str:
    """Return what identifies measurements, the same in every process and version of libraries."""
    plain = {name: np.asarray(fact).tolist() for name, fact in facts.items()}
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


def _measure(source: ViewSource, view: int) -> dict[str, Any]:
    image = source.read(view)
    return {
        "quality": asdict(measure_view(image)),
        "small": block_means(image, max(image.shape) // _SMALL).tolist(),
    }


def _travel(motion: xr.Dataset) -> NDArray[np.float64]:
    """Return the length of the path (A) that each view's frames went."""
    steps = np.hypot(np.diff(motion["shift_y"].values), np.diff(motion["shift_x"].values))
    path: NDArray[np.float64] = np.nansum(steps, axis=1)
    path[motion["failed"].values != ""] = np.nan
    return path


def _decide(
    imported: xr.Dataset, decided: Decisions, measures: dict[str, Any], *, automatic: bool
) -> xr.Dataset:
    count = imported.sizes["tilt"]
    included = imported["included"].values.copy()
    reason = np.full(count, "", object)
    if "reason" in imported.coords:
        reason[:] = imported["reason"].values
    decided_by = np.full(count, "", object)
    recommended = measures.get("recommended", np.full(count, ""))
    for view in range(count):
        if view in decided:
            included[view], reason[view] = decided[view]
            decided_by[view] = "user"
        elif automatic and included[view] and recommended[view]:
            included[view], reason[view] = False, recommended[view]
            decided_by[view] = "recommendation"
    coordinates = {
        "included": included,
        "reason": reason.astype(str),
        "decided_by": decided_by.astype(str),
        "recommended": np.asarray(recommended, str),
    }
    rest = {name: values for name, values in measures.items() if name != "recommended"}
    return xr.Dataset(
        {name: ("tilt", values) for name, values in rest.items()},
        coords={name: ("tilt", values) for name, values in coordinates.items()},
    )


def _series_decision(
    before: xr.Dataset | None, reason: str | None, *, include_series: bool
) -> dict[str, Any]:
    if reason is not None and include_series:
        raise ParameterError("the series is to be excluded and included; give one")
    if reason is not None:
        return {"series_included": False, "series_reason": reason or "excluded by the user"}
    if include_series or before is None:
        return {"series_included": True, "series_reason": ""}
    names = ("series_included", "series_reason")
    return {name: before.attrs[name] for name in names if name in before.attrs}
