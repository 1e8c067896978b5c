"""Replace discs, such as gold beads, by what their surroundings lead one to expect.

The surroundings give two things. *Noise and texture*: a sum of patches from nearby, of the same
outline, with random weights whose squares add up to one. It has the variance of the neighbourhood
and its power spectrum by construction, with no model of either, be it counting noise, ice or the
oscillations of a transfer function, and one patch alone shows as little as its weight. *The level*:
a smooth surface, fitted to how much the ring around the disc differs from the rings around the
patches, so that gradients go on through the disc and the seam is level. Together this is the
conditional simulation of a random field [1]_.

All of it is linear in the image, with weights that depend on the places and the seed alone: with
equal places and seed the filled sum of two halves is the sum of the filled halves, and their noise
stays independent, borrowed from each half's own pixels.

References
----------
.. [1] Hoffman, Y. and Ribak, E., Constrained realizations of Gaussian fields: a simple algorithm,
   Astrophys. J. 380 (1991) L5, doi:10.1086/186160.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tomodask.errors import DataError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["erase_discs"]

#: Patches that are added up: each shows with the root of its part.
_PATCHES = 12
#: Width of the ring about a disc, in its radii, and at least, pixels.
_RING, _NARROWEST = 1.0, 5.0
#: Patches are looked for at so many places, out to so many diameters of the disc with its ring.
_TRIES, _FARTHEST = 600, 3.0
#: Two patches are at least so many pixels apart, so that their noise is not the same.
_APART = 3.0
#: Where fewer patches than this are free of other discs and of the image's edge, those are taken,
#: too, that are free for this part.
_FEWEST, _LEAST_VALID = 4, 0.8
#: Leverage beyond which the ring does not hold a surface of six, and of three terms: small discs
#: are filled level, or along a plane, as noise that is correlated would bend a surface.
_LEVERAGE = {6: 0.02, 3: 0.15}


def erase_discs(
    image: NDArray[np.generic], y: ArrayLike, x: ArrayLike, radius: ArrayLike, *, seed: int = 0
) -> NDArray[np.float32]:
    """Return an image in which discs are replaced by their surroundings.

    Parameters
    ----------
    image
        (y, x), any real dtype.
    y, x
        (disc,) centres, index of row and column; may lie beyond the edges.
    radius
        (disc,) pixels.
    seed
        Equal seeds and places give equal weights, whatever the image: use one for a sum and its
        halves.

    Returns
    -------
    (y, x) float32, a copy; the other pixels are as they were.

    Raises
    ------
    ParameterError
        If a radius is not positive.
    DataError
        If nothing is left around a disc that could take its place.
    """
    filled = np.array(image, np.float32)
    places = np.stack(
        np.broadcast_arrays(*(np.asarray(values, np.float64).ravel() for values in (y, x, radius))),
        axis=1,
    )
    if len(places) and not (np.isfinite(places).all() and places[:, 2].min() > 0):
        raise ParameterError("the discs to erase need finite centres and positive radii")
    erased = _mask(filled.shape, places)
    patches, _ = ndimage.label(erased)
    source = filled.astype(np.float64)
    for number, box in enumerate(ndimage.find_objects(patches), start=1):
        rng = np.random.default_rng([seed, number])
        inside = patches[box] == number
        _fill(filled, source, erased, box, inside, rng)
    return filled


def _mask(shape: tuple[int, ...], discs: FloatArray) -> NDArray[np.bool_]:
    """Return which (y, x) pixels lie in discs (y, x, radius)."""
    mask = np.zeros(shape, bool)
    for y, x, radius in discs:
        low = np.maximum(np.floor([y - radius, x - radius]).astype(int), 0)
        high = np.minimum(np.ceil([y + radius, x + radius]).astype(int) + 1, shape)
        if (low >= high).any():
            continue
        rows, columns = np.ogrid[low[0] : high[0], low[1] : high[1]]
        mask[low[0] : high[0], low[1] : high[1]] |= (rows - y) ** 2 + (
            columns - x
        ) ** 2 <= radius**2
    return mask


def _fill(
    filled: NDArray[np.float32],
    source: FloatArray,
    erased: NDArray[np.bool_],
    box: tuple[slice, ...],
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Fill one connected patch, whose pixels in `box` are `inside`, in place."""
    # Of a cluster of beads the width counts, not the length.
    radius = float(ndimage.distance_transform_edt(np.pad(inside, 1)).max())
    width = int(np.ceil(max(_NARROWEST, _RING * radius)))
    first = np.array([part.start for part in box]) - width
    padded = np.pad(inside, width)
    near = ndimage.distance_transform_edt(~padded) <= width
    target, ring = np.argwhere(padded) + first, np.argwhere(near & ~padded) + first
    ring = ring[((ring >= 0) & (ring < erased.shape)).all(axis=1)]
    ring = ring[~erased[tuple(ring.T)]]
    pixels = np.concatenate([target, ring])
    shifts = _shifts(erased, pixels, 2 * (radius + width), rng)
    if not len(ring) or not len(shifts):
        raise DataError(
            f"nothing is left around the disc at row {target[:, 0].mean():.0f}, column "
            f"{target[:, 1].mean():.0f} that could take its place: give a smaller radius, or "
            "exclude the view"
        )
    weights = rng.standard_normal(len(shifts))
    # About a level, so that a large offset costs no digits; it cancels in what follows.
    level = source[tuple(ring.T)].mean()
    drawn, around = (
        _drawn(source, erased, pixels, shifts, weights, level) for pixels in (target, ring)
    )
    surface = _surface(ring, target)
    smooth = surface @ (source[tuple(ring.T)] - level)
    # The surface brings some of the ring's noise; together they vary as a pixel does.
    leverage = (surface**2).sum(axis=1)
    strength = np.sqrt(np.maximum(1 - leverage, 0) / (1 + leverage))
    filled[tuple(target.T)] = level + smooth + strength * (drawn - surface @ around)


