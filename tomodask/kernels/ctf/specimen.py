"""What the oscillation tells of the specimen: how it is inclined, and how thick it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.ctf.envelope import envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation
    from tomodask.kernels.ctf.likelihood import Evaluation, Focus
    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex128]

__all__ = ["estimated_thickness", "inclined", "nodes", "slope_information"]

#: Thicknesses that are looked at, A.
_THICKNESS = np.arange(0.0, 6001.0, 25.0)
#: Gain in log likelihood over a thin specimen that takes a thickness for known.
_EVIDENT = 6.0


def inclined(gradient: FloatArray, tilt_angle: FloatArray) -> FloatArray:
    """Return how the gradients change with the slopes of the specimen's plane, (tilt, 2, 2).

    A plane ``z = a x + b y`` seen at a tilt t, with the axis along y, lies at the height
    ``w = u (a / cos^2 t - tan t) + v b / cos t`` for small slopes: the last index is that of the
    slope. The image's u, v are read off the gradients, which lie along u.
    """
    tangent = np.tan(np.deg2rad(tilt_angle))
    across = -(gradient * tangent[:, None]).sum(axis=0)
    length = float(np.hypot(*across))
    u = across / length if length > 0 else np.array([1.0, 0.0])
    v = np.array([-u[1], u[0]])
    cosine = np.cos(np.deg2rad(tilt_angle))[:, None]
    found: FloatArray = np.stack([u / cosine**2, v / cosine], axis=-1)
    return found


def slope_information(
    view: Oscillation,
    leaning: ComplexArray,
    position: FloatArray,
    rings: Rings,
    contrast: FloatArray,
    focus: Focus,
) -> tuple[FloatArray, FloatArray]:
    """Return slope (2,) and information (2, 2) of the log likelihood by a view's gradient.

    Parameters
    ----------
    view, focus
        The view, for the handedness of the gradient.
    leaning
        (2, sector, ring), of the whitened power: :func:`.background.leaning`.
    position
        (tile, 2) A.
    rings
        The cells.
    contrast
        (ring,) of the view's oscillation.
    """
    seen = contrast * view.seen(rings, focus.defocus)
    weight = view.samples * seen * rings.rate
    pull = (weight * (focus.turn(rings) * leaning).imag).sum(axis=(1, 2))
    spread = float((weight * seen * rings.rate).sum()) / 2
    return pull, spread * position.T @ position


def nodes(rings: Rings, thickness: float, tilt_angle: FloatArray) -> FloatArray:
    """Return the factor (tilt, ring) that a specimen's thickness puts on the oscillation.

    It is the mean over the heights within, and changes sign at the nodes (Elferich et al. 2024,
    doi:10.7554/eLife.97227).
    """
    along = thickness / np.cos(np.deg2rad(tilt_angle))
    found: FloatArray = np.sinc(rings.optics.wavelength * rings.squared * along[:, None])
    return found


def estimated_thickness(
    rings: Rings,
    found: Sequence[Evaluation],
    amplitude: FloatArray,
    noise: FloatArray,
    tilt_angle: FloatArray,
) -> tuple[float, float] | None:
    """Return the thickness and its error (90 %), A; None where the rings do not tell it.

    Parameters
    ----------
    rings
        The cells.
    found
        Evaluations of the views, without thickness.
    amplitude, noise, tilt_angle
        (view,).
    """
    correlations = np.stack([each.ring_correlation for each in found]) / noise[:, None]
    energies = np.stack([each.ring_energy for each in found]) / noise[:, None]
    gains = np.empty(len(_THICKNESS))
    for i, thickness in enumerate(_THICKNESS):
        factor = amplitude[:, None] * nodes(rings, thickness, tilt_angle)
        correlation = (factor * correlations).sum(axis=0)
        energy = (factor**2 * energies).sum(axis=0)
        contrast = envelope(rings, correlation, energy)
        gains[i] = contrast @ correlation - 0.5 * contrast**2 @ energy
    best = int(np.argmax(gains))
    if gains[best] - gains[0] < _EVIDENT:
        return None
    weight = np.exp(gains - gains[best])
    weight /= weight.sum()
    mean = float(weight @ _THICKNESS)
    spread = np.sqrt(float(weight @ (_THICKNESS - mean) ** 2) + 25.0**2 / 12)
    return mean, 1.645 * float(spread)
