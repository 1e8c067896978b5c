"""The motion of a movie's frames by maximum marginal likelihood.

A frame's transform is ``F_i(k) = g_i O(k) exp(-2 pi i k.s_i) + noise``: one object O, displaced by
s_i, seen with the relative exposure g_i. Nothing is known of the object but that it is a Gaussian
field whose power P depends on the frequency's length; that of the noise is ``g_i N``. With the
object integrated out, the log-likelihood of the shifts is, but for a constant,

``L = sum_k W(k) |S(k)|^2``, ``S = sum_i F_i exp(2 pi i k.s_i)``, ``W = P / (N (N + P sum_i g_i))``:

the power of the aligned sum, weighted by how much of it is the specimen's on each ring. P and N
are measured on the movie itself, P from the cross-power of aligned frames, so that Thon rings, the
specimen's contrast and the dose set the weights. Shifts and powers are found in turn, by Fisher
scoring: the gradient of L against its expected curvature. No image is interpolated.

What the likelihood knows about the shifts is then weighed against a set of priors
(:mod:`tomodask.kernels.drift_prior`): no motion at all, random walks, smooth drifts, of a range of
sizes. Each has its evidence, and the estimate is the mean over all of them.

References
----------
.. [1] Knapp, C. and Carter, G., The generalized correlation method for estimation of time delay,
   IEEE Trans. Acoust. Speech Signal Process. 24 (1976) 320, doi:10.1109/TASSP.1976.1162830.
.. [2] Zivanov, J., Nakane, T. and Scheres, S., A Bayesian approach to beam-induced motion
   correction in cryo-EM single-particle analysis, IUCrJ 6 (2019) 5,
   doi:10.1107/S205225251801463X (smooth priors for trajectories).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import make_interp_spline

from tomodask.errors import ParameterError
from tomodask.kernels.drift_prior import prior_bytes
from tomodask.kernels.frame_spectra import FrameSpectra, band_sizes
from tomodask.kernels.local_motion import estimate_field
from tomodask.kernels.rigid_motion import estimate_shifts
from tomodask.kernels.ring_powers import LOWEST_RING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.motion_field import MotionField

    FloatArray = NDArray[np.float64]

__all__ = ["Motion", "estimate_bytes", "estimate_motion"]

#: Frequencies beyond this say little at the doses of a tilt series, 1/A.
_HIGHEST = 1 / 7
#: Log-odds of motion against none that an estimate needs: several searches had their chance.
_CLEAR = 8.0
#: Smaller patches hold nothing, pixels.
_LEAST_PATCH = 32


@dataclass(frozen=True, eq=False, slots=True)
class Motion:
    """How the frames of a movie moved.

    Parameters
    ----------
    shift
        (frame, 2) float64 (y, x) pixels of the frames: where a frame's content lies relative to
        the sum. Their mean is zero.
    score
        Log-likelihood gained over no motion, per frame, nats. Chance gives 1 or 2.
    residual
        Root mean square error expected of `shift` along one axis, pixels: the deviation of the
        posterior. Blank frames aside.
    supported
        Whether the movie supports an estimate better than no motion. Where it does not, `shift`
        is zero.
    error
        (frame, 2) error expected of each frame's shift, pixels; infinite of a blank frame.
    band
        (lowest, highest) frequency that was used, cycles per pixel.
    iterations
        Steps of Fisher scoring.
    field
        Local displacement on top of `shift`; None where not asked for or not supported.
    """

    shift: FloatArray
    score: float
    residual: float
    supported: bool
    error: FloatArray
    band: tuple[float, float]
    iterations: int
    field: MotionField | None = None


def estimate_motion(
    frames: Sequence[NDArray[np.generic]],
    *,
    pixel_size: float,
    patches: tuple[int, int] | None = None,
    max_shift: float = 150.0,
) -> Motion:
    """Estimate how the frames of a movie moved.

    Parameters
    ----------
    frames
        (frame, y, x), any real dtype: gain-corrected counts. Each is read once, in order. Frames
        without counts, of a shutter that was closed, are carried along with their neighbours.
    pixel_size
        A.
    patches
        (y, x) patches on which local motion is measured; None for the motion of whole frames.
    max_shift
        Largest displacement between a frame and the sum that is searched for, A.

    Raises
    ------
    DataError
        If a frame holds NaN or an infinity, or the frames differ in shape.
    ParameterError
        If there is no frame, a length is not positive, or there are too many patches.
    """
    count = len(frames)
    if count == 0:
        raise ParameterError("a movie without frames has no motion; give one frame at least")
    for name, value in (("pixel_size", pixel_size), ("max_shift", max_shift)):
        if not value > 0:
            raise ParameterError(f"{name} is {value}; give a positive number")
    shape = np.shape(frames[0])
    if patches is not None and not all(
        1 <= p <= n // _LEAST_PATCH for p, n in zip(patches, shape, strict=True)
    ):
        raise ParameterError(
            f"patches is {patches} for frames of {shape} pixels; give at least one along each "
            f"axis, and patches of {_LEAST_PATCH} pixels or more"
        )
    spectra = FrameSpectra.of_frames(frames, min(0.5, _HIGHEST * pixel_size))
    seen = np.flatnonzero(spectra.exposure > 0)
    if len(seen) < 2 or np.any(spectra.exposure < 0) or not spectra.real.any():
        return _unsupported(count)
    if len(seen) < count:
        spectra = spectra.of(seen)
    motion = _motion(spectra, max_shift / pixel_size, patches, (shape[0], shape[1]))
    return motion if len(seen) == count else _over_blanks(motion, seen, count)


def estimate_bytes(shape: tuple[int, int, int], *, pixel_size: float) -> int:
    """Return the most bytes that :func:`estimate_motion` needs beside the frames.

    Parameters
    ----------
    shape
        (frame, y, x).
    pixel_size
        A.
    """
    count, height, width = shape
    rows, columns = band_sizes((height, width), min(0.5, _HIGHEST * pixel_size))
    plane = rows * (columns // 2 + 1)
    # One transform at work; the kept spectra, 8 bytes a value, again in a narrower band, without
    # a pattern or in patches that overlap, and what the search makes of them; sums over frames.
    work = 8 * height * width + 8 * height * (columns // 2 + 1)
    return work + int(3.4 * 8 * count * plane) + 32 * plane + prior_bytes(count)


def _motion(
    spectra: FrameSpectra,
    max_shift: float,
    patches: tuple[int, int] | None,
    shape: tuple[int, int],
) -> Motion:
    best, spectra = estimate_shifts(spectra, max_shift)
    # The parabola may promise what lies beyond its reach: the gain is exact.
    supported = min(best.drift.odds, best.gain) > _CLEAR
    shift = best.drift.shift if supported else np.zeros((len(spectra), 2))
    return Motion(
        shift=shift,
        score=best.gain / len(spectra),
        residual=float(np.sqrt(np.mean(best.drift.error**2))),
        supported=supported,
        error=best.drift.error,
        band=(LOWEST_RING / max(spectra.shape), best.rings / max(spectra.shape)),
        iterations=best.iterations,
        field=None if patches is None else estimate_field(spectra, shift, patches, shape),
    )


def _over_blanks(motion: Motion, seen: NDArray[np.intp], count: int) -> Motion:
    """Return the motion of all frames from that of those which hold counts."""
    frames = np.arange(count, dtype=np.float64)
    # Nothing is known of a blank frame; it goes on as its neighbours do.
    shift = make_interp_spline(seen, motion.shift, k=1)(frames)
    error = np.full((count, 2), np.inf)
    error[seen] = motion.error
    field = motion.field
    if field is not None:
        field = field.resampled(np.interp(frames, seen, np.arange(len(seen))))
    return replace(motion, shift=shift - shift.mean(axis=0), error=error, field=field)


def _unsupported(count: int) -> Motion:
    return Motion(
        shift=np.zeros((count, 2)),
        score=0.0,
        residual=float("inf") if count > 1 else 0.0,
        supported=False,
        error=np.full((count, 2), np.inf if count > 1 else 0.0),
        band=(0.0, 0.0),
        iterations=0,
    )
