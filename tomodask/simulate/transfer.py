"""The contrast transfer that a simulated image is seen through.

It is written down here once more, and not taken from the kernels that correct for it: what is
simulated by one formula and corrected by another agrees only where both are right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import constants, fft

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["ContrastTransfer", "transferred"]

_ANGSTROM = 1e-10  # m


@dataclass(frozen=True, slots=True)
class ContrastTransfer:
    """The contrast transfer of one view.

    The sign is such that dense matter, negative in a projection, stays dark at low frequency
    under positive defocus: the transfer is ``sin(chi + phase_shift + arcsin(amplitude_contrast))``
    with ``chi = pi lambda k^2 (defocus(theta) - Cs lambda^2 k^2 / 2)``, as in Rohou & Grigorieff
    (2015), https://doi.org/10.1016/j.jsb.2015.08.008.

    Parameters
    ----------
    defocus_u, defocus_v
        Defocus along the two principal directions at the specimen's origin, A; underfocus positive.
    astigmatism_angle
        Direction of U, counter-clockwise from +x of the y-up raw image, degrees.
    phase_shift
        Of a phase plate, degrees.
    voltage
        kV.
    spherical_aberration
        Cs, mm.
    amplitude_contrast
        Fraction, 0 to 1, of the whole specimen. Gold scatters beyond the aperture and shows more
        than protein does: where beads matter, 0.3 gives them about the contrast they have.
    """

    defocus_u: float
    defocus_v: float
    astigmatism_angle: float = 0.0
    phase_shift: float = 0.0
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07

    @property
    def wavelength(self) -> float:
        """Relativistic wavelength of the electrons, A."""
        energy = self.voltage * 1e3 * constants.e
        rest = constants.m_e * constants.c**2
        metres = constants.h * constants.c / np.sqrt(energy * (energy + 2 * rest))
        return float(metres) / _ANGSTROM

    def phase(self, frequency_x: ArrayLike, frequency_y: ArrayLike) -> FloatArray:
        """Return the angle whose sine is the transfer, radians.

        Frequencies (x, y) of the raw image, 1/A, are broadcast together; the result is float64.
        """
        x, y = np.asarray(frequency_x, np.float64), np.asarray(frequency_y, np.float64)
        squared = x**2 + y**2
        direction = np.arctan2(y, x) - np.deg2rad(self.astigmatism_angle)
        defocus = (self.defocus_u + self.defocus_v) / 2 + (
            self.defocus_u - self.defocus_v
        ) / 2 * np.cos(2 * direction)
        aberration = self._aberration * self.wavelength**2 * squared / 2
        chi = np.pi * self.wavelength * squared * (defocus - aberration)
        constant = np.deg2rad(self.phase_shift) + np.arcsin(self.amplitude_contrast)
        phase: FloatArray = chi + constant
        return phase

    def transfer(self, frequency_x: ArrayLike, frequency_y: ArrayLike) -> FloatArray:
        """Return the transfer at spatial frequencies (x, y) of the raw image, 1/A.

        The two are broadcast together; the result is float64, between -1 and 1.
        """
        transfer: FloatArray = np.sin(self.phase(frequency_x, frequency_y))
        return transfer

    def shifted(self, defocus: float) -> Self:
        """Return the transfer where the defocus is larger by so many A."""
        return replace(self, defocus_u=self.defocus_u + defocus, defocus_v=self.defocus_v + defocus)

    def reach(self, pixel_size: float) -> float:
        """Return how far, in A, the signal of a point spreads in an image of `pixel_size` A.

        It is the shift of the highest frequency, plus four widths of the Fresnel zone, which is
        the wider of the two in coarse pixels.
        """
        lateral = self.wavelength / (2 * pixel_size)
        defocus = max(abs(self.defocus_u), abs(self.defocus_v))
        fresnel = float(np.sqrt(self.wavelength * defocus))
        return defocus * lateral + self._aberration * lateral**3 + 4 * fresnel

    @property
    def _aberration(self) -> float:
        return self.spherical_aberration * 1e-3 / _ANGSTROM


def transferred(image: FloatArray, ctf: ContrastTransfer, pixel_size: float) -> FloatArray:
    """Return a (y, x) image seen through a transfer; it wraps around at the edges."""
    rows, columns = image.shape
    transfer = ctf.transfer(
        fft.rfftfreq(columns, pixel_size)[None, :], fft.fftfreq(rows, pixel_size)[:, None]
    )
    seen: FloatArray = fft.irfft2(fft.rfft2(image) * transfer, s=image.shape)
    return seen
