"""Power spectra of the tiles of an image, summed over rings and sectors.

The contrast transfer changes over a tilted view, and its rings are the closer the farther out and
the higher the defocus. So spectra are taken of tiles [1]_ and averaged along short arcs only.

References
----------
.. [1] Welch, P., The use of fast Fourier transform for the estimation of power spectra, IEEE Trans.
   Audio Electroacoust. 15 (1967) 70, doi:10.1109/TAU.1967.1161901.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.errors import ParameterError
from tomodask.kernels._jit import njit
from tomodask.kernels.ctf.tiles import TileGrid, squared_taper, tile_transforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Sectors", "TileSpectra", "sectors", "tile_edge", "tile_spectra"]

#: Edge of a tile, A. Half of it loses the rings of 5 um of defocus; twice as much gains nothing.
_TILE = 1000.0
#: Of small images tiles are smaller, but not than this, A.
_SHORTEST = 400.0
#: No tile is larger, pixels: more would not stay in a core's cache.
_LARGEST = 1024
_SMALLEST = 32
#: Rings end here, A; what lies beyond is noise.
_FINEST = 3.5
#: Directions. Over 15 degrees 1000 A of astigmatism change the rings' phase by 0.9 at 1/6 A.
_SECTORS = 12
#: Frequency steps over which the taper ties samples together.
_TIED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Sectors:
    """Where the spectrum of a tile is summed, the same for all views of a series.

    Parameters
    ----------
    tile
        Pixels along an edge, even.
    pixel_size
        A.
    frequency
        (ring,) 1/A: root mean square of a ring's samples. Rings are one frequency step of a tile
        wide, and adjacent.
    direction
        (sector,) radians: the middles of equal sectors, counter-clockwise from +x of the y-up
        image, from 0. A sector and the opposite one are the same.
    samples
        (sector, ring): independent exponentially distributed samples that a cell of one tile
        holds; the variance of the mean power of white noise there is 1 over it.
    """

    tile: int
    pixel_size: float
    frequency: FloatArray
    direction: FloatArray
    samples: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class TileSpectra:
    """Power of the tiles of one image.

    Tiles of which a part is dark, constant or not finite are not among them; there may be none.

    Parameters
    ----------
    power
        (tile, sector, ring) float32: mean power in the cell; 1 for white noise of variance 1.
    position
        (tile, 2): x and y of the tile's centre, A from the image centre.
    independent
        How many of the samples of all cells and tiles are independent: tiles overlap, and the
        taper ties neighbouring cells together. It holds for what changes slowly over the rings;
        what oscillates has less noise than follows from it.
    footprint
        Root mean square, along one axis, of the distance from a tile's centre of what it shows, A.
    """

    power: NDArray[np.float32]
    position: FloatArray
    independent: float
    footprint: float


def tile_edge(shape: tuple[int, int], pixel_size: float, tile: int | None = None) -> int:
    """Return how many pixels along an edge the tiles of an image have.

    Parameters
    ----------
    shape
        (y, x) of the image.
    pixel_size
        A.
    tile
        What is asked for; by default about 1000 A, no more than 1024 pixels and half of the
        image, but 400 A where that is more.

    Raises
    ------
    ParameterError
        If the tile or the pixel size makes no sense for such an image.
    """
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ParameterError(f"pixel size {pixel_size} A: give a positive number")
    largest = min(shape) // 2 * 2
    if largest < _SMALLEST:
        raise ParameterError(
            f"an image of {shape[0]} x {shape[1]} pixels is too small for a power spectrum, which "
            f"needs {_SMALLEST} along each edge"
        )
    if tile is None:
        # A small image rather has some smaller tiles than one.
        several = max(largest / 2, _SHORTEST / pixel_size)
        half = int(min(_TILE / pixel_size, _LARGEST, several)) // 2
        tile = 2 * int(scipy.fft.next_fast_len(half, real=True)) if half else _SMALLEST
        return min(max(tile, _SMALLEST), largest)
    if tile % 2 or not _SMALLEST <= tile <= largest:
        raise ParameterError(
            f"tile {tile}: give an even number of pixels from {_SMALLEST} to {largest}"
        )
    return int(tile)


def sectors(shape: tuple[int, int], pixel_size: float, *, tile: int | None = None) -> Sectors:
    """Return where the spectra of the tiles of an image are summed.

    Parameters
    ----------
    shape
        (y, x) of the image.
    pixel_size
        A.
    tile
        Pixels along an edge, even; as of :func:`tile_edge` by default.

    Raises
    ------
    ParameterError
        If the tile or the pixel size makes no sense for such an image.
    """
    edge = tile_edge(shape, pixel_size, tile)
    cells = _cells(edge, float(pixel_size))
    return Sectors(
        tile=edge,
        pixel_size=float(pixel_size),
        frequency=cells.frequency.copy(),
        direction=np.arange(_SECTORS) * np.pi / _SECTORS,
        samples=cells.samples.copy(),
    )


def tile_spectra(image: NDArray[np.float32], sectors: Sectors) -> TileSpectra:
    """Return the power spectra of the tiles of an image.

    Parameters
    ----------
    image
        (y, x) float32; pixels that are not finite count as their tile's mean.
    sectors
        For an image of this shape and pixel size, from :func:`sectors`.
    """
    grid = TileGrid((image.shape[0], image.shape[1]), sectors.tile)
    cells = _cells(sectors.tile, sectors.pixel_size)
    share = (1 / cells.members).astype(np.float32)
    power = np.zeros((len(grid), *share.shape), np.float32)
    seen = []
    for tile, spectrum, variance in tile_transforms(image, grid, cells.index.shape[1]):
        _add_power(spectrum, cells.index, power[tile].reshape(-1))
        power[tile] *= share / np.float32(variance)
        seen.append(tile)
    squared = squared_taper(grid.tile)
    inside = np.arange(grid.tile) - (grid.tile - 1) / 2
    return TileSpectra(
        power=power[seen],
        position=grid.centres(sectors.pixel_size)[seen],
        # Half a sample for each independent pixel, as far as the cells cover the spectrum.
        independent=float(
            (grid.freedom() / 2)
            * (cells.members.sum() / (grid.tile**2 / 2))
            / (cells.samples.sum() * len(grid))
        ),
        footprint=float(np.sqrt(squared @ inside**2 / squared.sum())) * sectors.pixel_size,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells of the half spectrum of a tile.

    Parameters
    ----------
    index
        (ky, kx) int32: sector times rings plus ring, or -1 outside. Of frequencies that occur
        twice in a half spectrum, one has a cell.
    frequency
        (ring,) 1/A.
    members, samples
        (sector, ring): frequencies in a cell, and independent samples.
    """

    index: NDArray[np.int32]
    frequency: FloatArray
    members: FloatArray
    samples: FloatArray


