"""The fit of one bead's place: a round profile on a plane, in the noise that its pixels have.

Maximum likelihood by Gauss-Newton steps, with the weights of pixels in three rings of sectors
lowered where a sector as a whole leaves the model (biweight of Beaton and Tukey [1]_): a membrane
or another bead across part of the rim costs the fit that part of the rim, not its truth.

References
----------
.. [1] Beaton, A. E. and Tukey, J. W., The fitting of power series, meaning polynomials,
   illustrated on band-spectroscopic data, Technometrics 16 (1974) 147,
   doi:10.1080/00401706.1974.10489171.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels.beads.cholesky import inverse_diagonal, solve
from tomodask.kernels.beads.profile import SAMPLES_PER_PIXEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["COLUMNS", "fit_beads"]

#: What `fit_beads` returns of each bead: see there.
COLUMNS = 12
_X, _Y, _DEPTH, _LEVEL, _ERROR, _CHI = range(6)
_SCALE, _SCALE_ERROR, _ELONGATION, _ELONGATION_ERROR, _AXIS, _COVER = range(6, COLUMNS)
_STEPS, _PLAIN_STEPS = 12, 3
_CONVERGED = 1e-3
_TUKEY = 4.685
_SECTORS, _RINGS = 12, 3
#: Single pixels this many standard deviations off are defects.
_DEFECT = 6.0
#: The background counts up to this many diameters from the centre, or two pixels beside the bead.
_REACH = 0.95


@njit
def fit_beads(
    image: NDArray[np.float32],
    start: FloatArray,
    depth: FloatArray,
    neighbours: NDArray[np.int64],
    value: FloatArray,
    slope: FloatArray,
    diameter: float,
    variance_drop: float,
    farthest: float,
    sweeps: int,
) -> FloatArray:
    """Fit beads, those that overlap in turn until they agree.

    Parameters
    ----------
    image
        (y, x) float32.
    start
        (bead, 2) pixel indices (x, y).
    depth
        (bead,) by how much the middle is darker than the background: of neighbours, before they
        are fitted.
    neighbours
        (bead, neighbour) indices of beads nearby, -1 where there are no more.
    value, slope, diameter, variance_drop
        Of the profile.
    farthest
        How far a bead may move from its start, pixels; one that does is not found.
    sweeps
        Rounds over beads with neighbours.

    Returns
    -------
    (bead, COLUMNS): x and y index; depth; level of the background; standard error of a coordinate;
    variance of the residuals of sectors, in units of that of pixels' noise; logarithm of the size
    over the profile's, and its standard error; elongation, its standard error, and the direction
    of the long axis from +x, radians; covered part of the disc. NaN where no
    bead is found.
    """
    result = np.full((len(start), COLUMNS), np.nan)
    result[:, _X], result[:, _Y], result[:, _DEPTH] = start[:, 0], start[:, 1], depth
    reach = min(max(_REACH * diameter, diameter / 2 + 2), (len(value) - 2) / SAMPLES_PER_PIXEL)
    half = int(reach) + 1
    box = np.empty((2 * half + 1, 2 * half + 1))
    weight = np.empty_like(box)
    for sweep in range(sweeps):
        for bead in range(len(start)):
            if sweep > 0 and neighbours[bead, 0] < 0:
                continue
            x0, y0 = int(np.rint(result[bead, _X])), int(np.rint(result[bead, _Y]))
            _cut(image, x0, y0, half, box)
            for j in range(neighbours.shape[1]):
                other = neighbours[bead, j]
                if other >= 0 and not np.isnan(result[other, _X]):
                    _add(
                        box,
                        result[other, _X] - x0 + half,
                        result[other, _Y] - y0 + half,
                        result[other, _DEPTH],
                        value,
                    )
            _fit(
                box, weight, result[bead], x0 - half, y0 - half, value, slope, diameter,
                variance_drop, reach,
            )  # fmt: skip
            moved = np.hypot(result[bead, _X] - start[bead, 0], result[bead, _Y] - start[bead, 1])
            if not (moved <= farthest and result[bead, _DEPTH] > 0):
                result[bead] = np.nan
                result[bead, _X], result[bead, _Y] = start[bead, 0], start[bead, 1]
                result[bead, _DEPTH] = 0.0
    for bead in range(len(start)):
        if np.isnan(result[bead, _ERROR]):
            result[bead] = np.nan
    return result


@njit
def _cut(image: NDArray[np.float32], x0: int, y0: int, half: int, box: FloatArray) -> None:
    """Copy the box about a pixel; NaN outside the image."""
    rows, columns = image.shape
    for i in range(2 * half + 1):
        for j in range(2 * half + 1):
            y, x = y0 + i - half, x0 + j - half
            inside = 0 <= y < rows and 0 <= x < columns
            box[i, j] = image[y, x] if inside else np.nan


@njit
def _add(box: FloatArray, cx: float, cy: float, depth: float, value: FloatArray) -> None:
    """Add a bead's darkness, that is, take the bead away."""
    for i in range(box.shape[0]):
        for j in range(box.shape[1]):
            at = np.sqrt((j - cx) ** 2 + (i - cy) ** 2) * SAMPLES_PER_PIXEL
            k = int(at)
            if k + 1 < len(value):
                box[i, j] += depth * (value[k] + (at - k) * (value[k + 1] - value[k]))


