"""One Zarr store per tilt series, opened as a DataTree.

::

    TS_01.zarr/
        movies/                 one line per view: where its movie is, angle, dose (no copies)
        tilt_series/            images, even, odd (tilt, y, x) and their coordinates
        motion/                 the shifts of every frame
        cleaning/               which pixels are mended when the images are read
        gold/                   which discs are erased in what is made of the aligned images
        curation/               which views take part, and why not
        alignments/<name>/      one dataset each, side by side
        landmarks/<name>/       the points that an alignment of that name was solved from
        tomograms/<name>/full/  OME-Zarr multiscale

What is decided later (curation) wins over what was imported, which stays as it is.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from tomodask.engine.files import explained
from tomodask.engine.lazy import lazy_array
from tomodask.engine.ledger import Ledger
from tomodask.engine.shards import ShardGrid, create_array, reading
from tomodask.errors import ParameterError, ProductMissingError, StoreError, TomodaskWarning
from tomodask.io.ome_zarr import array_folder, origin_of
from tomodask.io.tables import (
    check_chunks,
    has_table,
    read_table,
    restore_text,
    table_names,
    write_table,
    write_variables,
)
from tomodask.model import (
    CHECKSUMS,
    SCHEMA_VERSION,
    mark_edited,
    mark_stored,
    validate,
    variable_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tomodask.model import EditKind, Group

__all__ = [
    "alignment_names",
    "check_name",
    "create_series",
    "create_store",
    "images_folder",
    "images_grid",
    "imported_views",
    "landmark_names",
    "open_series",
    "read_alignment",
    "read_landmarks",
    "tomogram_folder",
    "tomogram_names",
    "write_alignment",
    "write_coordinates",
    "write_ctf",
    "write_landmarks",
]

#: Tables that a store has once.
_TABLES: tuple[Group, ...] = ("movies", "motion", "cleaning", "gold", "curation", "ctf")
#: Tables of edits, what to say where they are of other images, and the command that makes them.
_EDITS: dict[EditKind, tuple[str, str]] = {
    "cleaning": ("they were cleaned, so none is; clean them again", "clean"),
    "gold": ("gold was found in them, so none is erased; find it again", "erase-gold"),
}
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


def images_folder(path: Path, name: str = "images") -> Path:
    """Return the folder of a store's images, or of their even or odd halves."""
    return path / "tilt_series" / name


def tomogram_folder(path: Path, name: str) -> Path:
    """Return the multiscale group of a tomogram."""
    return path / "tomograms" / name / "full"


def create_series(
    path: Path,
    shape: tuple[int, int, int],
    coordinates: Mapping[str, NDArray[np.generic]],
    attributes: Mapping[str, Any],
    *,
    halves: bool = False,
) -> None:
    """Create the tilt series of a store: room for the images, and their coordinates.

    Parameters
    ----------
    path
        Folder of the store; it has no tilt series yet but, at most, a ledger's lock.
    shape
        (tilt, y, x).
    coordinates
        Per-tilt variables of the registry.
    attributes
        Of the tilt series: "pixel_size" (A), "tilt_axis_angle" (degree), provenance.
    halves
        Whether there are even and odd halves beside the images.
    """
    with explained(path):
        create_store(path)
        group = zarr.open_group(path, mode="a").require_group("tilt_series")
        for name in CHECKSUMS if halves else ("images",):
            create_array(
                group,
                name,
                images_grid(shape),
                ("tilt", "y", "x"),
                variable_attributes("tilt_series", name)
                | {"coordinates": " ".join([*coordinates, CHECKSUMS[name]])},
            )
        write_coordinates(path, coordinates, attributes)


