"""Power spectra of an image in two dimensions, to be looked at: Thon rings on a flat background.

Over a tilted view the defocus changes, and the rings of one tile lie on the gaps of another's. So
each tile's spectrum is stretched radially until its rings lie where those of the view's mean
defocus do, and only then added, as in [1]_.

References
----------
.. [1] Rohou, A. and Grigorieff, N., CTFFIND4: fast and accurate defocus estimation from electron
   micrographs, J. Struct. Biol. 192 (2015) 216, doi:10.1016/j.jsb.2015.08.008; the averaging of
   tiles of a tilted view: Elferich, J., Kong, L., Zottig, X. and Grigorieff, N., CTFFIND5 provides
   improved insight into quality, tilt, and thickness of TEM samples, eLife 13 (2024) RP97227,
   doi:10.7554/eLife.97227.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels.ctf.tiles import tile_transforms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.tiles import TileGrid
    from tomodask.kernels.ctf.transfer import Optics, Transfer

    FloatArray = NDArray[np.float64]

__all__ = ["mean_periodogram", "same_phase", "tile_periodograms"]

#: The background is a polynomial of this degree, in the logarithms of power and frequency: it
#: follows the fall of the specimen's power, but no ring.
_DEGREE = 5
#: The constant part of the spectrum and what stands close to it say nothing of the background.
_LOWEST = 3


def tile_periodograms(image: NDArray[np.float32], grid: TileGrid) -> NDArray[np.float32]:
    """Return the power spectrum of each tile over its background, less one.

    Parameters
    ----------
    image
        (y, x) float32.
    grid
        Where its tiles are.

    Returns
    -------
    (tile, tile's y, tile's x) float32, symmetric; the frequency 0 is at index size // 2. NaN
    where tiles show nothing.
    """
    result = np.full((len(grid), grid.tile, grid.tile), np.nan, np.float32)
    for tile, ratio in _flat_spectra(image, grid):
        result[tile] = _whole(ratio)
    return result


def mean_periodogram(
    image: NDArray[np.float32],
    grid: TileGrid,
    pixel_size: float,
    transfer: Transfer | None = None,
    raised: FloatArray | None = None,
) -> NDArray[np.float32]:
    """Return the mean of the tiles' power spectra over their backgrounds, less one.

    Parameters
    ----------
    image
        (y, x) float32.
    grid
        Where its tiles are.
    pixel_size
        A.
    transfer
        Of the view where its rings are to lie; None where tiles are added as they are.
    raised
        (tile,) how much larger the defocus of each tile is, A.

    Returns
    -------
    (tile's y, tile's x) float32, symmetric; the frequency 0 is at index size // 2. NaN where no
    tile has the frequency.
    """
    size = grid.tile
    total = np.zeros((size, size // 2 + 1), np.float32)
    count = np.zeros_like(total)
    x: FloatArray = np.arange(size // 2 + 1) / (size * pixel_size)
    y: FloatArray = np.asarray(np.fft.fftfreq(size, pixel_size), np.float64)[:, None]
    squared = x**2 + y**2
    local = None if transfer is None else _local_defocus(transfer, x, y)
    for tile, ratio in _flat_spectra(image, grid):
        if transfer is None or local is None or raised is None:
            total += ratio
            count += 1
            continue
        there = same_phase(transfer.optics, squared, local, local + raised[tile])
        stretch = np.sqrt(np.divide(there, squared, out=np.ones_like(there), where=squared > 0))
        _add_stretched(ratio, stretch.astype(np.float32), total, count)
    with np.errstate(invalid="ignore"):
        return _whole(total / count)


def same_phase(
    optics: Optics, squared: FloatArray, defocus: FloatArray | float, other: FloatArray | float
) -> FloatArray:
    """Return where the contrast transfer at another defocus is what it is here.

    Parameters
    ----------
    optics
        Of the microscope.
    squared
        Squared spatial frequency here, 1/A^2.
    defocus, other
        Here and there, along the frequency's direction, A.

    Returns
    -------
    Squared spatial frequency there, 1/A^2: of ``bend q^2 - other q + chi = 0`` the root on the same
    side of the phase's turning point. NaN where there is none.
    """
    bend = optics.aberration * optics.wavelength**2 / 2
    phase = squared * (defocus - bend * squared)  # but for constants
    # Overfocus is the same with all signs changed, and has no turning point.
    sign = np.where(other < 0, -1.0, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = other + sign * np.sqrt(other**2 - 4 * bend * phase)
        beyond = (defocus > 0) & (2 * bend * squared > defocus)
        there = np.where(beyond, root / (2 * bend), 2 * phase / root)
    found: FloatArray = np.where(defocus * other > 0, there, np.nan)
    return found


def _local_defocus(transfer: Transfer, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the defocus along the direction of each frequency, A."""
    mean = (transfer.defocus_u + transfer.defocus_v) / 2
    half = (transfer.defocus_u - transfer.defocus_v) / 2
    local: FloatArray = mean + half * np.cos(
        2 * (np.arctan2(y, x) - np.deg2rad(transfer.astigmatism_angle))
    )
    return local


