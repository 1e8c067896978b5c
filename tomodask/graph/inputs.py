"""What the steps read: the images of a series, and the alignment that is asked for."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from tomodask.engine.shards import stored_grid
from tomodask.errors import (
    DataError,
    DoubleApplicationError,
    ParameterError,
    ProductMissingError,
    TomodaskWarning,
)
from tomodask.graph.aligned_views import ViewSource
from tomodask.graph.edits import Edits, EditTable
from tomodask.model import (
    edits_of,
    handedness_of,
    nominal_projection,
    projection_of,
    stored_folder,
    thickness_of,
    tilt_series_of,
    validate,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.geometry import Projection

__all__ = [
    "applicable_edits",
    "chosen_ctf",
    "chosen_projection",
    "chosen_thickness",
    "edited_views",
    "one_view_a_chunk",
    "refuse_applied",
    "view_source",
    "written_out",
]


def view_source(tilt_series: xr.Dataset, *, gold: bool = False) -> ViewSource:
    """Return where the images of a tilt series are read from.

    Parameters
    ----------
    tilt_series
        With its images.
    gold
        Whether gold is erased: not where images are measured or aligned, which may need it.
    """
    images = tilt_series["images"]
    folder = stored_folder(images)
    checksums = tilt_series["checksum"].values if folder and "checksum" in tilt_series else ()
    return ViewSource(
        images=folder,
        shape=(images.sizes["y"], images.sizes["x"]),
        pixel_size=float(tilt_series.attrs["pixel_size"]),
        checksums=tuple(int(value) for value in checksums),
        layout=stored_grid(folder) if folder else None,
        edits=applicable_edits(images, gold=gold),
    )


def applicable_edits(images: xr.DataArray, *, gold: bool = False) -> Edits | None:
    """Return the edits of stored images, None where they have none or are not as stored.

    Parameters
    ----------
    images
        As they were opened.
    gold
        Whether gold is erased.

    Warns
    -----
    TomodaskWarning
        Where images with edits were cut or changed, so that nobody knows which edits are whose.
    """
    found = edits_of(images)
    if not gold:
        found.pop("gold", None)
    if not found:
        return None
    if stored_folder(images) is None:
        warnings.warn(
            f"these images were cut or changed after they were opened: their {' and '.join(found)} "
            "cannot be applied to them; leave views out by curation instead",
            TomodaskWarning,
            stacklevel=4,
        )
        return None
    return Edits(**{kind: EditTable(*table) for kind, table in found.items()})


def chosen_projection(
    series: xr.DataTree, alignment: str | xr.Dataset | None
) -> tuple[Projection, str]:
    """Return the projection of the alignment asked for, and its name.

    Raises
    ------
    ProductMissingError
        If it is not there, or must be named because there are several.
    DataError
        If it has another number of views than the series.
    """
    if isinstance(alignment, xr.Dataset):
        projection, label = projection_of(alignment), str(alignment.attrs.get("method", "given"))
    elif alignment == "none":
        nominal = tilt_series_of(series)
        if "tilt_axis_angle" not in nominal.attrs:
            warnings.warn(
                f"{series.name} records no tilt axis: it is taken as vertical, 0 degrees; import "
                "with tilt_axis (--tilt-axis), or align",
                TomodaskWarning,
                stacklevel=3,
            )
        projection, label = nominal_projection(nominal), "none"
    else:
        there = list(series["alignments"].children) if "alignments" in series.children else []
        if alignment is None and len(there) != 1:
            raise ProductMissingError(
                f"{series.name} has {len(there)} alignments ({', '.join(there)}): name one with "
                "alignment= (--alignment)"
                if there
                else f"{series.name} has no alignment: make one with 'tomodask align', or give "
                "alignment='none' (--alignment none)"
            )
        label = there[0] if alignment is None else alignment
        if label not in there:
            raise ProductMissingError(
                f"{series.name} has no alignment {label!r} (there: {', '.join(there) or 'none'}); "
                "give one of these, or 'none'"
            )
        projection = projection_of(series[f"alignments/{label}"].to_dataset())
        _warn_not_aligned(series, label)
    count = tilt_series_of(series).sizes["tilt"]
    if len(projection) != count:
        raise DataError(
            f"alignment {label!r} has {len(projection)} views, {series.name} has {count}"
        )
    return projection, label


def chosen_thickness(series: xr.DataTree, alignment: str | xr.Dataset, spacing: float) -> int:
    """Return the thickness that an alignment knows, in voxels.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    alignment
        As :func:`chosen_projection` chose it: its name, or itself.
    spacing
        Voxel size, A.

    Raises
    ------
    ParameterError
        If it knows none.
    """
    known = None
    if isinstance(alignment, xr.Dataset):
        known = thickness_of(alignment)
    elif alignment != "none":
        known = thickness_of(series[f"alignments/{alignment}"].to_dataset())
    if known is None:
        label = alignment if isinstance(alignment, str) else "given"
        raise ParameterError(
            f"alignment {label!r} does not know how thick the specimen is: give thickness "
            "(--thickness) in voxels, or find it with 'tomodask position'"
        )
    return int(np.ceil(known / spacing))


def chosen_ctf(
    series: xr.DataTree, ctf: xr.Dataset | None, handedness: int | None
) -> tuple[xr.Dataset, int]:
    """Return the contrast transfer of a series, and the sign with which defocus follows height.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    ctf
        In place of the series' own.
    handedness
        +1 or -1, in place of what the table says.

    Raises
    ------
    ProductMissingError
        If the series has no CTF.
    ParameterError
        If the handedness is neither given nor known.
    SchemaError
        If the table lacks a variable.
    """
    if ctf is None:
        if "ctf" not in series.children:
            raise ProductMissingError(
                f"{series.name} has no CTF: estimate it with 'tomodask ctf estimate', or import it "
                "with 'tomodask ctf import'"
            )
        ctf = series["ctf"].to_dataset()
    validate(ctf, "ctf", source=f"the CTF of {series.name}")
    if handedness not in (None, 1, -1):
        raise ParameterError(f"handedness {handedness}: give 1 or -1")
    hand = handedness_of(ctf) if handedness is None else handedness
    if hand == 0:
        raise ParameterError(
            f"the defocus handedness of {series.name} is not known: give handedness=1 or -1 "
            "(--handedness), see 'tomodask ctf estimate'"
        )
    return ctf.assign_attrs(defocus_handedness=hand), hand


def _warn_not_aligned(series: xr.DataTree, label: str) -> None:
    """Say which of the views that take part the alignment knows by interpolation only."""
    alignment = series[f"alignments/{label}"].to_dataset()
    included = tilt_series_of(series)["included"].values
    if "found" not in alignment or alignment.sizes["tilt"] != len(included):
        return
    unknown = np.flatnonzero(included & ~alignment["found"].values)
    if len(unknown):
        warnings.warn(
            f"{series.name}: views {', '.join(map(str, unknown))} take part, but alignment "
            f"{label!r} has no shifts of their own for them (they were excluded, or did not "
            "correlate): align again, or exclude them",
            TomodaskWarning,
            stacklevel=4,
        )


def refuse_applied(images: xr.DataArray, step: str) -> None:
    """Raise if a step has already been applied to images.

    Raises
    ------
    DoubleApplicationError
        Naming the step.
    """
    if step in images.attrs.get("applied", []):
        raise DoubleApplicationError(
            f"the {step} has already been applied to these images; start from the stored series"
        )


def one_view_a_chunk(images: xr.DataArray) -> da.Array:
    """Return images (tilt, y, x) as a dask array of one whole image per chunk."""
    chunks = (1, -1, -1)
    stack = images.data
    result: da.Array = (
        stack.rechunk(chunks) if isinstance(stack, da.Array) else da.from_array(stack, chunks)
    )
    return result


def edited_views(images: xr.DataArray, *, gold: bool = False) -> da.Array:
    """Return images (tilt, y, x) with the edits of the series, lazily, one view a chunk.

    Parameters
    ----------
    images
        Of a tilt series.
    gold
        Whether gold is erased.
    """
    views = one_view_a_chunk(images)
    edits = applicable_edits(images, gold=gold)
    if edits is None:
        return views
    name = f"edited-{tokenize(edits, views.name)}"
    graph = {
        (name, t, 0, 0): (partial(_edited, edits, t), (views.name, t, 0, 0))
        for t in range(images.sizes["tilt"])
    }
    return written_out(name, graph, views, views.chunks)


def _edited(edits: Edits, view: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return edits.apply(view, np.asarray(image[0], np.float32))[None]


def written_out(
    name: str, graph: dict[Any, Any], source: da.Array, chunks: tuple[tuple[int, ...], ...]
) -> da.Array:
    """Return a float32 dask array whose graph is given as it is.

    Parameters
    ----------
    name
        Of the array; the graph holds ``(name, block, ...)`` for each of its blocks.
    graph
        Key to task, beside the source's own.
    source
        Array whose blocks the graph takes.
    chunks
        Per axis.
    """
    dependencies: Any = [source]  # dask's own arrays do not satisfy its protocol for type checkers
    layers = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    array: da.Array = da.Array(layers, name, chunks, np.float32)
    return array
