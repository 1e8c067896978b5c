"""Beads in one view.

A matched filter finds what is as dark and as large as a bead; the law of the maxima of noise says
how high a score must be [1]_, with the noise measured around each place. Matter that is not gold
passes too: it is told from gold by its depth, as there are two classes of depths, and by its shape.

References
----------
.. [1] Adler, R. J., The geometry of random fields, Wiley (1981), doi:10.1137/1.9780898718980,
   chapter 6: maxima of a normal field above a high level.
.. [2] Otsu, N., A threshold selection method from gray-level histograms, IEEE Trans. Syst. Man
   Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from scipy import ndimage

from tomodask.errors import DataError
from tomodask.kernels.beads.centre import Centres, fit_centres, image_profile
from tomodask.kernels.beads.pairs import may_be_two, split_pairs
from tomodask.kernels.beads.profile import SAMPLES_PER_PIXEL, BeadProfile, ball_profile
from tomodask.kernels.correlate import without_hot_pixels
from tomodask.kernels.downsample import block_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Image = NDArray[np.float32]

__all__ = ["Detections", "candidates", "detect_beads", "gold_among"]

#: Maxima of pure noise that a view is allowed to bring.
_FALSE_MAXIMA = 0.5
#: Pixels of a bead's diameter in the binned image that is searched: not fewer than this.
_SEARCH_DIAMETER = 5.0
#: The noise is measured in cells of so many diameters.
_CELL = 6.0
#: No two beads are taken to be closer than this, diameters.
_CLOSEST = 0.4
#: Beads whose centres are closer than this, diameters, spoil each other.
_CLUSTERED = 1.5
#: Beads of one view are alike: none has less than a part of the typical depth. How small that part
#: may be, the depths themselves say, within these limits.
_SHALLOWEST = (0.3, 0.55)
#: Relative standard deviations of depth and size of the beads of one view, and of their roundness.
_DEPTH_SPREAD, _SIZE_SPREAD = 0.2, 0.1
#: At least this part of a bead must lie in the image.
_COVERED = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Beads of one view, the best first.

    Parameters
    ----------
    centres
        Their fitted centres, depths and shapes.
    quality
        (bead,) 0 to 1: how much like the view's beads it is, by depth, size, roundness and misfit.
    score
        (bead,) height of the matched filter, standard deviations of the noise there.
    clustered
        (bead,) whether another is so close that their outlines (nearly) touch or overlap, or it is
        itself so long or so deep that it may be two: its place is then that of neither.
    profile
        How the beads of this view look.
    """

    centres: Centres
    quality: FloatArray
    score: FloatArray
    clustered: NDArray[np.bool_]
    profile: BeadProfile

    def __len__(self) -> int:
        """Return the number of beads."""
        return len(self.quality)

    @property
    def position(self) -> FloatArray:
        """(bead, 2) raw (x, y) from the image centre, pixels."""
        return self.centres.position

    @property
    def error(self) -> FloatArray:
        """(bead,) standard error of one coordinate, pixels."""
        return self.centres.error


def detect_beads(
    image: NDArray[np.generic], diameter: float, *, profile: BeadProfile | None = None
) -> Detections:
    """Find the gold beads of a view.

    Parameters
    ----------
    image
        (y, x), any real dtype, finite; gold is dark.
    diameter
        Of the beads, pixels.
    profile
        How they look, where it is known, as from another view at the same defocus. Without it, it
        is measured on this view's beads.

    Returns
    -------
    The beads, the best first. Few are false; geometry can remove those.

    Raises
    ------
    DataError
        If the image holds values that are not finite, or is smaller than two diameters.
    ParameterError
        If the diameter is below 2 pixels.
    """
    start = ball_profile(float(diameter)) if profile is None else profile
    if image.ndim != 2 or min(image.shape) < 2 * diameter:
        raise DataError(
            f"an image of shape {image.shape}: beads of {diameter:g} pixels are found in (y, x) "
            "images of at least two diameters along each axis"
        )
    pixels = without_hot_pixels(image)
    if not np.isfinite(pixels).all():
        raise DataError("the image has values that are not finite; replace them first")
    position, score = candidates(pixels, float(diameter))
    centres = fit_centres(pixels, position, start)
    gold, _ = gold_among(centres)
    centres, score = centres[gold], score[gold]
    if profile is None and len(score):
        start = image_profile(pixels, centres[_clean(centres)], start)
        centres = fit_centres(pixels, centres.position, start)
    if len(score):
        _, depth = gold_among(centres)
        position, origin = split_pairs(pixels, centres, depth, start)
        score = score[origin]
        if len(origin) > len(centres.position):
            centres = fit_centres(pixels, position, start)
    return _chosen(centres, score, start)


