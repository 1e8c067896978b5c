"""How high along the beam lies what a view shows: the defocus follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import GeometryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.geometry.projection import Projection

    FloatArray = NDArray[np.float64]

__all__ = ["height_gradient", "slab_heights"]


def height_gradient(
    projection: Projection, inclination: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """Return how the height of a specimen plane changes over the raw images.

    At a raw position p the plane through the specimen's origin lies at the height
    ``w = gradient . (p - shift)`` along the beam.

    Parameters
    ----------
    projection
        Of the series; a local field is left out.
    inclination
        Slopes dz/dx and dz/dy of the plane in the specimen; by default it is z = 0.

    Returns
    -------
    (tilt, 2), A of height per A of raw x and y; NaN where a view sees the plane edge-on.
    """
    along = np.array([[1.0, 0.0], [0.0, 1.0], list(inclination)])
    view = projection.view_matrix() @ along
    plane = view[:, :2]
    seen = np.abs(np.linalg.det(plane)) >= 1e-9
    raw = projection.image_matrix()[seen] @ plane[seen]
    gradient: FloatArray = np.full((len(projection), 2), np.nan)
    gradient[seen] = np.einsum("ti,tij->tj", view[seen, 2], np.linalg.inv(raw))
    return gradient


def slab_heights(projection: Projection) -> FloatArray:
    """Return the height along the beam in the coordinates of a slab model.

    A voxel of height z that is seen at (u', v') of :meth:`Projection.slab_model` lies at
    ``w = c_u u' + c_v v' + c_z z``.

    Returns
    -------
    (tilt, 3) coefficients c_u, c_v, c_z; dimensionless.

    Raises
    ------
    GeometryError
        Where a view sees the specimen plane edge-on.
    """
    model = projection.slab_model()
    beam = projection.view_matrix()[:, 2]
    edge_on = np.flatnonzero(np.abs(model.cos_x) < 1e-9)
    if len(edge_on):
        raise GeometryError(
            f"view {edge_on[0]} (tilt {projection.tilt_angle[edge_on[0]]:g} deg) sees the specimen "
            "plane edge-on; exclude the view"
        )
    # x = (u' - sin_z z) / cos_x and y = v' + shear z
    across = beam[:, 0] / model.cos_x
    return np.stack(
        [across, beam[:, 1], beam[:, 2] - across * model.sin_z + beam[:, 1] * model.shear], axis=1
    )
