"""A table of contrast transfer as a dataset, and the transfer of each view that it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tomodask.errors import DataError
from tomodask.geometry import height_gradient
from tomodask.kernels.ctf import Optics, Transfer
from tomodask.model.registry import REGISTRY, validate, variable_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tomodask.geometry import Projection

__all__ = ["ctf_dataset", "handedness_of", "optics_of", "transfers_at_origin"]


def ctf_dataset(
    optics: Optics,
    *,
    method: str,
    handedness: int = 0,
    attributes: Mapping[str, Any] | None = None,
    **values: Any,
) -> xr.Dataset:
    """Return a table of contrast transfer.

    Parameters
    ----------
    optics
        Of the microscope.
    method
        How it was found: "estimated" or "imported".
    handedness
        +1 or -1: the defocus at height w is that of the view plus `handedness` times w; 0 where it
        is not known.
    attributes
        Provenance and what else is known of the whole series.
    **values
        Variables of the registry.

    Returns
    -------
    xarray.Dataset with dimension ``tilt``.

    Raises
    ------
    SchemaError
        If a variable is missing.
    """
    coordinates: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for variable in REGISTRY["ctf"]:
        if variable.name not in values:
            continue
        kind: Any = bool if variable.kind == "b" else np.float64
        if variable.name == "spectrum":
            kind = np.float32
        entry = (
            variable.dims,
            np.asarray(values[variable.name], kind),
            variable_attributes("ctf", variable.name),
        )
        (coordinates if variable.coordinate else data)[variable.name] = entry
    dataset = xr.Dataset(
        data,
        coords=coordinates,
        attrs={
            "method": method,
            "voltage": optics.voltage,
            "spherical_aberration": optics.spherical_aberration,
            "amplitude_contrast": optics.amplitude_contrast,
            "defocus_handedness": int(handedness),
            **(attributes or {}),
        },
    )
    validate(dataset, "ctf", source=f"{method} CTF")
    return dataset


def optics_of(ctf: xr.Dataset) -> Optics:
    """Return the microscope of a table of contrast transfer."""
    return Optics(
        voltage=float(ctf.attrs["voltage"]),
        spherical_aberration=float(ctf.attrs["spherical_aberration"]),
        amplitude_contrast=float(ctf.attrs["amplitude_contrast"]),
    )


def handedness_of(ctf: xr.Dataset) -> int:
    """Return +1 or -1, or 0 where it is not known."""
    return int(ctf.attrs.get("defocus_handedness", 0))


def transfers_at_origin(ctf: xr.Dataset, projection: Projection) -> tuple[Transfer, ...]:
    """Return the contrast transfer of every view at the specimen's origin; NaN where not known.

    The table's defocus belongs to a place of the raw image (its centre, where it says nothing
    else) on the specimen's plane z = 0; a projection says how much higher or lower the origin is.

    Parameters
    ----------
    ctf
        The table.
    projection
        Of the same views.

    Raises
    ------
    DataError
        If the numbers of views differ.
    """
    if ctf.sizes["tilt"] != len(projection):
        raise DataError(
            f"the CTF is of {ctf.sizes['tilt']} views, the alignment of {len(projection)}; "
            "estimate or import it for this series"
        )
    reference = np.stack(
        [ctf[name].values if name in ctf else np.zeros(len(projection)) for name in _REFERENCE],
        axis=1,
    )
    # At the reference the plane is this much higher than at the origin.
    height: NDArray[np.float64] = np.einsum(
        "ti,ti->t", height_gradient(projection), reference - projection.shift
    )
    offset = -handedness_of(ctf) * height
    optics = optics_of(ctf)
    columns = [ctf[name].values for name in ("defocus_u", "defocus_v")]
    angle, phase = ctf["astigmatism_angle"].values, ctf["phase_shift"].values
    return tuple(
        Transfer(
            optics,
            float(columns[0][view] + offset[view]),
            float(columns[1][view] + offset[view]),
            float(angle[view]),
            float(phase[view]),
        )
        for view in range(len(projection))
    )


_REFERENCE = ("reference_x", "reference_y")