@lru_cache(maxsize=4)
def _cells(tile: int, pixel_size: float) -> _Cells:
    step = 1 / (tile * pixel_size)
    end = min(tile // 2, int(1 / (_FINEST * step)))
    kx = np.arange(end + 1)
    ky = np.rint(scipy.fft.fftfreq(tile, 1 / tile)).astype(int)[:, None]
    radius = np.hypot(ky, kx)
    sector = np.rint(np.arctan2(ky, kx) * (_SECTORS / np.pi)).astype(int) % _SECTORS
    ring = np.minimum(radius.astype(int), end)
    ring[(kx == 0) & (ky < 0)] = end
    count = np.zeros((_SECTORS, end + 1))
    np.add.at(count, (sector, ring), 1)
    # The first rings are too small to reach all sectors.
    first = int(np.flatnonzero((count[:, :end] == 0).any(axis=0))[-1]) + 1
    members = count[:, first:end]
    inside = (ring >= first) & (ring < end)
    index = np.where(inside, sector * (end - first) + ring - first, -1).astype(np.int32)
    squared = np.bincount(ring[inside] - first, (radius[inside] * step) ** 2)
    return _Cells(
        index=index,
        frequency=np.sqrt(squared / members.sum(axis=0)),
        members=members,
        samples=_samples(index, members),
    )


def _samples(index: NDArray[np.int32], members: FloatArray) -> FloatArray:
    """Return the independent samples of each cell.

    The transform of white noise at two frequencies correlates as the transform of the squared
    taper says of their difference; the powers as the square of that.
    """
    tile, columns = index.shape
    tied = np.abs(scipy.fft.fft(squared_taper(tile))[: _TIED + 1]) ** 2
    tied = (tied / tied[0])[np.abs(np.arange(-_TIED, _TIED + 1))]
    # All frequencies and their opposites in order: some that lie side by side have cells that are
    # apart in a half spectrum.
    whole = np.full((tile + 2 * _TIED, 2 * (columns + _TIED) - 1), -1, np.int32)
    ky, kx = np.nonzero(index >= 0)
    cell = index[ky, kx]
    ky = np.where(ky < tile // 2, ky, ky - tile)
    whole[tile // 2 + _TIED + ky, columns - 1 + _TIED + kx] = cell
    whole[tile // 2 + _TIED - ky, columns - 1 + _TIED - kx] = cell
    pairs = np.zeros(members.size)
    _add_pairs(whole, tied, pairs)
    samples: FloatArray = 2 * members**2 / pairs.reshape(members.shape)
    return samples


@njit
def _add_power(
    spectrum: NDArray[np.complex64], index: NDArray[np.int32], power: NDArray[np.float32]
) -> None:
    """Add the squared moduli of a half spectrum to their cells."""
    for y in range(index.shape[0]):
        for x in range(index.shape[1]):
            cell = index[y, x]
            if cell >= 0:
                value = spectrum[y, x]
                power[cell] += value.real * value.real + value.imag * value.imag


@njit
def _add_pairs(whole: NDArray[np.int32], tied: FloatArray, pairs: FloatArray) -> None:
    """Add up how much the samples of each cell are tied together."""
    reach = len(tied) // 2
    for y in range(reach, whole.shape[0] - reach):
        for x in range(reach, whole.shape[1] - reach):
            cell = whole[y, x]
            if cell < 0:
                continue
            for i in range(len(tied)):
                for j in range(len(tied)):
                    if whole[y + i - reach, x + j - reach] == cell:
                        pairs[cell] += tied[i] * tied[j]