def write_coordinates(
    path: Path,
    coordinates: Mapping[str, NDArray[np.generic]],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write coordinates and attributes of a store's tilt series over those of the same name.

    Raises
    ------
    StoreError, SpaceError
        If they cannot be written.
    """
    with explained(path):
        group = zarr.open_group(path / "tilt_series", mode="a")
        group.attrs.update(dict(attributes or {}))
        write_variables(
            group,
            {
                name: xr.Variable("tilt", values, variable_attributes("tilt_series", name))
                for name, values in coordinates.items()
            },
        )


def create_store(path: Path) -> None:
    """Make the folder and the root group of a store, where they are not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = zarr.open_group(path, mode="a", zarr_format=3)
    if "tomodask" not in root.attrs:
        root.attrs["tomodask"] = {"schema": SCHEMA_VERSION, "kind": "tilt series"}


def open_series(path: str | Path) -> xr.DataTree:
    """Open a store; its arrays are lazy, its coordinates and tables loaded.

    Parameters
    ----------
    path
        Folder of the store.

    Returns
    -------
    xarray.DataTree with those of the nodes ``movies``, ``motion``, ``tilt_series``,
    ``cleaning``, ``curation``, ``alignments/<name>``, ``landmarks/<name>`` and
    ``tomograms/<name>/full/<level>`` that there are. ``included`` and ``reason`` are those of the
    curation where there is one.

    Raises
    ------
    StoreError
        If there is no store, or its import is not complete.
    SchemaError
        If it lacks a variable.
    """
    path = Path(path).expanduser().resolve()
    movies = has_table(path, "movies")
    if not (movies or (path / "tilt_series" / "zarr.json").exists()):
        raise StoreError(
            f"{path} is no tilt series of tomodask (it has no group 'tilt_series'); make one with "
            "'tomodask import'"
        )
    complete = Ledger(images_folder(path)).complete
    if not (movies or complete):
        raise StoreError(
            f"the import of {path} is not complete; run the same 'tomodask import' again"
        )
    nodes: dict[str, xr.Dataset] = {
        kind: read_table(path, kind, kind) for kind in _TABLES if has_table(path, kind)
    }
    if complete:
        nodes["tilt_series"] = _open_images(path, nodes)
    for group in ("movies", "tilt_series"):
        if group in nodes and "curation" in nodes:
            nodes[group] = _curated(nodes[group], nodes["curation"], f"{path} {group}")
    for name in alignment_names(path):
        nodes[f"alignments/{name}"] = read_alignment(path, name)
    for name in landmark_names(path):
        nodes[f"landmarks/{name}"] = read_landmarks(path, name)
    for name in tomogram_names(path):
        folder = tomogram_folder(path, name)
        for level in sorted(folder.glob("[0-9]*"), key=lambda level: int(level.name)):
            group = level.relative_to(path).as_posix()
            nodes[group] = _open(path, group, ["tomogram"])
            nodes[group]["tomogram"].attrs.update(origin_of(folder, int(level.name)))
    tree = xr.DataTree.from_dict(nodes, name=path.stem)
    tree.attrs.update(zarr.open_group(path, mode="r").attrs.asdict())
    tree.encoding["source"] = str(path)
    return tree


def imported_views(path: Path) -> xr.Dataset:
    """Return the views of a store as they were imported or corrected, before any curation."""
    nodes: dict[str, xr.Dataset] = {}
    if Ledger(images_folder(path)).complete:
        return _open_images(path, nodes)
    return read_table(path, "movies", "movies")


def _open_images(path: Path, nodes: Mapping[str, xr.Dataset]) -> xr.Dataset:
    names = [name for name in CHECKSUMS if (images_folder(path, name) / "zarr.json").exists()]
    series = _open(path, "tilt_series", names)
    check_chunks(path / "tilt_series", series.drop_vars(names))
    series = restore_text(series)
    series = series.set_coords([name for name in series.data_vars if name not in names])
    validate(series, "tilt_series", source=str(path))
    for name in names:
        series[name].attrs["pixel_size"] = series.attrs["pixel_size"]
        mark_stored(series[name], images_folder(path, name))
    for kind, (redo, command) in _EDITS.items():
        table = nodes.get(kind)
        if table is None:
            continue
        if table.attrs["images"] == [int(value) for value in series["checksum"].values]:
            for name in names:
                mark_edited(series[name], kind, path / kind, table.attrs["digest"])
        else:
            warnings.warn(
                f"{path.name}: images were made anew since {redo} ('tomodask {command}')",
                TomodaskWarning,
                stacklevel=3,
            )
    return series


def _curated(views: xr.Dataset, curation: xr.Dataset, source: str) -> xr.Dataset:
    """Return the views with what the curation decided in place of what was imported."""
    if curation.sizes["tilt"] != views.sizes["tilt"]:
        raise StoreError(
            f"{source} has {views.sizes['tilt']} views, its curation {curation.sizes['tilt']}; "
            "run 'tomodask curate --reset'"
        )
    decided = curation["decided_by"].values != ""
    if "has_image" in views.coords:
        decided = decided & views["has_image"].values  # no decision makes an image
    there = views["reason"].values if "reason" in views.coords else ""
    included = np.where(decided, curation["included"].values, views["included"].values)
    reason = np.where(decided, curation["reason"].values, there)
    return views.assign_coords(included=("tilt", included), reason=("tilt", reason))


def _open(path: Path, group: str, names: list[str]) -> xr.Dataset:
    """Open a group: its large arrays lazily, one chunk per shard, the rest loaded."""
    with reading(path / group):
        dataset = xr.open_dataset(
            path, group=group, engine="zarr", consolidated=False, chunks=None, mask_and_scale=False
        )
        rest = dataset.drop_vars(names).load()
    plan = Ledger(path / group / names[0]).plan()
    plan = plan or Ledger(array_folder((path / group).parent, 0)).plan()
    for name in names:
        checksum = CHECKSUMS.get(name, "")
        sums = rest[checksum].values.tolist() if checksum in rest.variables else []
        lazy = lazy_array(path / group / name, group, plan, sums)
        found = dataset[name].variable
        rest = rest.assign({name: (found.dims, lazy, found.attrs)})
    return rest


def alignment_names(path: Path) -> list[str]:
    """Return the names of the stored alignments."""
    return table_names(path / "alignments")


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
    if not has_table(path, f"alignments/{name}"):
        there = ", ".join(alignment_names(path)) or "none yet"
        raise ProductMissingError(
            f"{path} has no alignment {name!r} (there: {there}); make one with 'tomodask align', "
            "or give --alignment none"
        )
    return read_table(path, f"alignments/{name}", "alignment")


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
    if has_table(path, f"alignments/{name}") and not overwrite:
        raise ParameterError(
            f"{path} has an alignment {name!r} already; give another --name, or --overwrite"
        )
    write_table(path, f"alignments/{name}", alignment, "alignment")


def landmark_names(path: Path) -> list[str]:
    """Return the names of the stored landmarks."""
    return table_names(path / "landmarks")


def read_landmarks(path: Path, name: str) -> xr.Dataset:
    """Return stored landmarks, loaded.

    Raises
    ------
    ProductMissingError
        If there are none of that name; the message lists those there are.
    """
    if not has_table(path, f"landmarks/{name}"):
        there = ", ".join(landmark_names(path)) or "none yet"
        raise ProductMissingError(
            f"{path} has no landmarks {name!r} (there: {there}); make them with 'tomodask align "
            "--method beads' or '--method patches', or import them with 'tomodask landmarks'"
        )
    return read_table(path, f"landmarks/{name}", "landmarks")


def write_landmarks(path: Path, name: str, landmarks: xr.Dataset) -> None:
    """Store landmarks under a name, in place of those of that name; whole or not at all."""
    write_table(path, f"landmarks/{check_name(name)}", landmarks, "landmarks")


def write_ctf(path: Path, ctf: xr.Dataset) -> None:
    """Store the contrast transfer of a series, in place of what was there; whole or not at all."""
    write_table(path, "ctf", ctf, "ctf")