def _shifts(
    erased: NDArray[np.bool_], pixels: NDArray[np.int64], size: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (patch, 2) shifts (y, x) to patches that hold little of what is erased."""
    valid = ~np.pad(erased, 1, constant_values=True)
    shape = np.array(erased.shape)
    # First close by, then anywhere: what is near is most alike.
    angle = rng.uniform(0, 2 * np.pi, _TRIES)
    distance = size * np.sqrt(rng.uniform(0.8**2, _FARTHEST**2, _TRIES))
    close = np.stack([np.sin(angle), np.cos(angle)], axis=1) * distance[:, None]
    middle = pixels.mean(axis=0)
    anywhere = rng.uniform(0, 1, (_TRIES, 2)) * shape - middle
    chosen: list[NDArray[np.int64]] = []
    for least in (1.0, _LEAST_VALID):
        for shift in np.concatenate([close, anywhere]).round().astype(np.int64):
            if any(np.hypot(*(shift - other)) < _APART for other in [*chosen, np.zeros(2)]):
                continue
            at = np.clip(pixels + shift, -1, shape) + 1
            if valid[at[:, 0], at[:, 1]].mean() >= least:
                chosen.append(shift)
                if len(chosen) == _PATCHES:
                    return np.array(chosen)
        if len(chosen) >= _FEWEST:
            break
    return np.array(chosen, np.int64).reshape(-1, 2)


def _drawn(
    source: FloatArray,
    erased: NDArray[np.bool_],
    pixels: NDArray[np.int64],
    shifts: NDArray[np.int64],
    weights: FloatArray,
    level: float,
) -> FloatArray:
    """Return the weighted sum of the shifted patches, the squares of whose weights add up to one.

    Where some are erased, it is the sum of the others.
    """
    total, power = np.zeros(len(pixels)), np.zeros(len(pixels))
    for shift, weight in zip(shifts, weights, strict=True):
        at = pixels + shift
        there = ((at >= 0) & (at < source.shape)).all(axis=1)
        at = np.where(there[:, None], at, 0)
        there &= ~erased[tuple(at.T)]
        total += weight * np.where(there, source[tuple(at.T)] - level, 0)
        power += weight**2 * there
    drawn: FloatArray = total / np.sqrt(np.maximum(power, 1e-12))
    return drawn


def _surface(ring: NDArray[np.int64], target: NDArray[np.int64]) -> FloatArray:
    """Return the (target, ring) weights of the smooth surface through the ring, at the target."""
    middle, scale = ring.mean(axis=0), max(float(np.ptp(ring, axis=0).max()) / 2, 1.0)

    def terms(pixels: NDArray[np.int64], number: int) -> FloatArray:
        y, x = (pixels - middle).T / scale
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)[:, :number]

    for number, limit in _LEVERAGE.items():
        if len(ring) < 2 * number or np.linalg.matrix_rank(terms(ring, number)) < number:
            continue
        weights = terms(target, number) @ np.linalg.pinv(terms(ring, number))
        if (weights**2).sum(axis=1).max() <= limit:
            return weights
    return np.full((len(target), len(ring)), 1 / len(ring))
