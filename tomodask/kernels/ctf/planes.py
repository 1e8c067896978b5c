"""Weighted rows of one view, its contrast transfer undone for planes at several heights.

One forward transform serves all planes; weighting along u, finer sampling along u and the
correction of each plane are factors of it, so that a plane costs one pass and one inverse transform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels.ctf.plane_filter import filter_spectrum, phase_polynomial
from tomodask.kernels.weighting import OVERSAMPLING, filter_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.ctf.correction import Correction
    from tomodask.kernels.ctf.transfer import Transfer

__all__ = ["plane_bytes", "plane_size", "weighted_planes"]


def plane_size(shape: tuple[int, int], halo: int) -> tuple[int, int]:
    """Return the (u, v) size of the transform of an image.

    Parameters
    ----------
    shape
        (u, v) of the image. Along v it holds `halo` pixels more at either end than are wanted: they
        are lost to what the other end spreads into them.
    halo
        Pixels over which the transfer spreads a point.
    """
    along_u = max(filter_length(shape[0]), shape[0] + halo)
    return (
        int(scipy.fft.next_fast_len(along_u)),
        int(scipy.fft.next_fast_len(shape[1], real=True)),
    )


def weighted_planes(
    image: NDArray[np.float32],
    *,
    pixel_size: float,
    size: tuple[int, int],
    weights: NDArray[np.float32],
    transfer: Transfer,
    matrix: ArrayLike,
    defocus: Sequence[float],
    rows: Sequence[tuple[int, int]],
    correction: Correction,
    dose_weight: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the weighted rows of each plane.

    Parameters
    ----------
    image
        (u, v) float32, zero at its ends along u.
    pixel_size
        A.
    size
        (u, v) of the transform, from :func:`plane_size`.
    weights
        (size[0] // 2 + 1,) transfer function along u, from
        :func:`~tomodask.kernels.weighting.radial_weights`.
    transfer
        Of the raw image at the specimen's origin.
    matrix
        (2, 2): ``raw = matrix (u, v) + shift``.
    defocus
        What each plane adds to the transfer's, A.
    rows
        (first, stop) of each plane's rows, sampled OVERSAMPLING times per pixel.
    correction
        How the transfer is undone.
    dose_weight
        Function of the spatial frequency, 1/A.

    Yields
    ------
    (stop - first, v) float32, of the planes in turn.
    """
    spectrum = scipy.fft.rfft2(image, s=size, workers=1)
    phase = phase_polynomial(transfer, matrix)
    frequency = scipy.fft.fftfreq(size[0], pixel_size)
    step_v = 1 / (size[1] * pixel_size)
    factor = np.float32(OVERSAMPLING) * weights[np.abs(np.rint(frequency * size[0] * pixel_size)).astype(int)]
    spectrum *= factor[:, None]
    if dose_weight is not None:
        spectrum *= _dose_factor(dose_weight, phase.squared, frequency, step_v, spectrum.shape[1])
    targets = _finer_rows(size[0])
    if size[0] % 2 == 0:
        # The Nyquist term stands for two once the rows are finer.
        spectrum[size[0] // 2] *= np.float32(0.5)
    along_u = (targets[:, 1] + OVERSAMPLING * size[0] // 2) % (OVERSAMPLING * size[0])
    along_u = (along_u - OVERSAMPLING * size[0] // 2) / (size[0] * pixel_size)
    work = np.empty((OVERSAMPLING * size[0], spectrum.shape[1]), np.complex64)
    for added, (first, stop) in zip(defocus, rows, strict=True):
        if first == stop:
            yield np.empty((0, image.shape[1]), np.float32)
            continue
        work[size[0] // 2 + 1 : -(size[0] // 2)] = 0
        filter_spectrum(spectrum, targets, along_u, step_v, phase, added, correction, work)
        fine = scipy.fft.ifft(work, axis=0, workers=1, overwrite_x=True)
        yield scipy.fft.irfft(fine[first:stop], n=size[1], axis=1, workers=1)[:, : image.shape[1]]
        work = fine


def plane_bytes(shape: tuple[int, int], size: tuple[int, int]) -> int:
    """Return the bytes that :func:`weighted_planes` holds at most, beside its image."""
    half = size[1] // 2 + 1
    spectrum = 8 * size[0] * half
    work = OVERSAMPLING * spectrum
    rows = 4 * OVERSAMPLING * shape[0] * size[1]
    return spectrum + work + max(rows, 4 * size[0] * size[1])


def _finer_rows(size: int) -> NDArray[np.int64]:
    """Return (row of the transform, row of the finer one) of all that is not zero in the latter."""
    upper = np.arange(size // 2 + 1)
    lower = np.arange(size - size // 2, size)
    pairs = [np.stack([upper, upper], 1), np.stack([lower, lower + (OVERSAMPLING - 1) * size], 1)]
    return np.concatenate(pairs)


def _dose_factor(
    dose_weight: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    squared: tuple[float, float, float],
    frequency: NDArray[np.float64],
    step_v: float,
    columns: int,
) -> NDArray[np.float32]:
    """Return the dose weights (u, v), interpolated from a table."""
    u, v = frequency[:, None], (step_v * np.arange(columns))[None, :]
    length = np.sqrt(squared[0] * u**2 + squared[1] * u * v + squared[2] * v**2)
    table = np.linspace(0, length.max(), _SAMPLES)
    return np.interp(length, table, dose_weight(table)).astype(np.float32)


#: Samples of the dose weights from frequency 0 to the corner of the transform.
_SAMPLES = 4096
