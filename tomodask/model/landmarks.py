"""Landmarks as a table, and the edits that a person makes to it; every edit can be undone.

An observation is a landmark seen in a view. Its ``source`` says how it came there: "tracked" by the
program, "filled" where the solution predicts it, "edited" by hand, "deleted" by hand, which stays
in the table so that no later tracking brings it back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.errors import ParameterError
from tomodask.model.registry import REGISTRY, validate, variable_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "carry_edits",
    "edit_landmarks",
    "history_of",
    "landmarks_dataset",
    "measured_observations",
    "missing_views",
    "observation_index",
    "undo_edit",
]

#: Attribute that holds the edits, so that they can be undone after the table was stored.
_HISTORY = "history"
#: What is not known of an observation that was set by hand.
_UNSOLVED = dict.fromkeys(("residual_y", "residual_x", "error", "weight"), np.nan)


def landmarks_dataset(
    *,
    landmark: ArrayLike,
    view: ArrayLike,
    position: ArrayLike,
    source: ArrayLike = "tracked",
    attributes: Mapping[str, Any] | None = None,
    **extra: ArrayLike,
) -> xr.Dataset:
    """Return a table of landmarks.

    Parameters
    ----------
    landmark, view
        (observation,) index of the landmark, from 0, and of the view.
    position
        (observation, 2) raw (x, y) from the image centre, A.
    source
        (observation,) "tracked", "filled", "edited" or "deleted".
    attributes
        Of the table: "method", "alignment", "pixel_size" (A), provenance.
    **extra
        Further variables of the registry; what is not given is not known yet.

    Returns
    -------
    xarray.Dataset with dimensions ``observation`` and ``landmark``.
    """
    of = np.asarray(landmark, np.int64)
    place = np.asarray(position, np.float64).reshape(-1, 2)
    count = int(of.max()) + 1 if len(of) else 0
    count = max([count, *(len(np.asarray(extra[n])) for n in ("number", "chosen") if n in extra)])
    values: dict[str, Any] = {
        "landmark_of": of,
        "view": np.asarray(view, np.int64),
        "y": place[:, 1],
        "x": place[:, 0],
        "source": np.broadcast_to(np.asarray(source, str), of.shape),
        **{name: np.full(len(of), value) for name, value in _UNSOLVED.items()},
        "number": np.arange(1, count + 1),
        **{f"specimen_{axis}": np.full(count, np.nan) for axis in "zyx"},
        "surface": np.zeros(count, np.int64),
        "chosen": np.ones(count, bool),
        "score": np.full(count, np.nan),
        **extra,
    }
    table = xr.Dataset(
        {
            variable.name: (
                variable.dims,
                np.asarray(values[variable.name]),
                variable_attributes("landmarks", variable.name),
            )
            for variable in REGISTRY["landmarks"]
        },
        attrs=dict(attributes or {}),
    )
    validate(table, "landmarks", source="landmarks")
    return table


def measured_observations(
    table: xr.Dataset, included: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Return which (observation,) are measurements that a solution may use.

    Parameters
    ----------
    table
        Landmarks.
    included
        (tilt,) which views take part; all by default.
    """
    source = table["source"].values
    chosen = table["chosen"].values[table["landmark_of"].values]
    measured: NDArray[np.bool_] = np.isin(source, ("tracked", "edited")) & chosen
    return measured if included is None else measured & np.asarray(included)[table["view"].values]


def observation_index(table: xr.Dataset, number: int, view: int) -> int | None:
    """Return where landmark `number` is seen in a view, None where it is not."""
    at = np.flatnonzero(
        (table["number"].values[table["landmark_of"].values] == number)
        & (table["view"].values == view)
    )
    return int(at[0]) if len(at) else None


def missing_views(table: xr.Dataset, included: ArrayLike) -> dict[int, list[int]]:
    """Return the included views that each chosen landmark is not measured in, by its number.

    Observations that were deleted by hand are not missing.
    """
    views = np.flatnonzero(np.asarray(included, bool))
    there = np.isin(table["source"].values, ("tracked", "edited", "deleted"))
    gaps: dict[int, list[int]] = {}
    for index in np.flatnonzero(table["chosen"].values):
        seen = table["view"].values[there & (table["landmark_of"].values == index)]
        gone = np.setdiff1d(views, seen)
        if len(gone):
            gaps[int(table["number"].values[index])] = gone.tolist()
    return gaps


