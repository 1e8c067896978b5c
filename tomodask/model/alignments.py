"""An alignment as a dataset, and the projection that it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.geometry import LocalField, Projection
from tomodask.model.registry import REGISTRY, validate, variable_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["alignment_dataset", "nominal_projection", "projection_of", "thickness_of"]

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
    if projection.local is not None:
        values |= {name: getattr(projection.local, name) for name in ("knot_y", "knot_x")}
        values |= {
            f"local_{part}_{axis}": getattr(projection.local, part)[..., column]
            for part in ("shift", "slope")
            for column, axis in enumerate("uv")
        }
    values |= extra
    variables = {
        variable.name: (
            variable.dims,
            np.asarray(values[variable.name], bool if variable.kind == "b" else np.float64),
            variable_attributes("alignment", variable.name),
        )
        for variable in REGISTRY["alignment"]
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
        local=_local_field(alignment),
    )
    height = float(get("z_shift", 0.0))
    return projection.moved_origin((0.0, 0.0, height)) if height else projection


def _local_field(alignment: xr.Dataset) -> LocalField | None:
    if "local_shift_u" not in alignment:
        return None

    def part(name: str) -> Any:
        return np.stack([alignment[f"local_{name}_{axis}"].values for axis in "uv"], axis=-1)

    return LocalField.create(
        alignment["knot_y"].values, alignment["knot_x"].values, part("shift"), part("slope")
    )


def thickness_of(alignment: xr.Dataset) -> float | None:
    """Return the thickness of the specimen that an alignment knows, A; None where it does not."""
    return float(alignment["thickness"]) if "thickness" in alignment else None


def nominal_projection(series: xr.Dataset) -> Projection:
    """Return the projection of a tilt series as recorded: no shifts, the nominal tilt axis."""
    return Projection.create(
        series["tilt_angle"].values, tilt_axis_angle=float(series.attrs.get("tilt_axis_angle", 0.0))
    )
