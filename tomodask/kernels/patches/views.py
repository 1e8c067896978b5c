"""The views of a series as they look in the frame of the tilt axis."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.fft

from tomodask.errors import DataError
from tomodask.kernels.correlate import without_hot_pixels
from tomodask.kernels.resample import SplineImage, resample, spline_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["Frame", "Geometry", "Views", "turn"]

#: Pixels of the frame are not smaller, A: views of a few e/A^2 hold nothing finer that correlates.
_FINEST = 24.0
#: The taper at the images' edges is this fraction of the shorter edge wide.
_TAPER = 12


def turn(angle: float) -> FloatArray:
    """Return the (2, 2) rotation by an angle in radians, counter-clockwise."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@dataclass(frozen=True, eq=False, slots=True)
class Geometry:
    """Where the specimen lies in each view: ``raw = R(rotation) (u, v) + shift``.

    Parameters
    ----------
    tilt, rotation
        (tilt,) radians.
    shift
        (tilt, 2) raw (x, y) of the specimen's origin, A.
    """

    tilt: FloatArray
    rotation: FloatArray
    shift: FloatArray

    def moved(self, views: NDArray[np.int64], step: FloatArray, turned: FloatArray) -> Self:
        """Return it with some views displaced by (view, 2) A along u and v, and turned."""
        rotation, shift = self.rotation.copy(), self.shift.copy()
        for view, along, angle in zip(views, step, turned, strict=True):
            shift[view] += turn(rotation[view]) @ along
            rotation[view] += angle
        return replace(self, rotation=rotation, shift=shift)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """The pixels (u, v) of the aligned views, and their frequencies.

    Parameters
    ----------
    shape
        (u, v) pixels; v lies along the tilt axis.
    pixel_size
        A.
    """

    shape: tuple[int, int]
    pixel_size: float

    @classmethod
    def create(cls, raw_shape: tuple[int, int], raw_pixel: float, axis: float, edge: int) -> Self:
        """Return the frame that holds images turned by `axis` radians, binned to `edge`."""
        pixel = max(raw_pixel, max(raw_shape) * raw_pixel / edge, _FINEST)
        cos, sin = abs(np.cos(axis)), abs(np.sin(axis))
        extent = (
            (cos * raw_shape[1] + sin * raw_shape[0]) * raw_pixel,
            (sin * raw_shape[1] + cos * raw_shape[0]) * raw_pixel,
        )
        u, v = (2 * int(scipy.fft.next_fast_len(int(e / pixel / 2) + 1)) for e in extent)
        return cls((u, v), float(pixel))

    @property
    def longest(self) -> int:
        """The longer edge, pixels: the unit of :attr:`ring`."""
        return max(self.shape)

    @property
    def u(self) -> FloatArray:
        """(u,) pixels from the centre."""
        at: FloatArray = np.arange(self.shape[0], dtype=np.float64) - (self.shape[0] - 1) / 2
        return at

    @property
    def v(self) -> FloatArray:
        """(v,) pixels from the centre."""
        at: FloatArray = np.arange(self.shape[1], dtype=np.float64) - (self.shape[1] - 1) / 2
        return at

    @property
    def fu(self) -> NDArray[np.float32]:
        """(u, 1) cycles per pixel."""
        return np.asarray(scipy.fft.fftfreq(self.shape[0]), np.float32)[:, None]

    @property
    def fv(self) -> NDArray[np.float32]:
        """(1, v) cycles per pixel of the half spectrum."""
        return np.asarray(scipy.fft.rfftfreq(self.shape[1]), np.float32)[None, :]

    @property
    def ring(self) -> NDArray[np.int64]:
        """(u, v) int64 ring of each frequency of the half spectrum."""
        ring: NDArray[np.int64] = np.rint(np.hypot(self.fu, self.fv) * self.longest).astype(
            np.int64
        )
        return ring

    def spectra(self, images: Images) -> NDArray[np.complex64]:
        """Return the half spectra of (..., u, v) images."""
        result: NDArray[np.complex64] = scipy.fft.rfft2(images, axes=(-2, -1), workers=1)
        return result

    def images(self, spectra: NDArray[np.complex64]) -> Images:
        """Return the images of (..., u, v) half spectra."""
        result: Images = scipy.fft.irfft2(spectra, s=self.shape, axes=(-2, -1), workers=1)
        return result


