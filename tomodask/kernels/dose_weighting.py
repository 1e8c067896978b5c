r"""Sums of frames weighted by what radiation has left of each frequency.

The signal at frequency k fades with the dose D as :math:`\exp(-D / (2 N_c(k)))`, where the
critical dose at 300 kV is :math:`N_c(k) = 0.24499 k^{-1.6649} + 2.8141` e/A^2 for k in 1/A ([1]_).
A frame is weighted by this factor, and nothing more: a view late in a tilt series is meant to count
less at high frequencies than an early one. Programs for single particles divide by the weights'
sum or root mean square, which takes out what all frames of a movie have lost alike; for a tilt
series that would leave nothing of the dose before the movie.

**Which dose.** The authors' programs (Unblur, cisTEM), RELION and AreTomo take the dose at the
end of a frame; so do callers here.

**Voltage.** The dose that breaks as much is proportional to the square of the electrons' speed:
0.80 of that at 300 kV at 200 kV, the factor all these programs use. Where they go further they
differ (100 kV: 0.53 in cisTEM, 0.64 in RELION; 120 kV: 0.45 in AreTomo); the speed gives 0.50
and 0.57.

References
----------
.. [1] Grant, T. and Grigorieff, N., Measuring the optimal exposure for single particle cryo-EM
   using a 2.6 A reconstruction of rotavirus VP6, eLife 4 (2015) e06980,
   doi:10.7554/eLife.06980.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.errors import ParameterError
from tomodask.kernels._jit import njit
from tomodask.kernels.frame_sums import add_frames, moving_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.frame_sums import Displacement, FrameOffsets

__all__ = ["critical_dose", "dose_weights", "sum_weighted_frames"]

#: Rest energy of the electron, keV.
_REST = 510.99895
#: Samples of the weights from frequency 0 to the corner of the transform.
_SAMPLES = 4096


def critical_dose(frequency: ArrayLike, voltage: float = 300.0) -> NDArray[np.float64]:
    """Return the dose after which the signal has fallen to 1/sqrt(e).

    Parameters
    ----------
    frequency
        1/A, any shape.
    voltage
        kV.

    Returns
    -------
    e/A^2, of the shape of `frequency`; infinite at frequency 0.
    """
    if not 50 <= voltage <= 1000:
        raise ParameterError(f"voltage {voltage}: give the acceleration voltage in kV")
    with np.errstate(divide="ignore"):
        at_300: NDArray[np.float64] = 0.24499 * np.asarray(frequency, float) ** -1.6649 + 2.8141
    return at_300 * (_speed_squared(voltage) / _speed_squared(300.0))


def dose_weights(
    frequency: ArrayLike,
    dose: ArrayLike,
    *,
    voltage: float = 300.0,
    b_factor: float | None = None,
) -> NDArray[np.float64]:
    """Return what is left of the signal after a dose.

    Parameters
    ----------
    frequency
        1/A, any shape.
    dose
        (frame,) e/A^2 that the specimen has received, at the end of each frame.
    voltage
        kV, for the critical dose.
    b_factor
        A^2 per e/A^2; if given, the signal fades as ``exp(-b_factor dose frequency^2 / 4)``
        instead, at any voltage.

    Returns
    -------
    (frame, ...) float64 in [0, 1], 1 at frequency 0.
    """
    k = np.asarray(frequency, np.float64)
    rate = 1 / (2 * critical_dose(k, voltage)) if b_factor is None else b_factor * k**2 / 4
    weights: NDArray[np.float64] = np.exp(-np.multiply.outer(_checked(dose), rate))
    return weights


def sum_weighted_frames(
    frames: NDArray[np.generic] | Iterable[NDArray[np.generic]],
    shift: ArrayLike,
    displacement: Displacement | None = None,
    *,
    dose: ArrayLike,
    pixel_size: float,
    voltage: float = 300.0,
    b_factor: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Sum the frames of a movie, moved back and weighted by dose, and their even and odd halves.

    Frames are moved as by :func:`~tomodask.kernels.frame_sums.sum_frames`; then each is
    transformed, and one inverse transform is made for each half.

    Parameters
    ----------
    frames, shift, displacement
        As for :func:`~tomodask.kernels.frame_sums.sum_frames`.
    dose
        (frame,) e/A^2 that the specimen has received at the end of each frame.
    pixel_size
        A.
    voltage, b_factor
        As for :func:`dose_weights`.

    Returns
    -------
    full, even, odd
        (y, x) float32, ``full = even + odd``. Their mean is that of the plain sums.

    Raises
    ------
    DataError
        If there is no frame, or frames differ in shape, or in number from the shifts.
    ParameterError
        If a shift or dose is not finite, their numbers differ, or a parameter makes no sense.
    """
    if not pixel_size > 0:
        raise ParameterError(f"pixel size {pixel_size}: give a number > 0, in A")
    frequency = np.linspace(0, np.sqrt(0.5), _SAMPLES) / pixel_size
    weights = dose_weights(frequency, _checked(dose), voltage=voltage, b_factor=b_factor)
    table = weights.astype(np.float32)
    offsets, stacks = moving_frames(frames, shift, displacement)
    if len(table) != len(offsets.offset):
        raise ParameterError(f"{len(table)} doses and {len(offsets.offset)} shifts: give one each")
    spectra = _weighted_spectra(stacks, offsets, table)
    # One after the other, each gone when its image is there.
    even, odd = (
        scipy.fft.irfft2(spectra.pop(0), s=offsets.shape, workers=1, overwrite_x=True)
        for _ in range(2)
    )
    return even + odd, even, odd


def _weighted_spectra(
    stacks: Iterable[tuple[int, NDArray[np.generic]]],
    offsets: FrameOffsets,
    table: NDArray[np.float32],
) -> list[NDArray[np.complex64]]:
    """Return the transforms of the even and of the odd frames' sums."""
    height, width = offsets.shape
    halves = [np.zeros((height, width // 2 + 1), np.complex64) for _ in range(2)]
    moved = np.empty((1, height, width), np.float32)
    for first, stack in stacks:
        for number, frame in enumerate(stack, first):
            moved[:] = 0
            add_frames(frame[None], offsets, number, moved)
            spectrum = scipy.fft.rfft2(moved[0], workers=1)
            _add_weighted(spectrum, table[number], width, halves[number % 2])
            del spectrum  # before the next one is made
    return halves


def _checked(dose: ArrayLike) -> NDArray[np.float64]:
    doses = np.asarray(dose, np.float64)
    if doses.ndim != 1 or not (np.isfinite(doses).all() and (doses >= 0).all()):
        raise ParameterError(f"doses {doses}: give one number >= 0 for each frame, e/A^2")
    return doses


def _speed_squared(voltage: float) -> float:
    """Return the square of the speed of electrons, in that of light, after a voltage in kV."""
    return 1 - (_REST / (_REST + voltage)) ** 2


@njit
def _add_weighted(
    spectrum: NDArray[np.complex64],
    weights: NDArray[np.float32],
    columns: int,
    out: NDArray[np.complex64],
) -> None:
    """Add a transform times a weight that depends on the length of the frequency alone."""
    rows, half = spectrum.shape
    step = (len(weights) - 1) / np.sqrt(0.5)
    for y in range(rows):
        fy = min(y, rows - y) / rows * step
        for x in range(half):
            fx = x / columns * step
            k = np.float32(np.sqrt(fy * fy + fx * fx))
            i = min(int(k), len(weights) - 2)
            f = k - np.float32(i)
            weight = weights[i] + f * (weights[i + 1] - weights[i])
            out[y, x] += weight * spectrum[y, x]
