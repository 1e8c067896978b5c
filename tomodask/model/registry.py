"""What every dataset of a store holds: one registry of variables, and one check against it.

Every name, dimension, type and unit that appears in a dataset or a store stands here once;
readers, graph builders and writers refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomodask.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

__all__ = [
    "CHECKSUMS",
    "REGISTRY",
    "SCHEMA_VERSION",
    "SLAB",
    "Group",
    "Variable",
    "layer_depth",
    "validate",
    "variable_attributes",
]

#: Rows along the tilt axis that are stored, and computed, as one slab.
SLAB = 64

#: Version of this registry, written into every store.
SCHEMA_VERSION = 1

Group = Literal[
    "movies",
    "motion",
    "tilt_series",
    "cleaning",
    "gold",
    "curation",
    "alignment",
    "landmarks",
    "ctf",
    "tomogram",
]


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

GOLD: tuple[Variable, ...] = (
    Variable("start", ("bound",), "i", "", "first disc of each view, and the end of the last"),
    Variable("y", ("edit",), "f", "", "row of a disc's centre, index of the pixel"),
    Variable("x", ("edit",), "f", "", "column of a disc's centre"),
    Variable("radius", ("edit",), "f", "", "radius of a disc, pixels"),
    Variable("landmark", ("edit",), "i", "", "number of the landmark, -1 for beads not tracked"),
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
    Variable(
        "error", ("tilt",), "f", "angstrom", "error to be expected of a point, RMS", required=False
    ),
    Variable(
        "mean_residual", ("tilt",), "f", "angstrom", "mean residual of landmarks", required=False
    ),
    *(
        Variable(name, ("tilt", "knot_y", "knot_x"), "f", units, meaning, required=False)
        for name, units, meaning in (
            ("local_shift_u", "angstrom", "local displacement along u at z = 0"),
            ("local_shift_v", "angstrom", "local displacement along v at z = 0"),
            ("local_slope_u", "", "local displacement along u per height"),
            ("local_slope_v", "", "local displacement along v per height"),
        )
    ),
    *(
        Variable(
            f"knot_{axis}",
            (f"knot_{axis}",),
            "f",
            "angstrom",
            f"specimen {axis} of the local field's knots",
            coordinate=True,
            required=False,
        )
        for axis in "yx"
    ),
    Variable("tilt_offset", (), "f", "degree", "added to every tilt angle", required=False),
    Variable(
        "z_shift", (), "f", "angstrom", "height placed at the tomogram's centre", required=False
    ),
    Variable("thickness", (), "f", "angstrom", "thickness of the specimen", required=False),
)

LANDMARKS: tuple[Variable, ...] = (
    Variable("landmark_of", ("observation",), "i", "", "landmark that is seen"),
    Variable("view", ("observation",), "i", "", "view of the series that it is seen in"),
    Variable("y", ("observation",), "f", "angstrom", "raw y from the image centre"),
    Variable("x", ("observation",), "f", "angstrom", "raw x from the image centre"),
    Variable("residual_y", ("observation",), "f", "angstrom", "prediction less measurement, y"),
    Variable("residual_x", ("observation",), "f", "angstrom", "prediction less measurement, x"),
    Variable("error", ("observation",), "f", "angstrom", "standard error of x and of y, if known"),
    Variable("weight", ("observation",), "f", "", "robust weight in the solution, 0 to 1"),
    Variable("source", ("observation",), "U", "", "tracked, filled (predicted) or edited"),
    Variable("number", ("landmark",), "i", "", "its number, kept when others are deleted; from 1"),
    Variable("specimen_z", ("landmark",), "f", "angstrom", "specimen z, NaN where not solved"),
    Variable("specimen_y", ("landmark",), "f", "angstrom", "specimen y"),
    Variable("specimen_x", ("landmark",), "f", "angstrom", "specimen x"),
    Variable("surface", ("landmark",), "i", "", "1 the lower, 2 the upper, 0 not told apart"),
    Variable("chosen", ("landmark",), "b", "", "whether it takes part in the solution"),
    Variable("score", ("landmark",), "f", "", "how good a landmark it is, 0 the best"),
)

CTF: tuple[Variable, ...] = (
    Variable("defocus_u", ("tilt",), "f", "angstrom", "largest defocus, underfocus positive"),
    Variable("defocus_v", ("tilt",), "f", "angstrom", "defocus at right angles to it"),
    Variable(
        "astigmatism_angle",
        ("tilt",),
        "f",
        "degree",
        "direction of U, CCW from raw +x",
    ),
    Variable("phase_shift", ("tilt",), "f", "degree", "of a phase plate"),
    *(
        Variable(name, ("tilt",), kind, units, meaning, required=False)
        for name, kind, units, meaning in (
            ("reference_x", "f", "angstrom", "raw x, from the image centre, of that defocus"),
            ("reference_y", "f", "angstrom", "raw y, from the image centre, of that defocus"),
            (
                "defocus_error",
                "f",
                "angstrom",
                "mean defocus: half of the 90 % interval",
            ),
            (
                "astigmatism_error",
                "f",
                "angstrom",
                "astigmatism vector: half a part's 90 % interval",
            ),
            ("phase_shift_error", "f", "degree", "half of the 90 % interval"),
            ("fit_resolution", "f", "angstrom", "where the rings can no longer be followed"),
            ("score", "f", "", "correlation of the rings with the fit"),
            ("confidence", "f", "", "probability that the rings are the specimen's"),
            ("fitted", "b", "", "estimated from the view itself, not from its neighbours"),
        )
    ),
    *(
        Variable(name, ("tilt", "frequency"), "f", "", meaning, required=False)
        for name, meaning in (
            ("profile", "power along the rings over its background, less one"),
            ("profile_model", "the same of the fit"),
            ("profile_match", "local correlation of the two"),
        )
    ),
    Variable("frequency", ("frequency",), "f", "1/angstrom", "", coordinate=True, required=False),
    Variable(
        "spectrum",
        ("tilt", "frequency_y", "frequency_x"),
        "f",
        "",
        "power over its background, less one, at the view's mean defocus",
        required=False,
    ),
    *(
        Variable(
            f"frequency_{axis}",
            (f"frequency_{axis}",),
            "f",
            "1/angstrom",
            f"spatial frequency along raw {axis}",
            coordinate=True,
            required=False,
        )
        for axis in "yx"
    ),
    Variable("thickness", (), "f", "angstrom", "of the specimen, from the nodes", required=False),
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
    "gold": GOLD,
    "curation": CURATION,
    "alignment": ALIGNMENT,
    "landmarks": LANDMARKS,
    "ctf": CTF,
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