@dataclass(eq=False, slots=True)
class Views:
    """The included views of a series, cleaned, in units of their contrast.

    Parameters
    ----------
    shape, pixel_size
        (y, x) of the raw images, and their pixel size, A.
    contrast
        view: (y, x) float32, the image over its median, less one.
    """

    shape: tuple[int, int]
    pixel_size: float
    contrast: dict[int, Images]
    _splines: dict[tuple[int, float], SplineImage] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        read: Callable[[int], NDArray[np.generic]],
        views: Sequence[int],
        shape: tuple[int, int],
        pixel_size: float,
        longest: int,
    ) -> Self:
        """Read views once each, and keep them binned to at most `longest` pixels.

        Raises
        ------
        DataError
            If an image has another shape, is constant, or holds values that are not finite.
        """
        binning = max(1, max(shape) // longest)
        binned = (shape[0] // binning, shape[1] // binning)
        contrast = {}
        for view in views:
            image = np.asarray(read(view))
            if image.shape != shape:
                raise DataError(f"view {view} has {image.shape} (y, x) pixels instead of {shape}")
            if not np.isfinite(image).all():
                raise DataError(f"view {view} holds values that are not finite; exclude it")
            clean = without_hot_pixels(image)
            # The middle of the image stays the middle: what does not fill a block is cut evenly.
            top, left = ((n - m * binning) // 2 for n, m in zip(shape, binned, strict=True))
            part = clean[top : top + binned[0] * binning, left : left + binned[1] * binning]
            part = part.reshape(binned[0], binning, binned[1], binning).mean(axis=(1, 3))
            level = float(np.median(part))
            if np.ptp(part) == 0 or level <= 0:
                level = float(np.abs(part).mean()) or 1.0
            contrast[view] = (part / np.float32(level) - np.float32(1)).astype(np.float32)
        return cls(binned, pixel_size * binning, contrast)

    def sampled(
        self, view: int, frame: Frame, geometry: Geometry, onto: float | None = None
    ) -> Images:
        """Return a view in the frame, (u, v) float32, zero outside of it.

        With `onto`, a tilt in radians, it is stretched across the tilt axis to that tilt.
        """
        key = (view, frame.pixel_size)
        if key not in self._splines:
            self._splines[key] = spline_image(
                self.contrast[view],
                binning=max(1.0, frame.pixel_size / self.pixel_size),
                taper=max(4, min(self.shape) // _TAPER),
            )
        matrix = turn(geometry.rotation[view])
        if onto is not None:
            matrix = matrix @ np.diag([np.cos(geometry.tilt[view]) / np.cos(onto), 1.0])
        step = matrix * (frame.pixel_size / self.pixel_size)
        centre = (np.array(self.shape[::-1]) - 1) / 2
        first = geometry.shift[view] / self.pixel_size + centre
        first = first - step @ ((np.array(frame.shape) - 1) / 2)
        out = np.empty((1, *frame.shape), np.float32)
        resample(
            self._splines[key],
            first=(first[1], first[0]),
            step=(step[1, 0], step[0, 0]),
            lane_step=(step[1, 1], step[0, 1]),
            out=out,
        )
        image: Images = out[0]
        return image

    def weight(self, view: int, frame: Frame, geometry: Geometry, reach: float) -> Images:
        """Return (u, v) how much of each beam counts, from 0 to 1.

        What is near an image's edge does not, nor do beams that leave the volume through its
        sides, farther than `reach` A from the tilt axis.
        """
        pixel = frame.pixel_size
        matrix = turn(geometry.rotation[view])
        u, v = frame.u[:, None] * pixel, frame.v[None, :] * pixel
        taper = min(self.shape) * self.pixel_size / _TAPER
        inside = np.full(frame.shape, np.inf)
        for axis, size in enumerate(self.shape[::-1]):
            at = matrix[axis, 0] * u + matrix[axis, 1] * v + geometry.shift[view, axis]
            inside = np.minimum(inside, (size - 1) / 2 * self.pixel_size - np.abs(at))
        inside = np.minimum(inside, reach - np.abs(u) + taper / 2) / taper
        weight: Images = (0.5 - 0.5 * np.cos(np.pi * np.clip(inside, 0, 1))).astype(np.float32)
        return weight
