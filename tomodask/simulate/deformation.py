"""How a specimen deforms while a tilt series is recorded: it bends and flows with the dose.

The ice is taken as a thin plate (the Kirchhoff hypothesis): a dome of its middle plane turns the
normals, so that the two surfaces are displaced against each other along the plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre

from tomodask.errors import ParameterError
from tomodask.geometry import LocalField
from tomodask.simulate.imaging import dose_symmetric_order

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["random_deformation"]

#: Knots along each axis: a natural spline then follows polynomials of low degree closely.
_KNOTS = 9
#: Degrees of the polynomials; what is linear in x and y the alignment of whole views takes away.
_LOWEST, _HIGHEST = 2, 3
#: Ways in which the plate deforms, each at its own pace: parts of the dose in which a deformation
#: has come to 1 - 1/e of its end.
_PACES = (0.3, 1.0, 5.0)


def random_deformation(
    tilt_angle: ArrayLike,
    *,
    seed: int,
    amplitude: float,
    extent: tuple[float, float],
    order: ArrayLike | None = None,
) -> LocalField:
    """Return a deformation that grows smoothly with the dose, as radiation causes it.

    At the first exposure there is none: places of the specimen are those of before. Each point
    moves along x, y and z by polynomials of second and third degree in x and y; the motion slows
    down with time.

    Parameters
    ----------
    tilt_angle
        (tilt,) degrees.
    seed
        Equal seeds give equal deformations.
    amplitude
        Root mean square length of the displacement at the last exposure, over the middle plane,
        A.
    extent
        (x, y) size of the specimen about its origin, A.
    order
        (tilt,) when each view is acquired, from 0; dose-symmetric when absent.

    Raises
    ------
    ParameterError
        If a size is not positive, or the order has another number of views.
    """
    angles = np.deg2rad(np.atleast_1d(np.asarray(tilt_angle, np.float64)))
    if not (amplitude >= 0 and min(extent) > 0):
        raise ParameterError(
            f"a deformation of {amplitude} A over {extent} A: give an amplitude of zero or more "
            "and a positive extent"
        )
    acquired = dose_symmetric_order(tilt_angle) if order is None else np.asarray(order)
    if acquired.shape != angles.shape:
        raise ParameterError(f"an order of {acquired.shape} views; there are {angles.shape}")
    dose = acquired / max(len(angles) - 1, 1)
    rng = np.random.default_rng(seed)
    knot_x, knot_y = (np.linspace(-size / 2, size / 2, _KNOTS) for size in extent)
    x, y = np.meshgrid(np.linspace(-1, 1, _KNOTS), np.linspace(-1, 1, _KNOTS))

    moved = np.zeros((len(angles), _KNOTS, _KNOTS, 3))
    bent = np.zeros((len(angles), _KNOTS, _KNOTS, 2))
    for pace in _PACES:
        growth = (1 - np.exp(-dose / pace)) / (1 - np.exp(-1 / pace))
        shape = _shape(rng)
        now = np.stack([legendre.legval2d(x, y, part) for part in shape], axis=-1)
        slope_x = legendre.legval2d(x, y, legendre.legder(shape[2], axis=0)) * 2 / extent[0]
        slope_y = legendre.legval2d(x, y, legendre.legder(shape[2], axis=1)) * 2 / extent[1]
        moved += growth[:, None, None, None] * now
        bent -= growth[:, None, None, None] * np.stack([slope_x, slope_y], axis=-1)
    last = moved[int(np.argmax(acquired))]
    scale = amplitude / np.sqrt(np.mean(np.sum(last**2, axis=-1)))
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    shift = np.stack([moved[..., 0] * cos + moved[..., 2] * sin, moved[..., 1]], axis=-1)
    slope = np.stack([bent[..., 0] * cos, bent[..., 1]], axis=-1)
    return LocalField.create(knot_y, knot_x, scale * shift, scale * slope)


def _shape(rng: np.random.Generator) -> FloatArray:
    """Return (3, i, j) Legendre coefficients of the displacement along x, y and z."""
    degree = np.add.outer(np.arange(_HIGHEST + 1), np.arange(_HIGHEST + 1))
    shape: FloatArray = rng.standard_normal((3, *degree.shape))
    shape *= (degree >= _LOWEST) & (degree <= _HIGHEST)
    return shape
