r"""The direction of the tilt axis, from the images alone.

Two things tell a tilt axis. Views stretched across it to a common tilt agree; and the profile
along it, the sum over all lines that cross it at right angles, is the same in every view, however
thick the specimen is: the common line of all views. Stretching fails for thick isolated bodies,
whose outline does not shrink with the tilt; the common line fails in views of little contrast,
where it is made of few frequencies. So three log-likelihoods are added: of the profiles; of pairs
of views far apart in tilt; and of the neighbours' correlations, each up to a limit beyond which it
is certain, so that these decide where the contrast is low and nowhere else.

For a frequency where two views have the values a and b, an unknown common power and an expected
coherence c, the likelihood ratio against independence is ``(1 - c^2) / (1 - c rho)^2`` with
``rho = 2 Re(a b*) / (|a|^2 + |b|^2)``: free of scale, so that a few strong frequencies do not
decide. For n views with a common value at a frequency, it is ``(1 - lambda)^-(n - 1)`` with lambda
the power of their mean over their mean power.

An axis and the one turned by 180 degrees fit equally: they give specimens of opposite hand.

References
----------
.. [1] Liu, Y., Penczek, P. A., McEwen, B. F. and Frank, J., A marker-free alignment method for
   electron tomography, Ultramicroscopy 58 (1995) 393, doi:10.1016/0304-3991(95)00006-M (common
   lines and the tilt axis).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels.coarse_shifts import CoarseShifts
from tomodask.kernels.correlate import Plane, coherence_weight, find_peak

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.resample import SplineImage

    FloatArray = NDArray[np.float64]

__all__ = ["axis_likelihood", "search_tilt_axis"]

#: The longer edge on which the axis is searched, pixels.
_EDGE = 160
#: Aligned views that each view is correlated with.
_REFERENCES = 4
#: Step over the half circle, and then half-widths and steps around the best, degrees.
_STEP = 12.0
_REFINEMENTS = ((8.0, 2.0), (3.0, 1.0))
#: Pairs of views that are compared: this far apart in tilt, to a quarter of it, degrees. Closer
#: pairs tell little of the axis and much of how the specimen differs from a thin plane.
_SEPARATIONS = (24.0, 48.0)
#: What one view's correlation with its neighbours adds at most: beyond doubt, a higher peak says
#: no more of the axis.
_EVIDENCE_LIMIT = 50.0
#: How far the displacement of a pair, or of a profile, may differ from the alignment's, as a
#: fraction of the edge: a trial axis moves them.
_REACH = 0.06
#: Frequencies of the profiles that count, in cycles per edge and in cycles per pixel.
_LOWEST, _HIGHEST = 2, 0.25
#: Largest coherence, and power of the mean, that are believed.
_COHERENCE_LIMIT = 0.9
_ITERATIONS = 6


def search_tilt_axis(
    plane: Plane,
    prepared: Mapping[int, SplineImage],
    angles: FloatArray,
    views: Sequence[int],
    thickness: float,
) -> float:
    """Return the tilt-axis angle of a series.

    Parameters
    ----------
    plane, prepared, angles, views, thickness
        See :class:`~tomodask.kernels.coarse_shifts.CoarseShifts`.

    Returns
    -------
    float
        Degrees, counter-clockwise from +y, in (-90, 90].
    """
    small = Plane.create(plane.shape, plane.pixel_size, _EDGE)
    here = (np.eye(2), np.zeros(2))
    binned = {view: small.view(plane.image(prepared[view], *here)) for view in views}

    def aligned(axis: float, passes: int) -> CoarseShifts:
        series = CoarseShifts(small, binned, angles, views, axis, thickness)
        series.align(_REFERENCES, passes=passes)
        return series

    candidates = np.arange(-90.0, 90.0, _STEP)
    best = max(candidates, key=lambda axis: axis_likelihood(aligned(axis, 0), axis))
    for width, step in _REFINEMENTS:
        series = aligned(best, 1)
        trials = best + np.arange(-width, width + step / 2, step)
        likelihood = np.array([axis_likelihood(series, axis) for axis in trials])
        best = _summit(trials, likelihood)
    return float(90 - (90 - best) % 180)


def axis_likelihood(series: CoarseShifts, axis: float) -> float:
    """Return the log-likelihood ratio of a tilt axis for a series aligned with one nearby."""
    evidence = series.evidence_of(axis, _REFERENCES)
    return (
        float(np.clip(evidence, 0, _EVIDENCE_LIMIT).sum())
        + _stretch_likelihood(series, axis)
        + _line_likelihood(_profiles(series, axis))
    )


def _stretch_likelihood(series: CoarseShifts, axis: float) -> float:
    """Return the log-likelihood ratio of the pairs of views, stretched across an axis."""
    plane = series.plane
    coherence = series.coherence.astype(np.float32)[plane.ring]
    reach = _REACH * max(plane.shape)
    total = 0.0
    for separation in _SEPARATIONS:
        for low, high in _pairs(series, separation):
            expected = coherence * series.depth(low, high, axis)
            expected = np.clip(expected, -_COHERENCE_LIMIT, _COHERENCE_LIMIT)
            a, b = series.spectra[high], plane.whitened(series.mapped(low, high, axis))
            product = a * b.conj()
            peak = find_peak(
                plane.correlation(product * coherence_weight(expected)),
                drift=reach,
                limit=(reach, reach),
            )
            dx, dy = peak.displacement
            product *= np.exp(2j * np.pi * (plane.fx * dx + plane.fy * dy)).astype(np.complex64)
            power = a.real**2 + a.imag**2 + b.real**2 + b.imag**2
            rho = 2 * product.real / np.maximum(power, np.finfo(np.float32).tiny)
            total += float(np.sum(np.log1p(-(expected**2)) - 2 * np.log1p(-expected * rho)))
    return total


def _pairs(series: CoarseShifts, separation: float) -> list[tuple[int, int]]:
    """Return pairs of found views about so far apart in tilt, the lower tilt first."""
    found = np.flatnonzero(series.found)
    angles = series.angles[found]
    pairs = []
    for view in found:
        partner = int(np.argmin(np.abs(angles - series.angles[view] - separation)))
        if abs(angles[partner] - series.angles[view] - separation) <= separation / 4:
            pair = (int(view), int(found[partner]))
            low, high = sorted(pair, key=lambda v: abs(series.angles[v]))
            pairs.append((low, high))
    return pairs


def _profiles(series: CoarseShifts, axis: float) -> FloatArray:
    """Return the (view, v) profiles along an axis.

    A view of tilt t is summed over a width that falls with cos t, so that all sum over the same
    part of the specimen.
    """
    plane = series.plane
    size = min(plane.shape)
    middle = tuple(slice((n - size) // 2, (n - size) // 2 + size) for n in plane.shape)
    from_end = np.minimum(np.arange(size), np.arange(size)[::-1]) / (0.3 * size)
    taper = 0.5 - 0.5 * np.cos(np.pi * np.clip(from_end, 0, 1))
    angle = np.deg2rad(axis)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    profiles = []
    for view in map(int, np.flatnonzero(series.found)):
        scale = np.cos(np.deg2rad(series.angles[view]))
        image = plane.image(series.prepared[view], turn @ np.diag([scale, 1.0]), series.shift[view])
        profiles.append(scale * image[middle].sum(axis=1) * taper)
    return np.array(profiles)


def _line_likelihood(profiles: FloatArray) -> float:
    """Return the log-likelihood ratio that profiles are shifted copies of one.

    Parameters
    ----------
    profiles
        (view, v).
    """
    count, size = profiles.shape
    spectra = scipy.fft.rfft(profiles, 2 * size, axis=1)
    frequency = np.arange(spectra.shape[1]) / (2 * size)
    kept = (frequency >= _LOWEST / size) & (frequency <= _HIGHEST)
    spectra, frequency = spectra[:, kept], frequency[kept]
    spectra /= np.sqrt(_smooth((np.abs(spectra) ** 2).mean(axis=0)))
    spectra /= np.sqrt((np.abs(spectra) ** 2).mean(axis=1, keepdims=True))
    power = count * (np.abs(spectra) ** 2).sum(axis=0)

    trials = np.arange(-_REACH * size, _REACH * size, 0.25)
    waves = np.exp(2j * np.pi * np.outer(trials, frequency))
    moved = spectra.copy()
    choice = np.full(count, -1)
    for _ in range(_ITERATIONS):
        before = choice.copy()
        total = moved.sum(axis=0)
        share = _smooth(np.abs(total) ** 2) / _smooth(power)
        share = np.clip((share * count - 1) / (count - 1), 1e-6, _COHERENCE_LIMIT)
        weight = share / (1 - share)
        for view in range(count):
            others = total - moved[view]
            choice[view] = np.argmax((waves @ (spectra[view] * others.conj() * weight)).real)
            moved[view] = spectra[view] * waves[choice[view]]
            total = others + moved[view]
        if np.array_equal(choice, before):
            break
    share = np.abs(moved.sum(axis=0)) ** 2 / power
    # Rows are padded to twice their length, so that half of the frequencies are independent.
    return float(-(count - 1) * np.log1p(-np.minimum(share, 1 - 1e-6)).sum() / 2)


def _smooth(values: FloatArray) -> FloatArray:
    """Return the running mean over nine samples."""
    padded = np.pad(values, 4, mode="edge")
    smooth: FloatArray = np.convolve(padded, np.full(9, 1 / 9), "valid")
    return smooth


def _summit(at: FloatArray, values: FloatArray) -> float:
    """Return where the parabola through the highest value and those around it has its summit."""
    top = int(np.argmax(values))
    near = slice(max(0, top - 2), top + 3)
    bend, slope, _ = np.polyfit(at[near] - at[top], values[near], 2)
    reach = at[1] - at[0]
    return float(at[top] + (np.clip(-slope / (2 * bend), -reach, reach) if bend < 0 else 0.0))
