"""What a tilt series, an alignment and a tomogram are: one registry of variables.

Every name, dimension, type and unit that appears in a dataset or a store stands here once;
readers, graph builders and writers refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from tomodask.errors import ProductMissingError, SchemaError
from tomodask.geometry import Projection

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALIGNMENT",
    "CHECKSUMS",
    "CLEANING",
    "CURATION",
    "MOTION",
    "MOVIES",
    "REGISTRY",
    "SLAB",
    "TILT_SERIES",
    "TOMOGRAM",
    "Group",
    "Variable",
    "alignment_dataset",
    "layer_depth",
    "nominal_projection",
    "projection_of",
    "provenance",
    "validate",
]

#: Packages whose versions a result records.
_SOFTWARE = ("tomodask", "numpy", "scipy", "numba", "zarr")

#: Rows along the tilt axis that are stored, and computed, as one slab.
SLAB = 64

#: Version of this registry, written into every store.
SCHEMA_VERSION = 1

Group = Literal["movies", "motion", "tilt_series", "cleaning", "curation", "alignment", "tomogram"]


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a dataset.

    Parameters
    ----------
    name, dims
        As in the dataset.
    kind
        NumPy kinds that are accepted ("f" float, "i" integer, "b" bool, "U" text).
    units
        "angstrom", "degree", "e/A^2" or "" where dimensionless.
    meaning
        One line.
    coordinate
        Whether it is a coordinate.
    required
        Whether a dataset without it is refused.
    """

    name: str
    dims: tuple[str, ...]
    kind: str
    units: str
    meaning: str
    coordinate: bool = False
    required: bool = True


#: Images of a tilt series -> the coordinate that holds their checksums.
CHECKSUMS = {"images": "checksum", "even": "checksum_even", "odd": "checksum_odd"}


def _tilt(
    name: str, units: str, meaning: str, *, kind: str = "f", required: bool = True
) -> Variable:
    return Variable(name, ("tilt",), kind, units, meaning, coordinate=True, required=required)


_ANGLE = _tilt("tilt_angle", "degree", "tilt angle as recorded")
_INCLUDED = _tilt("included", "", "false where the view is curated out", kind="b")
_REASON = _tilt("reason", "", "why the view is curated out", kind="U", required=False)
#: What an acquisition tells of each view.
_ACQUIRED: tuple[Variable, ...] = (
    _ANGLE,
    _tilt("dose", "e/A^2", "dose accumulated before this view", required=False),
    _tilt("exposure", "e/A^2", "dose of this view", required=False),
    _tilt("order", "", "acquisition order from 0", kind="i", required=False),
    _INCLUDED,
    _REASON,
    _tilt("section", "", "section of the stack or mdoc it was imported from, from 0", kind="i"),
    _tilt("nominal_defocus", "angstrom", "defocus aimed at, underfocus positive", required=False),
    _tilt("time", "", "when it was taken, ISO 8601", kind="U", required=False),
)

MOVIES: tuple[Variable, ...] = (
    _tilt("movie", "", "file of the movie; empty where it was not found", kind="U"),
    _tilt("frames", "", "frames recorded, -1 where not known", kind="i"),
    *_ACQUIRED,
)

TILT_SERIES: tuple[Variable, ...] = (
    Variable("images", ("tilt", "y", "x"), "f", "", "unweighted, unedited images, y up"),
    Variable("even", ("tilt", "y", "x"), "f", "", "sums of the even frames", required=False),
    Variable("odd", ("tilt", "y", "x"), "f", "", "sums of the odd frames", required=False),
    *_ACQUIRED,
    _tilt("has_image", "", "false where the movie could not be used", kind="b", required=False),
    *(
        _tilt(name, "", f"CRC-32C of the pixels of {of}", kind="iu", required=False)
        for of, name in CHECKSUMS.items()
    ),
)

