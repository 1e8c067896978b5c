"""The power spectrum of a view as a picture, from the rings and sectors of its tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tomodask.kernels.ctf.periodograms import same_phase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf.spectra import Sectors, TileSpectra
    from tomodask.kernels.ctf.transfer import Optics

    FloatArray = NDArray[np.float64]

__all__ = ["rescaled_rings", "ring_contrast", "spectrum_image"]

#: Degree of the background in the logarithm of the frequency: too stiff for rings.
_DEGREE = 5


def rescaled_rings(
    spectra: TileSpectra, layout: Sectors, optics: Optics, defocus: float, height: FloatArray
) -> NDArray[np.float32]:
    """Return a view's spectrum with the rings of all tiles where those of its mean defocus lie.

    Parameters
    ----------
    spectra, layout
        Of the view.
    optics
        Of the microscope.
    defocus
        Mean defocus of the view, A.
    height
        (tile,) what each tile's defocus is larger by, A.

    Returns
    -------
    (sector, ring) float32, mean power.
    """
    rings = layout.frequency
    total = np.zeros(spectra.power.shape[1:], np.float32)
    tiles = 0
    for power, raised in zip(spectra.power, height, strict=True):
        squared = same_phase(optics, rings**2, defocus, defocus + raised)
        if not (np.isfinite(squared).all() and np.isfinite(power).all()):
            continue
        place = np.interp(np.sqrt(squared), rings, np.arange(len(rings)))
        low = np.minimum(place.astype(np.int64), len(rings) - 2)
        part = (place - low).astype(np.float32)
        total += power[:, low] * (1 - part) + power[:, low + 1] * part
        tiles += 1
    return total / np.float32(max(tiles, 1))


def ring_contrast(power: NDArray[np.float32], layout: Sectors) -> NDArray[np.float32]:
    """Return power (sector, ring) over its smooth background, less one."""
    rings = np.log(layout.frequency)
    mean = np.maximum(power.mean(axis=0), np.finfo(np.float32).tiny)
    smooth = np.polynomial.Polynomial.fit(rings, np.log(mean), _DEGREE)
    contrast: NDArray[np.float32] = (power / np.exp(smooth(rings)) - 1).astype(np.float32)
    return contrast


def spectrum_image(
    ratio: NDArray[np.float32], layout: Sectors, size: int
) -> tuple[FloatArray, NDArray[np.float32]]:
    """Return a spectrum in rings and sectors as an image.

    Parameters
    ----------
    ratio
        (sector, ring).
    layout
        Their frequencies and directions.
    size
        Columns and rows, even.

    Returns
    -------
    frequency : (size,) float64, 1/A, of columns and of rows; 0 at index size / 2
    image : (size, size) float32, y up, symmetric; NaN beyond the rings
    """
    sectors, rings = ratio.shape
    axis = np.arange(-(size // 2), size - size // 2) * (2 * layout.frequency[-1] / size)
    radius = np.hypot(axis[:, None], axis[None, :])
    angle = np.arctan2(axis[:, None], axis[None, :]) % np.pi
    ring = np.interp(radius, layout.frequency, np.arange(rings))
    sector = (angle - layout.direction[0]) / np.pi * sectors
    wrapped = np.concatenate([ratio[-1:], ratio, ratio[:1]])
    found = ndimage.map_coordinates(wrapped, [sector + 1, ring], order=1, mode="nearest")
    beyond = (radius < layout.frequency[0]) | (radius > layout.frequency[-1])
    image: NDArray[np.float32] = np.where(beyond, np.nan, found).astype(np.float32)
    return axis, image