def _scores(image: Image, diameter: float) -> tuple[Image, float]:
    """Return the matched filter's map in standard deviations, and a threshold for its maxima.

    Parameters
    ----------
    image
        (y, x) float32.
    diameter
        Of the beads, pixels of `image`.

    Returns
    -------
    score
        (y, x) float32, in units of the noise around each place.
    threshold
        Above it, pure noise has half a maximum in a map of this size.
    """
    profile = ball_profile(diameter)
    reach = int(np.ceil(profile.reach))
    shape = tuple(scipy.fft.next_fast_len(n + 2 * reach, real=True) for n in image.shape)
    axis = np.arange(-reach, reach + 1)
    at = np.hypot(axis[:, None], axis[None, :]) * SAMPLES_PER_PIXEL
    ball = np.interp(at, np.arange(len(profile.value)), profile.value, right=0)
    disc = at < SAMPLES_PER_PIXEL * (profile.reach - 0.5)
    ball = (ball - ball[disc].mean()) * disc

    level = ndimage.uniform_filter(image, int(4 * _CELL * diameter) | 1, mode="nearest")
    flat = image - level
    kernel = np.zeros(shape, np.float32)
    kernel[: len(axis), : len(axis)] = -ball
    kernel = np.roll(kernel, (-reach, -reach), (0, 1))
    transform = scipy.fft.rfft2(kernel, workers=1)
    score = scipy.fft.irfft2(
        scipy.fft.rfft2(flat, s=shape, workers=1) * np.conj(transform), s=shape, workers=1
    )[: image.shape[0], : image.shape[1]]
    score = score / _local_deviation(score, max(4, round(_CELL * diameter)))
    return score, _threshold(score)


