"""One Zarr store per tilt series, opened as a DataTree.

::

    TS_01.zarr/
        tilt_series/            images (tilt, y, x) and their coordinates
        alignments/<name>/      one dataset each, side by side
        tomograms/<name>/full/  OME-Zarr multiscale
"""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from tomodask.engine.files import explained
from tomodask.engine.lazy import lazy_array
from tomodask.engine.ledger import Ledger
from tomodask.engine.shards import ShardGrid, create_array, reading
from tomodask.errors import ParameterError, ProductMissingError, StoreError
from tomodask.io.ome_zarr import array_folder
from tomodask.model import (
    SCHEMA_VERSION,
    mark_stored,
    validate,
    variable_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "alignment_names",
    "check_name",
    "create_series",
    "images_folder",
    "images_grid",
    "open_series",
    "read_alignment",
    "tomogram_folder",
    "tomogram_names",
    "write_alignment",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Edge that the inner chunks of images come near.
_CHUNK = 512


def check_name(name: str) -> str:
    """Return `name`, which becomes a folder of the store, or raise ParameterError."""
    if not _NAME.fullmatch(name):
        raise ParameterError(
            f"name {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or "
            "digit"
        )
    return name


def images_grid(shape: tuple[int, int, int]) -> ShardGrid:
    """Return how images (tilt, y, x) are stored: one shard a view, near-square chunks inside."""
    chunk = tuple(-(-n // max(1, round(n / _CHUNK))) for n in shape[1:])
    whole = tuple(-(-n // c) * c for n, c in zip(shape[1:], chunk, strict=True))
    return ShardGrid(shape, (1, *whole), (1, *chunk), compressed=True)


def images_folder(path: Path) -> Path:
    """Return the folder of a store's images."""
    return path / "tilt_series" / "images"


def tomogram_folder(path: Path, name: str) -> Path:
    """Return the multiscale group of a tomogram."""
    return path / "tomograms" / name / "full"


def create_series(
    path: Path,
    shape: tuple[int, int, int],
    coordinates: Mapping[str, NDArray[np.generic]],
    attributes: Mapping[str, Any],
) -> Path:
    """Create a store with room for the images, and their coordinates.

    Parameters
    ----------
    path
        Folder of the store; it holds nothing yet but, at most, a ledger's lock.
    shape
        (tilt, y, x).
    coordinates
        Per-tilt variables of the registry.
    attributes
        Of the tilt series: "pixel_size" (A), "tilt_axis_angle" (degree), provenance.

    Returns
    -------
    Folder of the images.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        root = zarr.open_group(path, mode="a", zarr_format=3)
        root.attrs["tomodask"] = {"schema": SCHEMA_VERSION, "kind": "tilt series"}
        group = root.create_group("tilt_series")
        folder = create_array(
            group,
            "images",
            images_grid(shape),
            ("tilt", "y", "x"),
            variable_attributes("tilt_series", "images")
            | {"coordinates": " ".join([*coordinates, "checksum"])},
        )
        for name, values in coordinates.items():
            group.create_array(
                name,
                data=np.asarray(values),
                dimension_names=("tilt",),
                compressors=None,
                attributes=variable_attributes("tilt_series", name),
            )
        group.attrs.update(dict(attributes))
    return folder


def open_series(path: str | Path) -> xr.DataTree:
    """Open a store; its arrays are lazy, its coordinates and tables loaded.

    Parameters
    ----------
    path
        Folder of the store.

    Returns
    -------
    xarray.DataTree with the nodes ``tilt_series``, ``alignments/<name>`` and
    ``tomograms/<name>/full/<level>``.

    Raises
    ------
    StoreError
        If there is no store, or its import is not complete.
    SchemaError
        If it lacks a variable.
    """
    path = Path(path).expanduser().resolve()
    if not (path / "tilt_series" / "zarr.json").exists():
        raise StoreError(
            f"{path} is no tilt series of tomodask (it has no group 'tilt_series'); make one with "
            "'tomodask import'"
        )
    if not Ledger(images_folder(path)).complete:
        raise StoreError(
            f"the import of {path} is not complete; run the same 'tomodask import' again"
        )
    images = _open(path, "tilt_series", "images")
    validate(images, "tilt_series", source=str(path))
    images["images"].attrs["pixel_size"] = images.attrs["pixel_size"]
    mark_stored(images["images"], images_folder(path))
    nodes: dict[str, xr.Dataset] = {"tilt_series": images}
    for name in alignment_names(path):
        nodes[f"alignments/{name}"] = read_alignment(path, name)
    for name in tomogram_names(path):
        folder = tomogram_folder(path, name)
        for level in sorted(folder.glob("[0-9]*"), key=lambda level: int(level.name)):
            group = level.relative_to(path).as_posix()
            nodes[group] = _open(path, group, "tomogram")
    tree = xr.DataTree.from_dict(nodes, name=path.stem)
    tree.attrs.update(zarr.open_group(path, mode="r").attrs.asdict())
    tree.encoding["source"] = str(path)
    return tree


def _open(path: Path, group: str, name: str) -> xr.Dataset:
    """Open a group: its large array lazily, one chunk per shard, the rest loaded."""
    folder = path / group / name
    with reading(path / group):
        dataset = xr.open_dataset(
            path, group=group, engine="zarr", consolidated=False, chunks=None, mask_and_scale=False
        )
        rest = dataset.drop_vars(name).load()
    plan = Ledger(folder).plan() or Ledger(array_folder((path / group).parent, 0)).plan()
    checksums = dataset["checksum"].values.tolist() if "checksum" in dataset.variables else []
    lazy = lazy_array(folder, group, plan, checksums)
    found = dataset[name].variable
    return rest.assign({name: (found.dims, lazy, found.attrs)})


def alignment_names(path: Path) -> list[str]:
    """Return the names of the stored alignments."""
    return sorted(item.parent.name for item in (path / "alignments").glob("*/zarr.json"))


def tomogram_names(path: Path) -> list[str]:
    """Return the names of the complete tomograms."""
    return sorted(
        item.parent.name
        for item in (path / "tomograms").glob("*/full")
        if Ledger(array_folder(item, 0)).complete
    )


def read_alignment(path: Path, name: str) -> xr.Dataset:
    """Return a stored alignment, loaded.

    Raises
    ------
    ProductMissingError
        If there is none of that name; the message lists those there are.
    """
    if not (path / "alignments" / name / "zarr.json").exists():
        there = ", ".join(alignment_names(path)) or "none yet"
        raise ProductMissingError(
            f"{path} has no alignment {name!r} (there: {there}); make one with 'tomodask align', "
            "or give --alignment none"
        )
    group = f"alignments/{name}"
    with reading(path / group):
        dataset = xr.open_dataset(
            path, group=group, engine="zarr", consolidated=False, chunks=None, mask_and_scale=False
        ).load()
    validate(dataset, "alignment", source=f"{path} alignment {name}")
    return dataset


def write_alignment(
    path: Path, name: str, alignment: xr.Dataset, *, overwrite: bool = False
) -> None:
    """Store an alignment under a name; it appears whole or not at all.

    Raises
    ------
    ParameterError
        If the name is taken and `overwrite` is false.
    """
    if check_name(name) == "none":
        raise ParameterError("an alignment cannot be called 'none': it stands for no alignment")
    validate(alignment, "alignment", source=f"alignment {name}")
    target = path / "alignments" / name
    if target.exists() and not overwrite:
        raise ParameterError(
            f"{path} has an alignment {name!r} already; give another --name, or --overwrite"
        )
    with explained(target):
        zarr.open_group(path, mode="a", zarr_format=3).require_group("alignments")
        temporary = target.with_name(f".{name}.{uuid.uuid4().hex[:8]}")
        try:
            group = zarr.open_group(temporary, mode="w", zarr_format=3)
            for variable in alignment.variables:
                values = alignment[variable]
                group.create_array(
                    str(variable),
                    data=np.asarray(values.values),
                    compressors=None,
                    dimension_names=[str(dim) for dim in values.dims],
                    attributes=dict(values.attrs),
                )
            group.attrs.update(alignment.attrs)
            if target.exists():
                old = target.with_name(f".{name}.{uuid.uuid4().hex[:8]}")
                target.rename(old)
                temporary.rename(target)
                shutil.rmtree(old)
            else:
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