MOTION: tuple[Variable, ...] = (
    Variable(
        "shift_y",
        ("tilt", "frame"),
        "f",
        "angstrom",
        "raw y of a frame's content relative to the sum; NaN for frames that are not summed",
    ),
    Variable("shift_x", ("tilt", "frame"), "f", "angstrom", "raw x of a frame's content"),
    _tilt("frames", "", "frames of the movie", kind="i"),
    _tilt("supported", "", "whether the signal supports the estimate", kind="b"),
    _tilt("score", "", "evidence for the motion, as the estimator defines it"),
    _tilt(
        "residual",
        "angstrom",
        "error to be expected of the shifts, RMS; NaN where no motion is found",
    ),
    _tilt("repaired", "", "hot and dead pixels mended in the frames", kind="i"),
    Variable("repaired_y", ("pixel",), "i", "", "their rows, view after view"),
    Variable("repaired_x", ("pixel",), "i", "", "their columns"),
    _tilt("failed", "", "why there is no image of the view; empty where there is one", kind="U"),
    Variable(
        "field",
        ("tilt", "knot_t", "knot_y", "knot_x", "axis"),
        "f",
        "angstrom",
        "spline coefficients of the local displacement (y, x); NaN where there is none",
        required=False,
    ),
)

CLEANING: tuple[Variable, ...] = (
    Variable("start", ("bound",), "i", "", "first edit of each view, and the end of the last"),
    Variable("y", ("edit",), "i", "", "row of an edited pixel"),
    Variable("x", ("edit",), "i", "", "column of an edited pixel"),
    Variable("dead", ("edit",), "b", "", "whether it reads too little, not too much"),
    Variable("strength", ("edit",), "f", "", "standard deviations by which it stands out"),
)

CURATION: tuple[Variable, ...] = (
    _INCLUDED,
    replace(_REASON, required=True),
    _tilt("decided_by", "", "recommendation or user; empty where nothing was", kind="U"),
    _tilt("recommended", "", "why the measurements recommend to leave it out", kind="U"),
    *(
        Variable(name, ("tilt",), "f", units, meaning, required=False)
        for name, units, meaning in (
            ("mean", "", "mean of the pixels"),
            ("expected_mean", "", "mean that the series leads one to expect"),
            ("deviation", "", "standard deviation of the pixels"),
            ("noise", "", "standard deviation that noise alone gives a pixel"),
            ("contrast", "", "power of structure relative to noise at low frequencies"),
            ("coverage", "", "part of the field that is lit"),
            ("saturated", "", "part of the pixels of the highest value"),
            ("motion", "angstrom", "length of the path during the exposure"),
            ("correlation", "", "best correlation with a neighbouring view"),
        )
    ),
)

ALIGNMENT: tuple[Variable, ...] = (
    Variable("tilt_angle", ("tilt",), "f", "degree", "tilt angle, solved or nominal"),
    Variable(
        "tilt_axis_angle", ("tilt",), "f", "degree", "tilt axis, CCW from +y of the raw image"
    ),
    Variable("shift_y", ("tilt",), "f", "angstrom", "raw y of the specimen's origin"),
    Variable("shift_x", ("tilt",), "f", "angstrom", "raw x of the specimen's origin"),
    Variable("magnification", ("tilt",), "f", "", "magnification of the view"),
    Variable("stretch", ("tilt",), "f", "", "stretch e of the symmetric factor", required=False),
    Variable("skew", ("tilt",), "f", "", "skew k of the symmetric factor", required=False),
    Variable("x_tilt", ("tilt",), "f", "degree", "rotation about x (pitch)", required=False),
    Variable("z_factor_u", ("tilt",), "f", "", "u displacement per height", required=False),
    Variable("z_factor_v", ("tilt",), "f", "", "v displacement per height", required=False),
    Variable("score", ("tilt",), "f", "", "correlation of the view's shift", required=False),
    Variable("found", ("tilt",), "b", "", "shift found, not interpolated", required=False),
    Variable("tilt_offset", (), "f", "degree", "added to every tilt angle", required=False),
    Variable(
        "z_shift", (), "f", "angstrom", "height placed at the tomogram's centre", required=False
    ),
    Variable("thickness", (), "f", "angstrom", "thickness of the specimen", required=False),
)