def candidates(pixels: Image, diameter: float) -> tuple[FloatArray, FloatArray]:
    """Return the positions from the image centre, and the scores, of maxima above the noise."""
    binning = max(1, int(diameter / _SEARCH_DIAMETER))
    binned = block_means(pixels, binning).astype(np.float32)
    score, threshold = _scores(binned, diameter / binning)
    closest = max(3, 2 * round(_CLOSEST * diameter / binning) + 1)
    peak = (score >= threshold) & (score == ndimage.maximum_filter(score, closest))
    rows, columns = np.nonzero(peak)
    order = np.argsort(-score[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    # The first block begins at the image's corner, whatever is left over at the other end.
    place = (np.stack([columns, rows], axis=1) + 0.5) * binning - 0.5
    middle = (np.array(pixels.shape[::-1]) - 1) / 2
    return place - middle, score[rows, columns].astype(np.float64)


def _local_deviation(score: Image, cell: int) -> Image:
    """Return the standard deviation around each pixel, robustly: medians over cells."""
    rows, columns = (max(1, n // cell) for n in score.shape)
    height, width = score.shape[0] // rows, score.shape[1] // columns
    cells = np.abs(score[: rows * height, : columns * width]).reshape(rows, height, columns, width)
    spread = np.median(cells.swapaxes(1, 2).reshape(rows, columns, -1), axis=2) * 1.4826
    # Cells that are partly blank have too little noise, and everything in them would stand out.
    spread = ndimage.percentile_filter(spread, 75, 3, mode="nearest")
    typical = float(np.median(spread))
    spread = np.maximum(spread, 0.5 * typical if typical > 0 else 1.0)
    along_y = _interpolation(score.shape[0], height, rows)
    along_x = _interpolation(score.shape[1], width, columns)
    deviation: Image = along_y @ spread.astype(np.float32) @ along_x.T
    return deviation


def _interpolation(pixels: int, cell: int, cells: int) -> Image:
    """Return the (pixel, cell) weights of linear interpolation between the middles of cells."""
    at = np.clip((np.arange(pixels) + 0.5) / cell - 0.5, 0, cells - 1)
    weight: Image = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(np.float32)
    return weight


def _threshold(score: Image) -> float:
    """Return the level above which noise alone has so few maxima."""
    clipped = np.clip(score, -3, 3)
    slopes = [np.mean(np.diff(clipped, axis=axis) ** 2, dtype=np.float64) for axis in (0, 1)]
    density = score.size * np.sqrt(slopes[0] * slopes[1]) / (2 * np.pi) ** 1.5
    level = 4.0
    for _ in range(20):
        level = float(np.sqrt(2 * np.log(max(density * level / _FALSE_MAXIMA, np.e))))
    return level


def _clean(centres: Centres) -> NDArray[np.bool_]:
    """Whether each bead is one that shows what beads look like: whole, round and alone."""
    return (centres.cover > 0.95) & (centres.elongation < 0.3) & ~_crowded(centres, 2.0)


def gold_among(centres: Centres) -> tuple[NDArray[np.bool_], float]:
    """Return which are as deep as gold, and how deep that is."""
    found = centres.found & (centres.cover > _COVERED)
    if not found.any():
        return found, 1.0
    depth = np.where(found, centres.depth, 0)
    typical = _typical_depth(depth[found])
    limit = _class_limit(np.minimum(depth[found], typical))
    return found & (depth >= np.clip(limit / typical, *_SHALLOWEST) * typical), typical


def _typical_depth(depth: FloatArray) -> float:
    """Return the depth of gold: a median in which the deep count more.

    The cube lets ten beads prevail over a hundred fainter particles, and yet not one pair, twice
    as deep, over them.
    """
    ordered = np.sort(depth)
    share = np.cumsum(ordered**3)
    return float(ordered[np.searchsorted(share, share[-1] / 2)])


def _class_limit(depth: FloatArray) -> float:
    """Return the depth that divides two classes: the least spread of logarithms within them [2]_.

    Where there is one class only, the limit lies somewhere within it.
    """
    logarithm = np.sort(np.log(depth))
    if len(logarithm) < 2:
        return 0.0
    count = np.arange(1, len(logarithm))
    total, squared = np.cumsum(logarithm), np.cumsum(logarithm**2)
    rest = len(logarithm) - count
    low = squared[:-1] - total[:-1] ** 2 / count
    high = squared[-1] - squared[:-1] - (total[-1] - total[:-1]) ** 2 / rest
    best = int(np.argmin(low + high))
    return float(np.exp((logarithm[best] + logarithm[best + 1]) / 2))


def _crowded(centres: Centres, diameters: float) -> NDArray[np.bool_]:
    """Whether another found one is so near."""
    place = centres.position
    apart = np.hypot(*(place[:, None] - place[None, :]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    nearest = np.nanmin(apart, axis=1, initial=np.inf)
    radius = np.nanmedian(centres.radius) if centres.found.any() else 0.0
    return np.asarray(nearest < 2 * radius * diameters)


def _chosen(centres: Centres, score: FloatArray, profile: BeadProfile) -> Detections:
    """Return those that are gold, with their qualities, the best first."""
    chosen, depth = gold_among(centres)
    centres, score = centres[chosen], score[chosen]
    size = np.log(centres.radius / (profile.diameter / 2))
    strange = (
        np.minimum(centres.depth / depth - 1, 0) ** 2 / _DEPTH_SPREAD**2
        + size**2 / (_SIZE_SPREAD**2 + (centres.radius_error / centres.radius) ** 2)
        + centres.elongation**2 / (_SIZE_SPREAD**2 + centres.elongation_error**2)
    )
    quality = np.exp(-strange / 6)
    clustered = may_be_two(centres, depth) | _crowded(centres, _CLUSTERED)
    order = np.lexsort((-score, -quality))
    return Detections(centres[order], quality[order], score[order], clustered[order], profile)
