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

Aligning the series for every trial would be slow. The common line needs no alignment: the values
of two views along one direction of Fourier space differ by a phase ramp alone, which a correlation
of the lines finds, and only the few directions whose lines agree best are aligned and compared.

An axis and the one turned by 180 degrees fit equally: they give specimens of opposite hand.

References
----------
.. [1] Liu, Y., Penczek, P. A., McEwen, B. F. and Frank, J., A marker-free alignment method for
   electron tomography, Ultramicroscopy 58 (1995) 393, doi:10.1016/0304-3991(95)00006-M (common
   lines and the tilt axis).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from scipy import ndimage

from tomodask.kernels.coarse_shifts import CoarseShifts
from tomodask.kernels.correlate import Plane, coherence_weight, find_peak

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.resample import SplineImage

    FloatArray = NDArray[np.float64]

__all__ = ["TiltAxis", "axis_likelihood", "line_agreement", "search_tilt_axis"]

#: The longer edge on which the axis is searched, pixels.
_EDGE = 160
#: Aligned views that each view is correlated with.
_REFERENCES = 4
#: Step of the common lines, and then half-widths and steps around the best, degrees.
_STEP = 2.0
_REFINEMENTS = ((6.0, 2.0), (2.0, 1.0))
#: Candidates that are aligned, and how far apart they lie at least, degrees.
_CANDIDATES, _APART = 4, 10.0
#: Pairs of views whose lines are compared: so far apart in tilt, degrees. Nearer ones agree along
#: every direction.
_LINE_PAIRS = (9.0, 40.0)
#: Displacements of lines that are tried, as a fraction of the edge, and the frequency up to which
#: they count, cycles per pixel.
_LINE_REACH, _LINE_CUTOFF = 0.5, 0.12
#: Least error that is claimed, degrees: how far found axes of simulated series scatter, whose
#: likelihoods are far narrower because specimens are no thin planes.
_LEAST_ERROR = 0.7
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


@dataclass(frozen=True, slots=True)
class TiltAxis:
    """A tilt axis that was searched for.

    Parameters
    ----------
    angle
        Degrees, counter-clockwise from +y.
    error
        Degrees: the standard error by the curvature of the likelihood, and not less than found
        axes scatter by. It holds only where the right maximum was found.
    margin
        Log-likelihood by which it exceeds the best candidate elsewhere; infinite without another.
    """

    angle: float
    error: float
    margin: float


def search_tilt_axis(
    plane: Plane,
    prepared: Mapping[int, SplineImage],
    angles: FloatArray,
    views: Sequence[int],
    thickness: float,
    *,
    near: float | None = None,
    reach: float = 90.0,
) -> TiltAxis:
    """Return the tilt axis of a series.

    Parameters
    ----------
    plane, prepared, angles, views, thickness
        See :class:`~tomodask.kernels.coarse_shifts.CoarseShifts`.
    near, reach
        Search so far on either side of this angle, modulo 180 degrees; everywhere by default.

    Returns
    -------
    TiltAxis
        Its angle within 90 degrees of `near`; in (-90, 90] without it.
    """
    small = Plane.create(plane.shape, plane.pixel_size, _EDGE)
    here = (np.eye(2), np.zeros(2))
    binned = {view: small.view(plane.image(prepared[view], *here)) for view in views}

    def aligned(axis: float, passes: int) -> CoarseShifts:
        series = CoarseShifts(small, binned, angles, views, axis, thickness)
        series.align(_REFERENCES, passes=passes)
        return series

    middle = 0.0 if near is None else near
    count = max(2, round(2 * reach / _STEP))
    steps = np.arange(count + (reach < 90), dtype=np.float64)
    trials: FloatArray = middle - reach + 2 * reach / count * steps
    agreement = line_agreement(small, binned, angles, views, trials)
    candidates = _separate_maxima(trials, agreement)
    likelihoods = [axis_likelihood(aligned(axis, 0), axis) for axis in candidates]
    rank = np.argsort(likelihoods)[::-1]
    margin = likelihoods[rank[0]] - likelihoods[rank[1]] if len(rank) > 1 else np.inf
    best, error = candidates[rank[0]], np.inf
    for width, step in _REFINEMENTS:
        series = aligned(best, 1)
        near_trials = best + np.arange(-width, width + step / 2, step)
        values = np.array([axis_likelihood(series, axis) for axis in near_trials])
        best, error = _summit(near_trials, values)
    if near is None:
        best = 90 - (90 - best) % 180
    else:
        best = float(np.clip(best, near - reach, near + reach))
    return TiltAxis(float(best), max(error, _LEAST_ERROR), float(margin))