@njit
def _fit(
    box: FloatArray,
    weight: FloatArray,
    out: FloatArray,
    left: int,
    bottom: int,
    value: FloatArray,
    slope: FloatArray,
    diameter: float,
    variance_drop: float,
    reach: float,
) -> None:
    cx, cy = out[_X] - left, out[_Y] - bottom
    radius = diameter / 2
    variance = _noise(box, cx, cy, radius)
    sector_weight = np.ones((_RINGS, _SECTORS))
    model = np.zeros(6)
    basis = np.empty(6)
    chi = 1.0
    first = True
    normal, right = np.empty((6, 6)), np.empty(6)
    for step in range(_STEPS):
        normal[:], right[:] = 0.0, 0.0
        sums = np.zeros((_RINGS, _SECTORS))
        shares, counts = np.zeros_like(sums), np.zeros_like(sums)
        squares, pixels = 0.0, 0.0
        # The first pass has no model yet, and so no residuals: all it finds is one.
        for i in range(box.shape[0]):
            for j in range(box.shape[1]):
                weight[i, j] = 0.0
                dx, dy = j - cx, i - cy
                r = np.sqrt(dx * dx + dy * dy)
                if r > reach or np.isnan(box[i, j]):
                    continue
                at = r * SAMPLES_PER_PIXEL
                k = int(at)
                f = value[k] + (at - k) * (value[k + 1] - value[k])
                df = slope[k] + (at - k) * (slope[k + 1] - slope[k])
                basis[0], basis[1], basis[2] = -f, 1.0, dx / radius
                basis[3] = dy / radius
                along = df / r if r > 1e-9 else 0.0
                basis[4], basis[5] = model[0] * along * dx, model[0] * along * dy
                here = variance * (1 - variance_drop * min(max(f, 0.0), 1.0))
                ring = min(int(r / (0.65 * radius)), _RINGS - 1)
                sector = int((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * _SECTORS) % _SECTORS
                w = sector_weight[ring, sector] / here
                if not first:
                    residual = box[i, j]
                    for a in range(4):
                        residual -= model[a] * basis[a]
                    if residual * residual > _DEFECT**2 * here * max(chi, 1.0):
                        continue
                    sums[ring, sector] += residual / here
                    shares[ring, sector] += 1 / here
                    counts[ring, sector] += 1
                    squares += w * residual * residual
                    pixels += w * here
                weight[i, j] = w
                for a in range(4 if first else 6):
                    right[a] += w * basis[a] * box[i, j]
                    for b in range(a + 1):
                        normal[a, b] += w * basis[a] * basis[b]
        size = 4 if first else 6
        if not solve(normal, right, size):
            return
        model[:4] = right[:4]
        if first:
            first = False
            continue
        # Half a radius at most: farther off the profile is another.
        length = np.hypot(right[4], right[5])
        shorten = min(1.0, 0.25 * radius / length) if length > 0 else 1.0
        cx += shorten * right[4]
        cy += shorten * right[5]
        if not (0 < cx < box.shape[1] - 1 and 0 < cy < box.shape[0] - 1):
            return
        if pixels > 0:
            variance *= max(squares / pixels, 0.05)
        if step >= _PLAIN_STEPS:
            chi = _weigh(sums, shares, counts, sector_weight)
            if length < _CONVERGED * (1 + 0.02 * radius):
                break
    out[_X], out[_Y], out[_DEPTH], out[_LEVEL] = cx + left, cy + bottom, model[0], model[1]
    spread = inverse_diagonal(normal, 6)
    out[_ERROR] = np.sqrt((spread[4] + spread[5]) / 2 * max(chi, 1.0))
    out[_CHI] = chi
    _shape(box, weight, out, cx, cy, model, value, slope, radius, reach)


@njit
def _noise(box: FloatArray, cx: float, cy: float, radius: float) -> float:
    """Return the variance beside the bead, robustly."""
    values = np.empty(box.size)
    number = 0
    for i in range(box.shape[0]):
        for j in range(box.shape[1]):
            if (j - cx) ** 2 + (i - cy) ** 2 > (1.1 * radius) ** 2 and not np.isnan(box[i, j]):
                values[number] = box[i, j]
                number += 1
    if number < 8:
        return 1.0
    values = values[:number]
    deviation = 1.4826 * np.median(np.abs(values - np.median(values)))
    variance: float = max(deviation**2, 1e-12)
    return variance


@njit
def _weigh(sums: FloatArray, shares: FloatArray, counts: FloatArray, weight: FloatArray) -> float:
    """Set the sectors' weights; return the variance of their means in units of the expected."""
    z = np.zeros(_RINGS * _SECTORS)
    number = 0
    for ring in range(_RINGS):
        for sector in range(_SECTORS):
            if counts[ring, sector] > 0:
                z[number] = abs(sums[ring, sector]) / np.sqrt(shares[ring, sector])
                number += 1
    if number < _SECTORS // 2:
        return 1.0
    spread = max(1.4826 * np.median(z[:number]), 1.0)
    for ring in range(_RINGS):
        for sector in range(_SECTORS):
            if counts[ring, sector] > 0:
                u = sums[ring, sector] / np.sqrt(shares[ring, sector]) / (_TUKEY * spread)
                weight[ring, sector] = max(1 - u * u, 0.0) ** 2
    excess: float = spread**2
    return excess


@njit
def _shape(
    box: FloatArray,
    weight: FloatArray,
    out: FloatArray,
    cx: float,
    cy: float,
    model: FloatArray,
    value: FloatArray,
    slope: FloatArray,
    radius: float,
    reach: float,
) -> None:
    """Measure size and elongation: the linear response of the profile to a stretch."""
    normal, right, basis = np.zeros((5, 5)), np.zeros(5), np.empty(5)
    covered = 0.0
    for i in range(box.shape[0]):
        for j in range(box.shape[1]):
            dx, dy = j - cx, i - cy
            r = np.sqrt(dx * dx + dy * dy)
            if r > reach or np.isnan(box[i, j]):
                continue
            covered += r <= radius
            # Not the sectors' weights: what they hide is what is asked for here.
            w = weight[i, j] > 0
            if not w:
                continue
            at = r * SAMPLES_PER_PIXEL
            k = int(at)
            f = value[k] + (at - k) * (value[k + 1] - value[k])
            df = slope[k] + (at - k) * (slope[k + 1] - slope[k])
            rate = model[0] * df * r
            around = (dx * dx - dy * dy) / (r * r) if r > 1e-9 else 0.0
            across = 2 * dx * dy / (r * r) if r > 1e-9 else 0.0
            basis[0], basis[1], basis[2] = -f, 1.0, rate
            basis[3], basis[4] = rate * around, rate * across
            data = box[i, j] - model[2] * dx / radius - model[3] * dy / radius
            for a in range(5):
                right[a] += basis[a] * data
                for b in range(a + 1):
                    normal[a, b] += basis[a] * basis[b]
    variance = _noise(box, cx, cy, radius)
    spread = inverse_diagonal(normal, 5)
    if solve(normal, right, 5):
        out[_SCALE] = right[2]
        variance *= max(out[_CHI], 1.0)
        out[_SCALE_ERROR] = np.sqrt(spread[2] * variance)
        out[_ELONGATION] = 2 * np.hypot(right[3], right[4])
        out[_AXIS] = 0.5 * np.arctan2(right[4], right[3])
        out[_ELONGATION_ERROR] = np.sqrt(2 * (spread[3] + spread[4]) * variance)
    out[_COVER] = covered / (np.pi * radius * radius)
