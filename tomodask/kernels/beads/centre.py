"""Sub-pixel centres of beads near given places."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from tomodask.errors import ParameterError
from tomodask.kernels._jit import njit
from tomodask.kernels.beads.fit import fit_beads
from tomodask.kernels.beads.profile import (
    SAMPLES_PER_PIXEL,
    BeadProfile,
    ball_profile,
    measured_profile,
)
from tomodask.kernels.correlate import without_hot_pixels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Centres", "centre_beads", "image_profile"]

#: Beads closer than this many diameters are fitted together, in so many rounds.
_NEAR, _MOST_NEIGHBOURS, _SWEEPS = 1.9, 6, 6
#: Farthest that a fit may move from its start, diameters.
_FARTHEST = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Centres:
    """Beads whose centres have been fitted; NaN where there is none.

    Parameters
    ----------
    position
        (bead, 2) float64 raw (x, y) from the image centre, pixels.
    error
        (bead,) standard error of one coordinate, pixels, from the noise and the misfit.
    depth
        (bead,) by how much the middle is darker than the background, in the image's units.
    level
        (bead,) the background there.
    misfit
        (bead,) variance of the residuals averaged over sectors of the bead and of its
        surroundings, in units of what the pixels' noise leads one to expect; 1 for a clean bead.
    radius, radius_error
        (bead,) pixels: the stretch of the profile that fits best, and its standard error.
    elongation, elongation_error
        (bead,) relative difference of the longest and the shortest diameter, and its standard
        error.
    axis
        (bead,) direction of the longest diameter, radians from +x towards +y.
    cover
        (bead,) part of the bead's disc that lies in the image.
    """

    position: FloatArray
    error: FloatArray
    depth: FloatArray
    level: FloatArray
    misfit: FloatArray
    radius: FloatArray
    radius_error: FloatArray
    elongation: FloatArray
    elongation_error: FloatArray
    axis: FloatArray
    cover: FloatArray

    def __getitem__(self, index: NDArray[np.generic]) -> Centres:
        """Return some of the beads, by a mask or by indices."""
        return Centres(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def found(self) -> NDArray[np.bool_]:
        """(bead,) bool."""
        return np.isfinite(self.error)


def centre_beads(
    image: NDArray[np.generic],
    predicted: ArrayLike,
    diameter: float,
    *,
    search_radius: float | None = None,
    profile: BeadProfile | None = None,
) -> Centres:
    """Fit the centres of beads near given places.

    Parameters
    ----------
    image
        (y, x), any real dtype; gold is dark. A view or a box cut from it.
    predicted
        (bead, 2) raw (x, y) from the image centre, pixels; those in one view together, so that
        overlapping beads are told apart.
    diameter
        Of the beads, pixels.
    search_radius
        How far the bead may be, pixels: two standard deviations of the prediction. Without it,
        predictions are taken to be within a fifth of a diameter.
    profile
        How beads look, from :func:`image_profile`; a ball without it.

    Returns
    -------
    One entry per prediction.
    """
    profile = ball_profile(float(diameter)) if profile is None else profile
    pixels = without_hot_pixels(image)
    middle = (np.array(pixels.shape[::-1]) - 1) / 2
    start = np.asarray(predicted, np.float64).reshape(-1, 2) + middle
    if not np.isfinite(start).all():
        raise ParameterError("a predicted position is not finite; leave such beads out")
    farthest = _FARTHEST * diameter
    if search_radius is not None:
        start = _search(pixels, start, float(search_radius), profile.value, float(diameter))
        farthest = max(farthest, float(search_radius))
    return fit_centres(pixels, start - middle, profile, farthest=farthest)


def fit_centres(
    image: NDArray[np.float32],
    position: FloatArray,
    profile: BeadProfile,
    *,
    farthest: float | None = None,
) -> Centres:
    """Fit the centres of beads from good starting positions, (bead, 2) from the image centre."""
    middle = (np.array(image.shape[::-1]) - 1) / 2
    start = np.ascontiguousarray(position + middle)
    diameter = profile.diameter
    neighbours = _neighbours(start, _NEAR * diameter)
    columns = fit_beads(
        image,
        start,
        np.zeros(len(start)),
        neighbours,
        profile.value,
        profile.slope,
        diameter,
        profile.variance_drop,
        _FARTHEST * diameter if farthest is None else farthest,
        _SWEEPS,
    )
    x, y, depth, level, error, misfit = columns[:, :6].T
    scale, scale_error, elongation, elongation_error, axis, cover = columns[:, 6:].T
    radius = diameter / 2 * np.exp(np.clip(scale, -1, 1))
    return Centres(
        position=np.stack([x, y], axis=1) - middle,
        error=error,
        depth=depth,
        level=level,
        misfit=misfit,
        radius=radius,
        radius_error=radius * scale_error,
        elongation=elongation,
        elongation_error=elongation_error,
        axis=axis,
        cover=cover,
    )


def image_profile(
    image: NDArray[np.float32], centres: Centres, profile: BeadProfile
) -> BeadProfile:
    """Return the profile that centred beads of an image have together.

    Parameters
    ----------
    image
        (y, x) float32.
    centres
        Clean beads: round, complete and alone.
    profile
        The profile they were centred with.
    """
    if not len(centres.position):
        return profile
    half = int(profile.reach)
    rows, columns = image.shape
    middle = (np.array([columns, rows]) - 1) / 2
    pooled = []
    for place, depth in zip(centres.position + middle, centres.depth, strict=True):
        left, bottom = np.rint(place).astype(int) - half
        x = np.arange(max(left, 0), min(left + 2 * half + 1, columns))
        y = np.arange(max(bottom, 0), min(bottom + 2 * half + 1, rows))
        dx, dy = x[None, :] - place[0], y[:, None] - place[1]
        radius = np.hypot(dx, dy)
        box = image[y[0] : y[-1] + 1, x[0] : x[-1] + 1].astype(np.float64)
        at = radius * SAMPLES_PER_PIXEL
        model = np.interp(at, np.arange(len(profile.value)), profile.value)
        inside = radius < profile.reach
        design = np.stack([np.ones(box.shape), dx + 0 * dy, dy + 0 * dx, -model], axis=-1)[inside]
        fit = np.linalg.lstsq(design, box[inside], rcond=None)[0]
        residual = box[inside] - design @ fit
        variance = (1.4826 * np.median(np.abs(residual))) ** 2
        good = residual**2 < 36 * variance
        darkness = (design[:, :3] @ fit[:3] - box[inside]) / depth
        weight = np.full(good.sum(), depth**2 / max(variance, 1e-30))
        pooled.append(np.stack([radius[inside][good], darkness[good], weight]))
    radius, darkness, weight = np.concatenate(pooled, axis=1)
    return measured_profile(profile, radius, darkness, weight)


def _neighbours(start: FloatArray, reach: float) -> NDArray[np.int64]:
    """Return (bead, neighbour) indices of those within reach, -1 where there are no more."""
    result = np.full((len(start), _MOST_NEIGHBOURS), -1)
    if len(start) > 1:
        count = min(_MOST_NEIGHBOURS + 1, len(start))
        distance, index = cKDTree(start).query(start, k=count, distance_upper_bound=reach)
        result[:, : count - 1] = np.where(np.isfinite(distance), index, -1)[:, 1:]
    return result


@njit
def _search(
    image: NDArray[np.float32], start: FloatArray, reach: float, value: FloatArray, diameter: float
) -> FloatArray:
    """Return the most probable pixel for each bead, near enough to fit it from there.

    The evidence of a place is half its squared signal-to-noise ratio, less the squared distance
    from the prediction in units of half the reach.
    """
    rows, columns = image.shape
    half = int(np.ceil(0.8 * diameter))
    stride = max(1, int(diameter / 8))
    best = start.copy()
    extent = int(np.ceil(reach / stride))
    for bead in range(len(start)):
        highest = -np.inf
        for step_y in range(-extent, extent + 1):
            for step_x in range(-extent, extent + 1):
                dx, dy = step_x * stride, step_y * stride
                apart = np.hypot(dx, dy)
                if apart > reach:
                    continue
                cx, cy = int(np.rint(start[bead, 0] + dx)), int(np.rint(start[bead, 1] + dy))
                n = sf = sff = si = sii = sfi = 0.0
                for y in range(max(cy - half, 0), min(cy + half + 1, rows), stride):
                    for x in range(max(cx - half, 0), min(cx + half + 1, columns), stride):
                        at = np.sqrt((x - cx) ** 2 + (y - cy) ** 2) * SAMPLES_PER_PIXEL
                        k = int(at)
                        if k < len(value) and k < (half + 0.5) * SAMPLES_PER_PIXEL:
                            f, i = value[k], float(image[y, x])
                            n += 1
                            sf += f
                            sff += f * f
                            si += i
                            sii += i * i
                            sfi += f * i
                if n < 8:
                    continue
                ff, ii, fi = sff - sf * sf / n, sii - si * si / n, sfi - sf * si / n
                if ff <= 0 or ii <= 0 or fi >= 0:
                    continue
                left_over = max(ii - fi * fi / ff, 1e-9 * ii) / n
                evidence = 0.5 * fi * fi / ff / left_over * stride**2 - 2 * (apart / reach) ** 2
                if evidence > highest:
                    highest = evidence
                    best[bead, 0], best[bead, 1] = cx, cy
    return best
