"""Measuring landmarks in the images where the geometry says that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.beads.centre import centre_beads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.beads.profile import BeadProfile

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["remeasure"]

#: Error, diameters, of what measures nothing.
_VAGUE = 0.1
#: Farthest from its prediction, in deviations.
_FARTHEST = 3.5


def remeasure(
    read: Callable[[int], NDArray[np.generic]],
    predicted: FloatArray,
    wanted: BoolArray,
    visible: BoolArray,
    *,
    diameter: float,
    deviation: FloatArray,
    profiles: Sequence[BeadProfile | None],
) -> tuple[FloatArray, FloatArray]:
    """Measure landmarks near their predicted places.

    Parameters
    ----------
    read
        Returns the (y, x) image of a view; called once for each view with a wanted landmark.
    predicted
        (landmark, tilt, 2) pixels from the image centre.
    wanted
        (landmark, tilt) which to measure.
    visible
        (landmark, tilt) which lie in an image; near neighbours are fitted together.
    diameter
        Of the beads, pixels.
    deviation
        (tilt,) of a prediction, one coordinate, pixels.
    profiles
        Per view, how its beads look, as far as known.

    Returns
    -------
    position, error
        (landmark, tilt, 2) and (landmark, tilt), NaN where nothing was measured.
    """
    position = np.full(predicted.shape, np.nan)
    error = np.full(predicted.shape[:2], np.nan)
    for view in np.flatnonzero(wanted.any(axis=0)).tolist():
        image = read(view)
        there = np.flatnonzero(visible[:, view])
        found = centre_beads(
            image,
            predicted[there, view],
            diameter,
            search_radius=max(2 * deviation[view], 1.0),
            profile=profiles[view],
        )
        apart = np.linalg.norm(found.position - predicted[there, view], axis=1)
        reach = _FARTHEST * np.hypot(deviation[view], found.error)
        good = found.found & (apart < reach) & (found.error < _VAGUE * diameter)
        good &= wanted[there, view]
        position[there[good], view] = found.position[good]
        error[there[good], view] = found.error[good]
    return position, error
