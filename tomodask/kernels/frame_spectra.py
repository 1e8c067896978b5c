"""The Fourier transforms of a movie's frames, cropped to the band that can hold signal.

Each frame is transformed once. Before, its isolated hot pixels are replaced, for they stand at one
place of the camera and pull every correlation to no shift at all, and its edges are tapered to its
mean. The transform along y is done only for the columns that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.fft

from tomodask.errors import DataError
from tomodask.kernels._jit import njit
from tomodask.kernels.resample import edge_taper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["FrameSpectra", "band_sizes"]

#: A pixel is hot when it exceeds the frame's median, and the median of four pixels around it, by
#: this many standard deviations of the noise.
_HOT_PIXEL = 8.0
#: Those four pixels are this far away, so that clusters are found too.
_HOT_REACH = 3
#: The taper at the edges is this fraction of the edge wide.
_TAPER = 32
#: Statistics of a frame are taken on every so many columns, and half as many rows.
_SPARSE = 4


@dataclass(frozen=True, eq=False, slots=True)
class FrameSpectra:
    """Half spectra of frames, cropped in Fourier space.

    Build it with :meth:`of_frames`.

    Parameters
    ----------
    real, imaginary
        (frame, ky, kx) float32. Apart, because loops over them then vectorise.
    shape
        (y, x) pixels that were transformed: a frame's own, less a few at the edges, or those of a
        patch, which need not be whole numbers.
    cropped
        (y, x) size of the image that the cropped half spectra stand for.
    fy, fx
        (ky,) and (kx,) frequencies, cycles per pixel, float32.
    ring
        (ky, kx) int32: the ring of each frequency, one Fourier pixel of the longer edge wide.
    weight
        (kx,) float32: how many independent frequencies one stands for: a little less than 1, since
        the taper ties neighbours together, and half of that in the column of kx = 0, where each
        occurs twice.
    exposure
        (frame,) mean counts of the frames, relative to their mean; zeros where that is none.
    members
        (ring,) number of independent frequencies on each ring; not given but counted.
    """

    real: NDArray[np.float32]
    imaginary: NDArray[np.float32]
    shape: tuple[float, float]
    cropped: tuple[int, int]
    fy: NDArray[np.float32]
    fx: NDArray[np.float32]
    ring: NDArray[np.int32]
    weight: NDArray[np.float32]
    exposure: FloatArray
    members: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        members = self.ring_sums(np.ones(self.ring.shape, np.float32))
        object.__setattr__(self, "members", members)

    @classmethod
    def of_frames(cls, frames: Sequence[NDArray[np.generic]], highest: float) -> Self:
        """Transform frames, and keep the frequencies up to `highest` cycles per pixel.

        Raises
        ------
        DataError
            If a frame holds NaN or an infinity, or the frames differ in shape.
        """
        raw = np.shape(frames[0])
        shape = tuple(int(scipy.fft.prev_fast_len(n, real=True)) for n in raw)
        cropped = band_sizes((shape[0], shape[1]), highest)
        columns = cropped[1] // 2 + 1
        upper = (cropped[0] + 1) // 2
        lower = cropped[0] - upper
        real = np.empty((len(frames), cropped[0], columns), np.float32)
        imaginary = np.empty_like(real)
        exposure = np.empty(len(frames))
        work = np.empty(shape, np.float32)
        rise_y, rise_x = (edge_taper(n, max(1, n // _TAPER)) for n in shape)
        top, left = ((n - m) // 2 for n, m in zip(raw, shape, strict=True))
        for i in range(len(frames)):
            frame = np.asarray(frames[i])
            if frame.shape != raw:
                raise DataError(
                    f"frame {i} has shape {frame.shape} and frame 0 has {raw}; frames of one movie "
                    f"must agree"
                )
            frame = frame[top : top + shape[0], left : left + shape[1]]
            level, mean, noise = _statistics(frame)
            exposure[i] = mean
            excess = _HOT_PIXEL * noise
            _prepare(frame, level + excess, excess, mean, rise_y, rise_x, work)
            rows = scipy.fft.rfft(work, axis=1, workers=1)[:, :columns]
            spectrum = scipy.fft.fft(rows, axis=0, workers=1, overwrite_x=True)
            if not np.isfinite(spectrum[0, 0]):
                raise DataError(f"frame {i} holds NaN or infinite values; repair or exclude it")
            real[i, :upper] = spectrum[:upper].real
            real[i, upper:] = spectrum[shape[0] - lower :].real
            imaginary[i, :upper] = spectrum[:upper].imag
            imaginary[i, upper:] = spectrum[shape[0] - lower :].imag
        average = exposure.mean()
        fy = scipy.fft.fftfreq(cropped[0], shape[0] / cropped[0]).astype(np.float32)
        fx = (np.arange(columns) / shape[1]).astype(np.float32)
        independent = np.prod([np.mean(w**2) ** 2 / np.mean(w**4) for w in (rise_y, rise_x)])
        weight = np.full(columns, independent, np.float32)
        weight[0] /= 2
        return cls(
            real=real,
            imaginary=imaginary,
            shape=(shape[0], shape[1]),
            cropped=cropped,
            fy=fy,
            fx=fx,
            ring=np.rint(np.hypot(fy[:, None], fx) * max(shape)).astype(np.int32),
            weight=weight,
            exposure=exposure / average if average > 0 else np.zeros(len(frames)),
        )

    def __len__(self) -> int:
        return len(self.real)

    @property
    def rings(self) -> int:
        """Number of rings."""
        # The corner is the farthest, and half an even size the highest frequency along y.
        return int(self.ring[self.cropped[0] // 2, -1]) + 1

    @property
    def ring_frequency(self) -> FloatArray:
        """(ring,) frequency of the rings, cycles per pixel."""
        return np.arange(self.rings) / max(self.shape)

    def ring_sums(self, values: NDArray[np.float32]) -> FloatArray:
        """Return the (ring,) sums over independent frequencies of (ky, kx) values."""
        sums = np.zeros(self.rings)
        _ring_sums(self.ring, values, self.weight, sums)
        return sums

    def phases(self, shift: FloatArray) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Return the (frame, ky) and (frame, kx) factors that take (frame, 2) shifts back."""
        y = np.exp(2j * np.pi * shift[:, :1] * self.fy)
        x = np.exp(2j * np.pi * shift[:, 1:] * self.fx)
        return y.astype(np.complex64), x.astype(np.complex64)

    def of(self, frames: NDArray[np.intp]) -> FrameSpectra:
        """Return copies of the (frame,) frames with these indices."""
        exposure = self.exposure[frames]
        return replace(
            self,
            real=self.real[frames],
            imaginary=self.imaginary[frames],
            exposure=exposure / exposure.mean(),
        )

    def within(self, highest: float) -> FrameSpectra:
        """Return copies that end at `highest` cycles per pixel."""
        cropped = band_sizes(self.shape, highest)
        if cropped[0] >= self.cropped[0] and cropped[1] >= self.cropped[1]:
            return self
        columns = cropped[1] // 2 + 1
        upper = (cropped[0] + 1) // 2
        rows = np.r_[0:upper, self.cropped[0] - (cropped[0] - upper) : self.cropped[0]]
        return FrameSpectra(
            real=self.real[:, rows, :columns],
            imaginary=self.imaginary[:, rows, :columns],
            shape=self.shape,
            cropped=cropped,
            fy=self.fy[rows],
            fx=self.fx[:columns],
            ring=self.ring[rows, :columns],
            weight=self.weight[:columns],
            exposure=self.exposure,
        )


