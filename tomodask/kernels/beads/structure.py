"""Points and views of a specimen seen under parallel projection at known tilts.

A view maps a point to ``matrix @ (x, y, z) + shift``. Given the views, each point is a linear least
squares problem (triangulation); given the points, each view is one in small changes of its pose
(resection). Neither is the joint adjustment of both, which is :mod:`tomodask.kernels.bundle`'s;
they are what finding correspondences needs: cheap, and with priors, so that a point seen in one
view and a view that shows three points have an answer, and a covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["project", "resect", "triangulate", "view_matrices"]

#: Prior deviations of a view's change: rotation and tilt, radians, and magnification.
_ROTATION, _TILT, _MAGNIFICATION = np.radians(0.5), np.radians(0.5), 0.003


def view_matrices(tilt_angle: ArrayLike, tilt_axis_angle: ArrayLike) -> FloatArray:
    """Return the (tilt, 2, 3) matrices of views at these tilts about this axis, degrees."""
    tilt, axis = np.broadcast_arrays(np.radians(tilt_angle), np.radians(tilt_axis_angle))
    c, s, zero = np.cos(axis), np.sin(axis), np.zeros(tilt.shape)
    rows = [
        [c * np.cos(tilt), -s, c * np.sin(tilt)],
        [s * np.cos(tilt), c, s * np.sin(tilt)],
    ]
    matrices: FloatArray = np.moveaxis(np.array(rows) + zero, (0, 1), (-2, -1))
    return matrices


def project(matrix: FloatArray, shift: FloatArray, points: FloatArray) -> FloatArray:
    """Return where (landmark, 3) points are seen, (landmark, tilt, 2)."""
    seen: FloatArray = np.einsum("tij,lj->lti", matrix, points) + shift
    return seen


def triangulate(
    table: FloatArray, matrix: FloatArray, shift: FloatArray, *, deviation: float, depth: float
) -> tuple[FloatArray, FloatArray]:
    """Return the points most probable by where they are seen, and their covariances.

    Parameters
    ----------
    table
        (landmark, tilt, 2) positions; NaN where a landmark is not seen.
    matrix, shift
        (tilt, 2, 3) and (tilt, 2) of the views.
    deviation
        Of a position.
    depth
        Prior deviation of z about 0.

    Returns
    -------
    points, covariance
        (landmark, 3) and (landmark, 3, 3); NaN for landmarks not seen at all.
    """
    seen = np.isfinite(table[..., 0])
    weight = seen / deviation**2
    offset = np.where(seen[..., None], table - shift, 0)
    normal = np.einsum("lt,tki,tkj->lij", weight, matrix, matrix)
    right = np.einsum("lt,tki,ltk->li", weight, matrix, offset)
    normal[:, 2, 2] += 1 / depth**2
    # A landmark that is not seen is given a solvable system here and NaN below.
    normal[~seen.any(axis=1)] = np.eye(3)
    covariance = np.linalg.inv(normal)
    points = np.einsum("lij,lj->li", covariance, right)
    points[~seen.any(axis=1)] = np.nan
    covariance[~seen.any(axis=1)] = np.nan
    return points, covariance


def resect(
    position: FloatArray,
    covariance: FloatArray,
    points: FloatArray,
    matrix: FloatArray,
    shift: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return a view's (2, 3) matrix and (2,) shift, fitted to where points are seen.

    The shift is free; the rotation, tilt and magnification change within small priors, so that
    few points change little but the shift. Outliers are weighted down (Geman and McClure).

    Parameters
    ----------
    position
        (n, 2) where the points are seen.
    covariance
        (n, 2, 2) of the position less its prediction.
    points
        (n, 3).
    matrix, shift
        (2, 3) and (2,) to start from; the tilt axis is the second column of the matrix.
    """
    prior = np.diag([0, 0, _ROTATION**-2, _TILT**-2, _MAGNIFICATION**-2])
    precision = np.linalg.inv(covariance)
    plane = points @ matrix.T
    axis = matrix[:, 1] / np.linalg.norm(matrix[:, 1])
    across = np.array([axis[1], -axis[0]])
    # d(u)/d(tilt): u = x cos + z sin, so its derivative is -x sin + z cos.
    cosine, sine = across @ matrix[:, 0], across @ matrix[:, 2]
    tilted = points[:, 2] * cosine - points[:, 0] * sine
    jacobian = np.zeros((len(points), 2, 5))
    jacobian[:, 0, 0] = jacobian[:, 1, 1] = 1
    jacobian[:, :, 2] = np.stack([-plane[:, 1], plane[:, 0]], axis=1)
    jacobian[:, :, 3] = tilted[:, None] * across
    jacobian[:, :, 4] = plane
    error = position - plane - shift
    # Starts from the median, which half of the points being wrong does not move.
    change = np.r_[np.median(error, axis=0), 0, 0, 0]
    for _ in range(10):
        left = error - jacobian @ change
        weight = (1 + np.einsum("ni,nij,nj->n", left, precision, left) / 9) ** -2
        normal = np.einsum("n,nia,nij,njb->ab", weight, jacobian, precision, jacobian) + prior
        right = np.einsum("n,nia,nij,nj->a", weight, jacobian, precision, error)
        change = np.linalg.solve(normal, right)
    turn, tilt, magnify = change[2:]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    derivative = np.outer(across, [-sine, 0, cosine])
    return (1 + magnify) * rotation @ (matrix + tilt * derivative), shift + change[:2]
