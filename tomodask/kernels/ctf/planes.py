"""Weighted rows of one view, its contrast transfer undone for planes at several heights.

One forward transform serves all planes. Weighting and finer sampling along u take part in the pass
that corrects a plane, so that it costs this pass and one inverse transform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels.ctf.plane_filter import FilterRows, filter_spectrum, phase_polynomial
from tomodask.kernels.weighting import OVERSAMPLING, filter_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.ctf.correction import Correction
    from tomodask.kernels.ctf.transfer import Transfer

    Weight = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["plane_bytes", "plane_size", "weighted_planes"]

#: Samples of a weight from frequency 0 to the corner of the transform.
_SAMPLES = 4096


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
    dose_weight: Weight | None = None,
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
        What each plane adds to the transfer's, A, in equal steps: what lies between two planes is
        meant to be interpolated linearly.
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
    step_v = 1 / (size[1] * pixel_size)
    finer = OVERSAMPLING * size[0]
    filtered = _finer_rows(size[0], pixel_size, weights)
    if dose_weight is not None:
        frequency = scipy.fft.fftfreq(size[0], pixel_size)
        spectrum *= _by_length(dose_weight, phase.squared, frequency, step_v, spectrum.shape[1])
    spacing = abs(defocus[1] - defocus[0]) if len(defocus) > 1 else 0.0
    work = np.empty((finer, spectrum.shape[1]), np.complex64)
    for added, (first, stop) in zip(defocus, rows, strict=True):
        if first == stop:
            yield np.empty((0, image.shape[1]), np.float32)
            continue
        work[size[0] // 2 + 1 : finer - size[0] // 2] = 0
        filter_spectrum(
            spectrum,
            filtered,
            step_v,
            phase,
            defocus=added,
            spacing=spacing,
            correction=correction,
            out=work,
        )
        work = scipy.fft.ifft(work, axis=0, workers=1, overwrite_x=True)
        plane = scipy.fft.irfft(work[first:stop], n=size[1], axis=1, workers=1)
        yield plane[:, : image.shape[1]]


def plane_bytes(shape: tuple[int, int], size: tuple[int, int]) -> int:
    """Return the bytes that :func:`weighted_planes` holds at most, beside its image.

    Parameters
    ----------
    shape
        (u, v) of the image.
    size
        Of the transform.
    """
    spectrum = 8 * size[0] * (size[1] // 2 + 1)
    # The transform and its padded image; then the transform, its product, a plane of it, and the
    # one before, which the caller still holds.
    planes = OVERSAMPLING * (spectrum + 2 * 4 * shape[0] * size[1])
    return spectrum + max(4 * size[0] * size[1], planes)


def _finer_rows(size: int, pixel_size: float, weights: NDArray[np.float32]) -> FilterRows:
    """Return where the rows of a transform go in one that is sampled OVERSAMPLING times finer."""
    index = np.concatenate([np.arange(size // 2 + 1), np.arange(-(size // 2), 0)])
    weight = np.float32(OVERSAMPLING) * weights[np.abs(index)]
    if size % 2 == 0:
        # The Nyquist term stands for two once the rows are finer.
        weight[np.abs(index) == size // 2] *= np.float32(0.5)
    return FilterRows(
        source=index % size,
        target=index % (OVERSAMPLING * size),
        frequency=index / (size * pixel_size),
        weight=weight,
    )


def _by_length(
    weight: Weight,
    squared: tuple[float, float, float],
    frequency: NDArray[np.float64],
    step_v: float,
    columns: int,
) -> NDArray[np.float32]:
    """Return a weight that depends on the length of the raw frequency, over a transform (u, v)."""
    u, v = frequency[:, None], (step_v * np.arange(columns))[None, :]
    length = np.sqrt(squared[0] * u**2 + squared[1] * u * v + squared[2] * v**2)
    table = np.linspace(0, length.max(), _SAMPLES)
    return np.interp(length, table, weight(table)).astype(np.float32)