TOMOGRAM: tuple[Variable, ...] = (
    Variable("tomogram", ("z", "y", "x"), "f", "", "density, image units per A"),
    Variable("z", ("z",), "f", "angstrom", "voxel centres", coordinate=True),
    Variable("y", ("y",), "f", "angstrom", "voxel centres, along the tilt axis", coordinate=True),
    Variable("x", ("x",), "f", "angstrom", "voxel centres", coordinate=True),
)

REGISTRY: Mapping[Group, tuple[Variable, ...]] = {
    "movies": MOVIES,
    "motion": MOTION,
    "tilt_series": TILT_SERIES,
    "cleaning": CLEANING,
    "curation": CURATION,
    "alignment": ALIGNMENT,
    "tomogram": TOMOGRAM,
}


def validate(dataset: xr.Dataset, group: Group, *, source: str = "dataset") -> None:
    """Raise unless a dataset holds what the registry says of its group.

    Parameters
    ----------
    dataset
        What to check; no data is read but coordinates.
    group
        Which part of the registry.
    source
        Where it came from, for the message.

    Raises
    ------
    SchemaError
        Naming the variable, what it is and what it should be.
    """
    for variable in REGISTRY[group]:
        if variable.name not in dataset.variables:
            if variable.required:
                raise SchemaError(
                    f"{source} has no variable {variable.name!r} ({variable.meaning}); a "
                    f"{group.replace('_', ' ')} needs it with dimensions {variable.dims}"
                )
            continue
        found = dataset[variable.name]
        if found.dims != variable.dims:
            raise SchemaError(
                f"{source}: {variable.name!r} has dimensions {found.dims}, it needs {variable.dims}"
            )
        if found.dtype.kind not in variable.kind + ("i" if variable.kind == "f" else ""):
            raise SchemaError(
                f"{source}: {variable.name!r} is {found.dtype}, it must be of kind "
                f"{variable.kind!r}; convert it with astype"
            )
        if variable.coordinate and variable.kind == "f" and variable.name == "tilt_angle":
            bad = np.flatnonzero(~np.isfinite(found.values))
            if len(bad):
                raise SchemaError(f"{source}: tilt_angle of view {bad[0]} is not a finite number")
    if group == "tilt_series" and "pixel_size" not in dataset.attrs:
        raise SchemaError(f"{source} has no attribute 'pixel_size' (A); set it")


def variable_attributes(group: Group, name: str) -> dict[str, Any]:
    """Return the attributes ("units", "long_name") that a variable carries."""
    for variable in REGISTRY[group]:
        if variable.name == name:
            units = {"units": variable.units} if variable.units else {}
            return {"long_name": variable.meaning, **units}
    raise KeyError(name)