def line_agreement(
    plane: Plane,
    prepared: Mapping[int, SplineImage],
    angles: FloatArray,
    views: Sequence[int],
    axes: FloatArray,
) -> FloatArray:
    """Return how well the Fourier lines along each trial axis agree among the views.

    Parameters
    ----------
    plane, prepared, angles, views
        See :class:`~tomodask.kernels.coarse_shifts.CoarseShifts`; the shifts need not be known.
    axes
        (trial,) degrees.

    Returns
    -------
    (trial,) mean over pairs of views of the highest correlation of their lines, in standard
    deviations of what it is without relation.
    """
    order = sorted(views, key=lambda v: (angles[v], v))
    at = angles[order]
    first, second = np.nonzero(
        (at - at[:, None] >= _LINE_PAIRS[0]) & (at - at[:, None] <= _LINE_PAIRS[1])
    )
    if not len(first):
        first, second = np.triu_indices(len(order), 1)
    size = 2 * min(plane.shape)
    frequency = np.arange(_LOWEST * 2, int(_HIGHEST * size)) / size
    angle = np.deg2rad(np.asarray(axes, np.float64))
    along = np.stack([np.cos(angle), -np.sin(angle)])  # (y, x) of the axis' direction
    lines = np.empty((len(order), len(axes), len(frequency)), np.complex64)
    for rank, view in enumerate(order):
        image = plane.image(prepared[view], np.eye(2), np.zeros(2))
        spectrum = scipy.fft.fft2(image, s=(size, size), workers=1)
        # About the image's middle, so that neighbouring samples have about the same phase.
        for axis, n in enumerate(image.shape):
            ramp = np.exp(1j * np.pi * (n - 1) * scipy.fft.fftfreq(size)).astype(np.complex64)
            spectrum *= ramp[:, None] if axis == 0 else ramp
        places = (along[:, :, None] * frequency * size) % size
        lines[rank] = ndimage.map_coordinates(spectrum, places, order=1, mode="grid-wrap")
    lines /= np.maximum(np.abs(lines), np.finfo(np.float32).tiny)
    trials = np.arange(-_LINE_REACH * size / 2, _LINE_REACH * size / 2)
    waves = np.exp(2j * np.pi * np.outer(frequency, trials)).astype(np.complex64)
    taper = np.exp(-((frequency / _LINE_CUTOFF) ** 2)).astype(np.float32)
    scale = np.sqrt(np.sum(taper**2) / 2)
    agreement = np.zeros(len(axes))
    for trial in range(len(axes)):
        product = lines[first, trial] * lines[second, trial].conj() * taper
        agreement[trial] = np.max((product @ waves).real, axis=1).mean() / scale
    return agreement


def _separate_maxima(trials: FloatArray, values: FloatArray) -> list[float]:
    """Return the best trials that lie well apart, modulo 180 degrees, the best first."""
    chosen: list[float] = []
    for index in np.argsort(-values, kind="stable"):
        apart = [abs((trials[index] - other + 90) % 180 - 90) for other in chosen]
        if min(apart, default=np.inf) >= _APART:
            chosen.append(float(trials[index]))
        if len(chosen) == _CANDIDATES:
            break
    return chosen


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


def _summit(at: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Return where the parabola about the highest value has its summit, and its width."""
    top = int(np.argmax(values))
    near = slice(max(0, top - 2), top + 3)
    bend, slope, _ = np.polyfit(at[near] - at[top], values[near], 2)
    if bend >= 0:
        return float(at[top]), float(at[1] - at[0])
    reach = at[1] - at[0]
    summit = at[top] + np.clip(-slope / (2 * bend), -reach, reach)
    return float(summit), float(1 / np.sqrt(-2 * bend))
