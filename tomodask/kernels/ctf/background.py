"""The smooth part of power spectra, and what oscillates around it.

The mean power of a cell is ``B (1 + s)`` with a smooth background B and an oscillation s of the
order of its contrast. B is fitted as the logarithm of a smooth surface: splines over the logarithm
of the frequency, and slow changes with direction. The knots stand as far apart as the first
oscillation of 0.5 um of defocus is long; what the background could take of a slower one is left
out of data and model alike, so that it only costs information and biases nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import BSpline

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf.rings import Rings
    from tomodask.kernels.ctf.spectra import TileSpectra

    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex128]

__all__ = [
    "Oscillation",
    "Smooth",
    "background",
    "leaning",
    "oscillation",
    "smooth_surfaces",
    "tile_levels",
]

#: Knots of the splines, in the logarithm of the frequency.
_SPACING = 0.5
#: Cells above so many standard deviations are something else: gold, ice crystals, edges.
_CLIP = 8.0
_ITERATIONS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Smooth:
    """Smooth surfaces over the cells of a spectrum, orthonormal under the cells' samples.

    Parameters
    ----------
    surface
        (surface, sector, ring).
    round
        How many of them, the first, do not depend on direction.
    """

    surface: FloatArray
    round: int

    def parts(self, cells: FloatArray, samples: FloatArray) -> FloatArray:
        """Return the coefficients of cells (sector, ring)."""
        found: FloatArray = np.tensordot(self.surface, cells * samples, 2)
        return found

    def sum(self, parts: FloatArray) -> FloatArray:
        """Return the surface (sector, ring) of coefficients."""
        found: FloatArray = np.tensordot(parts, self.surface, 1)
        return found


def smooth_surfaces(rings: Rings) -> Smooth:
    """Return the surfaces of which backgrounds are made."""
    x = np.log(rings.frequency)
    pieces = max(1, int(np.ceil((x[-1] - x[0]) / _SPACING)))
    knots = np.linspace(x[0], x[-1], pieces + 1)
    knots = np.concatenate([[x[0]] * 3, knots, [x[-1]] * 3])
    along = BSpline.design_matrix(x, knots, 3).toarray().T
    slow = np.polynomial.legendre.legvander((2 * x - x[0] - x[-1]) / (x[-1] - x[0]), 2).T
    isotropic = np.repeat(along[:, None, :], len(rings.direction), axis=1)
    turned = (rings.turns[:, None, :, None] * slow[None, :, None, :]).reshape(
        -1, *rings.samples.shape
    )
    surfaces = np.concatenate([isotropic, turned])
    root = np.sqrt(rings.samples)
    q, _ = np.linalg.qr((surfaces * root).reshape(len(surfaces), -1).T)
    return Smooth(q.T.reshape(surfaces.shape) / root, len(along))


def background(spectra: TileSpectra, rings: Rings, smooth: Smooth) -> FloatArray:
    """Return the mean background of the tiles of a view, (sector, ring)."""
    power = spectra.power[:, :, rings.used]
    level = np.maximum(power.mean(axis=(1, 2), dtype=np.float64), np.finfo(np.float32).tiny)
    # Tiles count alike, however bright.
    mean = np.tensordot(1 / level, power, 1) / len(power) * np.median(level)
    mean = np.maximum(mean, 1e-6 * mean.mean())
    parts = smooth.parts(np.log(mean), rings.samples)
    for _ in range(_ITERATIONS):
        # Scoring of the gamma likelihood with a logarithmic link.
        surplus = np.clip(mean / np.exp(smooth.sum(parts)) - 1, -1, 2)
        parts = parts + smooth.parts(surplus, rings.samples)
    found: FloatArray = np.exp(smooth.sum(parts))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Oscillation:
    """What the tiles of a view say together about its oscillation.

    A tile's oscillation is ``-m cos(2 chi + turn)`` with 2 chi at the image centre and a turn that
    grows with the tile's height; the sums over tiles of the whitened power s and of powers of
    ``exp(i turn)`` hold all that its likelihood needs.

    Parameters
    ----------
    turned
        (sector, ring) complex: sum over tiles of s exp(i turn).
    first, second
        (ring,) complex: sums over tiles of exp(i turn) and exp(2 i turn).
    tiles
        How many.
    samples
        (sector, ring): independent samples of a cell, per tile.
    damping
        (ring,) how much of the oscillation is left where a tile mixes heights.
    footprint
        As of the spectra, A.
    """

    turned: ComplexArray
    first: ComplexArray
    second: ComplexArray
    tiles: int
    samples: FloatArray
    damping: FloatArray
    footprint: float

    def seen(self, rings: Rings, defocus: float) -> FloatArray:
        """Return how much of the oscillation the tiles resolve, (ring,), 0 to 1."""
        found: FloatArray = self.damping * rings.resolved(defocus, self.footprint)
        return found

    def without(self, model: ComplexArray, smooth: Smooth, samples: FloatArray) -> Oscillation:
        """Return what is left without an oscillation ``Re(model exp(i turn))``, (sector, ring)."""
        plain = (model * self.first).real / self.tiles
        rest = smooth.sum(smooth.parts(plain, samples))
        gone = (model * self.second + model.conj() * self.tiles) / 2 - rest * self.first
        return replace(self, turned=self.turned - gone)

    def mirrored(self) -> Oscillation:
        """Return the same for heights of the other sign."""
        return replace(
            self,
            turned=self.turned.conj(),
            first=self.first.conj(),
            second=self.second.conj(),
        )


def oscillation(
    spectra: TileSpectra,
    rings: Rings,
    smooth: Smooth,
    mean: FloatArray,
    gradient: FloatArray,
) -> Oscillation:
    """Return the oscillation of a view, freed from its background.

    Parameters
    ----------
    spectra
        Of the view.
    rings, smooth
        The cells, and surfaces over them.
    mean
        (sector, ring): the view's background.
    gradient
        (2,) A of defocus per A in x and y.
    """
    position = np.asarray(spectra.position, np.float64)
    turn = np.exp(1j * (position @ gradient)[:, None] * rings.rate)
    level = tile_levels(spectra, rings, mean)
    plain = np.zeros(mean.shape)
    turned = np.zeros((1, *mean.shape), np.complex128)
    _gather(
        spectra.power[:, :, rings.used],
        level,
        _limit(rings),
        turn[None].astype(np.complex64),
        plain,
        turned,
    )
    first, second = turn.sum(axis=0), (turn**2).sum(axis=0)
    rest = smooth.sum(smooth.parts(plain / len(level), rings.samples))
    spread = rings.rate * np.hypot(*gradient) * spectra.footprint
    return Oscillation(
        turned[0] - rest * first,
        first,
        second,
        len(level),
        rings.samples * spectra.independent,
        np.exp(-(spread**2) / 2),
        spectra.footprint,
    )


def leaning(
    spectra: TileSpectra, rings: Rings, mean: FloatArray, gradient: FloatArray
) -> ComplexArray:
    """Return the sums over tiles of s exp(i turn) times their x and y, (2, sector, ring).

    Parameters
    ----------
    spectra, rings, mean, gradient
        As of :func:`oscillation`.
    """
    position = np.asarray(spectra.position, np.float64)
    turn = np.exp(1j * (position @ gradient)[:, None] * rings.rate)
    turned = np.zeros((2, *mean.shape), np.complex128)
    _gather(
        spectra.power[:, :, rings.used],
        tile_levels(spectra, rings, mean),
        _limit(rings),
        (position.T[:, :, None] * turn).astype(np.complex64),
        np.zeros(mean.shape),
        turned,
    )
    return turned


def tile_levels(spectra: TileSpectra, rings: Rings, mean: FloatArray) -> NDArray[np.float32]:
    """Return one over the background of each tile, (tile, sector, ring) float32.

    A tile's background is the view's times a level and a slope over the logarithm of the
    frequency.
    """
    x = np.log(rings.frequency)
    x = x - np.average(x, weights=rings.samples.sum(axis=0))
    power = spectra.power[:, :, rings.used]
    weight = (rings.samples / mean).astype(np.float32)
    level = np.tensordot(power, weight, 2).astype(np.float64) / rings.samples.sum()
    slope = np.tensordot(power, (weight * x).astype(np.float32), 2).astype(np.float64)
    slope /= np.maximum(level, 1e-30) * float((rings.samples * x**2).sum())
    level = np.where(level > 0, level, np.inf)
    lean = 1 + np.clip(slope, -0.3, 0.3)[:, None] * x
    whole = level[:, None, None] * lean[:, None, :] * mean
    found: NDArray[np.float32] = (1 / whole).astype(np.float32)
    return found


def _limit(rings: Rings) -> NDArray[np.float32]:
    return (_CLIP / np.sqrt(rings.samples)).astype(np.float32)


@njit
def _gather(
    power: NDArray[np.float32],
    scale: NDArray[np.float32],
    limit: NDArray[np.float32],
    turn: NDArray[np.complex64],
    plain: FloatArray,
    turned: ComplexArray,
) -> None:
    """Add whitened tiles up, plainly and with factors (sum, tile, ring)."""
    for t in range(power.shape[0]):
        for s in range(power.shape[1]):
            for r in range(power.shape[2]):
                value = min(power[t, s, r] * scale[t, s, r] - np.float32(1), limit[s, r])
                plain[s, r] += value
                for i in range(turn.shape[0]):
                    turned[i, s, r] += value * turn[i, t, r]
