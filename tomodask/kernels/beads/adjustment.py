"""The joint adjustment of a model's poses and landmarks while it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.kernels.beads.structure import view_matrices
from tomodask.kernels.bundle.adjust import solve
from tomodask.kernels.bundle.observations import Observations

if TYPE_CHECKING:
    from tomodask.kernels.beads.model import Model
    from tomodask.kernels.bundle.variables import Variables

__all__ = ["adjust"]


def adjust(model: Model, variables: Variables | None) -> bool:
    """Adjust a model's poses; return whether its observations allowed that.

    Views that are not aligned get the same tilt axis. The origin is put at the landmarks' mean,
    for heights have a prior about it.
    """
    table = model.table()
    seen = np.isfinite(table[..., 0])
    seen &= (seen.sum(axis=1) >= 2)[:, None]
    landmark, view = np.nonzero(seen)
    rows = np.unique(landmark, return_inverse=True)[1]
    try:
        found = solve(
            Observations.create(rows, view, table[landmark, view]),
            model.tilt_angle,
            tilt_axis_angle=model.tilt_axis_angle,
            variables=variables,
            # Assigning has kept to detections near their predictions, and is done anew after this.
            robust=False,
        )
    except (DataError, np.linalg.LinAlgError):
        # False matches of a wrong beginning need not hold a solution; it will not be believed.
        return False
    here = model.aligned
    axis = float(np.median(found.rotation[here]))
    model.matrix = np.where(
        here[:, None, None], found.matrix, view_matrices(model.tilt_angle, axis)
    )
    model.shift = np.where(here[:, None], found.shift, model.shift)
    model.tilt_axis_angle = axis
    middle = np.nanmedian(found.points, axis=0)
    if np.isfinite(middle).all():
        model.shift = model.shift + model.matrix @ middle
    return True
