"""How the specimen moves by itself during the tilt series: a smooth field over it, for each view.

At a point (x, y, z) of the specimen the field displaces the aligned image by::

    (u, v) -> (u, v) + shift(x, y) + z slope(x, y)

``shift`` is the displacement of the plane z = 0, ``slope`` what is added per unit of height: a
local change of tilt by d makes ``slope_u = d cos t``, one of x-tilt by a makes ``slope_v = -a``.
Between its knots the field is a natural cubic spline in x and in y; beyond the outermost knots it
stays as it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from tomodask.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["LocalField"]


@dataclass(frozen=True, eq=False, slots=True)
class LocalField:
    """Displacements of the aligned image over the specimen; build it with :meth:`create`.

    Parameters
    ----------
    knot_y, knot_x
        (ky,) and (kx,) specimen y and x of the knots, increasing, A.
    shift
        (tilt, ky, kx, 2) float64: (u, v) displacement of the plane z = 0, A.
    slope
        (tilt, ky, kx, 2) float64: (u, v) displacement per unit of height, dimensionless.
    """

    knot_y: FloatArray
    knot_x: FloatArray
    shift: FloatArray
    slope: FloatArray

    @classmethod
    def create(
        cls, knot_y: ArrayLike, knot_x: ArrayLike, shift: ArrayLike, slope: ArrayLike = 0.0
    ) -> Self:
        """Return a field; a `slope` of fewer dimensions is broadcast.

        Raises
        ------
        GeometryError
            If knots do not increase, shapes do not fit, or a value is not finite.
        """
        knots = [np.array(np.atleast_1d(np.asarray(k, np.float64))) for k in (knot_y, knot_x)]
        for name, values in zip(("y", "x"), knots, strict=True):
            if values.ndim != 1 or not len(values) or not (np.diff(values) > 0).all():
                raise GeometryError(
                    f"the knots of the local field along {name} are {values}: give increasing "
                    "coordinates in A"
                )
        values = np.array(np.asarray(shift, np.float64))
        tail = (len(knots[0]), len(knots[1]), 2)
        if values.ndim != 4 or values.shape[1:] != tail:
            raise GeometryError(
                f"the local field has shape {values.shape}; its knots need (tilt, {tail[0]}, "
                f"{tail[1]}, 2)"
            )
        slopes = np.array(np.broadcast_to(np.asarray(slope, np.float64), values.shape))
        for array in (values, slopes, *knots):
            if not np.isfinite(array).all():
                raise GeometryError("the local field holds values that are not finite numbers")
            array.flags.writeable = False
        return cls(knots[0], knots[1], values, slopes)

    def __len__(self) -> int:
        return len(self.shift)

    def __getitem__(self, views: slice | Sequence[int] | NDArray[np.generic]) -> Self:
        """Return the field of some of the views."""
        return replace(self, shift=self.shift[views], slope=self.slope[views])

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the field at specimen points.

        Parameters
        ----------
        x, y
            (point,) coordinates, A.

        Returns
        -------
        shift, slope : (tilt, point, 2) float64
        """
        along_y, along_x = _basis(self.knot_y, y), _basis(self.knot_x, x)

        def values(of: FloatArray) -> FloatArray:
            return np.asarray(np.einsum("pi,pj,tijc->tpc", along_y, along_x, of, optimize=True))

        return values(self.shift), values(self.slope)

    def on_grid(self, view: int, y: ArrayLike, x: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the field of one view on a grid of points.

        Parameters
        ----------
        view
            Position of the view in the field.
        y, x
            (ny,) and (nx,) coordinates of the grid's lines, A.

        Returns
        -------
        shift, slope : (ny, nx, 2) float64
        """
        along_y, along_x = _basis(self.knot_y, y), _basis(self.knot_x, x)

        def values(of: FloatArray) -> FloatArray:
            return np.asarray(
                np.einsum("yi,xj,ijc->yxc", along_y, along_x, of[view], optimize=True)
            )

        return values(self.shift), values(self.slope)

    def moved_origin(self, point: ArrayLike) -> Self:
        """Return the same field about another origin (x, y, z), A."""
        x, y, z = np.asarray(point, np.float64)
        return replace(
            self,
            knot_y=self.knot_y - y,
            knot_x=self.knot_x - x,
            shift=self.shift + z * self.slope,
        )


def _basis(knots: FloatArray, points: ArrayLike) -> FloatArray:
    """Return the (point, knot) weights of the values at the knots in the spline at each point."""
    from scipy.interpolate import CubicSpline

    at = np.clip(np.atleast_1d(np.asarray(points, np.float64)), knots[0], knots[-1])
    if len(knots) == 1:
        return np.ones((len(at), 1))
    weights: FloatArray = CubicSpline(knots, np.eye(len(knots)), bc_type="natural")(at)
    return weights