def edit_landmarks(
    table: xr.Dataset,
    what: str,
    *,
    points: Mapping[tuple[int, int], tuple[float, float, str]] | None = None,
    chosen: Mapping[int, bool] | None = None,
) -> xr.Dataset:
    """Return the table with some of its points set, and the edit noted so that it can be undone.

    Parameters
    ----------
    table
        Landmarks.
    what
        The edit in words.
    points
        (number, view) -> (x, y, source): an observation that is replaced, or added where there is
        none; a number that is not there yet makes a new landmark. A source of "" takes it out.
    chosen
        number -> whether the landmark takes part.

    Returns
    -------
    A new table; residuals and weights of what was changed are unknown until it is solved again.
    """
    # Of plain Python, for the history is kept as JSON.
    points = {
        (int(number), int(view)): (float(x), float(y), source)
        for (number, view), (x, y, source) in (points or {}).items()
    }
    chosen = {int(number): bool(value) for number, value in (chosen or {}).items()}
    before_points = {key: _point(table, *key) for key in points}
    known = table["number"].values.tolist()
    before_chosen: dict[int, bool | None] = {
        number: bool(table["chosen"].values[known.index(number)]) if number in known else None
        for number in chosen
    }
    new = sorted({number for number, _ in points} - set(known))
    edited = _apply(table, points, chosen)
    note = {
        "edit": what,
        "points": [[*key, *value] for key, value in before_points.items()],
        "chosen": [[number, value] for number, value in before_chosen.items()],
        "new": new,
    }
    edited.attrs[_HISTORY] = json.dumps([*_history(table), note])
    return edited


def undo_edit(table: xr.Dataset) -> tuple[xr.Dataset, str]:
    """Return the table before its last edit, and what that edit was.

    Raises
    ------
    ParameterError
        If nothing was edited.
    """
    history = _history(table)
    if not history:
        raise ParameterError("no edit of these landmarks is left to be undone")
    note = history.pop()
    points = {(number, view): (x, y, source) for number, view, x, y, source in note["points"]}
    chosen = {number: value for number, value in note["chosen"] if value is not None}
    restored = _apply(table, points, chosen)
    for number in note["new"]:
        restored = _without_landmark(restored, number)
    restored.attrs[_HISTORY] = json.dumps(history)
    return restored, str(note["edit"])


def carry_edits(old: xr.Dataset, new: xr.Dataset, reach: float) -> xr.Dataset:
    """Return new landmarks with what a person had edited in old ones of the same series.

    Landmarks are the same where their measured points lie within `reach` of each other in most of
    the views that both are seen in. Points set or deleted by hand take the place of what was
    tracked; landmarks made by hand are added, those deleted are left out.

    Parameters
    ----------
    old, new
        Tables of landmarks.
    reach
        A.
    """
    by_hand = np.isin(old["source"].values, ("edited", "deleted"))
    touched = {number for note in _history(old) for number, _ in note["chosen"]}
    places = {number: _places(new, index) for index, number in enumerate(new["number"].values)}
    free = int(new["number"].values.max(initial=0)) + 1
    points: dict[tuple[int, int], tuple[float, float, str]] = {}
    chosen: dict[int, bool] = {}
    for index, number in enumerate(old["number"].values.tolist()):
        mine = by_hand & (old["landmark_of"].values == index)
        if not mine.any() and number not in touched:
            continue
        track = _places(old, index)
        same = max(places, key=lambda other: _agreement(track, places[other], reach), default=-1)
        if same < 0 or _agreement(track, places[same], reach) <= 0.5:
            if not old["chosen"].values[index]:
                continue
            same, free = free, free + 1
            mine = old["landmark_of"].values == index
        for at in np.flatnonzero(mine):
            x, y = float(old["x"].values[at]), float(old["y"].values[at])
            points[int(same), int(old["view"].values[at])] = (x, y, str(old["source"].values[at]))
        if number in touched:
            chosen[int(same)] = bool(old["chosen"].values[index])
    if not points and not chosen:
        return new
    return edit_landmarks(new, "edits of the landmarks before", points=points, chosen=chosen)


