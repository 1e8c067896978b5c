"""One step towards the most probable geometry, the specimen being unknown.

The views depend on the sources q and on the geometry d: ``y = B q + J d + noise``, with J the
derivative of the views by their shifts and rotations at the present q. Solving for q and d at once
gives the d that is most probable whatever the specimen is: a reference made of other views moves
with them, and a view's own part in it is accounted for. Alternating between the two, as projection
matching does, creeps along the changes that neighbouring views share. Those that many views share
need more (:mod:`slow`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.specimen import Specimen

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["Joint", "Unknowns", "fit_sources"]


@dataclass(eq=False, slots=True)
class Unknowns:
    """Sources (z, x, y) and geometry (view, 3)."""

    sources: Images
    geometry: FloatArray

    def plus(self, factor: float, other: Unknowns) -> Unknowns:
        """Return the sum with a multiple of others."""
        return Unknowns(
            self.sources + np.float32(factor) * other.sources,
            self.geometry + factor * other.geometry,
        )

    def dot(self, other: Unknowns) -> float:
        """Return the scalar product."""
        return float(np.vdot(self.sources, other.sources)) + float(
            np.sum(self.geometry * other.geometry)
        )


def fit_sources(specimen: Specimen, views: Images, sources: Images, iterations: int) -> Images:
    """Return sources nearer to the most probable ones for a fixed geometry.

    Conjugate gradients from the `sources` given.
    """
    residual = specimen.adjoint(views - specimen.views(sources)) - sources
    ready = specimen.preconditioned(residual)
    direction, size = ready, float(np.vdot(residual, ready))
    for _ in range(iterations):
        if size <= 0:
            break
        image = specimen.adjoint(specimen.views(direction)) + direction
        factor = np.float32(size / float(np.vdot(direction, image)))
        sources = sources + factor * direction
        residual = residual - factor * image
        ready = specimen.preconditioned(residual)
        before, size = size, float(np.vdot(residual, ready))
        direction = ready + np.float32(size / before) * direction
    return sources


class Joint:
    """The linear equations of sources and geometry about the present sources.

    Parameters
    ----------
    specimen
        At the present geometry.
    sources
        The most probable ones there.
    precision
        (3,) prior precisions of a view's geometry: shift along u and v, rotation.
    """

    def __init__(self, specimen: Specimen, sources: Images, precision: FloatArray) -> None:
        self.specimen, self.precision = specimen, precision
        self.derivatives = specimen.derivatives(sources)
        count = len(self.derivatives)
        self._flat = self.derivatives.reshape(count, 3, -1)
        self.information = np.matmul(self._flat, self._flat.swapaxes(1, 2)).astype(np.float64)
        self._inverse = np.linalg.inv(self.information + np.diag(precision) + 1e-9 * np.eye(3))

    def right_side(self, residual: Images, deviation: FloatArray) -> Unknowns:
        """Return the right side for a residual of the views.

        The sources count as fitted, so that they have no part in it.

        Parameters
        ----------
        residual
            (view, u, v).
        deviation
            (view, 3) of the geometry from its prior mean.
        """
        return self._adjoint(residual).plus(
            -1.0,
            Unknowns(np.zeros(self.specimen.shape, np.float32), self.precision * deviation),
        )

    def solve(self, right: Unknowns, iterations: int) -> Unknowns:
        """Return the solution by so many preconditioned conjugate gradients."""
        result = Unknowns(np.zeros_like(right.sources), np.zeros_like(right.geometry))
        residual, ready = right, self._preconditioned(right)
        direction, size = ready, residual.dot(ready)
        for _ in range(iterations):
            if size <= 0:
                break
            image = self._normal(direction)
            factor = size / direction.dot(image)
            result = result.plus(factor, direction)
            residual = residual.plus(-factor, image)
            ready = self._preconditioned(residual)
            before, size = size, residual.dot(ready)
            direction = ready.plus(size / before, direction)
        return result

    def _normal(self, unknowns: Unknowns) -> Unknowns:
        views = self.specimen.views(unknowns.sources)
        moved = np.matmul(unknowns.geometry[:, None].astype(np.float32), self._flat)
        views += moved.reshape(views.shape)
        result = self._adjoint(views)
        result.sources += unknowns.sources
        result.geometry += self.precision * unknowns.geometry
        return result

    def _adjoint(self, views: Images) -> Unknowns:
        flat = views.reshape(len(views), -1, 1)
        return Unknowns(
            self.specimen.adjoint(views),
            np.matmul(self._flat, flat)[..., 0].astype(np.float64),
        )

    def _preconditioned(self, unknowns: Unknowns) -> Unknowns:
        return Unknowns(
            self.specimen.preconditioned(unknowns.sources),
            np.einsum("vij,vj->vi", self._inverse, unknowns.geometry),
        )
