from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

from tomodask.errors import DataError, FormatError, StoreError
from tomodask.graph.edits import Edits, EditTable
from tomodask.io.series import create_store
from tomodask.io.tables import remove_table, write_table

if TYPE_CHECKING:
    from pathlib import Path

#: Of three views; the second has none.
START, Y, X = [0, 3, 3, 4], [5, 5, 20, 0], [7, 8, 31, 39]


def written(path: Path, digest: str = "abc", y: list[int] | None = None) -> Edits:
    create_store(path)
    count = len(Y)
    table = xr.Dataset(
        {
            "start": ("bound", np.array(START)),
            "y": ("edit", np.array(Y if y is None else y, np.int32)),
            "x": ("edit", np.array(X, np.int32)),
            "dead": ("edit", np.zeros(count, bool)),
            "strength": ("edit", np.ones(count, np.float32)),
        },
        attrs={"digest": digest},
    )
    write_table(path, "cleaning", table, "cleaning")
    return Edits(cleaning=EditTable(path / "cleaning", digest))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(50, 2, (30, 40)).astype(np.float32)


@pytest.mark.parametrize("view", [0, 1, 2])
def test_each_view_has_its_own(view: int, tmp_path: Path, image: np.ndarray) -> None:
    edits = written(tmp_path / "s.zarr")
    before = image.copy()
    edited = edits.apply(view, image)
    np.testing.assert_array_equal(image, before)
    changed = {tuple(map(int, place)) for place in np.argwhere(edited != image)}
    places = list(zip(Y, X, strict=True))[START[view] : START[view + 1]]
    assert changed == set(places)
    for place in places:
        assert abs(edited[place] - 50) < 14
    assert edited.dtype == np.float32


def test_neighbours_of_an_edit_make_it_not_the_pixel_itself(
    tmp_path: Path, image: np.ndarray
) -> None:
    edits = written(tmp_path / "s.zarr")
    expected = edits.apply(0, image)
    image[Y[:3], X[:3]] = 1e6
    np.testing.assert_array_equal(edits.apply(0, image), expected)
    image[6, 7] += 1
    assert edits.apply(0, image)[5, 7] != expected[5, 7]


def test_same_wherever_it_runs(tmp_path: Path, image: np.ndarray) -> None:
    edits = written(tmp_path / "s.zarr")
    sent = pickle.loads(pickle.dumps(edits))
    assert sent == edits
    np.testing.assert_array_equal(sent.apply(0, image), edits.apply(0, image))
    assert len(pickle.dumps(edits)) < 1000


def test_other_edits_are_refused(tmp_path: Path, image: np.ndarray) -> None:
    edits = written(tmp_path / "s.zarr")
    later = written(tmp_path / "s.zarr", "def", y=[6, 6, 21, 1])
    with pytest.raises(DataError, match=r"cleaning was changed since .* open the series again"):
        edits.apply(0, image)
    later.apply(0, image)
    remove_table(tmp_path / "s.zarr", "cleaning")
    with pytest.raises(StoreError, match="cleaning"):
        later.apply(0, image)


def test_lost_places_are_not_zeros(tmp_path: Path, image: np.ndarray) -> None:
    edits = written(tmp_path / "s.zarr")
    assert edits.cleaning is not None
    (edits.cleaning.table / "y" / "c" / "0").unlink()
    with pytest.raises(FormatError, match="missing"):
        edits.apply(0, image)


def test_gold_is_erased_after_cleaning(tmp_path: Path, image: np.ndarray) -> None:
    """A hot pixel beside a bead is mended first, so that no disc borrows it."""
    edits = written(tmp_path / "s.zarr")
    discs = xr.Dataset(
        {
            "start": ("bound", np.array([0, 1, 1, 1])),
            "y": ("edit", np.array([15.4])),
            "x": ("edit", np.array([20.0])),
            "radius": ("edit", np.array([3.0])),
            "landmark": ("edit", np.array([-1])),
        },
        attrs={"digest": "gold"},
    )
    write_table(tmp_path / "s.zarr", "gold", discs, "gold")
    both = Edits(edits.cleaning, EditTable(tmp_path / "s.zarr" / "gold", "gold"))
    image[5, 7] = image[5, 8] = image[20, 31] = 1e4
    rows, columns = np.ogrid[:30, :40]
    inside = (rows - 15.4) ** 2 + (columns - 20) ** 2 <= 9
    image[inside] = -1e4
    edited = both.apply(0, image)
    assert np.abs(edited[inside] - 50).max() < 14
    assert both.digest == "abc+gold gold"
    assert both.applied == ["cleaning", "gold erasing"]
    np.testing.assert_array_equal(both.apply(1, image), image)
    np.testing.assert_array_equal(edits.apply(0, image)[inside], image[inside])
