from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr

from tomodask.errors import FormatError, SchemaError, SpaceError, StoreError
from tomodask.io import tables
from tomodask.io.series import create_store
from tomodask.io.tables import has_table, read_table, remove_table, write_table

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["", "dunkel: 2 % (Gitterbalken)", "冷冻 \N{SNOWFLAKE}\N{COMBINING DIAERESIS}", 'a"b\\c\n']


def curation(words: list[str]) -> xr.Dataset:
    count = len(words)
    return xr.Dataset(
        {"mean": ("tilt", np.linspace(0, 1, count)), "motion": ("tilt", np.full(count, np.nan))},
        coords={
            "included": ("tilt", np.arange(count) % 2 == 0),
            "reason": ("tilt", np.array(words, str)),
            "decided_by": ("tilt", np.full(count, "", str)),
            "recommended": ("tilt", np.array(words[::-1], str)),
        },
        attrs={"measured": "ü", "provenance": {"step": "curate", "nested": [1, None, {"a": 2.5}]}},
    )


def cleaning(edits: int) -> xr.Dataset:
    return xr.Dataset(
        {
            "start": ("bound", np.array([0, 0, edits])),
            "y": ("edit", np.zeros(edits, np.int32)),
            "x": ("edit", np.zeros(edits, np.int32)),
            "dead": ("edit", np.zeros(edits, bool)),
            "strength": ("edit", np.zeros(edits, np.float32)),
        },
        attrs={"digest": "0" * 16},
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create_store(tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def children(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


@pytest.mark.parametrize("words", [WORDS, WORDS[:1], [""] * 3, []], ids=len)
def test_round_trip(words: list[str], store: Path) -> None:
    table = curation(words)
    write_table(store, "curation", table, "curation")
    found = read_table(store, "curation", "curation")
    xr.testing.assert_equal(found, table)
    assert found["reason"].values.tolist() == words
    assert found["mean"].dtype == np.float64
    assert found["included"].dtype == bool
    assert found.attrs == table.attrs
    assert set(found.coords) == {"included", "reason", "decided_by", "recommended"}
    assert children(store) == ["curation", "zarr.json"]


@pytest.mark.parametrize("edits", [0, 5])
def test_zeros_and_nothing(edits: int, store: Path) -> None:
    """Zarr leaves out chunks that are all zero, which would look like files that are lost."""
    write_table(store, "cleaning", cleaning(edits), "cleaning")
    found = read_table(store, "cleaning", "cleaning")
    xr.testing.assert_identical(found.drop_attrs(), cleaning(edits).drop_attrs())
    assert found["y"].dtype == np.int32
    assert found["strength"].dtype == np.float32
    if edits:
        assert (store / "cleaning" / "y" / "c" / "0").stat().st_size == 4 * edits


def test_plain_readers_open_it(store: Path) -> None:
    write_table(store, "curation", curation(WORDS), "curation")
    write_table(store, "cleaning", cleaning(3), "cleaning")
    group = zarr.open_group(store, mode="r")
    assert sorted(name for name, _ in group.groups()) == ["cleaning", "curation"]
    np.testing.assert_array_equal(group["curation/mean"][:], np.linspace(0, 1, len(WORDS)))
    tree = xr.open_datatree(store, engine="zarr", consolidated=False)
    assert tree["cleaning"]["start"].values.tolist() == [0, 0, 3]
    assert tree["curation"].attrs["text"]["reason"]["values"] == WORDS
    assert tree["cleaning"]["y"].attrs["long_name"] == "row of an edited pixel"


def test_text_of_attributes_does_not_show(store: Path) -> None:
    write_table(store, "curation", curation(WORDS), "curation")
    assert "text" not in read_table(store, "curation", "curation").attrs


def test_a_table_replaces_another(store: Path) -> None:
    """All of it: nothing of the old one stays."""
    write_table(store, "curation", curation(WORDS), "curation")
    short = curation(WORDS[:2]).drop_vars("motion")
    write_table(store, "curation", short, "curation")
    found = read_table(store, "curation", "curation")
    xr.testing.assert_equal(found, short)
    assert "motion" not in found
    assert children(store) == ["curation", "zarr.json"]


class Fault(OSError):
    pass


@pytest.mark.parametrize("moment", ["arrays", "attributes", "name"])
def test_all_or_nothing(moment: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it fails, the old table is there, whole, and nothing else."""
    write_table(store, "curation", curation(WORDS), "curation")

    def fail(*arguments: Any, **more: Any) -> None:
        raise Fault(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if moment == "arrays":
        monkeypatch.setattr(zarr.Group, "create_array", fail)
    elif moment == "attributes":
        monkeypatch.setattr(tables, "variable_attributes", fail)
    else:
        monkeypatch.setattr(tables.shutil, "rmtree", lambda *_, **__: None)
        monkeypatch.setattr(type(store), "rename", fail)
    with pytest.raises(SpaceError, match=r"cannot write .*curation: No space left"):
        write_table(store, "curation", curation(WORDS[:1]), "curation")
    monkeypatch.undo()
    xr.testing.assert_equal(read_table(store, "curation", "curation"), curation(WORDS))
    write_table(store, "curation", curation(WORDS[:1]), "curation")
    assert children(store) == ["curation", "zarr.json"]


def test_leftovers_of_killed_writers_go(store: Path) -> None:
    write_table(store, "cleaning", cleaning(2), "cleaning")
    (store / ".curation.0123abcd").mkdir()
    (store / ".curation.0123abcd" / "zarr.json").write_text("{")
    (store / ".curation.mine").mkdir()
    write_table(store, "curation", curation(WORDS), "curation")
    assert children(store) == [".curation.mine", "cleaning", "curation", "zarr.json"]


def test_what_the_registry_does_not_know_is_refused(store: Path) -> None:
    for bad in (
        curation(WORDS).drop_vars("reason"),
        curation(WORDS).assign_coords(included=("tilt", np.zeros(len(WORDS)))),
        curation(WORDS).assign_coords(reason=("tilt", np.zeros(len(WORDS)))),
        curation(WORDS).rename_dims(tilt="view"),
    ):
        with pytest.raises(SchemaError, match="curation"):
            write_table(store, "curation", bad, "curation")
    assert not has_table(store, "curation")
    assert children(store) == ["zarr.json"]


def test_a_table_is_removed(store: Path) -> None:
    remove_table(store, "curation")
    write_table(store, "curation", curation(WORDS), "curation")
    remove_table(store, "curation")
    assert not has_table(store, "curation")
    assert children(store) == ["zarr.json"]


def test_what_is_not_there(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no array"):
        read_table(store, "curation", "curation")
    with pytest.raises(StoreError, match="holds no array"):
        read_table(tmp_path / "nothing", "curation", "curation")
    assert not has_table(tmp_path / "nothing", "curation")


def test_damaged_description(store: Path) -> None:
    write_table(store, "curation", curation(WORDS), "curation")
    (store / "curation" / "mean" / "zarr.json").write_text('{"zarr_format": 3, "node')
    with pytest.raises(FormatError, match="curation"):
        read_table(store, "curation", "curation")


def test_lost_numbers_are_not_zeros(store: Path) -> None:
    """A file that is gone must not be read as its fill value."""
    write_table(store, "curation", curation(WORDS), "curation")
    (store / "curation" / "included" / "c" / "0").unlink()
    with pytest.raises(FormatError, match=r"curation/included/c/0 is missing"):
        read_table(store, "curation", "curation")