def band_sizes(shape: tuple[float, float], highest: float) -> tuple[int, int]:
    """Return the (y, x) sizes of an image that holds frequencies up to `highest`."""
    sizes = (
        min(int(n), int(scipy.fft.next_fast_len(int(np.ceil(2 * highest * n)), real=True)))
        for n in shape
    )
    height, width = sizes
    return height, width


def _statistics(frame: NDArray[np.generic]) -> tuple[float, float, float]:
    """Return a frame's median, its mean and its noise, from a few of its pixels."""
    some = np.asarray(frame[:: 2 * _SPARSE], np.float32)
    # Differences of neighbours measure the noise, whatever the specimen's contrast. A median of
    # counts below one would be zero: hence the mean, on values that hot pixels cannot dominate.
    step = np.abs(np.diff(some, axis=1))[:, ::_SPARSE]
    some = some[:, ::_SPARSE]
    level = float(np.median(some))
    limit = np.quantile(step, 0.999) if step.size else 0.0
    noise = float(np.sqrt(np.mean(np.minimum(step, limit) ** 2) / 2)) if step.size else 0.0
    cap = level + _HOT_PIXEL * noise
    mean = float(np.minimum(some, cap).mean()) if noise > 0 else float(some.mean())
    return level, mean, noise


@njit
def _prepare(
    frame: NDArray[np.generic],
    bright: float,
    excess: float,
    mean: float,
    rise_y: NDArray[np.float32],
    rise_x: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write a frame without hot pixels and mean, tapered."""
    rows, columns = frame.shape
    limit = np.float32(bright)
    level = np.float32(mean)
    for y in range(rows):
        most = np.float32(0)
        for x in range(columns):
            value = np.float32(frame[y, x])
            most = max(most, value)
            out[y, x] = (value - level) * (rise_y[y] * rise_x[x])
        if most > limit:
            for x in range(columns):
                value = np.float32(frame[y, x])
                if value > limit:
                    a = np.float32(frame[_mirror(y - _HOT_REACH, rows), x])
                    b = np.float32(frame[_mirror(y + _HOT_REACH, rows), x])
                    c = np.float32(frame[y, _mirror(x - _HOT_REACH, columns)])
                    d = np.float32(frame[y, _mirror(x + _HOT_REACH, columns)])
                    lowest, highest = min(a, b, c, d), max(a, b, c, d)
                    around = (a + b + c + d - lowest - highest) / np.float32(2)
                    # An infinity is an error, not a hot pixel.
                    if around + excess < value < np.inf:
                        out[y, x] = (around - level) * (rise_y[y] * rise_x[x])


@njit
def _mirror(index: int, size: int) -> int:
    if index < 0:
        index = -index
    if index >= size:
        index = 2 * size - 2 - index
    return min(max(index, 0), size - 1)


@njit
def _ring_sums(
    ring: NDArray[np.int32],
    values: NDArray[np.float32],
    weight: NDArray[np.float32],
    out: FloatArray,
) -> None:
    rows, columns = values.shape
    for y in range(rows):
        for x in range(columns):
            out[ring[y, x]] += values[y, x] * weight[x]
