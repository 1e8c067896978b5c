"""Local motion from the patches of a movie's frames.

The frames, aligned as wholes and cropped in Fourier space, are cut into overlapping patches, whose
transforms give the same likelihood as whole frames do (:mod:`tomodask.kernels.motion`). All
patches together decide on one smooth field (:mod:`tomodask.kernels.field_prior`), about which they
are looked at again. As the field sharpens the sum, higher frequencies turn out to carry signal,
so that few rounds suffice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels.aligned_frames import align
from tomodask.kernels.field_prior import FieldPriors
from tomodask.kernels.frame_spectra import FrameSpectra
from tomodask.kernels.motion_field import MotionField
from tomodask.kernels.resample import edge_taper
from tomodask.kernels.ring_powers import RingPowers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["estimate_field"]

#: A patch is wider than the distance between patches by this factor; the excess is tapered.
_OVERLAP = 1.25
_ROUNDS = 8
_TOLERANCE = 0.01
#: Log-odds that a field needs.
_CLEAR = 2.0


@dataclass(frozen=True, eq=False, slots=True)
class _Patches:
    """Transforms of all patches, and their (patch, 2) centres, pixel indices of the frames."""

    spectra: list[FrameSpectra]
    centres: FloatArray


def estimate_field(
    spectra: FrameSpectra, shift: FloatArray, patches: tuple[int, int], shape: tuple[int, int]
) -> MotionField | None:
    """Return the field on top of shifts, or None where no local motion is to be seen.

    Parameters
    ----------
    spectra
        Of the frames.
    shift
        (frame, 2) of whole frames, pixels.
    patches
        Number of patches along (y, x).
    shape
        (y, x) pixels of a frame.
    """
    cut = _cut(spectra, shift, patches, shape)
    first = cut.spectra[0]
    count = len(cut.spectra)
    knots = (min(len(spectra), 4) + 2, patches[0] + 2, patches[1] + 2)
    knots = (max(4, knots[0]), max(4, knots[1]), max(4, knots[2]))
    priors = FieldPriors(spectra.exposure, cut.centres, shape, knots)
    none = np.zeros((count, len(spectra), 2))
    blind = np.zeros(first.rings, np.float32)
    own = np.array([_own(patch) for patch in cut.spectra])
    still = np.array([align(patch, none[0], blind)[0] for patch in cut.spectra])
    at, total, freedom, field = none, still, 0.0, None
    for _ in range(_ROUNDS):
        mean = _measured(first, own, total).less_fitted(first, freedom / count)
        powers = [mean.scaled(part) for part in _amplitude(first, mean, own, total)]
        seen = [
            align(patch, here, power.weight)
            for patch, here, power in zip(cut.spectra, at, powers, strict=True)
        ]
        total = np.array([power for power, _ in seen])
        gradient = np.array([slope for _, slope in seen])
        gain = float(np.sum((total - still) * np.array([power.weight for power in powers])))
        information = np.array([power.information(first) for power in powers])
        field = priors.posterior(at, gradient, information, gain)
        change = float(np.abs(field.at_patches - at).max())
        at, freedom = field.at_patches, field.freedom
        if change < _TOLERANCE:
            break
    if field is None or min(field.odds, gain) < _CLEAR:
        return None
    return MotionField(field.coefficients, len(spectra), shape)


def _own(patch: FrameSpectra) -> FloatArray:
    """Return the (ring,) sum of the frames' powers."""
    return patch.ring_sums((patch.real**2 + patch.imaginary**2).sum(axis=0))


def _measured(first: FrameSpectra, own: FloatArray, total: FloatArray) -> RingPowers:
    """Return the mean powers of the patches."""
    g = first.exposure
    cross = (total - own).mean(axis=0) / (g.sum() ** 2 - (g**2).sum())
    pairs = len(own) * len(g) * (len(g) - 1) / 2
    return RingPowers.measured(first, own.mean(axis=0), cross, pairs)


def _amplitude(
    first: FrameSpectra, powers: RingPowers, own: FloatArray, total: FloatArray
) -> FloatArray:
    """Return each patch's (patch,) signal power, relative to the mean of all.

    It is that of the coherence found, less what chance makes of it.
    """
    g = first.exposure
    pairs = g.sum() ** 2 - (g**2).sum()
    expected = float(np.sum(powers.gain * first.members)) * pairs
    if expected <= 0:
        return np.zeros(len(own))
    found = (total - own) @ powers.weight / expected
    # The variance of W |S|^2 where there is little but noise.
    error = np.sqrt(2 * float(np.sum(powers.weight**2 * powers.noise**2 * first.members)) * pairs)
    relative = error / expected
    shrunk = (found + relative**2) / (1 + relative**2)
    amplitude: FloatArray = np.maximum(shrunk, 0)
    return amplitude


def _cut(
    spectra: FrameSpectra, shift: FloatArray, patches: tuple[int, int], shape: tuple[int, int]
) -> _Patches:
    """Cut aligned frames into patches."""
    cropped = np.array(spectra.cropped)
    step = np.array(spectra.shape) / cropped
    sizes = [
        min(int(n), int(scipy.fft.next_fast_len(int(_OVERLAP * n / p), real=True)))
        for n, p in zip(cropped, patches, strict=True)
    ]
    starts = [
        np.rint(np.linspace(0, n - size, p) if p > 1 else np.array([(n - size) / 2])).astype(int)
        for n, size, p in zip(cropped, sizes, patches, strict=True)
    ]
    rise = [edge_taper(size, max(1, int(size * (1 - 1 / _OVERLAP)))) for size in sizes]
    window = rise[0][:, None] * rise[1]
    independent = np.prod([np.mean(w**2) ** 2 / np.mean(w**4) for w in rise])
    columns = sizes[1] // 2 + 1
    weight = np.full(columns, independent, np.float32)
    weight[0] /= 2
    lengths = np.array(sizes) * step
    fy = scipy.fft.fftfreq(sizes[0], step[0]).astype(np.float32)
    fx = scipy.fft.rfftfreq(sizes[1], step[1]).astype(np.float32)
    ring = np.rint(np.hypot(fy[:, None], fx) * lengths.max()).astype(np.int32)
    corners = [(y, x) for y in starts[0] for x in starts[1]]
    count = len(spectra)
    real = np.empty((len(corners), count, sizes[0], columns), np.float32)
    imaginary = np.empty_like(real)
    y_phase, x_phase = spectra.phases(shift)
    for i in range(count):
        transform = (spectra.real[i] + 1j * spectra.imaginary[i]) * x_phase[i]
        transform *= y_phase[i][:, None]
        image = scipy.fft.irfft2(transform, s=spectra.cropped, workers=1, overwrite_x=True)
        for p, (y, x) in enumerate(corners):
            part = image[y : y + sizes[0], x : x + sizes[1]] * window
            small = scipy.fft.rfft2(part, workers=1, overwrite_x=True)
            real[p, i], imaginary[p, i] = small.real, small.imag
    offset = (np.array(shape) - spectra.shape) // 2
    middle = (np.array(corners) + (np.array(sizes) - 1) / 2) * step + offset
    return _Patches(
        spectra=[
            FrameSpectra(
                real=real[p],
                imaginary=imaginary[p],
                shape=(float(lengths[0]), float(lengths[1])),
                cropped=(sizes[0], sizes[1]),
                fy=fy,
                fx=fx,
                ring=ring,
                weight=weight,
                exposure=spectra.exposure,
            )
            for p in range(len(corners))
        ],
        centres=middle,
    )
