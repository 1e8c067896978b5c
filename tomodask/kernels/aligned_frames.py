"""Sums of shifted frames, and what they say about the shifts, in Fourier space.

A shift is a factor exp(2 pi i k.s) of a transform, and separates into one of ky and one of kx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels.ring_powers import RingPowers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.frame_spectra import FrameSpectra

    FloatArray = NDArray[np.float64]

__all__ = ["align", "neighbour_powers"]


def align(
    spectra: FrameSpectra, shift: FloatArray, weight: NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """Return the power of the aligned sum, and how the log-likelihood changes with the shifts.

    Parameters
    ----------
    spectra
        Of the frames.
    shift
        (frame, 2) pixels.
    weight
        (ring,) of the sum's power in the log-likelihood.

    Returns
    -------
    (ring,) sums over independent frequencies of the power of the sum, and the (frame, 2) gradient
    of the log-likelihood, 1/pixel.
    """
    y, x = spectra.phases(shift)
    power = np.empty(spectra.ring.shape, np.float32)
    gradient = np.zeros((2, len(spectra), len(spectra.fx)), np.float32)
    table = weight[spectra.ring]
    arrays = spectra.real, spectra.imaginary, y.real.copy(), y.imag.copy(), x.real.copy()
    _align(*arrays, x.imag.copy(), table, spectra.fy, power, gradient)
    weighted = (gradient * spectra.weight).astype(np.float64)
    slope = np.stack([weighted[0].sum(axis=1), weighted[1] @ spectra.fx], axis=1)
    return spectra.ring_sums(power), 4 * np.pi * slope


def neighbour_powers(
    spectra: FrameSpectra, share: float = 0.0
) -> tuple[FloatArray, FloatArray, RingPowers]:
    """Return ring sums of the frames' powers and of their plain sum's, and a guess of the powers.

    The guess is from frames next to each other.

    Neighbours moved little against each other: a first guess of the specimen's power without
    knowing any shift.
    """
    own = np.zeros(spectra.ring.shape, np.float32)
    cross = np.zeros(spectra.ring.shape, np.float32)
    plain = np.empty(spectra.ring.shape, np.float32)
    _neighbours(spectra.real, spectra.imaginary, own, cross, plain)
    g = spectra.exposure
    power = spectra.ring_sums(own)
    pairs = len(spectra) - 1
    common = spectra.ring_sums(cross) / (g[1:] @ g[:-1])
    # Taking off a share of the mean ties the frames' noise together.
    common += share * power / (g.sum() - share * (g**2).sum())
    guess = RingPowers.measured(spectra, power, common, pairs)
    return power, spectra.ring_sums(plain), guess


@njit
def _align(
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    y_real: NDArray[np.float32],
    y_imaginary: NDArray[np.float32],
    x_real: NDArray[np.float32],
    x_imaginary: NDArray[np.float32],
    weight: NDArray[np.float32],
    fy: NDArray[np.float32],
    power: NDArray[np.float32],
    gradient: NDArray[np.float32],
) -> None:
    frames, rows, columns = real.shape
    a = np.empty((frames, columns), np.float32)
    b = np.empty((frames, columns), np.float32)
    sum_a = np.empty(columns, np.float32)
    sum_b = np.empty(columns, np.float32)
    for y in range(rows):
        sum_a[:] = 0
        sum_b[:] = 0
        for i in range(frames):
            c, d = y_real[i, y], y_imaginary[i, y]
            for x in range(columns):
                p = c * x_real[i, x] - d * x_imaginary[i, x]
                q = c * x_imaginary[i, x] + d * x_real[i, x]
                u = real[i, y, x] * p - imaginary[i, y, x] * q
                v = real[i, y, x] * q + imaginary[i, y, x] * p
                a[i, x] = u
                b[i, x] = v
                sum_a[x] += u
                sum_b[x] += v
        for x in range(columns):
            power[y, x] = sum_a[x] * sum_a[x] + sum_b[x] * sum_b[x]
            sum_a[x] *= weight[y, x]
            sum_b[x] *= weight[y, x]
        for i in range(frames):
            for x in range(columns):
                slope = sum_b[x] * a[i, x] - sum_a[x] * b[i, x]
                gradient[0, i, x] += fy[y] * slope
                gradient[1, i, x] += slope


@njit
def _neighbours(
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    own: NDArray[np.float32],
    cross: NDArray[np.float32],
    plain: NDArray[np.float32],
) -> None:
    frames, rows, columns = real.shape
    sum_a = np.empty(columns, np.float32)
    sum_b = np.empty(columns, np.float32)
    for y in range(rows):
        sum_a[:] = 0
        sum_b[:] = 0
        for i in range(frames):
            for x in range(columns):
                a, b = real[i, y, x], imaginary[i, y, x]
                own[y, x] += a * a + b * b
                sum_a[x] += a
                sum_b[x] += b
            if i > 0:
                for x in range(columns):
                    cross[y, x] += (
                        real[i, y, x] * real[i - 1, y, x]
                        + imaginary[i, y, x] * imaginary[i - 1, y, x]
                    )
        for x in range(columns):
            plain[y, x] = sum_a[x] * sum_a[x] + sum_b[x] * sum_b[x]