def layer_depth(heights: int) -> int:
    """Return how many heights of a slab are stored, and computed, together: about 64.

    A multiple of 4, so that a layer halves twice for the coarser levels.
    """
    layers = max(1, round(heights / 64))
    return -(-heights // (layers * 4)) * 4


_ALIGNMENT_FIELDS = (
    "tilt_angle",
    "tilt_axis_angle",
    "magnification",
    "stretch",
    "skew",
    "x_tilt",
)


def alignment_dataset(
    projection: Projection,
    *,
    method: str,
    attributes: Mapping[str, Any] | None = None,
    **extra: Any,
) -> xr.Dataset:
    """Return the alignment that a projection is.

    Parameters
    ----------
    projection
        One value per view.
    method
        How it was found, e.g. "coarse" or "imported".
    attributes
        Provenance.
    **extra
        Further variables of the registry, per tilt or scalar.

    Returns
    -------
    xarray.Dataset with dimension ``tilt``.
    """
    values: dict[str, Any] = {name: getattr(projection, name) for name in _ALIGNMENT_FIELDS}
    values |= {
        "shift_y": projection.shift[:, 1],
        "shift_x": projection.shift[:, 0],
        "z_factor_u": projection.z_factor[:, 0],
        "z_factor_v": projection.z_factor[:, 1],
    }
    values |= extra
    variables = {
        variable.name: (
            variable.dims,
            np.asarray(values[variable.name], bool if variable.kind == "b" else np.float64),
            variable_attributes("alignment", variable.name),
        )
        for variable in ALIGNMENT
        if variable.name in values
    }
    dataset = xr.Dataset(variables, attrs={"method": method, **(attributes or {})})
    validate(dataset, "alignment", source=f"{method} alignment")
    return dataset


def projection_of(alignment: xr.Dataset) -> Projection:
    """Return the projection of an alignment, tilt offset and z shift applied.

    Raises
    ------
    SchemaError
        If a variable is missing.
    GeometryError
        If a value makes no view.
    """
    validate(alignment, "alignment", source="alignment")

    def get(name: str, default: float) -> Any:
        return alignment[name].values if name in alignment else default

    tilt = alignment["tilt_angle"].values
    zero = np.zeros(tilt.shape)
    projection = Projection.create(
        tilt + get("tilt_offset", 0.0),
        tilt_axis_angle=alignment["tilt_axis_angle"].values,
        shift=np.stack([alignment["shift_x"].values, alignment["shift_y"].values], axis=-1),
        magnification=alignment["magnification"].values,
        stretch=get("stretch", 0.0),
        skew=get("skew", 0.0),
        x_tilt=get("x_tilt", 0.0),
        z_factor=np.stack([zero + get("z_factor_u", 0.0), zero + get("z_factor_v", 0.0)], axis=-1),
    )
    height = float(get("z_shift", 0.0))
    return projection.moved_origin((0.0, 0.0, height)) if height else projection


def nominal_projection(series: xr.Dataset) -> Projection:
    """Return the projection of a tilt series as recorded: no shifts, the nominal tilt axis."""
    return Projection.create(
        series["tilt_angle"].values, tilt_axis_angle=float(series.attrs.get("tilt_axis_angle", 0.0))
    )


def provenance(step: str, **parameters: Any) -> dict[str, Any]:
    """Return what a result says of its origin: the step, its parameters, the versions.

    It holds nothing of when, where or by whom, so that equal results are equal to the last byte.
    """
    return {
        "step": step,
        **parameters,
        "software": {name: _version(name) for name in _SOFTWARE},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def mark_stored(images: xr.DataArray, folder: Path) -> None:
    """Note on lazy images from which stored array they are read."""
    images.encoding["stored"] = (str(folder), images.data.name)


def stored_folder(images: xr.DataArray) -> Path | None:
    """Return the stored array that lazy images are, None where they were changed since."""
    folder, name = images.encoding.get("stored", (None, None))
    return Path(folder) if folder and getattr(images.data, "name", None) == name else None


def mark_edited(images: xr.DataArray, cleaning: Path, digest: str) -> None:
    """Note on stored images which of their pixels are mended when they are read."""
    images.encoding["edited"] = (str(cleaning), digest)


def edits_of(images: xr.DataArray) -> tuple[Path, str] | None:
    """Return the folder and the digest of the edits of stored images, None where there are none."""
    folder, digest = images.encoding.get("edited", (None, ""))
    return (Path(folder), digest) if folder else None


def tilt_series_of(series: xr.DataTree) -> xr.Dataset:
    """Return the images of a series with their coordinates.

    Raises
    ------
    ProductMissingError
        If its movies have not been corrected yet.
    """
    if "tilt_series" not in series.children:
        raise ProductMissingError(
            f"{series.name} has movies but no images yet: make them with 'tomodask motion'"
        )
    return series["tilt_series"].to_dataset()


def views_of(series: xr.DataTree) -> xr.Dataset:
    """Return the coordinates of a series' views: of its images, or of its movies before those."""
    return series["tilt_series" if "tilt_series" in series.children else "movies"].to_dataset()


def views_with_image(tilt_series: xr.Dataset) -> list[int]:
    """Return the views that have an image: not those whose movie could not be used."""
    if "has_image" not in tilt_series.coords:
        return list(range(tilt_series.sizes["tilt"]))
    return [int(view) for view in np.flatnonzero(tilt_series["has_image"].values)]


def series_path(tree: xr.DataTree) -> Path | None:
    """Return the store a tree was opened from, None for one made in memory."""
    source = tree.root.encoding.get("source")
    return None if source is None else Path(source)
