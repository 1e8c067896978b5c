r"""Weights of the projections: the filter along u of weighted back-projection.

In the continuum a slice is :math:`\int d\theta \int |k| P_\theta(k) e^{2 \pi i k u} dk`. Here
the integral over angles is a sum with weights and :math:`|k|` a discrete ramp, so that the
tomogram is in units of the images per A: a density whose line integral is the image.

References
----------
.. [1] Kak, A. C. and Slaney, M., Principles of Computerized Tomographic Imaging, 1988, chapter 3,
   doi:10.1137/1.9780898719277 (the discrete ramp).
.. [2] Harauz, G. and van Heel, M., Optik 73 (1986) 146 (the exact filter).
.. [3] Gilbert, P., J. Theor. Biol. 36 (1972) 105, doi:10.1016/0022-5193(72)90180-4 (SIRT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.fft

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "OVERSAMPLING",
    "RowFilter",
    "angular_weights",
    "filter_length",
    "filter_rows",
    "radial_weights",
]

#: Samples of a filtered projection per pixel. Finer rows, which the inverse transform yields for
#: free by zero padding, make the linear interpolation of the back-projection nearly exact.
OVERSAMPLING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Which filter is applied to the rows of the projections.

    Parameters
    ----------
    kind
        "ramp": :math:`|k|`, each view weighted by the angle it stands for; "exact": the filter of
        Harauz and van Heel, which sums the overlap of all views' central slabs and so weights
        uneven tilts exactly; "none": plain back-projection.
    cutoff, falloff
        Where the low-pass begins, and the standard deviation of its Gaussian fall-off, in cycles
        per pixel (IMOD's RADIAL; its defaults).
    sirt_like
        Number N of SIRT iterations whose result the ramp filter is shaped to resemble; 0 for a
        plain ramp.
    """

    kind: Literal["ramp", "exact", "none"] = "ramp"
    cutoff: float = 0.35
    falloff: float = 0.035
    sirt_like: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("ramp", "exact", "none"):
            raise ParameterError(f"filter {self.kind!r}: give 'ramp', 'exact' or 'none'")
        if not 0 < self.cutoff <= 0.5 or not 0 <= self.falloff <= 0.5:
            raise ParameterError(
                f"radial filter {self.cutoff}, {self.falloff}: give a cutoff in (0, 0.5] and a "
                "fall-off in [0, 0.5], in cycles per pixel"
            )
        if self.sirt_like < 0 or (self.sirt_like and self.kind != "ramp"):
            raise ParameterError(
                f"sirt-like filter of {self.sirt_like} iterations with filter {self.kind!r}: "
                "give a number >= 0, and the ramp filter"
            )