def _places(table: xr.Dataset, index: int) -> dict[int, tuple[float, float]]:
    """Return where a landmark is measured, by view."""
    mine = (table["landmark_of"].values == index) & (table["source"].values != "filled")
    columns = (table[name].values[mine].tolist() for name in ("view", "x", "y"))
    return {view: (x, y) for view, x, y in zip(*columns, strict=True)}


def _agreement(
    one: dict[int, tuple[float, float]], other: dict[int, tuple[float, float]], reach: float
) -> float:
    """Return the part of the common views in which two landmarks lie at the same place."""
    common = one.keys() & other.keys()
    if not common:
        return 0.0
    near = [np.hypot(*np.subtract(one[view], other[view])) < reach for view in common]
    return float(np.mean(near))


def history_of(table: xr.Dataset) -> list[str]:
    """Return the edits of a table in words, the last one last."""
    return [str(note["edit"]) for note in _history(table)]


def _history(table: xr.Dataset) -> list[dict[str, Any]]:
    notes: list[dict[str, Any]] = json.loads(table.attrs.get(_HISTORY, "[]"))
    return notes


def _point(table: xr.Dataset, number: int, view: int) -> tuple[float, float, str]:
    at = observation_index(table, number, view)
    if at is None:
        return 0.0, 0.0, ""
    return (
        float(table["x"].values[at]),
        float(table["y"].values[at]),
        str(table["source"].values[at]),
    )


def _apply(
    table: xr.Dataset,
    points: dict[tuple[int, int], tuple[float, float, str]],
    chosen: dict[int, bool],
) -> xr.Dataset:
    for number in sorted({number for number, _ in points} - set(table["number"].values.tolist())):
        table = _with_landmark(table, number)
    numbers = table["number"].values.tolist()
    keep = np.ones(table.sizes["observation"], bool)
    rows: list[tuple[int, int, float, float, str]] = []
    for (number, view), (x, y, source) in points.items():
        at = observation_index(table, number, view)
        if at is not None:
            keep[at] = False
        if source:
            rows.append((numbers.index(number), view, x, y, source))
    columns: dict[str, list[Any]] = {
        "landmark_of": [row[0] for row in rows],
        "view": [row[1] for row in rows],
        "x": [row[2] for row in rows],
        "y": [row[3] for row in rows],
        "source": [row[4] for row in rows],
        **{name: [value] * len(rows) for name, value in _UNSOLVED.items()},
    }
    stays = table.isel(observation=keep)
    order = np.lexsort(
        (
            np.concatenate([stays["view"].values, np.array(columns["view"], np.int64)]),
            np.concatenate([stays["landmark_of"].values, np.array(columns["landmark_of"], int)]),
        )
    )
    merged = {}
    for name, column in columns.items():
        old = stays[name].values
        both = np.concatenate([old, np.array(column, None if name == "source" else old.dtype)])
        merged[name] = (("observation",), both[order], table[name].attrs)
    result = table.drop_dims("observation").assign(merged)
    if chosen:
        flags = table["chosen"].values.copy()
        for number, value in chosen.items():
            flags[numbers.index(number)] = value
        result["chosen"] = ("landmark", flags, table["chosen"].attrs)
    return result


def _with_landmark(table: xr.Dataset, number: int) -> xr.Dataset:
    """Return the table with room for one more landmark."""
    values: dict[str, Any] = {"number": number, "surface": 0, "chosen": True}
    grown = {}
    for name in table.data_vars:
        if table[name].dims == ("landmark",):
            old = table[name].values
            one = np.array(values.get(str(name), np.nan)).astype(old.dtype)
            grown[name] = (("landmark",), np.append(old, one), table[name].attrs)
    return table.drop_dims("landmark").assign(grown)


def _without_landmark(table: xr.Dataset, number: int) -> xr.Dataset:
    """Return the table without a landmark that has no observations."""
    index = table["number"].values.tolist().index(number)
    result = table.isel(landmark=np.arange(table.sizes["landmark"]) != index)
    of = result["landmark_of"].values
    result["landmark_of"] = ("observation", of - (of > index), table["landmark_of"].attrs)
    return result
