"""Movies of a specimen that moves while it is recorded, with exact truth.

The noise-free image is band-limited: the specimen's exact projection and the ice, averaged over
the area of a pixel, seen through the transfer function, without what lies beyond the Nyquist
frequency. So a frame is a Fourier shift of the image, exact at any fraction of a pixel, and a
local field is followed to 1e-3 of the contrast. Motion during a frame is not simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from tomodask.errors import ParameterError
from tomodask.geometry import centred_coordinates
from tomodask.simulate._displaced import displaced_image, spline_coefficients
from tomodask.simulate.detector import Detector
from tomodask.simulate.ice import relative_path
from tomodask.simulate.imaging import Imaging

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry import Projection
    from tomodask.simulate.motion import LocalMotion
    from tomodask.simulate.objects import Phantom

    FloatArray = NDArray[np.float64]

__all__ = ["SimulatedMovie", "simulate_movie"]

# First words of the seeds of the random streams.
_ICE, _COUNTS, _X_RAYS = range(3, 6)
# Around the field, beyond the reach of the transfer, the specimen fades out over this many pixels:
# an object cut by the edge would ring.
_FADE = 24
# An X-ray hits a pixel and some of its neighbours, with this many times the mean of a frame but
# not less than a few electrons' worth.
_HIT_RANGE = (15.0, 80.0)
_HIT_LEAST = 20.0


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedMovie:
    """A movie and the truth about it.

    Parameters
    ----------
    frames
        (frame, y, x) counts; y up. uint8, or the float32 expectation where counting noise is left
        out.
    pixel_size
        A.
    exposure
        Electrons of the whole movie on the specimen, e/A^2.
    image
        (y, x) float32: the expected electrons of the whole movie, had nothing moved and were the
        camera ideal.
    drift
        (frame, 2) float64 (y, x): where a frame's content lies relative to the sum, px.
    local
        What places do beyond the drift; None is nothing.
    detector
        The camera; counts times its gain are electrons.
    x_rays
        (pixel, 3) int64 (frame, y, x) indices of the pixels that X-rays have hit.
    """

    frames: NDArray[Any]
    pixel_size: float
    exposure: float
    image: NDArray[np.float32]
    drift: FloatArray
    local: LocalMotion | None
    detector: Detector
    x_rays: NDArray[np.int64]

    def displacement(self, frame: int, y: ArrayLike, x: ArrayLike) -> FloatArray:
        """Return where places of the sum lie in a frame, relative to the sum.

        Parameters
        ----------
        frame
            From 0.
        y, x
            Pixel indices in the sum, broadcast together.

        Returns
        -------
        (2, ...) float64 (y, x), px: drift and local motion.
        """
        shape = np.broadcast_shapes(np.shape(y), np.shape(x))
        total: FloatArray = np.zeros((2, *shape)) + self.drift[frame].reshape(
            -1, *(1,) * len(shape)
        )
        return total if self.local is None else total + self.local.displacement(frame, y, x)


def simulate_movie(
    phantom: Phantom,
    projection: Projection,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    frames: int = 8,
    imaging: Imaging | None = None,
    drift: ArrayLike | None = None,
    local: LocalMotion | None = None,
    detector: Detector | None = None,
    x_rays: int = 0,
    transmission: ArrayLike = 1.0,
    supersample: int = 2,
    seed: int = 0,
) -> SimulatedMovie:
    """Record a movie of one view of a specimen.

    Parameters
    ----------
    phantom
        The specimen.
    projection
        The true geometry of the view: a projection of length 1.
    shape
        (y, x) pixels of a frame.
    pixel_size
        A.
    frames
        How many; the exposure is the same for all.
    imaging
        Exposure, ice and transfer, of at most one view; the default is a plain count at 3 e/A^2.
    drift
        (frame, 2) (y, x) px, as `drift_path` returns it; its mean is taken off. None is no drift.
    local
        What places do beyond the drift.
    detector
        The camera; an ideal one when absent.
    x_rays
        Number of X-ray hits, each in one frame.
    transmission
        Part of the beam that arrives, a number or (y, x): 0 is a closed shutter. What casts the
        shadow does not move.
    supersample
        Sample points of a pixel along each axis, by which edges sharper than a pixel are kept from
        folding back.
    seed
        Equal seeds give equal movies.

    Returns
    -------
    Frames in counts, with the truth.

    Raises
    ------
    ParameterError
        If a value does not fit the view, the frames or their shape.
    """
    imaging = Imaging() if imaging is None else imaging
    path = _checked_drift(drift, frames)
    detector = Detector.ideal(shape) if detector is None else detector
    _check(projection, shape, frames, imaging, local, detector)

    reach = float(np.abs(path).max())
    if local is not None:
        reach += float(np.abs(local.growth).max() * np.abs(local.coefficients).sum())
    contrast = _Contrast.of(
        phantom,
        projection,
        shape,
        pixel_size=pixel_size,
        imaging=imaging,
        reach=reach,
        is_local=local is not None,
        supersample=supersample,
        seed=seed,
    )
    attenuation = imaging.ice_thickness * relative_path(projection)[0] / imaging.mean_free_path
    electrons = imaging.exposure * pixel_size**2 * np.exp(-attenuation)
    beam: NDArray[np.float32] = np.broadcast_to(
        np.asarray(electrons * np.asarray(transmission), np.float32), shape
    )

    movie = np.empty((frames, *shape), np.uint8 if imaging.counting_noise else np.float32)
    for frame in range(frames):
        seen = contrast.displaced(path[frame], None if local is None else local.monomials(frame))
        expected = detector.expected_counts(beam * np.maximum(1 + seen, 0) / np.float32(frames))
        if imaging.counting_noise:
            rng = np.random.default_rng([seed, _COUNTS, frame])
            movie[frame] = np.minimum(rng.poisson(expected), 255)
        else:
            movie[frame] = expected
    return SimulatedMovie(
        frames=movie,
        pixel_size=float(pixel_size),
        exposure=imaging.exposure,
        image=beam * np.maximum(1 + contrast.displaced(np.zeros(2)), 0),
        drift=path,
        local=local,
        detector=detector,
        x_rays=_add_x_rays(np.random.default_rng([seed, _X_RAYS]), movie, x_rays),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Contrast:
    """The noise-free contrast as a periodic band-limited image, wider than a frame.

    spectrum
        (y, x // 2 + 1) complex64 of `field` samples.
    origin
        (y, x) samples before a frame's first pixel.
    shape
        (y, x) pixels of a frame.
    spline
        Its coefficients, where a local field is to be followed.
    """

    spectrum: NDArray[np.complex64]
    field: tuple[int, int]
    origin: tuple[float, float]
    shape: tuple[int, int]
    spline: NDArray[np.float32] | None

    @classmethod
    def of(
        cls,
        phantom: Phantom,
        projection: Projection,
        shape: tuple[int, int],
        *,
        pixel_size: float,
        imaging: Imaging,
        reach: float,
        is_local: bool,
        supersample: int,
        seed: int,
    ) -> _Contrast:
        """Return the contrast of a view, right up to `reach` pixels around a frame."""
        ctf = imaging.ctf[0] if imaging.ctf else None
        spread = 0.0 if ctf is None else ctf.reach(pixel_size) / pixel_size
        margin = int(np.ceil(reach + spread)) + _FADE
        rows, columns = (fft.next_fast_len(n + 2 * margin, real=True) for n in shape)
        field = (rows, columns)
        frequency_y = fft.fftfreq(rows, pixel_size)[:, None]
        frequency_x = fft.rfftfreq(columns, pixel_size)[None, :]

        spectrum = _projected(phantom, projection, field, pixel_size, supersample)
        if imaging.ice_noise > 0:
            deviation = imaging.ice_noise * np.sqrt(relative_path(projection)[0])
            rng = np.random.default_rng([seed, _ICE])
            spectrum += _ice_spectrum(rng, field, imaging.ice_grain / pixel_size, deviation)
        # The mean over the area of a pixel.
        spectrum *= np.sinc(frequency_y * pixel_size).astype(np.float32)
        spectrum *= np.sinc(frequency_x * pixel_size).astype(np.float32)
        if ctf is not None:
            spectrum *= ctf.transfer(frequency_x, frequency_y).astype(np.float32)
        # A component at the Nyquist frequency itself cannot be shifted.
        if rows % 2 == 0:
            spectrum[rows // 2] = 0
        if columns % 2 == 0:
            spectrum[:, -1] = 0
        origin = ((rows - shape[0]) / 2, (columns - shape[1]) / 2)
        spline = spline_coefficients(spectrum, field) if is_local else None
        return cls(spectrum, field, origin, shape, spline)

    def displaced(self, drift: FloatArray, local: FloatArray | None = None) -> NDArray[np.float32]:
        """Return the (y, x) contrast of a frame."""
        if self.spline is None or local is None:
            moved = _shifted(self.spectrum, self.field, drift - np.asarray(self.origin))
            image = fft.irfft2(moved, s=self.field, overwrite_x=True, workers=1)
            frame: NDArray[np.float32] = image[: self.shape[0], : self.shape[1]]
            return frame
        out = np.empty(self.shape, np.float32)
        displaced_image(self.spline, self.origin, (drift[0], drift[1]), local, out)
        return out


def _projected(
    phantom: Phantom,
    projection: Projection,
    field: tuple[int, int],
    pixel_size: float,
    supersample: int,
) -> NDArray[np.complex64]:
    """Return the spectrum of the projection, free of what folds back below `supersample`.

    The projection is sampled on interlaced grids of one point per pixel; the sum of their spectra,
    each shifted back, is the spectrum of the fine grid within the coarse one's Nyquist frequency.
    """
    spectrum = np.zeros((field[0], field[1] // 2 + 1), np.complex64)
    fade = np.outer(*(_fade(n) for n in field)).astype(np.float32)
    offsets = centred_coordinates(supersample, 1 / supersample)
    for y in offsets:
        for x in offsets:
            moved = replace(projection, shift=projection.shift - np.array([x, y]) * pixel_size)
            points = phantom.project(moved, field, pixel_size=pixel_size, supersample=1)[0]
            spectrum += _shifted(fft.rfft2(points * fade, workers=1), field, np.array([y, x]))
    spectrum /= np.float32(supersample**2)
    return spectrum


def _fade(size: int) -> FloatArray:
    """Return the window that takes an axis smoothly to zero at both ends."""
    window = np.ones(size)
    edge = (1 - np.cos(np.pi * (np.arange(_FADE) + 0.5) / _FADE)) / 2
    window[:_FADE], window[-_FADE:] = edge, edge[::-1]
    return window


def _shifted(
    spectrum: NDArray[np.complex64], field: tuple[int, int], shift: FloatArray
) -> NDArray[np.complex64]:
    """Return the spectrum of the image moved by (y, x) samples."""
    phase_y = np.exp(-2j * np.pi * fft.fftfreq(field[0]) * shift[0]).astype(np.complex64)
    phase_x = np.exp(-2j * np.pi * fft.rfftfreq(field[1]) * shift[1]).astype(np.complex64)
    moved: NDArray[np.complex64] = spectrum * phase_y[:, None]
    moved *= phase_x[None, :]
    return moved


def _ice_spectrum(
    rng: np.random.Generator, field: tuple[int, int], grain: float, deviation: float
) -> NDArray[np.complex64]:
    """Return the spectrum of ice of a Gaussian grain, samples, and a standard deviation."""
    white = rng.standard_normal(field, dtype=np.float32)
    spectrum: NDArray[np.complex64] = fft.rfft2(white, overwrite_x=True, workers=1)
    squares = []
    for axis, frequency in ((0, fft.fftfreq(field[0])), (1, fft.rfftfreq(field[1]))):
        smooth = np.exp(-2 * (np.pi * grain * frequency) ** 2)
        whole = np.exp(-2 * (np.pi * grain * fft.fftfreq(field[axis])) ** 2)
        squares.append((whole**2).mean())
        spectrum *= np.expand_dims(smooth.astype(np.float32), 1 - axis)
    spectrum *= np.float32(deviation / np.sqrt(np.prod(squares)))
    return spectrum


def _add_x_rays(rng: np.random.Generator, movie: NDArray[Any], number: int) -> NDArray[np.int64]:
    """Let X-rays hit a movie, in place; return the (pixel, 3) places."""
    rows, columns = movie.shape[1:]
    brightness = max(float(movie.mean()), _HIT_LEAST / _HIT_RANGE[0])
    places = []
    for _ in range(number):
        frame, y, x = (int(rng.integers(n)) for n in movie.shape)
        spread = [(0, 0), *((dy, dx) for dy, dx in ((0, 1), (1, 0), (1, 1)) if rng.random() < 0.4)]
        for dy, dx in spread:
            if y + dy < rows and x + dx < columns:
                value = brightness * rng.uniform(*_HIT_RANGE)
                movie[frame, y + dy, x + dx] = min(value, 255)
                places.append((frame, y + dy, x + dx))
    return np.array(sorted(set(places)), np.int64).reshape(-1, 3)


def _checked_drift(drift: ArrayLike | None, frames: int) -> FloatArray:
    if frames < 1:
        raise ParameterError(f"a movie of {frames} frames: give at least one")
    path = np.zeros((frames, 2)) if drift is None else np.asarray(drift, np.float64)
    if path.shape != (frames, 2) or not np.isfinite(path).all():
        raise ParameterError(
            f"drift has shape {path.shape}; {frames} frames need finite numbers of ({frames}, 2)"
        )
    centred: FloatArray = path - path.mean(axis=0)
    return centred


def _check(
    projection: Projection,
    shape: tuple[int, int],
    frames: int,
    imaging: Imaging,
    local: LocalMotion | None,
    detector: Detector,
) -> None:
    if len(projection) != 1:
        raise ParameterError(f"a movie is of one view, the projection has {len(projection)}")
    if len(imaging.ctf) > 1:
        raise ParameterError(f"a movie is of one view, ctf has {len(imaging.ctf)}")
    if imaging.hot_pixels or imaging.dark_views:
        raise ParameterError(
            "hot_pixels and dark_views are of tilt series of images; a movie has its detector's "
            "hot pixels, x_rays and transmission"
        )
    if imaging.handedness is not None or np.any(np.asarray(imaging.ice_signal) > 0):
        raise ParameterError(
            "handedness and ice_signal are of tilt series of images; a movie shows a view through "
            "one transfer, and has ice_noise"
        )
    if local is not None and (local.shape != shape or len(local.growth) != frames):
        raise ParameterError(
            f"the local motion is of {len(local.growth)} frames of {local.shape}, the movie of "
            f"{frames} of {shape}"
        )
    if detector.gain.shape != shape:
        raise ParameterError(f"the detector has {detector.gain.shape} pixels, frames have {shape}")
