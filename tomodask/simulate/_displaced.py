"""A band-limited image at places that a smooth field displaces.

The image is sampled twice as finely as it needs and carried by quintic B-splines, whose error is
then below 1e-3 at the image's Nyquist frequency and falls with the sixth power of the frequency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FINENESS", "displaced_image", "spline_coefficients"]

#: Spline samples of a pixel along each axis.
FINENESS = 2
_ITERATIONS = 6


def spline_coefficients(
    spectrum: NDArray[np.complex64], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the quintic B-spline coefficients of a periodic image.

    Parameters
    ----------
    spectrum
        (y, x // 2 + 1) complex64, of `scipy.fft.rfft2`, nothing at the Nyquist frequency.
    shape
        (y, x) samples of the image.

    Returns
    -------
    (FINENESS y, FINENESS x) float32.
    """
    rows, columns = shape
    fine = (FINENESS * rows, FINENESS * columns)
    padded = np.zeros((fine[0], fine[1] // 2 + 1), np.complex64)
    half = rows // 2
    width = spectrum.shape[1]
    padded[: rows - half, :width] = spectrum[: rows - half]
    padded[fine[0] - half :, :width] = spectrum[rows - half :]
    response_y = _response(fft.fftfreq(fine[0]))
    response_x = _response(fft.rfftfreq(fine[1]))
    padded *= np.float32(FINENESS**2) / response_y[:, None]
    padded /= response_x[None, :]
    coefficients: NDArray[np.float32] = fft.irfft2(padded, s=fine, overwrite_x=True, workers=1)
    return coefficients


def _response(frequency: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the transform of the quintic B-spline at the integers; frequency in 1/sample."""
    angle = 2 * np.pi * frequency
    response: NDArray[np.float64] = (66 + 52 * np.cos(angle) + 2 * np.cos(2 * angle)) / 120
    return response.astype(np.float32)


@njit
def displaced_image(
    coefficients: NDArray[np.float32],
    origin: tuple[float, float],
    drift: tuple[float, float],
    field: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Evaluate an image where the content of every pixel comes from.

    Parameters
    ----------
    coefficients
        Of `spline_coefficients`.
    origin
        (y, x) samples of the image before the first pixel.
    drift
        (y, x) displacement of all places, px.
    field
        (2, n, n) displacement of the place (v, u), -1 to 1 from edge to edge: coefficients of
        ``v**i u**j``, px.
    out
        (y, x) float32, filled: the image p at ``p + displacement(p)``.
    """
    rows, columns = out.shape
    fine_rows, fine_columns = coefficients.shape
    order = field.shape[1]
    weight_y = np.empty(6)
    weight_x = np.empty(6)
    index_x = np.empty(6, np.int64)
    for row in range(rows):
        for column in range(columns):
            y, x = float(row), float(column)
            # The field moves less than a pixel per pixel, so that this contracts to the place p.
            for _ in range(_ITERATIONS):
                v = (y - (rows - 1) / 2) / (rows / 2)
                u = (x - (columns - 1) / 2) / (columns / 2)
                dy, dx = drift
                power_v = 1.0
                for i in range(order):
                    power = power_v
                    for j in range(order):
                        dy += field[0, i, j] * power
                        dx += field[1, i, j] * power
                        power *= u
                    power_v *= v
                y, x = row - dy, column - dx
            sample_y, sample_x = (y + origin[0]) * FINENESS, (x + origin[1]) * FINENESS
            first_y, first_x = int(np.floor(sample_y)), int(np.floor(sample_x))
            _quintic(sample_y - first_y, weight_y)
            _quintic(sample_x - first_x, weight_x)
            for j in range(6):
                index_x[j] = (first_x + j - 2) % fine_columns
            total = 0.0
            for i in range(6):
                line = coefficients[(first_y + i - 2) % fine_rows]
                part = 0.0
                for j in range(6):
                    part += weight_x[j] * line[index_x[j]]
                total += weight_y[i] * part
            out[row, column] = total


@njit
def _quintic(t: float, weight: NDArray[np.float64]) -> None:
    """Fill in the six quintic B-spline weights at the fraction t between samples 2 and 3."""
    for k in range(6):
        distance = abs(t + 2 - k)
        if distance >= 3:
            weight[k] = 0.0
            continue
        value = (3 - distance) ** 5
        if distance < 2:
            value -= 6 * (2 - distance) ** 5
        if distance < 1:
            value += 15 * (1 - distance) ** 5
        weight[k] = value / 120
