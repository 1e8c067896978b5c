"""How well each view of a series agrees with the views beside it, at low resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.errors import ParameterError
from tomodask.kernels.correlate import Plane, stretch_matrix, without_hot_pixels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["neighbour_correlations"]

#: Edge, pixels, to which views are averaged down.
_EDGE = 192
#: Band of frequencies compared: from so many periods in the longer edge to so many cycles per
#: pixel. Below is the beam's own profile, above mostly noise.
_LOWEST, _HIGHEST = 4.0, 0.12
#: Neighbours on either side: with two, a single bad view spoils no other.
_NEIGHBOURS = 2
#: Largest displacement between two views, part of the edge.
_SHIFT = 0.3


def neighbour_correlations(
    images: NDArray[np.generic],
    tilt_angle: ArrayLike,
    *,
    tilt_axis_angle: float | None = None,
) -> FloatArray:
    """Return for each view the best correlation with one of those beside it.

    The views are cut to a band of low frequencies and compared at the displacement where they
    agree best, up to a third of the field.

    Parameters
    ----------
    images
        (tilt, y, x), any real dtype; small: more than 200 pixels along an edge are averaged.
    tilt_angle
        (tilt,) degrees.
    tilt_axis_angle
        Degrees; where it is known the views are stretched by the cosines of their tilts.

    Returns
    -------
    (tilt,) float64, -1 to 1; of noise alone about 0.1. NaN for a single view.

    Raises
    ------
    ParameterError
        If the numbers of images and angles differ.
    """
    angles = np.asarray(tilt_angle, np.float64)
    if images.ndim != 3 or len(images) != len(angles):
        raise ParameterError(
            f"images of shape {images.shape} and {len(angles)} tilt angles; give a (tilt, y, x) "
            "image and an angle for every view"
        )
    plane = Plane.create((images.shape[1], images.shape[2]), 1.0, _EDGE)
    order = np.argsort(angles, kind="stable")
    views = [plane.view(without_hot_pixels(images[view])) for view in order]
    band = _band(plane)

    def spectrum(place: int, onto: int) -> NDArray[np.complex64]:
        matrix = np.eye(2)
        if tilt_axis_angle is not None:
            matrix = stretch_matrix(tilt_axis_angle, angles[order[place]], angles[order[onto]])
        image = plane.image(views[place], matrix, np.zeros(2))
        result: NDArray[np.complex64] = scipy.fft.rfft2(image, s=plane.padded, workers=1)
        result *= band
        return result

    best = np.full(len(angles), np.nan)
    for place in range(len(order)):
        own = spectrum(place, place)
        for other in range(place + 1, min(place + 1 + _NEIGHBOURS, len(order))):
            value = _highest(plane, own, spectrum(other, place))
            for view in (order[place], order[other]):
                best[view] = np.fmax(best[view], value)
    return best


def _band(plane: Plane) -> NDArray[np.float32]:
    """Return the (y, x) weights of the half spectrum's frequencies."""
    radius = np.hypot(plane.fy, plane.fx)
    low = _LOWEST / max(plane.shape)
    weight = np.exp(-((radius / _HIGHEST) ** 2)) * (1 - np.exp(-((radius / low) ** 2)))
    return np.asarray(weight, np.float32)


def _highest(plane: Plane, a: NDArray[np.complex64], b: NDArray[np.complex64]) -> float:
    """Return the highest correlation coefficient of two spectra over the displacements."""
    correlation = plane.correlation(a * b.conj())
    energy = plane.correlation(np.abs(a) ** 2)[0, 0] * plane.correlation(np.abs(b) ** 2)[0, 0]
    if not energy > 0:
        return 0.0
    rows, columns = (np.arange(-int(_SHIFT * n), int(_SHIFT * n) + 1) for n in plane.shape)
    return float(correlation[np.ix_(rows, columns)].max() / np.sqrt(energy))
