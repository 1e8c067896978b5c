"""The contrast transfer function: how a microscope shows the specimen's density at a defocus.

The sign is such that dense matter stays dark at low frequency under positive (under-) defocus:
``sin(chi)`` with ``chi = pi lambda k^2 (defocus - Cs lambda^2 k^2 / 2) + phase shift +
arcsin(amplitude contrast)`` (Rohou & Grigorieff 2015, https://doi.org/10.1016/j.jsb.2015.08.008).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import constants

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Optics", "Transfer"]

_ANGSTROM = 1e-10  # m


@dataclass(frozen=True, slots=True)
class Optics:
    """What of the contrast transfer belongs to the microscope, and is the same for all views.

    Parameters
    ----------
    voltage
        kV.
    spherical_aberration
        Cs, mm.
    amplitude_contrast
        Fraction, 0 to 1.

    Raises
    ------
    ParameterError
        If a value is not one that a microscope has.
    """

    voltage: float
    spherical_aberration: float
    amplitude_contrast: float

    def __post_init__(self) -> None:
        if not 50 <= self.voltage <= 1000:
            raise ParameterError(f"voltage {self.voltage}: give it in kV, from 50 to 1000")
        if not 0 <= self.spherical_aberration <= 20:
            raise ParameterError(
                f"spherical aberration {self.spherical_aberration}: give it in mm, from 0 to 20"
            )
        if not 0 <= self.amplitude_contrast <= 1:
            raise ParameterError(
                f"amplitude contrast {self.amplitude_contrast}: give a fraction from 0 to 1"
            )

    @property
    def wavelength(self) -> float:
        """Relativistic wavelength of the electrons, A."""
        energy = self.voltage * 1e3 * constants.e
        rest = constants.m_e * constants.c**2
        metres = constants.h * constants.c / np.sqrt(energy * (energy + 2 * rest))
        return float(metres) / _ANGSTROM

    @property
    def aberration(self) -> float:
        """Spherical aberration, A."""
        return self.spherical_aberration * 1e-3 / _ANGSTROM

    def phase(
        self, squared: ArrayLike, defocus: ArrayLike, phase_shift: ArrayLike = 0.0
    ) -> FloatArray:
        """Return chi, whose sine is the transfer, in radians.

        Parameters
        ----------
        squared
            Squared spatial frequency, 1/A^2.
        defocus
            A, along the frequency's direction.
        phase_shift
            Of a phase plate, degrees.

        Returns
        -------
        float64; the three are broadcast together.
        """
        q = np.asarray(squared, np.float64)
        focus = np.asarray(defocus, np.float64) - self.aberration * self.wavelength**2 * q / 2
        constant = np.deg2rad(phase_shift) + np.arcsin(self.amplitude_contrast)
        chi: FloatArray = np.pi * self.wavelength * q * focus + constant
        return chi

    def plane_spacing(self, resolution: float) -> float:
        """Return the depth over which chi changes by a quarter of a period at a resolution, A."""
        return resolution**2 / (2 * self.wavelength)


@dataclass(frozen=True, slots=True)
class Transfer:
    """The contrast transfer of one view at one height.

    Parameters
    ----------
    optics
        Of the microscope.
    defocus_u, defocus_v
        Along the two principal directions, A; underfocus positive.
    astigmatism_angle
        Direction of U, counter-clockwise from +x of the y-up image, degrees.
    phase_shift
        Of a phase plate, degrees.
    """

    optics: Optics
    defocus_u: float
    defocus_v: float
    astigmatism_angle: float = 0.0
    phase_shift: float = 0.0

    def shifted(self, defocus: float) -> Self:
        """Return the transfer where the defocus is larger by so many A."""
        return replace(self, defocus_u=self.defocus_u + defocus, defocus_v=self.defocus_v + defocus)

    def phase(self, frequency_x: ArrayLike, frequency_y: ArrayLike) -> FloatArray:
        """Return chi, radians, at spatial frequencies (x, y), 1/A, broadcast together."""
        x, y = np.asarray(frequency_x, np.float64), np.asarray(frequency_y, np.float64)
        mean = (self.defocus_u + self.defocus_v) / 2
        half = (self.defocus_u - self.defocus_v) / 2
        turn = np.deg2rad(2 * self.astigmatism_angle)
        squared = x**2 + y**2
        # cos 2(theta - angle) k^2, without an angle for every frequency
        skewed = (x**2 - y**2) * np.cos(turn) + 2 * x * y * np.sin(turn)
        astigmatic: FloatArray = np.pi * self.optics.wavelength * half * skewed
        return self.optics.phase(squared, mean, self.phase_shift) + astigmatic

    def values(self, frequency_x: ArrayLike, frequency_y: ArrayLike) -> FloatArray:
        """Return the transfer, -1 to 1, at spatial frequencies (x, y), 1/A, broadcast together."""
        result: FloatArray = np.sin(self.phase(frequency_x, frequency_y))
        return result

    def reach(self, resolution: float) -> float:
        """Return how far, in A, the signal of a point spreads at frequencies up to 1/resolution.

        The point spread function at frequency k lies at chi's slope over 2 pi; four widths of the
        Fresnel zone, which is the wider at low frequency, hold the rest.
        """
        lateral = self.optics.wavelength / resolution
        defocus = max(abs(self.defocus_u), abs(self.defocus_v))
        fresnel = float(np.sqrt(self.optics.wavelength * defocus))
        return defocus * lateral + self.optics.aberration * lateral**3 + 4 * fresnel
