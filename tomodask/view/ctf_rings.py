"""Power spectra made ready for the eye: rings of equal contrast, and what the fit expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.kernels.ctf import Transfer

    FloatArray = NDArray[np.float64]

__all__ = ["compared_rings", "expected_rings", "measured_rings", "zero_phases"]

#: Standard deviations of the averages along the rings, degrees (it leaves astigmatism to be seen),
#: and across, as a part of the distance from ring to ring.
_ALONG, _ACROSS = 5.0, 0.12
#: Region over which contrast is made equal: degrees, and rings.
_SECTOR, _RINGS = 15.0, 0.6


def measured_rings(
    spectrum: xr.DataArray, limit: float, period: float, pixels: int
) -> NDArray[np.float32]:
    """Return a power spectrum in which all rings have the same contrast.

    Values are averaged along short arcs and a little across; less their mean and over their
    standard deviation, both of a neighbourhood of about a ring, so that the faint fine rings show
    as the strong coarse ones do, and noise alone shows as noise. Nothing of a fit enters but how
    far apart rings are, about.

    Parameters
    ----------
    spectrum
        (frequency_y, frequency_x) with coordinates, 1/A, that ascend through 0 in equal steps.
    limit
        Highest frequency that is shown, 1/A.
    period
        Squared frequency from a ring to the next, 1/A^2.
    pixels
        Edge of the result.

    Returns
    -------
    (pixels, pixels) float32, y up, from -limit to limit; NaN beyond and where
    the spectrum is.
    """
    y, x = (spectrum[f"frequency_{axis}"].values for axis in "yx")
    step = float(x[1] - x[0])
    radii = np.arange(int(limit / step) + 2, dtype=np.float64) * step
    degree = 2 * np.pi * len(radii) / 360  # samples
    angles = np.deg2rad(np.arange(round(360 * degree)) / degree)
    circle = np.stack([np.sin(angles), np.cos(angles)])[:, None] * radii[:, None]
    places = [(axis - ends[0]) / step for axis, ends in zip(circle, (y, x), strict=True)]
    power = spectrum.values.astype(np.float64)
    known = np.isfinite(power)
    polar, certain = (
        ndimage.map_coordinates(values, places, order=1, mode="nearest")
        for values in (np.where(known, power, 0), known.astype(np.float64))
    )
    valid = certain.min(axis=1) > 1 - 1e-6
    polar = _across(radii, _ACROSS * period, valid) @ _along(polar, _ALONG * degree)
    around = _across(radii, _RINGS * period, valid)
    polar -= around @ _along(polar, _SECTOR * degree)
    spread = np.sqrt(around @ _along(polar**2, _SECTOR * degree))
    polar /= np.maximum(spread, np.finfo(np.float32).tiny)
    polar[~valid] = np.nan
    horizontal, vertical = _frequencies(limit, pixels)
    radius = np.hypot(horizontal, vertical)
    turn = np.rad2deg(np.arctan2(vertical, horizontal)) % 360 * degree
    shown = ndimage.map_coordinates(polar, [radius / step, turn], order=1, mode="grid-wrap")
    shown[radius > limit] = np.nan
    result: NDArray[np.float32] = shown.astype(np.float32)
    return result


def expected_rings(transfer: Transfer, limit: float, pixels: int) -> NDArray[np.float32]:
    """Return the squared transfer on the scale of :func:`measured_rings`: mean 0, deviation 1.

    Parameters
    ----------
    transfer
        Of the view.
    limit, pixels
        As there.
    """
    frequencies = _frequencies(limit, pixels)
    rings = np.sqrt(8) * (transfer.values(*frequencies) ** 2 - 0.5)
    rings[np.hypot(*frequencies) > limit] = np.nan
    result: NDArray[np.float32] = rings.astype(np.float32)
    return result


def compared_rings(
    spectrum: xr.DataArray, transfer: Transfer, limit: float, pixels: int
) -> NDArray[np.float32]:
    """Return the measured rings at the left, the expected ones at the right.

    Parameters
    ----------
    spectrum
        As in :func:`measured_rings`.
    transfer
        Of the view, at its mean defocus.
    limit, pixels
        As there.
    """
    defocus = abs(transfer.defocus_u + transfer.defocus_v) / 2
    period = 1 / (transfer.optics.wavelength * max(defocus, 1.0))
    image = measured_rings(spectrum, limit, period, pixels)
    right = slice(pixels // 2, None)
    image[:, right] = expected_rings(transfer, limit, pixels)[:, right]
    return image


def zero_phases(transfer: Transfer, count: int) -> FloatArray:
    """Return the phases chi, ascending, radians, of the first zeros out from the centre."""
    centre = float(transfer.phase(0.0, 0.0)) / np.pi
    if transfer.defocus_u + transfer.defocus_v >= 0:
        turns = np.floor(centre) + np.arange(1, count + 1)
    else:
        turns = np.ceil(centre) - np.arange(count, 0, -1)
    phases: FloatArray = np.pi * turns
    return phases


def _along(polar: FloatArray, samples: float) -> FloatArray:
    """Average along the rings, with a Gaussian of this standard deviation."""
    averaged: FloatArray = ndimage.gaussian_filter1d(polar, samples, axis=1, mode="wrap")
    return averaged


def _across(radii: FloatArray, width: float, valid: NDArray[np.bool_]) -> FloatArray:
    """Return the matrix that averages across the rings, which lie evenly in squared frequency."""
    apart = (radii[:, None] ** 2 - radii**2) / width
    # A radius where nothing is known is given its own weight, so that no row is empty.
    weights = np.where(valid | np.eye(len(radii), dtype=bool), np.exp(-(apart**2) / 2), 0)
    averaging: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return averaging


def _frequencies(limit: float, pixels: int) -> tuple[FloatArray, FloatArray]:
    """Return the frequencies (x, y) of the pixels of a picture."""
    edge = (np.arange(pixels) + 0.5) / pixels * 2 * limit - limit
    return edge[None, :], edge[:, None]
