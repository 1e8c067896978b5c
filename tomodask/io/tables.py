"""Small tables of a store: Zarr groups that appear whole or not at all.

Numbers are arrays as any Zarr reader knows them. Text is kept in the group's attributes: Zarr v3
has no settled type for strings of varying length.
"""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from tomodask.engine.files import explained
from tomodask.engine.shards import reading
from tomodask.errors import FormatError
from tomodask.model import REGISTRY, validate, variable_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tomodask.model import Group

__all__ = [
    "check_chunks",
    "has_table",
    "read_table",
    "remove_table",
    "restore_text",
    "table_names",
    "write_table",
    "write_variables",
]

#: Attribute of a group that holds its text variables.
_TEXT = "text"
#: Ending of a table that another takes the place of.
_BEFORE = ".before"


def has_table(path: Path, group: str) -> bool:
    """Whether a store has a table."""
    return (_standing(path / group) / "zarr.json").exists()


def table_names(folder: Path) -> list[str]:
    """Return the names of the tables in a folder of a store."""
    found = {item.parent.name for item in folder.glob("*/zarr.json")}
    killed = {name[1:].removesuffix(_BEFORE) for name in found if name.endswith(_BEFORE)}
    return sorted(killed | {name for name in found if not name.startswith(".")})


def write_variables(group: zarr.Group, variables: Mapping[Any, xr.Variable]) -> None:
    """Write small variables into a group, each as one chunk, text as attributes.

    Those that are there under the same names are replaced.
    """
    known: Any = group.attrs.get(_TEXT, {})
    text = dict(known)
    for name, variable in variables.items():
        values = np.asarray(variable.values)
        if values.dtype.kind in "UO":
            text[str(name)] = {
                "dims": [str(dim) for dim in variable.dims],
                "values": values.astype(str).tolist(),
                "attributes": dict(variable.attrs),
            }
            continue
        group.create_array(
            str(name),
            data=values,
            chunks=tuple(max(1, n) for n in values.shape),
            compressors=None,
            dimension_names=[str(dim) for dim in variable.dims],
            attributes=dict(variable.attrs),
            overwrite=True,
            config={"write_empty_chunks": True},
        )
    if text:
        group.attrs[_TEXT] = text


def restore_text(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset as opened by xarray with its text variables in their place."""
    text = dataset.attrs.get(_TEXT, {})
    restored = {
        name: xr.Variable(entry["dims"], np.array(entry["values"], str), entry["attributes"])
        for name, entry in text.items()
    }
    result = dataset.assign(restored)
    result.attrs = {name: value for name, value in dataset.attrs.items() if name != _TEXT}
    return result


def check_chunks(folder: Path, dataset: xr.Dataset) -> None:
    """Raise where the numbers of a small variable are lost: Zarr would give its fill value.

    Raises
    ------
    FormatError
        Naming the file.
    """
    for name, variable in dataset.variables.items():
        chunk = folder.joinpath(str(name), "c", *("0" * variable.ndim))
        if variable.size and not chunk.is_file():
            raise FormatError(
                f"{chunk} is missing: the store is damaged; remove {folder} and make it again"
            )


def read_table(path: Path, group: str, kind: Group) -> xr.Dataset:
    """Return a stored table, loaded, its coordinates marked as such.

    Parameters
    ----------
    path
        Folder of the store.
    group
        Of the table, e.g. "alignments/coarse".
    kind
        Which part of the registry it follows.

    Raises
    ------
    StoreError, FormatError
        If it cannot be read.
    SchemaError
        If it lacks a variable.
    """
    folder = _standing(path / group)
    with reading(folder):
        dataset = xr.open_dataset(
            path,
            group=folder.relative_to(path).as_posix(),
            engine="zarr",
            consolidated=False,
            chunks=None,
            mask_and_scale=False,
        ).load()
    check_chunks(folder, dataset)
    dataset = restore_text(dataset)
    validate(dataset, kind, source=f"{path} {group}")
    coordinates = [variable.name for variable in REGISTRY[kind] if variable.coordinate]
    return dataset.set_coords([name for name in coordinates if name in dataset])


def write_table(path: Path, group: str, table: xr.Dataset, kind: Group) -> None:
    """Store a table under a group of a store, in place of what is there; all of it or nothing.

    Parameters
    ----------
    path
        Folder of the store.
    group
        Of the table, e.g. "alignments/coarse".
    table
        With the variables of the registry.
    kind
        Which part of the registry it follows.

    Raises
    ------
    SchemaError
        If a variable is missing or of another kind.
    StoreError, SpaceError
        If it cannot be written.
    """
    validate(table, kind, source=group)
    target = path / group
    with explained(target):
        parent = zarr.open_group(path, mode="a", zarr_format=3)
        if target.parent != path:
            parent.require_group(target.parent.relative_to(path).as_posix())
        temporary = _aside(target)
        try:
            made = zarr.open_group(temporary, mode="w", zarr_format=3)
            write_variables(
                made,
                {
                    name: xr.Variable(
                        variable.dims,
                        variable.values,
                        variable_attributes(kind, str(name)) | dict(variable.attrs),
                    )
                    for name, variable in table.variables.items()
                },
            )
            made.attrs.update(table.attrs)
            if target.exists():
                shutil.rmtree(_before(target), ignore_errors=True)
                target.rename(_before(target))
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sweep(target)


def remove_table(path: Path, group: str) -> None:
    """Remove a table of a store, where it is there.

    Raises
    ------
    StoreError
        If it cannot be removed.
    """
    target = path / group
    with explained(target):
        if target.exists():
            target.rename(_aside(target))
        _sweep(target)


def _aside(target: Path) -> Path:
    """Return a new name beside a table."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")


def _before(target: Path) -> Path:
    """Return the name under which a table stands while another takes its place."""
    return target.with_name(f".{target.name}{_BEFORE}")


def _standing(target: Path) -> Path:
    """Return where a table stands: beside its place while, or if, its replacement is under way."""
    return _before(target) if not target.exists() and _before(target).exists() else target


def _sweep(target: Path) -> None:
    """Remove what stands aside of a table: an older one, and what killed writers left."""
    for old in target.parent.glob(f".{target.name}.{8 * '[0-9a-f]'}"):
        shutil.rmtree(old)
    shutil.rmtree(_before(target), ignore_errors=True)
