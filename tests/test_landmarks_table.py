"""Landmarks as a table: edits, what they leave alone, and undoing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.io.tables import read_table, write_table
from tomodask.model import (
    edit_landmarks,
    history_of,
    landmarks_dataset,
    measured_observations,
    missing_views,
    observation_index,
    undo_edit,
)

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

VIEWS = 5


def sample() -> xr.Dataset:
    """Three landmarks in five views; the second is not seen in views 0 and 4."""
    seen = [(0, v) for v in range(5)] + [(1, v) for v in (1, 2, 3)] + [(2, v) for v in range(5)]
    landmark, view = np.array(seen).T
    position = np.stack([100.0 * landmark + view, -50.0 * landmark], axis=1)
    return landmarks_dataset(
        landmark=landmark, view=view, position=position, number=np.array([4, 7, 9])
    )


def rows(table: xr.Dataset) -> set[tuple[int, int, float, float, str]]:
    of = table["number"].values[table["landmark_of"].values]
    columns = (of, *(table[name].values for name in ("view", "x", "y", "source")))
    return {
        (int(n), int(v), float(x), float(y), str(s)) for n, v, x, y, s in zip(*columns, strict=True)
    }


def test_a_point_is_moved_and_no_other() -> None:
    before = sample()
    after = edit_landmarks(before, "move", points={(7, 2): (1.0, 2.0, "edited")})
    assert rows(after) - rows(before) == {(7, 2, 1.0, 2.0, "edited")}
    assert rows(before) - rows(after) == {(7, 2, 102.0, -50.0, "tracked")}


def test_points_stay_in_the_order_of_landmark_and_view() -> None:
    after = edit_landmarks(sample(), "add", points={(7, 0): (1.0, 2.0, "edited")})
    keys = list(zip(after["landmark_of"].values, after["view"].values, strict=True))
    assert keys == sorted(keys)


def test_gaps_are_the_included_views_without_a_measurement() -> None:
    table = sample()
    assert missing_views(table, np.ones(VIEWS, bool)) == {7: [0, 4]}
    assert missing_views(table, np.arange(VIEWS) != 4) == {7: [0]}
    filled = edit_landmarks(table, "fill", points={(7, 0): (0.0, 0.0, "filled")})
    assert missing_views(filled, np.ones(VIEWS, bool)) == {7: [0, 4]}
    deleted = edit_landmarks(table, "delete", points={(4, 1): (1.0, 0.0, "deleted")})
    assert 4 not in missing_views(deleted, np.ones(VIEWS, bool))


def test_what_is_filled_deleted_or_left_out_is_no_measurement() -> None:
    table = edit_landmarks(
        sample(),
        "mixed",
        points={(4, 0): (0.0, 0.0, "deleted"), (7, 0): (0.0, 0.0, "filled")},
        chosen={9: False},
    )
    measured = measured_observations(table)
    assert measured.sum() == 4 + 3
    assert not measured[observation_index(table, 4, 0)]


def test_edits_are_undone_one_by_one() -> None:
    states = [sample()]
    states.append(edit_landmarks(states[-1], "move", points={(7, 2): (1.0, 2.0, "edited")}))
    states.append(edit_landmarks(states[-1], "leave out", chosen={4: False}))
    states.append(
        edit_landmarks(
            states[-1], "new", points={(10, 1): (5.0, 6.0, "edited"), (7, 0): (3.0, 3.0, "edited")}
        )
    )
    states.append(edit_landmarks(states[-1], "delete", points={(10, 1): (5.0, 6.0, "deleted")}))
    assert history_of(states[-1]) == ["move", "leave out", "new", "delete"]
    table = states[-1]
    for before, what in zip(states[-2::-1], ["delete", "new", "leave out", "move"], strict=True):
        table, undone = undo_edit(table)
        assert undone == what
        assert rows(table) == rows(before)
        np.testing.assert_array_equal(table["number"], before["number"])
        np.testing.assert_array_equal(table["chosen"], before["chosen"])
    with pytest.raises(ParameterError, match="no edit"):
        undo_edit(table)


def test_edits_can_be_undone_after_they_were_stored(tmp_path: Path) -> None:
    edited = edit_landmarks(sample(), "move", points={(7, 2): (1.0, 2.0, "edited")})
    write_table(tmp_path / "a.zarr", "landmarks/beads", edited, "landmarks")
    found = read_table(tmp_path / "a.zarr", "landmarks/beads", "landmarks")
    assert rows(found) == rows(edited)
    table, what = undo_edit(found)
    assert what == "move"
    assert rows(table) == rows(sample())


def test_landmarks_without_points_are_a_table_too(tmp_path: Path) -> None:
    empty = landmarks_dataset(landmark=[], view=[], position=np.empty((0, 2)))
    write_table(tmp_path / "a.zarr", "landmarks/none", empty, "landmarks")
    found = read_table(tmp_path / "a.zarr", "landmarks/none", "landmarks")
    assert found.sizes["observation"] == found.sizes["landmark"] == 0
    one = edit_landmarks(found, "add", points={(1, 3): (1.0, 1.0, "edited")})
    assert rows(one) == {(1, 3, 1.0, 1.0, "edited")}
