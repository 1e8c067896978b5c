"""How large the beads are, from a few views of low tilt.

Each of a series of sizes has its matched filter, and every place has the size that answers best.
Gold is the deepest matter of its size and all of one size: the sizes of the deep agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.beads.centre import fit_centres
from tomodask.kernels.beads.detect import candidates, gold_among
from tomodask.kernels.beads.profile import ball_profile
from tomodask.kernels.correlate import without_hot_pixels
from tomodask.kernels.downsample import block_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["BeadDiameter", "estimate_diameter"]

#: Ratio of neighbouring sizes, and of sizes that agree.
_STEP, _AGREEMENT = 1.25, 1.25
#: So many of the best places of each size and view are looked at.
_PLACES = 60
_ROUNDS = 6
#: A search does with this many pixels of a diameter.
_SEARCH_DIAMETER = 8.0
#: Longest edge of the middle of a view that is searched, pixels.
_EDGE = 1024
#: What the unknown blur of the camera may add to a diameter, pixels.
_BLUR_ERROR = 0.1
#: A bead's stretch is known to better than this.
_SIZE_KNOWN = 0.2


@dataclass(frozen=True, slots=True)
class BeadDiameter:
    """The diameter of beads.

    Parameters
    ----------
    diameter
        Of a ball whose projection fits, pixels.
    error
        Its standard error, pixels.
    beads
        From how many.
    confidence
        0 to 1: how much of the evidence of deep, round objects agrees on this size.
    """

    diameter: float
    error: float
    beads: int
    confidence: float


def estimate_diameter(
    images: NDArray[np.generic], *, smallest: float = 4.0, largest: float = 40.0
) -> BeadDiameter:
    """Measure the diameter of the beads in some views.

    Parameters
    ----------
    images
        (view, y, x), any real dtype, finite; gold is dark. A few of low tilt.
    smallest, largest
        Diameters to look for, pixels.

    Raises
    ------
    DataError
        If nothing in the views looks like beads.
    ParameterError
        If the limits are not 2 <= smallest < largest.
    """
    if not 2 <= smallest < largest:
        raise ParameterError(
            f"diameters from {smallest:g} to {largest:g} pixels: give 2 <= smallest < largest"
        )
    views = [without_hot_pixels(_middle(image)) for image in images]
    count = int(np.ceil(np.log(largest / smallest) / np.log(_STEP))) + 1
    sizes = np.geomspace(smallest, largest, count)
    found = np.concatenate([_objects(view, size) for view in views for size in sizes])
    if not len(found):
        raise DataError(
            "no view shows anything like a bead; give the diameter, or align by patches"
        )
    size, evidence = np.log(found[:, 0]), found[:, 1]
    near = np.abs(size[:, None] - size[None, :]) < np.log(_AGREEMENT) / 2
    best = int(np.argmax(near @ evidence))
    confidence = float(evidence[near[best]].sum() / evidence.sum())
    diameter = float(np.exp(np.average(size[near[best]], weights=evidence[near[best]])))
    places = [candidates(view, diameter)[0] for view in views]
    for _ in range(_ROUNDS):
        stretch = np.concatenate(
            [_stretches(*each, diameter) for each in zip(views, places, strict=True)]
        )
        if not len(stretch):
            raise DataError("no view shows round beads; give the diameter")
        middle = float(np.median(stretch))
        diameter = float(np.clip(diameter * np.exp(middle), smallest / 1.5, largest * 1.5))
        if abs(middle) < 1e-3:
            break
    spread = 1.4826 * float(np.median(np.abs(stretch - middle)))
    error = float(np.hypot(diameter * 1.25 * spread / np.sqrt(len(stretch)), _BLUR_ERROR))
    return BeadDiameter(diameter, error, len(stretch), confidence)


def _middle(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the middle of an image."""
    top, left = (max(0, (n - _EDGE) // 2) for n in image.shape)
    return image[top : top + _EDGE, left : left + _EDGE]


def _objects(view: NDArray[np.float32], diameter: float) -> FloatArray:
    """Return (object, 2) the sizes of round objects, and how much each says about gold."""
    if min(view.shape) < 4 * diameter:
        return np.empty((0, 2))
    binning = max(1, int(diameter / _SEARCH_DIAMETER))
    view = block_means(view, binning).astype(np.float32)
    diameter = diameter / binning
    position, _ = candidates(view, diameter)
    centres = fit_centres(view, position[:_PLACES], ball_profile(diameter))
    stretch = np.log(centres.radius / (diameter / 2))
    known = centres.radius_error / centres.radius < _SIZE_KNOWN
    round_enough = centres.elongation < 0.2 + 3 * centres.elongation_error
    # Outside of its own range of sizes, a filter sees parts of objects, or several as one.
    own = np.abs(stretch) < np.log(_STEP) / 2 * 1.2
    good = centres.found & (centres.cover > 0.95) & known & round_enough & own
    return np.stack([2 * binning * centres.radius[good], centres.depth[good] ** 3], axis=1)


def _stretches(view: NDArray[np.float32], position: FloatArray, diameter: float) -> FloatArray:
    """Return by which logarithms the beads among a view's objects are larger than a diameter."""
    centres = fit_centres(view, position, ball_profile(diameter))
    gold, _ = gold_among(centres)
    centres = centres[gold & (centres.cover > 0.95)]
    stretch = np.log(centres.radius / (diameter / 2))
    usual = (np.abs(stretch) < np.log(_AGREEMENT)) & (centres.elongation < 0.3)
    result: FloatArray = stretch[usual]
    return result
