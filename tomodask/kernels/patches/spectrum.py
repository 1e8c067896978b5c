"""How strong the specimen and the noise are at each frequency, from views that are nearly aligned.

Neighbouring views share the specimen and not the noise. Their cross-spectrum, but for what the
specimen's thickness takes from it, is the specimen's power; the rest of their power is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.views import Frame, Geometry, Views

    FloatArray = NDArray[np.float64]

__all__ = ["Spectrum", "measure_spectrum"]

#: Rings over which spectra are averaged.
_RINGS = 5
#: Coherences above this count as this.
_LIMIT = 0.97
#: Where only noise is left, as fractions of the sampling frequency.
_NOISE = (0.35, 0.5)
#: What varies over more than this fraction of the longer edge is illumination, not specimen.
_HIGH_PASS = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class Spectrum:
    """Powers by ring, and by view.

    Parameters
    ----------
    signal_to_noise
        (ring,) of a view of ordinary noise.
    noise
        (ring,) power of the noise, per pixel.
    scale
        (view,) of the noise relative to an ordinary view.
    significance
        (view,) how many standard errors the better of a view's correlations with its neighbours
        in tilt stands above chance.
    """

    signal_to_noise: FloatArray
    noise: FloatArray
    scale: FloatArray
    significance: FloatArray


def measure_spectrum(
    views: Views,
    frame: Frame,
    geometry: Geometry,
    chosen: NDArray[np.int64],
    thickness: float,
    reach: FloatArray,
) -> Spectrum:
    """Measure the powers on neighbouring views.

    Parameters
    ----------
    views, frame, geometry
        The series.
    chosen
        The views that are used, int64.
    thickness
        Of the specimen, A.
    reach
        (view,) see :meth:`Views.weight`.
    """
    ring = frame.ring.ravel()
    count = np.bincount(ring)

    def sums(values: NDArray[np.float32]) -> FloatArray:
        return np.bincount(ring, values.ravel()).astype(np.float64)

    def smooth(values: FloatArray) -> FloatArray:
        return np.convolve(values, np.ones(_RINGS), "same")

    weights = np.stack(
        [views.weight(v, frame, geometry, r) for v, r in zip(chosen, reach, strict=True)]
    )
    spectra = frame.spectra(np.stack([views.sampled(v, frame, geometry) for v in chosen]) * weights)
    area = np.maximum((weights**2).mean(axis=(1, 2)), 1e-3)
    power = np.stack([sums(np.abs(s) ** 2) / a for s, a in zip(spectra, area, strict=True)])
    high = slice(int(_NOISE[0] * frame.longest), int(_NOISE[1] * frame.longest))
    level = power[:, high].sum(axis=1) / count[high].sum()
    scale = level / np.median(level)

    cycles = np.arange(len(count)) * _HIGH_PASS
    high_pass = 1 - np.exp(-0.5 * cycles**2)
    total = smooth((power / scale[:, None]).mean(axis=0)) / smooth(count.astype(np.float64))
    common, known = np.zeros(len(count)), np.zeros(len(count))
    products: list[tuple[int, int, FloatArray, FloatArray]] = []
    order = np.argsort(geometry.tilt[chosen], kind="stable")
    for first, second in pairwise(order):
        # The lower tilt is stretched to the higher one, which shrinks it.
        high_view, low_view = sorted(
            (int(first), int(second)), key=lambda k: -abs(geometry.tilt[chosen[k]])
        )
        onto, tilt = geometry.tilt[chosen[high_view]], geometry.tilt[chosen[low_view]]
        other = views.sampled(chosen[low_view], frame, geometry, onto) * weights[high_view]
        spread = thickness / frame.pixel_size * np.cos(onto) * (np.tan(onto) - np.tan(tilt))
        depth = np.sinc(frame.fu * np.float32(spread)) * np.ones_like(frame.fv)
        product = (spectra[high_view] * frame.spectra(other).conj()).real * depth
        weight = 1 / np.sqrt(scale[high_view] * scale[low_view]) / area[high_view]
        shared, squares = sums(product) * weight, sums(depth**2)
        products.append((high_view, low_view, shared, squares))
        common += shared
        known += squares
    known = np.maximum(smooth(known), 1)
    signal = smooth(common) / known
    signal = np.where(signal > 2 * total / np.sqrt(known), signal, 0.0)
    coherence = np.clip(signal / np.maximum(total, 1e-30), 0, _LIMIT)

    significance = np.zeros(len(chosen))
    ordinary = np.maximum(total, 1e-30)
    weight_of = coherence * high_pass / ordinary
    for a, b, shared, squares in products:
        chance = np.sqrt(np.sum(weight_of**2 * squares * ordinary**2 / 2))
        value = float(np.sum(weight_of * shared) / chance) if chance > 0 else 0.0
        significance[[a, b]] = np.maximum(significance[[a, b]], value)
    return Spectrum(
        signal_to_noise=coherence / (1 - coherence) * high_pass,
        noise=np.maximum(total * (1 - coherence) / np.prod(frame.shape), 1e-30),
        scale=scale,
        significance=significance,
    )
