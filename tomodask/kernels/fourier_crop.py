"""Change of an image's sampling by cropping or padding its spectrum.

What the new pixels can hold is kept unchanged and what they cannot is removed: the image's
trigonometric interpolation, without its frequencies beyond the new Nyquist, evaluated at the
centres of the new pixels. These lie so that the middle (n - 1) / 2 of the image stays the middle;
as the corners of the two images coincide, the first new pixel's centre is not the first old one's.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["crop_spectrum", "cropped_shape", "fourier_crop"]

#: Sizes with larger prime factors take more than twice the time of a power of two.
_LARGEST_PRIME = 31
#: Denominators that are tried for a binning that is no whole number, and how far it may be off.
_LARGEST_DENOMINATOR = 64
_NEAR = 0.02
#: A binning that is off by 1 % is as bad as 4 % of the image being cut off.
_EXACTNESS = 4.0


def cropped_shape(shape: tuple[int, int], binning: float) -> tuple[tuple[int, int], float]:
    """Return the shape of a binned image whose pixels are exactly square.

    Parameters
    ----------
    shape
        (y, x) pixels of the image.
    binning
        Wanted size of the new pixel in pixels of the image.

    Returns
    -------
    shape
        (y, x), both even and without large prime factors, as are the sizes ``shape x binning`` of
        the part of the image that they cover; what is left of the image at its edges is lost.
    binning
        The exact size of the new pixel in pixels of the image, the same along both axes: the one
        asked for where little of the image is lost with it, within 2 % of it otherwise.

    Raises
    ------
    ParameterError
        If the image is too small.
    """
    if not (np.isfinite(binning) and binning > 0):
        raise ParameterError(f"binning {binning}: give a number > 0")
    best = None
    for q in range(1, _LARGEST_DENOMINATOR + 1):
        factor = Fraction(round(binning * q), q)
        error = abs(float(factor) / binning - 1)
        if factor.denominator != q or error > _NEAR:
            continue
        sizes = [_largest(n, factor) for n in shape]
        if 0 in sizes:
            continue
        lost = sum(1 - m * float(factor) / n for m, n in zip(sizes, shape, strict=True))
        cost = lost + _EXACTNESS * error
        if best is None or cost < best[0] - 1e-9:
            best = (cost, (sizes[0], sizes[1]), float(factor))
    if best is None:
        raise ParameterError(
            f"an image of {shape[0]} x {shape[1]} pixels cannot be binned {binning} times: give a "
            "smaller binning"
        )
    return best[1], best[2]


def fourier_crop(
    image: NDArray[np.generic], shape: tuple[int, int], binning: float | None = None
) -> NDArray[np.float32]:
    """Change the size of an image by cropping or padding its spectrum.

    Parameters
    ----------
    image
        (y, x), any real dtype.
    shape
        (y, x) of the result.
    binning
        Size of the new pixel in pixels of the image, from :func:`cropped_shape`. The middle
        ``shape x binning`` pixels are used. Without it, all are, and must make square pixels.

    Returns
    -------
    (y, x) float32. Values are kept, and so is the mean: multiply counts by ``binning^2``.

    Raises
    ------
    ParameterError
        If the new pixels are not square, or cover more than the image.
    """
    if min(shape) < 1:
        raise ParameterError(f"an image of {shape[0]} x {shape[1]} pixels: give sizes > 0")
    factor = image.shape[0] / shape[0] if binning is None else binning
    used = image.shape if binning is None else tuple(round(m * factor) for m in shape)
    if any(
        abs(c - m * factor) > 1e-6 * c or not 0 < c <= n
        for c, m, n in zip(used, shape, image.shape, strict=True)
    ):
        raise ParameterError(
            f"{image.shape[0]} x {image.shape[1]} pixels do not make {shape[0]} x {shape[1]} "
            f"square ones {factor} times as large: take shape and binning from cropped_shape"
        )
    start = [(n - c) // 2 for n, c in zip(image.shape, used, strict=True)]
    part = image[start[0] : start[0] + used[0], start[1] : start[1] + used[1]]
    # Where the first new pixel's centre lies in the part.
    first = [
        (n - 1) / 2 - s - (m - 1) / 2 * factor
        for n, s, m in zip(image.shape, start, shape, strict=True)
    ]
    if used == tuple(shape) and first == [0, 0]:
        return part.astype(np.float32)
    spectrum = scipy.fft.rfft2(part.astype(np.float32), workers=1, overwrite_x=True)
    spectrum = crop_spectrum(spectrum, (used[0], used[1]), shape, (first[0], first[1]))
    result: NDArray[np.float32] = scipy.fft.irfft2(spectrum, s=shape, workers=1, overwrite_x=True)
    return result


def crop_spectrum(
    spectrum: NDArray[np.complex64],
    shape: tuple[int, int],
    new: tuple[int, int],
    first: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.complex64]:
    """Crop or pad a half spectrum so that its inverse keeps the values of the image.

    Parameters
    ----------
    spectrum
        (y, x // 2 + 1) complex64, from ``scipy.fft.rfft2``.
    shape, new
        (y, x) of the image and of the inverse.
    first
        (y, x) pixel index in the image at which the first sample of the inverse is taken.

    Notes
    -----
    The term at Nyquist of an even size stands for both signs of the frequency. Padded, it is
    shared between the two; cropped, those of both signs fall on one term: as a sum, so that the
    result is the image's interpolation sampled at the new points.
    """
    rows, columns = min(shape[0], new[0]), min(shape[1], new[1])
    width = columns // 2 + 1
    factor = _ramp(np.arange(width), first[1] / shape[1]) * np.float32(
        new[0] * new[1] / (shape[0] * shape[1])
    )
    if columns % 2 == 0:
        # The inverse of a half spectrum counts each term twice, but for that at its own Nyquist.
        factor[-1] *= (1.0 if columns == new[1] else 0.5) * (1.0 if columns == shape[1] else 2.0)
    result = np.zeros((new[0], new[1] // 2 + 1), np.complex64)

    def add(low: int, high: int, weight: float = 1.0) -> None:
        """Add the rows of frequencies low <= k < high, both of one sign."""
        k = np.arange(low, high)
        ramp = _ramp(k, first[0] / shape[0]) * np.float32(weight)
        result[k % new[0], :width] += spectrum[k % shape[0], :width] * ramp[:, None] * factor

    half = rows // 2
    add(0, (rows + 1) // 2)
    add(-((rows - 1) // 2), 0)
    if rows % 2 == 0:
        shared = 0.5 if rows == shape[0] else 1.0
        add(half, half + 1, shared)
        add(-half, -half + 1, shared)
    return result


def _largest(size: int, factor: Fraction) -> int:
    """Return the largest even number without large primes that, times a factor, is one too."""
    p, q = factor.numerator, factor.denominator
    for t in range(size // p, 0, -1):
        if q * t % 2 == 0 and _is_smooth(q * t) and _is_smooth(p * t):
            return q * t
    return 0


def _is_smooth(number: int) -> bool:
    for prime in range(2, _LARGEST_PRIME + 1):
        while number % prime == 0:
            number //= prime
    return number == 1


def _ramp(k: NDArray[np.integer], shift: float) -> NDArray[np.complex64]:
    """Return the factors that make the inverse start `shift` periods further."""
    ramp: NDArray[np.complex64] = np.exp(2j * np.pi * shift * k).astype(np.complex64)
    return ramp