def filter_length(size: int) -> int:
    """Return the length to which rows of `size` are zero-padded for filtering.

    A quarter of a row of padding: the ramp's kernel falls with the square of the distance, so
    that all of it beyond, which wraps around, sums to 1 / (2 pi^2 size / 4) of a row's mean:
    2e-4 for 1024 pixels.
    """
    return int(scipy.fft.next_fast_len(size + size // 4 + 1, real=True))


def angular_weights(tilt_angle: ArrayLike) -> NDArray[np.float64]:
    """Return the angle, in radians, that each view stands for.

    Half the distance to the neighbours on both sides; the outermost views count one full
    interval. Views of one angle share its weight. One view alone gets 1 degree.

    Parameters
    ----------
    tilt_angle
        (tilt,) degrees, in any order.

    Returns
    -------
    (tilt,) float64, radians.
    """
    angles = np.deg2rad(np.asarray(tilt_angle, np.float64))
    distinct, inverse, count = np.unique(angles, return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        return np.full(len(angles), np.deg2rad(1.0) / len(angles))
    gaps = np.diff(distinct)
    half = np.concatenate([gaps[:1], gaps, gaps[-1:]]) / 2
    weights: NDArray[np.float64] = ((half[:-1] + half[1:]) / count)[inverse]
    return weights


def radial_weights(
    row_filter: RowFilter,
    tilt_angle: ArrayLike,
    *,
    length: int,
    spacing: float,
    thickness: float,
    view_weights: ArrayLike = 1.0,
) -> NDArray[np.float32]:
    """Return the transfer function of each view's rows.

    Parameters
    ----------
    row_filter
        Kind and roll-off.
    tilt_angle
        (tilt,) degrees.
    length
        Padded row length, pixels, from :func:`filter_length`.
    spacing
        Pixel size, A.
    thickness
        Height of the volume, A: the extent of the specimen for the exact and SIRT-like filters.
    view_weights
        (tilt,) extra weight of each view.

    Returns
    -------
    (tilt, length // 2 + 1) float32, in 1/A (ramp and exact) or dimensionless (none).

    Notes
    -----
    The transform of a specimen of thickness T turns each view's line into a slab of width 1/T; the
    exact filter divides by how many slabs overlap at a frequency, each with the triangle
    ``1 - T k |sin(difference of angles)|``, whose integral over angles is that of the sinc it
    stands for, without the sinc's ripples. For even tilts this is the ramp.

    SIRT with row and column sums as normalisation multiplies, in each iteration, the error at
    frequency k by ``1 - 1 / (Theta T k)``, Theta the tilt range in radians and T the thickness,
    where this is below one; after N iterations the ramp is therefore multiplied by
    ``1 - (1 - min(1, 1 / (Theta T k)))^N``.
    """
    angles = np.deg2rad(np.asarray(tilt_angle, np.float64))
    frequency = np.arange(length // 2 + 1) / length
    weight = angular_weights(tilt_angle)
    if row_filter.kind == "none":
        shape = np.ones((len(angles), len(frequency)))
        shape *= (weight / weight.sum())[:, None]
    elif row_filter.kind == "exact":
        sines = np.abs(np.sin(angles[:, None] - angles[None, :]))
        reach = thickness / spacing * frequency
        overlap = np.empty((len(angles), len(frequency)))
        for t, row in enumerate(sines):
            overlap[t] = np.clip(1 - reach[None, :] * row[:, None], 0, 1).sum(axis=0)
        shape = 1 / (thickness * overlap)
    else:
        shape = weight[:, None] * _discrete_ramp(length)[None, :] / spacing
        if row_filter.sirt_like:
            covered = weight.sum() * thickness / spacing
            with np.errstate(divide="ignore"):
                rate = np.minimum(1.0, 1.0 / (covered * frequency))
            shape *= 1 - (1 - rate) ** row_filter.sirt_like
    shape *= _roll_off(frequency, row_filter) / np.sinc(frequency / OVERSAMPLING) ** 2
    shape *= np.broadcast_to(np.asarray(view_weights, np.float64), angles.shape)[:, None]
    return shape.astype(np.float32)


def filter_rows(
    rows: NDArray[np.float32],
    transfer: NDArray[np.float32],
    length: int,
    out: NDArray[np.float32],
) -> None:
    """Filter the rows of one view and sample them OVERSAMPLING times finer.

    Parameters
    ----------
    rows
        (u, lane) float32.
    transfer
        (length // 2 + 1,) from :func:`radial_weights`.
    length
        Padded length, pixels.
    out
        (OVERSAMPLING u, lane) float32, written: sample j lies at pixel ``j / OVERSAMPLING``.
    """
    spectrum = scipy.fft.rfft(rows, n=length, axis=0, workers=1)
    # Real and imaginary parts as floats: NumPy would first make the real factor complex.
    parts = spectrum.view(np.float32).reshape(*spectrum.shape, 2)
    parts *= (OVERSAMPLING * transfer)[:, None, None]
    if OVERSAMPLING > 1 and length % 2 == 0:
        spectrum[-1] *= 0.5  # the Nyquist term stands for two once the row is finer
    fine = scipy.fft.irfft(spectrum, n=OVERSAMPLING * length, axis=0, workers=1, overwrite_x=True)
    out[...] = fine[: out.shape[0]]


def _discrete_ramp(length: int) -> NDArray[np.float64]:
    """Return the spectrum of the band-limited ramp's samples, cycles per pixel.

    Sampling |k| itself would set the mean of each row to zero; the transform of the sampled
    kernel does not, and keeps the scale of large objects.
    """
    kernel = np.zeros(length)
    kernel[0] = 0.25
    distance = np.minimum(np.arange(length), length - np.arange(length))
    odd = distance % 2 == 1
    kernel[odd] = -1 / (np.pi * distance[odd]) ** 2
    ramp: NDArray[np.float64] = np.fft.rfft(kernel).real
    return ramp


def _roll_off(frequency: NDArray[np.float64], row_filter: RowFilter) -> NDArray[np.float64]:
    beyond = np.maximum(frequency - row_filter.cutoff, 0)
    roll: NDArray[np.float64]
    if row_filter.falloff == 0:
        roll = (beyond == 0).astype(np.float64)
    else:
        roll = np.exp(-0.5 * (beyond / row_filter.falloff) ** 2)
    return roll
