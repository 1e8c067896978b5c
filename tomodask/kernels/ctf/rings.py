"""The rings of a power spectrum over which the contrast transfer is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.ctf.spectra import Sectors
    from tomodask.kernels.ctf.transfer import Optics

    FloatArray = NDArray[np.float64]

__all__ = ["Rings"]

_FEWEST = 12


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """The cells that are fitted, and how the oscillation of the power runs through them.

    The power oscillates as ``-cos(2 chi)``: ``sin(chi)**2 = (1 - cos(2 chi)) / 2``.

    Parameters
    ----------
    optics
        Of the microscope.
    used
        The rings of the spectra that are fitted.
    frequency
        (ring,) 1/A.
    direction
        (sector,) radians.
    samples
        (sector, ring): independent samples of a cell of one tile.
    """

    optics: Optics
    used: slice
    frequency: FloatArray
    direction: FloatArray
    samples: FloatArray

    @classmethod
    def between(cls, sectors: Sectors, optics: Optics, resolution: tuple[float, float]) -> Self:
        """Return the rings from the coarsest to the finest of two resolutions, A.

        Raises
        ------
        ParameterError
            If there are too few.
        """
        coarsest, finest = max(resolution), min(resolution)
        inside = np.flatnonzero(
            (sectors.frequency >= 1 / coarsest) & (sectors.frequency <= 1 / finest)
        )
        if len(inside) < _FEWEST:
            raise ParameterError(
                f"resolution {coarsest:g} to {finest:g} A holds {len(inside)} rings of tiles of "
                f"{sectors.tile} pixels of {sectors.pixel_size:g} A, and a fit takes {_FEWEST}: "
                "give a wider range or larger tiles"
            )
        used = slice(int(inside[0]), int(inside[-1]) + 1)
        return cls(
            optics,
            used,
            sectors.frequency[used],
            sectors.direction,
            np.asarray(sectors.samples[:, used], np.float64),
        )

    @property
    def squared(self) -> FloatArray:
        """(ring,) 1/A^2."""
        squared: FloatArray = self.frequency**2
        return squared

    @property
    def rate(self) -> FloatArray:
        """(ring,) radians by which 2 chi grows with each A of defocus."""
        rate: FloatArray = 2 * np.pi * self.optics.wavelength * self.squared
        return rate

    @property
    def turns(self) -> FloatArray:
        """(2, sector): cosine and sine of twice the direction."""
        return np.stack([np.cos(2 * self.direction), np.sin(2 * self.direction)])

    def phase(self, defocus: ArrayLike, phase_shift: ArrayLike) -> FloatArray:
        """Return 2 chi, radians, (..., ring) for defocus (...) A and phase shift (...) degrees."""
        chi = self.optics.phase(
            self.squared, np.asarray(defocus)[..., None], np.asarray(phase_shift)[..., None]
        )
        return 2 * chi

    def resolved(self, defocus: ArrayLike, footprint: float) -> FloatArray:
        """Return how much of the oscillation the tiles resolve, (..., ring), 0 to 1.

        Two frequencies interfere in the power at a distance in the image, the slope of 2 chi
        over 2 pi; of it a tile holds the autocorrelation of its taper, here as of a Gaussian one,
        and a ring the mean over its width.
        """
        wave, cs = self.optics.wavelength, self.optics.aberration
        k = self.frequency
        distance = 2 * k * (wave * np.asarray(defocus)[..., None] - cs * wave**3 * k**2)
        width = (k[-1] - k[0]) / (len(k) - 1)
        found: FloatArray = np.exp(-(distance**2) / (8 * footprint**2))
        found *= np.sinc(distance * width)
        return found
