"""How far off the alignment may be: a draw from what is believed after the views were seen.

For linear equations ``M x = b`` of a Gaussian likelihood and prior, the solution for a right side
of pure chance, noise in the views and in the priors, is a draw from the posterior distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.patches.views import turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.joint import Joint
    from tomodask.kernels.patches.slow import SlowModes
    from tomodask.kernels.patches.views import Geometry

    FloatArray = NDArray[np.float64]

__all__ = ["expected_error"]

#: Conjugate gradients of the one draw of all views, draws of the slow modes, points.
_ITERATIONS, _DRAWS, _POINTS = 30, 32, 100


def expected_error(
    joint: Joint,
    geometry: Geometry,
    used: NDArray[np.int64],
    slow: SlowModes,
    thickness: float,
    tilt_error: float,
    seed: int,
) -> float:
    """Return the expected root mean square error of points in the views, A.

    Parameters
    ----------
    joint
        The equations at the solution.
    geometry, used
        The solution, and the views that the equations have.
    slow
        The slow modes: they are not in the draw, for which the specimen is too stiff.
    thickness
        Within which the points lie, A.
    tilt_error
        Standard deviation of the tilt angles' errors, radians.
    seed
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    specimen, frame = joint.specimen, joint.specimen.frame
    views = rng.standard_normal((len(used), *frame.shape), np.float32)
    prior = rng.standard_normal((len(used), 3)) / np.sqrt(joint.precision)
    right = joint.right_side(views, prior)
    right.sources += rng.standard_normal(specimen.shape, np.float32)
    drawn = joint.solve(right, _ITERATIONS)
    step = drawn.geometry[:, :2] * frame.pixel_size
    turned = drawn.geometry[:, 2] / (frame.longest / 2)
    points = rng.uniform(-0.5, 0.5, (_POINTS, 3)) * (
        *(0.8 * frame.pixel_size * np.array(frame.shape)),
        thickness,
    )
    design = _cameras(geometry.tilt[used], geometry.rotation[used]).reshape(-1, 3)
    squares = []
    for _ in range(_DRAWS):
        slow_step, slow_turn = slow.drawn(rng)
        other = geometry.moved(used, step + slow_step, turned - turned.mean() + slow_turn)
        tilt = geometry.tilt[used] + tilt_error * rng.standard_normal(len(used))
        seen = np.einsum("vij,pj->pvi", _cameras(tilt, other.rotation[used]), points)
        seen += (other.shift - geometry.shift)[used]
        values = seen.reshape(_POINTS, -1).T
        residual = design @ np.linalg.lstsq(design, values, rcond=None)[0] - values
        squares.append(2 * np.mean(residual**2))
    return float(np.sqrt(np.mean(squares)))


def _cameras(tilt: FloatArray, rotation: FloatArray) -> FloatArray:
    flat = np.zeros((len(tilt), 2, 3))
    flat[:, 0, 0], flat[:, 0, 2], flat[:, 1, 1] = np.cos(tilt), np.sin(tilt), 1
    return np.stack([turn(angle) for angle in rotation]) @ flat
