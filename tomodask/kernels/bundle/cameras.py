"""The camera of each view, from the values that describe it, and its derivatives.

A specimen point goes through these steps, in the order of IMOD's tiltalign:

1. magnification m;
2. compression c of z: ``z -> c z``;
3. stretch e and skew k in the specimen plane, which turn and stretch the x axis alone:
   ``x -> (1 + e) cos(k) x``, ``y -> y + (1 + e) sin(k) x``;
4. x-tilt a: ``y -> y cos a - z sin a``, ``z -> z cos a + y sin a``;
5. tilt t, and projection: ``u = x cos t + z sin t``, ``v = y``;
6. rotation: ``raw = R(rot) (u, v)``, counter-clockwise, the tilt-axis angle;
7. shift.

References
----------
.. [1] Lawrence, A. et al., Fiducial alignment of electron tomograms with tiltalign: the IMOD
   manual's page of that programme describes the order of operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.bundle.variables import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.bundle.observations import Observations

    FloatArray = NDArray[np.float64]

__all__ = ["camera_derivatives", "camera_matrices", "project", "triangulate"]


def camera_matrices(values: FloatArray) -> FloatArray:
    """Return the (view, 2, 3) cameras of (view, 7) values in the order of `PARAMETERS`, radians."""
    matrices, _ = camera_derivatives(values, ())
    return matrices


def camera_derivatives(
    values: FloatArray, parameters: Sequence[str] = PARAMETERS
) -> tuple[FloatArray, FloatArray]:
    """Return cameras and their derivatives with respect to some of the values.

    Parameters
    ----------
    values
        (view, 7) in the order of `PARAMETERS`; angles in radians.
    parameters
        Names of those to differentiate with respect to.

    Returns
    -------
    matrices : (view, 2, 3)
    derivatives : (view, parameter, 2, 3)
    """
    rotation, tilt, magnification, compression, stretch, skew, x_tilt = values.T
    views = len(values)
    zero, one = np.zeros_like(tilt), np.ones_like(tilt)

    def stacked(*rows: tuple[FloatArray, ...]) -> FloatArray:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    def turn(cos: FloatArray, sin: FloatArray) -> FloatArray:
        return stacked((cos, -sin), (sin, cos))

    def tilted(cos: FloatArray, sin: FloatArray, along: FloatArray) -> FloatArray:
        return stacked((cos, zero, sin), (zero, along, zero))

    def pitched(cos: FloatArray, sin: FloatArray, across: FloatArray) -> FloatArray:
        return stacked((across, zero, zero), (zero, cos, -sin), (zero, sin, cos))

    def distorted(
        xx: FloatArray, yx: FloatArray, along: FloatArray, depth: FloatArray
    ) -> FloatArray:
        return stacked((xx, zero, zero), (yx, along, zero), (zero, zero, depth))

    scale = 1 + stretch
    cos_k, sin_k = np.cos(skew), np.sin(skew)
    turned = turn(np.cos(rotation), np.sin(rotation))
    projected = tilted(np.cos(tilt), np.sin(tilt), one)
    pitch = pitched(np.cos(x_tilt), np.sin(x_tilt), one)
    distortion = distorted(scale * cos_k, scale * sin_k, one, compression)
    size = magnification[:, None, None]
    view = turned @ projected
    plane = pitch @ distortion
    matrices: FloatArray = size * (view @ plane)

    derivatives = np.empty((views, len(parameters), 2, 3))
    for place, name in enumerate(parameters):
        if name == "rotation":
            other = turn(-np.sin(rotation), np.cos(rotation))
            found = size * (other @ projected @ plane)
        elif name == "tilt":
            found = size * (turned @ tilted(-np.sin(tilt), np.cos(tilt), zero) @ plane)
        elif name == "magnification":
            found = view @ plane
        elif name == "compression":
            found = size * (view @ pitch @ distorted(zero, zero, zero, one))
        elif name == "stretch":
            found = size * (view @ pitch @ distorted(cos_k, sin_k, zero, zero))
        elif name == "skew":
            found = size * (view @ pitch @ distorted(-scale * sin_k, scale * cos_k, zero, zero))
        else:
            bent = pitched(-np.sin(x_tilt), np.cos(x_tilt), zero)
            found = size * (view @ bent @ distortion)
        derivatives[:, place] = found
    return matrices, derivatives


def project(matrix: FloatArray, shift: FloatArray, points: FloatArray) -> FloatArray:
    """Return where points lie in every view.

    Parameters
    ----------
    matrix, shift
        (view, 2, 3) and (view, 2): ``raw = matrix (x, y, z) + shift``.
    points
        (point, 3).

    Returns
    -------
    (view, point, 2) raw (x, y).
    """
    found: FloatArray = np.einsum("vij,pj->vpi", matrix, points) + shift[:, None]
    return found


def triangulate(matrix: FloatArray, shift: FloatArray, observations: Observations) -> FloatArray:
    """Return the points that fit observations best, given the cameras.

    Parameters
    ----------
    matrix, shift
        (view, 2, 3) and (view, 2): ``raw = matrix (x, y, z) + shift``.
    observations
        Positions and weights.

    Returns
    -------
    (landmark, 3) float64; NaN where the views do not determine the point, which takes at least
    two that differ in tilt. There are as many rows as the highest index needs.
    """
    count = int(observations.landmark.max(initial=-1)) + 1
    cameras = matrix[observations.view]
    weight = observations.weight[:, None, None]
    target = observations.position - shift[observations.view]
    normal = np.zeros((count, 3, 3))
    pull = np.zeros((count, 3))
    np.add.at(normal, observations.landmark, weight * np.einsum("nki,nkj->nij", cameras, cameras))
    np.add.at(pull, observations.landmark, weight[:, 0] * np.einsum("nki,nk->ni", cameras, target))
    points = np.full((count, 3), np.nan)
    known = np.linalg.eigvalsh(normal)
    sure = known[:, 0] > 1e-6 * known[:, 2]
    points[sure] = np.linalg.solve(normal[sure], pull[sure][:, :, None])[:, :, 0]
    return points