def _flat_spectra(
    image: NDArray[np.float32], grid: TileGrid
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the index and the half spectrum of each tile, over its background and less one."""
    size = grid.tile
    kx, ky = np.arange(size // 2 + 1), np.fft.fftfreq(size, 1 / size)[:, None]
    radius = np.hypot(ky, kx)
    ring = np.rint(radius).astype(np.intp)
    members = np.bincount(ring.ravel())
    used = np.arange(len(members)) >= _LOWEST
    at = np.log(np.maximum(np.arange(len(members)), _LOWEST))
    middle, half = (at[-1] + at[0]) / 2, (at[-1] - at[0]) / 2
    basis = np.polynomial.chebyshev.chebvander((at - middle) / half, _DEGREE)
    weight = np.sqrt(members * used)[:, None]
    solve = np.linalg.pinv(weight * basis) * weight.T
    for tile, spectrum, _ in tile_transforms(image, grid, size // 2 + 1):
        power = spectrum.real**2 + spectrum.imag**2
        rings = np.bincount(ring.ravel(), power.ravel()) / members
        level = solve @ np.log(np.maximum(rings, np.finfo(np.float32).tiny))
        background = np.exp(basis @ level).astype(np.float32)
        yield tile, power / background[ring] - np.float32(1)


def _whole(half: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a half spectrum with its opposite half, the frequency 0 in the middle."""
    size = len(half)
    opposite = half[-np.arange(size) % size, size // 2 - 1 : 0 : -1]
    return np.fft.fftshift(np.concatenate([half, opposite], axis=1))


@njit
def _add_stretched(
    ratio: NDArray[np.float32],
    stretch: NDArray[np.float32],
    total: NDArray[np.float32],
    count: NDArray[np.float32],
) -> None:
    """Add a half spectrum, read at `stretch` times each frequency, where it has that."""
    size, columns = ratio.shape
    for row in range(size):
        ky = row if row < size // 2 else row - size
        for kx in range(columns):
            y, x = ky * stretch[row, kx], kx * stretch[row, kx]
            # What is not finite fails the test.
            if not (abs(y) <= size // 2 - 1 and x <= columns - 1):
                continue
            low_y, low_x = int(np.floor(y)), min(int(x), columns - 2)
            part_y, part_x = y - np.float32(low_y), x - np.float32(low_x)
            above, below = ratio[(low_y + 1) % size], ratio[low_y % size]
            total[row, kx] += (1 - part_y) * (
                (1 - part_x) * below[low_x] + part_x * below[low_x + 1]
            ) + part_y * ((1 - part_x) * above[low_x] + part_x * above[low_x + 1])
            count[row, kx] += 1
