"""Two beads that a matched filter takes for one.

Closer than nine tenths of a diameter, two discs make one maximum. Its depth or its shape gives it
away; the pair is accepted if two beads, each as deep as a bead is, leave less than one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.beads.centre import Centres, fit_centres
from tomodask.kernels.beads.residual import disc_means, without_beads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.beads.profile import BeadProfile

    FloatArray = NDArray[np.float64]

__all__ = ["may_be_two", "split_pairs"]

#: What no single bead has: a depth in depths of one, and an elongation with its significance.
_DEEP, _LONG, _SIGNIFICANCE = 1.3, 0.12, 3.0
#: Depths of the two, in those of one, and their distance in diameters.
_DEPTHS, _APART = (0.6, 1.4), (0.35, 1.3)
#: A misfit that is usual for single beads.
_NO_MISFIT = 2.0
#: Starting places of the two on the long axis, in diameters from the one.
_STARTS = ((-0.3, 0.3), (-0.45, 0.45))
#: Where a fit that has taken one of the two leaves the other: in how many directions it is looked
#: for, how far away and within what radius, in diameters, and how dark it is at least, in depths.
_DIRECTIONS, _DISTANCE, _WITHIN, _DARK = 12, 0.65, 0.25, 0.4


def may_be_two(centres: Centres, depth: float) -> NDArray[np.bool_]:
    """Return whether each object is too deep or too long for one bead.

    Parameters
    ----------
    centres
        The objects.
    depth
        Of a bead.
    """
    # A pair misfits, and must not be excused by it: only the noise counts.
    noise = centres.elongation_error / np.sqrt(centres.misfit)
    long = centres.elongation > np.maximum(_LONG, _SIGNIFICANCE * noise)
    return (centres.depth > _DEEP * depth) | long


def split_pairs(
    image: NDArray[np.float32], centres: Centres, depth: float, profile: BeadProfile
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return places of beads in which pairs stand as two, and the object that each belonged to.

    Parameters
    ----------
    image
        (y, x) float32.
    centres
        The objects.
    depth
        Of a bead.
    profile
        How a bead looks.
    """
    places, origin = list(centres.position), list(range(len(centres.position)))
    dark, direction = _companions(image, centres, profile)
    two = may_be_two(centres, depth)
    for index in np.flatnonzero(two | (dark > _DARK * depth)):
        middle, axis = centres.position[index], centres.axis[index]
        along, beyond = (
            profile.diameter * np.array([np.cos(a), np.sin(a)]) for a in (axis, direction[index])
        )
        starts = [middle + np.outer(start, along) for start in _STARTS] if two[index] else []
        starts.append(np.stack([middle, middle + _DISTANCE * beyond]))
        pair = _best_pair(image, centres, int(index), starts, depth, profile)
        if pair is not None:
            places[index] = pair[0]
            places.append(pair[1])
            origin.append(int(index))
    # Each of two may have found the other.
    unique = [
        i
        for i, place in enumerate(places)
        if i < len(centres.position)
        or not _meets(place[None], np.array(places[:i]), _APART[0] * profile.diameter)
    ]
    return np.array(places)[unique], np.array(origin, np.int64)[unique]


def _best_pair(
    image: NDArray[np.float32],
    centres: Centres,
    index: int,
    starts: list[FloatArray],
    depth: float,
    profile: BeadProfile,
) -> FloatArray | None:
    """Return the (2, 2) places of the two that leave less than the one does, or None."""
    around = np.hypot(*(centres.position - centres.position[index]).T) < 2 * profile.diameter
    around[index] = False
    others = centres.position[around]
    best, least = None, float(centres.misfit[index])
    for start in starts:
        pair = fit_centres(image, np.concatenate([start, others]), profile)[np.arange(2)]
        apart = np.hypot(*(pair.position[0] - pair.position[1])) / profile.diameter
        relative = pair.depth / depth
        misfit = float(pair.misfit.mean())
        if (
            pair.found.all()
            and _APART[0] < apart < _APART[1]
            and np.all((_DEPTHS[0] < relative) & (relative < _DEPTHS[1]))
            and not _meets(pair.position, others, _APART[0] * profile.diameter)
            # Of one bead that a fit has taken for itself, the other is misfit it did not count.
            and misfit <= max(least, _NO_MISFIT)
        ):
            best, least = pair.position, misfit
    return best


def _companions(
    image: NDArray[np.float32], centres: Centres, profile: BeadProfile
) -> tuple[FloatArray, FloatArray]:
    """Return how dark it is beside each bead, less the beads, and where it is darkest."""
    middle = (np.array(image.shape[::-1]) - 1) / 2
    angle = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    residual = without_beads(image, centres.position + middle, centres.depth, profile.value)
    dark = disc_means(
        residual,
        centres.position + middle,
        _DISTANCE * profile.diameter * np.stack([np.cos(angle), np.sin(angle)], axis=1),
        _WITHIN * profile.diameter,
    )
    dark = centres.level[:, None] - dark
    darkest = np.argmax(dark, axis=1)
    return dark[np.arange(len(dark)), darkest], angle[darkest]


def _meets(places: FloatArray, others: FloatArray, distance: float) -> bool:
    """Whether one of the places is that of another bead."""
    apart = np.hypot(*(places[:, None] - others[None, :]).transpose(2, 0, 1))
    return bool(np.any(apart < distance))
